//! A picture that does not change, recognised by reading it alone.
//!
//! Comparing reads what is there and what was seen, and at rest nearly all of the time goes by until they have come from
//! memory. A number that stands for a row halves what has to come. It is NH, the function that UMAC is built on (RFC 4418,
//! section 5.2.2): to each pixel a secret word is added, and the products of each two are summed up. Two different rows have
//! the same number with at most one key of 2³². Nor is that relied on for long: every [`LOOKS`] looks each row is compared.
//!
//! Several rows are read side by side, because a CPU fetches ahead in many pages at once, but not beyond the end of one.

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::avx2;
use super::{Mapping, MappingError, TILE, words};

/// Every row of a picture is compared once in so many looks, whatever its fingerprint says.
pub const LOOKS: usize = 16;

/// Rows that are read side by side. Of 1, 2, 4 and 8 the last was the fastest, by a third to the first.
pub(super) const ROWS: usize = 8;

/// What was seen of a picture: a number for each row that was found unchanged; see [`Mapping::update_rows`].
pub struct Fingerprints {
    width: usize,
    /// `None` = has to be compared: it changed when it was last looked at, or was not seen yet.
    rows: Vec<Option<u64>>,
    look: usize,
    secret: RandomState,
    /// The secret words, as many as a row has pixels.
    key: Vec<u32>,
}

impl std::fmt::Debug for Fingerprints {
    // The key is not for logs, and there is too much of the rest.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fingerprints").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

impl Default for Fingerprints {
    fn default() -> Self {
        Self { width: 0, rows: Vec::new(), look: 0, secret: RandomState::new(), key: Vec::new() }
    }
}

impl Fingerprints {
    /// Forgets what was seen; from now on for a picture of this size, in pixels.
    pub fn resize(&mut self, width: usize, height: usize) {
        self.width = width;
        self.rows.clear();
        self.rows.resize(height, None);
        let secret = &self.secret;
        self.key.truncate(width);
        #[expect(clippy::cast_possible_truncation, reason = "half of a keyed hash is a keyed hash")]
        self.key.extend((self.key.len()..width).map(|at| secret.hash_one(at) as u32));
    }

    /// Forgets what was seen: for whoever writes to the picture himself.
    pub fn clear(&mut self) {
        self.rows.fill(None);
    }

    /// A new look begins. One row in [`LOOKS`] will be compared, whatever its fingerprint says.
    pub fn start_look(&mut self) {
        self.look = (self.look + 1) % LOOKS;
        let part = self.rows.len().div_ceil(LOOKS).max(1);
        if let Some(rows) = self.rows.chunks_mut(part).nth(self.look) {
            rows.fill(None);
        }
    }
}

impl Mapping {
    /// Brings rows of a picture up to date with XRGB8888 pixels (32 bits, little-endian) in this memory, and sets the bit of each
    /// tile that changed. The picture has the size that `seen` was given.
    ///
    /// * `offset`, `stride`: where its first row begins, and bytes from one row to the next.
    /// * `shown`: all of the picture as it was seen, row after row. The top byte of a pixel, which means nothing, is zero before
    ///   and after.
    /// * `changed`: a bit for each tile of [`TILE`] by [`TILE`] pixels, [`words`] words for each row of tiles; tile *n* of a row is
    ///   bit *n* % 64 of its word *n* / 64. Bits are set and never cleared.
    /// * `seen`: what is known of `shown`. Whoever writes to that himself says so with [`Fingerprints::clear`].
    ///
    /// Rows that are not in the picture, and such without bits, are left out. Rows that are what they were are read once, and
    /// `shown` is not, where the memory is mapped, the CPU has AVX2, and rows begin and end at multiples of 32 bytes; others
    /// are compared.
    ///
    /// # Errors
    /// [`MappingError`]; some rows may be up to date then.
    pub fn update_rows(
        &self,
        offset: u64,
        stride: u64,
        rows: Range<usize>,
        shown: &mut [u32],
        changed: &mut [u64],
        seen: &mut Fingerprints,
    ) -> Result<(), MappingError> {
        let width = seen.width;
        if width == 0 {
            return Ok(());
        }
        let end = rows.end.min(seen.rows.len());
        let mut first = rows.start;
        while first < end {
            let group = first..end.min(first.saturating_add(ROWS));
            first = group.end;
            let start = |y: usize| offset.saturating_add(stride.saturating_mul(y as u64));
            let known = seen.rows.get(group.clone()).unwrap_or_default();
            let same = self.same_rows(start(group.start), stride, known, &seen.key)?;
            for (y, _) in group.zip(same).filter(|(_, same)| !same) {
                let shown = shown.get_mut(y.saturating_mul(width)..).and_then(|shown| shown.get_mut(..width));
                let changed = changed.chunks_mut(words(width)).nth(y / TILE);
                let (Some(shown), Some(changed), Some(known)) = (shown, changed, seen.rows.get_mut(y)) else {
                    return Ok(());
                };
                // Not known while it is brought up to date, nor if that fails.
                let before = known.take();
                if !self.update_row(start(y), shown, changed)? && self.is_mapped() {
                    *known = before.or_else(|| fingerprint(shown, &seen.key));
                }
            }
        }
        Ok(())
    }

