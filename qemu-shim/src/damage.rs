//! What changed on a screen, in tiles.
//!
//! A tile is the smallest thing that is said to have changed: small enough that a blinking cursor costs little, large enough
//! that the map of a 4K screen is a kilobyte. Whoever needs rectangles gets them merged.
#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

/// Side of a tile, in pixels.
pub const TILE: u32 = 32;

// Rows are compared, and their bits set, by that tile.
const _: () = assert!(TILE as usize == vfio_gfx::memory::compare::TILE);

/// A rectangle of pixels, inside some screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Left edge, in pixels from the left.
    pub x: u32,
    /// Top edge, in pixels from the top.
    pub y: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

impl Rect {
    /// A rectangle.
    #[must_use]
    pub const fn new(x: u32, y: u32, width: u32, height: u32) -> Self {
        Self { x, y, width, height }
    }

    /// Whether it holds no pixel.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// The part inside a screen of this size; empty when there is none.
    #[must_use]
    pub fn clipped(&self, width: u32, height: u32) -> Self {
        let (x, y) = (self.x.min(width), self.y.min(height));
        Self { x, y, width: self.width.min(width - x), height: self.height.min(height - y) }
    }

    /// Pixels in it.
    #[must_use]
    pub fn area(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

/// The tiles of a screen that changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    width: u32,
    height: u32,
    /// One bit per tile, row after row, each row in words of its own.
    words: Vec<u64>,
}

impl Damage {
    /// A screen of this size, in pixels, on which nothing changed.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        let mut damage = Self::default();
        damage.resize(width, height);
        damage
    }

    /// Makes it a map of a screen of this size on which nothing changed.
    pub fn resize(&mut self, width: u32, height: u32) {
        (self.width, self.height) = (width, height);
        self.words.clear();
        self.words.resize(self.row_words() * self.rows() as usize, 0);
    }

    /// Width and height of the screen, in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Tiles per row.
    #[must_use]
    pub fn columns(&self) -> u32 {
        self.width.div_ceil(TILE)
    }

    /// Rows of tiles.
    #[must_use]
    pub fn rows(&self) -> u32 {
        self.height.div_ceil(TILE)
    }

    fn row_words(&self) -> usize {
        self.columns().div_ceil(u64::BITS) as usize
    }

    /// Forgets what changed.
    pub fn clear(&mut self) {
        self.words.fill(0);
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Tiles that changed.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Everything changed.
    pub fn add_all(&mut self) {
        self.add(Rect::new(0, 0, self.width, self.height));
    }

    /// A tile changed; one that is not on the screen is ignored.
    pub fn add_tile(&mut self, column: u32, row: u32) {
        if column < self.columns() {
            let at = self.row_words() * row as usize + (column / u64::BITS) as usize;
            if let Some(word) = self.words.get_mut(at) {
                *word |= 1 << (column % u64::BITS);
            }
        }
    }

    /// Whether a tile changed.
    #[must_use]
    pub fn has_tile(&self, column: u32, row: u32) -> bool {
        let at = self.row_words() * row as usize + (column / u64::BITS) as usize;
        column < self.columns()
            && self.words.get(at).is_some_and(|word| word >> (column % u64::BITS) & 1 == 1)
    }

    /// A row of tiles as bits, the leftmost tile in bit 0 of the first word: for whoever finds tiles in passing. Bits beyond
    /// the last column must stay 0. Empty for a row that is not on the screen.
    pub fn row_mut(&mut self, row: u32) -> &mut [u64] {
        let start = self.row_words() * row as usize;
        let end = start + self.row_words();
        self.words.get_mut(start..end).unwrap_or_default()
    }

    /// All rows of tiles as bits, one after the other, each as [`Damage::row_mut`] has it.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words
    }

    /// Whether any tile of a row of tiles changed.
    #[must_use]
    pub fn has_row(&self, row: u32) -> bool {
        let words = self.words.chunks(self.row_words().max(1)).nth(row as usize);
        words.is_some_and(|words| words.iter().any(|word| *word != 0))
    }

    /// Every tile that a rectangle touches changed; what is off the screen is ignored.
    pub fn add(&mut self, rect: Rect) {
        let rect = rect.clipped(self.width, self.height);
        if rect.is_empty() {
            return;
        }
        for row in rect.y / TILE..=(rect.y + rect.height - 1) / TILE {
            for column in rect.x / TILE..=(rect.x + rect.width - 1) / TILE {
                self.add_tile(column, row);
            }
        }
    }

