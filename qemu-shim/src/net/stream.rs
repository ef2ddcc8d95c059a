//! A connected socket, TCP or Unix, that never blocks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::sockopt;

/// A connection is probed after this long without a word, so that a machine that vanished is noticed; a viewer that
/// merely watches a still screen says nothing either.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Between probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Probes without an answer until the connection is given up.
const KEEPALIVE_PROBES: u32 = 4;

/// A connected, non-blocking socket.
#[derive(Debug)]
pub enum Stream {
    /// TCP, without Nagle's delay: a pointer's echo must not wait for an acknowledgement.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP address.
    Tcp(SocketAddr),
    /// Somebody who may open our socket file.
    Unix,
}

impl Peer {
    /// The machine, if it has an address; IPv4 as such, also on an IPv6 socket.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix => None,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl Stream {
    /// Takes a TCP connection.
    ///
    /// # Errors
    /// The system refuses an option.
    pub fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(&stream, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(&stream, KEEPALIVE_PROBES)?;
        Ok(Self::Tcp(stream))
    }

    /// Takes a connection on a Unix socket.
    ///
    /// # Errors
    /// The system refuses an option.
    pub fn unix(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(stream))
    }

    /// Says that nothing more is coming, and goes on listening. A close with unread bytes would reset the connection
    /// and could destroy what was just sent.
    pub(super) fn finish(&self) {
        // It fails only if the connection is gone already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        })
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        uninterrupted(|| match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A signal is not the socket's news.
fn uninterrupted(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn nothing_blocks_and_nothing_waits_for_acknowledgement() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut stream = Stream::tcp(listener.accept().unwrap().0).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let Stream::Tcp(tcp) = &stream else { panic!("not TCP") };
        assert!(tcp.nodelay().unwrap());
        let (a, _b) = UnixStream::pair().unwrap();
        assert_eq!(Stream::unix(a).unwrap().read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_ipv4_peer_is_itself_on_an_ipv6_socket() {
        let peer = Peer::Tcp("[::ffff:10.0.0.7]:1234".parse().unwrap());
        assert_eq!(peer.ip(), Some("10.0.0.7".parse().unwrap()));
        assert_eq!(Peer::Unix.ip(), None);
    }

    #[test]
    fn the_log_can_name_who_came() {
        assert_eq!(Peer::Tcp("10.0.0.7:1234".parse().unwrap()).to_string(), "10.0.0.7:1234");
        assert_eq!(Peer::Unix.to_string(), "unix");
    }

    #[test]
    fn a_signal_ends_no_connection() {
        let mut results = [Err(io::ErrorKind::Interrupted.into()), Ok(7)].into_iter();
        assert_eq!(uninterrupted(|| results.next().unwrap()).unwrap(), 7);
    }
}