    /// Which of [`ROWS`] rows are known to be what they were: none where it takes longer to find out than to compare them.
    fn same_rows(
        &self,
        start: u64,
        stride: u64,
        known: &[Option<u64>],
        key: &[u32],
    ) -> Result<[bool; ROWS], MappingError> {
        let unknown = [false; ROWS];
        let Ok(known) = <&[Option<u64>; ROWS]>::try_from(known) else { return Ok(unknown) };
        let Ok(stride) = usize::try_from(stride) else { return Ok(unknown) };
        if known.iter().all(Option::is_none) {
            return Ok(unknown);
        }
        let Some(now) = self.fingerprints(start, stride, key)? else { return Ok(unknown) };
        let mut same = unknown;
        for ((same, known), now) in same.iter_mut().zip(known).zip(now) {
            *same = *known == Some(now);
        }
        Ok(same)
    }

    /// The fingerprints of [`ROWS`] rows as they are now; `None` where there is no quick way to them.
    #[cfg(target_arch = "x86_64")]
    fn fingerprints(
        &self,
        start: u64,
        stride: usize,
        key: &[u32],
    ) -> Result<Option<[u64; ROWS]>, MappingError> {
        let len = stride.saturating_mul(ROWS - 1).saturating_add(size_of_val(key));
        Ok(self.slice(start, len)?.and_then(|rows| avx2::fingerprints(&rows, stride, key)))
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn fingerprints(&self, _: u64, _: usize, _: &[u32]) -> Result<Option<[u64; ROWS]>, MappingError> {
        Ok(None)
    }
}

/// The fingerprint of a row that was seen.
#[cfg(target_arch = "x86_64")]
fn fingerprint(shown: &[u32], key: &[u32]) -> Option<u64> {
    avx2::fingerprint(shown, key)
}

#[cfg(not(target_arch = "x86_64"))]
fn fingerprint(_: &[u32], _: &[u32]) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::COLOURS;
    use super::*;
    use crate::memory::{BufferKind, PAGE_SIZE, Vram};

    /// A device's memory and a picture of it.
    struct Screen {
        vram: Vram,
        mapping: Mapping,
        width: usize,
        /// Bytes.
        stride: usize,
        shown: Vec<u32>,
        changed: Vec<u64>,
        seen: Fingerprints,
    }

    impl Screen {
        fn new(width: usize, height: usize) -> Self {
            Self::with_stride(width, height, width * 4)
        }

        fn with_stride(width: usize, height: usize, stride: usize) -> Self {
            let size = ((stride * height) as u64).next_multiple_of(PAGE_SIZE).max(PAGE_SIZE);
            let vram = Vram::new("test", size).unwrap();
            let mapping = Mapping::new(vram.reopen_read_only().unwrap(), BufferKind::Memfd, size).unwrap();
            let mut seen = Fingerprints::default();
            seen.resize(width, height);
            let changed = vec![0; words(width) * height.div_ceil(TILE)];
            Self { vram, mapping, width, stride, shown: vec![0; width * height], changed, seen }
        }

