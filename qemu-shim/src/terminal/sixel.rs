//! Pictures as sixels (DEC STD 070, chapter 9; VT330/VT340 programmer reference, chapter 14): six rows at a time, one colour
//! after the other, out of 256.
//!
//! A picture of at most 256 colours keeps them, as near as a terminal takes them (percent of each channel). One of more gets
//! a fixed palette, 6 levels of red, 7 of green and 6 of blue, and a dither that always falls the same, so that what does
//! not move does not flicker.

use std::collections::BTreeMap;

use super::layout::Layout;
use crate::frame::Frame;

/// Rows in a band.
const BAND: u32 = 6;
/// Levels of each channel of the fixed palette: 252 colours.
const LEVELS: [u8; 3] = [6, 7, 6];
/// Most colours of a terminal.
const COLOURS: usize = 256;
/// Where a 4×4 dither (Bayer's) rounds up, in 16ths.
const DITHER: [[u8; 4]; 4] = [[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]];
/// Runs shorter than this are shorter as they are.
const SHORTEST_RUN: usize = 4;

/// Pixels for the picture: whole bands, so that none reaches into the row below.
pub(super) fn room(layout: &Layout) -> (u32, u32) {
    let (width, height) = layout.pixels();
    (width, height - height % BAND)
}

/// Appends what makes the terminal show the picture, all of it.
pub(super) fn paint(picture: &Frame, out: &mut Vec<u8>) {
    let (palette, indexed) = indexed(picture);
    let (width, height) = (picture.width(), picture.height());
    // Square pixels; and what is drawn is all there is.
    out.extend_from_slice(format!("\x1b[H\x1bP0;1;0q\"1;1;{width};{height}").as_bytes());
    for (n, colour) in palette.iter().enumerate() {
        let [_, r, g, b] = colour.to_be_bytes().map(percent);
        out.extend_from_slice(format!("#{n};2;{r};{g};{b}").as_bytes());
    }
    let row_length = width.max(1) as usize;
    for band in indexed.chunks(row_length * BAND as usize) {
        paint_band(band, row_length, out);
        out.push(b'-');
    }
    out.extend_from_slice(b"\x1b\\");
}

/// A band: for each colour in it, a bit of each column for each row.
fn paint_band(band: &[u8], row_length: usize, out: &mut Vec<u8>) {
    // Of each colour as many columns as it reaches to.
    let mut bits: Vec<Vec<u8>> = vec![Vec::new(); COLOURS];
    for (row, pixels) in band.chunks(row_length).enumerate() {
        for (column, colour) in pixels.iter().enumerate() {
            let Some(columns) = bits.get_mut(usize::from(*colour)) else { continue };
            if columns.len() <= column {
                columns.resize(column + 1, 0);
            }
            if let Some(bits) = columns.get_mut(column) {
                *bits |= 1 << row;
            }
        }
    }
    let used = bits.iter().enumerate().filter(|(_, columns)| !columns.is_empty());
    for (n, (colour, columns)) in used.enumerate() {
        if n > 0 {
            // Back to the left.
            out.push(b'$');
        }
        out.extend_from_slice(format!("#{colour}").as_bytes());
        for run in columns.chunk_by(|a, b| a == b) {
            let sixel = run.first().map_or(b'?', |bits| bits + b'?');
            if run.len() < SHORTEST_RUN {
                out.extend(std::iter::repeat_n(sixel, run.len()));
            } else {
                out.extend_from_slice(format!("!{}", run.len()).as_bytes());
                out.push(sixel);
            }
        }
    }
}

/// The colours of a picture, and for each pixel which it has.
fn indexed(picture: &Frame) -> (Vec<u32>, Vec<u8>) {
    exact(picture).unwrap_or_else(|| dithered(picture))
}

/// `None` if there are too many.
fn exact(picture: &Frame) -> Option<(Vec<u32>, Vec<u8>)> {
    let mut numbers: BTreeMap<u32, u8> = BTreeMap::new();
    let mut palette = Vec::new();
    let mut indexed = Vec::with_capacity(picture.pixels().len());
    // Neighbours mostly are alike.
    let mut last = None;
    for pixel in picture.pixels() {
        let number = match last {
            Some((colour, number)) if colour == *pixel => number,
            _ => match numbers.get(pixel) {
                Some(number) => *number,
                None => {
                    let number = u8::try_from(palette.len()).ok()?;
                    palette.push(*pixel);
                    numbers.insert(*pixel, number);
                    number
                }
            },
        };
        last = Some((*pixel, number));
        indexed.push(number);
    }
    Some((palette, indexed))
}

fn dithered(picture: &Frame) -> (Vec<u32>, Vec<u8>) {
    let [reds, greens, blues] = LEVELS;
    let level = |n: u8, of: u8| u8::try_from(u32::from(n) * 255 / u32::from(of - 1)).unwrap_or(u8::MAX);
    let mut palette = Vec::with_capacity(COLOURS);
    for r in 0..reds {
        for g in 0..greens {
            for b in 0..blues {
                palette.push(u32::from_be_bytes([0, level(r, reds), level(g, greens), level(b, blues)]));
            }
        }
    }
    let mut indexed = Vec::with_capacity(picture.pixels().len());
    for (row, thresholds) in picture.rows().zip(DITHER.iter().cycle()) {
        for (pixel, threshold) in row.iter().zip(thresholds.iter().cycle()) {
            let [_, r, g, b] = pixel.to_be_bytes();
            let number = |channel: u8, of: u8| {
                // In 255ths of a level, and the threshold in the middle of its 16th.
                let position = u32::from(channel) * u32::from(of - 1);
                let up = position % 255 * 32 > 255 * (2 * u32::from(*threshold) + 1);
                u8::try_from(position / 255 + u32::from(up)).unwrap_or(0)
            };
            indexed.push((number(r, reds) * greens + number(g, greens)) * blues + number(b, blues));
        }
    }
    (palette, indexed)
}