    /// What changed there changed here too. A map of another size says that everything did.
    pub fn merge(&mut self, other: &Self) {
        if self.size() != other.size() {
            self.add_all();
            return;
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
    }

    /// What changed inside a rectangle, taken out of this map into another of the same size. Tiles that only overlap the
    /// rectangle are taken whole.
    #[must_use]
    pub fn take(&mut self, rect: Rect) -> Self {
        let mut wanted = Self::new(self.width, self.height);
        wanted.add(rect);
        for (mine, taken) in self.words.iter_mut().zip(&mut wanted.words) {
            *taken &= *mine;
            *mine &= !*taken;
        }
        wanted
    }

    /// What changed as rectangles that do not overlap, from top to bottom: runs of tiles, and equal runs of the rows below
    /// in one.
    #[must_use]
    pub fn rects(&self) -> Vec<Rect> {
        let mut done: Vec<Rect> = Vec::new();
        // Of the row above: those that may still grow.
        let mut open: Vec<Rect> = Vec::new();
        for row in 0..self.rows() {
            let mut runs = Vec::new();
            let mut column = 0;
            while column < self.columns() {
                if !self.has_tile(column, row) {
                    column += 1;
                    continue;
                }
                let start = column;
                while self.has_tile(column, row) {
                    column += 1;
                }
                let tiles = Rect::new(start * TILE, row * TILE, (column - start) * TILE, TILE);
                runs.push(tiles.clipped(self.width, self.height));
            }
            for run in &mut runs {
                let above = open.iter().position(|above| (above.x, above.width) == (run.x, run.width));
                if let Some(above) = above {
                    let above = open.swap_remove(above);
                    *run = Rect { y: above.y, height: above.height + run.height, ..*run };
                }
            }
            done.append(&mut open);
            open = runs;
        }
        done.append(&mut open);
        done.sort_by_key(|rect| (rect.y, rect.x));
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_pixel_is_a_tile_and_the_last_one_is_cut() {
        let mut damage = Damage::new(70, 40);
        damage.add(Rect::new(69, 39, 1, 1));
        assert_eq!(damage.rects(), [Rect::new(64, 32, 6, 8)]);
        damage.add_all();
        assert_eq!(damage.rects(), [Rect::new(0, 0, 70, 40)]);
        assert_eq!(damage.count(), 6);
    }

    #[test]
    fn what_is_off_the_screen_is_ignored() {
        let mut damage = Damage::new(64, 64);
        damage.add(Rect::new(64, 0, 10, 10));
        damage.add(Rect::new(u32::MAX, u32::MAX, u32::MAX, u32::MAX));
        damage.add(Rect::new(5, 5, 0, 7));
        damage.add_tile(2, 0);
        damage.add_tile(0, u32::MAX);
        assert!(damage.is_empty());
        Damage::new(0, 0).add_all();
    }

    proptest! {
        #[test]
        fn rectangles_cover_just_the_tiles(width in 0..5000u32, height in 0..400u32,
                                           tiles in proptest::collection::vec((0..160u32, 0..14u32), 0..60)) {
            let mut damage = Damage::new(width, height);
            for (column, row) in &tiles {
                damage.add_tile(*column, *row);
            }
            let rects = damage.rects();
            let mut again = Damage::new(width, height);
            let mut area = 0;
            for rect in &rects {
                prop_assert!(!rect.is_empty() && *rect == rect.clipped(width, height));
                again.add(*rect);
                area += rect.area();
            }
            prop_assert_eq!(&again, &damage);
            let tiles = (0..damage.rows()).flat_map(|row| (0..damage.columns()).map(move |column| (column, row)));
            let expected: u64 = tiles.filter(|(column, row)| damage.has_tile(*column, *row))
                .map(|(column, row)| Rect::new(column * TILE, row * TILE, TILE, TILE).clipped(width, height).area()).sum();
            prop_assert_eq!(area, expected);
        }

        #[test]
        fn what_is_taken_is_gone(x in 0..200u32, y in 0..200u32, width in 0..200u32, height in 0..200u32) {
            let mut damage = Damage::new(150, 150);
            damage.add_all();
            let all = damage.clone();
            let taken = damage.take(Rect::new(x, y, width, height));
            for row in 0..damage.rows() {
                for column in 0..damage.columns() {
                    prop_assert!(taken.has_tile(column, row) != damage.has_tile(column, row));
                }
            }
            damage.merge(&taken);
            prop_assert_eq!(damage, all);
        }
    }
}
