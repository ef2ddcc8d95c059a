//! PPM: the format every tool reads and nothing has to decode.

use std::io::{self, Write};

use super::{Rows, pack_rgb, size};

/// Writes the picture as binary PPM (`P6`, 8 bits per channel).
///
/// `out` gets one write per row: buffer it if rows are short and writes are dear.
///
/// # Errors
/// Those of `out` and of the picture, and `InvalidInput` for an empty one.
pub fn write_ppm(mut picture: impl Rows, mut out: impl Write) -> io::Result<()> {
    let (width, height) = size(&picture)?;
    write!(out, "P6\n{width} {height}\n255\n")?;
    let mut bytes = Vec::new();
    picture.for_each_row(&mut |row| {
        pack_rgb(row, &mut bytes);
        out.write_all(&bytes)
    })?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Frame;

    #[test]
    fn writes_header_and_rows() {
        let mut frame = Frame::new(2, 2).unwrap();
        frame.pixels_mut().copy_from_slice(&[0x01_0203, 0x04_0506, 0x07_0809, 0x0a_0b0c]);
        let mut file = Vec::new();
        write_ppm(&frame, &mut file).unwrap();
        assert_eq!(file, b"P6\n2 2\n255\n\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c");
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let error = write_ppm(&Frame::new(0, 3).unwrap(), io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "a picture needs at least one pixel, this frame is 0x3");
    }
}
