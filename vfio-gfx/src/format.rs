//! Pixel formats: what the bytes of a plane mean.
//!
//! The kernel names a format by a DRM fourcc and a 64-bit modifier (`drm_fourcc.h`). Both cross the ABI as plain
//! integers written by another party, so both are newtypes in which *every* value is representable: a format we
//! cannot show is still one we can carry, print and refuse by name.

use std::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `DRM_FORMAT_BIG_ENDIAN` (`drm_fourcc.h`): the pixels are stored in big-endian order.
const BIG_ENDIAN: u32 = 1 << 31;

/// A DRM pixel format: four ASCII characters, the first in the lowest byte.
///
/// Names follow `drm_fourcc.h`: components from the most to the least significant bit of a *little-endian* pixel, so
/// [`Fourcc::XRGB8888`] lies in memory as the bytes blue, green, red, unused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Fourcc(u32);

impl Fourcc {
    /// 0: no format. A device answers it for a plane that is off.
    pub const NONE: Self = Self(0);
    /// `[31:0]` x:R:G:B 8:8:8:8. What nearly every guest uses.
    pub const XRGB8888: Self = Self::from_bytes(*b"XR24");
    /// `[31:0]` A:R:G:B 8:8:8:8.
    pub const ARGB8888: Self = Self::from_bytes(*b"AR24");
    /// `[31:0]` x:B:G:R 8:8:8:8.
    pub const XBGR8888: Self = Self::from_bytes(*b"XB24");
    /// `[31:0]` A:B:G:R 8:8:8:8.
    pub const ABGR8888: Self = Self::from_bytes(*b"AB24");
    /// `[31:0]` B:G:R:x 8:8:8:8. A Bochs display in big-endian mode.
    pub const BGRX8888: Self = Self::from_bytes(*b"BX24");
    /// `[31:0]` B:G:R:A 8:8:8:8.
    pub const BGRA8888: Self = Self::from_bytes(*b"BA24");
    /// `[31:0]` R:G:B:x 8:8:8:8.
    pub const RGBX8888: Self = Self::from_bytes(*b"RX24");
    /// `[31:0]` R:G:B:A 8:8:8:8.
    pub const RGBA8888: Self = Self::from_bytes(*b"RA24");
    /// `[23:0]` R:G:B 8:8:8.
    pub const RGB888: Self = Self::from_bytes(*b"RG24");
    /// `[23:0]` B:G:R 8:8:8.
    pub const BGR888: Self = Self::from_bytes(*b"BG24");
    /// `[15:0]` R:G:B 5:6:5.
    pub const RGB565: Self = Self::from_bytes(*b"RG16");
    /// `[31:0]` x:R:G:B 2:10:10:10.
    pub const XRGB2101010: Self = Self::from_bytes(*b"XR30");
    /// `[31:0]` A:R:G:B 2:10:10:10.
    pub const ARGB2101010: Self = Self::from_bytes(*b"AR30");
    /// `[31:0]` x:B:G:R 2:10:10:10.
    pub const XBGR2101010: Self = Self::from_bytes(*b"XB30");
    /// `[63:0]` x:R:G:B 16:16:16:16.
    pub const XRGB16161616: Self = Self::from_bytes(*b"XR48");
    /// `[63:0]` A:R:G:B 16:16:16:16.
    pub const ARGB16161616: Self = Self::from_bytes(*b"AR48");

    /// The format with this ABI value; any value is accepted.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The format with this four-character name: `fourcc_code()` of `drm_fourcc.h`.
    #[must_use]
    pub const fn from_bytes(name: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(name))
    }

    /// The ABI value.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Bytes from one pixel to the next, for the formats named here; `None` for every other, [`Fourcc::NONE`] and
    /// the big-endian variants included: those cannot be shown.
    #[must_use]
    pub const fn bytes_per_pixel(self) -> Option<u32> {
        match self {
            Self::RGB565 => Some(2),
            Self::RGB888 | Self::BGR888 => Some(3),
            Self::XRGB8888
            | Self::ARGB8888
            | Self::XBGR8888
            | Self::ABGR8888
            | Self::BGRX8888
            | Self::BGRA8888
            | Self::RGBX8888
            | Self::RGBA8888
            | Self::XRGB2101010
            | Self::ARGB2101010
            | Self::XBGR2101010 => Some(4),
            Self::XRGB16161616 | Self::ARGB16161616 => Some(8),
            _ => None,
        }
    }

    /// Whether pixels carry transparency; `false` for formats not named here.
    #[must_use]
    pub const fn has_alpha(self) -> bool {
        matches!(
            self,
            Self::ARGB8888
                | Self::ABGR8888
                | Self::BGRA8888
                | Self::RGBA8888
                | Self::ARGB2101010
                | Self::ARGB16161616
        )
    }
}

