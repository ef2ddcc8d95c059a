//! What a program needs after it has started.

use std::path::{Path, PathBuf};

/// What is left to a program. All of it may go on with the descriptors that it has, make memory, timers and eventfds, and accept
/// connections; the rest is to be asked for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Directories in which it may remove files.
    pub(crate) removes_in: Vec<PathBuf>,
    /// Directories in which it may make sockets and rename them.
    pub(crate) makes_sockets_in: Vec<PathBuf>,
    /// Directories whose files it may read.
    pub(crate) reads: Vec<PathBuf>,
    /// Unix sockets that it may connect to.
    pub(crate) connects: Vec<PathBuf>,
    /// Whether it makes devices, which then open `/dev/udmabuf`.
    pub(crate) makes_devices: bool,
    /// Whether it asks a device of the kernel.
    pub(crate) uses_vfio: bool,
}

impl Plan {
    /// Nothing but what all may do.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// It removes its socket at the end. That is a right to its directory: no other grain is to be had.
    #[must_use]
    pub fn removes_socket(mut self, socket: &Path) -> Self {
        self.removes_in.push(directory(socket));
        self
    }

    /// It makes and removes sockets in this directory as devices come and go.
    #[must_use]
    pub fn makes_devices_in(mut self, directory: &Path) -> Self {
        self.makes_sockets_in.push(directory.to_owned());
        self.makes_devices = true;
        self
    }

    /// It reads this directory, and watches it.
    #[must_use]
    pub fn reads(mut self, directory: &Path) -> Self {
        self.reads.push(directory.to_owned());
        self
    }

    /// It connects to this Unix socket, now or when it comes back.
    #[must_use]
    pub fn connects_to(mut self, socket: &Path) -> Self {
        self.connects.push(socket.to_owned());
        self
    }

    /// It asks a device of the kernel that it has opened.
    #[must_use]
    pub fn uses_vfio(mut self) -> Self {
        self.uses_vfio = true;
        self
    }
}

/// Where a file is.
pub(crate) fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_without_a_directory_is_in_this_one() {
        for (socket, expected) in [("s.sock", "."), ("/s.sock", "/"), ("a/s.sock", "a"), ("./s.sock", ".")] {
            assert_eq!(directory(Path::new(socket)), Path::new(expected), "{socket}");
        }
    }
}
