//! A block as JPEG.
//!
//! Viewers who ask for JPEG expect what QEMU and TigerVNC send: brightness of every pixel, colour of every four. So four are
//! averaged before they become colour, not one of them chosen, and the conversion costs a quarter.

mod ycbcr;

use jpeg_encoder::{ChromaSubsamplingMethod, Encoder, ImageBuffer, JpegColorType, SamplingFactor};

use crate::{Frame, Rect};

/// JPEG quality, of 100, for each quality level of the protocol: the steps of TightVNC, which viewers' sliders were made for.
const QUALITY: [u8; 10] = [5, 10, 15, 25, 37, 50, 60, 70, 75, 80];

/// The JFIF file of a rectangle of a frame; `None` if there is no such rectangle, or it is too large for one.
pub(super) fn encode(frame: &Frame, rect: Rect, level: u8) -> Option<Vec<u8>> {
    let quality = QUALITY.get(usize::from(level)).or(QUALITY.last())?;
    let block = Block::new(frame, rect)?;
    let mut file = Vec::new();
    let mut encoder = Encoder::new(&mut file, *quality);
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Nearest);
    encoder.encode_image(block).ok()?;
    Some(file)
}

/// A rectangle that is not empty, inside of a frame.
struct Block<'a> {
    frame: &'a Frame,
    rect: Rect,
    width: u16,
    height: u16,
}

impl<'a> Block<'a> {
    fn new(frame: &'a Frame, rect: Rect) -> Option<Self> {
        let (width, height) = (u16::try_from(rect.width).ok()?, u16::try_from(rect.height).ok()?);
        let is_inside = rect.x.checked_add(rect.width)? <= frame.width()
            && rect.y.checked_add(rect.height)? <= frame.height();
        (is_inside && width > 0 && height > 0).then_some(Self { frame, rect, width, height })
    }

    /// Row `y` of the rectangle; the last one for those below it.
    fn row(&self, y: u32) -> &'a [u32] {
        let row = self.frame.row(self.rect.y + y.min(self.rect.height - 1)).unwrap_or_default();
        let row = row.get(self.rect.x as usize..).unwrap_or_default();
        row.get(..self.rect.width as usize).unwrap_or_default()
    }
}

impl ImageBuffer for Block<'_> {
    fn get_jpeg_color_type(&self) -> JpegColorType {
        JpegColorType::Ycbcr
    }

    fn width(&self) -> u16 {
        self.width
    }

    fn height(&self) -> u16 {
        self.height
    }

    /// The encoder takes colour from the even columns of even rows, and repeats the last row and column as often as its
    /// blocks need: there is the mean of the pixel, those right of it and below it. The rest is not looked at.
    fn fill_buffers(&self, y: u16, [luma, blue, red, _]: &mut [Vec<u8>; 4]) {
        let y = u32::from(y);
        let row = self.row(y);
        let start = blue.len();
        for buffer in [&mut *luma, blue, red] {
            buffer.resize(start + row.len(), 0);
        }
        let [luma, blue, red] = [luma, blue, red].map(|buffer| buffer.get_mut(start..).unwrap_or_default());
        ycbcr::luma(row, luma);
        if y % 2 == 1 && y + 1 < self.rect.height {
            return;
        }
        ycbcr::chroma(self.row(y & !1), self.row(y | 1), blue, red);
    }
}

#[cfg(test)]
mod tests {
    use super::ycbcr::colour;
    use super::*;

    #[test]
    fn four_pixels_have_one_colour_and_edges_their_own() {
        let mut frame = Frame::new(3, 3).unwrap();
        frame.pixels_mut().copy_from_slice(&[
            0xff_0000, 0x00_ff00, 0x00_00ff, //
            0x00_00ff, 0xff_ffff, 0x00_00ff, //
            0x80_8080, 0x80_8080, 0xff_0000,
        ]);
        let block = Block::new(&frame, Rect::new(0, 0, 3, 3)).unwrap();
        let mut buffers = <[Vec<u8>; 4]>::default();
        (0..3).for_each(|y| block.fill_buffers(y, &mut buffers));
        let at = |x: usize, y: usize| (buffers[1][y * 3 + x], buffers[2][y * 3 + x]);
        assert_eq!(at(0, 0), colour([0xff_0000, 0x00_ff00, 0x00_00ff, 0xff_ffff]));
        assert_eq!(at(2, 0), colour([0x00_00ff; 4]));
        assert_eq!(at(0, 2), (128, 128));
        assert_eq!(at(2, 2), colour([0xff_0000; 4]));
        assert!(buffers[..3].iter().all(|buffer| buffer.len() == 9));
    }

    #[test]
    fn nothing_outside_of_the_frame() {
        let frame = Frame::new(16, 16).unwrap();
        for rect in [(0, 0, 17, 8), (8, 0, 9, 8), (0, 9, 8, 8), (u32::MAX, 0, 1, 1), (0, 0, 0, 8)] {
            assert!(encode(&frame, Rect::new(rect.0, rect.1, rect.2, rect.3), 9).is_none(), "{rect:?}");
        }
        assert!(encode(&frame, Rect::new(8, 8, 8, 8), 9).is_some());
    }
}
