//! Planes on top of each other, fast: for frames that people look at.
//!
//! [`Canvas`](super::Canvas) is right to the last of 16 bits and takes its time. Here all layers of a pixel are blended with
//! 16 bits per channel too and rounded once, at the end, so that no stack of the 32 planes that DRM has at most is off by more
//! than one of 255 steps per channel; but only where something is to be done: in the given rectangles, where a layer is, and where it is
//! neither transparent nor opaque.
//!
//! Pixels are worked on in pieces that stay in the first-level cache, in loops without branches that become vector
//! instructions.

mod channels;

use channels::Under;

use crate::damage::Rect;
use crate::frame::Frame;

/// Pixels that are worked on at a time, at most.
const PIECE: usize = 64;
/// Alpha of a pixel that hides what is below.
const OPAQUE: u32 = 0xff00_0000;
const COLOURS: u32 = 0x00ff_ffff;

/// What a layer's pixels are.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// `0xXXRRGGBB`: hides what is below.
    Opaque(&'a [u32]),
    /// `0xAARRGGBB`, colours multiplied by alpha: planes and cursors of the kernel. A colour above its alpha is no such thing;
    /// it is added as it is, up to white.
    Premultiplied(&'a [u32]),
    /// `0xAARRGGBB`, colours as they would be if opaque: pictures in files.
    Straight(&'a [u32]),
    /// `0xAAAA_RRRR_GGGG_BBBB`, colours multiplied by alpha: planes of more than 8 bits.
    Deep(&'a [u64]),
}

/// A picture to put on a frame.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Where its left edge is, in pixels from the left of the frame; what is outside of the frame is not seen.
    pub x: i32,
    /// Where its top edge is.
    pub y: i32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// `width` × `height` of them, top row first. Rows that are missing are not drawn.
    pub pixels: Pixels<'a>,
}

/// Makes `frame` what `below` is with the layers on it, the first lowest, inside each rectangle. Where the frames differ in
/// size, only what both have is drawn.
pub fn compose(frame: &mut Frame, below: &Frame, layers: &[Layer<'_>], within: &[Rect]) {
    for rect in within {
        let rect = rect.clipped(below.width(), below.height()).clipped(frame.width(), frame.height());
        let columns = rect.x as usize..(rect.x + rect.width) as usize;
        let rows = frame.rows_mut().zip(below.rows()).skip(rect.y as usize).take(rect.height as usize);
        for ((row, below), y) in rows.zip(rect.y..) {
            let (Some(row), Some(below)) = (row.get_mut(columns.clone()), below.get(columns.clone())) else {
                break;
            };
            row.copy_from_slice(below);
            blend_row(row, (rect.x, y), layers);
        }
    }
}

/// Blends layers over what the frame has, the first lowest, inside each rectangle. The rectangles must not overlap, as those
/// of [`Damage::rects`](crate::Damage::rects) do not: where they do, layers would be blended twice.
pub fn blend(frame: &mut Frame, layers: &[Layer<'_>], within: &[Rect]) {
    for rect in within {
        let rect = rect.clipped(frame.width(), frame.height());
        let columns = rect.x as usize..(rect.x + rect.width) as usize;
        let rows = frame.rows_mut().skip(rect.y as usize).take(rect.height as usize);
        for (row, y) in rows.zip(rect.y..) {
            let Some(row) = row.get_mut(columns.clone()) else { break };
            blend_row(row, (rect.x, y), layers);
        }
    }
}

/// Blends layers over a row of pixels of which the first is at this position.
fn blend_row(row: &mut [u32], (left, y): (u32, u32), layers: &[Layer<'_>]) {
    let mut rest = row;
    let mut x = i64::from(left);
    let mut under = Under::default();
    while !rest.is_empty() {
        // As far as the same layers cover the pixels. Where none does, in one go.
        let mut end = x + i64::try_from(rest.len()).unwrap_or(i64::MAX);
        let mut is_covered = false;
        for layer in layers.iter().filter(|layer| layer.row(y).is_some()) {
            let (left, right) = layer.columns();
            is_covered |= (left..right).contains(&x);
            for edge in [left, right] {
                if edge > x {
                    end = end.min(edge);
                }
            }
        }
        let length = usize::try_from(end - x).unwrap_or(rest.len());
        let length = if is_covered { length.min(PIECE) } else { length };
        let Some((piece, after)) = rest.split_at_mut_checked(length) else { return };
        if is_covered {
            blend_piece(piece, (x, y), layers, &mut under);
        }
        x += i64::try_from(length).unwrap_or(i64::MAX);
        rest = after;
    }
}

/// Blends layers, of which each covers all of a piece or nothing of it.
fn blend_piece(piece: &mut [u32], (x, y): (i64, u32), layers: &[Layer<'_>], under: &mut Under) {
    under.forget();
    for layer in layers {
        let Some(over) = layer.piece(x, y, piece.len()) else { continue };
        match over {
            Pixels::Premultiplied(over) | Pixels::Straight(over) if is_transparent(over) => {}
            Pixels::Premultiplied(over) if !is_opaque(over) => under.of(piece).cover(over),
            Pixels::Straight(over) if !is_opaque(over) => under.of(piece).cover_straight(over),
            Pixels::Deep(over) => under.of(piece).cover_deep(over),
            Pixels::Opaque(over) | Pixels::Premultiplied(over) | Pixels::Straight(over) => {
                // Nobody will see what was there.
                under.forget();
                for (pixel, over) in piece.iter_mut().zip(over) {
                    *pixel = over & COLOURS;
                }
            }
        }
    }
    under.round(piece);
}

fn is_transparent(pixels: &[u32]) -> bool {
    pixels.iter().fold(0, |any, pixel| any | pixel) == 0
}

fn is_opaque(pixels: &[u32]) -> bool {
    pixels.iter().fold(!0, |all, pixel| all & pixel) >= OPAQUE
}

impl<'a> Layer<'a> {
    /// Which of its rows is at this height of the frame.
    fn row(&self, y: u32) -> Option<usize> {
        let row = i64::from(y) - i64::from(self.y);
        usize::try_from(row).ok().filter(|_| row < i64::from(self.height))
    }

    /// From which column of the frame to behind which it reaches.
    fn columns(&self) -> (i64, i64) {
        let left = i64::from(self.x);
        (left, left + i64::from(self.width))
    }

    /// What it has for so many pixels from this position of the frame on; `None` unless it has all of them, and the rest of
    /// their row.
    fn piece(&self, x: i64, y: u32, length: usize) -> Option<Pixels<'a>> {
        let width = self.width as usize;
        let start = self.row(y)?.checked_mul(width)?;
        let row = start..start.checked_add(width)?;
        let column = usize::try_from(x - i64::from(self.x)).ok()?;
        let part = column..column.checked_add(length)?;
        Some(match self.pixels {
            Pixels::Opaque(pixels) => Pixels::Opaque(pixels.get(row)?.get(part)?),
            Pixels::Premultiplied(pixels) => Pixels::Premultiplied(pixels.get(row)?.get(part)?),
            Pixels::Straight(pixels) => Pixels::Straight(pixels.get(row)?.get(part)?),
            Pixels::Deep(pixels) => Pixels::Deep(pixels.get(row)?.get(part)?),
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
