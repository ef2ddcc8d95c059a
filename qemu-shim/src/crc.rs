//! Checksums of frames: the vkms CRC, and a plain CRC-32 of whatever bytes there are.
//!
//! [`vkms`] is the number the kernel's virtual display reports for the same picture, so a test that compares what a guest
//! showed with a recorded CRC can run on either.
#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

use crc32fast::Hasher;

use crate::Frame;

/// Pixels expanded at a time: 4 KiB, which stays in the first-level cache between expansion and checksum.
const BATCH: usize = 512;

/// The CRC a vkms CRTC reports (`crc` debugfs source "auto") when its screen shows this frame.
///
/// vkms composes in 16 bits per channel and feeds `struct {u16 a, r, g, b}` per pixel, little-endian here, to the kernel's
/// `crc32_le` with seed 0 and no final inversion. An 8-bit channel is multiplied by 257 and alpha is opaque. A screen whose
/// framebuffer had more than 8 bits per channel lost them on its way into the [`Frame`]: its CRC differs from the kernel's.
/// The CRC of an empty frame is 0.
#[must_use]
pub fn vkms(frame: &Frame) -> u32 {
    // crc32fast speaks the zlib convention, inverted at both ends: undo both. Rows follow each other without gaps,
    // so the batches need not respect them.
    let mut hasher = Hasher::new_with_initial(!0);
    let mut bytes = [[0u8; 8]; BATCH];
    for pixels in frame.pixels().chunks(BATCH) {
        for (wide, &pixel) in bytes.iter_mut().zip(pixels) {
            *wide = widen(pixel).to_le_bytes();
        }
        hasher.update(bytes.get(..pixels.len()).unwrap_or_default().as_flattened());
    }
    !hasher.finalize()
}

/// Opaque alpha, red, green and blue as 16-bit channels, alpha in the lowest bits.
///
/// Multiplying a byte by 257 repeats it, so the bytes are spread out and then doubled, all four at once.
fn widen(pixel: u32) -> u64 {
    let argb = u64::from(pixel.swap_bytes() | 0xff);
    let pairs = (argb | argb << 16) & 0x0000_ffff_0000_ffff;
    let bytes = (pairs | pairs << 8) & 0x00ff_00ff_00ff_00ff;
    bytes | bytes << 8
}

/// The standard CRC-32 (zlib, PNG, Ethernet) of a frame's bytes as the device has them, fed row by row.
///
/// Feed each row without its padding: the result then depends on the picture and its format, not on the stride.
#[derive(Debug, Clone, Default)]
pub struct Raw {
    hasher: Hasher,
}

impl Raw {
    /// A checksum of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next row.
    pub fn update(&mut self, row: &[u8]) {
        self.hasher.update(row);
    }

    /// The checksum of all rows so far.
    #[must_use]
    pub fn finish(self) -> u32 {
        self.hasher.finalize()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// CRC-32 bit by bit, reflected polynomial 0xEDB88320, without any inversion.
    fn bitwise(seed: u32, bytes: impl IntoIterator<Item = u8>) -> u32 {
        bytes.into_iter().fold(seed, |crc, byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
        })
    }

    /// The vkms CRC straight from its description.
    fn slow_vkms(frame: &Frame) -> u32 {
        let bytes = frame.rows().flatten().flat_map(|&pixel| {
            let [_, r, g, b] = pixel.to_be_bytes().map(u16::from);
            [0xffff, r * 257, g * 257, b * 257].into_iter().flat_map(u16::to_le_bytes)
        });
        bitwise(0, bytes)
    }

    /// Solid screens: computed with the kernel's algorithm, independently of this code.
    #[test]
    fn reference_values() {
        let colours = [0x00_0000, 0xff_ffff, 0xff_0000, 0x00_ff00, 0x00_00ff, 0x80_8080];
        let modes: [(u32, u32, [u32; 6]); 3] = [
            (640, 480, [0xe54b_7895, 0x27c6_66ba, 0x4746_1692, 0x4a1e_a984, 0x2a9e_d9ac, 0xfd93_76a0]),
            (1024, 768, [0x4c41_26bf, 0x9ba9_237a, 0x7818_9987, 0xf2be_bf54, 0x110f_05a9, 0xf0e1_813f]),
            (1920, 1080, [0x1dc9_9484, 0xf109_94b7, 0x2855_3989, 0xc1f7_24fd, 0x18ab_89c3, 0xb6ac_7faa]),
        ];
        for (width, height, expected) in modes {
            let mut frame = Frame::new(width, height).unwrap();
            for (colour, crc) in colours.into_iter().zip(expected) {
                frame.pixels_mut().fill(colour);
                assert_eq!(vkms(&frame), crc, "{width}x{height} {colour:06x}");
            }
        }
    }

    #[test]
    fn raw_check_value() {
        let mut raw = Raw::new();
        raw.update(b"1234");
        raw.update(b"56789");
        assert_eq!(raw.finish(), 0xcbf4_3926);
    }

    #[test]
    fn nothing_has_a_checksum() {
        assert_eq!(vkms(&Frame::default()), 0);
        assert_eq!(Raw::new().finish(), 0);
    }

    proptest! {
        #[test]
        fn vkms_agrees_with_its_description(
            width in 0u32..90,
            height in 0u32..20,
            pixels in prop::collection::vec(0u32..0x100_0000, 1..97),
        ) {
            let mut frame = Frame::new(width, height).unwrap();
            for (to, &from) in frame.pixels_mut().iter_mut().zip(pixels.iter().cycle()) {
                *to = from;
            }
            prop_assert_eq!(vkms(&frame), slow_vkms(&frame));
        }

        /// However the bytes are cut into rows.
        #[test]
        fn raw_is_crc32(bytes in prop::collection::vec(any::<u8>(), 0..2000), stride in 1usize..500) {
            let mut raw = Raw::new();
            bytes.chunks(stride).for_each(|row| raw.update(row));
            prop_assert_eq!(raw.finish(), !bitwise(!0, bytes));
        }
    }
}
