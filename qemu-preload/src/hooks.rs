//! The C functions that QEMU calls, in place of libc's.
//!
//! Each looks whether the call is for us, which takes a few loads and no lock, and passes it on if not. That makes them safe to
//! be called in whatever thread, by our own code, and before `main`. A panic of ours ends here, as `EIO`.
//!
//! C's variadic `open` and `ioctl` are taken with their last parameter: the calling conventions of the 64-bit architectures of
//! Linux pass it in a register either way, and what a caller did not pass is not looked at by anybody.
#![expect(unsafe_code, reason = "C functions with C's arguments")]

use std::ffi::{c_char, c_int, c_uint, c_ulong, c_void};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

use vfio_gfx::abi::{Errno, FdKind, Ioctl};
use vfio_gfx::vfio_user::MAX_DATA_XFER;

use crate::argument::{copy_in, copy_out, path as bytes_of, word};
use crate::config::Config;
use crate::next;
use crate::shim::{Arg, ArgKind, Shim, arg_kind};

static SHIM: Shim = Shim::new();

/// Answers a call as C does: a number, or -1 and `errno`.
fn answer<T>(failed: T, body: impl FnOnce() -> Result<T, Errno>) -> T {
    let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or(Err(Errno::EIO));
    result.unwrap_or_else(|errno| {
        next::set_errno(c_int::try_from(errno.raw()).unwrap_or(libc::EIO));
        failed
    })
}

/// Opens `path`, if it is one of ours.
///
/// # Safety
/// As `open(2)`.
unsafe fn open_ours(path: *const c_char) -> Option<c_int> {
    // SAFETY: as the caller says.
    let path = unsafe { bytes_of(path) }?;
    // Most paths are not; the environment is not looked at for them.
    if !path.starts_with(b"/dev/vfio/") {
        return None;
    }
    let config = Config::get()?;
    let file = config.file(path)?;
    Some(answer(-1, || SHIM.open(config, file)))
}

macro_rules! open_functions {
    ($($name:ident($([$before:ident: $type:ty])? path $(, $after:ident: $kind:ty)*);)*) => {$(
        /// See `open(2)`.
        ///
        /// # Safety
        /// As libc's.
        #[unsafe(no_mangle)]
        pub(crate) unsafe extern "C" fn $name($($before: $type,)? path: *const c_char $(, $after: $kind)*) -> c_int {
            // SAFETY: the caller keeps to libc's rules.
            if let Some(result) = unsafe { open_ours(path) } {
                return result;
            }
            // SAFETY: the same arguments.
            unsafe { next::$name($($before,)? path $(, $after)*) }
        }
    )*};
}

open_functions! {
    open(path, flags: c_int, mode: c_uint);
    open64(path, flags: c_int, mode: c_uint);
    __open_2(path, flags: c_int);
    __open64_2(path, flags: c_int);
    openat([dir: c_int] path, flags: c_int, mode: c_uint);
    openat64([dir: c_int] path, flags: c_int, mode: c_uint);
}

/// See `close(2)`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn close(fd: c_int) -> c_int {
    if let Some(kind) = SHIM.files.kind(fd) {
        answer((), || {
            SHIM.close(kind);
            Ok(())
        });
    }
    // SAFETY: the same argument.
    unsafe { next::close(fd) }
}

/// See `ioctl(2)`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int {
    let Some((kind, config)) = SHIM.files.kind(fd).zip(Config::get()) else {
        // SAFETY: the same arguments.
        return unsafe { next::ioctl(fd, request, arg) };
    };
    answer(-1, || {
        // A caller may have passed a negative int.
        let request = u32::try_from(request & 0xffff_ffff).map_err(|_| Errno::ENOTTY)?;
        let ioctl = Ioctl::decode(kind, request).ok_or(Errno::ENOTTY)?;
        match arg_kind(ioctl) {
            ArgKind::Value => return SHIM.ioctl(config, ioctl, Arg::Value(arg.addr())),
            ArgKind::Word => {
                // SAFETY: these ioctls have a pointer to a number.
                let word = unsafe { word(arg) }?;
                return SHIM.ioctl(config, ioctl, Arg::Word(word));
            }
            ArgKind::Sized => {}
        }
        // SAFETY: these ioctls have a struct that starts with its size.
        let mut copy = unsafe { copy_in(arg) }?;
        let result = SHIM.ioctl(config, ioctl, Arg::Struct(&mut copy))?;
        // SAFETY: as many bytes as were read. They are the caller's, who passed them to be written.
        unsafe { copy_out(arg, &copy) };
        Ok(result)
    })
}

