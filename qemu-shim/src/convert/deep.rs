//! Pixels with alpha and more than 8 bits per channel, with all their bits.
//!
//! One that lies on a screen is rounded twice when it is made 8 bits deep before it is blended, colour and alpha, and a stack
//! of such layers would be off by more than anybody need accept. (An opaque one is only rounded once, by half a step.)

use vfio_gfx::format::Fourcc;

use super::each;

/// Converts rows of one such format into `0xAAAA_RRRR_GGGG_BBBB`.
#[derive(Debug, Clone, Copy)]
pub struct DeepConverter {
    row: fn(&[u8], &mut [u64]),
}

impl DeepConverter {
    /// The converter for a format, or `None` if [`AlphaConverter`](super::AlphaConverter) loses nothing that matters.
    #[must_use]
    pub fn new(format: Fourcc) -> Option<Self> {
        let row: fn(&[u8], &mut [u64]) = match format {
            Fourcc::ARGB2101010 => |src, dst| each(src, dst, argb2101010),
            Fourcc::ARGB16161616 => |src, dst| each(src, dst, u64::from_le_bytes),
            _ => return None,
        };
        Some(Self { row })
    }

    /// Converts as many whole pixels as `src` holds and `dst` has room for, and leaves the rest of `dst` alone.
    pub fn convert_row(&self, src: &[u8], dst: &mut [u64]) {
        (self.row)(src, dst);
    }
}

fn argb2101010(bytes: [u8; 4]) -> u64 {
    let value = u64::from(u32::from_le_bytes(bytes));
    let colour = |shift: u32| {
        // The top bits once more below the others: within one of 65535 steps.
        let v = value >> shift & 0x3ff;
        v << 6 | v >> 4
    };
    ((value >> 30) * 0x5555) << 48 | colour(20) << 32 | colour(10) << 16 | colour(0)
}

#[cfg(test)]
mod tests {
    use super::super::AlphaConverter;
    use super::*;

    #[test]
    fn only_deep_formats_with_alpha_have_one() {
        for (format, deep) in [
            (Fourcc::ARGB2101010, true),
            (Fourcc::ARGB16161616, true),
            (Fourcc::ARGB8888, false),
            (Fourcc::XRGB16161616, false),
            (Fourcc::NONE, false),
        ] {
            assert_eq!(DeepConverter::new(format).is_some(), deep, "{format}");
        }
    }

    #[test]
    fn rounded_to_8_bits_they_are_what_the_other_converter_makes() {
        for format in [Fourcc::ARGB2101010, Fourcc::ARGB16161616] {
            let bytes: Vec<u8> = (0..4096u32).map(|n| ((n * n) >> 3).to_le_bytes()[0]).collect();
            let mut deep = vec![0; bytes.len() / format.bytes_per_pixel().unwrap() as usize];
            let mut flat = vec![0u32; deep.len()];
            DeepConverter::new(format).unwrap().convert_row(&bytes, &mut deep);
            AlphaConverter::new(format).unwrap().convert_row(&bytes, &mut flat);
            for (deep, flat) in deep.into_iter().zip(flat) {
                for channel in 0..4 {
                    let v = deep >> (16 * channel) & 0xffff;
                    assert_eq!(
                        (v + 128) / 257,
                        u64::from(flat >> (8 * channel) & 0xff),
                        "{format} {deep:016x}"
                    );
                }
            }
        }
    }
}
