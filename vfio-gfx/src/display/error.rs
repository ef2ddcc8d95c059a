//! What a console can fail with.

use thiserror::Error;

use crate::abi::caps::CapError;
use crate::abi::{Errno, Interface};
use crate::device::DeviceError;
use crate::memory::MappingError;
use crate::plane::PlaneError;
use crate::vfio_user::{ClientError, Command};

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
    /// Whether a buffer id was not known any more.
    pub(super) fn is_stale_buffer(&self) -> bool {
        matches!(
            self,
            Self::Device(DeviceError::NoBuffer(_))
                | Self::Client(ClientError::Refused { command: Command::GetGfxDmabuf, errno: Errno::ENOENT })
        )
    }
}
