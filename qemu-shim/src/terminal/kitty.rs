//! Pictures by the kitty graphics protocol (<https://sw.kovidgoyal.net/kitty/graphics-protocol/>): exact pixels, compressed.
//!
//! The picture is cut into bands of a few rows of cells, each an image of its own; a band that changed is sent again under its
//! number, which takes the place of what it was.

use std::io::Write;

use flate2::Compression;
use flate2::write::ZlibEncoder;

use super::base64;
use super::layout::{Layout, go_to, touch};
use crate::damage::Rect;
use crate::frame::Frame;

/// Asks whether the terminal would take a picture of one pixel, without showing it; the answer has its number (31).
pub(super) const QUERY: &[u8] = b"\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\";
/// Deletes every picture on the screen, and its memory.
pub(super) const DELETE_ALL: &[u8] = b"\x1b_Ga=d,d=A,q=2\x1b\\";

/// Rows of cells in a band: a line of text that changes costs two or three.
const BAND: u32 = 2;
/// Most bytes of payload in one command, by the protocol.
const CHUNK: usize = 4096;

/// Appends what makes the terminal show the picture, where it changed.
pub(super) fn paint(picture: &Frame, changed: &[Rect], layout: &Layout, out: &mut Vec<u8>) {
    let (cell_width, cell_height) = layout.cell;
    let columns = picture.width().div_ceil(cell_width);
    let width = columns * cell_width;
    let band_height = BAND * cell_height;
    for band in 0..picture.height().div_ceil(band_height) {
        let top = band * band_height;
        let area = Rect::new(0, top, picture.width(), band_height.min(picture.height() - top));
        if !changed.iter().any(|rect| touch(rect, &area)) {
            continue;
        }
        // Whole cells, so that neither the terminal nor the next band has to guess where this one ends; the rest is black.
        let rows = area.height.div_ceil(cell_height);
        let height = rows * cell_height;
        let rgb = packed(picture, area, width, height);
        go_to(out, band * BAND, 0);
        let id = band + 1;
        let keys = format!("a=T,f=24,s={width},v={height},c={columns},r={rows},i={id},p=1,C=1,q=2");
        send(&keys, &rgb, out);
    }
}

/// The area as red, green and blue, padded to a size with black.
fn packed(picture: &Frame, area: Rect, width: u32, height: u32) -> Vec<u8> {
    let row_bytes = width as usize * 3;
    let mut bytes = vec![0; row_bytes * height as usize];
    let rows = picture.rows().skip(area.y as usize).take(area.height as usize);
    for (to, from) in bytes.chunks_exact_mut(row_bytes.max(1)).zip(rows) {
        for (to, from) in to.as_chunks_mut::<3>().0.iter_mut().zip(from) {
            let [_, r, g, b] = from.to_be_bytes();
            *to = [r, g, b];
        }
    }
    bytes
}

