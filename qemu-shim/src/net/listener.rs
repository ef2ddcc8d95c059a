//! Accepting viewers.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use thiserror::Error;
use vfio_gfx::vfio_user::{BindError, BoundSocket};

use super::address::Address;
use super::stream::{Peer, Stream};

/// Why nobody can be accepted.
#[derive(Debug, Error)]
pub enum ListenError {
    /// TCP was refused.
    #[error("cannot listen on {address}")]
    Tcp {
        /// Where.
        address: Address,
        /// Why; mostly the port is taken.
        #[source]
        source: io::Error,
    },
    /// The Unix socket was refused.
    #[error(transparent)]
    Unix(#[from] BindError),
}

/// A listening socket, TCP or Unix. A Unix socket has mode 0600, replaces only a socket that nobody listens on, and its
/// file goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: Address,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(BoundSocket),
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// The system refuses, or somebody is there already.
    pub fn bind(address: &Address) -> Result<Self, ListenError> {
        match address {
            Address::Tcp { name, at } => {
                let refused = |source| ListenError::Tcp { address: address.clone(), source };
                let socket = TcpListener::bind(at).map_err(refused)?;
                socket.set_nonblocking(true).map_err(refused)?;
                let at = socket.local_addr().map_err(refused)?;
                Ok(Self { socket: Socket::Tcp(socket), address: Address::Tcp { name: name.clone(), at } })
            }
            Address::Unix(path) => {
                Ok(Self { socket: Socket::Unix(BoundSocket::new(path)?), address: address.clone() })
            }
        }
    }

    /// Where it listens, with the port the system chose if it was asked to.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether other machines can reach it.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.address.is_public()
    }

    /// The link to click on this machine, for a web listener; none for a Unix socket.
    #[must_use]
    pub fn link(&self, tls: bool) -> Option<Link<'_>> {
        match &self.address {
            Address::Tcp { name, at } => Some(Link { name: name.as_deref(), at: *at, tls }),
            Address::Unix(_) => None,
        }
    }

    /// Takes the next viewer, or `None` if nobody waits.
    ///
    /// # Errors
    /// What the system says, such as too many open files; the viewer still waits then, so pause before asking again.
    pub fn accept(&self) -> io::Result<Option<(Stream, Peer)>> {
        let accepted = match &self.socket {
            Socket::Tcp(socket) => {
                socket.accept().and_then(|(stream, from)| Ok((Stream::tcp(stream)?, Peer::Tcp(from))))
            }
            Socket::Unix(socket) => {
                socket.listener().accept().and_then(|(stream, _)| Ok((Stream::unix(stream)?, Peer::Unix)))
            }
        };
        match accepted {
            Ok(viewer) => Ok(Some(viewer)),
            // Nobody there, or gone before we looked; EINVAL is what options give on a connection already reset.
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::InvalidInput => Ok(None),
                _ => Err(error),
            },
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix(socket) => socket.as_fd(),
        }
    }
}

/// Shows as a URL.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    name: Option<&'a str>,
    at: SocketAddr,
    tls: bool,
}

impl fmt::Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let port = self.at.port();
        match self.name {
            Some(name) => write!(f, "{scheme}://{name}:{port}/"),
            // "Any address" is no address to go to.
            None if self.at.ip().is_unspecified() => write!(f, "{scheme}://localhost:{port}/"),
            None => write!(f, "{scheme}://{}/", self.at),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn listen(word: &str) -> Result<Listener, ListenError> {
        Listener::bind(&Address::parse(word).unwrap())
    }

    fn accept(listener: &Listener) -> (Stream, Peer) {
        for _ in 0..100 {
            if let Some(viewer) = listener.accept().unwrap() {
                return viewer;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("nobody came");
    }

    #[test]
    fn tcp_viewers_come_one_by_one_and_nobody_waits_for_them() {
        let listener = listen("127.0.0.1:0").unwrap();
        assert!(!listener.is_public());
        assert!(listener.accept().unwrap().is_none());
        let Address::Tcp { at, .. } = *listener.address() else { panic!("not TCP") };
        assert_ne!(at.port(), 0);
        assert_eq!(listener.link(false).unwrap().to_string(), format!("http://{at}/"));
        let mut viewer = TcpStream::connect(at).unwrap();
        let (_, peer) = accept(&listener);
        assert_eq!(peer, Peer::Tcp(viewer.local_addr().unwrap()));
        viewer.write_all(b"x").unwrap();
        assert!(listener.accept().unwrap().is_none());
        let error = listen(&at.to_string()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot listen on {at}"));
    }

    #[test]
    fn the_link_of_any_address_is_one_to_click() {
        let listener = listen("0.0.0.0:0").unwrap();
        assert!(listener.is_public());
        assert!(listener.link(true).unwrap().to_string().starts_with("https://localhost:"));
    }

    #[test]
    fn a_unix_socket_is_private_replaces_only_the_dead_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vnc.sock");
        let word = format!("unix:{}", path.display());
        drop(UnixListener::bind(&path).unwrap());
        let listener = listen(&word).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(matches!(listen(&word), Err(ListenError::Unix(BindError::InUse(_)))));
        let _viewer = UnixStream::connect(&path).unwrap();
        assert_eq!(
            accept(&listener).1,
            Peer::Unix,
            "the probe of the second bind is not a viewer that stays"
        );
        assert!(listener.link(false).is_none());
        drop(listener);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(listen(&word), Err(ListenError::Unix(BindError::NotASocket(_)))));
    }
}
