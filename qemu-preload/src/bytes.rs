//! Structs in and out of arguments.

use vfio_gfx::abi::Errno;
use zerocopy::FromBytes;

/// The struct at the start of an argument.
///
/// # Errors
/// `EINVAL` for an argument that is too short for it.
pub(crate) fn read<T: FromBytes>(arg: &[u8]) -> Result<T, Errno> {
    T::read_from_prefix(arg).map(|(value, _)| value).map_err(|_| Errno::EINVAL)
}

/// Puts an answer at the start of an argument, as far as there is room: an older caller's struct is shorter.
pub(crate) fn fill(arg: &mut [u8], answer: &[u8]) {
    for (to, from) in arg.iter_mut().zip(answer) {
        *to = *from;
    }
}
