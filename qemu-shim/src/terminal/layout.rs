//! How a terminal's cells and pixels are shared out: the picture from the top left, the status in the last row.

use crate::damage::Rect;

/// A terminal that does not tell the size of its cells: that of the VGA font, which most are near to in shape.
const USUAL_CELL: (u32, u32) = (8, 16);
/// What a terminal has that does not tell its size (`TIOCGWINSZ` of a serial line is 0x0).
const USUAL_SIZE: (u32, u32) = (80, 24);

/// A terminal's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Cells in a row.
    pub columns: u32,
    /// Rows of cells that the picture may have: all but the last.
    pub rows: u32,
    /// Width and height of a cell, in pixels.
    pub cell: (u32, u32),
}

impl Layout {
    /// Of a terminal of so many columns and rows, with cells of so many pixels; zero or `None` = it does not tell.
    #[must_use]
    pub fn new(columns: u16, rows: u16, cell: Option<(u32, u32)>) -> Self {
        let or = |told: u32, usual: u32| if told == 0 { usual } else { told };
        let (width, height) = cell.unwrap_or_default();
        Self {
            columns: or(columns.into(), USUAL_SIZE.0),
            rows: or(rows.into(), USUAL_SIZE.1).saturating_sub(1),
            // A terminal may tell anything; nothing of ours gets larger by it than a screen can be.
            cell: (or(width, USUAL_CELL.0).min(256), or(height, USUAL_CELL.1).min(256)),
        }
    }

    /// Pixels for the picture.
    #[must_use]
    pub fn pixels(&self) -> (u32, u32) {
        (self.columns * self.cell.0, self.rows * self.cell.1)
    }
}

/// Appends the control sequence that puts the cursor on a cell, counted from 0.
pub(super) fn go_to(out: &mut Vec<u8>, row: u32, column: u32) {
    out.extend_from_slice(format!("\x1b[{};{}H", row + 1, column + 1).as_bytes());
}

/// Whether two rectangles have a pixel in common.
pub(super) fn touch(a: &Rect, b: &Rect) -> bool {
    let overlap = |a: u32, a_length: u32, b: u32, b_length: u32| a < b + b_length && b < a + a_length;
    overlap(a.x, a.width, b.x, b.width) && overlap(a.y, a.height, b.y, b.height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_is_as_usual() {
        let layout = Layout::new(0, 0, None);
        assert_eq!(layout, Layout { columns: 80, rows: 23, cell: (8, 16) });
        assert_eq!(Layout::new(132, 1, Some((0, 0))).pixels(), (132 * 8, 0));
        assert_eq!(Layout::new(10, 5, Some((u32::MAX, 20))).cell, (256, 20));
    }

    #[test]
    fn rectangles_touch_where_they_share_a_pixel() {
        let rect = Rect::new(2, 2, 3, 3);
        assert!(touch(&rect, &Rect::new(4, 4, 1, 1)) && touch(&Rect::new(0, 0, 9, 9), &rect));
        assert!(!touch(&rect, &Rect::new(5, 2, 1, 1)) && !touch(&rect, &Rect::new(2, 0, 3, 2)));
    }
}
