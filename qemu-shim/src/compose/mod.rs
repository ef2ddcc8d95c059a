//! Planes on top of each other, as the kernel composes them.
//!
//! The kernel's virtual display driver `vkms` is the portable definition of what a stack of planes looks like: 16 bits per
//! channel, pre-multiplied alpha, exact rounding (drivers/gpu/drm/vkms of Linux 6.12). [`Canvas`] does the same arithmetic, so
//! its checksum is the one that vkms reports, and other, faster compositions can be held against it. [`recording`] replays
//! what vkms reported for recorded stacks.
#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

pub mod fast;
mod pixel;
pub mod recording;

use crc32fast::Hasher;
use vfio_gfx::format::Fourcc;

use pixel::{Argb, reader};

/// A plane to put on a canvas.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// Pixel format.
    pub format: Fourcc,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Where its left edge is; what is left or right of the canvas is not seen.
    pub x: i32,
    /// Where its top edge is.
    pub y: i32,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Its rows. What they lack is not drawn.
    pub bytes: &'a [u8],
}

/// A screen of 16 bits per channel, opaque black to begin with.
#[derive(Clone, Debug)]
pub struct Canvas {
    width: u32,
    pixels: Vec<Argb>,
}

impl Canvas {
    /// A black screen, in pixels.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        Self { width, pixels: vec![Argb::BLACK; width as usize * height as usize] }
    }

    /// Blends a layer over what is there. Returns false, and draws nothing, when its format is not one that vkms knows.
    #[must_use]
    pub fn blend(&mut self, layer: &Layer<'_>) -> bool {
        let Some((bytes_per_pixel, read)) = reader(layer.format) else {
            return false;
        };
        if self.width == 0 {
            return true;
        }
        let (skip_x, to_x) = clip(layer.x);
        let (skip_y, to_y) = clip(layer.y);
        let rows = self.pixels.chunks_exact_mut(self.width as usize).skip(to_y);
        let sources = layer.bytes.chunks(layer.stride.max(1)).take(layer.height as usize).skip(skip_y);
        for (row, source) in rows.zip(sources) {
            let source = source.chunks_exact(bytes_per_pixel).take(layer.width as usize).skip(skip_x);
            for (under, pixel) in row.iter_mut().skip(to_x).zip(source) {
                *under = read(pixel).over(*under);
            }
        }
        true
    }

    /// The checksum that vkms reports for this screen: [`crate::crc::vkms`] describes it.
    #[must_use]
    pub fn crc(&self) -> u32 {
        let mut hasher = Hasher::new_with_initial(!0);
        let mut bytes = Vec::new();
        for row in self.pixels.chunks(self.width.max(1) as usize) {
            bytes.clear();
            bytes.extend(row.iter().flat_map(|pixel| pixel.to_bytes()));
            hasher.update(&bytes);
        }
        !hasher.finalize()
    }
}

/// A signed position as what to skip of the layer and of the canvas.
fn clip(position: i32) -> (usize, usize) {
    let distance = position.unsigned_abs() as usize;
    if position < 0 { (distance, 0) } else { (0, distance) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_may_hang_over_every_edge() {
        let white = [0xff; 4 * 9];
        for (x, y, seen) in [
            (-1, -1, 4),
            (-2, 0, 3),
            (3, 3, 1),
            (2, -2, 2),
            (-3, 0, 0),
            (4, 0, 0),
            (0, i32::MAX, 0),
            (i32::MIN, 0, 0),
        ] {
            let mut canvas = Canvas::new(4, 4);
            let layer =
                Layer { format: Fourcc::XRGB8888, width: 3, height: 3, x, y, stride: 12, bytes: &white };
            assert!(canvas.blend(&layer));
            assert_eq!(canvas.pixels.iter().filter(|pixel| **pixel != Argb::BLACK).count(), seen, "{x},{y}");
        }
    }

    #[test]
    fn a_frame_and_a_canvas_have_the_same_checksum() {
        let mut frame = crate::Frame::new(5, 3).unwrap();
        let pixels: Vec<u32> = (0..15).map(|n| n * 0x11_0507).collect();
        frame.pixels_mut().copy_from_slice(&pixels);
        let bytes: Vec<u8> = pixels.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
        let mut canvas = Canvas::new(5, 3);
        assert!(canvas.blend(&Layer {
            format: Fourcc::XRGB8888,
            width: 5,
            height: 3,
            x: 0,
            y: 0,
            stride: 20,
            bytes: &bytes
        }));
        assert_eq!(canvas.crc(), crate::crc::vkms(&frame));
    }

    proptest! {
        #[test]
        fn any_layer_is_drawn_or_not(format in prop::sample::select(vec![*b"AR24", *b"XR24", *b"RG16", *b"AR48", *b"NV12"]),
                                     width in 0..9u32, height in 0..9u32, x in -9..9i32, y in -9..9i32, stride in 0..80usize,
                                     bytes in proptest::collection::vec(any::<u8>(), 0..400), canvas_width in 0..6u32) {
            let mut canvas = Canvas::new(canvas_width, 4);
            let layer = Layer { format: Fourcc::from_bytes(format), width, height, x, y, stride, bytes: &bytes };
            prop_assert_eq!(canvas.blend(&layer), format != *b"NV12");
            prop_assert!(canvas.pixels.iter().all(|pixel| pixel.is_opaque()));
        }
    }
}
