//! How far two pictures are from each other.
//!
//! Tests of what a guest shows compare with a picture that somebody once looked at. Equal is not always what they want:
//! a renderer may round otherwise, and a clock may be on the screen. So a comparison has a tolerance per channel and may
//! be of a part, and its answer says where to look.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::damage::Rect;
use crate::frame::{Frame, FrameError};

/// Differing pixels in [`picture`]: a colour that stands out of greys.
pub const MARK: u32 = 0x00ff_00ff;

/// A rectangle of a picture, inside of it.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    frame: &'a Frame,
    rect: Rect,
}

impl<'a> Part<'a> {
    /// All of a picture.
    #[must_use]
    pub fn whole(frame: &'a Frame) -> Self {
        Self { frame, rect: Rect::new(0, 0, frame.width(), frame.height()) }
    }

    /// A part of a picture; `None` when some of it is outside.
    #[must_use]
    pub fn new(frame: &'a Frame, rect: Rect) -> Option<Self> {
        (rect.clipped(frame.width(), frame.height()) == rect).then_some(Self { frame, rect })
    }

    /// Where it is in its picture.
    #[must_use]
    pub fn rect(&self) -> Rect {
        self.rect
    }

    fn rows(&self) -> impl Iterator<Item = &'a [u32]> + use<'a> {
        let Rect { x, y, width, height } = self.rect;
        let columns = x as usize..x as usize + width as usize;
        let rows = self.frame.rows().skip(y as usize).take(height as usize);
        rows.map(move |row| row.get(columns.clone()).unwrap_or_default())
    }
}

/// The pixels of two pictures that differ by more than the tolerance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// How many there are; at least one.
    pub pixels: u64,
    /// How many were compared.
    pub of: u64,
    /// The smallest rectangle that has them all, in the first picture.
    pub bounds: Rect,
    /// The largest difference of a channel, 0 to 255.
    pub largest: u8,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pixels, of, bounds: Rect { x, y, width, height }, largest } = self;
        write!(
            f,
            "{pixels} of {of} pixels differ, within {width}x{height} at {x},{y}, by at most {largest} of 255"
        )
    }
}

/// Two pictures of different sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the sizes differ: {}x{} and {}x{}", a.0, a.1, b.0, b.1)]
pub struct SizesDiffer {
    /// Width and height of the first, in pixels.
    pub a: (u32, u32),
    /// Of the second.
    pub b: (u32, u32),
}

/// Compares two pictures: `None` when no channel of any pixel differs by more than `tolerance`.
///
/// # Errors
/// [`SizesDiffer`].
pub fn compare(a: Part<'_>, b: Part<'_>, tolerance: u8) -> Result<Option<Difference>, SizesDiffer> {
    same_size(a, b)?;
    let (mut pixels, mut largest) = (0, 0);
    let (mut left, mut right, mut top, mut bottom) = (u32::MAX, 0, u32::MAX, 0);
    for (y, (a, b)) in (a.rect.y..).zip(a.rows().zip(b.rows())) {
        // Most rows of most pictures that are compared are the same.
        if a == b {
            continue;
        }
        for (x, (a, b)) in (0..).zip(a.iter().zip(b)) {
            let distance = distance(*a, *b);
            if distance > tolerance {
                pixels += 1;
                largest = largest.max(distance);
                (left, right) = (left.min(x), right.max(x));
                (top, bottom) = (top.min(y), bottom.max(y));
            }
        }
    }
    if pixels == 0 {
        return Ok(None);
    }
    let bounds = Rect::new(a.rect.x + left, top, right - left + 1, bottom - top + 1);
    Ok(Some(Difference { pixels, of: a.rect.area(), bounds, largest }))
}

/// A picture of the difference: the first one dark and grey, and on it the pixels that differ in [`MARK`].
///
/// # Errors
/// [`SizesDiffer`], or [`FrameError`] when there is no memory for it.
pub fn picture(a: Part<'_>, b: Part<'_>, tolerance: u8) -> Result<Frame, PictureError> {
    same_size(a, b)?;
    let mut picture = Frame::new(a.rect.width, a.rect.height)?;
    for (to, (a, b)) in picture.rows_mut().zip(a.rows().zip(b.rows())) {
        for (to, (a, b)) in to.iter_mut().zip(a.iter().zip(b)) {
            *to = if distance(*a, *b) > tolerance { MARK } else { dimmed(*a) };
        }
    }
    Ok(picture)
}

