//! What a device of the kernel can fail with.

use std::io;
use std::path::PathBuf;

use iommufd_ioctls::IommufdError;
use rustix::io::Errno;
use thiserror::Error;
use vfio_ioctls::VfioError;

use crate::memory::MappingError;

use super::place::PlaceError;

/// Why a device of the kernel cannot be opened or asked.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The path means no device.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The kernel does not let us have it. It lets one process have a device: while a VMM uses it, nobody else can.
    #[error("{path}: {hint}", path = path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What may be done about it.
        hint: &'static str,
        /// What was refused.
        #[source]
        source: VfioError,
    },
    /// No address space for it (`/dev/iommu`).
    #[error("{path}: no address space for the device", path = path.display())]
    Iommufd {
        /// The device.
        path: PathBuf,
        /// What was refused.
        #[source]
        source: IommufdError,
    },
    /// Its descriptor could not be kept.
    #[error("cannot keep the device's descriptor")]
    Descriptor(#[source] io::Error),
    /// A call failed.
    #[error("the device refused {call}: {errno}")]
    Call {
        /// The ioctl.
        call: &'static str,
        /// How.
        errno: Errno,
    },
    /// A region was read or written where it is not.
    #[error("{len} bytes at {offset:#x} leave region {region}, which has {size:#x} bytes")]
    OutOfBounds {
        /// Region index.
        region: u32,
        /// Bytes from its start.
        offset: u64,
        /// Bytes.
        len: usize,
        /// Bytes there.
        size: u64,
    },
    /// A region could not be read or written.
    #[error("access to {len} bytes at {offset:#x} of region {region} failed")]
    Access {
        /// Region index.
        region: u32,
        /// Bytes from its start.
        offset: u64,
        /// Bytes.
        len: usize,
        /// How.
        #[source]
        source: io::Error,
    },
    /// The buffer cannot be read by a processor, only be imported by a graphics driver.
    #[error("dma-buf {id} cannot be mapped: its driver gives it to graphics drivers only")]
    Unmappable {
        /// Its id.
        id: u32,
        /// What was refused.
        #[source]
        source: MappingError,
    },
}

impl KernelError {
    /// The name of `VFIO_DEVICE_GET_GFX_DMABUF` in [`KernelError::Call`].
    pub(super) const GET_DMABUF: &'static str = "GET_GFX_DMABUF";

    /// Whether a buffer's id was not known any more: mbochs says `ENOENT` then, GVT-g `EINVAL`.
    pub(in crate::display) fn is_stale_buffer(&self) -> bool {
        matches!(self, Self::Call { call: Self::GET_DMABUF, errno: Errno::NOENT | Errno::INVAL })
    }
}

/// Says which call an error is of.
pub(super) fn call_failed(call: &'static str) -> impl FnOnce(Errno) -> KernelError {
    move |errno| KernelError::Call { call, errno }
}
