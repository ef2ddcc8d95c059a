//! ZRLE (encoding 16, RFC 6143 §7.7.6): tiles of runs and palettes in one deflate stream.

use flate2::CompressError;

use super::deflate::{Deflater, Window};
use super::encoded::{Encoded, Stream};
use super::palette::{Bits, Palette, pack};
use super::pixels::Pixels;
use super::rect::{rect_header, rows};
use super::{Encoding, Settings};
use crate::{Frame, Rect};

/// Side of a tile, in pixels.
const TILE: usize = 64;

/// Most colours of a palette with runs; subencodings 130 to 255 have 2 to 127.
const MOST_COLOURS: usize = 127;

/// Most colours of a palette without runs.
const MOST_PACKED: usize = 16;

/// Subencoding of runs without a palette; with one, its number of colours is added.
const RUNS: u8 = 128;

/// Bytes given to the compressor at a time.
const BATCH: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct Zrle {
    pixels: Pixels,
    deflater: Deflater,
    palette: Palette,
    /// A row of tiles, tile after tile, as values.
    tiles: Vec<u32>,
    indices: [u8; TILE * TILE],
    batch: Vec<u8>,
}

impl Zrle {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            pixels: Pixels::zrle(&settings.format),
            deflater: Deflater::new(settings.level, false, Window::Long),
            palette: Palette::new(),
            tiles: Vec::new(),
            indices: [0; TILE * TILE],
            batch: Vec::new(),
        }
    }

    pub(super) fn restart(&mut self) -> Result<(), CompressError> {
        self.deflater.restart()
    }

    pub(super) fn encode(
        &mut self,
        frame: &Frame,
        rect: Rect,
        encoded: &mut Encoded,
    ) -> Result<(), CompressError> {
        let out = encoded.begin();
        rect_header(rect, Encoding::Zrle.raw(), out);
        let at = out.len();
        out.extend([0; 4]);
        self.batch.clear();
        let width = rect.width as usize;
        let mut all = rows(frame, rect);
        let mut left = rect.height as usize;
        while left > 0 {
            let height = left.min(TILE);
            left -= height;
            self.gather(all.by_ref().take(height), width, height);
            self.tile_row(width, height, out)?;
        }
        self.deflater.feed(&self.batch, out)?;
        self.deflater.flush(out)?;
        encoded.block(Stream::Zrle, at);
        Ok(())
    }

    /// Converts rows of pixels into a row of tiles.
    fn gather<'a>(&mut self, rows: impl Iterator<Item = &'a [u32]>, width: usize, height: usize) {
        self.tiles.resize(width * height, 0);
        for (y, row) in rows.enumerate() {
            let tiles = self.tiles.chunks_mut(TILE * height);
            for (tile, part) in tiles.zip(row.chunks(TILE)) {
                if let Some(line) = tile.get_mut(y * part.len()..) {
                    self.pixels.values(part, line);
                }
            }
        }
    }

    fn tile_row(&mut self, width: usize, height: usize, out: &mut Vec<u8>) -> Result<(), CompressError> {
        let tiles = std::mem::take(&mut self.tiles);
        let mut left = width;
        for tile in tiles.chunks(TILE * height) {
            self.tile(tile, left.min(TILE));
            left = left.saturating_sub(TILE);
            if self.batch.len() >= BATCH {
                self.deflater.feed(&self.batch, out)?;
                self.deflater.adapt(out)?;
                self.batch.clear();
            }
        }
        self.tiles = tiles;
        Ok(())
    }

    /// Appends one tile in the form that is smallest before compression.
    fn tile(&mut self, tile: &[u32], width: usize) {
        let size = self.pixels.size();
        let (runs, singles) = count_runs(tile);
        let raw = tile.len() * size;
        let plain = runs * (size + 1);
        let indices = self.indices.get_mut(..tile.len()).unwrap_or_default();
        if !self.palette.fill(tile, MOST_COLOURS, indices) {
            if plain < raw {
                self.batch.push(RUNS);
                self.plain_runs(tile);
            } else {
                self.batch.push(0);
                self.pixels.put(tile, &mut self.batch);
            }
            return;
        }
        let colours = self.palette.colours();
        let count = u8::try_from(colours.len()).unwrap_or_default();
        if colours.len() < 2 {
            self.batch.push(1);
            self.pixels.put(colours, &mut self.batch);
            return;
        }
        let bits = Bits::of(colours.len());
        let palette_runs = colours.len() * size + 2 * runs - singles;
        let packed = match colours.len() {
            ..=MOST_PACKED => colours.len() * size + bits.stride(width) * (tile.len() / width.max(1)),
            _ => usize::MAX,
        };
        let least = raw.min(plain).min(palette_runs).min(packed);
        if least == packed {
            self.batch.push(count);
            self.pixels.put(colours, &mut self.batch);
            pack(indices, width, bits, &mut self.batch);
        } else if least == palette_runs {
            self.batch.push(RUNS + count);
            self.pixels.put(colours, &mut self.batch);
            palette_run_bytes(indices, &mut self.batch);
        } else if least == plain {
            self.batch.push(RUNS);
            self.plain_runs(tile);
        } else {
            self.batch.push(0);
            self.pixels.put(tile, &mut self.batch);
        }
    }

    fn plain_runs(&mut self, tile: &[u32]) {
        for run in tile.chunk_by(|a, b| a == b) {
            self.pixels.put(run.get(..1).unwrap_or_default(), &mut self.batch);
            run_length(run.len(), &mut self.batch);
        }
    }
}

/// Runs of equal pixels, and how many of them are of length 1.
fn count_runs(tile: &[u32]) -> (usize, usize) {
    tile.chunk_by(|a, b| a == b)
        .fold((0, 0), |(runs, singles), run| (runs + 1, singles + usize::from(run.len() == 1)))
}

fn palette_run_bytes(indices: &[u8], out: &mut Vec<u8>) {
    for run in indices.chunk_by(|a, b| a == b) {
        let Some(index) = run.first() else { continue };
        if run.len() == 1 {
            out.push(*index);
        } else {
            out.push(RUNS | index);
            run_length(run.len(), out);
        }
    }
}

/// Bytes whose sum is one less than the length, the last of them less than 255.
fn run_length(length: usize, out: &mut Vec<u8>) {
    let mut left = length.saturating_sub(1);
    while left >= 255 {
        out.push(255);
        left -= 255;
    }
    out.push(u8::try_from(left).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_as_the_specification_writes_them() {
        for (length, bytes) in [
            (1, &[0][..]),
            (255, &[254]),
            (256, &[255, 0]),
            (257, &[255, 1]),
            (510, &[255, 254]),
            (511, &[255, 255, 0]),
        ] {
            let mut out = Vec::new();
            run_length(length, &mut out);
            assert_eq!(out, bytes, "{length}");
        }
    }

    #[test]
    fn runs_of_a_palette() {
        let mut out = Vec::new();
        palette_run_bytes(&[0, 5, 5, 5, 2], &mut out);
        assert_eq!(out, [0, 0x85, 2, 2]);
        assert_eq!(count_runs(&[0, 5, 5, 5, 2]), (3, 2));
    }
}
