//! Asking a guest for another size: a monitor that prefers it is plugged in.
//!
//! The guest's driver decides whether and when to follow. bochs-drm reads the EDID when it is loaded, and no later.

use thiserror::Error;
use vfio_gfx::display::{Display, DisplayError};
use vfio_gfx::edid::{self, Config, ConfigError, Mode};

/// Why a size could not be asked for.
#[derive(Debug, Error)]
pub enum ResizeError {
    /// More than the device can do.
    #[error("the device takes no mode larger than {max_width}x{max_height}")]
    TooLarge {
        /// Pixels; 0 = any.
        max_width: u32,
        /// Pixels; 0 = any.
        max_height: u32,
    },
    /// No EDID can say this.
    #[error(transparent)]
    Mode(#[from] ConfigError),
    /// The device did not take it.
    #[error(transparent)]
    Display(#[from] DisplayError),
}

/// Exchanges the monitor for one that prefers this size, in pixels.
///
/// # Errors
/// [`ResizeError`].
pub fn request(display: &mut Display, width: u32, height: u32) -> Result<(), ResizeError> {
    let (max_width, max_height) = display.max_mode()?;
    let limited = |side: u32, max: u32| max != 0 && side > max;
    if limited(width, max_width) || limited(height, max_height) {
        return Err(ResizeError::TooLarge { max_width, max_height });
    }
    let max = Some((max_width, max_height)).filter(|(width, height)| *width != 0 && *height != 0);
    let blob = edid::generate(&Config { max, ..Config::new(Mode::new(width, height)) })?;
    Ok(display.set_edid(blob.as_bytes())?)
}
