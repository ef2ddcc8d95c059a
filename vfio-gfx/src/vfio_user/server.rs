//! The event loop: one device, one VMM, any number of consoles.
//!
//! One thread serves all connections of a device, so messages are answered in the order they arrive and nobody waits
//! for a lock. It sleeps in `epoll_wait` without a time-out while nobody asks. A peer that does not read its reply is
//! not read from either: at most one reply waits for it, and the others are not held up.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use thiserror::Error;
use tracing::{debug, info, warn};

use super::session::{Outbox, Session, VmmSlot};
use super::{Ending, Inbox, MAX_MESSAGE, Role, socket};
use crate::device::SharedDevice;

mod bind;

pub use bind::{BindError, BoundSocket};

/// Most connections to one device. More are closed as they come.
pub const MAX_CONNECTIONS: usize = 256;

/// How long no connection is accepted after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const STOP: u64 = 0;
const LISTENER: u64 = 1;
const FIRST_CONNECTION: u64 = 2;

/// Why the server cannot go on. What one peer does never ends it.
#[derive(Debug, Error)]
pub enum ServerError {
    /// epoll or eventfd failed.
    #[error("the event loop failed")]
    EventLoop(#[source] io::Error),
}

impl From<Errno> for ServerError {
    fn from(errno: Errno) -> Self {
        Self::EventLoop(errno.into())
    }
}

/// How long [`Server::run`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until its [`Stopper`] says so.
    Stopped,
    /// Also when the VMM that attached has gone.
    VmmGone,
}

/// Ends a server from another thread or a signal handler's thread.
#[derive(Debug)]
pub struct Stopper(OwnedFd);

impl Stopper {
    /// Makes [`Server::run`] return soon.
    pub fn stop(&self) {
        // A full counter (EAGAIN) already says stop.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}

/// Serves a device on a Unix socket.
#[derive(Debug)]
pub struct Server {
    device: SharedDevice,
    listener: BoundSocket,
    epoll: OwnedFd,
    stop: OwnedFd,
    slot: VmmSlot,
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    inbox: Inbox,
    session: Session,
    outbox: Outbox,
    /// How much of the outbox is sent.
    sent: usize,
}

/// What a connection waits for.
#[derive(Debug, PartialEq, Eq)]
enum Wants {
    Read,
    Write,
}

impl Server {
    /// Makes the socket, ready to accept when it appears at `path`, with mode 0600. It goes when the server is
    /// dropped.
    ///
    /// # Errors
    /// [`BindError`]: something is at `path` already, or the system refuses.
    pub fn bind(device: SharedDevice, path: &Path) -> Result<Self, BindError> {
        let setup = |step| move |errno: Errno| BindError::System { step, source: errno.into() };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(setup("epoll_create"))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(setup("eventfd"))?;
        let listener = BoundSocket::new(path)?;
        let read = epoll::EventFlags::IN;
        epoll::add(&epoll, &stop, epoll::EventData::new_u64(STOP), read).map_err(setup("epoll_ctl"))?;
        epoll::add(&epoll, listener.as_fd(), epoll::EventData::new_u64(LISTENER), read)
            .map_err(setup("epoll_ctl"))?;
        Ok(Self {
            device,
            listener,
            epoll,
            stop,
            slot: VmmSlot::default(),
            connections: BTreeMap::new(),
            next_token: FIRST_CONNECTION,
        })
    }

    /// Something to stop this server with.
    ///
    /// # Errors
    /// What `dup(2)` says.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.stop.try_clone().map(Stopper)
    }

    /// Serves until told to stop, or until the VMM is gone.
    ///
    /// # Errors
    /// [`ServerError`] when the event loop itself fails.
    pub fn run(&mut self, until: Until) -> Result<(), ServerError> {
        let mut events = Vec::with_capacity(64);
        let mut accepting = true;
        loop {
            events.clear();
            let pause = Timespec::try_from(ACCEPT_PAUSE).ok().filter(|_| !accepting);
            match epoll::wait(&self.epoll, spare_capacity(&mut events), pause.as_ref()) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            if !accepting {
                accepting = true;
                self.watch_listener(true)?;
            }
            let mut vmm_went = false;
            // Who is gone, then connections, then the listener: a VMM that is gone frees its place for the one that waits.
            events.sort_unstable_by_key(|event: &epoll::Event| {
                let flags = event.flags;
                (!flags.contains(epoll::EventFlags::HUP), std::cmp::Reverse(event.data.u64()))
            });
            for event in &events {
                match event.data.u64() {
                    STOP => return Ok(()),
                    LISTENER => accepting = self.accept(),
                    token => {
                        vmm_went |= self.serve(token)?;
                        // What it sent before it went is still read; the socket's buffer bounds it.
                        let flags = event.flags;
                        while flags.contains(epoll::EventFlags::HUP) && self.connections.contains_key(&token)
                        {
                            vmm_went |= self.serve(token)?;
                        }
                    }
                }
            }
            if !accepting {
                self.watch_listener(false)?;
            }
            if vmm_went && until == Until::VmmGone {
                return Ok(());
            }
        }
    }

    fn watch_listener(&self, on: bool) -> Result<(), ServerError> {
        let flags = if on { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
        epoll::modify(&self.epoll, self.listener.as_fd(), epoll::EventData::new_u64(LISTENER), flags)?;
        Ok(())
    }

    /// Takes one connection. Returns false when the process is out of descriptors and should pause.
    fn accept(&mut self) -> bool {
        let listener: &UnixListener = self.listener.listener();
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                let errno = Errno::from_io_error(&error);
                if matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) {
                    warn!(%error, "cannot accept a connection, pausing");
                    return false;
                }
                return true;
            }
        };
        if self.connections.len() >= MAX_CONNECTIONS {
            warn!(limit = MAX_CONNECTIONS, "too many connections: closed");
            return true;
        }
        let token = self.next_token;
        let data = epoll::EventData::new_u64(token);
        if stream.set_nonblocking(true).is_err()
            || epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN).is_err()
        {
            return true;
        }
        self.next_token += 1;
        let connection = Connection {
            stream,
            inbox: Inbox::new(MAX_MESSAGE),
            session: Session::new(self.device.clone(), self.slot.clone()),
            outbox: Outbox::default(),
            sent: 0,
        };
        self.connections.insert(token, connection);
        true
    }

    /// Moves one connection forward. Returns whether the VMM went.
    fn serve(&mut self, token: u64) -> Result<bool, ServerError> {
        let Some(connection) = self.connections.get_mut(&token) else {
            return Ok(false);
        };
        let was_writing = !connection.outbox.bytes.is_empty();
        match connection.advance() {
            Ok(wants) => {
                if (wants == Wants::Write) != was_writing {
                    let flags = match wants {
                        Wants::Read => epoll::EventFlags::IN,
                        Wants::Write => epoll::EventFlags::OUT,
                    };
                    epoll::modify(&self.epoll, &connection.stream, epoll::EventData::new_u64(token), flags)?;
                }
                Ok(false)
            }
            Err(reason) => {
                let role = connection.session.role();
                match &reason {
                    Gone::Closed => debug!(?role, "disconnected"),
                    Gone::Failed(errno) => debug!(?role, %errno, "connection lost"),
                    Gone::Ended(ending) => warn!(?role, %ending, "connection closed"),
                }
                // Closing the descriptor takes it out of the epoll set.
                self.connections.remove(&token);
                if role == Some(Role::Vmm) {
                    info!("the VMM is gone; the device keeps its state");
                }
                Ok(role == Some(Role::Vmm))
            }
        }
    }
}

