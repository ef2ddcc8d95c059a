//! The event loop: any number of devices, each with one VMM and any number of consoles.
//!
//! One thread serves all connections of all its devices, so messages are answered in the order they arrive and nobody
//! waits for a lock. It sleeps in `epoll_wait` without a time-out while nobody asks. A peer that does not read its reply
//! is not read from either: at most one reply waits for it, and the others are not held up.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use thiserror::Error;
use tracing::{Span, debug, info, warn};

use super::Role;
use crate::device::SharedDevice;

mod bind;
mod connection;
mod drain;
mod endpoint;
mod event;
mod removal;

pub use bind::{BindError, BoundSocket};
use connection::{Connection, Gone, Wants};
use endpoint::Endpoint;
pub use event::{EndpointId, ServerEvent, Stopper, Until, WatchId};

/// Most connections to one device. More are closed as they come.
pub const MAX_CONNECTIONS: usize = 256;

/// How long no connection is accepted after the process ran out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const STOP: u64 = 0;
const FIRST_TOKEN: u64 = 1;

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

/// Serves devices on Unix sockets.
#[derive(Debug)]
pub struct Server {
    epoll: OwnedFd,
    stop: OwnedFd,
    endpoints: BTreeMap<u64, Endpoint>,
    watched: BTreeMap<u64, OwnedFd>,
    /// Whose timer a token is.
    timers: BTreeMap<u64, u64>,
    /// Whose time to be let go a token is.
    graces: BTreeMap<u64, u64>,
    connections: BTreeMap<u64, Connection>,
    next_token: u64,
    /// Until when nothing is accepted: the process is out of descriptors.
    paused: Option<Instant>,
    /// What happened and is not told yet.
    happened: VecDeque<ServerEvent>,
}

