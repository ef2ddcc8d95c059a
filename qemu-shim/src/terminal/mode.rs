//! Which of the three ways to show a picture a terminal can, by its own word.

use std::fmt;

use super::input::Event;
use super::kitty;

/// A way to show pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The kitty graphics protocol: exact pixels.
    Kitty,
    /// Sixels: 256 colours.
    Sixel,
    /// Half blocks: two pixels for each character.
    Blocks,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kitty => "kitty",
            Self::Sixel => "sixel",
            Self::Blocks => "blocks",
        })
    }
}

/// Asks for the size of a cell and of the text area, in pixels (XTWINOPS 16 and 14).
const QUERY_SIZES: &[u8] = b"\x1b[16t\x1b[14t";
/// Asks for primary device attributes. Every terminal answers that, and in turn: with it all answers are there.
const QUERY_ATTRIBUTES: &[u8] = b"\x1b[c";

/// What a terminal has said of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    kitty: bool,
    sixel: bool,
    complete: bool,
    cell: Option<(u32, u32)>,
    area: Option<(u32, u32)>,
}

impl Abilities {
    /// What to send to a terminal to learn what it can; `mode` is the one wanted, if one is. A terminal that is known to be
    /// none of kitty's kind is not sent what it might print.
    #[must_use]
    pub fn questions(mode: Option<Mode>) -> Vec<u8> {
        let kitty = if matches!(mode, None | Some(Mode::Kitty)) { kitty::QUERY } else { &[] };
        [kitty, QUERY_SIZES, QUERY_ATTRIBUTES].concat()
    }

    /// What to send when the terminal's size has changed: its font may have too.
    #[must_use]
    pub fn questions_of_size() -> &'static [u8] {
        QUERY_SIZES
    }

    /// Takes an answer.
    pub fn learn(&mut self, event: Event) {
        match event {
            Event::Kitty(ok) => self.kitty = ok,
            Event::Attributes { sixel } => (self.sixel, self.complete) = (sixel, true),
            Event::Cell(width, height) => self.cell = Some((width, height)),
            Event::Area(width, height) => self.area = Some((width, height)),
            Event::Key(_) => {}
        }
    }

    /// Whether there will be no more answers.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The best way to show a picture.
    #[must_use]
    pub fn best(&self) -> Mode {
        match (self.kitty, self.sixel) {
            (true, _) => Mode::Kitty,
            (false, true) => Mode::Sixel,
            (false, false) => Mode::Blocks,
        }
    }

    /// The size of a cell, in pixels, on a terminal of so many columns and rows of which the kernel knows the size `pixels`;
    /// `None` if nobody told.
    #[must_use]
    pub fn cell(&self, columns: u16, rows: u16, pixels: (u16, u16)) -> Option<(u32, u32)> {
        let shared = |(width, height): (u32, u32)| {
            Some((width.checked_div(columns.into())?, height.checked_div(rows.into())?))
        };
        let told = |size: &(u32, u32)| size.0 > 0 && size.1 > 0;
        self.cell
            .filter(told)
            .or_else(|| shared((pixels.0.into(), pixels.1.into())).filter(told))
            .or_else(|| shared(self.area?).filter(told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_what_it_can() {
        let mut abilities = Abilities::default();
        assert_eq!((abilities.best(), abilities.is_complete()), (Mode::Blocks, false));
        abilities.learn(Event::Attributes { sixel: true });
        assert_eq!((abilities.best(), abilities.is_complete()), (Mode::Sixel, true));
        abilities.learn(Event::Kitty(true));
        assert_eq!(abilities.best(), Mode::Kitty);
        abilities.learn(Event::Kitty(false));
        assert_eq!(abilities.best(), Mode::Sixel);
    }

    #[test]
    fn the_size_of_a_cell_is_whoever_s_word_there_is() {
        let mut abilities = Abilities::default();
        assert_eq!(abilities.cell(80, 24, (0, 0)), None);
        assert_eq!(abilities.cell(0, 0, (800, 480)), None);
        abilities.learn(Event::Area(960, 480));
        assert_eq!(abilities.cell(80, 24, (0, 0)), Some((12, 20)));
        assert_eq!(abilities.cell(80, 24, (800, 480)), Some((10, 20)));
        abilities.learn(Event::Cell(9, 18));
        assert_eq!(abilities.cell(80, 24, (800, 480)), Some((9, 18)));
        abilities.learn(Event::Cell(0, 18));
        assert_eq!(abilities.cell(80, 24, (800, 480)), Some((10, 20)));
    }

    #[test]
    fn questions_end_with_the_one_that_is_answered() {
        for mode in [None, Some(Mode::Kitty), Some(Mode::Sixel), Some(Mode::Blocks)] {
            let questions = Abilities::questions(mode);
            assert!(questions.ends_with(b"\x1b[c"));
            let asks_kitty = matches!(mode, None | Some(Mode::Kitty));
            assert_eq!(questions.starts_with(b"\x1b_G"), asks_kitty);
        }
    }
}
