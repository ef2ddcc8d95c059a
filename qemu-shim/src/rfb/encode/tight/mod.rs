//! Tight (encoding 7) and TightPNG (-260): fills, palettes, deflate or PNG, JPEG.
//!
//! A rectangle is [split](split) into areas of one colour and the rest, and that into blocks. A block of few colours is
//! sent as a palette and indices, one of many as JPEG if the client allows loss, or else as it is. What compresses the
//! bytes is the one thing in which the two encodings differ: [`basic`] and [`png`].
//!
//! The gradient filter is left out: it helps pictures without loss only, and viewers exist that cannot undo it.

mod basic;
mod jpeg;
mod png;
mod split;

use flate2::CompressError;

use self::basic::Basic;
use self::png::Png;
use self::split::{Piece, Splitter, most_pieces};
use super::encoded::Encoded;
use super::palette::Palette;
use super::pixels::Pixels;
use super::rect::{rect_header, rows};
use super::{CROWDED, Encoding, Settings};
use crate::rfb::pixel_format::PixelFormat;
use crate::{Frame, Rect};

/// Compression-control byte of a fill (rfbproto "Tight Encoding").
const FILL: u8 = 0x80;

/// Compression-control byte of a JPEG picture.
const JPEG: u8 = 0x90;

/// Shortest side of a JPEG picture, in pixels: that of its blocks.
const LEAST_JPEG_SIDE: u32 = 8;

/// Colours of the largest palette: its indices are bytes.
const MOST_COLOURS: usize = 256;

/// What compresses the blocks.
#[derive(Debug)]
enum Back {
    Basic(Basic),
    Png(Png),
}

/// What a block is while it is encoded.
#[derive(Debug)]
struct Block {
    /// Of a row, in pixels.
    width: usize,
    values: Vec<u32>,
    /// Of each pixel in the palette, if there is one.
    indices: Vec<u8>,
    palette: Palette,
}

/// An encoder of both encodings.
#[derive(Debug)]
pub(super) struct Tight {
    /// The client's pixels, compact.
    pixels: Pixels,
    /// The same, not compact.
    plain: Pixels,
    /// Three bytes, for pictures within the stream.
    rgb: Pixels,
    quality: Option<u8>,
    splitter: Splitter,
    block: Block,
    back: Back,
}

impl Tight {
    pub(super) fn new(settings: &Settings) -> Self {
        let back = match settings.encoding {
            Encoding::TightPng => Back::Png(Png::new(settings.level)),
            _ => Back::Basic(Basic::new(settings.level)),
        };
        Self {
            pixels: Pixels::tight(&settings.format),
            plain: Pixels::plain(&settings.format),
            rgb: Pixels::tight(&PixelFormat::SERVER),
            quality: settings.quality.filter(|_| settings.format.bits_per_pixel() > 8),
            splitter: Splitter::default(),
            block: Block { width: 0, values: Vec::new(), indices: Vec::new(), palette: Palette::new() },
            back,
        }
    }

    /// The client's pixels as Raw has them.
    pub(super) fn plain(&self) -> &Pixels {
        &self.plain
    }

    pub(super) fn restart(&mut self) -> Result<(), CompressError> {
        match &mut self.back {
            Back::Basic(basic) => basic.restart(),
            // Each of its pictures starts its own.
            Back::Png(_) => Ok(()),
        }
    }

    pub(super) fn encode(
        &mut self,
        frame: &Frame,
        rect: Rect,
        encoded: &mut Encoded,
    ) -> Result<(), CompressError> {
        let limits = match self.back {
            Back::Basic(_) => basic::LIMITS,
            Back::Png(_) => png::LIMITS,
        };
        let mut splitter = std::mem::take(&mut self.splitter);
        let fills = u64::from(encoded.count()) + most_pieces(rect) <= u64::from(CROWDED);
        let done = splitter
            .split(frame, rect, limits, fills)
            .iter()
            .try_for_each(|piece| self.piece(frame, piece, encoded));
        self.splitter = splitter;
        done
    }

