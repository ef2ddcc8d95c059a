//! What a keyboard does when viewers say what they mean.
//!
//! It knows which keys are down, so that a key comes up only where it went down, and all of them can be let go. A character
//! that needs another shift than the one that is held (another layout at the viewer, or a program that types) gets it for
//! its own moment, as RFC 6143 §7.5.4 advises; with control, alt or a logo key down nothing is touched, for then shift is part of
//! the shortcut.

use std::collections::BTreeSet;

use super::Key;
use super::keymap::{self, SHIFT_L, SHIFT_R, SHORTCUT_MODIFIERS, Shift};

/// A key of the guest's keyboard moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stroke {
    /// Its scan code of set 1, `0xe0 nn` as `nn | 0x80`.
    pub code: u8,
    /// Where it moves.
    pub down: bool,
}

/// Which keys are down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keyboard {
    held: BTreeSet<u8>,
}

impl Keyboard {
    /// What a viewer's key is on the hardware, in order; nothing, if there is no such key or it is up already. It has
    /// happened when it was [recorded](Self::record).
    #[must_use]
    pub fn strokes(&self, key: Key, down: bool) -> Vec<Stroke> {
        let Some((code, shift)) = place(key) else { return Vec::new() };
        if !down {
            return if self.held.contains(&code) { vec![Stroke { code, down }] } else { Vec::new() };
        }
        let shifts = || [SHIFT_L, SHIFT_R].into_iter().filter(|code| self.held.contains(code));
        // Shift keys to move for the moment, and where to.
        let (moved, there): (Vec<u8>, bool) = match shift {
            _ if SHORTCUT_MODIFIERS.iter().any(|code| self.held.contains(code)) => (Vec::new(), false),
            Shift::Down if shifts().next().is_none() => (vec![SHIFT_L], true),
            Shift::Up => (shifts().collect(), false),
            Shift::Any | Shift::Down => (Vec::new(), false),
        };
        let before = moved.iter().map(|code| Stroke { code: *code, down: there });
        let after = moved.iter().map(|code| Stroke { code: *code, down: !there });
        before.chain([Stroke { code, down }]).chain(after).collect()
    }

    /// What lets go of everything.
    #[must_use]
    pub fn releases(&self) -> Vec<Stroke> {
        self.held.iter().map(|code| Stroke { code: *code, down: false }).collect()
    }

    /// These strokes happened.
    pub fn record(&mut self, strokes: &[Stroke]) {
        for Stroke { code, down } in strokes {
            if *down {
                self.held.insert(*code);
            } else {
                self.held.remove(code);
            }
        }
    }
}

/// The scan code of set 1 of the key that a viewer means, `0xe0 nn` as `nn | 0x80`; none if there is no such key.
#[must_use]
pub fn scancode(key: Key) -> Option<u8> {
    place(key).map(|(code, _)| code)
}

/// Where a key is, and the shift that its meaning needs, which a viewer that tells the place takes care of itself.
fn place(key: Key) -> Option<(u8, Shift)> {
    let code = key.scancode.and_then(|code| u8::try_from(code).ok());
    match code {
        // Both are Print (rfbproto "QEMU Extended Key Event Message").
        Some(0xb7) => Some((0x54, Shift::Any)),
        Some(code) if code & 0x7f != 0 => Some((code, Shift::Any)),
        _ => keymap::find(key.keysym),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIFT: u32 = 0xffe1;
    const CONTROL: u32 = 0xffe3;

    /// What a keyboard does when keysyms go down (`true`) and up, as scan codes with a minus for up.
    fn typed(events: &[(u32, bool)]) -> Vec<i32> {
        let mut keyboard = Keyboard::default();
        let mut all = Vec::new();
        for (keysym, down) in events {
            let strokes = keyboard.strokes(Key { keysym: *keysym, scancode: None }, *down);
            keyboard.record(&strokes);
            all.extend(strokes);
        }
        all.iter().map(|s| if s.down { i32::from(s.code) } else { -i32::from(s.code) }).collect()
    }

    fn sym(character: char) -> u32 {
        character.into()
    }

    #[test]
    fn a_key_held_repeats_and_comes_up_once() {
        let a = sym('a');
        assert_eq!(typed(&[(a, true), (a, true), (a, false), (a, false)]), [0x1e, 0x1e, -0x1e]);
    }

    #[test]
    fn a_key_comes_up_whatever_it_means_by_then() {
        let events = [(SHIFT, true), (sym('A'), true), (SHIFT, false), (sym('a'), false)];
        assert_eq!(typed(&events), [0x2a, 0x1e, -0x2a, -0x1e]);
    }

    #[test]
    fn shift_is_there_where_the_character_needs_it() {
        assert_eq!(typed(&[(sym('A'), true), (sym('A'), false)]), [0x2a, 0x1e, -0x2a, -0x1e]);
        // A German viewer types a slash with shift.
        assert_eq!(typed(&[(SHIFT, true), (sym('/'), true)]), [0x2a, -0x2a, 0x35, 0x2a]);
        assert_eq!(typed(&[(SHIFT, true), (sym(' '), true), (0xff52, true)]), [0x2a, 0x39, 0xc8]);
    }

    #[test]
    fn shortcuts_keep_their_shift() {
        assert_eq!(typed(&[(CONTROL, true), (SHIFT, true), (sym('c'), true)]), [0x1d, 0x2a, 0x2e]);
        assert_eq!(typed(&[(CONTROL, true), (sym('C'), true)]), [0x1d, 0x2e]);
    }

    #[test]
    fn a_place_is_believed_and_nonsense_is_not() {
        let keyboard = Keyboard::default();
        let code = |keysym, scancode| {
            let strokes = keyboard.strokes(Key { keysym, scancode: Some(scancode) }, true);
            strokes.iter().map(|stroke| stroke.code).collect::<Vec<_>>()
        };
        assert_eq!(code(sym('Z'), 0x15), [0x15]);
        assert_eq!(code(0, 0xcd), [0xcd]);
        assert_eq!(code(0, 0xb7), [0x54]);
        for nonsense in [0, 0x80, 0x100, 0xe01d, u32::MAX] {
            assert_eq!(code(sym('z'), nonsense), [0x2c], "the keysym is left");
            assert_eq!(code(0, nonsense), [0; 0]);
        }
    }

    #[test]
    fn everything_held_can_be_let_go() {
        let mut keyboard = Keyboard::default();
        for keysym in [SHIFT, sym('A'), CONTROL] {
            let strokes = keyboard.strokes(Key { keysym, scancode: None }, true);
            keyboard.record(&strokes);
        }
        let releases = keyboard.releases();
        assert_eq!(releases.iter().map(|stroke| stroke.code).collect::<Vec<_>>(), [0x1d, 0x1e, 0x2a]);
        keyboard.record(&releases);
        assert_eq!(keyboard, Keyboard::default());
    }
}
