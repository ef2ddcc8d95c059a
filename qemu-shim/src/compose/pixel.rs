//! One pixel of 16 bits per channel: how vkms reads it and how it blends it.

use vfio_gfx::format::Fourcc;

/// A pixel, colours pre-multiplied by alpha.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Argb {
    a: u16,
    r: u16,
    g: u16,
    b: u16,
}

impl Argb {
    /// Opaque black: what a screen shows where there is no plane.
    pub(super) const BLACK: Self = Self { a: u16::MAX, r: 0, g: 0, b: 0 };

    /// This pixel over another (vkms_composer.c `pre_mul_alpha_blend`); the result is opaque.
    pub(super) fn over(self, under: Self) -> Self {
        let transparency = u32::from(u16::MAX - self.a);
        let blend = |over: u16, under: u16| {
            // A colour above its alpha is not pre-multiplied; the kernel's sum then wraps around, and so does ours.
            let sum = u32::from(over) * 0xffff;
            let sum = sum.wrapping_add(u32::from(under) * transparency).wrapping_add(0x7fff);
            u16::try_from((sum / 0xffff) & 0xffff).unwrap_or(u16::MAX)
        };
        Self { a: u16::MAX, r: blend(self.r, under.r), g: blend(self.g, under.g), b: blend(self.b, under.b) }
    }

    /// The pixel as vkms' checksum sees it: alpha, red, green, blue, little-endian.
    pub(super) fn to_bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        for (pair, channel) in bytes.chunks_exact_mut(2).zip([self.a, self.r, self.g, self.b]) {
            pair.copy_from_slice(&channel.to_le_bytes());
        }
        bytes
    }

    #[cfg(test)]
    pub(super) fn is_opaque(self) -> bool {
        self.a == u16::MAX
    }
}

/// Reads a pixel from its bytes; fewer than the format has are zeros.
type Reader = fn(&[u8]) -> Argb;

/// Bytes per pixel and how to read one, for the formats that vkms of Linux 6.12 knows (vkms_formats.c).
pub(super) fn reader(format: Fourcc) -> Option<(usize, Reader)> {
    Some(match format {
        Fourcc::ARGB8888 => (4, |bytes| from_8_bits(bytes)),
        Fourcc::XRGB8888 => (4, |bytes| Argb { a: u16::MAX, ..from_8_bits(bytes) }),
        Fourcc::ARGB16161616 => (8, |bytes| from_16_bits(bytes)),
        Fourcc::XRGB16161616 => (8, |bytes| Argb { a: u16::MAX, ..from_16_bits(bytes) }),
        Fourcc::RGB565 => (2, |bytes| from_565(bytes)),
        _ => return None,
    })
}

fn byte(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at).copied().map_or(0, u16::from)
}

fn from_8_bits(bytes: &[u8]) -> Argb {
    let channel = |at| byte(bytes, at) * 257;
    Argb { a: channel(3), r: channel(2), g: channel(1), b: channel(0) }
}

fn from_16_bits(bytes: &[u8]) -> Argb {
    let channel = |at: usize| byte(bytes, 2 * at) | byte(bytes, 2 * at + 1) << 8;
    Argb { a: channel(3), r: channel(2), g: channel(1), b: channel(0) }
}

/// vkms scales by 65535 / 31 and 65535 / 63 in fixed point and rounds; no value lies on a tie, so this is the same.
fn from_565(bytes: &[u8]) -> Argb {
    let value = u32::from(byte(bytes, 0) | byte(bytes, 1) << 8);
    let scale =
        |channel: u32, max: u32| u16::try_from((channel * 2 * 0xffff + max) / (2 * max)).unwrap_or(u16::MAX);
    Argb { a: u16::MAX, r: scale(value >> 11, 31), g: scale(value >> 5 & 63, 63), b: scale(value & 31, 31) }
}
