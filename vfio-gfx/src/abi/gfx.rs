//! `VFIO_DEVICE_QUERY_GFX_PLANE`, `VFIO_DEVICE_GET_GFX_DMABUF` and the EDID region's registers.

use bitflags::bitflags;
use core::mem::offset_of;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Errno;

/// `struct vfio_device_gfx_plane_info`, 64 bytes.
///
/// All-zero is the right start of every query (drivers may leave a disabled plane's fields as they found them),
/// so build one with [`PlaneRequest::to_raw`] or `FromZeros::new_zeroed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct PlaneInfo {
    /// Size of this struct as the caller knows it, in bytes; at least [`PLANE_INFO_MIN`].
    pub argsz: u32,
    /// [`GfxFlags`].
    pub flags: u32,
    /// In: which plane ([`PlaneKind`]).
    pub drm_plane_type: u32,
    /// Out: DRM fourcc; 0 = the plane is off.
    pub drm_format: u32,
    /// Out: DRM format modifier.
    pub drm_format_mod: u64,
    /// Out: width in pixels; 0 = the plane is off.
    pub width: u32,
    /// Out: height in pixels; 0 = the plane is off.
    pub height: u32,
    /// Out: bytes from one row to the next.
    pub stride: u32,
    /// Out: size of the plane in bytes, a multiple of the page size; 0 = the plane is off.
    pub size: u32,
    /// Out: horizontal position of a cursor plane, in pixels; two's complement where it is left of the screen.
    pub x_pos: u32,
    /// Out: vertical position of a cursor plane.
    pub y_pos: u32,
    /// Out: horizontal hotspot of a cursor plane, or [`HOTSPOT_NONE`].
    pub x_hot: u32,
    /// Out: vertical hotspot of a cursor plane, or [`HOTSPOT_NONE`].
    pub y_hot: u32,
    /// Out: `region_index` or `dmabuf_id`, by the interface that was asked.
    pub handle: u32,
    /// Never read and never written: younger headers only.
    pub reserved: u32,
}

/// The smallest `argsz` of a plane query: through `region_index`/`dmabuf_id`. Headers before the `reserved` field
/// end there too (60 bytes on 32-bit x86), so this, and not the size of the struct, is the limit.
pub const PLANE_INFO_MIN: u32 = 60;

const _: () = assert!(offset_of!(PlaneInfo, reserved) == 60);

/// "No hotspot" in `x_hot` and `y_hot` (vfio.h).
pub const HOTSPOT_NONE: u32 = u32::MAX;

bitflags! {
    /// `VFIO_GFX_PLANE_TYPE_*`: the flag word of a plane query.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GfxFlags: u32 {
        /// Only ask whether the interface named beside it is offered.
        const PROBE = 1;
        /// The plane as a dma-buf.
        const DMABUF = 2;
        /// The plane as a mappable region.
        const REGION = 4;
    }
}

/// How a plane's pixels are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Interface {
    /// As a region of the device (`VFIO_GFX_PLANE_TYPE_REGION`).
    Region,
    /// As a dma-buf file descriptor (`VFIO_GFX_PLANE_TYPE_DMABUF`).
    Dmabuf,
}

impl Interface {
    /// Its flag in a query.
    #[must_use]
    pub const fn flag(self) -> GfxFlags {
        match self {
            Self::Region => GfxFlags::REGION,
            Self::Dmabuf => GfxFlags::DMABUF,
        }
    }

    /// `region` or `dmabuf`, as on the command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Region => "region",
            Self::Dmabuf => "dmabuf",
        }
    }
}

/// Which plane, as DRM numbers them (`DRM_PLANE_TYPE_*`, `drm_mode.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaneKind {
    /// Shown over the primary plane.
    Overlay,
    /// The screen.
    Primary,
    /// The pointer.
    Cursor,
}

impl PlaneKind {
    /// Every kind, bottom to top as they are composed.
    pub const ALL: [Self; 3] = [Self::Primary, Self::Overlay, Self::Cursor];

    /// The number in `drm_plane_type`.
    #[must_use]
    pub const fn raw(self) -> u32 {
        match self {
            Self::Overlay => 0,
            Self::Primary => 1,
            Self::Cursor => 2,
        }
    }

    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            0 => Some(Self::Overlay),
            1 => Some(Self::Primary),
            2 => Some(Self::Cursor),
            _ => None,
        }
    }

    /// `overlay`, `primary` or `cursor`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Primary => "primary",
            Self::Cursor => "cursor",
        }
    }
}

/// A well-formed plane query: what the flag word of [`PlaneInfo`] may say, and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaneRequest {
    /// Is this interface offered? The plane type is not looked at.
    Probe(Interface),
    /// What does this plane show? The type is the caller's number, known or not.
    Query(Interface, u32),
}

/// Why a [`PlaneInfo`] is not a request. Always `EINVAL` to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// `argsz` is smaller than the fields of the oldest header.
    #[error("plane query: argsz is {found}, the struct needs at least {PLANE_INFO_MIN}")]
    ArgSize {
        /// The caller's `argsz`.
        found: u32,
    },
    /// The flag word is none of PROBE|DMABUF, PROBE|REGION, DMABUF, REGION.
    #[error(
        "plane query: flags {found:#x} are none of PROBE|DMABUF (0x3), PROBE|REGION (0x5), DMABUF (0x2), REGION (0x4)"
    )]
    Flags {
        /// The caller's flags.
        found: u32,
    },
}

