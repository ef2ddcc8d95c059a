//! What a device operation can fail with, and the one errno each failure has at the ABI edge.

use thiserror::Error;

use crate::abi::{Errno, Interface, IrqSetError, RequestError};
use crate::memory::{GuestExportError, UdmabufError};

use super::{EdidRegionError, IrqError};

/// Why a device refused an operation.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The device was unplugged ([`Device::revoke`](super::Device::revoke)). It does not come back; one that is plugged in at its place is another.
    #[error("the device has been unplugged")]
    Revoked,
    /// No region has this index, or it is empty.
    #[error("region {0} does not exist")]
    NoRegion(u32),
    /// No interrupt index of this number.
    #[error("interrupt index {0} does not exist")]
    NoIrq(u32),
    /// The access leaves its region.
    #[error("access to {len} bytes at {offset:#x} leaves region {region} of {size:#x} bytes")]
    OutOfBounds {
        /// Region index.
        region: u32,
        /// Bytes from its start.
        offset: u64,
        /// Bytes.
        len: usize,
        /// Bytes of the region.
        size: u64,
    },
    /// The region cannot be written.
    #[error("region {0} is read-only")]
    ReadOnly(u32),
    /// The interface was not offered when it was probed.
    #[error("this device does not offer the {} interface", .0.name())]
    NotOffered(Interface),
    /// A plane query that says nothing defined.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A `dmabuf_id` that was never issued or is long forgotten.
    #[error("buffer id {0} is not known: query the plane again")]
    NoBuffer(u32),
    /// The 2^32 - 1 buffer ids are used up; none is ever used twice.
    #[error("no buffer id is left")]
    BufferIdsExhausted,
    /// `/dev/udmabuf` exists but makes no dma-buf of this plane.
    #[error("cannot export the plane as a dma-buf")]
    Export(#[from] UdmabufError),
    /// Guest memory that cannot be handed out.
    #[error("cannot export guest memory")]
    GuestExport(#[from] GuestExportError),
    /// Guest memory without udmabuf is the guest's whole memfd, which only its VMM may have. A console gets a copy of what was
    /// flipped to, if that is no larger than the video memory.
    #[error("buffer id {0} is guest memory: without /dev/udmabuf it cannot be given to a console")]
    PrivateMemory(u32),
    /// The plane is in guest memory, which no region shows.
    #[error("the plane is not in a region: ask for its buffer")]
    NotInRegion,
    /// A descriptor could not be duplicated.
    #[error("cannot duplicate a descriptor")]
    Descriptor(#[from] std::io::Error),
    /// A `SET_IRQS` that is malformed.
    #[error(transparent)]
    IrqSet(#[from] IrqSetError),
    /// A `SET_IRQS` that cannot be carried out.
    #[error(transparent)]
    Irq(#[from] IrqError),
    /// The EDID region refused a write.
    #[error(transparent)]
    Edid(#[from] EdidRegionError),
}

impl From<&DeviceError> for Errno {
    fn from(error: &DeviceError) -> Self {
        match error {
            DeviceError::Revoked => Self::ENODEV,
            DeviceError::NoRegion(_)
            | DeviceError::NoIrq(_)
            | DeviceError::OutOfBounds { .. }
            | DeviceError::ReadOnly(_)
            | DeviceError::NotOffered(_)
            | DeviceError::Request(_) => Self::EINVAL,
            DeviceError::NoBuffer(_) => Self::ENOENT,
            DeviceError::BufferIdsExhausted => Self::ENOSPC,
            DeviceError::Export(error) | DeviceError::GuestExport(GuestExportError::Udmabuf(error)) => {
                Self::from(error.errno())
            }
            DeviceError::GuestExport(GuestExportError::Seals { .. }) => Self::EINVAL,
            DeviceError::GuestExport(GuestExportError::Scattered(_)) | DeviceError::NotInRegion => {
                Self::EOPNOTSUPP
            }
            DeviceError::GuestExport(GuestExportError::Descriptor(error)) => Self::from(error),
            DeviceError::GuestExport(GuestExportError::Copy(_)) => Self::EIO,
            DeviceError::GuestExport(GuestExportError::Vram(_)) => Self::ENOMEM,
            DeviceError::PrivateMemory(_) => Self::EPERM,
            DeviceError::Descriptor(error) => Self::from(error),
            DeviceError::IrqSet(error) => Self::from(*error),
            DeviceError::Irq(error) => Self::from(*error),
            DeviceError::Edid(error) => Self::from(*error),
        }
    }
}

impl From<DeviceError> for Errno {
    fn from(error: DeviceError) -> Self {
        Self::from(&error)
    }
}
