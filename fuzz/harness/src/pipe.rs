//! Descriptors to give away, and proof that all of them were closed.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// A pipe whose write ends stand in for eventfds. Reading from it ends only when the last of them is closed, which
/// tells of a leak without looking at the descriptors of the whole process.
pub(crate) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        // Nobody reads it: a full pipe must say so instead of blocking.
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        Self { read, write }
    }

    /// New descriptors.
    pub(crate) fn ends(&self, count: u8) -> Vec<OwnedFd> {
        (0..count).map(|_| self.write.try_clone().unwrap()).collect()
    }

    /// Checks that every descriptor that was given away is closed.
    pub(crate) fn check_released(self) {
        drop(self.write);
        let mut ends = [PollFd::new(&self.read, PollFlags::IN)];
        poll(&mut ends, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap();
        assert!(ends[0].revents().contains(PollFlags::HUP), "a descriptor was kept");
    }
}
