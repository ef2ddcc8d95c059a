//! What a plane is: kind, geometry, format, and where its pixels are.
//!
//! Core tier. Every plane that exists as a [`Plane`] has been checked: its rows fit their stride, its stride times
//! height fits its size, and none of the arithmetic a console does with it can overflow.

use thiserror::Error;

use crate::abi::{HOTSPOT_NONE, Interface, PlaneInfo, PlaneKind};
use crate::format::{Fourcc, Modifier};

/// Largest width and height of a plane, in pixels: what 16-bit registers can say. What a console can hold is its own
/// affair.
pub const MAX_DIMENSION: u32 = 65535;

/// Size and row pitch of a plane. Width and height are 1..=[`MAX_DIMENSION`]; `stride * height` fits `u64` many times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    width: u32,
    height: u32,
    stride: u32,
}

/// Why a geometry, or a plane with it, is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PlaneError {
    /// Zero or absurd dimensions.
    #[error("plane of {width}x{height} pixels: each side must be 1 to {MAX_DIMENSION}")]
    Dimensions {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
    /// A row is longer than the distance to the next.
    #[error("plane stride is {stride} bytes, a row of {width} pixels needs {needed}")]
    Stride {
        /// Bytes.
        stride: u32,
        /// Pixels.
        width: u32,
        /// Bytes.
        needed: u64,
    },
    /// The rows do not fit the memory they are said to be in.
    #[error("plane needs {needed} bytes from offset {offset}, its {container} has {available}")]
    TooLarge {
        /// Bytes from the first pixel to the last.
        needed: u64,
        /// Where the first pixel is.
        offset: u64,
        /// `size` field, region or buffer.
        container: &'static str,
        /// Bytes there.
        available: u64,
    },
}

impl Geometry {
    /// Checks a geometry. `bytes_per_pixel` is that of the format; 0 when the format is not known, and then only
    /// the dimensions are checked.
    ///
    /// # Errors
    /// [`PlaneError`] when a side is 0 or larger than [`MAX_DIMENSION`], or the stride shorter than a row.
    pub const fn new(width: u32, height: u32, stride: u32, bytes_per_pixel: u32) -> Result<Self, PlaneError> {
        if width == 0 || height == 0 || width > MAX_DIMENSION || height > MAX_DIMENSION {
            return Err(PlaneError::Dimensions { width, height });
        }
        let geometry = Self { width, height, stride };
        let needed = geometry.row_bytes(bytes_per_pixel);
        if needed > geometry.stride_u64() || stride == 0 {
            return Err(PlaneError::Stride { stride, width, needed });
        }
        Ok(geometry)
    }

    /// Width in pixels.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Bytes from one row to the next.
    #[must_use]
    pub const fn stride(self) -> u32 {
        self.stride
    }

    #[expect(clippy::as_conversions, reason = "u32 to u64 in a const fn, where From cannot be called")]
    const fn stride_u64(self) -> u64 {
        self.stride as u64
    }

    /// Bytes of pixels in a row.
    #[must_use]
    #[expect(clippy::as_conversions, reason = "u32 to u64 in a const fn, where From cannot be called")]
    pub const fn row_bytes(self, bytes_per_pixel: u32) -> u64 {
        (self.width as u64).saturating_mul(bytes_per_pixel as u64)
    }

    /// Bytes of the whole plane, padding of the last row included.
    #[must_use]
    #[expect(clippy::as_conversions, reason = "u32 to u64 in a const fn, where From cannot be called")]
    pub const fn bytes(self) -> u64 {
        // u32 * u32 cannot overflow u64.
        self.stride_u64().saturating_mul(self.height as u64)
    }

    /// Bytes from the first pixel to the last one: without the padding of the last row.
    #[must_use]
    pub const fn extent(self, bytes_per_pixel: u32) -> u64 {
        let padding = self.stride_u64().saturating_sub(self.row_bytes(bytes_per_pixel));
        self.bytes().saturating_sub(padding)
    }
}

