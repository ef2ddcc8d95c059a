//! Why a console has no picture.

use thiserror::Error;
use vfio_gfx::display::DisplayError;
use vfio_gfx::format::Fourcc;

use crate::frame::FrameError;

/// Why a console has no picture.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// The device cannot be read.
    #[error(transparent)]
    Display(#[from] DisplayError),
    /// Its picture is too large.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It is gone, and was not to be had again when that was last tried.
    #[error("the device is gone; waiting for it to come back")]
    Unplugged,
    /// Its pixels mean nothing to us.
    #[error("the plane's format {0} cannot be shown")]
    Format(Fourcc),
    /// Its cursor is larger than any driver's.
    #[error("a cursor of {width}x{height} pixels: expected at most {max}x{max}", max = crate::cursor::MAX_SIDE)]
    Cursor {
        /// Pixels.
        width: u32,
        /// Pixels.
        height: u32,
    },
}

impl ConsoleError {
    /// Whether the device is gone, so that looking again is of no use.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Unplugged) || matches!(self, Self::Display(error) if error.is_gone())
    }

    /// Whether it has to be opened anew: it is gone, or nothing that it says can be followed any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_gone() || matches!(self, Self::Display(error) if error.is_lost())
    }
}