        fn write(&self, pixel: usize, value: u32) {
            let at = pixel / self.width * self.stride + pixel % self.width * 4;
            self.vram.write(at as u64, &value.to_le_bytes()).unwrap();
        }

        /// A look at some rows: numbers of the tiles that it found changed.
        fn look_at(&mut self, rows: Range<usize>) -> Vec<usize> {
            self.changed.fill(0);
            let Self { stride, shown, changed, seen, .. } = self;
            self.mapping.update_rows(0, *stride as u64, rows, shown, changed, seen).unwrap();
            (0..self.changed.len() * 64).filter(|at| self.changed[at / 64] >> (at % 64) & 1 == 1).collect()
        }

        fn look(&mut self) -> Vec<usize> {
            self.seen.start_look();
            self.look_at(0..usize::MAX)
        }

        fn known(&self) -> usize {
            self.seen.rows.iter().flatten().count()
        }
    }

    /// NH as its specification has it.
    fn by_the_book(pixels: &[u32], key: &[u32]) -> u64 {
        let pairs = pixels.chunks(2).zip(key.chunks(2));
        pairs.fold(0, |sum: u64, (pixels, key)| {
            let [a, b] = [0, 1].map(|at| u64::from(pixels[at].wrapping_add(key[at])));
            sum.wrapping_add(a * b)
        })
    }

    fn has_avx2() -> bool {
        fingerprint(&[0; 8], &[0; 8]).is_some()
    }

    #[test]
    fn what_rests_is_known_and_what_changes_is_not() {
        let mut screen = Screen::new(64, 32);
        let all = if has_avx2() { 32 } else { 0 };
        assert_eq!((screen.look(), screen.known()), (vec![], all));
        screen.write(64 * 7 + 33, 0xff12_3456);
        assert_eq!((screen.look(), screen.shown[64 * 7 + 33]), (vec![1], 0x0012_3456));
        assert_eq!(screen.known(), all.saturating_sub(1));
        screen.write(64 * 7 + 33, 0xaa12_3456);
        assert_eq!((screen.look(), screen.known()), (vec![], all), "the unused byte does not count");
    }

    #[test]
    fn what_a_fingerprint_misses_is_found_by_and_by() {
        let mut screen = Screen::new(32, 160);
        screen.look();
        // As if every pixel had changed, and no number had.
        screen.shown.fill(0x77);
        let right = |screen: &Screen| screen.shown.iter().filter(|pixel| **pixel == 0).count() / 32;
        for look in 1..=LOOKS {
            screen.look();
            if has_avx2() {
                assert_eq!(right(&screen), look * 10, "a sixteenth at each look");
            }
        }
        assert_eq!(right(&screen), 160);
    }

    #[test]
    fn only_rows_that_were_asked_for_are_looked_at() {
        let mut screen = Screen::new(40, 70);
        for _ in 0..3 {
            (0..40 * 70).for_each(|at| screen.write(at, screen.shown[0] + 1));
            assert_eq!(screen.look_at(33..65), [64, 65, 128, 129]);
            let rows: Vec<bool> =
                screen.shown.chunks(40).map(|row| row[39] == screen.shown[33 * 40]).collect();
            assert_eq!(rows.iter().filter(|is_new| **is_new).count(), 32);
            assert!(rows[33..65].iter().all(|is_new| *is_new));
            screen.look();
        }
        assert!(screen.look_at(70..71).is_empty());
        assert!(screen.look_at(usize::MAX..usize::MAX).is_empty());
    }

