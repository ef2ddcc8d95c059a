//! Making a picture small enough for a terminal: every pixel is the mean of those that it stands for, and only what
//! changed is computed again.

use crate::damage::{Damage, Rect};
use crate::frame::{Frame, FrameError};

/// The largest size of this shape that fits into the room; never larger than it is. At least one pixel if there is any.
#[must_use]
pub fn fitted(size: (u32, u32), room: (u32, u32)) -> (u32, u32) {
    let (width, height) = (u64::from(size.0), u64::from(size.1));
    let (room_width, room_height) = (u64::from(room.0), u64::from(room.1));
    if width == 0 || height == 0 || room_width == 0 || room_height == 0 {
        return (0, 0);
    }
    if width <= room_width && height <= room_height {
        return size;
    }
    // Whichever side is tighter; both results are at most the room, so they fit.
    let (width, height) = if width * room_height > height * room_width {
        (room_width, (height * room_width / width).max(1))
    } else {
        ((width * room_height / height).max(1), room_height)
    };
    (u32::try_from(width).unwrap_or(size.0), u32::try_from(height).unwrap_or(size.1))
}

/// A smaller copy of a picture.
#[derive(Clone, Debug, Default)]
pub struct Scaled {
    frame: Frame,
    /// Of the picture that it is a copy of.
    source: (u32, u32),
}

impl Scaled {
    /// The copy.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Brings the copy up to date, at this size, which is at most that of the source. Returns what changed in the copy; all
    /// of it when a size is new, or when the damage is that of a picture of another size.
    ///
    /// # Errors
    /// [`FrameError`] when there is no memory for the copy.
    pub fn update(
        &mut self,
        source: &Frame,
        damage: &Damage,
        (width, height): (u32, u32),
    ) -> Result<Vec<Rect>, FrameError> {
        let source_size = (source.width(), source.height());
        let known = (self.frame.width(), self.frame.height()) == (width, height)
            && self.source == source_size
            && damage.size() == source_size;
        self.frame.resize(width, height)?;
        self.source = source_size;
        let changed = if known {
            damage.rects().iter().map(|rect| mapped(*rect, source_size, (width, height))).collect()
        } else {
            vec![Rect::new(0, 0, width, height)]
        };
        changed.iter().for_each(|rect| self.scale(source, *rect));
        Ok(changed)
    }

    fn scale(&mut self, source: &Frame, rect: Rect) {
        let (width, height) = (self.frame.width(), self.frame.height());
        let columns: Vec<(usize, usize)> =
            (rect.x..rect.x + rect.width).map(|x| span(x, self.source.0, width)).collect();
        let rows = (rect.y..).zip(self.frame.rows_mut().skip(rect.y as usize).take(rect.height as usize));
        let mut sums = vec![[0u64; 3]; columns.len()];
        for (y, row) in rows {
            let Some(row) = row.get_mut(rect.x as usize..) else { continue };
            let (first, count) = span(y, self.source.1, height);
            sums.fill([0; 3]);
            for from in source.rows().skip(first).take(count) {
                for (sum, (first, count)) in sums.iter_mut().zip(&columns) {
                    for pixel in from.iter().skip(*first).take(*count) {
                        let [_, r, g, b] = pixel.to_be_bytes();
                        sum[0] += u64::from(r);
                        sum[1] += u64::from(g);
                        sum[2] += u64::from(b);
                    }
                }
            }
            for (to, (sum, (_, columns))) in row.iter_mut().zip(sums.iter().zip(&columns)) {
                let pixels = (columns * count).max(1) as u64;
                let mean = sum.map(|sum| u8::try_from((sum + pixels / 2) / pixels).unwrap_or(u8::MAX));
                *to = u32::from_be_bytes([0, mean[0], mean[1], mean[2]]);
            }
        }
    }
}

/// The pixels of a side of `of` that pixel `at` of a side of `to` stands for: first, and how many.
fn span(at: u32, of: u32, to: u32) -> (usize, usize) {
    let edge = |at: u64| at * u64::from(of) / u64::from(to.max(1));
    let (first, end) = (edge(at.into()), edge(u64::from(at) + 1));
    (usize::try_from(first).unwrap_or(usize::MAX), usize::try_from(end - first).unwrap_or(0))
}

