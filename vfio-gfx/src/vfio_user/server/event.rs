//! What a server tells its owner, and how its owner stops it.

use std::os::fd::OwnedFd;

#[cfg(doc)]
use super::Server;

/// How long [`Server::run`] serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until its [`Stopper`] says so.
    Stopped,
    /// Also when a VMM that attached has gone.
    VmmGone,
}

/// What [`Server::next_event`] returns for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A [`Stopper`] said so.
    Stopped,
    /// The VMM of this device has gone.
    VmmGone(EndpointId),
    /// A device is gone that its VMM was asked for ([`Server::request_release`]).
    Removed(EndpointId),
    /// A descriptor given to [`Server::watch`] is readable. It is told again until somebody reads it.
    Readable(WatchId),
}

/// A device and its socket in a server; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointId(pub(super) u64);

/// A descriptor of the caller's that a server waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(pub(super) u64);

/// Ends a server from another thread or a signal handler's thread.
#[derive(Debug)]
pub struct Stopper(pub(super) OwnedFd);

impl Stopper {
    /// Makes [`Server::run`] return soon.
    pub fn stop(&self) {
        // A full counter (EAGAIN) already says stop.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }
}
