//! Waiting for display changes instead of asking for them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::device::{DISPLAY_EVENTS, DisplayEvents, Watcher};

/// One eventfd per kind of change, which the device signals.
#[derive(Debug)]
pub struct Watch {
    eventfds: Vec<OwnedFd>,
    /// Of a device in this process: it tells as long as this lives. A device behind a socket tells as long as the
    /// connection lives.
    _watcher: Option<Watcher>,
}

impl Watch {
    /// Makes the eventfds, to be given to a device.
    pub(super) fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfds = (0..DISPLAY_EVENTS).map(|_| eventfd(0, flags)).collect::<Result<_, _>>()?;
        Ok(Self { eventfds, _watcher: None })
    }

    /// The eventfds, by the bit of the kind of change that they tell of: for a poll of one's own. They are read by
    /// [`Watch::wait`].
    #[must_use]
    pub fn eventfds(&self) -> &[OwnedFd] {
        &self.eventfds
    }

    pub(super) fn held_by(self, watcher: Watcher) -> Self {
        Self { _watcher: Some(watcher), ..self }
    }

    /// Sleeps until something changes or the time is over, and returns what did since the last call; empty when nothing
    /// did.
    ///
    /// # Errors
    /// What `poll(2)` says.
    pub fn wait(&self, timeout: Duration) -> std::io::Result<DisplayEvents> {
        let mut ready: Vec<PollFd<'_>> =
            self.eventfds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut events = DisplayEvents::empty();
        for (fd, kind) in self.eventfds.iter().zip(DisplayEvents::all().iter()) {
            if rustix::io::read(fd, &mut [0u8; 8]).is_ok() {
                events |= kind;
            }
        }
        Ok(events)
    }
}
