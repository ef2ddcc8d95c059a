//! What every update and every rectangle in it starts with (RFC 6143 §7.6.1), and the pixels of a rectangle.

use crate::{Frame, Rect};

/// The head of a `FramebufferUpdate` of so many rectangles.
#[must_use]
pub fn update_header(count: u16) -> [u8; 4] {
    let [high, low] = count.to_be_bytes();
    [0, 0, high, low]
}

/// Appends the head of a rectangle: place, size and encoding. Numbers beyond the protocol's 65535 become that; no frame is
/// so large.
pub fn rect_header(rect: Rect, encoding: i32, out: &mut Vec<u8>) {
    for number in [rect.x, rect.y, rect.width, rect.height] {
        out.extend(u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
    }
    out.extend(encoding.to_be_bytes());
}

/// Appends a `CopyRect` (RFC 6143 §7.7.2): `rect` shows what the client has at `from`, given as x and y in pixels.
pub fn copy_rect(rect: Rect, from: (u16, u16), out: &mut Vec<u8>) {
    rect_header(rect, super::Encoding::CopyRect.raw(), out);
    out.extend(from.0.to_be_bytes());
    out.extend(from.1.to_be_bytes());
}

/// The rows of a rectangle that is inside the frame; nothing of one that is not.
pub(super) fn rows(frame: &Frame, rect: Rect) -> impl Iterator<Item = &[u32]> {
    let (x, width) = (rect.x as usize, rect.width as usize);
    let rows = frame.rows().skip(rect.y as usize).take(rect.height as usize);
    rows.filter_map(move |row| row.get(x..)?.get(..width))
}

/// Writes a length into the 4 bytes at `at` that were left for it: that of all bytes behind them.
pub(super) fn fill_length(at: usize, out: &mut [u8]) {
    let length = u32::try_from(out.len().saturating_sub(at + 4)).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = length.to_be_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_big_endian() {
        assert_eq!(update_header(0x0102), [0, 0, 1, 2]);
        let mut out = Vec::new();
        copy_rect(Rect::new(0x0102, 3, 70_000, 5), (6, 0x0708), &mut out);
        assert_eq!(out, [1, 2, 0, 3, 0xff, 0xff, 0, 5, 0, 0, 0, 1, 0, 6, 7, 8]);
    }

    #[test]
    fn rows_of_a_rectangle() {
        let mut frame = Frame::new(3, 3).unwrap();
        for (pixel, number) in frame.pixels_mut().iter_mut().zip(0..) {
            *pixel = number;
        }
        let all = |rect| rows(&frame, rect).collect::<Vec<_>>();
        assert_eq!(all(Rect::new(1, 1, 2, 2)), [[4, 5], [7, 8]]);
        assert!(all(Rect::new(2, 0, 2, 3)).is_empty());
        assert!(all(Rect::new(0, 3, 1, 1)).is_empty());
    }
}
