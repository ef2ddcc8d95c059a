//! `VFIO_DEVICE_FEATURE`: the header of every request.

use thiserror::Error;

use super::Errno;

/// `struct vfio_device_feature` without its data: `argsz` and flags.
pub const FEATURE_HEADER: u32 = 8;

// linux/vfio.h
const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;
const FEATURE_MASK: u32 = 0xffff;

/// Why a feature request is malformed. Always `EINVAL` to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FeatureError {
    /// `argsz` does not cover the header.
    #[error("device feature: argsz is {found}, the header needs {FEATURE_HEADER}")]
    ArgSize {
        /// The caller's `argsz`.
        found: u32,
    },
    /// Bits that are not defined, or GET and SET at once (which only a PROBE may ask about).
    #[error("device feature: flags {found:#x} are not a feature with GET, SET or PROBE")]
    Flags {
        /// The caller's flags.
        found: u32,
    },
}

impl From<FeatureError> for Errno {
    fn from(_: FeatureError) -> Self {
        Self::EINVAL
    }
}

/// Which feature a well-formed request is about: judged as the kernel does for every device, before it asks the driver
/// (`vfio_ioctl_device_feature`).
///
/// # Errors
/// [`FeatureError`].
pub const fn feature_number(argsz: u32, flags: u32) -> Result<u32, FeatureError> {
    if argsz < FEATURE_HEADER {
        return Err(FeatureError::ArgSize { found: argsz });
    }
    let is_both = flags & (GET | SET | PROBE) == GET | SET;
    if flags & !(FEATURE_MASK | GET | SET | PROBE) != 0 || is_both {
        return Err(FeatureError::Flags { found: flags });
    }
    Ok(flags & FEATURE_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_feature_and_what_to_do_with_it() {
        assert_eq!(feature_number(8, GET | 3), Ok(3));
        assert_eq!(feature_number(u32::MAX, PROBE | GET | SET | 0xffff), Ok(0xffff));
        assert_eq!(feature_number(7, GET), Err(FeatureError::ArgSize { found: 7 }));
        for flags in [GET | SET, 1 << 19, 1 << 31 | PROBE] {
            assert_eq!(feature_number(8, flags), Err(FeatureError::Flags { found: flags }));
        }
    }
}