/// The four characters, followed by `_BE` when the big-endian bit is set; eight hex digits when they are not printable.
impl fmt::Display for Fourcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = (self.0 & !BIG_ENDIAN).to_le_bytes();
        let little: &[u8] = &[a, b, c, d];
        let big: &[u8] = &[a, b, c, d, b'_', b'B', b'E'];
        let printable = little.iter().all(|&byte| byte == b' ' || byte.is_ascii_graphic());
        let name = if self.0 & BIG_ENDIAN == 0 { little } else { big };
        match str::from_utf8(name) {
            Ok(name) if printable => f.pad(name),
            _ => write!(f, "{:#010x}", self.0),
        }
    }
}

impl fmt::Debug for Fourcc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fourcc({self})")
    }
}

/// A DRM format modifier: how the pixels are laid out in the buffer (tiling, compression).
///
/// Only [`Modifier::LINEAR`] can be read by a CPU that knows nothing of the GPU.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Modifier(u64);

impl Modifier {
    /// `DRM_FORMAT_MOD_LINEAR`: rows one after the other, pixels left to right.
    pub const LINEAR: Self = Self(0);
    /// `DRM_FORMAT_MOD_INVALID`: the layout is implied, or not known.
    pub const INVALID: Self = Self(0x00ff_ffff_ffff_ffff);

    /// The modifier with this ABI value; any value is accepted.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The ABI value.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// `LINEAR`, `INVALID`, or sixteen hex digits.
impl fmt::Display for Modifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LINEAR => f.pad("LINEAR"),
            Self::INVALID => f.pad("INVALID"),
            Self(bits) => write!(f, "{bits:#018x}"),
        }
    }
}

