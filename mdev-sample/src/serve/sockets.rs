//! Where a device listens: on a socket that a supervisor made and passed, or on one of our own.

use std::error::Error;
use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf, absolute};

use tracing::info;
use vfio_gfx::vfio_user::BoundSocket;

use super::activation;

/// The sockets that were passed and have no device yet.
#[derive(Debug)]
pub(super) struct Sockets(Vec<(PathBuf, BoundSocket)>);

impl Sockets {
    /// Takes what a supervisor passed.
    pub(super) fn passed() -> io::Result<Self> {
        Self::new(activation::listeners())
    }

    fn new(listeners: Vec<UnixListener>) -> io::Result<Self> {
        let place = |listener| {
            let socket = BoundSocket::inherited(listener)?;
            Ok((absolute(socket.path())?, socket))
        };
        listeners.into_iter().map(place).collect::<io::Result<_>>().map(Self)
    }

    /// The socket at `path`: the one that was passed with this path, or a new one.
    pub(super) fn open(&mut self, path: &Path) -> Result<BoundSocket, Box<dyn Error>> {
        let wanted = absolute(path)?;
        match self.0.iter().position(|(path, _)| *path == wanted) {
            Some(index) => {
                info!(socket = %path.display(), "on the socket that was passed");
                Ok(self.0.swap_remove(index).1)
            }
            None => Ok(BoundSocket::new(path)?),
        }
    }

    /// Whether every socket that was passed has its device.
    pub(super) fn none_left(&self) -> Result<(), Box<dyn Error>> {
        match self.0.first() {
            Some((path, _)) => {
                Err(format!("{}: was passed to us, but no --socket names it", path.display()).into())
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_is_used_once_and_outlives_its_device() {
        let dir = tempfile::tempdir().unwrap();
        let (passed, other) = (dir.path().join("passed.sock"), dir.path().join("other.sock"));
        let mut sockets = Sockets::new(vec![UnixListener::bind(&passed).unwrap()]).unwrap();
        assert!(sockets.none_left().unwrap_err().to_string().contains("passed.sock"));
        drop(sockets.open(&other).unwrap());
        assert!(!other.exists(), "one of our own goes");
        drop(sockets.open(&passed).unwrap());
        assert!(passed.exists(), "its supervisor keeps it");
        assert!(sockets.none_left().is_ok());
    }

    #[test]
    fn a_socket_without_a_path_is_refused() {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::SocketAddr;
        let name = format!("vfio-gfx-test-{}", std::process::id());
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
        assert!(Sockets::new(vec![listener]).unwrap_err().to_string().contains("no path"));
    }
}
