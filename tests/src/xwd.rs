//! X window dumps (`XWDFile.h` of the X Window System), version 7, of 32 bits a pixel.

use crate::screen::Screen;

/// Numbers of the header, all of 32 bits and big-endian.
const HEADER: usize = 25;
/// Bytes of a colour after the header.
const COLOUR: usize = 12;

/// Reads a dump.
///
/// # Errors
/// A sentence, if it is none, cut short, or of another kind of picture.
pub fn read(bytes: &[u8]) -> Result<Screen, String> {
    let words = bytes.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word));
    let words: Vec<u32> = words.take(HEADER).collect();
    let word = |at: usize| words.get(at).copied().ok_or("a dump cut short");
    let (size, version) = (word(0)?, word(1)?);
    let (width, height) = (word(4)?, word(5)?);
    let (msb_first, bits, stride, colours) = (word(7)?, word(11)?, word(12)?, word(19)?);
    if (version, msb_first, bits) != (7, 0, 32) {
        return Err(format!(
            "expected version 7, little-endian, 32 bits, found {version}, {msb_first}, {bits}"
        ));
    }
    let [size, stride, colours] = [size, stride, colours].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let [columns, rows] = [width, height].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let pixels = bytes.get(size + colours * COLOUR..).ok_or("a dump without pixels")?;
    let rows: Vec<&[u8]> = pixels.chunks(stride.max(1)).take(rows).collect();
    let row = |row: &&[u8]| {
        row.as_chunks::<4>().0[..columns].iter().flat_map(|[b, g, r, _]| [*r, *g, *b]).collect::<Vec<u8>>()
    };
    if rows.iter().any(|row| row.len() < columns * 4) {
        return Err("a dump with fewer pixels than it says".into());
    }
    Ok(Screen { width, height, rgb: rows.iter().flat_map(row).collect() })
}
