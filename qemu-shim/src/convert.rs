//! Pixels of any format we show into `0x00RRGGBB`.
//!
//! The format is looked at once per row, never per pixel: each has its own small loop over fixed-size pixels, which the
//! compiler unrolls and vectorises.
//!
//! Channels wider or narrower than 8 bits are scaled by exact rounding, `round(v × 255 / max)`, so that black stays
//! black, white stays white and nothing else is off by more than half a step. (Repeating the top bits of a 5-bit channel
//! would be off by one for some values.) Alpha and padding are dropped;
//! [`AlphaConverter`] keeps alpha, for composition, and [`DeepConverter`] keeps all bits. [`Outward`] goes the other way, for
//! those who want a picture in a format of their own.
#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

mod alpha;
mod deep;
mod outward;

use vfio_gfx::format::Fourcc;

pub use alpha::AlphaConverter;
pub use deep::DeepConverter;
pub use outward::Outward;

/// Converts rows of one pixel format.
#[derive(Debug, Clone, Copy)]
pub struct Converter {
    row: Row,
}

/// Converts a row.
type Row = fn(&[u8], &mut [u32]);

impl Converter {
    /// The converter for a format, or `None` if it cannot be shown: exactly the formats with
    /// [`Fourcc::bytes_per_pixel`] have one.
    #[must_use]
    pub fn new(format: Fourcc) -> Option<Self> {
        rows::<0>(format).map(|row| Self { row })
    }

    /// Converts as many whole pixels as `src` holds and `dst` has room for, and leaves the rest of `dst` alone.
    pub fn convert_row(&self, src: &[u8], dst: &mut [u32]) {
        (self.row)(src, dst);
    }
}

/// What converts a format, with `TOP` for the top byte of each pixel.
fn rows<const TOP: u32>(format: Fourcc) -> Option<Row> {
    // The patterns are bytes in memory: the reverse of the fourcc's name, which starts at the most significant bit.
    let row: Row = match format {
        Fourcc::XRGB8888 | Fourcc::ARGB8888 => |src, dst| each(src, dst, |[b, g, r, _]| rgb(r, g, b) | TOP),
        Fourcc::XBGR8888 | Fourcc::ABGR8888 => |src, dst| each(src, dst, |[r, g, b, _]| rgb(r, g, b) | TOP),
        Fourcc::BGRX8888 | Fourcc::BGRA8888 => |src, dst| each(src, dst, |[_, r, g, b]| rgb(r, g, b) | TOP),
        Fourcc::RGBX8888 | Fourcc::RGBA8888 => |src, dst| each(src, dst, |[_, b, g, r]| rgb(r, g, b) | TOP),
        Fourcc::RGB888 => |src, dst| each(src, dst, |[b, g, r]| rgb(r, g, b) | TOP),
        Fourcc::BGR888 => |src, dst| each(src, dst, |[r, g, b]| rgb(r, g, b) | TOP),
        Fourcc::RGB565 => |src, dst| each(src, dst, |bytes| rgb565(bytes) | TOP),
        Fourcc::XRGB2101010 | Fourcc::ARGB2101010 => {
            |src, dst| each(src, dst, |bytes| xrgb2101010(bytes) | TOP)
        }
        Fourcc::XBGR2101010 => |src, dst| each(src, dst, |bytes| xbgr2101010(bytes) | TOP),
        Fourcc::XRGB16161616 | Fourcc::ARGB16161616 => {
            |src, dst| each(src, dst, |bytes| rgb16161616(bytes) | TOP)
        }
        _ => return None,
    };
    Some(row)
}

/// Applies `pixel` to each `N`-byte pixel.
fn each<const N: usize, T>(src: &[u8], dst: &mut [T], pixel: impl Fn([u8; N]) -> T) {
    let (pixels, _incomplete) = src.as_chunks::<N>();
    for (out, &bytes) in dst.iter_mut().zip(pixels) {
        *out = pixel(bytes);
    }
}

fn rgb(r: u8, g: u8, b: u8) -> u32 {
    u32::from_be_bytes([0, r, g, b])
}

fn rgb565(bytes: [u8; 2]) -> u32 {
    let value = u32::from(u16::from_le_bytes(bytes));
    let (r, g, b) = (value >> 11, value >> 5 & 0x3f, value & 0x1f);
    scale5(r) << 16 | scale6(g) << 8 | scale5(b)
}

fn xrgb2101010(bytes: [u8; 4]) -> u32 {
    let value = u32::from_le_bytes(bytes);
    let (r, g, b) = (value >> 20 & 0x3ff, value >> 10 & 0x3ff, value & 0x3ff);
    scale10(r) << 16 | scale10(g) << 8 | scale10(b)
}

fn xbgr2101010(bytes: [u8; 4]) -> u32 {
    let value = u32::from_le_bytes(bytes);
    let (b, g, r) = (value >> 20 & 0x3ff, value >> 10 & 0x3ff, value & 0x3ff);
    scale10(r) << 16 | scale10(g) << 8 | scale10(b)
}

fn rgb16161616([b0, b1, g0, g1, r0, r1, _, _]: [u8; 8]) -> u32 {
    let scale = |bytes| scale16(u32::from(u16::from_le_bytes(bytes)));
    scale([r0, r1]) << 16 | scale([g0, g1]) << 8 | scale([b0, b1])
}

