//! What a C caller passed: memory and descriptors that are his.
#![expect(unsafe_code, reason = "the caller's pointers and descriptors are raw")]

use std::ffi::{CStr, c_char, c_void};
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use vfio_gfx::abi::Errno;

/// Most bytes of a struct that are looked at: far more than any ioctl of VFIO has.
const MAX_STRUCT: usize = 1 << 16;

/// A copy of a struct that starts with its size.
///
/// # Errors
/// `EFAULT` for a null pointer, `EINVAL` for a struct that does not hold its own size.
///
/// # Safety
/// `arg` is null, or points to a `u32` that says how many bytes from `arg` on can be read.
pub(crate) unsafe fn copy_in(arg: *const c_void) -> Result<Vec<u8>, Errno> {
    if arg.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the caller says that a u32 is there; it need not be aligned.
    let argsz = unsafe { arg.cast::<u32>().read_unaligned() };
    let len = usize::try_from(argsz).unwrap_or(MAX_STRUCT).min(MAX_STRUCT);
    if len < size_of::<u32>() {
        return Err(Errno::EINVAL);
    }
    let mut copy = vec![0; len];
    // SAFETY: the caller says that so many bytes are there, and the copy, which is new, has room for them.
    unsafe { std::ptr::copy_nonoverlapping(arg.cast::<u8>(), copy.as_mut_ptr(), len) };
    Ok(copy)
}

/// A number behind a pointer, as `VFIO_DEVICE_GET_GFX_DMABUF` (vfio.h) takes its id.
///
/// # Errors
/// `EFAULT` for a null pointer.
///
/// # Safety
/// `arg` is null, or points to a `u32` that can be read.
pub(crate) unsafe fn word(arg: *const c_void) -> Result<u32, Errno> {
    if arg.is_null() {
        return Err(Errno::EFAULT);
    }
    // SAFETY: the caller says that a u32 is there; it need not be aligned.
    Ok(unsafe { arg.cast::<u32>().read_unaligned() })
}

/// Puts bytes back into the caller's memory.
///
/// # Safety
/// That many bytes at `arg` can be written, and are not ours.
pub(crate) unsafe fn copy_out(arg: *mut c_void, bytes: &[u8]) {
    // SAFETY: the caller says so.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), arg.cast::<u8>(), bytes.len()) };
}

/// The bytes of a path; `None` for a null pointer.
///
/// # Safety
/// `path` is null, or points to bytes that end in NUL and stay as they are for `'a`.
pub(crate) unsafe fn path<'a>(path: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: the caller says so.
    (!path.is_null()).then(|| unsafe { CStr::from_ptr(path) }.to_bytes())
}

/// A descriptor of the caller's, opened once more.
///
/// # Errors
/// `EBADF` for a number that is none; what `fcntl(2)` says.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::EBADF);
    }
    // SAFETY: the number is not -1. It is used for one call, which answers EBADF if nothing is open under it: no other
    // descriptor is closed or written by that.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(rustix::io::fcntl_dupfd_cloexec(fd, 0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_is_copied_as_far_as_it_says() {
        let arg = [8u32, 7, 9];
        // SAFETY: eight bytes are there.
        let copy = unsafe { copy_in(arg.as_ptr().cast()) }.unwrap();
        assert_eq!(copy, [8u32.to_ne_bytes(), 7u32.to_ne_bytes()].concat());
        let short = 3u32;
        // SAFETY: it does not get beyond the size.
        assert_eq!(unsafe { copy_in((&raw const short).cast()) }, Err(Errno::EINVAL));
        // SAFETY: null is allowed.
        assert_eq!(unsafe { copy_in(std::ptr::null()) }, Err(Errno::EFAULT));
    }

    #[test]
    fn a_number_is_read_where_there_is_one() {
        let number = 7u32;
        // SAFETY: a number is there.
        assert_eq!(unsafe { word((&raw const number).cast()) }, Ok(7));
        // SAFETY: null is allowed.
        assert_eq!(unsafe { word(std::ptr::null()) }, Err(Errno::EFAULT));
    }

    #[test]
    fn only_open_descriptors_are_duplicated() {
        assert_eq!(duplicate(-1).unwrap_err(), Errno::EBADF);
        assert_eq!(duplicate(1 << 20).unwrap_err(), Errno::EBADF);
        assert!(duplicate(2).is_ok());
    }
}
