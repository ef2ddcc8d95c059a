//! A plane that lies on the screen: the overlay, or the cursor.

use vfio_gfx::abi::{Errno, PlaneKind};
use vfio_gfx::display::{Display, DisplayError, Pixels};
use vfio_gfx::plane::Plane;

use super::ConsoleError;
use super::primary::{is_same_picture, readable};
use crate::compose::fast::{Layer, Pixels as LayerPixels};
use crate::convert::AlphaConverter;
use crate::cursor::{Cursor, MAX_SIDE};
use crate::damage::{Damage, Rect};
use crate::frame::{Frame, FrameError};

/// A rectangle anywhere: what a sprite covers, before the screen cuts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place {
    x: i32,
    y: i32,
    width: u32,
    height: u32,
}

impl Place {
    fn add_to(self, damage: &mut Damage) {
        let cut = |position: i32, length: u32| {
            let end = i64::from(position) + i64::from(length);
            let start = position.max(0).unsigned_abs();
            (start, u32::try_from(end.saturating_sub(i64::from(start)).max(0)).unwrap_or(length))
        };
        let ((x, width), (y, height)) = (cut(self.x, self.width), cut(self.y, self.height));
        damage.add(Rect { x, y, width, height });
    }
}

/// What a look found.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Change {
    /// It looks different, came or went.
    pub(super) shape: bool,
    /// It is elsewhere.
    pub(super) moved: bool,
    was: Place,
    is: Place,
}

impl Change {
    /// The screen changed where it was and where it is, if it did.
    pub(super) fn add_to(self, damage: &mut Damage) {
        if self.shape || self.moved {
            self.was.add_to(damage);
            self.is.add_to(damage);
        }
    }
}

/// An overlay or cursor plane, as far as it was seen.
#[derive(Debug)]
pub(super) struct Sprite {
    kind: PlaneKind,
    /// The device has none: not asked for again.
    is_absent: bool,
    is_on: bool,
    /// The device said that it is off, and nothing was wrong since.
    is_known_off: bool,
    /// Where it is and what it looks like. An overlay has a hotspot of 0.
    picture: Cursor,
    /// What was seen last; its memory is used for the next look.
    next: Vec<u32>,
    bytes: Vec<u8>,
}

impl Sprite {
    pub(super) fn new(kind: PlaneKind) -> Self {
        let picture = Cursor::default();
        let (next, bytes) = (Vec::new(), Vec::new());
        Self { kind, is_absent: false, is_on: false, is_known_off: false, picture, next, bytes }
    }

    /// It as a cursor, while it is on.
    pub(super) fn cursor(&self) -> Option<&Cursor> {
        self.is_on.then_some(&self.picture)
    }

    /// It as a layer to blend, while it is on.
    pub(super) fn layer(&self) -> Option<Layer<'_>> {
        let Cursor { x, y, width, height, pixels, .. } = self.cursor()?;
        let pixels = LayerPixels::Premultiplied(pixels);
        Some(Layer { x: *x, y: *y, width: *width, height: *height, pixels })
    }

    fn place(&self) -> Place {
        let Cursor { x, y, width, height, .. } = self.picture;
        if self.is_on { Place { x, y, width, height } } else { Place::default() }
    }

    /// It is not there any more. Returns whether it was.
    pub(super) fn clear(&mut self) -> bool {
        self.is_known_off = false;
        std::mem::take(&mut self.is_on)
    }

    /// The same, as a change.
    pub(super) fn clear_change(&mut self) -> Change {
        let was = self.place();
        Change { shape: self.clear(), moved: false, was, is: Place::default() }
    }

    /// Whether the device shows it, on a screen whose primary plane is this.
    pub(super) fn is_on(&mut self, display: &mut Display, primary: &Plane) -> Result<bool, ConsoleError> {
        Ok(self.query(display, primary)?.is_some())
    }

    /// What the device says of it. Devices without such a plane refuse, or (the kernel's mdpy) answer for their primary
    /// plane whatever they were asked for.
    fn query(&mut self, display: &mut Display, primary: &Plane) -> Result<Option<Plane>, ConsoleError> {
        if self.is_absent {
            return Ok(None);
        }
        match display.plane(self.kind) {
            Ok(Some(plane)) if is_same_picture(&plane, primary) => self.is_absent = true,
            Ok(plane) => return Ok(plane),
            Err(error) if refuses(&error) => self.is_absent = true,
            Err(error) => return Err(error.into()),
        }
        Ok(None)
    }

    /// Brings it up to date. `is_quiet`: no plane has gone on since the last look, so that one that was off is not asked for.
    pub(super) fn look(
        &mut self,
        display: &mut Display,
        primary: &Plane,
        is_quiet: bool,
    ) -> Result<Change, ConsoleError> {
        if is_quiet && self.is_known_off {
            return Ok(Change::default());
        }
        if self.query(display, primary)?.is_none() {
            let change = self.clear_change();
            self.is_known_off = true;
            return Ok(change);
        }
        let Some(pixels) = display.pixels(self.kind)? else {
            return Ok(self.clear_change());
        };
        let plane = *pixels.plane();
        self.read(&pixels)?;
        let was = self.place();
        let (width, height) = (plane.geometry.width(), plane.geometry.height());
        let (x, y) = plane.position;
        let (hot_x, hot_y) = plane.hotspot.unwrap_or((0, 0));
        let now = Place { x, y, width, height };
        let shape = !self.is_on
            || (was.width, was.height) != (width, height)
            || (self.picture.hot_x, self.picture.hot_y) != (hot_x, hot_y)
            || self.picture.pixels != self.next;
        if shape {
            std::mem::swap(&mut self.picture.pixels, &mut self.next);
        }
        let moved = !self.is_on || (was.x, was.y) != (x, y);
        let pixels = std::mem::take(&mut self.picture.pixels);
        self.picture = Cursor { x, y, hot_x, hot_y, width, height, pixels };
        self.is_on = true;
        Ok(Change { shape, moved, was, is: now })
    }

    /// Reads its pixels to `next`, colours multiplied by alpha.
    fn read(&mut self, pixels: &Pixels<'_>) -> Result<(), ConsoleError> {
        let plane = pixels.plane();
        let (width, height) = (plane.geometry.width(), plane.geometry.height());
        if self.kind == PlaneKind::Cursor && (width > MAX_SIDE || height > MAX_SIDE) {
            return Err(ConsoleError::Cursor { width, height });
        }
        if width > Frame::MAX_SIDE || height > Frame::MAX_SIDE {
            return Err(FrameError::TooLarge { width, height }.into());
        }
        let (_, row_bytes) = readable(plane)?;
        let converter = AlphaConverter::new(plane.format).ok_or(ConsoleError::Format(plane.format))?;
        self.bytes.resize(row_bytes, 0);
        self.next.resize(width as usize * height as usize, 0);
        for (y, row) in (0..height).zip(self.next.chunks_exact_mut(width as usize)) {
            pixels.read_row(y, &mut self.bytes)?;
            converter.convert_row(&self.bytes, row);
        }
        Ok(())
    }
}

/// Whether a device says that it does not know such planes.
fn refuses(error: &DisplayError) -> bool {
    matches!(error.errno(), Some(Errno::EINVAL | Errno::ENOTTY | Errno::ENODEV | Errno::EOPNOTSUPP))
}