    fn piece(&mut self, frame: &Frame, piece: &Piece, encoded: &mut Encoded) -> Result<(), CompressError> {
        let out = encoded.begin();
        let number = match self.back {
            Back::Basic(_) => Encoding::Tight,
            Back::Png(_) => Encoding::TightPng,
        };
        rect_header(piece.rect, number.raw(), out);
        if let Some(colour) = piece.colour {
            out.push(FILL);
            self.pixels.convert(&[colour], out);
            return Ok(());
        }
        if self.is_crowded(frame, piece.rect) && self.jpeg(frame, piece.rect, out) {
            return Ok(());
        }
        let few = self.block(frame, piece.rect);
        if few && let [colour] = self.block.palette.colours() {
            out.push(FILL);
            match self.back {
                Back::Basic(_) => self.pixels.put(&[*colour], out),
                Back::Png(_) => self.pixels.convert(&[*colour], out),
            }
            return Ok(());
        }
        if !few && self.jpeg(frame, piece.rect, out) {
            return Ok(());
        }
        match (&mut self.back, few) {
            (Back::Basic(basic), true) => basic.palette(&self.block, &self.pixels, encoded),
            (Back::Basic(basic), false) => basic.full(&self.block, &self.pixels, encoded),
            (Back::Png(png), true) => png.palette(&self.block, &self.rgb, out),
            (Back::Png(png), false) => png.full(&self.block, &self.rgb, out),
        }
    }

    /// Whether it takes no more than the top of a block that may become JPEG to see that no palette will do.
    fn is_crowded(&mut self, frame: &Frame, rect: Rect) -> bool {
        let top = Rect { height: rect.height.min(LEAST_JPEG_SIDE), ..rect };
        // Else fewer colours than make a palette of the whole block would be too many for its top.
        let is_enough = top.width as usize * top.height as usize / 4 >= MOST_COLOURS;
        self.quality.is_some() && is_enough && !self.block(frame, top)
    }

    /// Looks at a block; whether it has few enough colours for a palette.
    fn block(&mut self, frame: &Frame, rect: Rect) -> bool {
        let block = &mut self.block;
        block.width = rect.width as usize;
        let area = block.width * rect.height as usize;
        block.values.resize(area, 0);
        let (pixels, most) = match self.back {
            // Indices are no smaller than pixels of a byte, unless there is a bit for each.
            Back::Basic(_) if self.pixels.size() == 1 => (&self.pixels, 2),
            Back::Basic(_) => (&self.pixels, MOST_COLOURS),
            Back::Png(_) => (&self.rgb, MOST_COLOURS),
        };
        for (row, values) in rows(frame, rect).zip(block.values.chunks_mut(block.width.max(1))) {
            pixels.values(row, values);
        }
        block.indices.resize(area, 0);
        block.palette.fill(&block.values, most.min(area / 4 + 2), &mut block.indices)
    }

    /// Appends a block as JPEG, if it may be.
    fn jpeg(&mut self, frame: &Frame, rect: Rect, out: &mut Vec<u8>) -> bool {
        let Some(quality) = self.quality else { return false };
        if rect.width < LEAST_JPEG_SIDE || rect.height < LEAST_JPEG_SIDE {
            return false;
        }
        let Some(picture) = jpeg::encode(frame, rect, quality) else { return false };
        out.push(JPEG);
        compact_length(picture.len(), out);
        out.extend(picture);
        true
    }
}

/// Appends a length of up to 22 bits, 7 to a byte, the lowest first.
pub(super) fn compact_length(length: usize, out: &mut Vec<u8>) {
    let [low, middle, high] = [length & 0x7f, length >> 7 & 0x7f, length >> 14 & 0xff]
        .map(|bits| u8::try_from(bits).unwrap_or(u8::MAX));
    match length {
        ..0x80 => out.push(low),
        0x80..0x4000 => out.extend([low | 0x80, middle]),
        _ => out.extend([low | 0x80, middle | 0x80, high]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_as_the_specification_writes_them() {
        let lengths: [(usize, &[u8]); 6] = [
            (127, &[0x7f]),
            (128, &[0x80, 0x01]),
            (10_000, &[0x90, 0x4e]),
            (16_383, &[0xff, 0x7f]),
            (16_384, &[0x80, 0x80, 0x01]),
            (4_194_303, &[0xff, 0xff, 0xff]),
        ];
        for (length, bytes) in lengths {
            let mut out = Vec::new();
            compact_length(length, &mut out);
            assert_eq!(out, bytes, "{length}");
        }
    }
}