/// One picture, in as many commands as it takes. Only the first one has the keys; `m=1` says that more follow.
///
/// Noise is sent as it is: compressed it would be longer, and kitty (0.48) takes no more bytes than the pixels have.
fn send(keys: &str, rgb: &[u8], out: &mut Vec<u8>) {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    // Neither fails: the output is memory.
    let _ = encoder.write_all(rgb);
    let smaller = encoder.finish().ok().filter(|smaller| smaller.len() < rgb.len());
    let keys = format!("{keys}{}", if smaller.is_some() { ",o=z" } else { "" });
    let text = base64::encode(smaller.as_deref().unwrap_or(rgb));
    let chunks = text.as_bytes().chunks(CHUNK);
    let last = chunks.len().saturating_sub(1);
    for (n, chunk) in chunks.enumerate() {
        let keys = if n == 0 { format!("{keys},") } else { String::new() };
        let more = u8::from(n != last);
        out.extend_from_slice(format!("\x1b_G{keys}m={more};").as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\x1b\\");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    type Keys = BTreeMap<String, String>;

    /// A picture on the terminal.
    #[derive(Debug)]
    struct Image {
        keys: Keys,
        rgb: Vec<u8>,
        /// Of the cursor when it came.
        row: u32,
    }

    /// A terminal that knows as much of the protocol as we use: pictures by number.
    #[derive(Debug, Default)]
    pub(in crate::terminal) struct Images {
        shown: BTreeMap<u32, Image>,
    }

    impl Images {
        /// Takes output; returns how many pictures were in it.
        pub(in crate::terminal) fn take(&mut self, out: &[u8]) -> usize {
            let text = str::from_utf8(out).unwrap();
            let (mut row, mut count) = (0, 0);
            let mut open: Option<(Keys, String)> = None;
            for sequence in text.split('\x1b').filter(|sequence| !sequence.is_empty() && *sequence != "\\") {
                if let Some(place) = sequence.strip_prefix('[').and_then(|place| place.strip_suffix('H')) {
                    row = place.split_once(';').unwrap().0.parse::<u32>().unwrap() - 1;
                }
                let Some(command) = sequence.strip_prefix("_G") else { continue };
                let Some((keys, payload)) = command.split_once(';') else {
                    assert_eq!(command, "a=d,d=A,q=2");
                    self.shown.clear();
                    continue;
                };
                assert!(payload.len() <= CHUNK && (payload.len().is_multiple_of(4)));
                let mut keys: Keys = keys
                    .split(',')
                    .map(|pair| pair.split_once('=').unwrap())
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .collect();
                let more = keys.remove("m").unwrap() == "1";
                let (first, data) = open.get_or_insert_with(|| (keys, String::new()));
                data.push_str(payload);
                if !more {
                    let id = first["i"].parse().unwrap();
                    let bytes = decode(data);
                    let size = ["s", "v"].map(|key| first[key].parse::<usize>().unwrap());
                    assert!(bytes.len() <= size[0] * size[1] * 3, "no terminal has to take more");
                    let mut rgb = Vec::new();
                    if first.contains_key("o") {
                        flate2::read::ZlibDecoder::new(&*bytes).read_to_end(&mut rgb).unwrap();
                    } else {
                        rgb = bytes;
                    }
                    self.shown.insert(id, Image { keys: first.clone(), rgb, row });
                    open = None;
                    count += 1;
                }
            }
            assert!(open.is_none());
            count
        }

        /// Pixels of the whole screen, as wide as the pictures, put together by their rows.
        pub(in crate::terminal) fn pixels(&self, cell_height: u32) -> Vec<Vec<u32>> {
            let mut rows = Vec::new();
            for Image { keys, rgb, row } in self.shown.values() {
                assert_eq!(rows.len(), (row * cell_height) as usize, "bands follow each other");
                let width: usize = keys["s"].parse().unwrap();
                for line in rgb.chunks_exact(width * 3) {
                    rows.push(
                        line.as_chunks()
                            .0
                            .iter()
                            .map(|[r, g, b]| u32::from_be_bytes([0, *r, *g, *b]))
                            .collect(),
                    );
                }
                assert_eq!(rows.len(), (row * cell_height) as usize + keys["v"].parse::<usize>().unwrap());
            }
            rows
        }
    }

    fn decode(text: &str) -> Vec<u8> {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut bytes = Vec::new();
        for four in text.as_bytes().chunks(4) {
            let kept = four.iter().filter(|byte| **byte != b'=').count();
            let value = four.iter().fold(0u32, |value, byte| {
                value << 6
                    | u32::try_from(DIGITS.iter().position(|digit| digit == byte).unwrap_or(0)).unwrap()
            });
            bytes.extend_from_slice(&value.to_be_bytes()[1..kept]);
        }
        bytes
    }

    #[test]
    fn bands_make_the_picture() {
        let layout = Layout { columns: 30, rows: 20, cell: (10, 20) };
        let mut picture = Frame::new(205, 130).unwrap();
        for (n, pixel) in (0u32..).zip(picture.pixels_mut()) {
            // Noise: a step of xorshift. The last rows are calm.
            let mut noise = n.wrapping_mul(0x9e37_79b1).wrapping_add(1);
            noise ^= noise << 13;
            noise ^= noise >> 17;
            noise ^= noise << 5;
            *pixel = if n < 205 * 120 { noise & 0xff_ffff } else { 0x12_3456 };
        }
        let mut images = Images::default();
        let mut out = Vec::new();
        paint(&picture, &[Rect::new(0, 0, 205, 130)], &layout, &mut out);
        assert_eq!(images.take(&out), 4);
        let keys = &images.shown[&4].keys;
        assert_eq!([&keys["c"], &keys["r"], &keys["s"], &keys["v"]], ["21", "1", "210", "20"]);
        let check = |images: &Images, picture: &Frame| {
            let pixels = images.pixels(20);
            for (row, shown) in picture.rows().zip(&pixels) {
                assert_eq!(row, &shown[..205]);
                assert!(shown[205..].iter().all(|pixel| *pixel == 0));
            }
            assert!(pixels[130..].iter().flatten().all(|pixel| *pixel == 0));
        };
        check(&images, &picture);
        let has_both =
            [true, false].map(|z| images.shown.values().any(|one| one.keys.contains_key("o") == z));
        assert_eq!(has_both, [true, true], "noise as it is, a line of padding compressed");

        picture.row_mut(45).unwrap().fill(0xff_ffff);
        out.clear();
        paint(&picture, &[Rect::new(0, 45, 205, 1)], &layout, &mut out);
        assert_eq!(images.take(&out), 1, "one band has changed");
        check(&images, &picture);
    }
}
