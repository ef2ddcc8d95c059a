//! What the kernel says of a descriptor (proc_pid_fdinfo(5)): some kinds of files are known by a line that no other kind has.

use std::os::fd::{AsFd, AsRawFd};

/// Whether the kernel says a line about the descriptor that begins so.
pub(crate) fn says(fd: impl AsFd, start: &str) -> bool {
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    std::fs::read_to_string(path).is_ok_and(|info| info.lines().any(|line| line.starts_with(start)))
}
