//! Rows that moved up or down: a text console or a page that scrolls is sent as one short message (RFB's CopyRect).
//!
//! Rows are known by hashes, so that no second picture is kept. A wrong match would show a wrong row; hashes of 64 bits make
//! that rarer than a fault of the machine, and a guest that constructs one cheats its own viewers only.

use std::collections::HashMap;

use crate::damage::{Damage, Rect, TILE};
use crate::frame::Frame;

/// Fewer rows than this are as well sent as pixels.
const FEWEST_ROWS: usize = 24;
/// Of the screen's tiles, one in so many has to have changed before it is worth looking.
const WORTH_LOOKING: u32 = 8;

/// Rows of the whole width of the screen that are now somewhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Where they are now.
    pub to: Rect,
    /// The first of them was in this row.
    pub from_y: u32,
}

/// The rows of the picture before, by their hashes.
#[derive(Debug, Default)]
pub struct Rows {
    width: u32,
    hashes: Vec<u64>,
    is_known: bool,
}

impl Rows {
    /// Looks for a move in a picture of which `damage` changed since the last call. `is_new`: it has nothing to do with the
    /// last one.
    pub fn update(&mut self, frame: &Frame, damage: &Damage, is_new: bool) -> Option<Move> {
        let height = frame.height() as usize;
        let is_known = self.is_known && !is_new && self.width == frame.width() && self.hashes.len() == height;
        let changed = damage.count();
        if changed == 0 && is_known {
            return None;
        }
        let tiles = damage.columns() * damage.rows();
        let before =
            (is_known && changed.saturating_mul(WORTH_LOOKING) >= tiles).then(|| self.hashes.clone());
        self.hashes.resize(height, 0);
        for ((y, row), hash) in (0..).zip(frame.rows()).zip(&mut self.hashes) {
            if !is_known || damage.has_row(y / TILE) {
                *hash = hash_of(row);
            }
        }
        (self.width, self.is_known) = (frame.width(), true);
        find(&before?, &self.hashes)
            .map(|(from, to, count)| Move { to: Rect::new(0, to, self.width, count), from_y: from })
    }

    /// What comes next has nothing to do with what was seen.
    pub fn forget(&mut self) {
        self.is_known = false;
    }
}

/// A hash at the speed of memory: four lanes, which depend on each other only at the end.
fn hash_of(row: &[u32]) -> u64 {
    // Odd, and without a pattern: the fractions of the golden ratio.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |lane: u64, word: u64| (lane ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let mut lanes = [1u64, 2, 3, 4];
    let (eights, rest) = row.as_chunks::<8>();
    for eight in eights {
        for (lane, [low, high]) in lanes.iter_mut().zip(eight.as_chunks::<2>().0) {
            *lane = mix(*lane, u64::from(*low) | (u64::from(*high) << 32));
        }
    }
    let rest = rest.iter().fold(row.len() as u64, |hash, pixel| mix(hash, (*pixel).into()));
    lanes.into_iter().fold(rest, mix)
}

