//! Tight's own compression: bytes in one of four deflate streams.
//!
//! In an update nothing refers to anything that was sent before, but a client's streams go on: [`Encoded`] says why.

use flate2::CompressError;

use super::super::deflate::{Deflater, Window};
use super::super::encoded::Encoded;
use super::super::palette::{Bits, pack};
use super::super::pixels::Pixels;
use super::Block;
use super::split::Limits;

/// The protocol allows rectangles 2048 pixels wide (rfbproto "Tight Encoding"). Narrower ones have fewer colours, and more rows
/// that the compressor can look back on. The area is what viewers are used to.
pub(super) const LIMITS: Limits = Limits { width: 512, area: 65_536 };

/// Data shorter than this is sent as it is.
const LEAST_COMPRESSED: usize = 12;

/// Compression-control bit: a filter is named.
const FILTER: u8 = 0x40;

/// The filter that makes indices of colours.
const PALETTE_FILTER: u8 = 1;

// Like is compressed with like: each kind of data has its own stream.
const FULL: u8 = 0;
const MONO: u8 = 1;
const INDEXED: u8 = 2;

#[derive(Debug)]
pub(super) struct Basic {
    level: u8,
    /// Made when first needed: each has a quarter of a megabyte.
    streams: [Option<Deflater>; 3],
    bytes: Vec<u8>,
    compressed: Vec<u8>,
}

impl Basic {
    pub(super) fn new(level: u8) -> Self {
        Self { level, streams: [None, None, None], bytes: Vec::new(), compressed: Vec::new() }
    }

    pub(super) fn restart(&mut self) -> Result<(), CompressError> {
        self.streams.iter_mut().flatten().try_for_each(Deflater::restart)
    }

    /// Appends a block of pixels.
    pub(super) fn full(
        &mut self,
        block: &Block,
        pixels: &Pixels,
        encoded: &mut Encoded,
    ) -> Result<(), CompressError> {
        self.bytes.clear();
        pixels.put(&block.values, &mut self.bytes);
        encoded.more().push(FULL << 4);
        self.data(FULL, encoded)
    }

    /// Appends a block of indices: a bit each for two colours, else a byte.
    pub(super) fn palette(
        &mut self,
        block: &Block,
        pixels: &Pixels,
        encoded: &mut Encoded,
    ) -> Result<(), CompressError> {
        let colours = block.palette.colours();
        self.bytes.clear();
        let stream = if colours.len() == 2 {
            pack(&block.indices, block.width, Bits::One, &mut self.bytes);
            MONO
        } else {
            self.bytes.extend_from_slice(&block.indices);
            INDEXED
        };
        let out = encoded.more();
        out.extend([FILTER | stream << 4, PALETTE_FILTER]);
        out.push(u8::try_from(colours.len().saturating_sub(1)).unwrap_or(u8::MAX));
        pixels.put(colours, out);
        self.data(stream, encoded)
    }

    fn data(&mut self, stream: u8, encoded: &mut Encoded) -> Result<(), CompressError> {
        let place = self.streams.get_mut(usize::from(stream));
        let Some(place) = place.filter(|_| self.bytes.len() >= LEAST_COMPRESSED) else {
            encoded.more().extend_from_slice(&self.bytes);
            return Ok(());
        };
        let deflater = place.get_or_insert_with(|| Deflater::new(self.level, false, Window::Long));
        self.compressed.clear();
        deflater.feed(&self.bytes, &mut self.compressed)?;
        deflater.flush(&mut self.compressed)?;
        // Appends nothing: all of the block is out.
        deflater.adapt(&mut self.compressed)?;
        encoded.tight_block(stream, &self.compressed);
        Ok(())
    }
}
