//! The time at which a plane changes without any access, as a descriptor that an event loop can wait for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Not earlier, lest a model whose clock is coarser than ours is asked over and over. A timer of 0 would never expire.
const SHORTEST: Duration = Duration::from_millis(1);

const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Expires once, and is readable from then until it is stopped.
#[derive(Debug)]
pub(super) struct ChangeTimer {
    fd: OwnedFd,
    running: bool,
}

impl ChangeTimer {
    pub(super) fn new() -> io::Result<Self> {
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

impl AsFd for ChangeTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn expires(timer: &ChangeTimer, within: Duration) -> bool {
        let within = Timespec::try_from(within).unwrap();
        poll(&mut [PollFd::new(timer, PollFlags::IN)], Some(&within)) == Ok(1)
    }

    #[test]
    fn it_expires_until_it_is_stopped() {
        let mut timer = ChangeTimer::new().unwrap();
        assert!(!expires(&timer, Duration::ZERO));
        for time in [Duration::ZERO, Duration::from_millis(20)] {
            timer.start(time);
            assert!(timer.is_running() && expires(&timer, Duration::from_secs(5)));
            timer.stop();
            assert!(!timer.is_running() && !expires(&timer, Duration::ZERO));
        }
        timer.start(Duration::MAX);
        assert!(!expires(&timer, Duration::ZERO));
    }
}
