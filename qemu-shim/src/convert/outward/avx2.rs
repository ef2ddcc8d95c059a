//! RGB565 with 256-bit registers: sixteen pixels become one.
//!
//! A compiler picks the bits of each channel by itself, three shifts and three masks a pixel. One multiplication can move two
//! channels at once, and one instruction packs two registers into one; neither is found from portable code.
#![expect(unsafe_code, reason = "filling vector registers, in functions for CPUs that have them")]

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_or_si256, _mm256_packus_epi32,
    _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_srli_epi32, _mm256_storeu_si256,
};
use std::ptr;

/// Pixels of a register.
const LANES: usize = size_of::<__m256i>() / size_of::<u32>();
/// Pixels that make one register of RGB565.
const PIXELS: usize = 2 * LANES;

/// Converts as many pixels as fill whole registers on both sides; returns how many that were, which are 0 where the CPU has no
/// AVX2.
pub(super) fn rgb565(src: &[u32], dst: &mut [u8]) -> usize {
    if !is_x86_feature_detected!("avx2") {
        return 0;
    }
    let (pixels, _) = src.as_chunks::<PIXELS>();
    let (places, _) = dst.as_chunks_mut::<{ size_of::<__m256i>() }>();
    let whole = pixels.len().min(places.len());
    // SAFETY: the CPU has AVX2, which is all that the function asks for.
    unsafe { pack_all(pixels, places) };
    whole * PIXELS
}

#[target_feature(enable = "avx2")]
fn pack_all(src: &[[u32; PIXELS]], dst: &mut [[u8; size_of::<__m256i>()]]) {
    for (pixels, place) in src.iter().zip(dst) {
        let [first, second] = load(pixels).map(|pixels| narrow(pixels));
        // Packing takes four pixels of each in turn; the permutation puts them back in order: quarters 0, 2, 1, 3.
        let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(first, second));
        store(place, packed);
    }
}

/// Each pixel's 16 bits, in the lower half of its 32.
#[target_feature(enable = "avx2")]
#[inline]
fn narrow(pixels: __m256i) -> __m256i {
    let red_blue = _mm256_and_si256(pixels, _mm256_set1_epi32(0x00f8_00f8));
    let green = _mm256_and_si256(pixels, _mm256_set1_epi32(0xfc00));
    // Red, in the upper 16 bits, × 2¹³ and blue × 4, added: red at bit 16 and blue at bit 5, on both sides of green.
    let red_blue = _mm256_madd_epi16(red_blue, _mm256_set1_epi32(0x2000_0004));
    _mm256_srli_epi32::<5>(_mm256_or_si256(red_blue, green))
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(pixels: &[u32; PIXELS]) -> [__m256i; 2] {
    let start = ptr::from_ref(pixels).cast::<__m256i>();
    // SAFETY: a reference to 64 bytes, of which any alignment will do.
    let first = unsafe { _mm256_loadu_si256(start) };
    // SAFETY: the second half of them starts inside.
    let next = unsafe { start.add(1) };
    // SAFETY: the 32 bytes of the second half.
    [first, unsafe { _mm256_loadu_si256(next) }]
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(place: &mut [u8; size_of::<__m256i>()], value: __m256i) {
    // SAFETY: an exclusive reference to 32 bytes, of which any alignment and any value will do.
    unsafe { _mm256_storeu_si256(ptr::from_mut(place).cast(), value) }
}
