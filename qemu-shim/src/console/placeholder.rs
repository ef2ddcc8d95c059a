//! What is shown while there is nothing to see.
//!
//! A black window makes people restart their guests. A grey one with a sentence does not.

use embedded_graphics::Drawable;
use embedded_graphics::mono_font::MonoTextStyle;
use embedded_graphics::mono_font::ascii::FONT_9X18;
use embedded_graphics::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics::prelude::{DrawTarget, OriginDimensions, Pixel, Point, Size};
use embedded_graphics::text::{Alignment, Baseline, Text, TextStyleBuilder};

use super::ConsoleError;
use crate::damage::Damage;
use crate::frame::Frame;

/// Why there is no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Nobody has looked yet.
    NotYet,
    /// The primary plane is off.
    Off,
    /// The device says things that cannot be.
    Broken,
    /// The device is gone.
    Gone,
}

impl Reason {
    pub(super) fn of(error: &ConsoleError) -> Self {
        if error.is_gone() { Self::Gone } else { Self::Broken }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotYet => "Waiting for the display.",
            Self::Off => "The guest's display is off.",
            Self::Broken => "The display cannot be shown;\nthe log says why.",
            Self::Gone => "The display has been unplugged.",
        }
    }
}

/// The size of a placeholder when nothing was shown before it, in pixels: that of a PC's first graphics mode.
const FIRST_SIZE: (u32, u32) = (640, 480);
/// Dark grey: neither a black screen nor part of a picture.
const BACKGROUND: u32 = 0x0030_3030;

/// A picture that says why there is none.
#[derive(Debug)]
pub(super) struct Placeholder {
    frame: Frame,
    damage: Damage,
    /// What it says; `None` while there is a picture.
    shown: Option<Reason>,
    /// The size of the last picture.
    size: (u32, u32),
}

impl Default for Placeholder {
    fn default() -> Self {
        let mut placeholder =
            Self { frame: Frame::default(), damage: Damage::default(), shown: None, size: FIRST_SIZE };
        placeholder.show(Reason::NotYet, (0, 0));
        placeholder
    }
}

impl Placeholder {
    pub(super) fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Why there is no picture; `None` while there is one.
    pub(super) fn reason(&self) -> Option<Reason> {
        self.shown
    }

    pub(super) fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Says why there is no picture, as large as the last one (`0` = keep the size).
    pub(super) fn show(&mut self, reason: Reason, last: (u32, u32)) {
        if last.0 != 0 && last.1 != 0 {
            self.size = last;
        }
        let (width, height) = self.size;
        self.damage.resize(width, height);
        if self.shown == Some(reason) && (self.frame.width(), self.frame.height()) == self.size {
            return;
        }
        // A frame of this size was held a moment ago; if there is no memory for it now the last placeholder stays.
        if self.frame.resize(width, height).is_err() {
            self.damage.resize(self.frame.width(), self.frame.height());
        }
        self.frame.pixels_mut().fill(BACKGROUND);
        let middle = Point::new((width / 2).cast_signed(), (height / 2).cast_signed());
        let style = MonoTextStyle::new(&FONT_9X18, Rgb888::WHITE);
        let centred = TextStyleBuilder::new().alignment(Alignment::Center).baseline(Baseline::Middle).build();
        let text = Text::with_text_style(reason.text(), middle, style, centred);
        // Drawing on a frame does not fail.
        let _ = text.draw(&mut Target(&mut self.frame));
        self.shown = Some(reason);
        self.damage.add_all();
    }

    /// There is a picture again.
    pub(super) fn leave(&mut self) {
        self.shown = None;
        self.damage.clear();
    }
}

/// A frame to draw text on.
struct Target<'a>(&'a mut Frame);

impl OriginDimensions for Target<'_> {
    fn size(&self) -> Size {
        Size::new(self.0.width(), self.0.height())
    }
}

impl DrawTarget for Target<'_> {
    type Color = Rgb888;
    type Error = std::convert::Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Self::Error> {
        for Pixel(Point { x, y }, color) in pixels {
            let (Ok(x), Ok(y)) = (usize::try_from(x), u32::try_from(y)) else { continue };
            if let Some(pixel) = self.0.row_mut(y).and_then(|row| row.get_mut(x)) {
                *pixel = u32::from_be_bytes([0, color.r(), color.g(), color.b()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_something_at_any_size() {
        for size in [(1, 1), (20, 9), (640, 480), (1920, 1080)] {
            let mut placeholder = Placeholder::default();
            placeholder.show(Reason::Off, size);
            assert_eq!((placeholder.frame().width(), placeholder.frame().height()), size);
            assert!(!placeholder.damage().is_empty());
            let white = placeholder.frame().pixels().iter().filter(|pixel| **pixel == 0xff_ffff).count();
            assert!(size.0 < 640 || white > 200, "{white} white pixels");
            placeholder.show(Reason::Off, size);
            assert!(placeholder.damage().is_empty(), "the same again");
            let off = placeholder.frame().clone();
            placeholder.show(Reason::Gone, (0, 0));
            assert!(size.0 < 640 || *placeholder.frame() != off);
        }
    }
}
