//! The frame checksum of vkms, written here a second time so that the programs are not compared with
//! themselves.
//!
//! vkms (Linux, drivers/gpu/drm/vkms/vkms_composer.c) runs `crc32_le`, seed 0 and without a final inversion,
//! over each line of `{ u16 a, r, g, b }` in the CPU's byte order, channels widened by 257, alpha 0xffff for
//! XRGB8888.

/// Reflected polynomial of CRC-32 (Linux, lib/crc32).
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// The vkms checksum of a picture in XRGB8888 (bytes B, G, R, X), as 8 lower-case hex digits.
#[must_use]
pub fn vkms(xrgb: &[u8]) -> String {
    let mut table = [0u32; 256];
    for (value, slot) in (0u32..).zip(&mut table) {
        *slot = (0..8).fold(value, |crc, _| (crc >> 1) ^ ((crc & 1) * POLYNOMIAL));
    }
    let mut crc = 0u32;
    for pixel in xrgb.as_chunks::<4>().0 {
        let [b, g, r, _] = *pixel;
        for byte in [0xff, 0xff, r, r, g, g, b, b] {
            crc = (crc >> 8) ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)];
        }
    }
    format!("{crc:08x}")
}

#[cfg(test)]
mod tests {
    use super::vkms;

    /// What Linux' vkms reports for full screens of one colour at 640x480.
    #[test]
    fn solid_colours_have_the_kernels_checksums() {
        for (pixel, expected) in [
            ([0x00, 0x00, 0x00, 0x00], "e54b7895"),
            ([0xff, 0xff, 0xff, 0xff], "27c666ba"),
            ([0x00, 0x00, 0xff, 0x12], "47461692"),
            ([0x00, 0xff, 0x00, 0x34], "4a1ea984"),
            ([0xff, 0x00, 0x00, 0x56], "2a9ed9ac"),
            ([0x80, 0x80, 0x80, 0x78], "fd9376a0"),
        ] {
            assert_eq!(vkms(&pixel.repeat(640 * 480)), expected, "{pixel:02x?}");
        }
    }
}
