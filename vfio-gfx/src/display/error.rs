//! What a console can fail with.

use thiserror::Error;

use crate::abi::caps::CapError;
use crate::abi::{Errno, Interface};
use crate::device::DeviceError;
use crate::memory::MappingError;
use crate::plane::PlaneError;
use crate::vfio_user::{ClientError, Command};

use super::KernelError;

/// Why a display could not be read.
#[derive(Debug, Error)]
pub enum DisplayError {
    /// Both probes were refused.
    #[error(
        "the device offers neither a region nor a dma-buf: it is no display, or not one that can be read"
    )]
    NoInterface,
    /// The plane that the device described cannot be.
    #[error("the device describes an impossible plane")]
    Plane(#[from] PlaneError),
    /// Its memory cannot be reached.
    #[error("the plane's memory cannot be read")]
    Mapping(#[from] MappingError),
    /// The device in this process refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device behind the socket refused, or is gone.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The kernel's device refused, or cannot be had.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A region without memory was named as the display.
    #[error("region {index} has no memory to map")]
    NotMappable {
        /// Region index.
        index: u32,
    },
    /// A capability chain that cannot be walked.
    #[error("region {region}: malformed capabilities")]
    Caps {
        /// Region index.
        region: u32,
        /// What is wrong.
        #[source]
        source: CapError,
    },
    /// The EDID registers do not fit their region.
    #[error("region {region}: the EDID registers contradict the region")]
    EdidRegion {
        /// Region index.
        region: u32,
    },
    /// An EDID or a link state was to be set where there is no EDID region.
    #[error("the device has no EDID region: its monitor cannot be changed")]
    NoEdidRegion,
    /// An EDID of no whole number of 128-byte blocks, or larger than the device holds.
    #[error("EDID of {found} bytes: expected a multiple of 128, at least 128 and at most {max}")]
    EdidSize {
        /// Its size in bytes.
        found: usize,
        /// Most bytes that the device holds.
        max: u32,
    },
    /// The device took the writes, and has something else now.
    #[error("the device did not keep the {what}: written {written:#x}, reads {found:#x}")]
    EdidNotKept {
        /// Which register, or which part of the blob.
        what: &'static str,
        /// What was written.
        written: u32,
        /// What is there.
        found: u32,
    },
    /// The system refused a descriptor.
    #[error("cannot reach the device's memory")]
    Io(#[from] std::io::Error),
    /// The probe of an interface failed in a way that is neither yes nor no.
    #[error("probing for the {} interface failed: {errno}", interface.name())]
    Probe {
        /// Which.
        interface: Interface,
        /// How.
        errno: Errno,
    },
}

impl DisplayError {
    /// The errno that the device refused with, if it did.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Device(error) => Some(error.into()),
            Self::Client(ClientError::Refused { errno, .. }) | Self::Probe { errno, .. } => Some(*errno),
            Self::Kernel(KernelError::Call { errno, .. }) => Some((*errno).into()),
            _ => None,
        }
    }

    /// Whether the device is gone for good: its server closed the connection, or it was unplugged.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(
            self,
            Self::Client(ClientError::Closed | ClientError::Socket(_) | ClientError::Connect { .. })
        ) || self.errno() == Some(Errno::ENODEV)
    }

    /// Whether there is no use in asking again on the same connection: the device is gone, or nothing that it says can be
    /// followed any more.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        let follows = |error: &ClientError| matches!(error, ClientError::Refused { .. });
        self.is_gone() || matches!(self, Self::Client(error) if !follows(error))
    }

    /// Whether a buffer id was not known any more.
    pub(super) fn is_stale_buffer(&self) -> bool {
        matches!(
            self,
            Self::Device(DeviceError::NoBuffer(_))
                | Self::Client(ClientError::Refused { command: Command::GetGfxDmabuf, errno: Errno::ENOENT })
        ) || matches!(self, Self::Kernel(error) if error.is_stale_buffer())
    }
}
