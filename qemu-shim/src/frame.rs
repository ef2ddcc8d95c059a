//! A picture in memory, in the one format everything behind the conversion uses.
//!
//! Outputs, checksums and comparisons would otherwise each have to know every pixel format; here they know one.
#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

/// Why a [`Frame`] cannot have the size asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// One side is longer than [`Frame::MAX_SIDE`].
    #[error("frame of {width}x{height} is larger than {max}x{max}", max = Frame::MAX_SIDE)]
    TooLarge {
        /// Width asked for, in pixels.
        width: u32,
        /// Height asked for, in pixels.
        height: u32,
    },
    /// The memory could not be had.
    #[error("no memory for a frame of {width}x{height}")]
    OutOfMemory {
        /// Width asked for, in pixels.
        width: u32,
        /// Height asked for, in pixels.
        height: u32,
    },
}

/// `width` × `height` pixels without gaps, top row first, each `0x00RRGGBB` in native byte order.
///
/// The top byte of every pixel is zero: whoever writes pixels keeps it so, and equal pictures then compare equal.
/// [`Frame::default`] is the empty 0×0 frame: a plane that is off.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    width: u32,
    height: u32,
    pixels: Vec<u32>,
}

impl Frame {
    /// Longest side, in pixels. Twice the largest mode of the Bochs and vkms drivers (8192), so that no real screen is
    /// refused, and a bound on what a hostile device can make us allocate: 1 GiB.
    pub const MAX_SIDE: u32 = 16384;

    /// A black frame.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn new(width: u32, height: u32) -> Result<Self, FrameError> {
        let mut frame = Self::default();
        frame.resize(width, height)?;
        Ok(frame)
    }

    /// Makes the frame this size, reusing its memory. A frame that changes size turns black; one that already has the
    /// size keeps its picture, so this costs nothing when called for each of many frames.
    ///
    /// # Errors
    /// See [`FrameError`]; the frame is then unchanged.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<(), FrameError> {
        if (width, height) == (self.width, self.height) {
            return Ok(());
        }
        if width > Self::MAX_SIDE || height > Self::MAX_SIDE {
            return Err(FrameError::TooLarge { width, height });
        }
        let count = width as usize * height as usize;
        self.pixels
            .try_reserve_exact(count.saturating_sub(self.pixels.len()))
            .map_err(|_| FrameError::OutOfMemory { width, height })?;
        self.pixels.clear();
        self.pixels.resize(count, 0);
        (self.width, self.height) = (width, height);
        Ok(())
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Whether there is nothing to see: a side is zero.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// All pixels, row after row.
    #[must_use]
    pub fn pixels(&self) -> &[u32] {
        &self.pixels
    }

    /// All pixels, row after row, to write. Keep the top byte of each zero.
    pub fn pixels_mut(&mut self) -> &mut [u32] {
        &mut self.pixels
    }

    /// The rows from top to bottom; none if the frame is empty.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        self.pixels.chunks_exact(self.stride())
    }

    /// The rows from top to bottom, to write. Keep the top byte of each pixel zero.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [u32]> {
        let stride = self.stride();
        self.pixels.chunks_exact_mut(stride)
    }

    /// Row `y`, counted from the top; `None` below the last.
    #[must_use]
    pub fn row(&self, y: u32) -> Option<&[u32]> {
        self.rows().nth(y as usize)
    }

    /// Row `y` to write; `None` below the last. Keep the top byte of each pixel zero.
    pub fn row_mut(&mut self, y: u32) -> Option<&mut [u32]> {
        self.rows_mut().nth(y as usize)
    }

    /// Pixels per row, but at least 1: chunks cannot be of length 0.
    fn stride(&self) -> usize {
        self.width.max(1) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resize_reuses_memory_and_blackens() {
        let mut frame = Frame::new(64, 48).unwrap();
        frame.pixels_mut().fill(0x12_3456);
        let memory = frame.pixels().as_ptr();
        frame.resize(64, 48).unwrap();
        assert_eq!(frame.pixels()[0], 0x12_3456, "same size keeps the picture");
        frame.resize(32, 20).unwrap();
        assert_eq!((frame.width(), frame.height(), frame.pixels().len()), (32, 20, 640));
        assert!(frame.pixels().iter().all(|&pixel| pixel == 0));
        frame.resize(48, 64).unwrap();
        assert_eq!(frame.pixels().as_ptr(), memory);
    }

    #[test]
    fn too_large_is_refused_and_changes_nothing() {
        let mut frame = Frame::new(2, 2).unwrap();
        for (width, height) in [(16385, 1), (1, 16385), (u32::MAX, u32::MAX)] {
            assert_eq!(frame.resize(width, height), Err(FrameError::TooLarge { width, height }));
        }
        assert_eq!((frame.width(), frame.height()), (2, 2));
        frame.resize(16384, 1).unwrap();
        frame.resize(1, 16384).unwrap();
    }

    #[test]
    fn rows_are_where_they_should_be() {
        let mut frame = Frame::new(3, 2).unwrap();
        frame.row_mut(1).unwrap().copy_from_slice(&[1, 2, 3]);
        assert!(frame.row_mut(2).is_none());
        assert_eq!(frame.pixels(), [0, 0, 0, 1, 2, 3]);
        assert_eq!(frame.row(1), Some(&[1, 2, 3][..]));
        assert_eq!(frame.row(2), None);
        assert_eq!(frame.rows().collect::<Vec<_>>(), [[0, 0, 0], [1, 2, 3]]);
    }

    #[test]
    fn a_zero_side_is_an_empty_frame() {
        for (width, height) in [(0, 0), (0, 5), (5, 0)] {
            let mut frame = Frame::new(width, height).unwrap();
            assert!(frame.is_empty());
            assert_eq!(frame.rows().len(), 0);
            assert!(frame.row_mut(0).is_none());
        }
    }
}