fn device_offset(fd: c_int, offset: i64) -> Option<u64> {
    (SHIM.files.kind(fd) == Some(FdKind::Device)).then(|| u64::try_from(offset).unwrap_or(u64::MAX))
}

/// Reads the device.
///
/// # Safety
/// `len` bytes at `data` can be written.
unsafe fn read_device(data: *mut c_void, len: usize, offset: u64) -> isize {
    answer(-1, || {
        let mut bytes = vec![0; len.min(MAX_DATA_XFER)];
        let len = SHIM.read(offset, &mut bytes)?;
        bytes.truncate(len);
        // SAFETY: not more than the caller has room for.
        unsafe { copy_out(data, &bytes) };
        isize::try_from(bytes.len()).map_err(|_| Errno::EINVAL)
    })
}

/// See `pread(2)`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pread64(fd: c_int, data: *mut c_void, len: usize, offset: i64) -> isize {
    match device_offset(fd, offset) {
        // SAFETY: the caller says that there is room.
        Some(offset) => unsafe { read_device(data, len, offset) },
        // SAFETY: the same arguments.
        None => unsafe { next::pread64(fd, data, len, offset) },
    }
}

/// See `pread(2)`: the same function on 64-bit architectures.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pread(fd: c_int, data: *mut c_void, len: usize, offset: i64) -> isize {
    // SAFETY: the same arguments.
    unsafe { pread64(fd, data, len, offset) }
}

/// `pread` of callers that were compiled with `_FORTIFY_SOURCE`: they know how much room there is.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn __pread64_chk(
    fd: c_int,
    data: *mut c_void,
    len: usize,
    offset: i64,
    room: usize,
) -> isize {
    match device_offset(fd, offset) {
        // SAFETY: there is room; where there is not, libc's says so and ends the process.
        Some(offset) if len <= room => unsafe { read_device(data, len, offset) },
        // SAFETY: the same arguments.
        _ => unsafe { next::__pread64_chk(fd, data, len, offset, room) },
    }
}

/// See `pwrite(2)`.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pwrite64(fd: c_int, data: *const c_void, len: usize, offset: i64) -> isize {
    let Some(place) = device_offset(fd, offset) else {
        // SAFETY: the same arguments.
        return unsafe { next::pwrite64(fd, data, len, offset) };
    };
    answer(-1, || {
        let mut bytes = vec![0; len.min(MAX_DATA_XFER)];
        // SAFETY: the caller says that `len` bytes are there, and the copy is new and has room for as many.
        unsafe { std::ptr::copy_nonoverlapping(data.cast::<u8>(), bytes.as_mut_ptr(), bytes.len()) };
        let len = SHIM.write(place, &bytes)?;
        isize::try_from(len).map_err(|_| Errno::EINVAL)
    })
}

/// See `pwrite(2)`: the same function on 64-bit architectures.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pwrite(fd: c_int, data: *const c_void, len: usize, offset: i64) -> isize {
    // SAFETY: the same arguments.
    unsafe { pwrite64(fd, data, len, offset) }
}

/// See `mmap(2)`. A range of the device becomes a range of the descriptor behind the region.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mmap64(
    address: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    let Some(place) = device_offset(fd, offset) else {
        // SAFETY: the same arguments.
        return unsafe { next::mmap64(address, len, prot, flags, fd, offset) };
    };
    answer(libc::MAP_FAILED, || {
        let (fd, offset) = SHIM.place(place, u64::try_from(len).map_err(|_| Errno::EINVAL)?)?;
        let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
        // SAFETY: the caller's arguments, with a descriptor and a range that are as good as his: the file is at least that
        // long. The mapping outlives the descriptor. `errno` is libc's when it fails.
        Ok(unsafe { next::mmap64(address, len, prot, flags, fd.as_raw_fd(), offset) })
    })
}

/// See `mmap(2)`: the same function on 64-bit architectures.
///
/// # Safety
/// As libc's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn mmap(
    address: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the same arguments.
    unsafe { mmap64(address, len, prot, flags, fd, offset) }
}
