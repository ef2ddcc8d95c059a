//! A rectangle in areas of one colour and the rest.
//!
//! A fill costs 16 bytes and no compression, so it is worth looking for. It is looked for in square tiles, row by row of
//! tiles; equal neighbours become one area. Few tiles in a row are left with what is around them: each further rectangle costs
//! a header and a block of codes.

use super::super::rect::rows;
use crate::{Frame, Rect};

/// Side of a tile, in pixels.
const TILE: u32 = 32;

/// Fewest tiles in a row that are an area of their own.
const LEAST_TILES: u32 = 8;

/// The largest block there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// In pixels.
    pub(super) width: u32,
    /// In pixels.
    pub(super) area: u32,
}

/// A part of a rectangle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) rect: Rect,
    /// That of all its pixels, if it is known.
    pub(super) colour: Option<u32>,
}

/// Splits rectangles; keeps its memory.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    done: Vec<Piece>,
    /// Of the row of tiles above: pieces that may still grow.
    open: Vec<Piece>,
    row: Vec<Piece>,
}

impl Splitter {
    /// The pieces of a rectangle inside a frame, none of which overlap, none without colour beyond the limits. Without
    /// `fills` none has a colour.
    pub(super) fn split(&mut self, frame: &Frame, rect: Rect, limits: Limits, fills: bool) -> &[Piece] {
        self.done.clear();
        if !fills {
            cut(Piece { rect, colour: None }, limits, &mut self.done);
            return &self.done;
        }
        let bottom = rect.y + rect.height;
        let mut y = rect.y;
        while y < bottom {
            let band = Rect { y, height: TILE.min(bottom - y), ..rect };
            self.find(frame, band);
            self.join(limits);
            y += band.height;
        }
        for piece in self.open.drain(..) {
            cut(piece, limits, &mut self.done);
        }
        &self.done
    }

    /// Puts the pieces of a row of tiles into `row`.
    fn find(&mut self, frame: &Frame, band: Rect) {
        self.row.clear();
        let right = band.x + band.width;
        let mut x = band.x;
        while x < right {
            let tile = Rect { x, width: TILE.min(right - x), ..band };
            x += tile.width;
            let colour = solid(frame, tile);
            match self.row.last_mut() {
                Some(last) if last.colour == colour => last.rect.width += tile.width,
                _ => {
                    self.settle();
                    self.row.push(Piece { rect: tile, colour });
                }
            }
        }
        self.settle();
    }

    /// The last piece of the row does not grow any more: too small a fill joins what is before it.
    fn settle(&mut self) {
        let Some(last) = self.row.last_mut() else { return };
        if last.rect.width < LEAST_TILES * TILE {
            last.colour = None;
        }
        if let [.., before, last] = self.row.as_mut_slice()
            && before.colour.is_none()
            && last.colour.is_none()
        {
            before.rect.width += last.rect.width;
            self.row.pop();
        }
    }

    /// Lets pieces of the row above grow by those below that continue them.
    fn join(&mut self, limits: Limits) {
        for piece in &mut self.row {
            let same = |above: &Piece| {
                (above.rect.x, above.rect.width, above.colour)
                    == (piece.rect.x, piece.rect.width, piece.colour)
            };
            if let Some(at) = self.open.iter().position(same) {
                let above = self.open.swap_remove(at);
                piece.rect =
                    Rect { y: above.rect.y, height: above.rect.height + piece.rect.height, ..piece.rect };
            }
        }
        for piece in self.open.drain(..) {
            cut(piece, limits, &mut self.done);
        }
        std::mem::swap(&mut self.open, &mut self.row);
    }
}

/// Most pieces a rectangle can have: one for each tile.
pub(super) fn most_pieces(rect: Rect) -> u64 {
    u64::from(rect.width.div_ceil(TILE)) * u64::from(rect.height.div_ceil(TILE))
}

/// The colour of all pixels of a tile, if it is one.
fn solid(frame: &Frame, tile: Rect) -> Option<u32> {
    let mut rows = rows(frame, tile);
    let first = rows.next()?;
    let colour = first.first()?;
    let same = |row: &[u32]| row.iter().all(|pixel| pixel == colour);
    (same(first) && rows.all(same)).then_some(*colour)
}

