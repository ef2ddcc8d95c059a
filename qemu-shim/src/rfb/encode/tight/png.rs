//! TightPNG's compression: each block is a PNG file of its own, for viewers that have a decoder for these and no other.
//!
//! The file is written here because the blocks are many and small: the compressor's memory is used again, and the palette is
//! the one found already. Its colours are those of the frame, whatever the client's pixel format is.

use flate2::CompressError;

use super::super::deflate::{Deflater, Window};
use super::super::palette::{Bits, pack};
use super::super::pixels::Pixels;
use super::split::Limits;
use super::{Block, compact_length};

/// Larger blocks than Tight's: each starts from nothing, with 57 bytes around it. Their bytes stay below the 4 MiB that the
/// length can say, even if nothing can be compressed.
pub(super) const LIMITS: Limits = Limits { width: 1024, area: 131_072 };

/// Compression-control byte of a PNG file (rfbproto "Tight PNG Encoding").
const PNG: u8 = 0xa0;

/// The start of every PNG file (PNG specification §5.2).
const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];

/// Colour types of the header (§11.2.2).
const RGB: u8 = 2;
const INDEXED: u8 = 3;

/// Highest compression level of filtered pixels: with the next one the compressor makes them larger.
const HIGHEST: u8 = 7;

#[derive(Debug)]
pub(super) struct Png {
    indices: Deflater,
    /// Filters leave small numbers that hardly repeat but by chance: a short window makes them smaller, and is fast.
    differences: Deflater,
    bytes: Vec<u8>,
    filtered: Filtered,
    compressed: Vec<u8>,
    file: Vec<u8>,
}

impl Png {
    pub(super) fn new(level: u8) -> Self {
        Self {
            indices: Deflater::new(level, true, Window::Long),
            differences: Deflater::new(level.min(HIGHEST), true, Window::Short),
            bytes: Vec::new(),
            filtered: Filtered::default(),
            compressed: Vec::new(),
            file: Vec::new(),
        }
    }

    /// Appends a block of pixels; `rgb` has three bytes for each.
    pub(super) fn full(
        &mut self,
        block: &Block,
        rgb: &Pixels,
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        self.bytes.clear();
        rgb.put(&block.values, &mut self.bytes);
        self.begin(block, 8, RGB);
        self.differences.restart()?;
        let stride = block.width * 3;
        let mut above: &[u8] = &[];
        for row in self.bytes.chunks(stride.max(1)) {
            let (filter, line) = self.filtered.best(row, above);
            self.differences.feed(&[filter], &mut self.compressed)?;
            self.differences.feed(line, &mut self.compressed)?;
            above = row;
        }
        self.differences.finish(&mut self.compressed)?;
        self.end(out);
        Ok(())
    }

    /// Appends a block of indices, packed as tightly as the number of colours allows.
    pub(super) fn palette(
        &mut self,
        block: &Block,
        rgb: &Pixels,
        out: &mut Vec<u8>,
    ) -> Result<(), CompressError> {
        let colours = block.palette.colours();
        let bits = Bits::of(colours.len());
        self.bytes.clear();
        pack(&block.indices, block.width, bits, &mut self.bytes);
        self.begin(block, bits.count(), INDEXED);
        self.indices.restart()?;
        let mut table = Vec::with_capacity(3 * colours.len());
        rgb.put(colours, &mut table);
        chunk(*b"PLTE", &table, &mut self.file);
        let stride = bits.stride(block.width);
        for row in self.bytes.chunks(stride.max(1)) {
            self.indices.feed(&[0], &mut self.compressed)?;
            self.indices.feed(row, &mut self.compressed)?;
        }
        self.indices.finish(&mut self.compressed)?;
        self.end(out);
        Ok(())
    }

    fn begin(&mut self, block: &Block, depth: u8, colour_type: u8) {
        self.compressed.clear();
        self.file.clear();
        self.file.extend(SIGNATURE);
        let height = block.values.len() / block.width.max(1);
        let mut header = [0; 13];
        let numbers = [block.width, height].map(|side| u32::try_from(side).unwrap_or(u32::MAX).to_be_bytes());
        let fields = numbers.into_iter().flatten().chain([depth, colour_type]);
        for (byte, field) in header.iter_mut().zip(fields) {
            *byte = field;
        }
        chunk(*b"IHDR", &header, &mut self.file);
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        chunk(*b"IDAT", &self.compressed, &mut self.file);
        chunk(*b"IEND", &[], &mut self.file);
        out.push(PNG);
        compact_length(self.file.len(), out);
        out.extend_from_slice(&self.file);
    }
}

/// Appends a chunk (§5.3): length, name, data, checksum of name and data.
fn chunk(name: [u8; 4], data: &[u8], file: &mut Vec<u8>) {
    file.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    file.extend(name);
    file.extend_from_slice(data);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&name);
    checksum.update(data);
    file.extend(checksum.finalize().to_be_bytes());
}

/// A row of RGB as each filter leaves it (§9.2).
#[derive(Debug, Default)]
struct Filtered {
    sub: Vec<u8>,
    up: Vec<u8>,
    average: Vec<u8>,
    paeth: Vec<u8>,
    black: Vec<u8>,
}

impl Filtered {
    /// The filter whose bytes, taken as signed numbers, are nearest to zero: the specification's own advice (§12.7).
    fn best<'a>(&'a mut self, row: &'a [u8], above: &'a [u8]) -> (u8, &'a [u8]) {
        let above = if above.is_empty() {
            self.black.resize(row.len(), 0);
            &self.black
        } else {
            above
        };
        let left = || [0; 3].iter().chain(row);
        let corner = || [0; 3].iter().chain(above);
        fill(&mut self.sub, row.iter().zip(left()).map(|(x, a)| x.wrapping_sub(*a)));
        fill(&mut self.up, row.iter().zip(above).map(|(x, b)| x.wrapping_sub(*b)));
        let halves = left().zip(above).map(|(a, b)| a.midpoint(*b));
        fill(&mut self.average, row.iter().zip(halves).map(|(x, half)| x.wrapping_sub(half)));
        let neighbours = left().zip(above).zip(corner());
        fill(
            &mut self.paeth,
            row.iter().zip(neighbours).map(|(x, ((a, b), c))| x.wrapping_sub(paeth(*a, *b, *c))),
        );
        let all = [(0, row), (1, self.sub.as_slice()), (2, &self.up), (3, &self.average), (4, &self.paeth)];
        all.into_iter().min_by_key(|(_, line)| distance(line)).unwrap_or((0, row))
    }
}

fn fill(line: &mut Vec<u8>, bytes: impl Iterator<Item = u8>) {
    line.clear();
    line.extend(bytes);
}

fn distance(line: &[u8]) -> u32 {
    line.iter().map(|byte| u32::from((*byte).min(byte.wrapping_neg()))).sum()
}

/// Whichever of left, above and the corner between is nearest to left + above − corner.
fn paeth(left: u8, above: u8, corner: u8) -> u8 {
    let [a, b, c] = [left, above, corner].map(i16::from);
    let (pa, pb, pc) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
    if pa <= pb && pa <= pc {
        left
    } else if pb <= pc {
        above
    } else {
        corner
    }
}
