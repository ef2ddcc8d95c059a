//! Bringing a copy of pixels up to date with memory that somebody else writes, and learning what changed.
//!
//! A console that looks at a screen again has nearly always nothing to do, and must find that out at the speed of
//! `memcmp(3)`; a video that fills the screen must cost no more than `memcpy(3)`. So pixels are compared and stored in one
//! pass: each is read once from the shared memory, and what was compared is what is stored, whatever its owner writes
//! meanwhile.
//!
//! What changed is told in tiles of [`TILE`] pixels, one bit each, 64 to a word. Bits are set and never cleared, so the rows
//! of a square tile can share a bit.
//!
//! Where the CPU has AVX2 and the memory is mapped, registers are filled straight from it. Everywhere else pixels are
//! copied out in pieces small enough for the first-level cache and compared there, which was measured to take a third
//! longer.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod fingerprint;

pub use fingerprint::{Fingerprints, LOOKS};

use zerocopy::IntoBytes;

use super::{Mapping, MappingError};

/// Pixels of a row whose change is told by one bit.
pub const TILE: usize = 32;

/// Pixels of a row whose changes are told by one word.
const PIECE: usize = TILE * u64::BITS as usize;

/// Pixels that are copied out at a time, whole tiles of 2 KiB together. Of 2, 4 and 8 KiB the first was the fastest.
const BUFFER: usize = 16 * TILE;

/// What counts in a pixel: red, green and blue.
const COLOURS: u32 = 0x00ff_ffff;

impl Mapping {
    /// Brings one row up to date, as [`Mapping::update_rows`] does with each, without asking what is known of it. Returns whether
    /// it changed. `changed` needs [`words`] words: pixels whose change could not be told are not updated.
    fn update_row(&self, offset: u64, shown: &mut [u32], changed: &mut [u64]) -> Result<bool, MappingError> {
        let (done, differs) = self.update_tiles(offset, shown, changed)?;
        let offset = offset.saturating_add((done * size_of::<u32>()) as u64);
        match shown.get_mut(done..) {
            None | Some([]) => Ok(differs),
            Some(rest) => Ok(self.update_buffered(offset, rest, changed, done / TILE)? || differs),
        }
    }

    /// The portable way, for tiles of which the first is number `first` of its row.
    fn update_buffered(
        &self,
        mut offset: u64,
        shown: &mut [u32],
        changed: &mut [u64],
        first: usize,
    ) -> Result<bool, MappingError> {
        let mut buffer = [0; BUFFER];
        let mut differs = false;
        for (shown, first) in shown.chunks_mut(BUFFER).zip((first..).step_by(BUFFER / TILE)) {
            let Some(new) = buffer.get_mut(..shown.len()) else { break };
            self.read(offset, new.as_mut_bytes())?;
            new.iter_mut().for_each(|pixel| *pixel = u32::from_le(*pixel) & COLOURS);
            differs |= update_from(new, shown, changed, first);
            offset = offset.saturating_add(shown.as_bytes().len() as u64);
        }
        Ok(differs)
    }

    /// As much of a row as the fast way can do: a number of pixels, in whole tiles; and whether any changed.
    fn update_tiles(
        &self,
        offset: u64,
        shown: &mut [u32],
        changed: &mut [u64],
    ) -> Result<(usize, bool), MappingError> {
        #[cfg(target_arch = "x86_64")]
        if let Some(new) = self.slice(offset, shown.as_bytes().len())? {
            return Ok(avx2::update_tiles(&new, shown, changed));
        }
        Ok((0, false))
    }
}

/// The same as [`Mapping::update_rows`] for a row of pixels that are this process's own, such as one that was converted from
/// another format: as many as there are in both. The top byte of each is zero.
pub fn update_row(new: &[u32], shown: &mut [u32], changed: &mut [u64]) {
    update_from(new, shown, changed, 0);
}

/// Words that tell of the tiles of a row of this many pixels.
#[must_use]
pub const fn words(pixels: usize) -> usize {
    pixels.div_ceil(PIECE)
}

/// Updates tiles, the first of which is number `first` of its row. Returns whether any changed.
fn update_from(new: &[u32], shown: &mut [u32], changed: &mut [u64], first: usize) -> bool {
    let mut any = false;
    for ((new, shown), tile) in new.chunks(TILE).zip(shown.chunks_mut(TILE)).zip(first..) {
        let Some(word) = changed.get_mut(tile / 64) else { break };
        // Whole tiles have a length that the compiler knows, and become a few vector instructions.
        let differs = match (<&[u32; TILE]>::try_from(new), <&mut [u32; TILE]>::try_from(&mut *shown)) {
            (Ok(new), Ok(shown)) => update_tile(new, shown),
            _ => update_tile(new, shown),
        };
        *word |= u64::from(differs) << (tile % 64);
        any |= differs;
    }
    any
}

