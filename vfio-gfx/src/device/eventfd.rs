//! Eventfds that somebody else gave us, signalled without ever waiting for them.
//!
//! A write to an eventfd whose counter is full blocks, unless its owner made the description non-blocking, and who owns it may
//! undo that, or fill the counter, at any moment: no test before a `write(2)` helps, and `RWF_NOWAIT` is `EOPNOTSUPP` on
//! an eventfd. The kernel itself signals with `eventfd_signal()`, which takes a spinlock, saturates and returns. Linux's
//! asynchronous I/O reaches that very function: an operation that completes signals the eventfd named in `aio_resfd`
//! (`include/uapi/linux/aio_abi.h`). So a signal here is an operation that is complete as soon as it is submitted: a poll of
//! a descriptor of our own that is always readable. Nothing in it waits for the eventfd's owner.
//!
//! Where the host lets us have no asynchronous I/O (a seccomp filter, `fs.aio-max-nr` used up) a poll and a write take its
//! place; only there can a client that fills its counter between the two hold the device up.
#![expect(unsafe_code, reason = "system calls of asynchronous I/O, which no safe wrapper offers")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use tracing::warn;

use crate::memory::fdinfo;

/// Whether a descriptor is an eventfd. The kernel takes no other for an interrupt (`eventfd_ctx_fdget`, which finds
/// `EINVAL`), and says what it is in fdinfo (fs/eventfd.c, `eventfd_show_fdinfo`).
pub(super) fn is_eventfd(fd: &OwnedFd) -> bool {
    fdinfo::says(fd, "eventfd-count:")
}

/// Adds 1 to the counter of an eventfd that somebody else gave us; one that is full stays so, it already says what we would.
pub(super) fn signal(eventfd: &OwnedFd) {
    if SIGNALLER.lock().unwrap_or_else(PoisonError::into_inner).signal(eventfd).is_none() {
        write_if_there_is_room(eventfd);
    }
}

/// Not proof against an owner who fills the counter in between.
fn write_if_there_is_room(fd: &OwnedFd) {
    let mut writable = [PollFd::new(fd, PollFlags::OUT)];
    if poll(&mut writable, Some(&Timespec::default())) == Ok(1) {
        let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
    }
}

/// One for the process: a context costs locked memory and is slow to take down, a signal holds it for a microsecond.
static SIGNALLER: Mutex<Signaller> = Mutex::new(Signaller { context: None, refused: false });

#[derive(Debug)]
struct Signaller {
    context: Option<Context>,
    /// The host said no: not asked again.
    refused: bool,
}

impl Signaller {
    /// `None` when there is no asynchronous I/O.
    fn signal(&mut self, fd: &OwnedFd) -> Option<()> {
        if let Some(context) = &self.context
            && context.signal(fd).is_ok()
        {
            return Some(());
        }
        // None yet, or this process is a child: contexts are not inherited.
        self.context = None;
        if self.refused {
            return None;
        }
        match Context::new() {
            Ok(context) => self.context.insert(context).signal(fd).ok(),
            Err(error) => {
                self.refused = true;
                warn!(%error, "no asynchronous I/O: a hostile client could hold up interrupts");
                None
            }
        }
    }
}

/// `struct iocb` (`include/uapi/linux/aio_abi.h`), 64 bytes.
#[repr(C)]
#[derive(Default)]
struct Iocb {
    data: u64,
    /// `aio_key`, which the kernel writes, and `aio_rw_flags`, in an order that depends on the machine's.
    key_and_rw_flags: [u32; 2],
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

const _: () = assert!(size_of::<Iocb>() == 64);

/// `IOCB_CMD_POLL`
const POLL: u16 = 5;
/// `POLLIN` (`include/uapi/asm-generic/poll.h`), of a type that does not depend on how rustix calls the kernel.
const READABLE: u64 = 1;
/// `IOCB_FLAG_RESFD`
const FLAG_EVENTFD: u32 = 1;
/// Bytes of `struct io_event`, as 64-bit words.
const EVENT_WORDS: usize = 4;

/// An asynchronous I/O context.
#[derive(Debug)]
struct Context {
    /// `aio_context_t`
    id: libc::c_ulong,
    /// An eventfd of our own that is always readable.
    ready: OwnedFd,
}

impl Context {
    fn new() -> std::io::Result<Self> {
        let ready = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let mut id: libc::c_ulong = 0;
        // SAFETY: io_setup writes one aio_context_t, an unsigned long, to the pointer.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, 1, &raw mut id) };
        if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(Self { id, ready }) }
    }

