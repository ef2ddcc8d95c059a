//! Keysyms on a US keyboard: which key, and whether shift.
//!
//! For viewers that tell only what a key means. The guest is taken to have a US layout; viewers that tell where a key is
//! (QEMU extended keys) work with every layout and do not come here.

/// Scan code of the left shift key.
pub const SHIFT_L: u8 = 0x2a;
/// Scan code of the right shift key.
pub const SHIFT_R: u8 = 0x36;
/// Scan codes of the modifiers that make a shortcut of a character: control, alt and the logo keys, left and right.
pub const SHORTCUT_MODIFIERS: [u8; 6] = [0x1d, 0x9d, 0x38, 0xb8, 0xdb, 0xdc];

/// What shift has to be for a key to mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shift {
    /// Whatever it is.
    Any,
    /// Down.
    Down,
    /// Up.
    Up,
}

/// Rows of characters on neighbouring keys: the scan code of the first, the characters without and with shift.
const ROWS: [(u8, &str, &str); 4] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
];

/// Keys without a character, and the keypad: keysym (X11's `keysymdef.h`) and scan code.
///
/// Not here, because a character already says what they do to it: the caps lock (RFC 6143 §7.5.4: servers ignore it) and
/// the third-level shift. The keypad's digits need the guest's num lock to be on, as firmware leaves it; its arrows are the
/// other arrows, which do not need it to be off.
const NAMED: [(u32, u8); 96] = [
    (0x0020, 0x39), // space
    (0xff08, 0x0e), // BackSpace
    (0xff09, 0x0f), // Tab
    (0xfe20, 0x0f), // ISO_Left_Tab
    (0xff0a, 0x5b), // Linefeed
    (0xff0d, 0x1c), // Return
    (0xff13, 0xc6), // Pause
    (0xff6b, 0xc6), // Break
    (0xff14, 0x46), // Scroll_Lock
    (0xff15, 0x54), // Sys_Req
    (0xff61, 0x54), // Print
    (0xff1b, 0x01), // Escape
    (0xff50, 0xc7), // Home
    (0xff51, 0xcb), // Left
    (0xff52, 0xc8), // Up
    (0xff53, 0xcd), // Right
    (0xff54, 0xd0), // Down
    (0xff55, 0xc9), // Prior
    (0xff56, 0xd1), // Next
    (0xff57, 0xcf), // End
    (0xff63, 0xd2), // Insert
    (0xffff, 0xd3), // Delete
    (0xff67, 0xdd), // Menu
    (0xff6a, 0xf5), // Help
    (0xff7f, 0x45), // Num_Lock
    (0xffbe, 0x3b), // F1
    (0xffbf, 0x3c),
    (0xffc0, 0x3d),
    (0xffc1, 0x3e),
    (0xffc2, 0x3f),
    (0xffc3, 0x40),
    (0xffc4, 0x41),
    (0xffc5, 0x42),
    (0xffc6, 0x43),
    (0xffc7, 0x44), // F10
    (0xffc8, 0x57), // F11
    (0xffc9, 0x58), // F12
    (0xffe1, SHIFT_L),
    (0xffe2, SHIFT_R),
    (0xffe3, 0x1d), // Control_L
    (0xffe4, 0x9d), // Control_R
    (0xffe7, 0x38), // Meta_L: what X11 calls alt with shift
    (0xffe8, 0xb8), // Meta_R
    (0xffe9, 0x38), // Alt_L
    (0xffea, 0xb8), // Alt_R
    (0xffeb, 0xdb), // Super_L
    (0xffec, 0xdc), // Super_R
    (0xffed, 0xdb), // Hyper_L
    (0xffee, 0xdc), // Hyper_R
    (0xff80, 0x39), // KP_Space
    (0xff89, 0x0f), // KP_Tab
    (0xff8d, 0x9c), // KP_Enter
    (0xff95, 0xc7), // KP_Home
    (0xff96, 0xcb), // KP_Left
    (0xff97, 0xc8), // KP_Up
    (0xff98, 0xcd), // KP_Right
    (0xff99, 0xd0), // KP_Down
    (0xff9a, 0xc9), // KP_Prior
    (0xff9b, 0xd1), // KP_Next
    (0xff9c, 0xcf), // KP_End
    (0xff9d, 0x4c), // KP_Begin
    (0xff9e, 0xd2), // KP_Insert
    (0xff9f, 0xd3), // KP_Delete
    (0xffbd, 0x59), // KP_Equal
    (0xffaa, 0x37), // KP_Multiply
    (0xffab, 0x4e), // KP_Add
    (0xffac, 0x53), // KP_Separator
    (0xffad, 0x4a), // KP_Subtract
    (0xffae, 0x53), // KP_Decimal
    (0xffaf, 0xb5), // KP_Divide
    (0xffb0, 0x52), // KP_0
    (0xffb1, 0x4f),
    (0xffb2, 0x50),
    (0xffb3, 0x51),
    (0xffb4, 0x4b),
    (0xffb5, 0x4c),
    (0xffb6, 0x4d),
    (0xffb7, 0x47),
    (0xffb8, 0x48),
    (0xffb9, 0x49),      // KP_9
    (0x1008_ff11, 0xae), // XF86AudioLowerVolume
    (0x1008_ff12, 0xa0), // XF86AudioMute
    (0x1008_ff13, 0xb0), // XF86AudioRaiseVolume
    (0x1008_ff14, 0xa2), // XF86AudioPlay
    (0x1008_ff15, 0xa4), // XF86AudioStop
    (0x1008_ff16, 0x90), // XF86AudioPrev
    (0x1008_ff17, 0x99), // XF86AudioNext
    (0x1008_ff18, 0xb2), // XF86HomePage
    (0x1008_ff19, 0xec), // XF86Mail
    (0x1008_ff1d, 0xa1), // XF86Calculator
    (0x1008_ff26, 0xea), // XF86Back
    (0x1008_ff27, 0xe9), // XF86Forward
    (0x1008_ff29, 0xe7), // XF86Refresh
    (0x1008_ff2a, 0xde), // XF86PowerOff
    (0x1008_ff2b, 0xe3), // XF86WakeUp
    (0x1008_ff2f, 0xdf), // XF86Sleep
];

