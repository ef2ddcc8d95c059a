//! Frames as picture files.
//!
//! Both writers go row by row: the only buffer is one row, whatever the size of the frame.

mod png;
mod ppm;

use std::io;

pub use self::png::{ReadError, read_png, write_png};
pub use self::ppm::write_ppm;
use crate::Frame;

/// The row as three bytes per pixel, red first; `bytes` becomes exactly that long.
fn pack_rgb(row: &[u32], bytes: &mut Vec<u8>) {
    bytes.resize(row.len() * 3, 0);
    let (packed, _) = bytes.as_chunks_mut::<3>();
    for (rgb, pixel) in packed.iter_mut().zip(row) {
        let [_, r, g, b] = pixel.to_be_bytes();
        *rgb = [r, g, b];
    }
}

/// Neither format has a picture without pixels.
fn refuse_empty(frame: &Frame) -> io::Result<()> {
    if frame.is_empty() {
        let (width, height) = (frame.width(), frame.height());
        let message = format!("a picture needs at least one pixel, this frame is {width}x{height}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}
