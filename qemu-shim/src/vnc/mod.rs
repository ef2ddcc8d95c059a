//! A VNC server: what a console shows, for any number of viewers.
//!
//! ```text
//! Console ── damage ──► Viewer ── dirty tiles ──► Pictures (encoded once) ──► Output ──► Channel
//!                          ▲                                                             │
//!                          └────────── keys, requests (rfb::parser) ◄────────────────────┘
//! ```
//!
//! [`rfb`](crate::rfb) knows the bytes, [`net`](crate::net) what carries them, [`Viewer`] what one viewer wants and has;
//! [`Server`] is the loop around them.

mod connection;
mod output;
mod pictures;
mod scroll;
mod send;
mod server;
mod viewer;

pub use output::Output;
pub use pictures::Pictures;
pub use scroll::{Move, Rows};
pub use server::{Door, MAX_VIEWERS, Server, ServerError, Settings};
pub use viewer::{Goodbye, Room, Viewer, wire_size};
