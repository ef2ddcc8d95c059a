//! Taking a device of the kernel, through `vfio-ioctls`.
#![expect(unsafe_code, reason = "vfio-ioctls lends its device as a number only")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use iommufd_ioctls::IommuFd;
use rustix::io::Errno;
use vfio_ioctls::{VfioContainer, VfioDevice, VfioError, VfioIommufd};

use super::error::KernelError;
use super::place::Place;

/// A device that is ours until this is dropped.
pub(super) struct Attached {
    // Dropped in this order. VfioDevice looks for the device in sysfs when it is dropped, and panics where it is gone;
    // while the descriptor below is open the kernel cannot remove it.
    _vfio: VfioDevice,
    file: File,
}

impl Attached {
    /// Takes the device. Needs no KVM: nothing is mapped for a guest.
    pub(super) fn new(place: &Place) -> Result<Self, KernelError> {
        let vfio = match place {
            Place::Group(sysfs) => {
                let container = VfioContainer::new(None).map_err(refused(sysfs))?;
                VfioDevice::new(sysfs, Arc::new(container), false).map_err(refused(sysfs))?
            }
            Place::Cdev(path) => {
                let failed = |source| KernelError::Iommufd { path: path.clone(), source };
                let cdev = OpenOptions::new().read(true).write(true).open(path);
                let cdev = cdev.map_err(VfioError::OpenDeviceCdev).map_err(refused(path))?;
                let iommufd = Arc::new(IommuFd::new().map_err(failed)?);
                let iommufd = VfioIommufd::new(iommufd, None, None).map_err(refused(path))?;
                VfioDevice::new_from_fd(cdev, Arc::new(iommufd), true).map_err(refused(path))?
            }
        };
        // SAFETY: `vfio` owns the descriptor and outlives the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(vfio.as_raw_fd()) };
        let file = fd.try_clone_to_owned().map_err(KernelError::Descriptor)?.into();
        Ok(Self { _vfio: vfio, file })
    }

    /// The device's descriptor.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

fn refused(path: &Path) -> impl FnOnce(VfioError) -> KernelError {
    move |source| KernelError::Open { path: path.to_owned(), hint: hint(&source), source }
}

/// What to do about a refusal.
fn hint(refusal: &VfioError) -> &'static str {
    const BUSY: &str = "the device is in use (the kernel gives a device to one process at a time)";
    const NO_TYPE1: &str = "the kernel has no IOMMU driver for VFIO (try: modprobe vfio_iommu_type1)";
    let is = |error: &io::Error, errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    match refusal {
        VfioError::OpenContainer(error) if is(error, Errno::NOENT) => {
            "there is no /dev/vfio/vfio (try: modprobe vfio)"
        }
        VfioError::VfioExtension | VfioError::ContainerSetIOMMU(_) => NO_TYPE1,
        VfioError::OpenGroup(error, _) | VfioError::OpenDeviceCdev(error) if is(error, Errno::BUSY) => BUSY,
        VfioError::GroupSetContainer | VfioError::VfioDeviceBindIommufd(_) => BUSY,
        VfioError::OpenContainer(error)
        | VfioError::OpenGroup(error, _)
        | VfioError::OpenDeviceCdev(error)
            if error.kind() == io::ErrorKind::PermissionDenied =>
        {
            "this user may not open VFIO devices (see the owner of /dev/vfio/*)"
        }
        _ => "the kernel refuses the device",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_come_with_what_to_do() {
        let os = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        assert!(hint(&VfioError::OpenGroup(os(Errno::BUSY), "7".into())).contains("in use"));
        assert!(hint(&VfioError::OpenGroup(os(Errno::ACCESS), "7".into())).contains("may not"));
        assert!(hint(&VfioError::OpenContainer(os(Errno::NOENT))).contains("modprobe vfio"));
        assert!(hint(&VfioError::VfioExtension).contains("vfio_iommu_type1"));
        assert!(hint(&VfioError::GroupViable).contains("refuses"));
    }
}
