//! qemu-shim: a console for VFIO displays. What a guest shows, as a picture, a file or a checksum.
//!
//! Data flows one way: a plane's bytes are [converted](convert) row by row into a [`Frame`], and everything after that
//! ([`image`], [`crc`]) knows only frames. A [`Console`] does the first half for one device; [`commands`] are the
//! program. [`demo`] is a guest to look at when there is none.

pub mod commands;
pub mod compare;
pub mod compose;
pub mod console;
pub mod convert;
pub mod crc;
pub mod cursor;
pub mod damage;
pub mod demo;
pub mod frame;
pub mod image;
pub mod input;
pub mod net;
pub mod preload;
pub mod record;
pub mod resize;
pub mod rfb;
pub mod target;
pub mod terminal;
pub mod vnc;

pub use console::{Console, ConsoleError, Listener, Refresh, State, Update};
pub use cursor::Cursor;
pub use damage::{Damage, Rect};
pub use frame::Frame;
pub use target::Target;
