//! The one number an ABI edge may answer with.

use core::fmt;

/// A positive Linux error number (`include/uapi/asm-generic/errno*.h`).
///
/// Every typed error of this crate maps to exactly one of these where it leaves through an ioctl return value
/// or a vfio-user error reply.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(u32);

macro_rules! errnos {
    ($($name:ident = $value:literal, $text:literal;)*) => {
        impl Errno {
            $(#[doc = $text] pub const $name: Self = Self($value);)*

            /// The symbolic name, when it is one of the numbers this crate uses.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 { $($value => Some(stringify!($name)),)* _ => None }
            }

            /// A short description in words.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self.0 { $($value => $text,)* _ => "unknown error" }
            }
        }
    };
}

errnos! {
    EPERM = 1, "operation not permitted";
    ENOENT = 2, "no such object";
    EINTR = 4, "interrupted";
    EIO = 5, "input/output error";
    ENXIO = 6, "no such device or address";
    EBADF = 9, "bad file descriptor";
    EAGAIN = 11, "try again";
    ENOMEM = 12, "out of memory";
    EACCES = 13, "permission denied";
    EFAULT = 14, "bad address";
    EBUSY = 16, "device or resource busy";
    EEXIST = 17, "already exists";
    ENODEV = 19, "no such device";
    EINVAL = 22, "invalid argument";
    ENFILE = 23, "too many open files in system";
    EMFILE = 24, "too many open files";
    ENOTTY = 25, "inappropriate ioctl for device";
    ENOSPC = 28, "no space left";
    EPIPE = 32, "broken pipe";
    ERANGE = 34, "result not representable";
    EPROTO = 71, "protocol error";
    EOVERFLOW = 75, "value too large";
    EMSGSIZE = 90, "message too long";
    EOPNOTSUPP = 95, "operation not supported";
    ECONNRESET = 104, "connection reset by peer";
    ETIMEDOUT = 110, "timed out";
}

impl Errno {
    /// Wraps a raw number as it stands in a reply. Zero and values above 4095 (`MAX_ERRNO`,
    /// `include/linux/err.h`) are no error numbers and become [`Errno::EIO`].
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        if raw == 0 || raw > 4095 { Self::EIO } else { Self(raw) }
    }

    /// The positive number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.description()),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Errno({})", self.0),
        }
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(e: rustix::io::Errno) -> Self {
        Self::from_raw(e.raw_os_error().unsigned_abs())
    }
}

impl From<&std::io::Error> for Errno {
    fn from(e: &std::io::Error) -> Self {
        e.raw_os_error().map_or(Self::EIO, |n| Self::from_raw(n.unsigned_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_agree_with_the_system() {
        for (ours, system) in [
            (Errno::EINVAL, rustix::io::Errno::INVAL),
            (Errno::ENOTTY, rustix::io::Errno::NOTTY),
            (Errno::EPROTO, rustix::io::Errno::PROTO),
            (Errno::EOVERFLOW, rustix::io::Errno::OVERFLOW),
            (Errno::EOPNOTSUPP, rustix::io::Errno::OPNOTSUPP),
            (Errno::EMSGSIZE, rustix::io::Errno::MSGSIZE),
            (Errno::ETIMEDOUT, rustix::io::Errno::TIMEDOUT),
            (Errno::ENODEV, rustix::io::Errno::NODEV),
        ] {
            assert_eq!(Errno::from(system), ours);
        }
    }

    #[test]
    fn nonsense_is_an_io_error() {
        assert_eq!(Errno::from_raw(0), Errno::EIO);
        assert_eq!([4096, u32::MAX].map(Errno::from_raw), [Errno::EIO; 2]);
        assert_eq!(Errno::from_raw(4095).raw(), 4095);
        assert_eq!(Errno::from_raw(22).to_string(), "invalid argument (EINVAL)");
        assert_eq!(Errno::from_raw(133).to_string(), "error 133");
    }
}
