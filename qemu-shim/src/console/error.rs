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
        matches!(self, Self::Display(error) if error.is_gone())
    }
}
