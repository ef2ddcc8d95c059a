//! A pointer's picture, as a layer of its own: for viewers that draw it themselves.
#![cfg_attr(
    not(test),
    deny(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)
)]

/// Longest side of a cursor, in pixels: larger than any driver's (Linux's largest is 512), and a bound on what a hostile
/// device can make us allocate.
pub const MAX_SIDE: u32 = 512;

/// A cursor where it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Where its left edge is on the screen, in pixels; may be left of it.
    pub x: i32,
    /// Where its top edge is.
    pub y: i32,
    /// The pixel of it that points, from its left edge.
    pub hot_x: u32,
    /// The same from its top edge.
    pub hot_y: u32,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// `width` × `height` pixels `0xAARRGGBB`, colours multiplied by alpha, top row first.
    pub pixels: Vec<u32>,
}
