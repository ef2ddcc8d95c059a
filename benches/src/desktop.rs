//! A picture like those that people look at: a wallpaper, a photograph, a terminal, a text, a panel.
//!
//! How fast a picture is compressed, compared or sent depends on what is in it. One colour would flatter us and noise
//! would libel us; a desktop is mostly flat, with the edges of letters and a part that does not repeat. Computed from a
//! fixed seed, so that every run on every machine has the same.

use qemu_shim::Frame;
use qemu_shim::frame::FrameError;

/// Cell of a letter in pixels; the letter itself fills 5 × 9 of it.
const CELL: (u32, u32) = (8, 16);
const LETTER: (u32, u32) = (5, 9);

/// A filled area; position and size in pixels.
#[derive(Clone, Copy)]
struct Area {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

/// A desktop of this size, in pixels.
///
/// # Errors
/// [`FrameError`] when it is larger than any frame.
pub fn desktop(width: u32, height: u32) -> Result<Frame, FrameError> {
    let mut frame = Frame::new(width, height)?;
    let part = |x, y, w, h| Area {
        x: width * x / 16,
        y: height * y / 9,
        width: width * w / 16,
        height: height * h / 9,
    };
    paint(&mut frame, part(0, 0, 16, 9), wallpaper(height));
    for (window, inside) in [(part(1, 1, 7, 5), 0), (part(6, 3, 6, 5), 1), (part(11, 1, 4, 3), 2)] {
        paint(&mut frame, window, |_, y| if y < 24 { 0x0030_3a48 } else { 0x0068_7078 });
        let content = Area {
            x: window.x + 1,
            y: window.y + 24,
            width: window.width.saturating_sub(2),
            height: window.height.saturating_sub(25),
        };
        match inside {
            0 => paint(&mut frame, content, text(0x0018_1c20, 0x00a8_e0a8, 3)),
            1 => paint(&mut frame, content, text(0x00ff_ffff, 0x0020_2020, 1)),
            _ => paint(&mut frame, content, photograph),
        }
    }
    let panel = Area { x: 0, y: height.saturating_sub(32), width, height: 32 };
    paint(&mut frame, panel, text(0x0022_262c, 0x00d0_d4d8, 2));
    Ok(frame)
}

/// A photograph of this size, in pixels: nothing repeats.
///
/// # Errors
/// [`FrameError`] when it is larger than any frame.
pub fn photo(width: u32, height: u32) -> Result<Frame, FrameError> {
    let mut frame = Frame::new(width, height)?;
    paint(&mut frame, Area { x: 0, y: 0, width, height }, photograph);
    Ok(frame)
}

/// The picture as a device has it in memory: XRGB8888, without gaps between rows.
#[must_use]
pub fn xrgb8888(frame: &Frame) -> Vec<u8> {
    frame.pixels().iter().flat_map(|pixel| pixel.to_le_bytes()).collect()
}

/// Fills an area, as far as it is in the frame, with a function of the position in it.
fn paint(frame: &mut Frame, area: Area, colour: impl Fn(u32, u32) -> u32) {
    for y in 0..area.height {
        let Some(row) = frame.row_mut(area.y + y) else { return };
        let columns = row.iter_mut().skip(area.x as usize).take(area.width as usize);
        for (pixel, x) in columns.zip(0..) {
            *pixel = colour(x, y);
        }
    }
}

/// Blue, darker towards the bottom.
fn wallpaper(height: u32) -> impl Fn(u32, u32) -> u32 {
    move |_, y| {
        let down = y * 96 / height.max(1);
        (72 - down / 2) << 16 | (128 - down) << 8 | (176 - down)
    }
}

/// Lines of words in made-up letters of this ink, with edges half as dark.
fn text(paper: u32, ink: u32, seed: u32) -> impl Fn(u32, u32) -> u32 {
    move |x, y| {
        let (column, line) = (x / CELL.0, y / CELL.1);
        let (dx, dy) = (x % CELL.0, y % CELL.1);
        let line_length = 8 + hash(line, seed, 0) % 90;
        let is_space = hash(column, line, seed).is_multiple_of(6);
        if column == 0 || column > line_length || is_space || dx >= LETTER.0 || dy >= LETTER.1 {
            return paper;
        }
        // 26 letters, each some strokes.
        match hash(hash(column, line, seed) % 26, dx / 2, dy / 2) % 5 {
            0 | 1 => ink,
            2 => mean(paper, ink),
            _ => paper,
        }
    }
}

/// Soft blobs of colour with the grain of a sensor over them.
fn photograph(x: u32, y: u32) -> u32 {
    [16u32, 8, 0].into_iter().fold(0, |pixel, shift| {
        let corner = |dx: u32, dy: u32| hash(x / 64 + dx, y / 64 + dy, shift) % 200;
        let (fx, fy) = (x % 64, y % 64);
        let upper = corner(0, 0) * (64 - fx) + corner(1, 0) * fx;
        let lower = corner(0, 1) * (64 - fx) + corner(1, 1) * fx;
        let blob = (upper * (64 - fy) + lower * fy) >> 12;
        let grain = hash(x, y, shift) % 8;
        pixel | (blob + grain + 20) << shift
    })
}

fn mean(a: u32, b: u32) -> u32 {
    (a & 0x00fe_fefe) / 2 + (b & 0x00fe_fefe) / 2
}

/// A number that looks random, from three that do not (the finalizer of MurmurHash3 between additions).
fn hash(a: u32, b: u32, c: u32) -> u32 {
    [a, b, c].into_iter().fold(0x9e37_79b9, |state: u32, value| {
        let mut mixed = state.wrapping_mul(31).wrapping_add(value);
        mixed = (mixed ^ mixed >> 16).wrapping_mul(0x85eb_ca6b);
        mixed = (mixed ^ mixed >> 13).wrapping_mul(0xc2b2_ae35);
        mixed ^ mixed >> 16
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_desktop_is_neither_flat_nor_noise() {
        let frame = desktop(1280, 720).unwrap();
        assert!(frame.pixels().iter().all(|pixel| *pixel <= 0x00ff_ffff));
        let mut png = Vec::new();
        qemu_shim::image::write_png(&frame, &mut png).unwrap();
        let raw = frame.pixels().len() * 3;
        assert!((raw / 100..raw / 4).contains(&png.len()), "{} of {raw} bytes", png.len());
        let colours: BTreeSet<_> = frame.pixels().iter().collect();
        assert!(colours.len() > 1000, "{} colours", colours.len());
    }

    #[test]
    fn any_size_can_be_painted() {
        for (width, height) in [(1, 1), (17, 3), (64, 64), (3, 700)] {
            assert_eq!(xrgb8888(&desktop(width, height).unwrap()).len(), (width * height * 4) as usize);
        }
    }
}
