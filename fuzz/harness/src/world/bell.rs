//! An eventfd that interrupts are delivered to, and proof that nobody has it any more.

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

pub(super) struct Bell {
    eventfd: OwnedFd,
    /// Tells of the eventfd for as long as anybody has it: it can be written at any time.
    epoll: OwnedFd,
}

impl Default for Bell {
    fn default() -> Self {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        epoll::add(&epoll, &eventfd, EventData::new_u64(0), EventFlags::OUT).unwrap();
        Self { eventfd, epoll }
    }
}

impl Bell {
    /// A descriptor to give away.
    pub(super) fn wire(&self) -> OwnedFd {
        self.eventfd.try_clone().unwrap()
    }

    /// How often it rang since the last time.
    pub(super) fn rings(&self) -> u64 {
        let mut count = [0; 8];
        if rustix::io::read(&self.eventfd, &mut count).is_ok() { u64::from_ne_bytes(count) } else { 0 }
    }

    /// Checks that it did not ring, and that whatever was given away is closed.
    pub(super) fn check_cut(self) {
        assert_eq!(self.rings(), 0, "an interrupt without anybody to take it");
        drop(self.eventfd);
        let mut events = Vec::with_capacity(1);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&NOW)).unwrap();
        assert!(events.is_empty(), "the eventfd of an interrupt was kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_counts() {
        let bell = Bell::default();
        assert_eq!(bell.rings(), 0);
        rustix::io::write(bell.wire(), &3u64.to_ne_bytes()).unwrap();
        assert_eq!((bell.rings(), bell.rings()), (3, 0));
        bell.check_cut();
    }

    #[test]
    #[should_panic(expected = "was kept")]
    fn a_wire_that_is_kept_shows() {
        let bell = Bell::default();
        let _kept = bell.wire();
        bell.check_cut();
    }
}
