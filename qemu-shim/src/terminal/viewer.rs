//! What to send to a terminal so that it shows a picture and a line about it.
//!
//! A viewer knows what is on the terminal, and adds what is missing. It does no I/O: whoever has a terminal sends what it
//! makes.

use super::blocks::Blocks;
use super::layout::{Layout, go_to};
use super::mode::Mode;
use super::scale::{Scaled, fitted};
use super::{kitty, sixel};
use crate::damage::Damage;
use crate::frame::{Frame, FrameError};

/// What is between these is shown at once by terminals that can ("synchronized output"), and by others as it comes.
const BEGIN: &[u8] = b"\x1b[?2026h";
const END: &[u8] = b"\x1b[?2026l";
/// No colours, nothing on the screen.
const CLEAR: &[u8] = b"\x1b[0m\x1b[2J";

/// A terminal's contents.
#[derive(Clone, Debug)]
pub struct Viewer {
    mode: Mode,
    layout: Layout,
    scaled: Scaled,
    blocks: Blocks,
    status: Option<String>,
    /// What is on the terminal is not known.
    unknown: bool,
}

impl Viewer {
    /// Of a terminal with anything on it.
    #[must_use]
    pub fn new(mode: Mode, layout: Layout) -> Self {
        Self {
            mode,
            layout,
            scaled: Scaled::default(),
            blocks: Blocks::default(),
            status: None,
            unknown: true,
        }
    }

    /// How it shows pictures.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Cells of the terminal.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether everything has to be shown again, whatever changed.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.unknown
    }

    /// Appends what makes the terminal show this picture, if `damage` is what changed in it since the last one. A picture
    /// without pixels is an empty screen.
    ///
    /// # Errors
    /// [`FrameError`] when there is no memory for a smaller copy.
    pub fn show(&mut self, picture: &Frame, damage: &Damage, out: &mut Vec<u8>) -> Result<(), FrameError> {
        let room = match self.mode {
            Mode::Kitty => self.layout.pixels(),
            Mode::Sixel => sixel::room(&self.layout),
            Mode::Blocks => Blocks::room(&self.layout),
        };
        let size = fitted((picture.width(), picture.height()), room);
        let start = out.len();
        out.extend_from_slice(BEGIN);
        if self.unknown || (self.scaled.frame().width(), self.scaled.frame().height()) != size {
            self.clear(out);
        }
        let changed = self.scaled.update(picture, damage, size)?;
        let shown = self.scaled.frame();
        if !shown.is_empty() && !changed.is_empty() {
            match self.mode {
                Mode::Kitty => kitty::paint(shown, &changed, &self.layout, out),
                Mode::Sixel => sixel::paint(shown, out),
                Mode::Blocks => self.blocks.paint(shown, out),
            }
        }
        end(start, out);
        Ok(())
    }

    /// Appends what makes the last row of the terminal read so, as far as there is room.
    pub fn status(&mut self, text: &str, out: &mut Vec<u8>) {
        let columns = self.layout.columns as usize;
        // Nothing that is not for the eye, and what fits.
        let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).take(columns).collect();
        if self.status.as_deref() == Some(&text) {
            return;
        }
        go_to(out, self.layout.rows, 0);
        out.extend_from_slice(format!("\x1b[7m{text:columns$}\x1b[0m").as_bytes());
        self.status = Some(text);
    }

    fn clear(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(CLEAR);
        if self.mode == Mode::Kitty {
            out.extend_from_slice(kitty::DELETE_ALL);
        }
        *self = Self { unknown: false, ..Self::new(self.mode, self.layout) };
    }
}

/// Ends what begins at `start`, or takes it away if it is nothing.
fn end(start: usize, out: &mut Vec<u8>) {
    if out.len() == start + BEGIN.len() {
        out.truncate(start);
    } else {
        out.extend_from_slice(END);
    }
}

#[cfg(test)]
mod tests {
    use super::super::kitty::tests::Images;
    use super::super::sixel::tests::decoded;
    use super::*;
    use crate::damage::Rect;