/// Where a plane's pixels are. `offset` is where its first pixel is, in bytes from the start of the region or
/// buffer; the uapi struct cannot express one and means 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// In a region of the device.
    Region {
        /// Region index.
        index: u32,
        /// Bytes.
        offset: u64,
    },
    /// In a buffer to be fetched by its id.
    Buffer {
        /// `dmabuf_id`; never 0, never reused by a device of this crate.
        id: u32,
        /// Bytes.
        offset: u64,
    },
}

impl Source {
    /// Where the first pixel is, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        match self {
            Self::Region { offset, .. } | Self::Buffer { offset, .. } => offset,
        }
    }
}

/// A plane that is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Plane {
    /// Which plane.
    pub kind: PlaneKind,
    /// Pixel format.
    pub format: Fourcc,
    /// Memory layout of the format.
    pub modifier: Modifier,
    /// Size and pitch.
    pub geometry: Geometry,
    /// Bytes of memory the plane occupies, a multiple of the page size.
    pub size: u32,
    /// Position on the screen, in pixels; negative is left of or above it.
    pub position: (i32, i32),
    /// The pointing pixel of a cursor, from its top left corner.
    pub hotspot: Option<(u32, u32)>,
    /// Where its pixels are.
    pub source: Source,
}

impl Plane {
    /// Fills the out fields of a query reply; `argsz`, `flags` and `reserved` stay the caller's.
    pub fn to_raw(&self, raw: &mut PlaneInfo) {
        raw.drm_format = self.format.bits();
        raw.drm_format_mod = self.modifier.bits();
        raw.width = self.geometry.width;
        raw.height = self.geometry.height;
        raw.stride = self.geometry.stride;
        raw.size = self.size;
        raw.x_pos = self.position.0.cast_unsigned();
        raw.y_pos = self.position.1.cast_unsigned();
        (raw.x_hot, raw.y_hot) = self.hotspot.unwrap_or((HOTSPOT_NONE, HOTSPOT_NONE));
        raw.handle = match self.source {
            Source::Region { index, .. } => index,
            Source::Buffer { id, .. } => id,
        };
    }

    /// Fills the out fields of a query reply for a plane that is off: zero, as the uapi asks.
    pub fn off_to_raw(raw: &mut PlaneInfo) {
        raw.drm_format = 0;
        raw.drm_format_mod = 0;
        (raw.width, raw.height, raw.stride, raw.size) = (0, 0, 0, 0);
        (raw.x_pos, raw.y_pos, raw.x_hot, raw.y_hot) = (0, 0, 0, 0);
        raw.handle = 0;
    }

    /// Reads a reply that a device gave. `offset` is what it said beside the struct, 0 where it can say nothing.
    /// A plane whose format, width, height or size is 0 is off: `None`. Drivers that have no hotspot say (0, 0) or
    /// [`HOTSPOT_NONE`]; both mean none on a plane that is not a cursor.
    ///
    /// # Errors
    /// [`PlaneError`] when the geometry is absurd or its rows do not fit the size the device itself gave.
    pub fn from_raw(
        raw: &PlaneInfo,
        interface: Interface,
        kind: PlaneKind,
        offset: u64,
    ) -> Result<Option<Self>, PlaneError> {
        if raw.drm_format == 0 || raw.width == 0 || raw.height == 0 || raw.size == 0 {
            return Ok(None);
        }
        let format = Fourcc::from_bits(raw.drm_format);
        let bytes_per_pixel = format.bytes_per_pixel().unwrap_or(0);
        let geometry = Geometry::new(raw.width, raw.height, raw.stride, bytes_per_pixel)?;
        let needed = geometry.extent(bytes_per_pixel);
        if needed > u64::from(raw.size) {
            return Err(PlaneError::TooLarge {
                needed,
                offset: 0,
                container: "size field",
                available: u64::from(raw.size),
            });
        }
        let no_hotspot = raw.x_hot == HOTSPOT_NONE || raw.y_hot == HOTSPOT_NONE || kind != PlaneKind::Cursor;
        Ok(Some(Self {
            kind,
            format,
            modifier: Modifier::from_bits(raw.drm_format_mod),
            geometry,
            size: raw.size,
            position: (raw.x_pos.cast_signed(), raw.y_pos.cast_signed()),
            hotspot: (!no_hotspot).then_some((raw.x_hot, raw.y_hot)),
            source: match interface {
                Interface::Region => Source::Region { index: raw.handle, offset },
                Interface::Dmabuf => Source::Buffer { id: raw.handle, offset },
            },
        }))
    }

