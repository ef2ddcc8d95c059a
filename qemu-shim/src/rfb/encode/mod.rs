//! Pictures into bytes for viewers: the encodings of RFC 6143 §7.7 and of the community's rfbproto text.
//!
//! An [`Encoder`] has no client. It compresses each update from an empty history and ends it with a sync flush, never with
//! an end of stream, so that the same bytes continue the stream of whatever client they are sent to: ten clients who want
//! the same [`Settings`] cost one compression. What little differs between them is in [`ClientStreams`].

pub mod pseudo;

mod deflate;
mod encoded;
mod palette;
mod pixels;
mod rect;
#[cfg(test)]
mod tests;
mod tight;
mod zlib;
mod zrle;

pub use self::encoded::{ClientStreams, Encoded, PARTS};
pub use self::rect::{copy_rect, rect_header, update_header};
pub use super::encodings::Encoding;

use flate2::CompressError;

use self::pixels::Pixels;
use self::tight::Tight;
use self::zlib::Zlib;
use self::zrle::Zrle;
use super::pixel_format::PixelFormat;
use crate::{Frame, Rect};

/// Most rectangles an update is made of before it is made of one around them all: an update counts in 16 bits, and so many
/// small ones cost more than the pixels between them.
const MOST_RECTS: usize = 4096;

/// Rectangles in an update behind which each one given is sent as it is, and before which none is looked through that might
/// lead there. So an update has at most this many, one of the largest frame's in blocks (4096) and one for each given.
const CROWDED: u16 = 50_000;

/// All that decides what bytes a picture becomes. Clients with equal settings can share an [`Encoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// The encoding of pixels. [`Encoding::CopyRect`] carries none and means Raw here.
    pub encoding: Encoding,
    /// The client's pixel format.
    pub format: PixelFormat,
    /// Compression, 0 (none) to 9 (smallest); higher means 9.
    pub level: u8,
    /// JPEG quality, 0 to 9, for Tight and TightPNG: parts of many colours lose detail. `None` is lossless; so is a pixel
    /// format of 8 bits, for which the protocol has no JPEG.
    pub quality: Option<u8>,
}

/// Why an update could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The compressor did not take what it must take. Nothing we know of leads here.
    #[error("cannot compress a picture: {0}")]
    Compress(#[from] CompressError),
}

#[derive(Debug)]
enum Method {
    Raw(Pixels),
    Zlib(Box<Zlib>),
    Zrle(Box<Zrle>),
    Tight(Box<Tight>),
}

/// Encodes updates with some settings. Keeps its memory from one to the next.
#[derive(Debug)]
pub struct Encoder {
    method: Method,
}

impl Encoder {
    /// An encoder with these settings.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let method = match settings.encoding {
            Encoding::Raw | Encoding::CopyRect => Method::Raw(Pixels::plain(&settings.format)),
            Encoding::Zlib => Method::Zlib(Box::new(Zlib::new(settings))),
            Encoding::Zrle => Method::Zrle(Box::new(Zrle::new(settings))),
            Encoding::Tight | Encoding::TightPng => Method::Tight(Box::new(Tight::new(settings))),
        };
        Self { method }
    }

    /// Encodes rectangles of a frame into `encoded`, in place of what is in it; what is outside the frame is left out.
    ///
    /// # Errors
    /// See [`EncodeError`]; the contents are then of no use.
    pub fn encode_update(
        &mut self,
        frame: &Frame,
        rects: &[Rect],
        encoded: &mut Encoded,
    ) -> Result<(), EncodeError> {
        encoded.clear();
        match &mut self.method {
            Method::Raw(_) => {}
            Method::Zlib(zlib) => zlib.restart()?,
            Method::Zrle(zrle) => zrle.restart()?,
            Method::Tight(tight) => tight.restart()?,
        }
        let around;
        let rects = if rects.len() > MOST_RECTS {
            around = [bounds(rects, frame)];
            &around
        } else {
            rects
        };
        for rect in rects {
            let rect = rect.clipped(frame.width(), frame.height());
            if !rect.is_empty() {
                self.encode_rect(frame, rect, encoded)?;
            }
        }
        Ok(())
    }

    fn encode_rect(&mut self, frame: &Frame, rect: Rect, encoded: &mut Encoded) -> Result<(), EncodeError> {
        match &mut self.method {
            Method::Raw(pixels) => raw(pixels, frame, rect, encoded),
            Method::Zlib(zlib) => zlib.encode(frame, rect, encoded)?,
            Method::Zrle(zrle) => zrle.encode(frame, rect, encoded)?,
            Method::Tight(tight) if encoded.count() > CROWDED => raw(tight.plain(), frame, rect, encoded),
            Method::Tight(tight) => tight.encode(frame, rect, encoded)?,
        }
        Ok(())
    }
}

fn raw(pixels: &Pixels, frame: &Frame, rect: Rect, encoded: &mut Encoded) {
    let out = encoded.begin();
    rect_header(rect, Encoding::Raw.raw(), out);
    for row in rect::rows(frame, rect) {
        pixels.convert(row, out);
    }
}

/// The smallest rectangle around the parts of others that are inside a frame.
fn bounds(rects: &[Rect], frame: &Frame) -> Rect {
    let inside = rects.iter().map(|rect| rect.clipped(frame.width(), frame.height()));
    let (mut left, mut top, mut right, mut bottom) = (u32::MAX, u32::MAX, 0, 0);
    for rect in inside.filter(|rect| !rect.is_empty()) {
        (left, top) = (left.min(rect.x), top.min(rect.y));
        (right, bottom) = (right.max(rect.x + rect.width), bottom.max(rect.y + rect.height));
    }
    Rect::new(left, top, right.saturating_sub(left), bottom.saturating_sub(top))
}
