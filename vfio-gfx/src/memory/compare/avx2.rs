//! Shared memory compared, stored and recognised with 256-bit registers: a tile is four of them.
//!
//! The memory may be written at any time by another thread, process or guest, so it is read with volatile accesses, each
//! byte once, into registers; nothing here is ever a reference into it.
#![expect(unsafe_code, reason = "filling vector registers from memory that is no slice")]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_add_epi64, _mm256_and_si256, _mm256_loadu_si256, _mm256_mul_epu32,
    _mm256_or_si256, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_srli_epi64, _mm256_storeu_si256,
    _mm256_testz_si256, _mm256_xor_si256,
};
use std::ptr;

use vm_memory::VolatileSlice;

use super::fingerprint::ROWS;
use super::{COLOURS, PIECE, TILE};

/// Pixels of a register.
const LANES: usize = size_of::<__m256i>() / size_of::<u32>();
/// Registers of a tile.
const REGISTERS: usize = TILE / LANES;

/// Brings whole tiles up to date and sets the bits of those that changed; returns how many pixels it looked at, which are 0
/// where the CPU has no AVX2 or the memory is not aligned to a register, and whether any changed.
pub(super) fn update_tiles(new: &VolatileSlice<'_>, shown: &mut [u32], changed: &mut [u64]) -> (usize, bool) {
    let memory = new.ptr_guard();
    let start = memory.as_ptr().cast::<__m256i>();
    if !start.is_aligned() || !is_x86_feature_detected!("avx2") {
        return (0, false);
    }
    let pixels = shown.len().min(new.len() / size_of::<u32>()).min(changed.len().saturating_mul(PIECE));
    let (tiles, _) = shown.as_chunks_mut::<TILE>();
    let tiles = tiles.get_mut(..pixels / TILE).unwrap_or_default();
    // SAFETY: the CPU has AVX2. `start` is aligned, and `new`, which is borrowed until we return, has the bytes of at least
    // `pixels` pixels, that is of all these tiles.
    let differs = unsafe { update(start, tiles, changed) };
    (tiles.len() * TILE, differs)
}

/// # Safety
/// `new` is aligned, and as many tiles as `shown` has can be read from there with volatile accesses.
#[target_feature(enable = "avx2")]
unsafe fn update(new: *const __m256i, shown: &mut [[u32; TILE]], changed: &mut [u64]) -> bool {
    let mut differs = false;
    let colours = _mm256_set1_epi32(COLOURS.cast_signed());
    let mut next = new;
    for (tiles, word) in shown.chunks_mut(u64::BITS as usize).zip(changed) {
        let mut found = 0;
        for (tile, bit) in tiles.iter_mut().zip(0..) {
            let mut registers = [_mm256_setzero_si256(); REGISTERS];
            for register in &mut registers {
                // SAFETY: the caller has memory for as many tiles as `shown` has, of so many registers each, and `next` has
                // come past fewer than that.
                let pixels = unsafe { next.read_volatile() };
                // SAFETY: for the same reason this is at most the end of the caller's memory.
                next = unsafe { next.add(1) };
                *register = _mm256_and_si256(pixels, colours);
            }
            found |= u64::from(store_if_new(&registers, tile)) << bit;
        }
        *word |= found;
        differs |= found != 0;
    }
    differs
}

/// Whether a tile changed; it is up to date afterwards.
#[target_feature(enable = "avx2")]
#[inline]
fn store_if_new(new: &[__m256i; REGISTERS], shown: &mut [u32; TILE]) -> bool {
    let (shown, _) = shown.as_chunks_mut::<LANES>();
    let mut differences = _mm256_setzero_si256();
    for (new, shown) in new.iter().zip(&*shown) {
        differences = _mm256_or_si256(differences, _mm256_xor_si256(*new, load(shown)));
    }
    let differs = _mm256_testz_si256(differences, differences) == 0;
    if differs {
        for (new, shown) in new.iter().zip(shown) {
            store(shown, *new);
        }
    }
    differs
}

