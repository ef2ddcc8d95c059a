//! Flips that wait for a console.

use crate::device::FlipState;

/// What a console that paces flips says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// How do flips stand?
    Look,
    /// Wait for me from now on.
    Join,
    /// I have the frame of the flip with this number, or of a later one.
    Taken(u64),
    /// Wait for me no more.
    Leave,
}

/// What it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paced {
    /// How flips stand.
    pub state: FlipState,
    /// It was not waited for any longer, and is not until it has taken the newest frame.
    pub late: bool,
}
