//! What a screenshot shows: PNG files read back, and compared with what the guest drew.

use std::{fs::File, io::BufReader, path::Path};

/// A decoded screenshot, 3 bytes R, G, B a pixel, lines without padding.
#[derive(Debug)]
pub struct Screen {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The pixels, `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

impl Screen {
    /// Reads a PNG file of 8 bits a channel, RGB or RGBA.
    ///
    /// # Errors
    /// A sentence, if the file is not there, not complete, or of another kind.
    pub fn read_png(path: &Path) -> Result<Self, String> {
        let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        let file = File::open(path).map_err(|e| failed(&e))?;
        let mut reader = png::Decoder::new(BufReader::new(file)).read_info().map_err(|e| failed(&e))?;
        let size = reader.output_buffer_size().ok_or_else(|| failed(&"picture too large"))?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes).map_err(|e| failed(&e))?;
        bytes.truncate(info.buffer_size());
        let rgb = match (info.bit_depth, info.color_type) {
            (png::BitDepth::Eight, png::ColorType::Rgb) => bytes,
            (png::BitDepth::Eight, png::ColorType::Rgba) => {
                let pixels = bytes.chunks_exact(4);
                pixels.flat_map(|p| [p[0], p[1], p[2]]).collect()
            }
            (depth, color) => {
                return Err(failed(&format!("expected 8 bits RGB(A), found {depth:?} {color:?}")));
            }
        };
        Ok(Self { width: info.width, height: info.height, rgb })
    }

    /// Whether every pixel has the same colour.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        let mut pixels = self.rgb.chunks_exact(3);
        let first = pixels.next();
        pixels.all(|pixel| Some(pixel) == first)
    }

    /// Compares with a picture of the same size in XRGB8888, as the guest drew it.
    ///
    /// # Errors
    /// A sentence that names the first pixel that differs, and how many do.
    pub fn expect_xrgb8888(&self, width: u32, height: u32, xrgb: &[u8]) -> Result<(), String> {
        if (self.width, self.height) != (width, height) {
            return Err(format!("expected {width}x{height} pixels, found {}x{}", self.width, self.height));
        }
        let pairs = self.rgb.chunks_exact(3).zip(xrgb.chunks_exact(4));
        let mut different = pairs
            .enumerate()
            .map(|(at, (found, drawn))| (at, found, [drawn[2], drawn[1], drawn[0]]))
            .filter(|(_, found, drawn)| found != drawn);
        let Some((at, found, drawn)) = different.next() else {
            return Ok(());
        };
        let columns = usize::try_from(width).expect("a width fits in memory");
        Err(format!(
            "{} of {} pixels differ, the first at ({}, {}): expected R, G, B = {drawn:02x?}, found {found:02x?}",
            different.count() + 1,
            self.rgb.len() / 3,
            at % columns,
            at / columns,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen() -> Screen {
        let rgb = vec![3, 2, 1, 6, 5, 4];
        Screen { width: 2, height: 1, rgb }
    }

    #[test]
    fn equal_whatever_the_x_byte() {
        let drawn = [1, 2, 3, 0xaa, 4, 5, 6, 0x55];
        assert_eq!(screen().expect_xrgb8888(2, 1, &drawn), Ok(()));
        assert!(!screen().is_blank());
    }

    #[test]
    fn a_difference_is_named() {
        let error = screen().expect_xrgb8888(2, 1, &[1, 2, 3, 0, 4, 9, 6, 0]);
        let error = error.unwrap_err();
        assert!(error.starts_with("1 of 2 pixels differ, the first at (1, 0)"));
        assert!(screen().expect_xrgb8888(1, 2, &[0; 8]).is_err());
    }

    #[test]
    fn a_png_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let mut encoder = png::Encoder::new(File::create(&path).unwrap(), 2, 1);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&screen().rgb).unwrap();
        writer.finish().unwrap();
        assert_eq!(Screen::read_png(&path).unwrap().rgb, screen().rgb);
        std::fs::write(&path, b"not a picture").unwrap();
        assert!(Screen::read_png(&path).unwrap_err().contains("a.png"));
    }
}
