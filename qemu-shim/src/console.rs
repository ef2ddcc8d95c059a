//! What a device shows, refreshed into a frame.

use std::io;
use std::time::Duration;

use thiserror::Error;
use vfio_gfx::abi::PlaneKind;
use vfio_gfx::display::{Display, DisplayError, Pixels, Watch};
use vfio_gfx::format::Fourcc;
use vfio_gfx::plane::Plane;

use crate::convert::Converter;
use crate::crc::Raw;
use crate::frame::{Frame, FrameError};
use crate::image::Rows;

/// Why a console has no picture.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// The device cannot be read.
    #[error(transparent)]
    Display(#[from] DisplayError),
    /// Its picture is too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Its pixels mean nothing to us.
    #[error("the plane's format {0} cannot be shown")]
    Format(Fourcc),
}

/// What a refresh found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The plane is off; the frame is empty.
    Off,
    /// The picture is what it was.
    Same,
    /// The picture is another.
    Changed,
}

/// Twice in a frame at 60 Hz.
const SHORTEST_WAIT: Duration = Duration::from_millis(8);
/// What nobody who watches should wait longer for.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// Looks without news before the waits grow: a quarter of a second.
const CALM: u32 = 32;

/// A console on a device's primary plane.
#[derive(Debug)]
pub struct Console {
    display: Display,
    frame: Frame,
    /// One row as the device has it, and as the frame has it.
    bytes: Vec<u8>,
    row: Vec<u32>,
    /// Once asked for: how the device tells of changes, if it does.
    watch: Option<Option<Watch>>,
}

impl Console {
    /// A console that has seen nothing yet.
    #[must_use]
    pub fn new(display: Display) -> Self {
        Self { display, frame: Frame::default(), bytes: Vec::new(), row: Vec::new(), watch: None }
    }

    /// The device.
    pub fn display(&mut self) -> &mut Display {
        &mut self.display
    }

    /// Sleeps until it is worth looking again: until the device tells of a change, where it does that; else, and for
    /// pixels that a guest draws without telling, a little while that grows as long as nothing changes, from twice per
    /// frame at 60 Hz to ten times a second. `idle` is how many looks in a row found nothing new.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn wait(&mut self, idle: u32) -> Result<(), ConsoleError> {
        let pause = SHORTEST_WAIT.saturating_mul(1 << idle.saturating_sub(CALM).min(8)).min(LONGEST_WAIT);
        if self.watch.is_none() {
            self.watch = Some(self.display.backend().watch()?);
        }
        match self.watch.as_ref().and_then(Option::as_ref) {
            Some(watch) => drop(watch.wait(pause).map_err(DisplayError::from)?),
            None => std::thread::sleep(pause),
        }
        Ok(())
    }

    /// The picture of the last refresh; empty while the plane is off.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Looks at the device, and brings the frame up to date: rows that changed are written, others only compared.
    ///
    /// # Errors
    /// [`ConsoleError`]; the frame is then empty, so that nothing stale is taken for live.
    pub fn refresh(&mut self) -> Result<Refresh, ConsoleError> {
        let result = self.try_refresh();
        if !matches!(result, Ok(Refresh::Same | Refresh::Changed)) {
            self.frame.resize(0, 0)?;
        }
        result
    }

    fn try_refresh(&mut self) -> Result<Refresh, ConsoleError> {
        let Some(pixels) = self.display.pixels(PlaneKind::Primary)? else {
            return Ok(Refresh::Off);
        };
        let (converter, row_bytes) = readable(pixels.plane())?;
        let geometry = pixels.plane().geometry;
        let is_new = (self.frame.width(), self.frame.height()) != (geometry.width(), geometry.height());
        let mut changed = is_new;
        self.frame.resize(geometry.width(), geometry.height())?;
        self.bytes.resize(row_bytes, 0);
        self.row.resize(geometry.width() as usize, 0);
        for (y, shown) in (0..).zip(self.frame.rows_mut()) {
            pixels.read_row(y, &mut self.bytes)?;
            if is_new {
                converter.convert_row(&self.bytes, shown);
                continue;
            }
            converter.convert_row(&self.bytes, &mut self.row);
            if shown != self.row {
                shown.copy_from_slice(&self.row);
                changed = true;
            }
        }
        Ok(if changed { Refresh::Changed } else { Refresh::Same })
    }

    /// The picture as it is now, to be read once, row by row, straight from the device: for a picture that is not kept. A
    /// guest may draw between one row and the next. `None` while the plane is off.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn live(&mut self) -> Result<Option<Live<'_>>, ConsoleError> {
        let Some(pixels) = self.display.pixels(PlaneKind::Primary)? else {
            return Ok(None);
        };
        let (converter, row_bytes) = readable(pixels.plane())?;
        self.bytes.resize(row_bytes, 0);
        self.row.resize(pixels.plane().geometry.width() as usize, 0);
        Ok(Some(Live { pixels, converter, bytes: &mut self.bytes, row: &mut self.row }))
    }

    /// The plane and the CRC-32 of its visible bytes as the device has them. `None` while it is off.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn raw_crc(&mut self) -> Result<Option<(Plane, u32)>, ConsoleError> {
        let Some(pixels) = self.display.pixels(PlaneKind::Primary)? else {
            return Ok(None);
        };
        let (_, row_bytes) = readable(pixels.plane())?;
        self.bytes.resize(row_bytes, 0);
        let crc = raw_rows(&pixels, &mut self.bytes)?;
        Ok(Some((*pixels.plane(), crc)))
    }
}

