//! What people at a console do, on its way to the guest.
//!
//! A console sees a device; a guest's keyboard and pointer belong to its VMM. So input goes to an [`InputSink`]: none (a
//! console to look at), or the monitor of the [QEMU](qmp::Qmp) that runs the guest. Later devices may take it themselves.
//!
//! [`Keyboard`](keyboard::Keyboard) and [`Mouse`](mouse::Mouse) turn what viewers say into what hardware does; they are
//! shared by all sinks, and free of I/O.
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

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

pub mod held;
pub mod keyboard;
pub mod keymap;
pub mod mouse;
pub mod qmp;
mod queue;

/// A key, as a viewer names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What it means: a keysym of X11, 0 if unknown.
    pub keysym: u32,
    /// Where it is, if the viewer can tell: its scan code of set 1 (XT). `0xe0 nn` is `nn | 0x80`; Print is 0x54, Pause
    /// 0xc6 (rfbproto "QEMU Extended Key Event Message").
    pub scancode: Option<u32>,
}

/// The pointer, wherever it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Pixels from the left edge of the screen.
    pub x: u32,
    /// Pixels from its top edge.
    pub y: u32,
    /// Pixels of the screen in a row.
    pub width: u32,
    /// Rows of the screen.
    pub height: u32,
    /// [`buttons`] that are down.
    pub buttons: u16,
}

/// Bits of [`Pointer::buttons`], those of a `PointerEvent` (rfbproto). A step of a wheel is a press and a release.
pub mod buttons {
    /// Left.
    pub const LEFT: u16 = 1 << 0;
    /// Middle.
    pub const MIDDLE: u16 = 1 << 1;
    /// Right.
    pub const RIGHT: u16 = 1 << 2;
    /// The wheel, away from the user.
    pub const WHEEL_UP: u16 = 1 << 3;
    /// The wheel, towards the user.
    pub const WHEEL_DOWN: u16 = 1 << 4;
    /// The wheel, to the left.
    pub const WHEEL_LEFT: u16 = 1 << 5;
    /// The wheel, to the right.
    pub const WHEEL_RIGHT: u16 = 1 << 6;
    /// At the side: back.
    pub const BACK: u16 = 1 << 7;
    /// At the side: forward.
    pub const FORWARD: u16 = 1 << 8;
    /// All that have a name.
    pub const ALL: u16 = (1 << 9) - 1;
}

/// Who takes input. No call blocks. What is still held when it is dropped goes up.
pub trait InputSink: Send {
    /// A key went down, is held (repeated), or went up.
    ///
    /// # Errors
    /// [`InputError`], each failure told once; the sink can be used further.
    fn key(&mut self, key: Key, down: bool) -> Result<(), InputError>;

    /// The pointer is elsewhere, or has other buttons down.
    ///
    /// # Errors
    /// [`InputError`], as for [`key`](Self::key).
    fn pointer(&mut self, pointer: Pointer) -> Result<(), InputError>;
}

/// Why input does not arrive.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InputError {
    /// The VMM cannot be talked to. It is tried again and again, and this said once.
    #[error("no input to {}: {reason}", path.display())]
    Disconnected {
        /// Its socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The VMM does not want it.
    #[error("{}: expected input to be taken, found it refused: {reason}", path.display())]
    Refused {
        /// Its socket.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The VMM does not read what it is sent.
    #[error("{}: expected the VMM to take input, found {waiting} events still waiting", path.display())]
    Full {
        /// Its socket.
        path: PathBuf,
        /// How many wait.
        waiting: usize,
    },
}

/// Where input goes, as named on a command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InputTarget {
    /// `none`: nowhere.
    #[default]
    None,
    /// `qmp:PATH`: to the monitor of a QEMU.
    Qmp(PathBuf),
}

/// Why a word names no target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} names no place for input: use qmp:PATH or none")]
pub struct InputTargetError(String);

impl FromStr for InputTarget {
    type Err = InputTargetError;

    fn from_str(word: &str) -> Result<Self, InputTargetError> {
        match word.split_once(':') {
            None if word == "none" => Ok(Self::None),
            Some(("qmp", path)) if !path.is_empty() => Ok(Self::Qmp(path.into())),
            _ => Err(InputTargetError(word.to_owned())),
        }
    }
}

impl fmt::Display for InputTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Qmp(path) => write!(f, "qmp:{}", path.display()),
        }
    }
}

impl InputTarget {
    /// The sink of this name, or none for a console to look at. It connects in its own time.
    ///
    /// # Errors
    /// Whatever keeps a thread from being started.
    pub fn open(&self) -> std::io::Result<Option<Box<dyn InputSink>>> {
        Ok(match self {
            Self::None => None,
            Self::Qmp(path) => Some(Box::new(qmp::Qmp::start(path.clone())?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_targets() {
        for word in ["none", "qmp:/run/vm:1.qmp"] {
            assert_eq!(word.parse::<InputTarget>().unwrap().to_string(), word);
        }
        for word in ["", "qmp", "qmp:", "none:", "unix:/a", "/run/qmp.sock"] {
            assert!(word.parse::<InputTarget>().is_err(), "{word}");
        }
        assert!(InputTarget::None.open().unwrap().is_none());
    }
}