/// The longest run of rows that moved: from where, to where, how many.
fn find(before: &[u64], now: &[u64]) -> Option<(u32, u32, u32)> {
    // Rows that are there once only can be told apart: blank ones cannot.
    let mut once: HashMap<u64, Option<usize>> = HashMap::new();
    for (y, hash) in before.iter().enumerate() {
        once.entry(*hash).and_modify(|place| *place = None).or_insert(Some(y));
    }
    let mut votes: HashMap<isize, usize> = HashMap::new();
    for (y, hash) in now.iter().enumerate() {
        if let Some(Some(was)) = once.get(hash)
            && let (Ok(y), Ok(was)) = (isize::try_from(y), isize::try_from(*was))
            && y != was
        {
            *votes.entry(was - y).or_default() += 1;
        }
    }
    let (&distance, _) = votes.iter().max_by_key(|(distance, count)| (**count, **distance))?;
    let mut best = (0, 0);
    let mut start = 0;
    for y in 0..=now.len() {
        let same =
            y < now.len() && y.checked_add_signed(distance).and_then(|was| before.get(was)) == now.get(y);
        if !same {
            if y - start > best.1 {
                best = (start, y - start);
            }
            start = y + 1;
        }
    }
    let (to, count) = best;
    let from = to.checked_add_signed(distance)?;
    if count < FEWEST_ROWS {
        return None;
    }
    Some((u32::try_from(from).ok()?, u32::try_from(to).ok()?, u32::try_from(count).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(first: u32, height: u32) -> Frame {
        let mut frame = Frame::new(64, height).unwrap();
        for (y, row) in (first..).zip(frame.rows_mut()) {
            row.fill((y * 7919) & 0xff_ffff);
        }
        frame
    }

    fn all(frame: &Frame) -> Damage {
        let mut damage = Damage::new(frame.width(), frame.height());
        damage.add_all();
        damage
    }

    #[test]
    fn a_page_that_scrolls_is_found_in_both_directions() {
        for (first, expected) in [
            (116, Move { to: Rect::new(0, 0, 64, 84), from_y: 16 }),
            (90, Move { to: Rect::new(0, 10, 64, 90), from_y: 0 }),
        ] {
            let mut rows = Rows::default();
            let (before, now) = (page(100, 100), page(first, 100));
            assert_eq!(rows.update(&before, &all(&before), true), None);
            assert_eq!(rows.update(&now, &all(&now), false), Some(expected));
            assert_eq!(rows.update(&now, &Damage::new(64, 100), false), None);
        }
    }

    /// Rows are taken for the same by their hashes: each bit of each pixel is in them.
    #[test]
    fn rows_that_differ_in_a_bit_are_not_the_same() {
        for width in [1, 2, 7, 8, 19] {
            let row: Vec<u32> = (0..width).map(|n| n * 0x0007_0503).collect();
            let mut seen = std::collections::HashSet::from([hash_of(&row)]);
            for (at, bit) in (0..row.len()).flat_map(|at| (0..24).map(move |bit| (at, bit))) {
                let mut other = row.clone();
                other[at] ^= 1 << bit;
                assert!(seen.insert(hash_of(&other)), "{width} pixels, pixel {at}, bit {bit}");
            }
        }
        assert_ne!(hash_of(&[0; 3]), hash_of(&[0; 4]));
    }

    #[test]
    fn of_two_moves_the_longer_one_is_told() {
        for (short, long) in [(1, 40), (40, 1)] {
            // Sixty rows go up by one distance, thirty below them by another.
            let before: Vec<u64> = (0..200).collect();
            let mut now: Vec<u64> = (1000..1200).collect();
            now[10..70].copy_from_slice(&before[10 + long..70 + long]);
            now[100..130].copy_from_slice(&before[100 + short..130 + short]);
            let found = find(&before, &now);
            assert_eq!(found, Some((u32::try_from(10 + long).unwrap(), 10, 60)));
        }
    }

    #[test]
    fn another_picture_is_no_move() {
        let mut rows = Rows::default();
        let before = page(0, 100);
        rows.update(&before, &all(&before), true);
        let other = page(5000, 100);
        assert_eq!(rows.update(&other, &all(&other), false), None);
        let blank = Frame::new(64, 100).unwrap();
        assert_eq!(rows.update(&blank, &all(&blank), false), None);
        let larger = page(5010, 120);
        assert_eq!(rows.update(&larger, &all(&larger), false), None);
        rows.forget();
        let moved = page(5030, 120);
        assert_eq!(rows.update(&moved, &all(&moved), false), None);
    }

    proptest! {
        #[test]
        fn what_is_found_is_true(before in proptest::collection::vec(0..40u64, 0..200), cut in 0..200usize, more in proptest::collection::vec(0..40u64, 0..60)) {
            let mut now: Vec<u64> = before.iter().skip(cut).copied().collect();
            now.extend(more);
            now.resize(before.len(), 0);
            if let Some((from, to, count)) = find(&before, &now) {
                let (from, to, count) = (from as usize, to as usize, count as usize);
                prop_assert!(from != to && count >= FEWEST_ROWS);
                prop_assert_eq!(&before[from..from + count], &now[to..to + count]);
            }
        }
    }
}