impl fmt::Debug for Modifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Modifier({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use drm_fourcc::{DrmFourcc, DrmModifier};
    use proptest::prelude::*;

    use super::*;

    /// Every format we show: ours, theirs, bytes per pixel, alpha.
    const KNOWN: [(Fourcc, DrmFourcc, u32, bool); 14] = [
        (Fourcc::XRGB8888, DrmFourcc::Xrgb8888, 4, false),
        (Fourcc::ARGB8888, DrmFourcc::Argb8888, 4, true),
        (Fourcc::XBGR8888, DrmFourcc::Xbgr8888, 4, false),
        (Fourcc::ABGR8888, DrmFourcc::Abgr8888, 4, true),
        (Fourcc::BGRX8888, DrmFourcc::Bgrx8888, 4, false),
        (Fourcc::BGRA8888, DrmFourcc::Bgra8888, 4, true),
        (Fourcc::RGBX8888, DrmFourcc::Rgbx8888, 4, false),
        (Fourcc::RGBA8888, DrmFourcc::Rgba8888, 4, true),
        (Fourcc::RGB888, DrmFourcc::Rgb888, 3, false),
        (Fourcc::BGR888, DrmFourcc::Bgr888, 3, false),
        (Fourcc::RGB565, DrmFourcc::Rgb565, 2, false),
        (Fourcc::XRGB2101010, DrmFourcc::Xrgb2101010, 4, false),
        (Fourcc::ARGB2101010, DrmFourcc::Argb2101010, 4, true),
        (Fourcc::XBGR2101010, DrmFourcc::Xbgr2101010, 4, false),
    ];

    #[test]
    fn constants_agree_with_drm_fourcc() {
        for (ours, theirs, bytes, alpha) in KNOWN {
            assert_eq!(ours.bits(), theirs as u32, "{theirs:?}");
            assert_eq!(ours.to_string(), theirs.to_string());
            assert_eq!(ours.bytes_per_pixel(), Some(bytes), "{theirs:?}");
            assert_eq!(ours.has_alpha(), alpha, "{theirs:?}");
        }
        assert_eq!(Modifier::LINEAR.bits(), u64::from(DrmModifier::Linear));
        assert_eq!(Modifier::INVALID.bits(), u64::from(DrmModifier::Invalid));
    }

    /// drm-fourcc is older than the integer 16-bit formats and has only their `…F` cousins ("XR4H").
    #[test]
    fn sixteen_bit_formats_have_the_kernels_values() {
        assert_eq!(Fourcc::XRGB16161616.bits(), 0x3834_5258);
        assert_eq!(Fourcc::ARGB16161616.bits(), 0x3834_5241);
        assert_eq!(Fourcc::XRGB16161616.bytes_per_pixel(), Some(8));
        assert_eq!(Fourcc::ARGB16161616.bytes_per_pixel(), Some(8));
        assert!(Fourcc::ARGB16161616.has_alpha() && !Fourcc::XRGB16161616.has_alpha());
    }

    #[test]
    fn constants_are_distinct() {
        let values: HashSet<Fourcc> = KNOWN.iter().map(|known| known.0).collect();
        assert_eq!(values.len(), KNOWN.len());
    }

    #[test]
    fn prints_names_and_falls_back_to_hex() {
        let big_endian = Fourcc::from_bits(Fourcc::XRGB8888.bits() | BIG_ENDIAN);
        assert_eq!(big_endian.to_string(), "XR24_BE");
        assert_eq!(big_endian.bytes_per_pixel(), None);
        assert_eq!(format!("{:?}", Fourcc::XRGB8888), "Fourcc(XR24)");
        assert_eq!(format!("[{:>8}]", Fourcc::XRGB8888), "[    XR24]");
        assert_eq!(Fourcc::from_bytes(*b"R8  ").to_string(), "R8  ");
        assert_eq!(Fourcc::NONE.to_string(), "0x00000000");
        assert_eq!(Fourcc::from_bytes(*b"XR2\n").to_string(), "0x0a325258");
        assert_eq!(Fourcc::NONE.bytes_per_pixel(), None);
    }

    #[test]
    fn prints_modifiers() {
        assert_eq!(Modifier::LINEAR.to_string(), "LINEAR");
        assert_eq!(format!("{:?}", Modifier::INVALID), "Modifier(INVALID)");
        // I915_FORMAT_MOD_X_TILED: vendor 1 in the top byte, value 1.
        assert_eq!(Modifier::from_bits(1 << 56 | 1).to_string(), "0x0100000000000001");
    }

    #[test]
    fn lies_in_memory_as_the_abi_has_it() {
        assert_eq!(Fourcc::XRGB8888.as_bytes(), Fourcc::XRGB8888.bits().to_ne_bytes());
        let bytes = Modifier::INVALID.bits().to_ne_bytes();
        assert_eq!(Modifier::read_from_bytes(&bytes), Ok(Modifier::INVALID));
    }

    proptest! {
        /// What is printed identifies the value: its length says which of the three forms it is.
        #[test]
        fn display_is_lossless(bits: u32, name in "[ -~]{4}", big: bool) {
            let named = Fourcc::from_bytes(name.as_bytes().try_into().unwrap()).bits();
            for bits in [bits, if big { named | BIG_ENDIAN } else { named }] {
                let text = Fourcc::from_bits(bits).to_string();
                let read = |name: &str| u32::from_le_bytes(name.as_bytes().try_into().unwrap());
                let back = match text.len() {
                    4 => read(&text),
                    7 => read(text.strip_suffix("_BE").unwrap()) | BIG_ENDIAN,
                    10 => u32::from_str_radix(&text[2..], 16).unwrap(),
                    other => panic!("{other} characters: {text:?}"),
                };
                prop_assert_eq!(back, bits);
            }
        }
    }
}
