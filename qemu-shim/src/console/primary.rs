//! The primary plane: opaque, and as large as the screen.

use std::io;
use std::ops::Range;

use vfio_gfx::display::Pixels;
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::compare::{Fingerprints, update_row};
use vfio_gfx::plane::{Plane, Source};

use super::ConsoleError;
use crate::convert::Converter;
use crate::damage::{Damage, TILE};
use crate::frame::Frame;

/// Somebody who knows which bytes of a device's video memory were written: KVM's dirty log, the kernel's page tables, a
/// VMM that traps.
pub trait DamageSource: Send {
    /// Calls `each` for every piece of `range` that may have been written since the last call that covered it, and from now
    /// on counts anew. Bytes are counted from the start of the plane's region. Saying too much is allowed.
    ///
    /// # Errors
    /// What the source fails with; everything is then compared.
    fn written(&mut self, range: Range<u64>, each: &mut dyn FnMut(Range<u64>)) -> io::Result<()>;
}

/// The plane, as far as it was seen.
#[derive(Default)]
pub(super) struct Primary {
    frame: Frame,
    damage: Damage,
    plane: Option<Plane>,
    source: Option<Box<dyn DamageSource>>,
    /// Whether everything that the source said up to now has been looked at.
    is_caught_up: bool,
    /// What of the frame has not changed for a while.
    seen: Fingerprints,
    /// One row as the device has it, and as the frame has it.
    bytes: Vec<u8>,
    row: Vec<u32>,
    /// Rows to look at, from the first to behind the last.
    rows: Vec<Range<u32>>,
}

impl std::fmt::Debug for Primary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Primary").field("plane", &self.plane).finish_non_exhaustive()
    }
}

impl Primary {
    pub(super) fn set_source(&mut self, source: Box<dyn DamageSource>) {
        self.source = Some(source);
        self.is_caught_up = false;
    }

    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(super) fn plane(&self) -> Option<&Plane> {
        self.plane.as_ref()
    }

    /// What the last update changed.
    pub(super) fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Forgets the picture, and who knew what was written to the memory of a device that is gone.
    pub(super) fn unplug(&mut self) {
        self.clear();
        self.source = None;
    }

    /// Forgets the picture.
    pub(super) fn clear(&mut self) {
        self.frame = Frame::default();
        self.damage.resize(0, 0);
        self.plane = None;
        self.is_caught_up = false;
    }

    /// Brings the frame up to date: rows that changed are written, others only compared.
    pub(super) fn update(&mut self, pixels: &Pixels<'_>) -> Result<(), ConsoleError> {
        let plane = *pixels.plane();
        let (converter, row_bytes) = readable(&plane)?;
        let (width, height) = (plane.geometry.width(), plane.geometry.height());
        let is_new = (self.frame.width(), self.frame.height()) != (width, height);
        self.frame.resize(width, height)?;
        if is_new {
            self.damage.resize(width, height);
            self.seen.resize(width as usize, height as usize);
        }
        self.damage.clear();
        self.seen.start_look();
        if plane.format != Fourcc::XRGB8888 {
            self.seen.clear();
        }
        let is_known = self.plane == Some(plane) && self.is_caught_up && !is_new;
        self.is_caught_up = false;
        self.plane = Some(plane);
        self.find_rows(&plane, is_known);
        self.bytes.resize(row_bytes, 0);
        self.row.resize(width as usize, 0);
        for rows in &self.rows {
            if plane.format == Fourcc::XRGB8888 {
                let (shown, changed) = (self.frame.pixels_mut(), self.damage.words_mut());
                pixels.update_rows(rows.clone(), shown, changed, &mut self.seen)?;
                continue;
            }
            let shown = self.frame.rows_mut().skip(rows.start as usize);
            for (y, shown) in rows.clone().zip(shown) {
                let changed = self.damage.row_mut(y / TILE);
                pixels.read_row(y, &mut self.bytes)?;
                converter.convert_row(&self.bytes, &mut self.row);
                update_row(&self.row, shown, changed);
            }
        }
        if is_new {
            self.damage.add_all();
        }
        self.is_caught_up = true;
        Ok(())
    }

    /// Which rows have to be looked at: all, unless somebody knows better and the plane is where it was.
    fn find_rows(&mut self, plane: &Plane, is_known: bool) {
        let all = 0..plane.geometry.height();
        self.rows.clear();
        let (Some(source), Source::Region { offset, .. }) = (&mut self.source, plane.source) else {
            self.rows.push(all);
            return;
        };
        let stride = u64::from(plane.geometry.stride());
        let row_of = |byte: u64| u32::try_from(byte.saturating_sub(offset) / stride).unwrap_or(u32::MAX);
        let range = offset..offset.saturating_add(plane.geometry.bytes());
        let rows = &mut self.rows;
        let result = source.written(range, &mut |bytes| {
            if bytes.is_empty() {
                return;
            }
            let found =
                row_of(bytes.start).min(all.end)..row_of(bytes.end - 1).saturating_add(1).min(all.end);
            match rows.last_mut() {
                Some(last) if (last.start..=last.end).contains(&found.start) => {
                    last.end = last.end.max(found.end)
                }
                _ => rows.push(found),
            }
        });
        if result.is_err() || !is_known {
            rows.clear();
            rows.push(all);
        }
    }
}

/// Whether two answers name the same pixels, in whatever format.
pub(super) fn is_same_picture(a: &Plane, b: &Plane) -> bool {
    let memory = |plane: &Plane| match plane.source {
        Source::Region { index, offset } => (index, offset),
        // Where in its buffer a plane is comes with the buffer.
        Source::Buffer { id, .. } => (id, 0),
    };
    (a.geometry, memory(a)) == (b.geometry, memory(b))
}

/// How to read a plane's rows: the converter, and the bytes of pixels in each.
pub(super) fn readable(plane: &Plane) -> Result<(Converter, usize), ConsoleError> {
    let unknown = || ConsoleError::Format(plane.format);
    let converter = Converter::new(plane.format).ok_or_else(unknown)?;
    let bytes_per_pixel = plane.format.bytes_per_pixel().ok_or_else(unknown)?;
    let row_bytes = usize::try_from(plane.geometry.row_bytes(bytes_per_pixel)).map_err(|_| unknown())?;
    Ok((converter, row_bytes))
}

#[cfg(test)]
mod tests {
    use mdev_sample::DeviceType;
    use vfio_gfx::abi::PlaneKind;
    use vfio_gfx::device::SharedDevice;
    use vfio_gfx::display::{Display, Local};
    use vfio_gfx::memory::compare::LOOKS;

    use super::*;

    #[test]
    fn a_picture_at_rest_is_compared_now_and_then() {
        let device = SharedDevice::new(DeviceType::find("mdpy-vga").unwrap().create(None).unwrap());
        let mut display = Display::open(Box::new(Local::new(device))).unwrap();
        let mut primary = Primary::default();
        let mut look = |primary: &mut Primary| {
            primary.update(&display.pixels(PlaneKind::Primary).unwrap().unwrap()).unwrap();
            primary.damage().count()
        };
        assert!(look(&mut primary) > 0);
        assert_eq!([look(&mut primary), look(&mut primary)], [0, 0]);
        let picture = primary.frame().clone();
        // As if each row had changed into one with the same fingerprint.
        primary.frame.pixels_mut().fill(7);
        let found: u32 = (0..LOOKS).map(|_| look(&mut primary)).sum();
        assert!(found > 0 && *primary.frame() == picture);
    }
}
