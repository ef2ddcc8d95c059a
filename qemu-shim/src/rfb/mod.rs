//! The remote framebuffer protocol (RFC 6143 and the community's rfbproto text), the server's side, without I/O.
//!
//! Everything here is a state machine or a function from bytes to bytes: whoever owns the sockets feeds what arrived and
//! sends what comes back. No input panics, and none makes more memory be kept than a constant.
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

mod bytes;
#[expect(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "sums and samples within a picture it was given"
)]
pub mod encode;
pub mod encodings;
pub mod handshake;
pub mod message;
pub mod parser;
pub mod pixel_format;
pub mod security;
pub mod server_message;
pub mod throttle;
pub mod version;
