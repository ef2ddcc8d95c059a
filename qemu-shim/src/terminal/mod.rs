//! A picture in a terminal, and keys from it.
//!
//! Three ways to show one: the kitty graphics protocol (exact pixels), sixels (256 colours), and characters that are half
//! blocks (one pixel in a row and two in a column of each cell). [`Abilities`] knows which of them a terminal can,
//! [`Viewer`] what to send, and [`Terminal`] sends it and gives the terminal back as it was.

mod base64;
mod blocks;
mod input;
mod kitty;
mod layout;
mod mode;
mod scale;
mod sixel;
mod tty;
mod viewer;

pub use input::{Event, Input};
pub use layout::Layout;
pub use mode::{Abilities, Mode};
pub use scale::{Scaled, fitted};
pub use tty::{Terminal, TerminalError};
pub use viewer::Viewer;

/// What to send to a terminal before it is left: pictures of the kitty protocol are not text, and stay.
#[must_use]
pub fn cleanup(mode: Option<Mode>) -> &'static [u8] {
    if matches!(mode, None | Some(Mode::Kitty)) { kitty::DELETE_ALL } else { &[] }
}
