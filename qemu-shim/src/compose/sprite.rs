//! One layer over a frame, 8 bits per channel.

use crate::damage::Rect;
use crate::frame::Frame;

/// Pixels to lay over a frame.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Left edge on the frame.
    pub x: i32,
    /// Top edge on the frame.
    pub y: i32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `0xAARRGGBB`, colours multiplied by alpha.
    pub pixels: &'a [u32],
}

/// Blends the layer over what is in the rectangle.
pub fn blend(frame: &mut Frame, layer: &Layer<'_>, within: Rect) {
    let within = within.clipped(frame.width(), frame.height());
    let left = i64::from(layer.x).max(i64::from(within.x));
    let right = (i64::from(layer.x) + i64::from(layer.width)).min(i64::from(within.x + within.width));
    if left >= right {
        return;
    }
    for y in within.y..within.y + within.height {
        let row = i64::from(y) - i64::from(layer.y);
        if row < 0 || row >= i64::from(layer.height) {
            continue;
        }
        let start = usize::try_from(row * i64::from(layer.width) + left - i64::from(layer.x)).unwrap_or(0);
        let count = usize::try_from(right - left).unwrap_or(0);
        let at = usize::try_from(left).unwrap_or(0);
        let Some(under) = frame.row_mut(y) else { continue };
        for (under, over) in under[at..at + count].iter_mut().zip(&layer.pixels[start..start + count]) {
            let rest = 255 - (over >> 24);
            let channel = |shift: u32| {
                let t = (*under >> shift & 0xff) * rest + 128;
                (((t + (t >> 8)) >> 8) + (over >> shift & 0xff)).min(255) << shift
            };
            *under = channel(16) | channel(8) | channel(0);
        }
    }
}
