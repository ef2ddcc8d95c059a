//! Zlib (encoding 6): raw pixels in one deflate stream.

use flate2::CompressError;

use super::deflate::{Deflater, Window};
use super::encoded::{Encoded, Stream};
use super::pixels::Pixels;
use super::rect::{rect_header, rows};
use super::{Encoding, Settings};
use crate::{Frame, Rect};

/// Bytes given to the compressor at a time: enough for its loop to get going, and still in the cache when it comes.
const BATCH: usize = 32 << 10;

#[derive(Debug)]
pub(super) struct Zlib {
    pixels: Pixels,
    deflater: Deflater,
    batch: Vec<u8>,
}

impl Zlib {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            pixels: Pixels::plain(&settings.format),
            deflater: Deflater::new(settings.level, false, Window::Long),
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
        rect_header(rect, Encoding::Zlib.raw(), out);
        let at = out.len();
        out.extend([0; 4]);
        self.batch.clear();
        for row in rows(frame, rect) {
            self.pixels.convert(row, &mut self.batch);
            if self.batch.len() >= BATCH {
                self.deflater.feed(&self.batch, out)?;
                self.deflater.adapt(out)?;
                self.batch.clear();
            }
        }
        self.deflater.feed(&self.batch, out)?;
        self.deflater.flush(out)?;
        encoded.block(Stream::Zlib, at);
        Ok(())
    }
}
