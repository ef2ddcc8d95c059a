//! A random walk over everything that can be done with a device's descriptor.
//!
//! [`Walk`] makes up calls from a seed, [`walk`] makes them to a [`Target`] and returns each with its answer in the format
//! of recordings ([`crate::replay`], `docs/src/replay.md`). So a walk over anybody's device can be replayed against ours,
//! and a walk over ours is a test of its own.
//!
//! The same seed is the same walk. The only thing taken from a device's answers are buffer ids, as nobody can guess
//! those; so against a device that answers in the same way twice, the recording is the same too. Ours is such a device, in
//! this process as behind a socket.

mod calls;
mod kept;
mod kernel;
mod layout;
mod line;
mod places;
mod remote;
mod rng;
mod run;
mod sample;
mod scenes;
mod steps;
mod target;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::{DeviceType, UnknownType};

pub use kernel::KernelTarget;
pub use line::{Line, Recording};
pub use remote::{RemoteError, RemoteTarget};
pub use run::{Tally, walk};
pub use sample::Sample;
pub use steps::{BufferId, Step, Walk};
pub use target::{Dmabuf, MapRequest, Target};

/// Which device to walk over.
#[derive(Clone, Debug)]
pub enum Place {
    /// `sample:TYPE`: a fresh one of ours.
    Sample(DeviceType),
    /// `vfio:PATH`: one of the kernel's, by its directory in sysfs or its character device.
    Vfio(PathBuf),
    /// `vfio-user:PATH`: one that is served on a socket.
    VfioUser(PathBuf),
}

/// What is no device for a walk.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// None of our types.
    #[error(transparent)]
    Type(#[from] UnknownType),
    /// No device at all.
    #[error("expected sample:TYPE, vfio-user:PATH or vfio:SYSFS-PATH, found {0:?}")]
    Form(String),
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        match text.split_once(':') {
            Some(("sample", name)) => Ok(Self::Sample(DeviceType::find(name)?)),
            Some(("vfio", path)) if !path.is_empty() => Ok(Self::Vfio(path.into())),
            Some(("vfio-user", path)) if !path.is_empty() => Ok(Self::VfioUser(path.into())),
            _ => Err(PlaceError::Form(text.to_owned())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample(device_type) => write!(f, "sample:{}", device_type.name()),
            Self::Vfio(path) => write!(f, "vfio:{}", path.display()),
            Self::VfioUser(path) => write!(f, "vfio-user:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        for text in ["sample:mdpy-hd", "vfio:/sys/bus/mdev/devices/x", "vfio-user:/run/s.sock"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        let error = |text: &str| text.parse::<Place>().unwrap_err().to_string();
        assert!(error("sample:tv").contains("unknown device type"));
        for text in ["", "sample", "vfio:", "vfio-user:", "/dev/vfio/devices/vfio0"] {
            assert!(error(text).contains("expected sample:TYPE"), "{text}");
        }
    }
}