/// Why there is no picture of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PictureError {
    /// There is no pixel for each pixel.
    #[error(transparent)]
    Sizes(#[from] SizesDiffer),
    /// There is no memory.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

fn same_size(a: Part<'_>, b: Part<'_>) -> Result<(), SizesDiffer> {
    let size = |part: Part<'_>| (part.rect.width, part.rect.height);
    if size(a) == size(b) { Ok(()) } else { Err(SizesDiffer { a: size(a), b: size(b) }) }
}

/// The largest difference of a channel.
fn distance(a: u32, b: u32) -> u8 {
    let ([_, r, g, bl], [_, r2, g2, bl2]) = (a.to_be_bytes(), b.to_be_bytes());
    r.abs_diff(r2).max(g.abs_diff(g2)).max(bl.abs_diff(bl2))
}

/// A third of its brightness, without its colour.
fn dimmed(pixel: u32) -> u32 {
    let [_, r, g, b] = pixel.to_be_bytes();
    let grey = (u32::from(r) + u32::from(g) + u32::from(b)) / 9;
    grey * 0x01_0101
}

/// Why a word names no rectangle.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no region: use X,Y,WIDTH,HEIGHT in pixels, as in 0,0,640,16")]
pub struct NoRegion(String);

impl FromStr for Rect {
    type Err = NoRegion;

    /// `X,Y,WIDTH,HEIGHT`, with at least one pixel, and no side further out than a frame can have.
    fn from_str(word: &str) -> Result<Self, NoRegion> {
        let no_region = || NoRegion(word.to_owned());
        let numbers: Vec<u32> = word.split(',').map_while(|number| number.parse().ok()).collect();
        let [x, y, width, height] = numbers[..] else { return Err(no_region()) };
        let rect = Self::new(x, y, width, height);
        let fits = rect.clipped(Frame::MAX_SIDE, Frame::MAX_SIDE) == rect;
        let whole = word.split(',').count() == numbers.len();
        if fits && whole && !rect.is_empty() { Ok(rect) } else { Err(no_region()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(width: u32, pixels: &[u32]) -> Frame {
        let height = u32::try_from(pixels.len()).unwrap() / width;
        let mut frame = Frame::new(width, height).unwrap();
        frame.pixels_mut().copy_from_slice(pixels);
        frame
    }

    #[test]
    fn what_differs_is_counted_and_framed() {
        let a = frame(3, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let b = frame(3, &[1, 2, 3, 4, 5, 0x10_0006, 7, 0x0a08, 9]);
        let found = compare(Part::whole(&a), Part::whole(&b), 0).unwrap().unwrap();
        assert_eq!(found, Difference { pixels: 2, of: 9, bounds: Rect::new(1, 1, 2, 2), largest: 0x10 });
        assert_eq!(found.to_string(), "2 of 9 pixels differ, within 2x2 at 1,1, by at most 16 of 255");
        let found = compare(Part::whole(&a), Part::whole(&b), 0x0a).unwrap().unwrap();
        assert_eq!((found.pixels, found.bounds), (1, Rect::new(2, 1, 1, 1)));
        assert_eq!(compare(Part::whole(&a), Part::whole(&b), 0x10), Ok(None));
    }

    #[test]
    fn a_part_is_compared_with_a_part() {
        let a = frame(3, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let golden = frame(2, &[5, 6, 8, 10]);
        let part = Part::new(&a, Rect::new(1, 1, 2, 2)).unwrap();
        let found = compare(part, Part::whole(&golden), 0).unwrap().unwrap();
        assert_eq!((found.pixels, found.bounds, found.of), (1, Rect::new(2, 2, 1, 1), 4));
        assert!(Part::new(&a, Rect::new(2, 0, 2, 1)).is_none());
        let error = compare(Part::whole(&a), Part::whole(&golden), 0).unwrap_err();
        assert_eq!(error.to_string(), "the sizes differ: 3x3 and 2x2");
    }

    #[test]
    fn differences_stand_out() {
        let (a, b) = (frame(2, &[0xff_ffff, 0x30_0000]), frame(2, &[0xff_fffe, 0x30_0000]));
        let shown = picture(Part::whole(&a), Part::whole(&b), 0).unwrap();
        assert_eq!(shown.pixels(), [MARK, 0x05_0505]);
        let shown = picture(Part::whole(&a), Part::whole(&b), 1).unwrap();
        assert_eq!(shown.pixels(), [0x55_5555, 0x05_0505]);
    }

    #[test]
    fn regions_are_read() {
        assert_eq!("1,2,30,40".parse(), Ok(Rect::new(1, 2, 30, 40)));
        for word in [
            "",
            "1,2,3",
            "1,2,3,4,5",
            "1,2,0,4",
            "1,2,3,0",
            "-1,2,3,4",
            "1,2,3,x",
            "0,0,4294967295,1",
            "9,,1,1",
        ] {
            assert!(word.parse::<Rect>().is_err(), "{word}");
        }
    }

    proptest! {
        /// Pixel by pixel, without any short cut.
        #[test]
        fn any_two_pictures(
            width in 1u32..9,
            pixels in prop::collection::vec((0u32..0x100_0000, 0u32..0x100_0000, any::<bool>()), 9..90),
            tolerance: u8,
        ) {
            let pixels = &pixels[..pixels.len() / width as usize * width as usize];
            let a = frame(width, &pixels.iter().map(|(a, ..)| *a).collect::<Vec<_>>());
            let b = frame(width, &pixels.iter().map(|(a, b, same)| if *same { *a } else { *b }).collect::<Vec<_>>());
            let far = |(a, b): (&u32, &u32)| {
                a.to_be_bytes().iter().zip(b.to_be_bytes()).any(|(a, b)| a.abs_diff(b) > tolerance)
            };
            let expected = a.pixels().iter().zip(b.pixels()).filter(|pair| far(*pair)).count();
            let found = compare(Part::whole(&a), Part::whole(&b), tolerance).unwrap();
            prop_assert_eq!(found.map_or(0, |found| found.pixels), expected as u64);
            let shown = picture(Part::whole(&a), Part::whole(&b), tolerance).unwrap();
            prop_assert_eq!(shown.pixels().iter().filter(|pixel| **pixel == MARK).count(), expected);
            if let Some(Difference { bounds, .. }) = found {
                let inside = Part::new(&shown, bounds).unwrap();
                let in_it = inside.rows().flatten().filter(|pixel| **pixel == MARK).count();
                prop_assert_eq!(in_it, expected, "none is outside of the bounds");
            }
        }
    }
}
