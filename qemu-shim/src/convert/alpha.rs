//! Pixels with their alpha: what a plane needs that lies on another.

use vfio_gfx::format::Fourcc;

use super::{Row, each, rgb, rgb16161616, rows, scale16, xrgb2101010};

/// Alpha of a pixel that hides what is behind it.
const OPAQUE: u32 = 0xff00_0000;

/// Converts rows of one pixel format into `0xAARRGGBB`; of a format without alpha, every pixel is opaque. Whether colours are
/// multiplied by alpha is not its business: they stay as they are.
#[derive(Debug, Clone, Copy)]
pub struct AlphaConverter {
    row: Row,
}

impl AlphaConverter {
    /// The converter for a format, or `None` if it cannot be shown: the formats are those of
    /// [`Converter`](super::Converter).
    #[must_use]
    pub fn new(format: Fourcc) -> Option<Self> {
        // The patterns are bytes in memory.
        let row: Row = match format {
            Fourcc::ARGB8888 => |src, dst| each(src, dst, |[b, g, r, a]| argb(a, rgb(r, g, b))),
            Fourcc::ABGR8888 => |src, dst| each(src, dst, |[r, g, b, a]| argb(a, rgb(r, g, b))),
            Fourcc::BGRA8888 => |src, dst| each(src, dst, |[a, r, g, b]| argb(a, rgb(r, g, b))),
            Fourcc::RGBA8888 => |src, dst| each(src, dst, |[a, b, g, r]| argb(a, rgb(r, g, b))),
            Fourcc::ARGB2101010 => |src, dst| each(src, dst, argb2101010),
            Fourcc::ARGB16161616 => |src, dst| each(src, dst, argb16161616),
            opaque => rows::<OPAQUE>(opaque)?,
        };
        Some(Self { row })
    }

    /// Converts as many whole pixels as `src` holds and `dst` has room for, and leaves the rest of `dst` alone.
    pub fn convert_row(&self, src: &[u8], dst: &mut [u32]) {
        (self.row)(src, dst);
    }
}

fn argb(alpha: u8, rgb: u32) -> u32 {
    u32::from(alpha) << 24 | rgb
}

fn argb2101010(bytes: [u8; 4]) -> u32 {
    // 85 is 255 / 3: of two bits to eight nothing is lost.
    ((u32::from_le_bytes(bytes) >> 30) * 85) << 24 | xrgb2101010(bytes)
}

fn argb16161616(bytes: [u8; 8]) -> u32 {
    let [.., low, high] = bytes;
    scale16(u16::from_le_bytes([low, high]).into()) << 24 | rgb16161616(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::Converter;
    use super::*;

    const FORMATS: [Fourcc; 16] = [
        Fourcc::XRGB8888,
        Fourcc::ARGB8888,
        Fourcc::XBGR8888,
        Fourcc::ABGR8888,
        Fourcc::BGRX8888,
        Fourcc::BGRA8888,
        Fourcc::RGBX8888,
        Fourcc::RGBA8888,
        Fourcc::RGB888,
        Fourcc::BGR888,
        Fourcc::RGB565,
        Fourcc::XRGB2101010,
        Fourcc::ARGB2101010,
        Fourcc::XBGR2101010,
        Fourcc::XRGB16161616,
        Fourcc::ARGB16161616,
    ];

    #[test]
    fn colours_are_the_converters_and_no_alpha_is_full_alpha() {
        let bytes: Vec<u8> = (0..240u8).map(|n| n.wrapping_mul(151) ^ 0x5a).collect();
        for format in FORMATS {
            let count = 240 / format.bytes_per_pixel().unwrap() as usize;
            let (mut with, mut without) = (vec![0; count + 1], vec![0; count + 1]);
            AlphaConverter::new(format).unwrap().convert_row(&bytes, &mut with);
            Converter::new(format).unwrap().convert_row(&bytes, &mut without);
            assert_eq!(
                (with.pop(), without.pop()),
                (Some(0), Some(0)),
                "{format}: written beyond the source"
            );
            assert!(
                with.iter().zip(&without).all(|(with, without)| with & 0xff_ffff == *without),
                "{format}"
            );
            let opaque = with.iter().filter(|pixel| **pixel >= OPAQUE).count();
            assert_eq!(opaque == count, !format.has_alpha(), "{format}: {opaque} of {count} are opaque");
        }
    }

    #[test]
    fn alpha_is_taken_from_its_place() {
        let cases: [(Fourcc, &[u8], u32); 7] = [
            (Fourcc::ARGB8888, &[3, 2, 1, 4], 0x0401_0203),
            (Fourcc::ABGR8888, &[1, 2, 3, 4], 0x0401_0203),
            (Fourcc::BGRA8888, &[4, 1, 2, 3], 0x0401_0203),
            (Fourcc::RGBA8888, &[4, 3, 2, 1], 0x0401_0203),
            (Fourcc::ARGB2101010, &[0, 0, 0, 0x80], 0xaa00_0000),
            (Fourcc::ARGB2101010, &[0xff, 0x03, 0, 0x40], 0x5500_00ff),
            (Fourcc::ARGB16161616, &[0, 0, 0, 0, 0xff, 0xff, 0, 0x80], 0x80ff_0000),
        ];
        for (format, src, expected) in cases {
            let mut dst = [0];
            AlphaConverter::new(format).unwrap().convert_row(src, &mut dst);
            assert_eq!(dst, [expected], "{format}: {:08x}", dst[0]);
        }
    }

    #[test]
    fn an_unknown_format_has_none() {
        assert!(AlphaConverter::new(Fourcc::from_bytes(*b"NV12")).is_none());
    }
}
