//! `qemu-shim resize` and `qemu-shim link`: the monitor that a device tells its guest about.

use std::error::Error;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use thiserror::Error;
use vfio_gfx::abi::LinkState;

use crate::resize;
use crate::target::Target;

#[derive(Debug, Args)]
pub(super) struct Resize {
    /// The device.
    device: Target,
    /// The size that the guest is to use, in pixels.
    #[arg(value_name = "WxH")]
    size: Size,
}

#[derive(Debug, Args)]
pub(super) struct Link {
    /// The device.
    device: Target,
    /// Whether a monitor is plugged in.
    #[arg(value_enum)]
    state: State,
}

/// Width and height, as `1024x768`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size(u32, u32);

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Up,
    Down,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no size: use WIDTHxHEIGHT, as in 1024x768")]
struct NoSize(String);

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(word: &str) -> Result<Self, NoSize> {
        let sides = word
            .split_once('x')
            .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
        sides.map(|(width, height)| Self(width, height)).ok_or_else(|| NoSize(word.to_owned()))
    }
}

impl Resize {
    /// Plugs in a monitor that prefers this size. A guest whose driver listens follows; bochs-drm reads the EDID when it is
    /// loaded.
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let Size(width, height) = self.size;
        resize::request(&mut self.device.open()?, width, height)
            .map_err(|error| format!("{}: {error}", self.device))?;
        Ok(())
    }
}

impl Link {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let state = match self.state {
            State::Up => LinkState::Up,
            State::Down => LinkState::Down,
        };
        Ok(self.device.open()?.set_link(state)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        assert_eq!("1024x768".parse(), Ok(Size(1024, 768)));
        for word in ["", "x", "1024", "1024x", "x768", "-1x5", "1024X768", "4294967296x1"] {
            assert!(word.parse::<Size>().is_err(), "{word}");
        }
    }
}
