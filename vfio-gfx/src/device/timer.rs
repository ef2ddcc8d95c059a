//! Times at which a device has something to do without any access, as a descriptor that an event loop can wait for.
//!
//! Each has a timer of its own; a set of the kernel's makes one descriptor of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Not earlier, lest a model whose clock is coarser than ours is asked over and over. A timer of 0 would never expire.
const SHORTEST: Duration = Duration::from_millis(1);

const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// The timers of a device.
#[derive(Debug)]
pub(super) struct Timers {
    /// Readable while one of them has expired.
    set: OwnedFd,
    /// A plane changes by itself.
    pub(super) change: Timer,
    /// A flip has taken too long.
    pub(super) flip: Timer,
}

impl Timers {
    pub(super) fn new() -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (change, flip) = (Timer::new()?, Timer::new()?);
        for timer in [&change, &flip] {
            epoll::add(&set, &timer.fd, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        }
        Ok(Self { set, change, flip })
    }
}

impl AsFd for Timers {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}

/// Expires once, and is readable from then until it is stopped.
#[derive(Debug)]
pub(super) struct Timer {
    fd: OwnedFd,
    running: bool,
}

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { fd: timerfd_create(TimerfdClockId::Monotonic, flags)?, running: false })
    }

    /// Whether it was started and not stopped; it may have expired.
    pub(super) fn is_running(&self) -> bool {
        self.running
    }

    pub(super) fn start(&mut self, time: Duration) {
        // What no clock of the kernel can say is never.
        if let Ok(time) = Timespec::try_from(time.max(SHORTEST)) {
            self.running = self.set(time).is_ok();
        }
    }

    pub(super) fn stop(&mut self) {
        // Setting it takes back an expiry that nobody has read.
        if self.set(NEVER).is_ok() {
            self.running = false;
        }
    }

    fn set(&self, time: Timespec) -> io::Result<()> {
        let once = Itimerspec { it_interval: NEVER, it_value: time };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn expires(timers: &Timers, within: Duration) -> bool {
        let within = Timespec::try_from(within).unwrap();
        poll(&mut [PollFd::new(timers, PollFlags::IN)], Some(&within)) == Ok(1)
    }

    #[test]
    fn each_expires_until_it_is_stopped() {
        let mut timers = Timers::new().unwrap();
        assert!(!expires(&timers, Duration::ZERO));
        let whichever: [fn(&mut Timers) -> &mut Timer; 2] =
            [|timers| &mut timers.change, |timers| &mut timers.flip];
        for which in whichever {
            for time in [Duration::ZERO, Duration::from_millis(20)] {
                which(&mut timers).start(time);
                assert!(which(&mut timers).is_running() && expires(&timers, Duration::from_secs(5)));
                which(&mut timers).stop();
                assert!(!which(&mut timers).is_running() && !expires(&timers, Duration::ZERO));
            }
            which(&mut timers).start(Duration::MAX);
            assert!(!expires(&timers, Duration::ZERO));
        }
    }

    #[test]
    fn one_does_not_put_the_other_off() {
        let mut timers = Timers::new().unwrap();
        timers.flip.start(Duration::from_millis(20));
        timers.change.start(Duration::from_secs(3600));
        timers.change.stop();
        assert!(timers.flip.is_running() && expires(&timers, Duration::from_secs(5)));
    }
}
