//! `/dev/udmabuf`: dma-bufs out of memfd pages (`include/uapi/linux/udmabuf.h`).
#![expect(unsafe_code, reason = "one ioctl whose argument layout only we can vouch for")]

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use thiserror::Error;

/// `struct udmabuf_create`, 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct UdmabufCreate {
    memfd: u32,
    flags: u32,
    offset: u64,
    size: u64,
}

const _: () = assert!(size_of::<UdmabufCreate>() == 24);

/// `UDMABUF_FLAGS_CLOEXEC`
const FLAGS_CLOEXEC: u32 = 1;

// SAFETY: UDMABUF_CREATE (_IOW('u', 0x42, struct udmabuf_create)) reads 24 bytes at the pointer, writes nothing, and
// returns a new file descriptor.
unsafe impl Ioctl for UdmabufCreate {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::write::<Self>(b'u', 0x42)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        if out < 0 {
            return Err(Errno::BADF);
        }
        // SAFETY: a non-negative result of UDMABUF_CREATE is a descriptor that nobody else owns yet.
        Ok(unsafe { OwnedFd::from_raw_fd(out) })
    }
}

/// Why there is no dma-buf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UdmabufError {
    /// The host has no udmabuf driver, or this process may not open it.
    #[error("cannot open /dev/udmabuf: {0}")]
    Open(Errno),
    /// The driver refused the range: not whole pages, not sealed, larger than its limit (64 MiB by default).
    #[error("udmabuf refuses {size} bytes at {offset:#x}: {errno}")]
    Create {
        /// Bytes from the start of the memfd.
        offset: u64,
        /// Bytes.
        size: u64,
        /// What the driver said.
        errno: Errno,
    },
}

/// The udmabuf driver of this host.
#[derive(Debug)]
pub struct Udmabuf(OwnedFd);

impl Udmabuf {
    /// Opens the driver.
    ///
    /// # Errors
    /// [`UdmabufError::Open`]; ordinary on hosts without the driver.
    pub fn open() -> Result<Self, UdmabufError> {
        rustix::fs::open("/dev/udmabuf", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map(Self)
            .map_err(UdmabufError::Open)
    }

    /// Makes a dma-buf of `size` bytes at `offset` of a memfd, both multiples of the page size. The pages stay
    /// pinned while the dma-buf lives. The descriptor is close-on-exec, readable and writable.
    ///
    /// # Errors
    /// [`UdmabufError::Create`].
    pub fn create(&self, memfd: BorrowedFd<'_>, offset: u64, size: u64) -> Result<OwnedFd, UdmabufError> {
        let request =
            UdmabufCreate { memfd: memfd.as_raw_fd().cast_unsigned(), flags: FLAGS_CLOEXEC, offset, size };
        // SAFETY: the descriptor is the udmabuf driver's, for which `UdmabufCreate` describes the ioctl.
        unsafe { rustix::ioctl::ioctl(self.0.as_fd(), request) }.map_err(|errno| UdmabufError::Create {
            offset,
            size,
            errno,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_number_is_the_uapis() {
        let request = UdmabufCreate { memfd: 0, flags: 0, offset: 0, size: 0 };
        assert_eq!(request.opcode(), 0x4018_7542);
    }
}