    #[test]
    fn what_has_no_place_is_left_out() {
        let mut screen = Screen::new(32, 64);
        (0..32 * 64).for_each(|at| screen.write(at, 5));
        screen.changed.truncate(1);
        assert_eq!(screen.look(), [0]);
        assert_eq!(screen.shown.iter().filter(|pixel| **pixel == 5).count(), 32 * 32);
        let mut screen = Screen::new(32, 64);
        (0..32 * 64).for_each(|at| screen.write(at, 5));
        screen.shown.truncate(32 * 40 + 31);
        assert_eq!(screen.look(), [0, 64]);
        assert_eq!(screen.shown.iter().filter(|pixel| **pixel == 5).count(), 32 * 40);
        Screen::new(0, 9).look();
    }

    #[test]
    fn what_leaves_the_memory_is_an_error() {
        let mut screen = Screen::new(32, 32);
        (0..).zip(0..32 * 32).for_each(|(at, value)| screen.write(at, value));
        screen.look();
        let there = screen.shown.clone();
        for (offset, stride) in
            [(1, 128), (0, 129), (4096, 0), (u64::MAX, 1), (0, u64::MAX), (0, u64::MAX - 127)]
        {
            let Screen { mapping, shown, changed, seen, .. } = &mut screen;
            assert!(
                mapping.update_rows(offset, stride, 0..32, shown, changed, seen).is_err(),
                "{offset} {stride}"
            );
            screen.look();
            assert_eq!(screen.shown, there, "some of it was read, and is not what the next look finds");
        }
    }

    #[test]
    fn keys_differ() {
        let [mut a, mut b] = [Fingerprints::default(), Fingerprints::default()];
        a.resize(100, 1);
        b.resize(100, 1);
        assert_ne!(a.key, b.key);
        let before = a.key.clone();
        a.resize(50, 1);
        a.resize(100, 1);
        assert_eq!(a.key, before, "words are those of their place");
    }

    proptest! {
        #[test]
        fn a_number_is_that_of_the_book(pixels in prop::collection::vec(any::<u32>(), 1..60), at in 0..8usize,
                                        difference in 1..=COLOURS, padding in 0..3usize) {
            prop_assume!(has_avx2());
            let width = pixels.len() * 8;
            let mut screen = Screen::with_stride(width, ROWS, width * 4 + padding * 32);
            let pixel = |x: usize, y: usize| pixels[x / 8].wrapping_mul(1 << (x % 8)).wrapping_add(1 << y);
            for (y, x) in (0..ROWS).flat_map(|y| (0..width).map(move |x| (y, x))) {
                screen.write(y * width + x, pixel(x, y));
            }
            screen.look();
            screen.seen.clear();
            screen.look();
            let key = screen.seen.key.clone();
            let expected: Vec<u64> = screen.shown.chunks(width).map(|row| by_the_book(row, &key)).collect();
            prop_assert_eq!(screen.seen.rows, expected.iter().map(|sum| Some(*sum)).collect::<Vec<_>>());
            let found = screen.mapping.fingerprints(0, screen.stride, &key).unwrap();
            prop_assert_eq!(found.map(|found| found.to_vec()), Some(expected.clone()));
            screen.shown[width - 1 - at] ^= difference;
            prop_assert_ne!(by_the_book(&screen.shown[..width], &key), expected[0]);
        }
    }

    proptest! {
        // Each looks at many pictures.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn looks_show_what_is_there(width in prop_oneof![1..200usize, 2040..2060usize, Just(4104)], height in 1..70usize,
                                    looks in prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 0..3),
                                                                   1..20)) {
            let mut screen = Screen::new(width, height);
            let mut there = screen.shown.clone();
            for drawn in looks {
                let mut changed: Vec<usize> = Vec::new();
                for (at, value) in drawn {
                    let at = at.index(there.len());
                    there[at] = value & COLOURS;
                    screen.write(at, value);
                    if there[at] != screen.shown[at] {
                        changed.push(at / width / TILE * words(width) * 64 + at % width / TILE);
                    }
                }
                changed.sort_unstable();
                changed.dedup();
                prop_assert_eq!(screen.look(), changed);
                prop_assert_eq!(&screen.shown, &there);
            }
        }
    }
}
