//! A picture that is read once and not kept.

use std::io;

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::display::{Confirm, Pixels};
use vfio_gfx::plane::Plane;

use super::primary::readable;
use super::{Console, ConsoleError};
use crate::convert::Converter;
use crate::crc::Raw;
use crate::image::Rows;

impl Console {
    /// The primary plane as it is now, to be read once, row by row, straight from the device. A guest may draw between one
    /// row and the next. `None` while the plane is off, or when other planes lie on it: the picture is then composed
    /// ([`Console::refresh`]).
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn live(&mut self) -> Result<Option<Live<'_>>, ConsoleError> {
        let Some(primary) = self.display.plane(PlaneKind::Primary)? else { return Ok(None) };
        for kind in [PlaneKind::Overlay, PlaneKind::Cursor] {
            let sprite = if kind == PlaneKind::Cursor { &mut self.cursor } else { &mut self.overlay };
            if sprite.is_on(&mut self.display, &primary)? {
                return Ok(None);
            }
        }
        let Some((pixels, confirm)) = self.display.pixels_to_confirm(PlaneKind::Primary)? else {
            return Ok(None);
        };
        let (converter, row_bytes) = readable(pixels.plane())?;
        let width = pixels.plane().geometry.width() as usize;
        Ok(Some(Live { pixels, confirm, converter, bytes: vec![0; row_bytes], row: vec![0; width] }))
    }

    /// The primary plane and the CRC-32 of its visible bytes as the device has them. `None` while it is off.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn raw_crc(&mut self) -> Result<Option<(Plane, u32)>, ConsoleError> {
        let Some(pixels) = self.display.pixels(PlaneKind::Primary)? else {
            return Ok(None);
        };
        let (_, row_bytes) = readable(pixels.plane())?;
        let mut row = vec![0; row_bytes];
        let mut raw = Raw::new();
        for y in 0..pixels.plane().geometry.height() {
            pixels.read_row(y, &mut row)?;
            raw.update(&row);
        }
        let plane = *pixels.plane();
        drop(pixels);
        self.display.confirm()?;
        Ok(Some((plane, raw.finish())))
    }
}

/// A picture on its way from the device. Reading it to its end fails if the device was unplugged meanwhile.
#[derive(Debug)]
pub struct Live<'a> {
    pixels: Pixels<'a>,
    confirm: Confirm<'a>,
    converter: Converter,
    bytes: Vec<u8>,
    row: Vec<u32>,
}

impl Rows for Live<'_> {
    fn size(&self) -> (u32, u32) {
        let geometry = self.pixels.plane().geometry;
        (geometry.width(), geometry.height())
    }

    fn for_each_row(&mut self, each: &mut dyn FnMut(&[u32]) -> io::Result<()>) -> io::Result<()> {
        for y in 0..self.size().1 {
            self.pixels.read_row(y, &mut self.bytes).map_err(io::Error::other)?;
            self.converter.convert_row(&self.bytes, &mut self.row);
            each(&self.row)?;
        }
        // Memory of a device that is gone reads as zeros.
        self.confirm.confirm().map_err(io::Error::other)
    }
}