/// A piece in blocks within the limits; a fill has none.
fn cut(piece: Piece, limits: Limits, done: &mut Vec<Piece>) {
    let Piece { rect, colour: None } = piece else {
        done.push(piece);
        return;
    };
    let (right, bottom) = (rect.x + rect.width, rect.y + rect.height);
    let width = rect.width.min(limits.width).max(1);
    let height = (limits.area / width).max(1);
    let mut y = rect.y;
    while y < bottom {
        let height = height.min(bottom - y);
        let mut x = rect.x;
        while x < right {
            let width = width.min(right - x);
            done.push(Piece { rect: Rect { x, y, width, height }, colour: None });
            x += width;
        }
        y += height;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { width: 300, area: 20_000 };

    fn split(frame: &Frame, rect: Rect) -> Vec<Piece> {
        Splitter::default().split(frame, rect, LIMITS, true).to_vec()
    }

    #[test]
    fn a_wide_area_of_one_colour_is_a_piece() {
        let mut frame = Frame::new(640, 96).unwrap();
        for y in 32..64 {
            frame.row_mut(y).unwrap()[100..200].fill(7);
        }
        let fill = |x, y, width, height| Piece { rect: Rect::new(x, y, width, height), colour: Some(0) };
        let rest = Piece { rect: Rect::new(0, 32, 224, 32), colour: None };
        let whole = Rect::new(0, 0, 640, 96);
        let pieces = split(&frame, whole);
        assert_eq!(pieces, [fill(0, 0, 640, 32), rest, fill(224, 32, 416, 32), fill(0, 64, 640, 32)]);
        assert_eq!(split(&frame, Rect::new(0, 0, 640, 30)), [fill(0, 0, 640, 30)]);
        frame.pixels_mut().fill(0);
        assert_eq!(split(&frame, whole), [fill(0, 0, 640, 96)], "grown downwards");
    }

    #[test]
    fn a_small_area_of_one_colour_is_not() {
        let frame = Frame::new(255, 255).unwrap();
        assert!(split(&frame, Rect::new(0, 0, 255, 255)).iter().all(|piece| piece.colour.is_none()));
    }

    proptest! {
        #[test]
        fn pieces_cover_the_rectangle_once_and_tell_the_truth(
            size in (1..900u32, 1..150u32), at in (0..50u32, 0..50u32),
            marks in prop::collection::vec((0..900usize, 0..150u32, 1..200usize, 1..3u32), 0..12), fills: bool,
        ) {
            let mut frame = Frame::new(size.0, size.1).unwrap();
            for (x, y, length, colour) in marks {
                if let Some(row) = frame.row_mut(y) {
                    row.iter_mut().skip(x).take(length).for_each(|pixel| *pixel = colour);
                }
            }
            let rect = Rect::new(at.0, at.1, size.0, size.1).clipped(size.0, size.1);
            prop_assume!(!rect.is_empty());
            let mut splitter = Splitter::default();
            let pieces = splitter.split(&frame, rect, LIMITS, fills);
            prop_assert!(pieces.len() as u64 <= most_pieces(rect));
            let mut covered = vec![0u8; frame.pixels().len()];
            for piece in pieces {
                for y in piece.rect.y..piece.rect.y + piece.rect.height {
                    for x in piece.rect.x..piece.rect.x + piece.rect.width {
                        let at = (y * size.0 + x) as usize;
                        covered[at] += 1;
                        prop_assert!(piece.colour.is_none_or(|colour| colour == frame.pixels()[at]));
                    }
                }
                if piece.colour.is_none() {
                    prop_assert!(piece.rect.width <= LIMITS.width && piece.rect.area() <= LIMITS.area.into());
                } else {
                    prop_assert!(fills);
                }
            }
            for (at, count) in (0u32..).zip(covered) {
                let (x, y) = (at % size.0, at / size.0);
                prop_assert_eq!(count, u8::from(x >= rect.x && y >= rect.y), "{}, {}", x, y);
            }
        }
    }
}