/// The pixels of the copy that stand for any pixel of a rectangle of the source.
fn mapped(rect: Rect, of: (u32, u32), to: (u32, u32)) -> Rect {
    let (x, width) = mapped_side(rect.x, rect.width, of.0, to.0);
    let (y, height) = mapped_side(rect.y, rect.height, of.1, to.1);
    Rect::new(x, y, width, height)
}

fn mapped_side(start: u32, length: u32, of: u32, to: u32) -> (u32, u32) {
    // The last pixel of the copy that begins at or before pixel `at` of the source.
    let stands_for = |at: u32| {
        let scaled = ((u64::from(at) + 1) * u64::from(to)).div_ceil(u64::from(of.max(1)));
        u32::try_from(scaled).unwrap_or(u32::MAX).saturating_sub(1)
    };
    if length == 0 {
        return (0, 0);
    }
    let first = stands_for(start);
    (first, stands_for(start + length - 1) + 1 - first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shapes_are_kept() {
        for (size, room, expected) in [
            ((640, 480), (640, 480), (640, 480)),
            ((640, 480), (1920, 1080), (640, 480)),
            ((640, 480), (80, 46), (61, 46)),
            ((1920, 1080), (100, 200), (100, 56)),
            ((16384, 1), (80, 46), (80, 1)),
            ((1, 16384), (80, 46), (1, 46)),
            ((640, 480), (0, 46), (0, 0)),
            ((0, 0), (80, 46), (0, 0)),
        ] {
            assert_eq!(fitted(size, room), expected, "{size:?} in {room:?}");
        }
    }

    #[test]
    fn pixels_are_means() {
        let mut source = Frame::new(4, 2).unwrap();
        source.pixels_mut().copy_from_slice(&[0, 2, 0xff_0000, 0xff_0000, 4, 6, 0xff_0000, 0xff_0000]);
        let mut scaled = Scaled::default();
        let changed = scaled.update(&source, &Damage::default(), (2, 1)).unwrap();
        assert_eq!(changed, [Rect::new(0, 0, 2, 1)]);
        assert_eq!(scaled.frame().pixels(), [3, 0xff_0000]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// What is brought up to date by its damage is what it would be if made anew, and nothing changed outside of what is
        /// said to have changed.
        #[test]
        fn damage_is_enough(
            size in (1u32..200, 1u32..150),
            room in (1u32..90, 1u32..90),
            at in (0u32..200, 0u32..150),
            seed: u32,
        ) {
            let mut source = Frame::new(size.0, size.1).unwrap();
            for (n, pixel) in (0u32..).zip(source.pixels_mut()) {
                *pixel = n.wrapping_mul(seed | 1) & 0xff_ffff;
            }
            let target = fitted(size, room);
            prop_assert!(target.0 <= room.0 && target.1 <= room.1 && target.0 > 0 && target.1 > 0);
            let mut scaled = Scaled::default();
            scaled.update(&source, &Damage::new(size.0, size.1), target).unwrap();
            let before = scaled.frame().clone();
            prop_assert_eq!(scaled.update(&source, &Damage::new(size.0, size.1), target).unwrap(), []);

            let (x, y) = (at.0 % size.0, at.1 % size.1);
            source.row_mut(y).unwrap()[x as usize] ^= 0xff_ffff;
            let mut damage = Damage::new(size.0, size.1);
            damage.add(Rect::new(x, y, 1, 1));
            let changed = scaled.update(&source, &damage, target).unwrap();
            let mut anew = Scaled::default();
            anew.update(&source, &damage, target).unwrap();
            prop_assert_eq!(scaled.frame(), anew.frame());
            for (y, (row, old)) in (0u32..).zip(scaled.frame().rows().zip(before.rows())) {
                for (x, (pixel, old)) in (0u32..).zip(row.iter().zip(old)) {
                    let inside = |r: &Rect| (r.x..r.x + r.width).contains(&x) && (r.y..r.y + r.height).contains(&y);
                    prop_assert!(pixel == old || changed.iter().any(inside));
                }
            }
            for rect in changed {
                prop_assert_eq!(rect.clipped(target.0, target.1), rect);
            }
        }
    }
}
