//! One `FramebufferUpdate` (RFC 6143 §7.6.1): everything a viewer does not have yet.

use crate::console::Update;
use crate::cursor::Cursor;
use crate::damage::Rect;
use crate::frame::Frame;
use crate::rfb::encode::pseudo::{self, Reason};
use crate::rfb::encode::{self, Encoding, Settings};
use crate::rfb::message::Screen;

use super::pictures::Pictures;
use super::viewer::{News, Viewer, wire_size};

/// What is compressed how hard for viewers that do not say: beyond this time grows faster than bytes shrink.
const LEVEL: u8 = 2;
impl Viewer {
    /// Sends what the viewer waits for and does not have, if it has taken what it was sent before. `name`: the desktop's.
    pub fn picture(&mut self, update: &Update<'_>, name: &str, pictures: &mut Pictures) {
        let Some(wanted) = self.wanted().filter(|_| self.is_watching()) else { return };
        let moved = self.moved.take();
        let dirty = self.dirty.take(wanted);
        if dirty.is_empty() && moved.is_none() && self.news.is_empty() {
            return;
        }
        let mut head = Vec::new();
        let mut count = self.tell_news(update, name, &mut head);
        if let Some(moved) = moved {
            let (_, from_y) = wire_size(0, moved.from_y);
            encode::copy_rect(moved.to, (0, from_y), &mut head);
            count += 1;
        }
        let frame = update.frame;
        let is_whole = (u32::from(self.size.0), u32::from(self.size.1)) == (frame.width(), frame.height());
        let settings = self.settings();
        let encoded = if is_whole {
            pictures.encode(&settings, frame, self.draws_cursor(), &dirty.rects())
        } else {
            let corner = self.corner(frame);
            // A picture of its own: nobody else has this size.
            pictures.next();
            let encoded = pictures.encode(&settings, &corner, self.draws_cursor(), &dirty.rects());
            pictures.next();
            encoded
        };
        self.output.push(&encode::update_header(count + encoded.count()));
        self.output.push(&head);
        self.output.push_picture(encoded);
        self.request = None;
    }

    fn settings(&self) -> Settings {
        Settings {
            encoding: self
                .encodings
                .order
                .iter()
                .copied()
                .find(|e| *e != Encoding::CopyRect)
                .unwrap_or(Encoding::Raw),
            format: self.format,
            level: self.encodings.compression.unwrap_or(LEVEL),
            quality: self.encodings.quality,
        }
    }

    /// The corner of a screen that a viewer sees that cannot be told of another size; black where there is no screen.
    fn corner(&self, frame: &Frame) -> Frame {
        let (width, height) = (self.size.0.into(), self.size.1.into());
        // A viewer of this size was let in, so there was memory for it.
        let mut corner = Frame::new(width, height).unwrap_or_default();
        for (to, from) in corner.rows_mut().zip(frame.rows()) {
            let count = to.len().min(from.len());
            to[..count].copy_from_slice(&from[..count]);
        }
        corner
    }

    /// Appends what is not pixels. Returns how many rectangles that is.
    fn tell_news(&mut self, update: &Update<'_>, title: &str, out: &mut Vec<u8>) -> u16 {
        let News { size, size_answer, cursor, extended_key, extended_buttons, name } =
            std::mem::take(&mut self.news);
        let mut count = 0;
        let (width, height) = self.size;
        let screen = Screen { rect: Rect::new(0, 0, width.into(), height.into()), ..Screen::default() };
        let reasons = [size_answer.map(Reason::ThisClient), size.then_some(Reason::Server)];
        if self.encodings.extended_desktop_size {
            for reason in reasons.into_iter().flatten() {
                pseudo::extended_desktop_size(reason, width, height, &[screen], out);
                count += 1;
            }
        } else if size && self.encodings.desktop_size {
            pseudo::desktop_size(width, height, out);
            count += 1;
        }
        if extended_key {
            pseudo::qemu_extended_key(out);
            count += 1;
        }
        if extended_buttons {
            pseudo::extended_mouse_buttons(out);
            count += 1;
        }
        if name {
            pseudo::desktop_name(title, out);
            count += 1;
        }
        if cursor && self.draws_cursor() {
            // None = a picture of no pixels: the viewer shows no pointer of its own.
            let none = Cursor::default();
            let cursor = update.cursor.unwrap_or(&none);
            if self.encodings.cursor_with_alpha {
                pseudo::cursor_with_alpha(cursor, out);
            } else {
                pseudo::cursor(cursor, &self.format, out);
            }
            count += 1;
        }
        count
    }
}
