//! Rows of a frame into a client's pixels: first their values, then the bytes of these.
//!
//! Palettes and runs are found among values, where two colours that a client cannot tell apart are already one. Both steps
//! look at the format once per row, not per pixel.

use super::super::pixel_format::{Colours, PixelFormat};

/// Bits of a frame's pixel that mean something.
const RGB: u32 = 0x00ff_ffff;

/// Pixels converted at once on the way from a row to bytes: they stay in the first-level cache.
const CHUNK: usize = 256;

/// How a pixel of a frame becomes the value of a client's.
#[derive(Debug)]
enum Values {
    /// It is one already.
    Same,
    /// 8 bits each, elsewhere: shifts of red, green and blue.
    Moved([u8; 3]),
    /// What each intensity adds.
    Tables(Box<[[u32; 256]; 3]>),
}

/// How a value becomes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bytes {
    One,
    Two {
        big_endian: bool,
    },
    /// Three bytes: the value shifted right by each of these.
    Three([u8; 3]),
    Four {
        big_endian: bool,
    },
}

/// Converts pixels for one client's format and one encoding's way to write it.
#[derive(Debug)]
pub(super) struct Pixels {
    values: Values,
    bytes: Bytes,
}

impl Pixels {
    /// For `PIXEL`s: the format as it is.
    pub(super) fn plain(format: &PixelFormat) -> Self {
        let big_endian = format.big_endian();
        let bytes = match format.bits_per_pixel() {
            8 => Bytes::One,
            16 => Bytes::Two { big_endian },
            _ => Bytes::Four { big_endian },
        };
        let values = match format.colours() {
            _ if format.colours() == PixelFormat::SERVER.colours() => Values::Same,
            Colours::True(channels) if channels.iter().all(|channel| channel.max == 255) => {
                Values::Moved(channels.map(|channel| channel.shift))
            }
            _ => Values::Tables(Box::new(format.tables())),
        };
        Self { values, bytes }
    }

    /// For ZRLE's `CPIXEL`s: 3 bytes if the colours of 32 bits fit in the lower or the upper 3.
    pub(super) fn zrle(format: &PixelFormat) -> Self {
        let plain = Self::plain(format);
        let Bytes::Four { big_endian } = plain.bytes else { return plain };
        let used = format.used_bits();
        let shifts = match (used & 0xff00_0000 == 0, used & 0x0000_00ff == 0) {
            _ if format.depth() > 24 => return plain,
            (true, _) => [0, 8, 16],
            (false, true) => [8, 16, 24],
            (false, false) => return plain,
        };
        let [a, b, c] = shifts;
        Self { bytes: Bytes::Three(if big_endian { [c, b, a] } else { shifts }), ..plain }
    }

    /// For Tight's `TPIXEL`s: red, green, blue if the colours of 32 bits have 8 each.
    pub(super) fn tight(format: &PixelFormat) -> Self {
        let plain = Self::plain(format);
        match format.colours() {
            Colours::True(channels)
                if format.bits_per_pixel() == 32
                    && format.depth() == 24
                    && channels.iter().all(|channel| channel.max == 255) =>
            {
                Self { values: Values::Same, bytes: Bytes::Three([16, 8, 0]) }
            }
            _ => plain,
        }
    }

    /// Bytes of a pixel.
    pub(super) fn size(&self) -> usize {
        match self.bytes {
            Bytes::One => 1,
            Bytes::Two { .. } => 2,
            Bytes::Three(_) => 3,
            Bytes::Four { .. } => 4,
        }
    }

    /// The values of as many pixels as there is room for.
    pub(super) fn values(&self, row: &[u32], out: &mut [u32]) {
        let pairs = out.iter_mut().zip(row);
        match &self.values {
            Values::Same => pairs.for_each(|(value, pixel)| *value = pixel & RGB),
            Values::Moved([red, green, blue]) => {
                let [red, green, blue] = [red, green, blue].map(|shift| u32::from(*shift) & 31);
                pairs.for_each(|(value, pixel)| {
                    *value =
                        (pixel >> 16 & 0xff) << red | (pixel >> 8 & 0xff) << green | (pixel & 0xff) << blue;
                });
            }
            Values::Tables(tables) => {
                let [red, green, blue] = tables.as_ref();
                let entry =
                    |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or_default();
                pairs.for_each(|(value, pixel)| {
                    let [_, r, g, b] = pixel.to_be_bytes();
                    *value = entry(red, r) + entry(green, g) + entry(blue, b);
                });
            }
        }
    }