/// The fingerprints of [`ROWS`] rows, `stride` bytes from one to the next, each of as many pixels as the key has words. `None` where
/// the CPU has no AVX2, or rows are not whole registers, each in its place.
pub(super) fn fingerprints(new: &VolatileSlice<'_>, stride: usize, key: &[u32]) -> Option<[u64; ROWS]> {
    let memory = new.ptr_guard();
    let start = memory.as_ptr().cast::<__m256i>();
    let (key, []) = key.as_chunks::<LANES>() else { return None };
    let end = stride.checked_mul(ROWS - 1)?.checked_add(size_of_val(key))?;
    let is_aligned = start.is_aligned() && stride.is_multiple_of(size_of::<__m256i>());
    if !is_aligned || end > new.len() || !is_x86_feature_detected!("avx2") {
        return None;
    }
    // SAFETY: the CPU has AVX2. `start` and so each row is aligned, and `new`, which is borrowed until we return, has all bytes of
    // the last of them, and so of the others.
    Some(unsafe { sums_of_rows(start, stride, key) })
}

/// The fingerprint of a row that is our own.
pub(super) fn fingerprint(row: &[u32], key: &[u32]) -> Option<u64> {
    let (row, []) = row.as_chunks::<LANES>() else { return None };
    let (key, _) = key.as_chunks::<LANES>();
    if row.len() > key.len() || !is_x86_feature_detected!("avx2") {
        return None;
    }
    // SAFETY: the CPU has AVX2.
    Some(unsafe { sum_of_row(row, key) })
}

/// # Safety
/// As many registers as `key` has can be read, with volatile accesses, from each of [`ROWS`] places, `stride` bytes from one to the
/// next, of which `new` is the first; all of them are aligned.
#[target_feature(enable = "avx2")]
unsafe fn sums_of_rows(new: *const __m256i, stride: usize, key: &[[u32; LANES]]) -> [u64; ROWS] {
    let colours = _mm256_set1_epi32(COLOURS.cast_signed());
    let mut sums = [_mm256_setzero_si256(); ROWS];
    for (column, key) in key.iter().enumerate() {
        let key = load(key);
        for (row, sum) in sums.iter_mut().enumerate() {
            // SAFETY: one of the registers of one of the rows, all of which the caller has.
            let place = unsafe { new.byte_add(row * stride + column * size_of::<__m256i>()) };
            // SAFETY: the same.
            let pixels = unsafe { place.read_volatile() };
            *sum = add_products(*sum, _mm256_and_si256(pixels, colours), key);
        }
    }
    sums.map(|sum| total(sum))
}

#[target_feature(enable = "avx2")]
fn sum_of_row(row: &[[u32; LANES]], key: &[[u32; LANES]]) -> u64 {
    let products = |sum, (pixels, key)| add_products(sum, load(pixels), load(key));
    total(row.iter().zip(key).fold(_mm256_setzero_si256(), products))
}

/// Adds four products, of two pixels each.
#[target_feature(enable = "avx2")]
#[inline]
fn add_products(sum: __m256i, pixels: __m256i, key: __m256i) -> __m256i {
    let even = _mm256_add_epi32(pixels, key);
    let odd = _mm256_srli_epi64::<32>(even);
    _mm256_add_epi64(sum, _mm256_mul_epu32(even, odd))
}

/// The sum of four sums.
#[target_feature(enable = "avx2")]
#[inline]
fn total(sums: __m256i) -> u64 {
    let mut halves = [0; LANES];
    store(&mut halves, sums);
    let (sums, _) = halves.as_chunks::<2>();
    sums.iter().fold(0, |all, [low, high]| all.wrapping_add(u64::from(*high) << 32 | u64::from(*low)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(pixels: &[u32; LANES]) -> __m256i {
    // SAFETY: a reference to 32 bytes, of which any alignment will do.
    unsafe { _mm256_loadu_si256(ptr::from_ref(pixels).cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(pixels: &mut [u32; LANES], value: __m256i) {
    // SAFETY: an exclusive reference to 32 bytes, of which any alignment and any value will do.
    unsafe { _mm256_storeu_si256(ptr::from_mut(pixels).cast(), value) }
}
