//! A block as JPEG.
//!
//! Viewers who ask for JPEG expect what QEMU and TigerVNC send: brightness of every pixel, colour of every four. So four are
//! averaged before they become colour, not one of them chosen, and the conversion costs a quarter.

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
        luma.extend(row.iter().map(|&pixel| brightness(pixel)));
        let start = blue.len();
        blue.resize(start + row.len(), 0);
        red.resize(start + row.len(), 0);
        if y % 2 == 1 && y + 1 < self.rect.height {
            return;
        }
        let (blue, red) =
            (blue.get_mut(start..).unwrap_or_default(), red.get_mut(start..).unwrap_or_default());
        colours(self.row(y & !1), self.row(y | 1), blue, red);
    }
}

/// Samples of two rows, each in the first of two columns.
fn colours(above: &[u32], below: &[u32], blue: &mut [u8], red: &mut [u8]) {
    let ((above, last_above), (below, last_below)) = (above.as_chunks::<2>(), below.as_chunks::<2>());
    let ((blue, last_blue), (red, last_red)) = (blue.as_chunks_mut::<2>(), red.as_chunks_mut::<2>());
    for (((&[a, b], &[c, d]), blue), red) in above.iter().zip(below).zip(blue).zip(red) {
        let (cb, cr) = colour([a, b, c, d]);
        (*blue, *red) = ([cb, cb], [cr, cr]);
    }
    if let ([a], [c], [blue], [red]) = (last_above, last_below, last_blue, last_red) {
        (*blue, *red) = colour([*a, *a, *c, *c]);
    }
}

/// Y of JFIF (1.02, "Conversion to and from RGB") of a pixel `0x00RRGGBB`, by factors in 1/256. Their sum is 1 and numbers of 16
/// bits do, many of which fit a register.
fn brightness(pixel: u32) -> u8 {
    let [blue, green, red, _] = pixel.to_le_bytes().map(u16::from);
    let [_, luma] = (77 * red + 150 * green + 29 * blue + 128).to_le_bytes();
    luma
}

/// Cb and Cr of the mean of four pixels, in the same way. A grey one has 0x80 of each.
fn colour(pixels: [u32; 4]) -> (u8, u8) {
    // Red and blue in one sum: four of each fit their 16 bits.
    let ends: u32 = pixels.iter().map(|pixel| pixel & 0x00ff_00ff).sum::<u32>() + 0x0002_0002;
    let green: u32 = pixels.iter().map(|pixel| pixel >> 8 & 0xff).sum::<u32>() + 2;
    let [blue, _, red, _] = (ends >> 2 & 0x00ff_00ff).to_le_bytes().map(u16::from);
    let [green, ..] = (green >> 2).to_le_bytes().map(u16::from);
    // One less than half is added, that the largest stays below 256.
    let [_, cb] = (0x807f + 128 * blue - (43 * red + 85 * green)).to_le_bytes();
    let [_, cr] = (0x807f + 128 * red - (107 * green + 21 * blue)).to_le_bytes();
    (cb, cr)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the standard says, in floating point.
    fn expected(colours: [f64; 3]) -> [f64; 3] {
        let [red, green, blue] = colours;
        let luma = 0.299 * red + 0.587 * green + 0.114 * blue;
        [luma, (blue - luma) / 1.772 + 128.0, (red - luma) / 1.402 + 128.0]
    }

    #[test]
    fn colours_are_those_of_jfif() {
        let levels = [0, 1, 127, 128, 254, 255];
        let pairs = || levels.into_iter().flat_map(|a| levels.map(|b| (a, b)));
        for (red, (green, blue)) in levels.into_iter().flat_map(|red| pairs().map(move |rest| (red, rest))) {
            let pixel = u32::from_be_bytes([0, red, green, blue]);
            let (cb, cr) = colour([pixel; 4]);
            let found = [brightness(pixel), cb, cr].map(f64::from);
            for (found, expected) in found.into_iter().zip(expected([red, green, blue].map(f64::from))) {
                assert!((found - expected.min(255.0)).abs() < 1.0, "{pixel:06x}: {found}, not {expected}");
            }
        }
    }

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
