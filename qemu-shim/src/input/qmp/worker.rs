//! The thread that owns the socket to QEMU.
//!
//! It sleeps in `poll` until QEMU says something, has room for more, or there is new input.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::session::Session;
use super::{InputError, RETRY, Shared};

/// How long QEMU may take to greet and to agree. It does so at once unless it talks to someone else.
const GREETING: Duration = Duration::from_secs(5);

/// How long what is left in the queue may take at the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// Reads in a row, at most.
const READS: usize = 16;

/// Why a connection ended.
enum End {
    /// Its owner wants no more.
    Stopped,
    /// This was wrong.
    Lost(String),
}

/// Connects, talks, and does so again, until the owner stops it.
pub(super) fn run(shared: &Shared) {
    loop {
        let end = match dial(shared) {
            Ok(socket) => Connection::new(shared, socket).talk(),
            Err(error) => End::Lost(error.to_string()),
        };
        let End::Lost(reason) = end else { return };
        shared.lock().disconnect(InputError::Disconnected { path: shared.path.clone(), reason });
        if pause(shared) {
            return;
        }
    }
}

/// Connects without waiting: where others wait already, there is no room for us either.
fn dial(shared: &Shared) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(&shared.path)?) {
        Ok(()) => Ok(socket.into()),
        Err(Errno::AGAIN) => Err(io::Error::other("others wait for this socket already")),
        Err(error) => Err(error.into()),
    }
}

/// Waits before the next attempt; says whether to stop instead.
fn pause(shared: &Shared) -> bool {
    let end = Instant::now() + RETRY;
    while !shared.lock().stop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        wait(&mut [PollFd::new(&shared.wake, PollFlags::IN)], Some(left));
        calm(shared);
    }
    true
}

/// Sleeps until something happens; an error is found by who reads.
fn wait(fds: &mut [PollFd<'_>], limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    let _ = poll(fds, limit.as_ref());
}

/// Takes the wake-up call, so that the next sleep is one.
fn calm(shared: &Shared) {
    let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
}

struct Connection<'a> {
    shared: &'a Shared,
    socket: UnixStream,
    session: Session,
    /// What QEMU has not taken yet: a command or less.
    out: Vec<u8>,
    /// When it has to be agreed upon, or over.
    deadline: Option<Instant>,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, socket: UnixStream) -> Self {
        let deadline = Some(Instant::now() + GREETING);
        Self { shared, socket, session: Session::new(), out: Vec::new(), deadline }
    }

    fn talk(&mut self) -> End {
        loop {
            match self.step() {
                Ok(true) => self.sleep(),
                Ok(false) => return End::Stopped,
                Err(reason) => return End::Lost(reason),
            }
        }
    }

    /// Reads, thinks and writes as far as that goes without waiting; false when all is done.
    fn step(&mut self) -> Result<bool, String> {
        calm(self.shared);
        self.read()?;
        let stop = self.shared.lock().stop;
        while self.session.is_idle() && self.out.is_empty() {
            let Some(event) = self.shared.lock().queue.pop() else { break };
            self.out = self.session.command(event);
        }
        self.write()?;
        let now = Instant::now();
        if stop {
            let deadline = *self.deadline.get_or_insert(now + FAREWELL);
            return Ok(self.session.is_open() && self.is_busy() && now < deadline);
        }
        match self.deadline {
            Some(deadline) if now >= deadline => Err(format!(
                "expected QEMU's greeting within {} s, found silence: a QMP socket serves one client at a time, give QEMU a second -qmp",
                GREETING.as_secs()
            )),
            _ => Ok(true),
        }
    }

    fn is_busy(&self) -> bool {
        !self.session.is_idle() || !self.out.is_empty()
    }

    fn read(&mut self) -> Result<(), String> {
        let mut bytes = [0; 4096];
        // A QEMU that never stops talking must not keep us from the rest.
        for _ in 0..READS {
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err("QEMU closed the connection".to_owned()),
                Ok(count) => self.hear(bytes.get(..count).unwrap_or_default())?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    fn hear(&mut self, bytes: &[u8]) -> Result<(), String> {
        let was_open = self.session.is_open();
        let refusal = self.session.feed(bytes, &mut self.out).map_err(|error| error.to_string())?;
        if self.session.is_open() && !was_open {
            self.deadline = None;
            self.shared.lock().connect();
        }
        if let Some(reason) = refusal {
            let path = self.shared.path.clone();
            self.shared.lock().report(InputError::Refused { path, reason });
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), String> {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    fn sleep(&self) {
        let room = if self.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds =
            [PollFd::new(&self.socket, PollFlags::IN | room), PollFd::new(&self.shared.wake, PollFlags::IN)];
        wait(&mut fds, self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())));
    }
}