    /// Checks that every pixel lies within `available` bytes of its region or buffer.
    ///
    /// # Errors
    /// [`PlaneError::TooLarge`].
    pub fn check_within(&self, available: u64) -> Result<(), PlaneError> {
        let needed = self.geometry.extent(self.format.bytes_per_pixel().unwrap_or(0));
        let offset = self.source.offset();
        match offset.checked_add(needed) {
            Some(end) if end <= available => Ok(()),
            _ => Err(PlaneError::TooLarge {
                needed,
                offset,
                container: match self.source {
                    Source::Region { .. } => "region",
                    Source::Buffer { .. } => "buffer",
                },
                available,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::PlaneRequest;
    use crate::number::edges;
    use proptest::prelude::*;
    use zerocopy::{FromBytes, FromZeros};

    fn raw(width: u32, height: u32, stride: u32, size: u32) -> PlaneInfo {
        let mut raw = PlaneRequest::Query(Interface::Region, 1).to_raw();
        (raw.drm_format, raw.width, raw.height, raw.stride, raw.size) =
            (Fourcc::XRGB8888.bits(), width, height, stride, size);
        raw
    }

    #[test]
    fn a_plane_that_is_off_has_no_format_or_no_size() {
        for off in [raw(0, 480, 2560, 4096), raw(640, 0, 2560, 4096), raw(640, 480, 2560, 0)] {
            assert_eq!(Plane::from_raw(&off, Interface::Region, PlaneKind::Primary, 0), Ok(None));
        }
    }

    #[test]
    fn a_plane_that_is_off_leaves_only_what_the_caller_said() {
        let before = PlaneInfo::read_from_bytes(&[0xa5; size_of::<PlaneInfo>()]).unwrap();
        let mut reply = before;
        Plane::off_to_raw(&mut reply);
        let PlaneInfo { argsz, flags, drm_plane_type, reserved, .. } = before;
        assert_eq!(reply, PlaneInfo { argsz, flags, drm_plane_type, reserved, ..PlaneInfo::new_zeroed() });
    }

    #[test]
    fn only_a_cursor_has_a_hotspot_and_only_a_whole_one() {
        let hotspot = |kind, x_hot, y_hot| {
            let raw = PlaneInfo { x_hot, y_hot, ..raw(64, 64, 256, 64 * 256) };
            Plane::from_raw(&raw, Interface::Region, kind, 0).unwrap().unwrap().hotspot
        };
        assert_eq!(hotspot(PlaneKind::Cursor, 3, 4), Some((3, 4)));
        assert_eq!(hotspot(PlaneKind::Primary, 3, 4), None);
        for (x, y) in [(HOTSPOT_NONE, 4), (3, HOTSPOT_NONE), (HOTSPOT_NONE, HOTSPOT_NONE)] {
            assert_eq!(hotspot(PlaneKind::Cursor, x, y), None);
        }
    }

    #[test]
    fn rows_must_fit_stride_and_size() {
        let parse = |r| Plane::from_raw(&r, Interface::Region, PlaneKind::Primary, 0);
        assert!(matches!(parse(raw(640, 480, 2559, 1 << 21)), Err(PlaneError::Stride { needed: 2560, .. })));
        assert!(matches!(parse(raw(640, 480, 2560, 2560 * 480 - 1)), Err(PlaneError::TooLarge { .. })));
        assert!(parse(raw(640, 480, 2560, 2560 * 480)).unwrap().is_some());
        assert!(matches!(parse(raw(65536, 1, 1 << 18, 1 << 18)), Err(PlaneError::Dimensions { .. })));
    }

    #[test]
    fn the_last_row_needs_no_padding() {
        let plane =
            Plane::from_raw(&raw(642, 400, 2816, 400 * 2816), Interface::Region, PlaneKind::Primary, 0)
                .unwrap()
                .unwrap();
        assert!(plane.check_within(399 * 2816 + 642 * 4).is_ok());
        assert!(plane.check_within(399 * 2816 + 642 * 4 - 1).is_err());
    }

    /// All combinations of the numbers at which the arithmetic turns, against arithmetic that has room.
    #[test]
    fn geometry_is_right_at_every_edge() {
        for (width, height) in edges::U32.into_iter().flat_map(|w| edges::U32.map(|h| (w, h))) {
            for (stride, bpp) in edges::U32.into_iter().flat_map(|s| [0, 1, 2, 3, 4, 8].map(|bpp| (s, bpp))) {
                let [w, h, s, b] = [width, height, stride, bpp].map(u128::from);
                let side = 1..=u128::from(MAX_DIMENSION);
                let expected = side.contains(&w) && side.contains(&h) && s > 0 && w * b <= s;
                let geometry = Geometry::new(width, height, stride, bpp);
                assert_eq!(geometry.is_ok(), expected, "{width}x{height}, {stride}, {bpp}");
                if let Ok(geometry) = geometry {
                    assert_eq!(
                        (geometry.width(), geometry.height(), geometry.stride()),
                        (width, height, stride)
                    );
                    assert_eq!(u128::from(geometry.row_bytes(bpp)), w * b);
                    assert_eq!(u128::from(geometry.bytes()), s * h);
                    assert_eq!(u128::from(geometry.extent(bpp)), s * (h - 1) + w * b);
                }
            }
        }
    }

    #[test]
    fn a_plane_is_in_its_memory_or_not_at_every_edge() {
        let sizes = [(1, 1, 4), (1024, 1024, 4096), (16383, 65535, 65536), (65535, 65535, u32::MAX)];
        for (width, height, stride) in sizes {
            let raw = raw(width, height, stride, u32::MAX);
            for offset in edges::u64() {
                let Ok(Some(plane)) = Plane::from_raw(&raw, Interface::Region, PlaneKind::Primary, offset)
                else {
                    assert!(u64::from(height) * u64::from(stride) > u64::from(u32::MAX), "{width}x{height}");
                    continue;
                };
                let end = u128::from(offset) + u128::from(plane.geometry.extent(4));
                for available in edges::u64() {
                    let fits = plane.check_within(available).is_ok();
                    assert_eq!(fits, end <= u128::from(available), "{plane:?} in {available:#x}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_a_device_says_can_overflow(w: u32, h: u32, s: u32, size: u32, offset: u64, available: u64) {
            if let Ok(Some(plane)) = Plane::from_raw(&raw(w, h, s, size), Interface::Dmabuf, PlaneKind::Cursor, offset) {
                let fits = plane.check_within(available).is_ok();
                let end = u128::from(offset) + u128::from(plane.geometry.extent(4));
                prop_assert_eq!(fits, end <= u128::from(available));
            }
        }

        #[test]
        fn planes_survive_a_round_trip(w in 1..4000u32, h in 1..4000u32, pad in 0..64u32, x: i32, y: i32) {
            let stride = w * 4 + pad;
            let plane = Plane {
                kind: PlaneKind::Cursor, format: Fourcc::ARGB8888, modifier: Modifier::LINEAR,
                geometry: Geometry::new(w, h, stride, 4).unwrap(), size: stride * h,
                position: (x, y), hotspot: Some((3, 4)), source: Source::Buffer { id: 9, offset: 0 },
            };
            let mut raw = PlaneRequest::Query(Interface::Dmabuf, 2).to_raw();
            plane.to_raw(&mut raw);
            prop_assert_eq!(Plane::from_raw(&raw, Interface::Dmabuf, PlaneKind::Cursor, 0), Ok(Some(plane)));
        }
    }
}