// Division would not vectorise. Each of these multiplications gives round(v × 255 / max) for every v; the tests try them all.

fn scale5(v: u32) -> u32 {
    (v * 527 + 23) >> 6
}

fn scale6(v: u32) -> u32 {
    (v * 259 + 33) >> 6
}

fn scale10(v: u32) -> u32 {
    (v * 1021 + 2047) >> 12
}

fn scale16(v: u32) -> u32 {
    (v * 255 + 32895) >> 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each format as `drm_fourcc.h` writes it: bits per pixel and (lowest bit, width) of red, green and blue.
    type Layout = (Fourcc, usize, [(u32, u32); 3]);
    const LAYOUTS: [Layout; 16] = [
        (Fourcc::XRGB8888, 32, [(16, 8), (8, 8), (0, 8)]),
        (Fourcc::ARGB8888, 32, [(16, 8), (8, 8), (0, 8)]),
        (Fourcc::XBGR8888, 32, [(0, 8), (8, 8), (16, 8)]),
        (Fourcc::ABGR8888, 32, [(0, 8), (8, 8), (16, 8)]),
        (Fourcc::BGRX8888, 32, [(8, 8), (16, 8), (24, 8)]),
        (Fourcc::BGRA8888, 32, [(8, 8), (16, 8), (24, 8)]),
        (Fourcc::RGBX8888, 32, [(24, 8), (16, 8), (8, 8)]),
        (Fourcc::RGBA8888, 32, [(24, 8), (16, 8), (8, 8)]),
        (Fourcc::RGB888, 24, [(16, 8), (8, 8), (0, 8)]),
        (Fourcc::BGR888, 24, [(0, 8), (8, 8), (16, 8)]),
        (Fourcc::RGB565, 16, [(11, 5), (5, 6), (0, 5)]),
        (Fourcc::XRGB2101010, 32, [(20, 10), (10, 10), (0, 10)]),
        (Fourcc::ARGB2101010, 32, [(20, 10), (10, 10), (0, 10)]),
        (Fourcc::XBGR2101010, 32, [(0, 10), (10, 10), (20, 10)]),
        (Fourcc::XRGB16161616, 64, [(32, 16), (16, 16), (0, 16)]),
        (Fourcc::ARGB16161616, 64, [(32, 16), (16, 16), (0, 16)]),
    ];

    /// The obvious, slow way: pick the bits, scale in floating point.
    fn reference(layout: &Layout, pixel: &[u8]) -> u32 {
        let value = pixel.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        layout.2.iter().fold(0, |rgb, &(shift, width)| {
            let max = (1u64 << width) - 1;
            rgb << 8 | rounded(value >> shift & max, max)
        })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..=255")]
    fn rounded(v: u64, max: u64) -> u32 {
        (v as f64 * 255.0 / max as f64).round() as u32
    }

    #[test]
    fn scaling_is_exact_for_every_value() {
        fn check(max: u32, scale: fn(u32) -> u32) {
            for v in 0..=max {
                assert_eq!(scale(v), rounded(v.into(), max.into()), "{v} of {max}");
            }
        }
        check(31, scale5);
        check(63, scale6);
        check(1023, scale10);
        check(65535, scale16);
    }

    #[test]
    fn known_pixels() {
        let cases: [(Fourcc, &[u8], u32); 6] = [
            (Fourcc::XRGB8888, &[0x33, 0x22, 0x11, 0xff], 0x0011_2233),
            (Fourcc::BGR888, &[0x11, 0x22, 0x33], 0x0011_2233),
            (Fourcc::RGB565, &[0x00, 0xf8], 0x00ff_0000),
            (Fourcc::RGB565, &[0xe0, 0x07], 0x0000_ff00),
            (Fourcc::XRGB2101010, &[0xff, 0x03, 0x00, 0xc0], 0x0000_00ff),
            (Fourcc::XRGB16161616, &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 0x00ff_0000),
        ];
        for (format, src, expected) in cases {
            let mut dst = [0];
            Converter::new(format).unwrap().convert_row(src, &mut dst);
            assert_eq!(dst[0], expected, "{format}");
        }
    }

    #[test]
    fn exactly_the_formats_with_a_size_convert() {
        for layout in &LAYOUTS {
            assert!(Converter::new(layout.0).is_some(), "{}", layout.0);
            assert_eq!(layout.0.bytes_per_pixel().unwrap() as usize * 8, layout.1, "{}", layout.0);
        }
        for format in [Fourcc::NONE, Fourcc::from_bytes(*b"NV12"), Fourcc::from_bits(u32::MAX)] {
            assert!(Converter::new(format).is_none() && format.bytes_per_pixel().is_none());
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(
            index in 0..LAYOUTS.len(),
            src in prop::collection::vec(any::<u8>(), 0..600),
            room in 0usize..160,
        ) {
            let layout = &LAYOUTS[index];
            let untouched = 0xdead_beef;
            let mut dst = vec![untouched; room];
            Converter::new(layout.0).unwrap().convert_row(&src, &mut dst);
            let mut expected: Vec<u32> = src
                .chunks_exact(layout.1 / 8)
                .map(|pixel| reference(layout, pixel))
                .take(room)
                .collect();
            expected.resize(room, untouched);
            prop_assert_eq!(dst, expected);
        }
    }
}