/// The scan code (set 1, `0xe0 nn` as `nn | 0x80`) of the key with this meaning, and the shift that it takes.
#[must_use]
pub fn find(keysym: u32) -> Option<(u8, Shift)> {
    // Unicode's keysyms of what has an older one (X11 protocol, appendix A).
    let keysym = match keysym {
        0x0100_0020..=0x0100_007e => keysym & 0xff,
        _ => keysym,
    };
    if let Some((_, code)) = NAMED.iter().find(|(named, _)| *named == keysym) {
        return Some((*code, Shift::Any));
    }
    let character = char::from_u32(keysym).filter(char::is_ascii_graphic)?;
    ROWS.iter().find_map(|(first, plain, shifted)| {
        let (at, shift) = match (plain.find(character), shifted.find(character)) {
            (Some(at), _) => (at, Shift::Up),
            (None, Some(at)) => (at, Shift::Down),
            (None, None) => return None,
        };
        Some((first.checked_add(u8::try_from(at).ok()?)?, shift))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ascii_character_has_a_key() {
        let mut found = std::collections::BTreeSet::new();
        for character in ' '..='~' {
            let (code, shift) = find(character.into()).unwrap_or_else(|| panic!("{character:?}"));
            assert!(found.insert((code, shift == Shift::Down)), "{character:?} shares its key");
            assert_eq!(find(0x0100_0000 + u32::from(character)), Some((code, shift)));
        }
    }

    /// A sample of what QEMU's own table for the layout says (`keymaps/en-us`).
    #[test]
    fn keys_are_where_they_are_on_a_us_keyboard() {
        let known = [
            ('1', 0x02, Shift::Up),
            ('@', 0x03, Shift::Down),
            ('=', 0x0d, Shift::Up),
            ('P', 0x19, Shift::Down),
            (']', 0x1b, Shift::Up),
            ('"', 0x28, Shift::Down),
            ('`', 0x29, Shift::Up),
            ('|', 0x2b, Shift::Down),
            ('m', 0x32, Shift::Up),
            ('?', 0x35, Shift::Down),
            (' ', 0x39, Shift::Any),
        ];
        for (character, code, shift) in known {
            assert_eq!(find(character.into()), Some((code, shift)), "{character:?}");
        }
        assert_eq!(find(0xff53), Some((0xcd, Shift::Any)), "the right arrow");
        assert_eq!(find(0xffc9), Some((0x58, Shift::Any)), "F12");
    }

    #[test]
    fn a_keysym_has_one_key() {
        for (at, (keysym, _)) in NAMED.iter().enumerate() {
            assert!(NAMED[..at].iter().all(|(other, _)| other != keysym), "{keysym:#x}");
        }
        for unknown in [0, 0xffe5, 0xe9, 0x0100_20ac, u32::MAX] {
            assert_eq!(find(unknown), None, "{unknown:#x}");
        }
    }
}
