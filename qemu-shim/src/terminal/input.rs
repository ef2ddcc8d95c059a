//! What comes from a terminal: keys, and its answers to our questions, in one stream of bytes.
//!
//! Answers may come late, in pieces, between keys, or never. So one parser reads everything, as long as the terminal is ours,
//! and nothing of an answer is ever taken for a key.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

/// Longest answer that is kept; of longer ones the rest is dropped.
const MAX_ANSWER: usize = 256;

/// Control sequence introducer's first byte, and what ends a string.
const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// Something that the terminal said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A key, as a byte: letters as they are, with Ctrl as control characters. Keys that send more bytes are not told.
    Key(u8),
    /// The answer to a query of the kitty graphics protocol, and whether it was "OK".
    Kitty(bool),
    /// Primary device attributes, which every terminal answers, and whether sixel graphics (4) are among them.
    Attributes {
        /// It has sixels.
        sixel: bool,
    },
    /// Size of a character cell, in pixels: width and height.
    Cell(u32, u32),
    /// Size of the whole text area, in pixels: width and height.
    Area(u32, u32),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    /// One more byte, of a function key.
    SingleShift,
    Control,
    /// A string, which an escape and a backslash end; whether it is an application's (APC).
    String {
        application: bool,
        escaped: bool,
    },
}

/// The parser.
#[derive(Clone, Debug, Default)]
pub struct Input {
    state: State,
    answer: Vec<u8>,
}

impl Input {
    /// Takes bytes as they come, and tells what they mean.
    pub fn feed(&mut self, bytes: &[u8], mut tell: impl FnMut(Event)) {
        for byte in bytes {
            if let Some(event) = self.byte(*byte) {
                tell(event);
            }
        }
    }

    fn byte(&mut self, byte: u8) -> Option<Event> {
        match self.state {
            State::Ground if byte == ESC => self.enter(State::Escape),
            State::Ground => Some(Event::Key(byte)),
            State::Escape => match byte {
                b'[' => self.enter(State::Control),
                b'O' => self.enter(State::SingleShift),
                b'_' => self.enter(State::String { application: true, escaped: false }),
                b'P' | b']' | b'^' | b'X' => self.enter(State::String { application: false, escaped: false }),
                ESC => None,
                // A key together with Alt, or one soon after Escape.
                _ => self.leave(Some(Event::Key(byte))),
            },
            State::SingleShift => self.leave(None),
            State::Control => match byte {
                ESC => self.enter(State::Escape),
                // A key that was pressed in the middle of something that is no sequence.
                0..0x20 => self.leave(Some(Event::Key(byte))),
                0x40..=0x7e => {
                    let event = control(&self.answer, byte);
                    self.leave(event)
                }
                _ => self.keep(byte),
            },
            State::String { application, escaped } => match byte {
                b'\\' if escaped => self.end_string(application),
                BEL => self.end_string(application),
                ESC => {
                    self.state = State::String { application, escaped: true };
                    None
                }
                // No string of ours: Ctrl-C must not be lost in it.
                0..0x20 => self.leave(Some(Event::Key(byte))),
                _ => self.keep(byte),
            },
        }
    }

    fn enter(&mut self, state: State) -> Option<Event> {
        self.answer.clear();
        self.state = state;
        None
    }

    fn leave(&mut self, event: Option<Event>) -> Option<Event> {
        self.enter(State::Ground);
        event
    }

    fn keep(&mut self, byte: u8) -> Option<Event> {
        if self.answer.len() < MAX_ANSWER {
            self.answer.push(byte);
        }
        None
    }

    fn end_string(&mut self, application: bool) -> Option<Event> {
        // `G` keys `;` message
        let message = self.answer.strip_prefix(b"G").filter(|_| application);
        let event = message.map(|message| Event::Kitty(message.ends_with(b";OK")));
        self.leave(event)
    }
}

/// A control sequence: its parameters, and its last byte.
fn control(parameters: &[u8], last: u8) -> Option<Event> {
    let numbers = |text: &[u8]| -> Vec<u32> {
        let text = str::from_utf8(text).unwrap_or_default();
        text.split(';').map(|number| number.parse().unwrap_or(0)).collect()
    };
    match (last, parameters.strip_prefix(b"?")) {
        // The first one says which terminal it is like.
        (b'c', Some(attributes)) => {
            Some(Event::Attributes { sixel: numbers(attributes).iter().skip(1).any(|n| *n == 4) })
        }
        (b't', None) => match numbers(parameters)[..] {
            [4, height, width] => Some(Event::Area(width, height)),
            [6, height, width] => Some(Event::Cell(width, height)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<Event> {
        let mut input = Input::default();
        let mut events = Vec::new();
        for piece in pieces {
            input.feed(piece, |event| events.push(event));
        }
        events
    }

    #[test]
    fn answers_are_told_from_keys() {
        let text = b"a\x1b_Gi=31;OK\x1b\\b\x1b[6;20;10t\x1b[4;480;800t\x1b[?62;4;22cq";
        let expected = [
            Event::Key(b'a'),
            Event::Kitty(true),
            Event::Key(b'b'),
            Event::Cell(10, 20),
            Event::Area(800, 480),
            Event::Attributes { sixel: true },
            Event::Key(b'q'),
        ];
        assert_eq!(events(&[text]), expected);
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(events(&bytes), expected, "byte by byte");
    }

    #[test]
    fn other_answers() {
        assert_eq!(events(&[b"\x1b_Gi=31;ENOTSUP:no\x1b\\"]), [Event::Kitty(false)]);
        assert_eq!(events(&[b"\x1b[?4;6c"]), [Event::Attributes { sixel: false }], "a VT132, not sixels");
        assert_eq!(events(&[b"\x1b[?c\x1b[t\x1b[6;99999999999;1t"]).len(), 2);
        assert_eq!(events(&[b"\x1b]11;rgb:q/q/q\x07\x1bP1$rq\x1b\\"]), [], "strings of others");
    }

    #[test]
    fn keys_of_many_bytes_are_not_told() {
        assert_eq!(events(&[b"\x1b[A\x1bOP\x1b[15~\x1b[1;5Cx"]), [Event::Key(b'x')]);
        assert_eq!(events(&[b"\x1b", b"q"]), [Event::Key(b'q')]);
    }

    #[test]
    fn ctrl_c_is_never_lost() {
        for begun in [&b"\x1b_G"[..], b"\x1b]0;", b"\x1bP", b"\x1b[12", b"\x1b", b""] {
            assert_eq!(events(&[begun, b"\x03"]), [Event::Key(3)], "{begun:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_may_come(bytes: Vec<u8>, cut in 0usize..100) {
            let cut = cut.min(bytes.len());
            prop_assert_eq!(events(&[&bytes]), events(&[&bytes[..cut], &bytes[cut..]]));
        }

        #[test]
        fn memory_is_bounded(bytes in prop::collection::vec(b'0'..b':', 0..2000)) {
            let mut input = Input::default();
            input.feed(b"\x1b[", |_| {});
            input.feed(&bytes, |_| {});
            prop_assert!(input.answer.len() <= MAX_ANSWER);
        }
    }
}