    fn signal(&self, fd: &OwnedFd) -> std::io::Result<()> {
        let number = |fd: &OwnedFd| fd.as_raw_fd().cast_unsigned();
        let mut operation = Iocb {
            opcode: POLL,
            fd: number(&self.ready),
            buffer: READABLE,
            flags: FLAG_EVENTFD,
            eventfd: number(fd),
            ..Iocb::default()
        };
        let list = [&raw mut operation];
        // SAFETY: io_submit reads one pointer from the list, and reads and writes the 64 bytes of the struct at it. Both
        // outlive the call; nothing refers to them after it, because a poll keeps no pointer into our memory.
        let submitted =
            unsafe { libc::syscall(libc::SYS_io_submit, self.id, libc::c_long::from(1u8), list.as_ptr()) };
        if submitted < 1 {
            return Err(std::io::Error::last_os_error());
        }
        // The completion is there already; taking it makes room for the next.
        let mut event = [0u64; EVENT_WORDS];
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: io_getevents writes at most one io_event, 32 bytes, which is what `event` has, and reads the time-out.
        unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.id,
                libc::c_long::from(0u8),
                libc::c_long::from(1u8),
                event.as_mut_ptr(),
                &raw const now,
            )
        };
        Ok(())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: io_destroy takes a number; one that is no context of this process is EINVAL.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    fn blocking() -> OwnedFd {
        eventfd(0, EventfdFlags::CLOEXEC).unwrap()
    }

    fn count(fd: &OwnedFd) -> u64 {
        let mut bytes = [0; 8];
        rustix::io::read(fd, &mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    }

    #[test]
    fn signals_add_up_and_more_of_them_than_a_context_has_room_for() {
        let fd = blocking();
        for _ in 0..10_000 {
            signal(&fd);
        }
        assert_eq!(count(&fd), 10_000);
    }

    #[test]
    fn a_full_counter_takes_it_as_from_the_kernel() {
        let fd = blocking();
        rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        signal(&fd);
        signal(&fd);
        // `eventfd_signal()` reaches a value that no write(2) does: no write was made that could have blocked.
        assert_eq!(count(&fd), u64::MAX);
    }

    #[test]
    fn nothing_else_passes_for_an_eventfd() {
        let (socket, other) = UnixStream::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        assert!(is_eventfd(&blocking()));
        for fd in [socket.into(), other.into(), read, write, epoll, tempfile::tempfile().unwrap().into()] {
            assert!(!is_eventfd(&fd), "{fd:?}");
        }
    }

    #[test]
    fn without_a_context_a_signal_still_arrives_and_a_full_counter_is_left_alone() {
        let fd = blocking();
        write_if_there_is_room(&fd);
        assert_eq!(count(&fd), 1);
        rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        let (done, finished) = mpsc::channel();
        std::thread::spawn(move || {
            write_if_there_is_room(&fd);
            done.send(()).unwrap();
        });
        finished.recv_timeout(Duration::from_secs(10)).unwrap();
    }

    #[test]
    fn a_context_that_is_gone_is_made_anew() {
        let fd = blocking();
        let mut signaller = Signaller { context: None, refused: false };
        signaller.signal(&fd).unwrap();
        // As in the child of a fork: the number is left, the context is not.
        let gone = signaller.context.as_ref().unwrap().id;
        // SAFETY: io_destroy takes a number, and this context is ours.
        assert_eq!(unsafe { libc::syscall(libc::SYS_io_destroy, gone) }, 0);
        signaller.signal(&fd).unwrap();
        assert_eq!(count(&fd), 2);
        signaller.refused = true;
        signaller.context = None;
        assert!(signaller.signal(&fd).is_none());
    }
}
