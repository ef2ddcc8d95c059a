//! Tiles of shared memory compared and stored with 256-bit registers: a tile is four of them.
//!
//! The memory may be written at any time by another thread, process or guest, so it is read with volatile accesses, each
//! byte once, into registers; nothing here is ever a reference into it.
#![expect(unsafe_code, reason = "filling vector registers from memory that is no slice")]

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_loadu_si256, _mm256_or_si256, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_testz_si256, _mm256_xor_si256,
};
use std::ptr;

use vm_memory::VolatileSlice;

use super::{COLOURS, PIECE, TILE};

/// Pixels of a register.
const LANES: usize = size_of::<__m256i>() / size_of::<u32>();
/// Registers of a tile.
const REGISTERS: usize = TILE / LANES;

/// Brings whole tiles up to date and sets the bits of those that changed; returns how many pixels that were, which are 0
/// where the CPU has no AVX2 or the memory is not aligned to a register.
pub(super) fn update_tiles(new: &VolatileSlice<'_>, shown: &mut [u32], changed: &mut [u64]) -> usize {
    let memory = new.ptr_guard();
    let start = memory.as_ptr().cast::<__m256i>();
    if !start.is_aligned() || !is_x86_feature_detected!("avx2") {
        return 0;
    }
    let pixels = shown.len().min(new.len() / size_of::<u32>()).min(changed.len().saturating_mul(PIECE));
    let (tiles, _) = shown.as_chunks_mut::<TILE>();
    let tiles = tiles.get_mut(..pixels / TILE).unwrap_or_default();
    // SAFETY: the CPU has AVX2. `start` is aligned, and `new`, which is borrowed until we return, has the bytes of at least
    // `pixels` pixels, that is of all these tiles.
    unsafe { update(start, tiles, changed) };
    tiles.len() * TILE
}

/// # Safety
/// `new` is aligned, and as many tiles as `shown` has can be read from there with volatile accesses.
#[target_feature(enable = "avx2")]
unsafe fn update(new: *const __m256i, shown: &mut [[u32; TILE]], changed: &mut [u64]) {
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
    }
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
