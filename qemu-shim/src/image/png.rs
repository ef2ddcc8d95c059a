//! PNG, quickly: screenshots are taken of running guests and thrown away after a look.

use std::io::{self, BufRead, Seek, Write};

use png::{
    BitDepth, ColorType, Compression, Decoder, DecodingError, Encoder, EncodingError, Transformations,
};

use super::{Rows, pack_rgb, size};
use crate::Frame;
use crate::frame::FrameError;

/// Bytes per IDAT chunk. Larger chunks mean fewer writes; the reader does not care.
const CHUNK: usize = 64 << 10;

/// Writes the picture as PNG: RGB, 8 bits per channel, fast compression.
///
/// # Errors
/// Those of `out` and of the picture, and `InvalidInput` for an empty one.
pub fn write_png(mut picture: impl Rows, out: impl Write) -> io::Result<()> {
    let (width, height) = size(&picture)?;
    let mut encoder = Encoder::new(out, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().map_err(cause)?;
    let mut stream = writer.stream_writer_with_size(CHUNK).map_err(cause)?;
    let mut bytes = Vec::new();
    picture.for_each_row(&mut |row| {
        pack_rgb(row, &mut bytes);
        stream.write_all(&bytes)
    })?;
    stream.finish().map_err(cause)?;
    writer.finish().map_err(cause)
}

/// The error of the output itself where it is one: png's own conversion hides its kind (full disk, broken pipe).
fn cause(error: EncodingError) -> io::Error {
    match error {
        EncodingError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

/// Why a PNG file could not be read into a [`Frame`].
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Not a PNG file, or a damaged one, or it could not be read.
    #[error("cannot decode PNG: {0}")]
    Decode(#[from] DecodingError),
    /// The picture does not fit in a frame.
    #[error(transparent)]
    Size(#[from] FrameError),
}

/// Reads a PNG file of any kind into a frame: 16-bit channels lose their low byte, transparency is dropped.
///
/// # Errors
/// See [`ReadError`].
pub fn read_png(input: impl BufRead + Seek) -> Result<Frame, ReadError> {
    let mut decoder = Decoder::new(input);
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info()?;
    let (width, height) = reader.info().size();
    let mut frame = Frame::new(width, height)?;
    // `None` means more bytes than the address space has.
    let size = reader.output_buffer_size().ok_or(FrameError::OutOfMemory { width, height })?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| FrameError::OutOfMemory { width, height })?;
    bytes.resize(size, 0);
    let info = reader.next_frame(&mut bytes)?;
    let rgb = |r, g, b| u32::from_be_bytes([0, r, g, b]);
    // Rows of whole bytes have no padding, so the picture is one run of pixels.
    let samples = info.color_type.samples();
    for (to, from) in frame.pixels_mut().iter_mut().zip(bytes.chunks_exact(samples)) {
        *to = match *from {
            [r, g, b] | [r, g, b, _] => rgb(r, g, b),
            [gray] | [gray, _] => rgb(gray, gray, gray),
            _ => 0,
        };
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut file = Vec::new();
        write_png(frame, &mut file).unwrap();
        file
    }

    /// A file of another kind than we write.
    fn foreign(color: ColorType, depth: BitDepth, data: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        encoder.set_palette(&[1, 2, 3, 4, 5, 6][..]);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
        writer.finish().unwrap();
        file
    }

    #[test]
    fn reads_every_kind_of_png() {
        let cases: [(ColorType, BitDepth, &[u8], [u32; 2]); 6] = [
            (ColorType::Rgba, BitDepth::Eight, &[1, 2, 3, 9, 4, 5, 6, 9], [0x01_0203, 0x04_0506]),
            (
                ColorType::Rgb,
                BitDepth::Sixteen,
                &[1, 0, 2, 0, 3, 0, 4, 9, 5, 9, 6, 9],
                [0x01_0203, 0x04_0506],
            ),
            (ColorType::Grayscale, BitDepth::Eight, &[7, 8], [0x07_0707, 0x08_0808]),
            (ColorType::Grayscale, BitDepth::One, &[0x40], [0, 0xff_ffff]),
            (ColorType::GrayscaleAlpha, BitDepth::Eight, &[7, 0, 8, 0], [0x07_0707, 0x08_0808]),
            (ColorType::Indexed, BitDepth::Eight, &[1, 0], [0x04_0506, 0x01_0203]),
        ];
        for (color, depth, data, expected) in cases {
            let frame = read_png(Cursor::new(foreign(color, depth, data))).unwrap();
            assert_eq!(frame.pixels(), expected, "{color:?} {depth:?}");
        }
    }

    #[test]
    fn an_empty_frame_is_refused() {
        let error = write_png(&Frame::default(), io::sink()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_huge_picture_is_refused_before_memory_is_taken() {
        let mut file = Vec::new();
        Encoder::new(&mut file, 1 << 20, 1 << 20).write_header().unwrap();
        // An empty IDAT, which is where the decoder stops reading the header.
        file.truncate(33);
        file.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
        let error = read_png(Cursor::new(file)).unwrap_err();
        assert!(matches!(error, ReadError::Size(FrameError::TooLarge { .. })), "{error}");
    }

    /// Accepts so many bytes, then fails.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = data.len().min(self.0);
            self.0 -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Wherever the disk fills up, the caller hears of it.
    #[test]
    fn a_failing_output_is_reported() {
        let frame = Frame::new(30, 20).unwrap();
        let size = encoded(&frame).len();
        for room in 0..size {
            let error = write_png(&frame, Full(room)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "after {room} of {size} bytes");
        }
        write_png(&frame, Full(size)).unwrap();
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            width in 1u32..70,
            height in 1u32..40,
            pixels in prop::collection::vec(0u32..0x100_0000, 1..300),
        ) {
            let mut frame = Frame::new(width, height).unwrap();
            for (to, &from) in frame.pixels_mut().iter_mut().zip(pixels.iter().cycle()) {
                *to = from;
            }
            prop_assert_eq!(read_png(Cursor::new(encoded(&frame))).unwrap(), frame);
        }

        #[test]
        fn damage_is_an_error_or_a_picture(at in 0usize..200, to: u8, keep in 0usize..400) {
            let mut file = encoded(&Frame::new(9, 7).unwrap());
            let at = at % file.len();
            file[at] = to;
            file.truncate(keep);
            let _ = read_png(Cursor::new(file));
        }
    }
}
