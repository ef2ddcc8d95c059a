//! `DEVICE` on the command lines: which device, and how to reach it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use mdev_sample::{CreateError, DeviceType, UnknownType};
use thiserror::Error;
use vfio_gfx::device::SharedDevice;
use vfio_gfx::display::{Backend, Display, DisplayError, Kernel, KernelError, Local, Remote};
use vfio_gfx::vfio_user::ClientError;

use crate::console::Console;

/// A device named on a command line.
#[derive(Clone, Debug)]
pub enum Target {
    /// `sample:TYPE`: a fresh device in this process.
    Sample(DeviceType),
    /// `vfio-user:PATH`: one behind a socket.
    VfioUser(PathBuf),
    /// `vfio:PATH`: one of the kernel, by its directory in sysfs or its character device.
    Vfio(PathBuf),
}

/// Why a word names no device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// None of the forms.
    #[error("{0:?} names no device: use sample:TYPE, vfio-user:PATH or vfio:PATH")]
    Form(String),
    /// No such type.
    #[error(transparent)]
    Type(#[from] UnknownType),
}

/// Why a device cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// It cannot be reached.
    #[error(transparent)]
    Connect(#[from] ClientError),
    /// The kernel does not let us have it.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// It is no display.
    #[error("{target}")]
    Display {
        /// Which device.
        target: Target,
        /// What is wrong.
        #[source]
        source: Box<DisplayError>,
    },
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(word: &str) -> Result<Self, TargetError> {
        let form = || TargetError::Form(word.to_owned());
        match word.split_once(':') {
            Some(("sample", name)) => Ok(Self::Sample(DeviceType::find(name)?)),
            Some(("vfio-user", path)) if !path.is_empty() => Ok(Self::VfioUser(path.into())),
            Some(("vfio", path)) if !path.is_empty() => Ok(Self::Vfio(path.into())),
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sample(device_type) => write!(f, "sample:{}", device_type.name()),
            Self::VfioUser(path) => write!(f, "vfio-user:{}", path.display()),
            Self::Vfio(path) => write!(f, "vfio:{}", path.display()),
        }
    }
}

impl Target {
    /// A console on the device, which waits for it to come back when it is gone; one in this process has nowhere to come
    /// back from.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn console(&self) -> Result<Console, OpenError> {
        let mut console = Console::new(self.open()?);
        if !matches!(self, Self::Sample(_)) {
            let target = self.clone();
            console.reopen_with(move || target.open().ok());
        }
        Ok(console)
    }

    /// Opens the device and probes what it offers.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self) -> Result<Display, OpenError> {
        let backend: Box<dyn Backend> = match self {
            Self::Sample(device_type) => Box::new(Local::new(SharedDevice::new(device_type.create(None)?))),
            Self::VfioUser(path) => Box::new(Remote::connect(path).map_err(|error| match error {
                // This one names the socket.
                ClientError::Connect { .. } => OpenError::Connect(error),
                error => self.failed(error.into()),
            })?),
            Self::Vfio(path) => Box::new(Kernel::open(path)?),
        };
        Display::open(backend).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: DisplayError) -> OpenError {
        OpenError::Display { target: self.clone(), source: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_name_devices() {
        for word in ["sample:mdpy-vga", "vfio-user:/run/a:b.sock", "vfio:/sys/bus/mdev/devices/x"] {
            assert_eq!(word.parse::<Target>().unwrap().to_string(), word);
        }
        for word in ["", "mdpy-vga", "sample:", "sample:vga", "vfio-user:", "vfio:", "tcp:1.2.3.4"] {
            assert!(word.parse::<Target>().is_err(), "{word}");
        }
    }

    #[test]
    fn what_is_not_there_is_named() {
        for word in ["vfio-user:/nonexistent/s.sock", "vfio:/nonexistent/device"] {
            let error = word.parse::<Target>().unwrap().open().unwrap_err();
            assert!(error.to_string().contains("/nonexistent/"), "{error}");
        }
    }
}
