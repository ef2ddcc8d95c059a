//! `/dev/udmabuf`: dma-bufs out of memfd pages (`include/uapi/linux/udmabuf.h`).
#![expect(unsafe_code, reason = "two ioctls whose argument layout only we can vouch for")]

use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};
use thiserror::Error;
use zerocopy::{Immutable, IntoBytes};

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

/// `struct udmabuf_create_item`, 24 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
struct UdmabufCreateItem {
    memfd: u32,
    pad: u32,
    offset: u64,
    size: u64,
}

/// `struct udmabuf_create_list`, 8 bytes, and its items behind it.
#[derive(Debug)]
struct UdmabufCreateList(Vec<u8>);

/// `struct udmabuf_create_list` without its items: what the ioctl's number says the size of.
#[repr(C)]
#[derive(Clone, Copy, Debug, IntoBytes, Immutable)]
struct UdmabufCreateListHead {
    flags: u32,
    count: u32,
}

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
        // SAFETY: this is the result of UDMABUF_CREATE.
        unsafe { new_descriptor(out) }
    }
}

// SAFETY: UDMABUF_CREATE_LIST (_IOW('u', 0x43, struct udmabuf_create_list)) reads at the pointer 8 bytes and as many items of
// 24 bytes as their `count` says, writes nothing, and returns a new file descriptor. `UdmabufCreateList::new` puts the
// number of the items that follow into `count`.
unsafe impl Ioctl for UdmabufCreateList {
    type Output = OwnedFd;
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::write::<UdmabufCreateListHead>(b'u', 0x43)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<OwnedFd> {
        // SAFETY: this is the result of UDMABUF_CREATE_LIST.
        unsafe { new_descriptor(out) }
    }
}

impl UdmabufCreateList {
    /// `None` for more ranges than a count can say.
    fn new(ranges: &[UdmabufRange<'_>]) -> Option<Self> {
        let head = UdmabufCreateListHead { flags: FLAGS_CLOEXEC, count: u32::try_from(ranges.len()).ok()? };
        let mut bytes = head.as_bytes().to_vec();
        for UdmabufRange { memfd, offset, size } in ranges {
            let memfd = memfd.as_raw_fd().cast_unsigned();
            let item = UdmabufCreateItem { memfd, pad: 0, offset: *offset, size: *size };
            bytes.extend_from_slice(item.as_bytes());
        }
        Some(Self(bytes))
    }
}

/// # Safety
/// `out` must be what an ioctl returned that makes a descriptor; called once for it.
unsafe fn new_descriptor(out: IoctlOutput) -> rustix::io::Result<OwnedFd> {
    if out < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the caller says that this is a new descriptor, which nobody else owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(out) })
}

/// A part of a memfd, in bytes; both multiples of the page size.
#[derive(Clone, Copy, Debug)]
pub struct UdmabufRange<'a> {
    /// The memfd.
    pub memfd: BorrowedFd<'a>,
    /// From its start.
    pub offset: u64,
    /// How many.
    pub size: u64,
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
    /// The driver refused a list of ranges; as [`UdmabufError::Create`], or more than it takes (1024 by default).
    #[error("udmabuf refuses {size} bytes in {pieces} pieces: {errno}")]
    CreateList {
        /// Ranges.
        pieces: usize,
        /// Bytes of all.
        size: u64,
        /// What the driver said.
        errno: Errno,
    },
}

impl UdmabufError {
    /// What the system said.
    #[must_use]
    pub const fn errno(self) -> Errno {
        match self {
            Self::Open(errno) | Self::Create { errno, .. } | Self::CreateList { errno, .. } => errno,
        }
    }
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
        // Its ioctls ask for no more, and a sandbox may refuse to open anything for writing.
        rustix::fs::open("/dev/udmabuf", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
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

    /// Makes one dma-buf of parts of memfds, in this order. As [`Udmabuf::create`].
    ///
    /// # Errors
    /// [`UdmabufError::CreateList`].
    pub fn create_list(&self, ranges: &[UdmabufRange<'_>]) -> Result<OwnedFd, UdmabufError> {
        let refused = |errno| {
            let size = ranges.iter().map(|range| range.size).fold(0, u64::saturating_add);
            UdmabufError::CreateList { pieces: ranges.len(), size, errno }
        };
        let request = UdmabufCreateList::new(ranges).ok_or_else(|| refused(Errno::INVAL))?;
        // SAFETY: the descriptor is the udmabuf driver's, for which `UdmabufCreateList` describes the ioctl.
        unsafe { rustix::ioctl::ioctl(self.0.as_fd(), request) }.map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_numbers_are_the_uapis() {
        let request = UdmabufCreate { memfd: 0, flags: 0, offset: 0, size: 0 };
        assert_eq!(request.opcode(), 0x4018_7542);
        assert_eq!(UdmabufCreateList::new(&[]).unwrap().opcode(), 0x4008_7543);
    }

    #[test]
    fn a_list_is_laid_out_as_in_the_uapi() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let range = |offset, size| UdmabufRange { memfd: file.as_fd(), offset, size };
        let list = UdmabufCreateList::new(&[range(0x1000, 0x2000), range(0x8000, 0x4000)]).unwrap();
        let fd = file.as_raw_fd().cast_unsigned();
        let low = [1, 2, fd, 0].map(u32::to_ne_bytes).concat();
        let high = [0x1000u64, 0x2000].map(u64::to_ne_bytes).concat();
        assert_eq!(list.0[..32], [low, high].concat());
        let second = [u64::from(fd), 0x8000, 0x4000].map(u64::to_ne_bytes).concat();
        assert_eq!(list.0[32..], second, "little-endian: the descriptor, then a zero pad");
    }
}
