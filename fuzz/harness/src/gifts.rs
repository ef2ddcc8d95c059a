//! Descriptors to give away, and proof that all of them were closed.

use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::pipe::{PipeFlags, pipe_with};

const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// An eventfd to arm interrupts with, and a pipe, which is none. Both tell of a descriptor that is kept without a look at
/// those of the whole process: an epoll set forgets a file when its last descriptor is closed, and a pipe hangs up.
pub(crate) struct Gifts {
    eventfd: OwnedFd,
    epoll: OwnedFd,
    read: OwnedFd,
    write: OwnedFd,
}

impl Gifts {
    pub(crate) fn new() -> Self {
        // It blocks when it is full, as a hostile client would have it.
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let epoll = epoll::create(CreateFlags::CLOEXEC).unwrap();
        epoll::add(&epoll, &eventfd, EventData::new_u64(0), EventFlags::IN).unwrap();
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        Self { eventfd, epoll, read, write }
    }

    /// New descriptors: of the eventfd, but the last of four is of the pipe.
    pub(crate) fn some(&self, count: u8) -> Vec<OwnedFd> {
        let pipe_at = if count == 4 { 3 } else { count };
        (0..count)
            .map(|n| if n == pipe_at { &self.write } else { &self.eventfd })
            .map(|fd| fd.try_clone().unwrap())
            .collect()
    }

    /// Checks that every descriptor that was given away is closed.
    pub(crate) fn check_released(self) {
        drop(self.write);
        let mut ends = [PollFd::new(&self.read, PollFlags::IN)];
        poll(&mut ends, Some(&NOW)).unwrap();
        assert!(ends[0].revents().contains(PollFlags::HUP), "a pipe was kept");
        // Readable if it was not yet: the set has something to say of it for as long as it lives.
        let mut writable = [PollFd::new(&self.eventfd, PollFlags::OUT)];
        if poll(&mut writable, Some(&NOW)).unwrap() == 1 {
            rustix::io::write(&self.eventfd, &1u64.to_ne_bytes()).unwrap();
        }
        drop(self.eventfd);
        let mut events = Vec::with_capacity(1);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&NOW)).unwrap();
        assert!(events.is_empty(), "an eventfd was kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_that_are_closed_are_no_complaint() {
        let gifts = Gifts::new();
        drop(gifts.some(5));
        drop(gifts.some(4));
        gifts.check_released();
    }

    #[test]
    #[should_panic(expected = "an eventfd was kept")]
    fn an_eventfd_that_is_kept_shows() {
        let gifts = Gifts::new();
        let _kept = gifts.some(1);
        gifts.check_released();
    }

    #[test]
    #[should_panic(expected = "a pipe was kept")]
    fn a_pipe_that_is_kept_shows() {
        let gifts = Gifts::new();
        let _kept = gifts.some(4).pop();
        gifts.check_released();
    }
}
