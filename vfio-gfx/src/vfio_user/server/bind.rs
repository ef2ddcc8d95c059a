//! A socket file that appears when it is ready, and goes with its server.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use thiserror::Error;

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum BindError {
    /// Somebody serves there.
    #[error("{0}: another process is listening there; stop it or choose another path")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0}: exists and is not a socket; remove it or choose another path")]
    NotASocket(PathBuf),
    /// The system refused to make the socket.
    #[error("{path}: cannot create the socket")]
    Create {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A resource of the event loop was refused.
    #[error("{step} failed")]
    System {
        /// Which call.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A listening Unix socket and its place in the file system: mode 0600, complete before it appears, gone when dropped.
#[derive(Debug)]
pub struct BoundSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket file, to remove no file but ours; `None` for one that somebody else made.
    id: Option<(u64, u64)>,
}

impl BoundSocket {
    /// Makes a socket under a name of its own and moves it to `path` when it listens, so that whoever sees it can
    /// connect, and nobody's file is overwritten. A socket that nobody serves any more is replaced.
    ///
    /// # Errors
    /// Somebody serves there, something else is there, or the system refuses.
    pub fn new(path: &Path) -> Result<Self, BindError> {
        let create = |source: io::Error| BindError::Create { path: path.to_owned(), source };
        clear_stale(path)?;
        let mut name = path.file_name().ok_or_else(|| create(io::ErrorKind::InvalidInput.into()))?.to_owned();
        name.push(format!(".{}", std::process::id()));
        let temporary = path.with_file_name(name);
        // A leftover of a process that had our number; nobody else makes this name.
        let _ = std::fs::remove_file(&temporary);
        let publish = || -> io::Result<(UnixListener, (u64, u64))> {
            // It may fail with the file there: that is made before it listens.
            let listener = UnixListener::bind(&temporary)?;
            std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            let metadata = std::fs::symlink_metadata(&temporary)?;
            renameat_with(CWD, &temporary, CWD, path, RenameFlags::NOREPLACE)?;
            Ok((listener, (metadata.dev(), metadata.ino())))
        };
        match publish() {
            Ok((listener, id)) => Ok(Self { listener, path: path.to_owned(), id: Some(id) }),
            Err(error) => {
                let _ = std::fs::remove_file(&temporary);
                Err(if error.kind() == io::ErrorKind::AlreadyExists {
                    BindError::InUse(path.to_owned())
                } else {
                    create(error)
                })
            }
        }
    }

    /// A socket that listens already and is not ours to remove: of a supervisor, which keeps it when we go.
    ///
    /// # Errors
    /// It has no path, or cannot be made non-blocking.
    pub fn inherited(listener: UnixListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                "the socket that was passed has no path in the file system",
            )
        })?;
        Ok(Self { path: path.to_owned(), listener, id: None })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket, which does not block.
    #[must_use]
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|now| Some((now.dev(), now.ino())) == self.id);
        if ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Removes a socket at `path` that nobody listens on. Anything else that is there stays and is an error.
fn clear_stale(path: &Path) -> Result<(), BindError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(BindError::Create { path: path.to_owned(), source }),
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| BindError::Create { path: path.to_owned(), source })
        }
        _ => Err(BindError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_private_connectable_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let socket = BoundSocket::new(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        assert!(matches!(BoundSocket::new(&path), Err(BindError::InUse(_))));
        drop(socket);
        assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing is left");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_nothing_else_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a dead process leaves its socket");
        drop(BoundSocket::new(&path).unwrap());
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(BoundSocket::new(&path), Err(BindError::NotASocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
        // A socket of another kind cannot be connected to, and is in use all the same.
        let other = dir.path().join("d.sock");
        let _syslog = std::os::unix::net::UnixDatagram::bind(&other).unwrap();
        assert!(matches!(BoundSocket::new(&other), Err(BindError::InUse(_))));
        assert!(other.exists());
    }

    #[test]
    fn a_place_that_does_not_exist_is_named() {
        let error = BoundSocket::new(Path::new("/nonexistent/s.sock")).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/s.sock: "), "{error}");
    }
}