    /// Appends the bytes of values.
    pub(super) fn put(&self, values: &[u32], out: &mut Vec<u8>) {
        match self.bytes {
            Bytes::One => each(values, out, |[byte, ..]| [byte]),
            Bytes::Two { big_endian: false } => each(values, out, |[a, b, ..]| [a, b]),
            Bytes::Two { big_endian: true } => each(values, out, |[a, b, ..]| [b, a]),
            Bytes::Three([0, 8, 16]) => each(values, out, |[a, b, c, _]| [a, b, c]),
            Bytes::Three([16, 8, 0]) => each(values, out, |[a, b, c, _]| [c, b, a]),
            Bytes::Three(shifts) => each(values, out, |bytes| {
                let value = u32::from_le_bytes(bytes);
                shifts.map(|shift| {
                    let [byte, ..] = (value >> (shift & 31)).to_le_bytes();
                    byte
                })
            }),
            Bytes::Four { big_endian: false } => each(values, out, |bytes| bytes),
            Bytes::Four { big_endian: true } => each(values, out, |[a, b, c, d]| [d, c, b, a]),
        }
    }

    /// Appends the bytes of a row's pixels.
    pub(super) fn convert(&self, row: &[u32], out: &mut Vec<u8>) {
        let mut values = [0; CHUNK];
        for chunk in row.chunks(CHUNK) {
            self.values(chunk, &mut values);
            self.put(values.get(..chunk.len()).unwrap_or_default(), out);
        }
    }
}

/// Appends `N` bytes for each value, given its little-endian ones.
fn each<const N: usize>(values: &[u32], out: &mut Vec<u8>, bytes: impl Fn([u8; 4]) -> [u8; N]) {
    let start = out.len();
    out.resize(start + values.len() * N, 0);
    let (pixels, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<N>();
    for (pixel, value) in pixels.iter_mut().zip(values) {
        *pixel = bytes(value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(bytes: [u8; 13]) -> PixelFormat {
        let mut all = [0; 16];
        all[..13].copy_from_slice(&bytes);
        PixelFormat::parse(&all).unwrap()
    }

    fn converted(pixels: &Pixels, row: &[u32]) -> Vec<u8> {
        let mut out = vec![0xee];
        pixels.convert(row, &mut out);
        assert_eq!(out.len(), 1 + row.len() * pixels.size());
        out.split_off(1)
    }

    #[test]
    fn pixels_of_all_sizes_and_ends() {
        let row = [0x0012_3456, 0xffff_ffff];
        let cases: [([u8; 13], &[u8]); 6] = [
            ([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0], &[0x56, 0x34, 0x12, 0, 0xff, 0xff, 0xff, 0]),
            ([32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0], &[0, 0x12, 0x34, 0x56, 0, 0xff, 0xff, 0xff]),
            ([32, 32, 0, 1, 0, 255, 0, 255, 0, 255, 8, 16, 24], &[0, 0x12, 0x34, 0x56, 0, 0xff, 0xff, 0xff]),
            ([16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0], &[0xaa, 0x11, 0xff, 0xff]),
            ([16, 16, 1, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0], &[0x11, 0xaa, 0xff, 0xff]),
            // 0x12, 0x34 and 0x56 of 255 are 1 of 7, 1 of 7 and 1 of 3.
            ([8, 8, 0, 1, 0, 7, 0, 7, 0, 3, 0, 3, 6], &[0x48, 0xff]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(converted(&Pixels::plain(&format(bytes)), &row), expected, "{bytes:?}");
        }
    }

    #[test]
    fn compact_pixels_of_zrle() {
        let row = [0x0012_3456];
        let cases: [([u8; 13], &[u8]); 6] = [
            ([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0], &[0x56, 0x34, 0x12]),
            ([32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0], &[0x12, 0x34, 0x56]),
            ([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 8, 16, 24], &[0x12, 0x34, 0x56]),
            ([32, 24, 1, 1, 0, 255, 0, 255, 0, 255, 8, 16, 24], &[0x56, 0x34, 0x12]),
            ([32, 32, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0], &[0x56, 0x34, 0x12, 0]),
            // 16 of 32 bits in the middle: the lower three by convention.
            ([32, 16, 0, 1, 0, 31, 0, 63, 0, 31, 19, 13, 8], &[0, 0xaa, 0x11]),
        ];
        for (bytes, expected) in cases {
            assert_eq!(converted(&Pixels::zrle(&format(bytes)), &row), expected, "{bytes:?}");
        }
    }

    #[test]
    fn compact_pixels_of_tight() {
        let row = [0x0012_3456];
        for big_endian in [0, 1] {
            let bgr = format([32, 24, big_endian, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16]);
            assert_eq!(converted(&Pixels::tight(&bgr), &row), [0x12, 0x34, 0x56]);
        }
        let deep = format([32, 32, 0, 1, 0, 255, 0, 255, 0, 255, 0, 8, 16]);
        assert_eq!(converted(&Pixels::tight(&deep), &row), [0x12, 0x34, 0x56, 0]);
    }
}
