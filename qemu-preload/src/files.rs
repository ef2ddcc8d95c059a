//! Which of the process's descriptors are ours.
//!
//! Every `ioctl` and `close` of QEMU asks, in whatever thread, also while one of ours is being answered: the numbers are
//! atomics, and asking takes no lock. At most one descriptor of each kind is open at a time.

use std::os::fd::{AsRawFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{MemfdFlags, memfd_create};
use vfio_gfx::abi::{Errno, FdKind};

/// No descriptor.
const NONE: RawFd = -1;

/// The descriptors that were handed out.
#[derive(Debug)]
pub(crate) struct Files {
    container: AtomicI32,
    group: AtomicI32,
    device: AtomicI32,
}

impl Files {
    pub(crate) const fn new() -> Self {
        Self { container: AtomicI32::new(NONE), group: AtomicI32::new(NONE), device: AtomicI32::new(NONE) }
    }

    /// What a descriptor is, if it is ours.
    pub(crate) fn kind(&self, fd: RawFd) -> Option<FdKind> {
        let is = |slot: &AtomicI32| slot.load(Ordering::Acquire) == fd;
        match fd {
            ..0 => None,
            _ if is(&self.device) => Some(FdKind::Device),
            _ if is(&self.container) => Some(FdKind::Container),
            _ if is(&self.group) => Some(FdKind::Group),
            _ => None,
        }
    }

    fn slot(&self, kind: FdKind) -> &AtomicI32 {
        match kind {
            FdKind::Container => &self.container,
            FdKind::Group => &self.group,
            FdKind::Device => &self.device,
        }
    }

    /// Makes a descriptor of this kind: an empty file, so that the kernel knows the number and `close` frees it.
    ///
    /// # Errors
    /// `EBUSY` while there is one, as the kernel's groups answer; what `memfd_create(2)` says.
    pub(crate) fn open(&self, kind: FdKind) -> Result<RawFd, Errno> {
        let name = match kind {
            FdKind::Container => c"vfio-gfx-container",
            FdKind::Group => c"vfio-gfx-group",
            FdKind::Device => c"vfio-gfx-device",
        };
        let fd = memfd_create(name, MemfdFlags::CLOEXEC)?;
        let number = fd.as_raw_fd();
        let slot = self.slot(kind);
        slot.compare_exchange(NONE, number, Ordering::AcqRel, Ordering::Acquire).map_err(|_| Errno::EBUSY)?;
        Ok(fd.into_raw_fd())
    }

    /// Forgets a descriptor that is about to be closed, so that its number can be anything afterwards.
    pub(crate) fn forget(&self, kind: FdKind) {
        self.slot(kind).store(NONE, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_kind_until_it_is_closed() {
        let files = Files::new();
        let kinds = [FdKind::Container, FdKind::Group, FdKind::Device];
        let open = kinds.map(|kind| files.open(kind).unwrap());
        for (kind, fd) in kinds.into_iter().zip(open) {
            assert_eq!(files.kind(fd), Some(kind));
            assert_eq!(files.open(kind), Err(Errno::EBUSY));
            files.forget(kind);
            assert_eq!(files.kind(fd), None);
        }
        assert_eq!(files.kind(-1), None);
        assert!(files.open(FdKind::Group).is_ok());
    }
}
