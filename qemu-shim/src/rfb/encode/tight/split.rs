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
const LEAST_TILES: u32 = 6;

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
    /// The pieces of a rectangle inside a frame, none of which overlap, none without colour beyond the limits.
    pub(super) fn split(&mut self, frame: &Frame, rect: Rect, limits: Limits) -> &[Piece] {
        self.done.clear();
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
