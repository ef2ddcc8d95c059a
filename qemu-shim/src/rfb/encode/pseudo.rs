//! Rectangles that carry no picture of the screen: the cursor, the screen's size, its name, acknowledgements.
//!
//! Each function appends one rectangle; who asked for which is the session's business.

use super::palette::{Bits, pack};
use super::pixels::Pixels;
use super::rect::rect_header;
use crate::cursor::MAX_SIDE;
use crate::rfb::encodings::{Encoding, pseudo};
use crate::rfb::message::Screen;
use crate::rfb::pixel_format::PixelFormat;
use crate::rfb::server_message::counted;
use crate::{Cursor, Rect};

/// Why an [`extended_desktop_size`] is sent: its x position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The screen changed by itself, or a client asked how it is.
    Server,
    /// This client asked for a change; what became of it is in the status.
    ThisClient(Status),
    /// Another client did, and got it.
    OtherClient,
}

/// What became of a client's wish for another size: the y position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Done,
    /// Not allowed.
    Prohibited,
    /// There are no resources for it.
    OutOfResources,
    /// There is no such layout of screens.
    InvalidLayout,
    /// The guest was asked; it may or may not follow.
    Forwarded,
}

impl Reason {
    /// The two numbers on the wire.
    fn numbers(self) -> (u32, u32) {
        match self {
            Self::Server => (0, 0),
            Self::OtherClient => (2, 0),
            Self::ThisClient(Status::Done) => (1, 0),
            Self::ThisClient(Status::Prohibited) => (1, 1),
            Self::ThisClient(Status::OutOfResources) => (1, 2),
            Self::ThisClient(Status::InvalidLayout) => (1, 3),
            Self::ThisClient(Status::Forwarded) => (1, 4),
        }
    }
}

/// The cursor for a client that draws it with a mask: pixels in its format, then a bit for each that is shown.
///
/// A pixel at least half opaque is shown, in its full colour. A cursor without pixels, or larger than any real one, is none.
pub fn cursor(cursor: &Cursor, format: &PixelFormat, out: &mut Vec<u8>) {
    let (rect, pixels) = shape(cursor);
    rect_header(rect, pseudo::CURSOR, out);
    let colours: Vec<u32> = pixels.iter().map(|pixel| unmultiplied(*pixel)).collect();
    Pixels::plain(format).convert(&colours, out);
    let shown: Vec<u8> = pixels.iter().map(|pixel| u8::from(alpha(*pixel) >= 128)).collect();
    pack(&shown, rect.width as usize, Bits::One, out);
}

/// The cursor for a client that draws it with alpha: always red, green, blue, alpha, multiplied. Sent as Raw.
pub fn cursor_with_alpha(cursor: &Cursor, out: &mut Vec<u8>) {
    let (rect, pixels) = shape(cursor);
    rect_header(rect, pseudo::CURSOR_WITH_ALPHA, out);
    out.extend(Encoding::Raw.raw().to_be_bytes());
    for pixel in pixels {
        let [alpha, red, green, blue] = pixel.to_be_bytes();
        out.extend([red, green, blue, alpha]);
    }
}

/// The screen has another size, in pixels. Some clients want it last in an update, and none wants pictures with it.
pub fn desktop_size(width: u16, height: u16, out: &mut Vec<u8>) {
    rect_header(Rect::new(0, 0, width.into(), height.into()), pseudo::DESKTOP_SIZE, out);
}

