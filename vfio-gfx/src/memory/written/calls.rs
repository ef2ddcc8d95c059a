//! The kernel's calls for [`WriteTracker`](super::WriteTracker): `userfaultfd(2)` and `PAGEMAP_SCAN` of
//! `/proc/self/pagemap`.
#![expect(unsafe_code, reason = "ioctls whose argument layout only we can vouch for")]

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, Updater, opcode};
use rustix::mm::{UserfaultfdFlags, userfaultfd};

/// `UFFD_API` (`include/uapi/linux/userfaultfd.h`), and the ioctls' group.
const UFFD_API: u64 = 0xaa;
const UFFD_GROUP: u8 = 0xaa;
/// `UFFD_USER_MODE_ONLY`: what a process without privileges may have. Protection that is lifted by the kernel itself
/// needs no more.
const UFFD_USER_MODE_ONLY: u32 = 1;
/// `UFFD_FEATURE_WP_HUGETLBFS_SHMEM`: memfds too.
const WP_SHMEM: u64 = 1 << 12;
/// `UFFD_FEATURE_WP_UNPOPULATED`: pages too that are not there yet.
const WP_UNPOPULATED: u64 = 1 << 13;
/// `UFFD_FEATURE_WP_ASYNC`: nobody is asked about a write; it is only remembered.
const WP_ASYNC: u64 = 1 << 15;
/// `UFFDIO_REGISTER_MODE_WP`
const MODE_WP: u64 = 1 << 1;

/// `struct uffdio_api`, 24 bytes.
#[repr(C)]
struct UffdioApi {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`, 32 bytes.
#[repr(C)]
struct UffdioRegister {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

const _: () = assert!(size_of::<UffdioApi>() == 24 && size_of::<UffdioRegister>() == 32);

/// `UFFDIO_API`, `UFFDIO_REGISTER`
const API: Opcode = opcode::read_write::<UffdioApi>(UFFD_GROUP, 0x3f);
const REGISTER: Opcode = opcode::read_write::<UffdioRegister>(UFFD_GROUP, 0x00);

/// A userfaultfd that remembers writes.
pub(super) fn open() -> rustix::io::Result<OwnedFd> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::from_bits_retain(UFFD_USER_MODE_ONLY);
    // SAFETY: a userfaultfd changes nothing before memory is registered with it.
    unsafe { userfaultfd(flags) }
}

/// Agrees with the kernel on the features that remembering needs; `EINVAL` from a kernel without them.
pub(super) fn negotiate(userfaultfd: &OwnedFd) -> rustix::io::Result<()> {
    let mut api = UffdioApi { api: UFFD_API, features: WP_SHMEM | WP_UNPOPULATED | WP_ASYNC, ioctls: 0 };
    // SAFETY: UFFDIO_API (_IOWR(0xaa, 0x3f, struct uffdio_api)) reads and writes the 24 bytes of `api`.
    let call = unsafe { Updater::<{ API }, _>::new(&mut api) };
    // SAFETY: the descriptor is a userfaultfd, for which `call` describes the ioctl.
    unsafe { rustix::ioctl::ioctl(userfaultfd, call) }
}

/// Has writes to a range of addresses remembered.
pub(super) fn register(userfaultfd: &OwnedFd, addresses: &Range<u64>) -> rustix::io::Result<()> {
    let (start, len) = (addresses.start, addresses.end.saturating_sub(addresses.start));
    let mut register = UffdioRegister { start, len, mode: MODE_WP, ioctls: 0 };
    // SAFETY: UFFDIO_REGISTER (_IOWR(0xaa, 0x00, struct uffdio_register)) reads and writes the 32 bytes of `register`.
    let call = unsafe { Updater::<{ REGISTER }, _>::new(&mut register) };
    // SAFETY: the descriptor is a userfaultfd, for which `call` describes the ioctl. With the features of `negotiate` and
    // this mode the kernel itself resolves every fault: nobody who touches the memory sees a difference, whatever is at
    // these addresses.
    unsafe { rustix::ioctl::ioctl(userfaultfd, call) }
}

/// `struct page_region` (`include/uapi/linux/fs.h`), 24 bytes: pages of the same kind.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PageRegion {
    /// First address.
    pub(super) start: u64,
    /// Address behind the last.
    pub(super) end: u64,
    categories: u64,
}

/// `struct pm_scan_arg`, 96 bytes.
#[repr(C)]
#[derive(Debug)]
struct PmScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

const _: () = assert!(size_of::<PageRegion>() == 24 && size_of::<PmScanArg>() == 96);

/// `PM_SCAN_WP_MATCHING`, `PM_SCAN_CHECK_WPASYNC`: protect what is reported, in the same step; fail where writes are not
/// remembered.
const PROTECT_AND_CHECK: u64 = 1 << 0 | 1 << 1;
/// `PAGE_IS_WRITTEN`
const WRITTEN: u64 = 1 << 1;

/// A scan, and the regions that it fills in.
struct Scan<'a> {
    arg: PmScanArg,
    regions: PhantomData<&'a mut [PageRegion]>,
}

// SAFETY: PAGEMAP_SCAN (_IOWR('f', 16, struct pm_scan_arg)) reads and writes the 96 bytes of `arg`, and writes up to `vec_len`
// regions from `vec` on, which is memory that `regions` borrows exclusively. It protects pages against writing only where an
// asynchronous userfaultfd lifts that again, which `PM_SCAN_CHECK_WPASYNC` makes sure of.
unsafe impl Ioctl for Scan<'_> {
    /// How many regions were filled in, and where the scan ended.
    type Output = (usize, u64);
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        opcode::read_write::<PmScanArg>(b'f', 16)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(&mut self.arg).cast()
    }

    unsafe fn output_from_ptr(out: IoctlOutput, arg: *mut c_void) -> rustix::io::Result<(usize, u64)> {
        // SAFETY: the pointer is the one of `as_ptr`, to an argument that is still there.
        let arg = unsafe { arg.cast::<PmScanArg>().read() };
        usize::try_from(out).map(|count| (count, arg.walk_end)).map_err(|_| Errno::OVERFLOW)
    }
}

/// Finds pages that were written, and protects them again so that the next write is noticed. Returns those regions of the
/// given ones that were filled in, and the address up to which was looked.
pub(super) fn scan<'a>(
    pagemap: impl AsFd,
    addresses: &Range<u64>,
    regions: &'a mut [PageRegion],
) -> rustix::io::Result<(&'a [PageRegion], u64)> {
    let arg = PmScanArg {
        size: size_of::<PmScanArg>() as u64,
        flags: PROTECT_AND_CHECK,
        start: addresses.start,
        end: addresses.end,
        walk_end: 0,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        max_pages: 0,
        category_inverted: 0,
        category_mask: WRITTEN,
        category_anyof_mask: 0,
        return_mask: WRITTEN,
    };
    // SAFETY: `Scan` describes the ioctl, whose number only /proc/PID/pagemap knows.
    let (count, end) = unsafe { rustix::ioctl::ioctl(pagemap, Scan { arg, regions: PhantomData }) }?;
    Ok((regions.get(..count).unwrap_or_default(), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_numbers_are_the_uapis() {
        assert_eq!((API, REGISTER), (0xc018_aa3f, 0xc020_aa00));
        assert_eq!(opcode::read_write::<PmScanArg>(b'f', 16), 0xc060_6610);
    }
}
