//! The functions that [`hooks`](crate::hooks) stand in front of: libc's, or those of whoever else was preloaded.
#![expect(unsafe_code, reason = "dlsym gives untyped addresses")]

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulong, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

/// Finds a function once. `None` if nobody after us has it.
fn find(found: &AtomicPtr<c_void>, name: &CStr) -> Option<*mut c_void> {
    let mut address = found.load(Ordering::Acquire);
    if address.is_null() {
        // SAFETY: the name ends in NUL; RTLD_NEXT is relative to this library. Two threads may both ask and find the same.
        address = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
        found.store(address, Ordering::Release);
    }
    (!address.is_null()).then_some(address)
}

/// Sets the calling thread's `errno`.
pub(crate) fn set_errno(number: c_int) {
    // SAFETY: it has no preconditions.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: it points to the thread's own errno.
    unsafe { place.write(number) };
}

macro_rules! next {
    ($($name:ident($($arg:ident: $type:ty),*) -> $ret:ty, else $failed:expr;)*) => {$(
        /// The next function of this name.
        ///
        /// # Safety
        /// As libc's.
        pub(crate) unsafe fn $name($($arg: $type),*) -> $ret {
            static FOUND: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            const NAME: &CStr = match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                Ok(name) => name,
                Err(_) => unreachable!(),
            };
            let Some(address) = find(&FOUND, NAME) else {
                set_errno(libc::ENOSYS);
                return $failed;
            };
            // SAFETY: the function of this name has this signature in libc. Its optional last parameter is passed in the
            // same register whether the callee declares it or takes it from `...`.
            let function = unsafe { std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $ret>(address) };
            // SAFETY: the caller keeps to libc's rules.
            unsafe { function($($arg),*) }
        }
    )*};
}

next! {
    open(path: *const c_char, flags: c_int, mode: c_uint) -> c_int, else -1;
    open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int, else -1;
    __open_2(path: *const c_char, flags: c_int) -> c_int, else -1;
    __open64_2(path: *const c_char, flags: c_int) -> c_int, else -1;
    openat(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int, else -1;
    openat64(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int, else -1;
    close(fd: c_int) -> c_int, else -1;
    ioctl(fd: c_int, request: c_ulong, arg: *mut c_void) -> c_int, else -1;
    pread64(fd: c_int, data: *mut c_void, len: usize, offset: i64) -> isize, else -1;
    __pread64_chk(fd: c_int, data: *mut c_void, len: usize, offset: i64, room: usize) -> isize, else -1;
    pwrite64(fd: c_int, data: *const c_void, len: usize, offset: i64) -> isize, else -1;
    mmap64(address: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: i64) -> *mut c_void,
        else libc::MAP_FAILED;
}