impl From<RequestError> for Errno {
    fn from(_: RequestError) -> Self {
        Self::EINVAL
    }
}

impl PlaneRequest {
    /// Reads a request out of the caller's struct.
    ///
    /// # Errors
    /// [`RequestError`] when `argsz` is too small or the flags are not one of the four defined combinations
    /// ("Others are invalid and return -EINVAL", vfio.h).
    pub const fn parse(raw: &PlaneInfo) -> Result<Self, RequestError> {
        if raw.argsz < PLANE_INFO_MIN {
            return Err(RequestError::ArgSize { found: raw.argsz });
        }
        match raw.flags {
            2 => Ok(Self::Query(Interface::Dmabuf, raw.drm_plane_type)),
            3 => Ok(Self::Probe(Interface::Dmabuf)),
            4 => Ok(Self::Query(Interface::Region, raw.drm_plane_type)),
            5 => Ok(Self::Probe(Interface::Region)),
            found => Err(RequestError::Flags { found }),
        }
    }

    /// The struct to send: everything zero but `argsz`, the flags and the plane type.
    #[must_use]
    pub fn to_raw(self) -> PlaneInfo {
        let mut raw: PlaneInfo = zerocopy::FromZeros::new_zeroed();
        raw.argsz = 64;
        (raw.flags, raw.drm_plane_type) = match self {
            Self::Probe(interface) => ((GfxFlags::PROBE | interface.flag()).bits(), 0),
            Self::Query(interface, kind) => (interface.flag().bits(), kind),
        };
        raw
    }
}

/// `struct vfio_region_gfx_edid`: the registers at the start of an EDID region, 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EdidRegisters {
    /// Read-only: where in the region the blob is.
    pub edid_offset: u32,
    /// Read-only: how large the blob may be, in bytes.
    pub edid_max_size: u32,
    /// How large the blob is, in bytes.
    pub edid_size: u32,
    /// Read-only: largest width in pixels, 0 = no limit.
    pub max_xres: u32,
    /// Read-only: largest height in pixels, 0 = no limit.
    pub max_yres: u32,
    /// [`LinkState`].
    pub link_state: u32,
}

/// Whether a monitor is plugged in (`VFIO_DEVICE_GFX_LINK_STATE_*`). The uapi defines no value 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// A monitor is connected and the blob describes it.
    Up,
    /// No monitor.
    Down,
}

impl LinkState {
    /// The number in `link_state`.
    #[must_use]
    pub const fn raw(self) -> u32 {
        match self {
            Self::Up => 1,
            Self::Down => 2,
        }
    }

    /// The state with this number, if there is one.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            1 => Some(Self::Up),
            2 => Some(Self::Down),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_four_flag_words_are_requests() {
        for flags in (0..64).chain([u32::MAX, 0x8000_0004]) {
            let mut raw = PlaneRequest::Probe(Interface::Region).to_raw();
            raw.flags = flags;
            assert_eq!(PlaneRequest::parse(&raw).is_ok(), matches!(flags, 2..=5), "{flags:#x}");
        }
    }

    #[test]
    fn argsz_is_judged_before_flags_and_has_no_upper_limit() {
        let mut raw = PlaneRequest::Query(Interface::Dmabuf, 1).to_raw();
        raw.argsz = 59;
        raw.flags = 0;
        assert_eq!(PlaneRequest::parse(&raw), Err(RequestError::ArgSize { found: 59 }));
        raw.argsz = u32::MAX;
        raw.flags = 2;
        assert_eq!(PlaneRequest::parse(&raw), Ok(PlaneRequest::Query(Interface::Dmabuf, 1)));
    }

    /// `DRM_PLANE_TYPE_*` and `VFIO_DEVICE_GFX_LINK_STATE_*`.
    #[test]
    fn planes_and_links_have_the_numbers_of_the_uapi() {
        let planes = [(0, PlaneKind::Overlay), (1, PlaneKind::Primary), (2, PlaneKind::Cursor)];
        for (number, kind) in planes {
            assert_eq!((kind.raw(), PlaneKind::from_raw(number)), (number, Some(kind)));
        }
        assert_eq!(PlaneKind::from_raw(3), None);
        for (number, state) in [(1, LinkState::Up), (2, LinkState::Down)] {
            assert_eq!((state.raw(), LinkState::from_raw(number)), (number, Some(state)));
        }
        assert_eq!([0, 3].map(LinkState::from_raw), [None; 2]);
    }

    /// 60 bytes: what the struct had before its last word was named.
    #[test]
    fn the_smallest_argsz_is_enough() {
        let mut raw = PlaneRequest::Query(Interface::Region, 1).to_raw();
        raw.argsz = PLANE_INFO_MIN;
        assert_eq!(PlaneRequest::parse(&raw), Ok(PlaneRequest::Query(Interface::Region, 1)));
    }

    #[test]
    fn requests_survive_a_round_trip() {
        for request in [
            PlaneRequest::Probe(Interface::Dmabuf),
            PlaneRequest::Probe(Interface::Region),
            PlaneRequest::Query(Interface::Region, 0),
            PlaneRequest::Query(Interface::Dmabuf, 77),
        ] {
            assert_eq!(PlaneRequest::parse(&request.to_raw()), Ok(request));
        }
    }
}