/// The screen's size in pixels and its layout, for clients that know this in place of [`desktop_size`]. At most 255 screens
/// are told.
pub fn extended_desktop_size(reason: Reason, width: u16, height: u16, screens: &[Screen], out: &mut Vec<u8>) {
    let (x, y) = reason.numbers();
    rect_header(Rect::new(x, y, width.into(), height.into()), pseudo::EXTENDED_DESKTOP_SIZE, out);
    let count = u8::try_from(screens.len()).unwrap_or(u8::MAX);
    out.extend([count, 0, 0, 0]);
    for screen in screens.iter().take(count.into()) {
        out.extend(screen.id.to_be_bytes());
        for number in [screen.rect.x, screen.rect.y, screen.rect.width, screen.rect.height] {
            out.extend(u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
        }
        out.extend(screen.flags.to_be_bytes());
    }
}

/// The desktop has another name.
pub fn desktop_name(name: &str, out: &mut Vec<u8>) {
    rect_header(Rect::default(), pseudo::DESKTOP_NAME, out);
    out.extend(counted(name.as_bytes()));
}

/// The server knows `QEMU Extended Key Event`.
pub fn qemu_extended_key(out: &mut Vec<u8>) {
    rect_header(Rect::default(), pseudo::QEMU_EXTENDED_KEY, out);
}

/// The server knows pointer events with more than eight buttons.
pub fn extended_mouse_buttons(out: &mut Vec<u8>) {
    rect_header(Rect::default(), pseudo::EXTENDED_MOUSE_BUTTONS, out);
}

/// A cursor's hot spot and size, and just as many pixels; 0×0 of one that has not got them.
fn shape(cursor: &Cursor) -> (Rect, &[u32]) {
    let Cursor { hot_x, hot_y, width, height, .. } = *cursor;
    if width.max(height) > MAX_SIDE || width.min(height) == 0 {
        return (Rect::default(), &[]);
    }
    match cursor.pixels.get(..width as usize * height as usize) {
        Some(pixels) => (Rect::new(hot_x.min(width - 1), hot_y.min(height - 1), width, height), pixels),
        None => (Rect::default(), &[]),
    }
}

fn alpha(pixel: u32) -> u8 {
    let [alpha, ..] = pixel.to_be_bytes();
    alpha
}

/// `0x00RRGGBB` as it was before it was multiplied by alpha, rounded.
fn unmultiplied(pixel: u32) -> u32 {
    let [alpha, red, green, blue] = pixel.to_be_bytes().map(u32::from);
    [red, green, blue].into_iter().fold(0, |rgb, channel| {
        let full = (channel * 255 + alpha / 2).checked_div(alpha).unwrap_or(0);
        rgb << 8 | full.min(255)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer() -> Cursor {
        // Opaque red, half white, a quarter green, nothing.
        let pixels = vec![0xffff_0000, 0x8080_8080, 0x4000_4000, 0];
        Cursor { x: 5, y: -5, hot_x: 1, hot_y: 0, width: 2, height: 2, pixels }
    }

    #[test]
    fn a_cursor_is_pixels_and_a_mask() {
        let mut out = Vec::new();
        cursor(&pointer(), &PixelFormat::SERVER, &mut out);
        let head = [0, 1, 0, 0, 0, 2, 0, 2, 0xff, 0xff, 0xff, 0x11];
        let pixels = [0, 0, 255, 0, 255, 255, 255, 0, 0, 255, 0, 0, 0, 0, 0, 0];
        assert_eq!(out, [&head[..], &pixels, &[0xc0, 0]].concat());
    }

    #[test]
    fn a_cursor_with_alpha_is_as_it_is() {
        let mut out = Vec::new();
        cursor_with_alpha(&pointer(), &mut out);
        let head = [0, 1, 0, 0, 0, 2, 0, 2, 0xff, 0xff, 0xfe, 0xc6, 0, 0, 0, 0];
        let pixels = [255, 0, 0, 255, 128, 128, 128, 128, 0, 64, 0, 64, 0, 0, 0, 0];
        assert_eq!(out, [&head[..], &pixels].concat());
    }

    #[test]
    fn what_is_no_cursor_is_an_empty_one() {
        let absurd = [
            Cursor::default(),
            Cursor { pixels: vec![0; 3], ..pointer() },
            Cursor { width: u32::MAX, height: u32::MAX, ..pointer() },
            Cursor { width: 513, height: 1, pixels: vec![0; 513], ..pointer() },
        ];
        for absurd in absurd {
            let mut out = Vec::new();
            cursor(&absurd, &PixelFormat::SERVER, &mut out);
            assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x11]);
            out.clear();
            cursor_with_alpha(&absurd, &mut out);
            assert_eq!(out.len(), 16);
        }
    }

    #[test]
    fn sizes_and_layouts() {
        let mut out = Vec::new();
        desktop_size(800, 600, &mut out);
        assert_eq!(out, [0, 0, 0, 0, 3, 32, 2, 88, 0xff, 0xff, 0xff, 0x21]);
        out.clear();
        let screen = Screen { id: 7, rect: Rect::new(0, 0, 800, 600), flags: 9 };
        let reason = Reason::ThisClient(Status::Forwarded);
        extended_desktop_size(reason, 800, 600, &[screen], &mut out);
        assert_eq!(out[..12], [0, 1, 0, 4, 3, 32, 2, 88, 0xff, 0xff, 0xfe, 0xcc]);
        assert_eq!(out[12..], [1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 3, 32, 2, 88, 0, 0, 0, 9]);
        out.clear();
        extended_desktop_size(Reason::OtherClient, 1, 1, &[screen; 300], &mut out);
        assert_eq!((out[1], out[3], out[12], out.len()), (2, 0, 255, 16 + 255 * 16));
    }

    #[test]
    fn names_and_signs() {
        let mut out = Vec::new();
        desktop_name("vm\u{e9}", &mut out);
        assert_eq!(out[8..], [0xff, 0xff, 0xfe, 0xcd, 0, 0, 0, 4, b'v', b'm', 0xc3, 0xa9]);
        for (sign, number) in [(qemu_extended_key as fn(&mut Vec<u8>), -258), (extended_mouse_buttons, -316)]
        {
            out.clear();
            sign(&mut out);
            assert_eq!((&out[..8], &out[8..]), (&[0; 8][..], &i32::to_be_bytes(number)[..]));
        }
    }
}
