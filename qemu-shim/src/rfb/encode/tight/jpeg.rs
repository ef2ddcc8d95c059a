//! A block as JPEG.

use jpeg_encoder::{ColorType, Encoder};

use crate::Rect;

/// JPEG quality, of 100, for each quality level of the protocol: the steps of TightVNC, which viewers' sliders were made for.
const QUALITY: [u8; 10] = [5, 10, 15, 25, 37, 50, 60, 70, 75, 80];

/// The JFIF file of `rgb`, three bytes per pixel of a rectangle this large; `None` if it cannot be one.
pub(super) fn encode(rgb: &[u8], rect: Rect, level: u8) -> Option<Vec<u8>> {
    let quality = QUALITY.get(usize::from(level)).or(QUALITY.last())?;
    let (width, height) = (u16::try_from(rect.width).ok()?, u16::try_from(rect.height).ok()?);
    let mut file = Vec::new();
    Encoder::new(&mut file, *quality).encode(rgb, width, height, ColorType::Rgb).ok()?;
    Some(file)
}