/// A picture on its way from the device.
#[derive(Debug)]
pub struct Live<'a> {
    pixels: Pixels<'a>,
    converter: Converter,
    bytes: &'a mut [u8],
    row: &'a mut [u32],
}

impl Rows for Live<'_> {
    fn size(&self) -> (u32, u32) {
        let geometry = self.pixels.plane().geometry;
        (geometry.width(), geometry.height())
    }

    fn for_each_row(&mut self, each: &mut dyn FnMut(&[u32]) -> io::Result<()>) -> io::Result<()> {
        for y in 0..self.size().1 {
            self.pixels.read_row(y, self.bytes).map_err(io::Error::other)?;
            self.converter.convert_row(self.bytes, self.row);
            each(self.row)?;
        }
        Ok(())
    }
}

fn raw_rows(pixels: &Pixels<'_>, row: &mut [u8]) -> Result<u32, ConsoleError> {
    let mut raw = Raw::new();
    for y in 0..pixels.plane().geometry.height() {
        pixels.read_row(y, row)?;
        raw.update(row);
    }
    Ok(raw.finish())
}

/// How to read a plane's rows: the converter, and the bytes of pixels in each.
fn readable(plane: &Plane) -> Result<(Converter, usize), ConsoleError> {
    let unknown = || ConsoleError::Format(plane.format);
    let converter = Converter::new(plane.format).ok_or_else(unknown)?;
    let bytes_per_pixel = plane.format.bytes_per_pixel().ok_or_else(unknown)?;
    let row_bytes = usize::try_from(plane.geometry.row_bytes(bytes_per_pixel)).map_err(|_| unknown())?;
    Ok((converter, row_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdev_sample::DeviceType;
    use vfio_gfx::device::{Device, Interfaces, SharedDevice};
    use vfio_gfx::display::Local;

    fn write16(device: &mut Device, register: u64, value: u16) {
        device.guest_write(2, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
    }

    fn console(interfaces: Interfaces) -> (SharedDevice, Console) {
        let device = DeviceType::find("mbochs-small").unwrap().create(Some(interfaces)).unwrap();
        let device = SharedDevice::new(device);
        let display = Display::open(Box::new(Local::new(device.clone()))).unwrap();
        (device, Console::new(display))
    }

    #[test]
    fn a_guest_that_flips_is_followed_through_both_interfaces() {
        for interfaces in [Interfaces::REGION, Interfaces::DMABUF] {
            let (device, mut console) = console(interfaces);
            assert_eq!(console.refresh().unwrap(), Refresh::Off);
            {
                let mut device = device.lock();
                for (register, value) in [(3, 32), (1, 66), (2, 64), (6, 70), (4, 0x41)] {
                    write16(&mut device, register, value);
                }
                // The second page, which starts in the middle of a memory page.
                let second_page = 64 * 70 * 4;
                device.vram().write(second_page + (63 * 70 + 65) * 4, &[0x33, 0x22, 0x11, 0xff]).unwrap();
            }
            assert_eq!(console.refresh().unwrap(), Refresh::Changed);
            assert!(console.frame().pixels().iter().all(|pixel| *pixel == 0));
            assert_eq!(console.refresh().unwrap(), Refresh::Same);
            {
                let mut device = device.lock();
                for (register, value) in [(6, 70), (8, 0), (9, 64)] {
                    write16(&mut device, register, value);
                }
            }
            assert_eq!(console.refresh().unwrap(), Refresh::Changed);
            assert_eq!(console.frame().row(63).unwrap()[65], 0x0011_2233);
            device.lock().guest_write(2, 0x400, &[0]).unwrap();
            assert_eq!(console.refresh().unwrap(), Refresh::Off);
            assert!(console.frame().is_empty(), "nothing stale is kept");
        }
    }
}
