//! Pixels as JPEG has them: brightness, and two numbers for colour.
//!
//! The code is the same for all CPUs. Where there is AVX2 it is compiled for that too, and takes half the time.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "functions that are compiled for a CPU that was found")
)]

/// The brightness of each pixel of a row.
pub(super) fn luma(row: &[u32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, which is all that the function asks for.
        return unsafe { luma_by_avx2(row, out) };
    }
    luma_of(row, out);
}

/// Samples of two rows, each in both of two columns.
pub(super) fn chroma(above: &[u32], below: &[u32], blue: &mut [u8], red: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has AVX2, which is all that the function asks for.
        return unsafe { chroma_by_avx2(above, below, blue, red) };
    }
    chroma_of(above, below, blue, red);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn luma_by_avx2(row: &[u32], out: &mut [u8]) {
    luma_of(row, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn chroma_by_avx2(above: &[u32], below: &[u32], blue: &mut [u8], red: &mut [u8]) {
    chroma_of(above, below, blue, red);
}

#[inline(always)]
fn luma_of(row: &[u32], out: &mut [u8]) {
    for (luma, pixel) in out.iter_mut().zip(row) {
        *luma = brightness(*pixel);
    }
}

#[inline(always)]
fn chroma_of(above: &[u32], below: &[u32], blue: &mut [u8], red: &mut [u8]) {
    let ((above, last_above), (below, last_below)) = (above.as_chunks::<2>(), below.as_chunks::<2>());
    let ((blue, last_blue), (red, last_red)) = (blue.as_chunks_mut::<2>(), red.as_chunks_mut::<2>());
    for (((&[a, b], &[c, d]), blue), red) in above.iter().zip(below).zip(blue).zip(red) {
        let (cb, cr) = colour([a, b, c, d]);
        (*blue, *red) = ([cb, cb], [cr, cr]);
    }
    if let ([a], [c], [blue], [red]) = (last_above, last_below, last_blue, last_red) {
        (*blue, *red) = colour([*a, *a, *c, *c]);
    }
}

/// Y of JFIF (1.02, "Conversion to and from RGB") of a pixel `0x00RRGGBB`, by factors in 1/256. Their sum is 1 and numbers of 16
/// bits do, many of which fit a register.
#[inline(always)]
fn brightness(pixel: u32) -> u8 {
    let [blue, green, red, _] = pixel.to_le_bytes().map(u16::from);
    let [_, luma] = (77 * red + 150 * green + 29 * blue + 128).to_le_bytes();
    luma
}

/// Cb and Cr of the mean of four pixels, in the same way. A grey one has 0x80 of each.
#[inline(always)]
pub(super) fn colour(pixels: [u32; 4]) -> (u8, u8) {
    // Red and blue in one sum: four of each fit their 16 bits.
    let ends: u32 = pixels.iter().map(|pixel| pixel & 0x00ff_00ff).sum::<u32>() + 0x0002_0002;
    let green: u32 = pixels.iter().map(|pixel| pixel >> 8 & 0xff).sum::<u32>() + 2;
    let [blue, _, red, _] = (ends >> 2 & 0x00ff_00ff).to_le_bytes().map(u16::from);
    let [green, ..] = (green >> 2).to_le_bytes().map(u16::from);
    // One less than half is added, that the largest stays below 256.
    let [_, cb] = (0x807f + 128 * blue - (43 * red + 85 * green)).to_le_bytes();
    let [_, cr] = (0x807f + 128 * red - (107 * green + 21 * blue)).to_le_bytes();
    (cb, cr)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the standard says, in floating point.
    fn expected(colours: [f64; 3]) -> [f64; 3] {
        let [red, green, blue] = colours;
        let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
        [luma, (blue - luma) / 1.772 + 128.0, (red - luma) / 1.402 + 128.0]
    }

    #[test]
    fn colours_are_those_of_jfif() {
        let levels = [0, 1, 127, 128, 254, 255];
        let pairs = || levels.into_iter().flat_map(|a| levels.map(|b| (a, b)));
        for (red, (green, blue)) in levels.into_iter().flat_map(|red| pairs().map(move |rest| (red, rest))) {
            let pixel = u32::from_be_bytes([0, red, green, blue]);
            let (cb, cr) = colour([pixel; 4]);
            let found = [brightness(pixel), cb, cr].map(f64::from);
            for (found, expected) in found.into_iter().zip(expected([red, green, blue].map(f64::from))) {
                assert!((found - expected.min(255.0)).abs() < 1.0, "{pixel:06x}: {found}, not {expected}");
            }
        }
    }

    proptest! {
        #[test]
        fn every_cpu_sees_the_same(rows in prop::collection::vec((0..=0x00ff_ffffu32, 0..=0x00ff_ffffu32), 0..80)) {
            let (above, below): (Vec<u32>, Vec<u32>) = rows.into_iter().unzip();
            let mut planes = [(); 6].map(|()| vec![1; above.len()]);
            let [luma, blue, red, expected_luma, expected_blue, expected_red] = &mut planes;
            super::luma(&above, luma);
            luma_of(&above, expected_luma);
            chroma(&above, &below, blue, red);
            chroma_of(&above, &below, expected_blue, expected_red);
            prop_assert_eq!((luma, blue, red), (expected_luma, expected_blue, expected_red));
        }
    }
}