/// Whether a tile changed; it is up to date afterwards.
#[inline(always)]
fn update_tile(new: &[u32], shown: &mut [u32]) -> bool {
    let differs = new.iter().zip(&*shown).fold(0, |all, (new, shown)| all | (new ^ shown)) != 0;
    if differs {
        for (shown, new) in shown.iter_mut().zip(new) {
            *shown = *new;
        }
    }
    differs
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::OwnedFd;

    use proptest::prelude::*;

    use super::*;
    use crate::memory::{BufferKind, PAGE_SIZE, Vram};

    /// The same bytes mapped and read call by call.
    fn both(bytes: &[u8]) -> [Mapping; 2] {
        let size = (bytes.len() as u64).next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
        let vram = Vram::new("test", size).unwrap();
        vram.write(0, bytes).unwrap();
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, 0).unwrap();
        file.set_len(size).unwrap();
        let open = |fd: OwnedFd| Mapping::new(fd, BufferKind::Memfd, size).unwrap();
        [open(vram.reopen_read_only().unwrap()), open(File::into(file))]
    }

    #[test]
    fn the_unused_byte_does_not_count() {
        for mapping in both(&[3, 2, 1, 0xff, 6, 5, 4, 0x80]) {
            let (mut shown, mut changed) = ([0x01_0203, 0x04_0506], [0]);
            mapping.update_row(0, &mut shown, &mut changed).unwrap();
            assert_eq!((shown, changed), ([0x01_0203, 0x04_0506], [0]));
        }
    }

    #[test]
    fn one_pixel_is_one_tile_wherever_it_is() {
        for at in [0, 31, 32, 63 * 32, 64 * 32, 2499] {
            let mut bytes = vec![0; 2500 * 4];
            bytes[at * 4 + 1] = 9;
            for mapping in both(&bytes) {
                let (mut shown, mut changed) = (vec![0; 2500], vec![0; words(2500)]);
                mapping.update_row(0, &mut shown, &mut changed).unwrap();
                let tiles: u32 = changed.iter().map(|word| word.count_ones()).sum();
                assert_eq!((tiles, changed[at / 32 / 64] >> (at / 32 % 64) & 1), (1, 1), "{at}");
                assert_eq!(shown[at], 0x0900);
            }
        }
    }

    #[test]
    fn pixels_without_a_bit_are_left() {
        for mapping in both(&[1; 4096 * 4]) {
            let (mut shown, mut changed) = (vec![0; 2500], [0]);
            mapping.update_row(0, &mut shown, &mut changed).unwrap();
            assert_eq!(changed, [u64::MAX]);
            let updated = shown.iter().take_while(|pixel| **pixel == 0x01_0101).count();
            assert_eq!((updated, shown[2048..].iter().max()), (2048, Some(&0)));
        }
    }

    #[test]
    fn what_leaves_the_memory_is_an_error() {
        for mapping in both(&[0; 4096]) {
            let mut changed = [0; 1];
            for offset in [4096 - 4 * 32 + 1, 4096, u64::MAX, u64::MAX - 127] {
                assert!(mapping.update_row(offset, &mut [0; 32], &mut changed).is_err(), "{offset:#x}");
            }
            mapping.update_row(4096 - 128, &mut [0; 32], &mut changed).unwrap();
            mapping.update_row(4096, &mut [], &mut []).unwrap();
        }
    }

    proptest! {
        #[test]
        fn every_way_gives_the_same(offset in prop_oneof![Just(0usize), Just(64), 0..200usize], width in 0..2300usize,
                                    pixels in prop::collection::vec(any::<u32>(), 2400),
                                    flips in prop::collection::vec((0..2400usize, 0..32u32), 0..9), set in any::<u64>()) {
            let mut bytes = vec![0xaa; offset];
            bytes.extend(pixels.iter().flat_map(|pixel| pixel.to_le_bytes()));
            let new: Vec<u32> = pixels.iter().take(width).map(|pixel| pixel & COLOURS).collect();
            let mut before = new.clone();
            let mut expected = vec![set; words(width)];
            for (at, bit) in flips {
                if let Some(pixel) = before.get_mut(at) {
                    *pixel = (*pixel ^ 1 << bit) & COLOURS;
                }
            }
            for (at, _) in before.iter().zip(&new).enumerate().filter(|(_, (before, new))| before != new) {
                expected[at / 32 / 64] |= 1 << (at / 32 % 64);
            }
            for mapping in both(&bytes) {
                let (mut shown, mut changed) = (before.clone(), vec![set; words(width)]);
                mapping.update_row(offset as u64, &mut shown, &mut changed).unwrap();
                prop_assert_eq!((&shown, &changed), (&new, &expected));
            }
            let (mut shown, mut changed) = (before, vec![set; words(width)]);
            update_row(&new, &mut shown, &mut changed);
            prop_assert_eq!((&shown, &changed), (&new, &expected));
        }
    }
}
