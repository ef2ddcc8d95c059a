//! The asking side: one command, one reply.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno as Sys;
use thiserror::Error;
use zerocopy::IntoBytes;

use super::{
    Command, EXTENSION_VERSION, Header, HeaderError, Inbox, Kind, MAX_MESSAGE, Role, Version, VersionError,
    socket,
};
use crate::abi::Errno;

/// How long a server may take to answer; QEMU's client waits as long.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a command has no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody serves there.
    #[error("{path}: cannot connect")]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server refused the command.
    #[error("the device refused {command:?}: {errno}")]
    Refused {
        /// Which command.
        command: Command,
        /// Its errno.
        errno: Errno,
    },
    /// The server closed the connection.
    #[error("the device closed the connection")]
    Closed,
    /// No answer in time.
    #[error("the device did not answer {0:?} within {seconds} seconds", seconds = TIMEOUT.as_secs())]
    TimedOut(Command),
    /// The socket failed.
    #[error("the connection to the device failed")]
    Socket(#[source] io::Error),
    /// The reply is no reply to the command.
    #[error("the device answered {command:?} with message {found:?}")]
    Unexpected {
        /// Which command.
        command: Command,
        /// What came.
        found: Header,
    },
    /// The stream cannot be followed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The server's VERSION reply is malformed.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// The server does not have the display extension.
    #[error("this vfio-user server does not speak the display extension, so there is no plane to look at")]
    NoExtension,
    /// The server chose a version of the display extension that was not proposed.
    #[error(
        "the device chose version {0} of the display extension, at most {EXTENSION_VERSION} was proposed"
    )]
    ExtensionVersion(u64),
    /// A reply that is too short for its command, or lacks its descriptor.
    #[error("the device's reply to {0:?} is malformed: {1}")]
    Malformed(Command, &'static str),
}

/// A connection to a vfio-user server that speaks the display extension.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    inbox: Inbox,
    request: Vec<u8>,
    next_id: u16,
}

impl Client {
    /// Connects and negotiates.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::NoExtension`] when the server is another kind of device.
    pub fn connect(path: &Path, role: Role) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path)
            .map_err(|source| ClientError::Connect { path: path.to_owned(), source })?;
        Self::negotiate(stream, role)
    }

    /// Negotiates on a connected stream.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub fn negotiate(stream: UnixStream, role: Role) -> Result<Self, ClientError> {
        stream.set_read_timeout(Some(TIMEOUT)).map_err(ClientError::Socket)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(ClientError::Socket)?;
        let mut client = Self { stream, inbox: Inbox::new(MAX_MESSAGE), request: Vec::new(), next_id: 0 };
        let mut proposal = Vec::new();
        Version::proposal(role).encode(false, &mut proposal);
        let answer =
            client.call(Command::Version, &[&proposal], |payload, _| Ok(Version::parse(payload)?))?;
        match answer.capabilities.extension {
            Some((version, _)) if version <= EXTENSION_VERSION => {}
            Some((version, _)) => return Err(ClientError::ExtensionVersion(version)),
            None => return Err(ClientError::NoExtension),
        }
        Ok(client)
    }

    /// Sends a command (its payload in pieces) and hands the reply's payload and descriptors to `read`.
    ///
    /// # Errors
    /// [`ClientError`]; after anything but [`ClientError::Refused`] the connection is of no more use.
    pub fn call<T>(
        &mut self,
        command: Command,
        payload: &[&[u8]],
        read: impl FnOnce(&[u8], Vec<OwnedFd>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.call_with_fds(command, payload, &[], read)
    }

    /// The same with descriptors beside the command, at most [`MAX_MSG_FDS`](super::MAX_MSG_FDS).
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn call_with_fds<T>(
        &mut self,
        command: Command,
        payload: &[&[u8]],
        mut fds: &[OwnedFd],
        read: impl FnOnce(&[u8], Vec<OwnedFd>) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let header = Header::command(id, command, payload.iter().map(|piece| piece.len()).sum());
        self.request.clear();
        self.request.extend_from_slice(header.as_bytes());
        for piece in payload {
            self.request.extend_from_slice(piece);
        }
        let lost = |errno| match errno {
            Sys::AGAIN => ClientError::TimedOut(command),
            Sys::PIPE | Sys::CONNRESET => ClientError::Closed,
            errno => ClientError::Socket(errno.into()),
        };
        // The socket's own time-out is for each piece, and a peer may make any number of them.
        let start = Instant::now();
        let in_time = || if start.elapsed() < TIMEOUT { Ok(()) } else { Err(ClientError::TimedOut(command)) };
        let mut rest = self.request.as_slice();
        while !rest.is_empty() {
            match socket::send(self.stream.as_fd(), rest, fds) {
                Ok(len) => (rest, fds) = (rest.get(len..).unwrap_or(&[]), &[]),
                Err(Sys::INTR) => {}
                Err(errno) => return Err(lost(errno)),
            }
            in_time()?;
        }
        loop {
            // `next_message` borrows the inbox, so look before taking.
            if self.inbox.is_message_ready()? {
                break;
            }
            match socket::receive(self.stream.as_fd(), self.inbox.space()?) {
                Ok((0, _)) => return Err(ClientError::Closed),
                Ok((len, fds)) => self.inbox.filled(len, fds),
                Err(Sys::INTR) => {}
                Err(errno) => return Err(lost(errno)),
            }
            in_time()?;
        }
        let Some(reply) = self.inbox.next_message()? else {
            return Err(ClientError::Closed);
        };
        let found = reply.header;
        if found.kind()? != Kind::Reply || found.id != id || found.command != command.raw() {
            return Err(ClientError::Unexpected { command, found });
        }
        if let Some(errno) = found.reported_error() {
            return Err(ClientError::Refused { command, errno });
        }
        read(reply.payload, reply.fds)
    }
}
