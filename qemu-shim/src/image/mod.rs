//! Frames as picture files.
//!
//! Both writers go row by row: the only buffer is one row, whatever the size of the picture, and the rows may come
//! straight from a device.

mod png;
mod ppm;

use std::io;

pub use self::png::{ReadError, read_png, write_png};
pub use self::ppm::write_ppm;
use crate::Frame;

/// A picture that can be written: whoever has its rows, one after the other.
pub trait Rows {
    /// Width and height in pixels.
    fn size(&self) -> (u32, u32);

    /// Hands over each row from top to bottom, pixels as in a [`Frame`].
    ///
    /// # Errors
    /// Those of `each`, and why a row could not be had.
    fn for_each_row(&mut self, each: &mut dyn FnMut(&[u32]) -> io::Result<()>) -> io::Result<()>;
}

impl Rows for &Frame {
    fn size(&self) -> (u32, u32) {
        (self.width(), self.height())
    }

    fn for_each_row(&mut self, each: &mut dyn FnMut(&[u32]) -> io::Result<()>) -> io::Result<()> {
        self.rows().try_for_each(each)
    }
}

impl<R: Rows + ?Sized> Rows for &mut R {
    fn size(&self) -> (u32, u32) {
        (**self).size()
    }

    fn for_each_row(&mut self, each: &mut dyn FnMut(&[u32]) -> io::Result<()>) -> io::Result<()> {
        (**self).for_each_row(each)
    }
}

/// The row as three bytes per pixel, red first; `bytes` becomes exactly that long.
fn pack_rgb(row: &[u32], bytes: &mut Vec<u8>) {
    bytes.resize(row.len() * 3, 0);
    let (packed, _) = bytes.as_chunks_mut::<3>();
    for (rgb, pixel) in packed.iter_mut().zip(row) {
        let [_, r, g, b] = pixel.to_be_bytes();
        *rgb = [r, g, b];
    }
}

/// The size of a picture; neither format has one without pixels.
fn size(picture: &impl Rows) -> io::Result<(u32, u32)> {
    let (width, height) = picture.size();
    if width == 0 || height == 0 {
        let message = format!("a picture needs at least one pixel, this frame is {width}x{height}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok((width, height))
}
