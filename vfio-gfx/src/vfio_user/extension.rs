//! The display extension: `QUERY_GFX_PLANE` and `GET_GFX_DMABUF` as messages.
//!
//! Each mirrors its ioctl, and says what the ioctl cannot: where in the region or buffer the plane starts, and whether
//! a descriptor is a dma-buf. The book's chapter "The display extension" is the specification.

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

const _: () = {
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