impl Server {
    /// A server of no devices yet.
    ///
    /// # Errors
    /// [`BindError::System`]: the system refuses an epoll set or an eventfd.
    pub fn new() -> Result<Self, BindError> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(setup("epoll_create"))?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(setup("eventfd"))?;
        let data = epoll::EventData::new_u64(STOP);
        epoll::add(&epoll, &stop, data, epoll::EventFlags::IN).map_err(setup("epoll_ctl"))?;
        Ok(Self {
            epoll,
            stop,
            endpoints: BTreeMap::new(),
            watched: BTreeMap::new(),
            timers: BTreeMap::new(),
            graces: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_token: FIRST_TOKEN,
            paused: None,
            happened: VecDeque::new(),
        })
    }

    /// A server of one device. Makes the socket, ready to accept when it appears at `path`, with mode 0600. It goes when
    /// the server is dropped.
    ///
    /// # Errors
    /// [`BindError`]: something is at `path` already, or the system refuses.
    pub fn bind(device: SharedDevice, path: &Path) -> Result<Self, BindError> {
        let mut server = Self::new()?;
        server.add(device, BoundSocket::new(path)?, "")?;
        Ok(server)
    }

    /// How many devices it serves.
    #[must_use]
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether it serves no device.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// Also wait for `fd`: [`ServerEvent::Readable`] tells when there is something to read.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says.
    pub fn watch(&mut self, fd: OwnedFd) -> io::Result<WatchId> {
        let token = self.token();
        epoll::add(&self.epoll, &fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?;
        self.watched.insert(token, fd);
        Ok(WatchId(token))
    }

    /// Waits for a descriptor no more, and closes it.
    ///
    /// # Errors
    /// What `epoll_ctl(2)` says.
    pub fn unwatch_fd(&mut self, id: WatchId) -> io::Result<()> {
        match self.watched.remove(&id.0) {
            Some(fd) => Ok(epoll::delete(&self.epoll, fd)?),
            None => Ok(()),
        }
    }

    /// Something to stop this server with.
    ///
    /// # Errors
    /// What `dup(2)` says.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.stop.try_clone().map(Stopper)
    }

    fn token(&mut self) -> u64 {
        let token = self.next_token;
        self.next_token += 1;
        token
    }

    /// Serves until told to stop, or until a VMM is gone.
    ///
    /// # Errors
    /// [`ServerError`] when the event loop itself fails.
    pub fn run(&mut self, until: Until) -> Result<(), ServerError> {
        loop {
            match self.next_event()? {
                ServerEvent::Stopped => return Ok(()),
                ServerEvent::VmmGone(_) if until == Until::VmmGone => return Ok(()),
                ServerEvent::VmmGone(_) | ServerEvent::Removed(_) | ServerEvent::Readable(_) => {}
            }
        }
    }

    /// Serves until something happens that is the caller's to decide about.
    ///
    /// # Errors
    /// [`ServerError`] when the event loop itself fails.
    pub fn next_event(&mut self) -> Result<ServerEvent, ServerError> {
        let mut events = Vec::with_capacity(64);
        loop {
            if let Some(event) = self.happened.pop_front() {
                return Ok(event);
            }
            let pause = self.paused.map(|end| end.saturating_duration_since(Instant::now()));
            self.wait(&mut events, pause)?;
            // Whatever else wakes us up: a busy client does not have us try again at each of its messages.
            if pause.is_some() && self.paused.is_some_and(|end| end <= Instant::now()) {
                self.paused = None;
                self.watch_listeners(true);
            }
            for event in &events {
                match event.data.u64() {
                    STOP => self.happened.push_back(ServerEvent::Stopped),
                    token if self.watched.contains_key(&token) => {
                        self.happened.push_back(ServerEvent::Readable(WatchId(token)));
                    }
                    token if self.endpoints.contains_key(&token) => self.accept(token),
                    token if self.timers.contains_key(&token) => self.look_again(token),
                    token if self.graces.contains_key(&token) => self.time_is_up(token),
                    token => self.serve_event(token, event.flags),
                }
            }
        }
    }

    /// Waits for events: of who is gone first, then of connections, then of listeners, the caller's descriptors and the
    /// stopper. A VMM that is gone so frees its place for the one that waits.
    fn wait(&self, events: &mut Vec<epoll::Event>, pause: Option<Duration>) -> Result<(), ServerError> {
        events.clear();
        let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match epoll::wait(&self.epoll, spare_capacity(events), pause.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        events.sort_unstable_by_key(|event| {
            let token = event.data.u64();
            let flags = event.flags;
            (!self.connections.contains_key(&token), !flags.contains(epoll::EventFlags::HUP), token)
        });
        Ok(())
    }

    /// Moves one connection forward, to its end if the peer is gone.
    fn serve_event(&mut self, token: u64, flags: epoll::EventFlags) {
        self.serve(token);
        // What it sent before it went is still read; the socket's buffer bounds it.
        while flags.contains(epoll::EventFlags::HUP) && self.connections.contains_key(&token) {
            self.serve(token);
        }
    }

    fn serve(&mut self, token: u64) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let was_writing = connection.is_writing();
        let advanced = {
            let _entered = self.endpoints.get(&connection.endpoint).map(|endpoint| endpoint.span.enter());
            connection.advance()
        };
        let advanced = advanced.and_then(|wants| {
            if (wants == Wants::Write) == was_writing {
                return Ok(());
            }
            let flags = match wants {
                Wants::Read => epoll::EventFlags::IN,
                Wants::Write => epoll::EventFlags::OUT,
            };
            // A connection that cannot be waited for is lost; the others are not.
            epoll::modify(&self.epoll, &connection.stream, epoll::EventData::new_u64(token), flags)
                .map_err(Gone::Failed)
        });
        if let Err(reason) = advanced {
            self.forget(token, &reason);
        }
    }

    /// Ends a connection. Closing its descriptor takes it out of the epoll set.
    fn forget(&mut self, token: u64, reason: &Gone) {
        let Some(connection) = self.connections.remove(&token) else { return };
        let (id, role) = (connection.endpoint, connection.role());
        let endpoint = self.endpoints.get_mut(&id).map(|endpoint| {
            endpoint.connections = endpoint.connections.saturating_sub(1);
            (endpoint.span.clone(), endpoint.grace.is_some())
        });
        let (span, is_asked_for) = endpoint.unzip();
        let _entered = span.as_ref().map(Span::enter);
        connection.sum_up();
        let client = connection.peer();
        match reason {
            Gone::Closed => debug!(client, ?role, "disconnected"),
            Gone::Failed(errno) => debug!(client, ?role, %errno, "connection lost"),
            Gone::Ended(ending) => warn!(client, ?role, %ending, "connection closed"),
        }
        if role != Some(Role::Vmm) {
            return;
        }
        match is_asked_for {
            // Unplugged before.
            None => debug!("the VMM of a device that was unplugged is gone"),
            Some(false) => {
                info!("the VMM is gone; the device keeps its state");
                self.happened.push_back(ServerEvent::VmmGone(EndpointId(id)));
            }
            Some(true) => {
                info!("the VMM has let the device go");
                self.happened.push_back(ServerEvent::VmmGone(EndpointId(id)));
                drop(connection);
                self.grace_is_over(EndpointId(id));
            }
        }
    }
}

fn setup(step: &'static str) -> impl Fn(Errno) -> BindError {
    move |errno| BindError::System { step, source: errno.into() }
}
