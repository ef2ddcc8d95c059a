//! Bytes between a viewer and the VNC server, whatever carries them.
//!
//! A [`Listener`] accepts [`Stream`]s on TCP or a Unix socket; a [`Channel`] is one viewer's byte stream: the socket
//! itself, TLS on it, or a WebSocket that a browser opened by HTTP. Nothing here blocks, starts a thread or looks at a
//! clock: one poll loop drives all channels by [`interest`](Channel::interest), [`read`](Channel::read),
//! [`write`](Channel::write) and [`deadline`](Channel::deadline), and the RFB protocol above never learns what is below.
//!
//! ```text
//! RFB bytes ── Channel ── (WebSocket messages) ── (TLS records) ── Stream ── TCP or Unix socket
//!                  └ before that, on the web port: one HTTP request, which may be for the page instead
//! ```
//!
//! Peers are hostile: what they can make us keep is bounded ([`http::MAX_HEAD`], [`websocket::MAX_MESSAGE`],
//! [`tls::BUFFER_LIMIT`]), what they can make us do in one call is bounded, and what they must do soon (a request head, a
//! TLS handshake) has a deadline. A browser is also a peer that strangers' pages can steer: see [`origin`].

pub mod address;
pub mod channel;
pub mod http;
pub mod listener;
pub mod origin;
pub mod page;
pub mod stream;
pub mod tls;
mod visit;
pub mod websocket;

pub use address::{Address, AddressError, Exposed, check_exposure};
pub use channel::Channel;
pub use listener::{ListenError, Listener};
pub use origin::{Origin, Site};
pub use stream::{Peer, Stream};
pub use tls::{TlsError, load_tls};