/// Why a connection is over.
enum Gone {
    Closed,
    Failed(Errno),
    Ended(Ending),
}

impl Connection {
    /// One read at most, then every whole message it brought, as long as the peer takes the replies.
    fn advance(&mut self) -> Result<Wants, Gone> {
        if !self.outbox.bytes.is_empty() {
            // Behind a reply that was stuck, messages may wait in the inbox already.
            return if self.flush()? { self.answer() } else { Ok(Wants::Write) };
        }
        let space = self.inbox.space().map_err(|error| Gone::Ended(error.into()))?;
        match socket::receive(self.stream.as_fd(), space) {
            Ok((0, _)) => return Err(Gone::Closed),
            Ok((len, fds)) => self.inbox.filled(len, fds),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Wants::Read),
            Err(errno) => return Err(Gone::Failed(errno)),
        }
        self.answer()
    }

    fn answer(&mut self) -> Result<Wants, Gone> {
        loop {
            match self.inbox.next_message() {
                Ok(Some(message)) => self.session.handle(message, &mut self.outbox).map_err(Gone::Ended)?,
                Ok(None) => return Ok(Wants::Read),
                Err(error) => return Err(Gone::Ended(error.into())),
            }
            if !self.flush()? {
                return Ok(Wants::Write);
            }
        }
    }

    /// Sends what is left of the reply. Returns whether it is gone.
    fn flush(&mut self) -> Result<bool, Gone> {
        while self.sent < self.outbox.bytes.len() {
            let rest = self.outbox.bytes.get(self.sent..).unwrap_or(&[]);
            match socket::send(self.stream.as_fd(), rest, &self.outbox.fds) {
                Ok(len) => {
                    self.sent += len;
                    self.outbox.fds.clear();
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Gone::Failed(errno)),
            }
        }
        self.outbox.clear();
        self.sent = 0;
        Ok(true)
    }
}