    const LAYOUT: Layout = Layout { columns: 40, rows: 10, cell: (8, 16) };

    fn picture() -> Frame {
        let mut picture = Frame::new(64, 40).unwrap();
        for (n, pixel) in (0u32..).zip(picture.pixels_mut()) {
            *pixel = (n / 640 * 0x20_0000) | 0x1234;
        }
        picture
    }

    fn shown(viewer: &mut Viewer, picture: &Frame, damage: Rect) -> Vec<u8> {
        let mut changed = Damage::new(picture.width(), picture.height());
        changed.add(damage);
        let mut out = Vec::new();
        viewer.show(picture, &changed, &mut out).unwrap();
        out
    }

    #[test]
    fn each_mode_shows_what_changed_and_nothing_twice() {
        for mode in [Mode::Kitty, Mode::Sixel, Mode::Blocks] {
            let mut viewer = Viewer::new(mode, LAYOUT);
            let mut picture = picture();
            let first = shown(&mut viewer, &picture, Rect::default());
            assert!(first.starts_with(b"\x1b[?2026h\x1b[0m\x1b[2J") && first.ends_with(END), "{mode}");
            assert_eq!(shown(&mut viewer, &picture, Rect::default()), b"", "{mode}");
            picture.row_mut(39).unwrap()[0] = 0xff_ffff;
            let second = shown(&mut viewer, &picture, Rect::new(0, 39, 1, 1));
            assert!(!second.is_empty() && !second.windows(4).any(|bytes| bytes == b"\x1b[2J"), "{mode}");
            if mode != Mode::Sixel {
                assert!(second.len() < first.len(), "{mode}: only what changed");
            }
        }
    }

    #[test]
    fn pictures_are_exact_where_they_fit() {
        let picture = picture();
        let mut images = Images::default();
        images.take(&shown(&mut Viewer::new(Mode::Kitty, LAYOUT), &picture, Rect::default()));
        assert_eq!(images.pixels(16)[..40].concat(), picture.pixels());
        let sixels = shown(&mut Viewer::new(Mode::Sixel, LAYOUT), &picture, Rect::default());
        let start = b"\x1b[?2026h\x1b[0m\x1b[2J".len();
        let (width, height, _) = decoded(&sixels[start..sixels.len() - END.len()]);
        assert_eq!((width, height), (64, 40));
    }

    /// Goes off, comes back: nothing of the old picture stays.
    #[test]
    fn a_screen_without_a_picture_is_empty() {
        let mut viewer = Viewer::new(Mode::Blocks, LAYOUT);
        let picture = picture();
        let mut terminal = vt100::Parser::new(11.try_into().unwrap(), 40.try_into().unwrap(), 0);
        terminal.process(&shown(&mut viewer, &picture, Rect::default()));
        let mut status = Vec::new();
        viewer.status("on", &mut status);
        terminal.process(&status);
        assert!(terminal.screen().contents().contains('\u{2580}'));
        terminal.process(&shown(&mut viewer, &Frame::default(), Rect::default()));
        assert_eq!(terminal.screen().contents().trim(), "");
        status.clear();
        viewer.status("off", &mut status);
        terminal.process(&status);
        assert_eq!(terminal.screen().contents().trim(), "off");
    }

    #[test]
    fn a_status_is_one_row_of_what_can_be_read() {
        let mut viewer = Viewer::new(Mode::Blocks, LAYOUT);
        let mut terminal = vt100::Parser::new(11.try_into().unwrap(), 40.try_into().unwrap(), 0);
        let long = "x".repeat(100);
        for (text, expected) in [("a\x1b[2Jb", "a?[2Jb"), (&long, &long[..40]), ("short", "short")] {
            let mut out = Vec::new();
            viewer.status(text, &mut out);
            terminal.process(&out);
            let rows: Vec<String> = terminal.screen().rows(0, 40).collect();
            assert_eq!(rows[10].trim_end(), expected);
            assert!(rows[..10].iter().all(String::is_empty), "{rows:?}");
            out.clear();
            viewer.status(text, &mut out);
            assert!(out.is_empty());
        }
    }
}
