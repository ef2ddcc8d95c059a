//! The picture guests show: structured enough that a shift, a swap or a torn line cannot go unnoticed.

/// A picture of `width` x `height` pixels in XRGB8888 (bytes B, G, R, X), lines without padding.
///
/// The upper half is gradients (a wrong stride or a swapped channel shows to the eye), the lower half noise
/// (no two lines are alike, every byte value occurs). The X byte is noise everywhere: it must not matter.
#[must_use]
pub fn xrgb8888(width: u32, height: u32) -> Vec<u8> {
    let mut noise = 0x2545_f491_u32;
    let mut bytes = Vec::new();
    for y in 0..height {
        for x in 0..width {
            // xorshift32, Marsaglia 2003: never zero, period 2^32 - 1.
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            let [n0, n1, n2, n3] = noise.to_le_bytes();
            let pixel = if y < height / 2 {
                let [across, down] = [x * 255 / width.max(2), y * 510 / height.max(2)];
                [low(across), low(down), low(across ^ down), n3]
            } else {
                [n0, n1, n2, n3]
            };
            bytes.extend_from_slice(&pixel);
        }
    }
    bytes
}

fn low(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_value_occurs_in_every_channel_and_lines_differ() {
        let picture = xrgb8888(800, 600);
        assert_eq!(picture.len(), 800 * 600 * 4);
        for channel in 0..4 {
            let mut seen = [false; 256];
            for pixel in picture.chunks_exact(4) {
                seen[usize::from(pixel[channel])] = true;
            }
            assert!(seen.iter().all(|&s| s), "channel {channel}");
        }
        let lines: std::collections::HashSet<_> = picture.chunks_exact(800 * 4).collect();
        assert_eq!(lines.len(), 600);
    }

    #[test]
    fn the_picture_is_the_same_every_time() {
        assert_eq!(xrgb8888(64, 48), xrgb8888(64, 48));
    }
}