/// A channel as the percent that a terminal takes.
fn percent(channel: u8) -> u32 {
    (u32::from(channel) * 100 + 127) / 255
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a terminal makes of it: percent of each channel for each pixel, and nothing painted twice or outside.
    pub(in crate::terminal) fn decoded(out: &[u8]) -> (usize, usize, Vec<[u32; 3]>) {
        let text = str::from_utf8(out).unwrap();
        let body = text.strip_prefix("\x1b[H\x1bP0;1;0q\"").unwrap().strip_suffix("\x1b\\").unwrap();
        let body_start = body.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap();
        let raster: Vec<usize> = body[..body_start].split(';').map(|n| n.parse().unwrap()).collect();
        let [1, 1, width, height] = raster[..] else { panic!("{raster:?}") };
        let mut pixels = vec![None; width * height];
        let mut palette = BTreeMap::new();
        let (mut x, mut top, mut colour) = (0, 0, 0);
        let mut rest = &body[body_start..];
        while let Some(command) = rest.chars().next() {
            rest = &rest[1..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(rest.len());
            let numbers: Vec<u32> = rest[..end].split(';').map_while(|n| n.parse().ok()).collect();
            if matches!(command, '#' | '!') {
                rest = &rest[end..];
            }
            let (sixel, count) = match (command, &numbers[..]) {
                ('#', [n, 2, r, g, b]) => {
                    palette.insert(*n, [*r, *g, *b]);
                    continue;
                }
                ('#', [n]) => {
                    colour = *n;
                    continue;
                }
                ('$', _) => {
                    x = 0;
                    continue;
                }
                ('-', _) => {
                    (x, top) = (0, top + 6);
                    continue;
                }
                ('!', [count]) => {
                    let sixel = rest.as_bytes()[0];
                    rest = &rest[1..];
                    (sixel, *count)
                }
                ('?'..='~', _) => (u8::try_from(command).unwrap(), 1),
                other => panic!("{other:?}"),
            };
            for _ in 0..count {
                for row in (0..6).filter(|row| (sixel - b'?') >> row & 1 == 1) {
                    let painted = pixels[(top + row) * width + x].replace(palette[&colour]);
                    assert_eq!(painted, None, "painted twice");
                }
                x += 1;
            }
        }
        (width, height, pixels.into_iter().map(|pixel| pixel.expect("a pixel was not painted")).collect())
    }

    fn frame(width: u32, height: u32, pixel: impl Fn(u32) -> u32) -> Frame {
        let mut frame = Frame::new(width, height).unwrap();
        for (n, to) in (0..).zip(frame.pixels_mut()) {
            *to = pixel(n);
        }
        frame
    }

    #[test]
    fn a_small_picture() {
        let picture = frame(5, 2, |n| if n == 7 { 0xff_0000 } else { 0 });
        let mut out = Vec::new();
        paint(&picture, &mut out);
        let expected = "\x1b[H\x1bP0;1;0q\"1;1;5;2#0;2;0;0;0#1;2;100;0;0#0BB@BB$#1??A-\x1b\\";
        assert_eq!(str::from_utf8(&out).unwrap(), expected);
    }

    #[test]
    fn many_colours_are_near() {
        let picture = frame(256, 64, |n| (n & 0xff) << 16 | (n >> 8 & 0x3f) << 10 | 0x80);
        let mut out = Vec::new();
        paint(&picture, &mut out);
        let (.., pixels) = decoded(&out);
        // No pixel is off by more than a level, and no region is: a dither keeps the mean.
        let mean = |channel: fn(&[u32; 3]) -> u32| pixels.iter().map(channel).sum::<u32>() / (256 * 64);
        assert!((48..=52).contains(&mean(|p| p[0])), "{}", mean(|p| p[0]));
        assert!((48..=52).contains(&mean(|p| p[1])), "{}", mean(|p| p[1]));
        assert!((48..=52).contains(&mean(|p| p[2])), "{}", mean(|p| p[2]));
        for (pixel, shown) in picture.pixels().iter().zip(&pixels) {
            let [_, r, g, b] = pixel.to_be_bytes().map(percent);
            assert!(r.abs_diff(shown[0]) <= 20 && g.abs_diff(shown[1]) <= 17 && b.abs_diff(shown[2]) <= 20);
        }
    }

    #[test]
    fn black_and_white_stay_so() {
        // Enough colours for the fixed palette.
        let picture = frame(300, 7, |n| {
            if n < 1000 {
                0
            } else if n < 1500 {
                0xff_ffff
            } else {
                (n * 977) & 0xff_ffff
            }
        });
        let mut out = Vec::new();
        paint(&picture, &mut out);
        let (.., pixels) = decoded(&out);
        assert!(pixels[..1000].iter().all(|pixel| *pixel == [0; 3]));
        assert!(pixels[1000..1500].iter().all(|pixel| *pixel == [100; 3]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn few_colours_are_kept(width in 1u32..60, height in 1u32..20, colours in prop::collection::vec(0u32..0x100_0000, 1..200)) {
            let picture = frame(width, height, |n| colours[n as usize * 7 / 5 % colours.len()]);
            let mut out = Vec::new();
            paint(&picture, &mut out);
            let (shown_width, shown_height, pixels) = decoded(&out);
            prop_assert_eq!((shown_width, shown_height), (width as usize, height as usize));
            for (pixel, shown) in picture.pixels().iter().zip(pixels) {
                let [_, r, g, b] = pixel.to_be_bytes().map(percent);
                prop_assert_eq!([r, g, b], shown);
            }
        }
    }
}
