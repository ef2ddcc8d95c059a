//! Waiting for display changes instead of asking for them.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

use crate::device::{DISPLAY_EVENTS, DisplayEvents, SharedDevice, Watcher};

/// One eventfd per kind of change, which the device signals.
#[derive(Debug)]
pub struct Watch {
    eventfds: Vec<OwnedFd>,
    /// Of a device in this process, which tells as long as this lives. A device behind a socket tells as long as the
    /// connection lives.
    own: Option<Own>,
}

/// A device that nobody may drive while we wait for it: its time to look again is ours to watch.
#[derive(Debug)]
struct Own {
    device: SharedDevice,
    timer: Option<OwnedFd>,
    _watcher: Watcher,
}

impl Watch {
    /// Makes the eventfds, to be given to a device: by [`Backend::watch`](super::Backend::watch), also one of your own.
    ///
    /// # Errors
    /// What `eventfd(2)` says.
    pub fn new() -> std::io::Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let eventfds = (0..DISPLAY_EVENTS).map(|_| eventfd(0, flags)).collect::<Result<_, _>>()?;
        Ok(Self { eventfds, own: None })
    }

    /// The eventfds, by the bit of the kind of change that they tell of: for a poll of one's own. They are read by
    /// [`Watch::wait`]. A change that a device in this process makes by itself, late and without any access, is told by
    /// `wait` only.
    #[must_use]
    pub fn eventfds(&self) -> &[OwnedFd] {
        &self.eventfds
    }

    pub(super) fn of_device(self, device: SharedDevice, watcher: Watcher) -> std::io::Result<Self> {
        let timer = device.lock().change_timer().map(|timer| timer.try_clone_to_owned()).transpose()?;
        Ok(Self { own: Some(Own { device, timer, _watcher: watcher }), ..self })
    }

    /// Sleeps until something changes or the time is over, and returns what did since the last call; empty when nothing
    /// did. Not to be called by who holds the lock of the device.
    ///
    /// # Errors
    /// What `poll(2)` says.
    pub fn wait(&self, timeout: Duration) -> std::io::Result<DisplayEvents> {
        let start = Instant::now();
        loop {
            let is_time_to_look = self.sleep(timeout.saturating_sub(start.elapsed()))?;
            if is_time_to_look && let Some(own) = &self.own {
                own.device.lock().look_again();
            }
            let events = self.take();
            if !events.is_empty() || !is_time_to_look || start.elapsed() >= timeout {
                return Ok(events);
            }
        }
    }

    /// Sleeps until there is something to read, and returns whether the device's timer has expired.
    fn sleep(&self, timeout: Duration) -> std::io::Result<bool> {
        let timer = self.own.as_ref().and_then(|own| own.timer.as_ref());
        let all = timer.into_iter().chain(&self.eventfds);
        let mut ready: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        match poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let first_is_ready = ready.first().is_some_and(|fd| fd.revents().contains(PollFlags::IN));
        Ok(timer.is_some() && first_is_ready)
    }

    fn take(&self) -> DisplayEvents {
        let mut events = DisplayEvents::empty();
        for (fd, kind) in self.eventfds.iter().zip(DisplayEvents::all().iter()) {
            if rustix::io::read(fd, &mut [0u8; 8]).is_ok() {
                events |= kind;
            }
        }
        events
    }
}
