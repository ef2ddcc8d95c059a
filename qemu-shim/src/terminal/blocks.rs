//! A picture of characters: each cell is the upper half of a block, in the colour of the pixel above, on the colour of the
//! pixel below. Any terminal with 24-bit colour shows that.

use super::layout::{Layout, go_to};
use crate::frame::Frame;

/// U+2580 UPPER HALF BLOCK, in UTF-8.
const UPPER_HALF: &[u8] = "\u{2580}".as_bytes();

/// Which cells are on the terminal.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    columns: u32,
    /// Colours above and below of each cell; `None` = not known.
    cells: Vec<Option<(u32, u32)>>,
}

impl Blocks {
    /// Pixels for the picture: one in a row and two in a column for each cell.
    pub(super) fn room(layout: &Layout) -> (u32, u32) {
        (layout.columns, layout.rows * 2)
    }

    /// Appends what makes the terminal show the picture, of which nothing is shown that is already there.
    pub(super) fn paint(&mut self, picture: &Frame, out: &mut Vec<u8>) {
        let rows = picture.height().div_ceil(2);
        let cells = picture.width() as usize * rows as usize;
        if self.columns != picture.width() || self.cells.len() != cells {
            self.columns = picture.width();
            self.cells = vec![None; cells];
        }
        let mut colours = None;
        let mut cursor = None;
        let mut pixels = picture.rows();
        let mut shown = self.cells.chunks_exact_mut(self.columns.max(1) as usize);
        for row in 0..rows {
            let (Some(above), Some(shown)) = (pixels.next(), shown.next()) else { break };
            // An odd last row is black below.
            let below = pixels.next().unwrap_or_default().iter().chain(std::iter::repeat(&0));
            for (column, ((above, below), shown)) in (0..).zip(above.iter().zip(below).zip(shown)) {
                let cell = Some((*above, *below));
                if *shown == cell {
                    continue;
                }
                if cursor != Some((row, column)) {
                    go_to(out, row, column);
                }
                if colours != cell {
                    let [_, r, g, b] = above.to_be_bytes();
                    let [_, r2, g2, b2] = below.to_be_bytes();
                    let text = format!("\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m");
                    out.extend_from_slice(text.as_bytes());
                    colours = cell;
                }
                out.extend_from_slice(UPPER_HALF);
                *shown = cell;
                cursor = Some((row, column + 1));
            }
        }
        if cursor.is_some() {
            out.extend_from_slice(b"\x1b[0m");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Colours of a cell of a terminal that shows it.
    fn cell(screen: &vt100::Screen, row: u16, column: u16) -> (u32, u32) {
        let rgb = |colour| match colour {
            vt100::Color::Rgb(r, g, b) => u32::from_be_bytes([0, r, g, b]),
            other => panic!("{other:?} at {row},{column}"),
        };
        let cell = screen.cell(row, column).unwrap();
        assert_eq!(cell.contents(), "\u{2580}", "at {row},{column}");
        (rgb(cell.fgcolor()), rgb(cell.bgcolor()))
    }

    fn assert_shows(terminal: &vt100::Parser, picture: &Frame) {
        for (y, row) in (0u16..).zip(picture.rows()).filter(|(y, _)| y % 2 == 0) {
            let below = picture.row(u32::from(y) + 1);
            for (x, above) in (0u16..).zip(row) {
                let below = below.map_or(0, |below| below[usize::from(x)]);
                assert_eq!(cell(terminal.screen(), y / 2, x), (*above, below), "at {x},{y}");
            }
        }
    }

    #[test]
    fn only_what_changed_is_sent() {
        let mut picture = Frame::new(4, 4).unwrap();
        let mut blocks = Blocks::default();
        let mut out = Vec::new();
        blocks.paint(&picture, &mut out);
        out.clear();
        blocks.paint(&picture, &mut out);
        assert!(out.is_empty());
        picture.row_mut(3).unwrap()[2] = 0x01_0203;
        blocks.paint(&picture, &mut out);
        assert_eq!(out, "\x1b[2;3H\x1b[38;2;0;0;0;48;2;1;2;3m\u{2580}\x1b[0m".as_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A terminal shows each of a sequence of pictures exactly.
        #[test]
        fn a_terminal_shows_it(
            width in 1u32..20,
            height in 1u32..20,
            pictures in prop::collection::vec(prop::collection::vec(0u32..3, 1..400), 1..5),
        ) {
            let mut terminal = vt100::Parser::new(10.try_into().unwrap(), 20.try_into().unwrap(), 0);
            let mut blocks = Blocks::default();
            for pixels in pictures {
                let mut picture = Frame::new(width, height).unwrap();
                for (to, from) in picture.pixels_mut().iter_mut().zip(pixels.iter().cycle()) {
                    *to = from * 0x10_2030;
                }
                let mut out = Vec::new();
                blocks.paint(&picture, &mut out);
                terminal.process(&out);
                assert_shows(&terminal, &picture);
            }
        }
    }
}
