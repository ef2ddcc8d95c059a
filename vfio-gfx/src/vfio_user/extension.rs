//! The display extension: `QUERY_GFX_PLANE` and `GET_GFX_DMABUF` as messages, and `PACE_FLIPS`.
//!
//! The first two mirror their ioctls, and say what these cannot: where in the region or buffer the plane starts, and whether
//! a descriptor is a dma-buf. The third has flips wait for a console. The book's chapter "The display extension" is the specification.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::PlaneInfo;
use crate::memory::BufferKind;

/// The reply to `QUERY_GFX_PLANE`, 72 bytes. The request is the [`PlaneInfo`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PlaneReply {
    /// The struct as the ioctl would return it.
    pub info: PlaneInfo,
    /// Bytes from the start of the region or buffer to the first pixel; 0 on a probe and for a plane that is off.
    pub offset: u64,
}

/// The request of `GET_GFX_DMABUF`, 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BufferRequest {
    /// The id from a query.
    pub dmabuf_id: u32,
    /// Zero.
    pub reserved: u32,
}

/// The reply to `GET_GFX_DMABUF`, 24 bytes, with one descriptor beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BufferReply {
    /// The id asked for.
    pub dmabuf_id: u32,
    /// What the descriptor is: 1 a dma-buf, 2 a memfd.
    pub kind: u32,
    /// Bytes from the start of the descriptor to the first pixel.
    pub offset: u64,
    /// Bytes of the descriptor that may be mapped.
    pub size: u64,
}

/// The request of `PACE_FLIPS`, 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PaceRequest {
    /// One of the `PACE_` constants.
    pub operation: u32,
    /// Zero.
    pub reserved: u32,
    /// With [`PACE_TAKEN`], the number of the flip; else zero.
    pub flip: u64,
}

/// Tells how flips stand, and nothing else.
pub const PACE_LOOK: u32 = 0;
/// Flips wait for this client from now on.
pub const PACE_JOIN: u32 = 1;
/// This client has taken the frame of a flip.
pub const PACE_TAKEN: u32 = 2;
/// Flips wait for this client no more.
pub const PACE_LEAVE: u32 = 3;

/// The reply to `PACE_FLIPS`, 24 bytes: how flips stand, after what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PaceReply {
    /// The number of the last flip that was asked for, from 1; 0 before the first.
    pub requested: u64,
    /// The number of the last that is over.
    pub completed: u64,
    /// 1 up, 2 down, 3 degraded.
    pub link: u32,
    /// Bit 0: flips wait for this client. Bit 1: it is late, so that they do not until it has taken the newest frame.
    pub flags: u32,
}

/// [`PaceReply::flags`], bit 0.
pub const PACE_FLAG_JOINED: u32 = 1;
/// [`PaceReply::flags`], bit 1.
pub const PACE_FLAG_LATE: u32 = 2;

const _: () = {
    assert!(size_of::<PaceRequest>() == 16);
    assert!(size_of::<PaceReply>() == 24);
    assert!(size_of::<PlaneReply>() == 72);
    assert!(size_of::<BufferRequest>() == 8);
    assert!(size_of::<BufferReply>() == 24);
};

/// The number of a buffer kind in [`BufferReply::kind`].
#[must_use]
pub const fn kind_to_raw(kind: BufferKind) -> u32 {
    match kind {
        BufferKind::Dmabuf => 1,
        BufferKind::Memfd => 2,
    }
}

/// The buffer kind with this number, if there is one.
#[must_use]
pub const fn kind_from_raw(raw: u32) -> Option<BufferKind> {
    match raw {
        1 => Some(BufferKind::Dmabuf),
        2 => Some(BufferKind::Memfd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of the book's chapter.
    #[test]
    fn kinds_of_buffers_have_their_numbers() {
        for (number, kind) in [(1, BufferKind::Dmabuf), (2, BufferKind::Memfd)] {
            assert_eq!((kind_to_raw(kind), kind_from_raw(number)), (number, Some(kind)));
        }
        assert_eq!([0, 3].map(kind_from_raw), [None; 2]);
    }
}
