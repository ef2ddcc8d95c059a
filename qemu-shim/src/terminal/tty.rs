//! The terminal itself: ours while we show something, and afterwards as it was.
//!
//! It is opened anew rather than used as stdout: that makes it possible not to wait for it (a terminal behind a slow line
//! takes seconds for a picture, and must still take a `q`), without doing the same to the shell that shares stdout with us.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::termios::{
    OptionalActions, QueueSelector, Termios, Winsize, tcflush, tcgetattr, tcgetwinsize, tcsetattr,
};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM};
use thiserror::Error;

use super::input::{Event, Input};

/// The other screen, no cursor, no new line when the last column is full.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
/// Ends a picture that was cut off.
const END_STRING: &[u8] = b"\x1b\\";
/// Shows at once what was held back, and takes back what [`ENTER`] did.
const LEAVE: &[u8] = b"\x1b[?2026l\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l";
/// How long a terminal that takes nothing is waited for when we go.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a signal may wait to be seen.
const NAP: Duration = Duration::from_millis(100);

/// Why a terminal cannot be used.
#[derive(Debug, Error)]
pub enum TerminalError {
    /// Stdout goes elsewhere.
    #[error("stdout is no terminal: run this in one, or use screendump or record for files")]
    NoTerminal,
    /// It cannot be opened or set up.
    #[error("cannot use the terminal")]
    Io(#[from] io::Error),
}

impl From<Errno> for TerminalError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// What a terminal was, and how to make it that again: once, whoever comes first.
#[derive(Debug)]
struct Restore {
    file: File,
    before: Termios,
    /// What else is to be taken back.
    cleanup: Vec<u8>,
    done: AtomicBool,
}

impl Restore {
    /// Errors are of no interest: the terminal may be gone, and there is nothing else to do.
    fn restore(&self) {
        if self.done.swap(true, Ordering::SeqCst) {
            return;
        }
        let start = Instant::now();
        let farewell = [END_STRING, &self.cleanup, LEAVE].concat();
        let mut rest = farewell.as_slice();
        while !rest.is_empty() && start.elapsed() < FAREWELL {
            match (&self.file).write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = wait(&self.file, PollFlags::OUT, NAP);
                }
                Err(_) => break,
            }
        }
        // Answers that nobody reads any more would be typed at the shell.
        let _ = tcflush(&self.file, QueueSelector::IFlush);
        let _ = tcsetattr(&self.file, OptionalActions::Now, &self.before);
    }
}

/// A terminal in our hands. It is restored when this is dropped, and before the message of a panic.
#[derive(Debug)]
pub struct Terminal {
    restore: Arc<Restore>,
    input: Input,
    events: VecDeque<Event>,
    /// A signal came that ends us, or the terminal is gone.
    stop: Arc<AtomicBool>,
    continued: Arc<AtomicBool>,
}

impl Terminal {
    /// Takes over the terminal that stdout is: raw, and on its alternate screen. `cleanup` is sent before it is left.
    ///
    /// # Errors
    /// [`TerminalError`].
    pub fn open(cleanup: &[u8]) -> Result<Self, TerminalError> {
        if !io::stdout().is_terminal() {
            return Err(TerminalError::NoTerminal);
        }
        let open = |path| {
            let flags = OFlags::NOCTTY | OFlags::NONBLOCK;
            OpenOptions::new().read(true).write(true).custom_flags(flags.bits().cast_signed()).open(path)
        };
        // A terminal of another user (su) cannot be opened by its name, but as the one that controls us.
        let file = open("/proc/self/fd/1").or_else(|_| open("/dev/tty"))?;
        Self::take_over(file, cleanup)
    }

    fn take_over(file: File, cleanup: &[u8]) -> Result<Self, TerminalError> {
        let before = tcgetattr(&file)?;
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let continued = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGCONT, Arc::clone(&continued))?;
        let restore =
            Arc::new(Restore { file, before, cleanup: cleanup.to_owned(), done: AtomicBool::new(false) });
        let on_panic = Arc::clone(&restore);
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            on_panic.restore();
            next(info);
        }));
        let mut terminal =
            Self { restore, input: Input::default(), events: VecDeque::new(), stop, continued };
        terminal.enter()?;
        Ok(terminal)
    }

    fn enter(&mut self) -> Result<(), TerminalError> {
        let mut raw = self.restore.before.clone();
        raw.make_raw();
        tcsetattr(&self.restore.file, OptionalActions::Now, &raw)?;
        self.send(ENTER)
    }

    /// Size in columns and rows, and where the kernel knows it in pixels.
    ///
    /// # Errors
    /// What `TIOCGWINSZ` says.
    pub fn size(&self) -> Result<Winsize, TerminalError> {
        Ok(tcgetwinsize(&self.restore.file)?)
    }

    /// Whether we are to go: by a signal, or because the terminal is gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether we were stopped meanwhile and somebody else had the terminal; it is taken over again, with anything on it.
    ///
    /// # Errors
    /// As [`Terminal::open`].
    pub fn was_away(&mut self) -> Result<bool, TerminalError> {
        let was_away = self.continued.swap(false, Ordering::Relaxed);
        if was_away {
            self.enter()?;
        }
        Ok(was_away)
    }

    /// Sends everything, at the terminal's pace; what is typed meanwhile is kept, and `q` and signals put an end to it.
    ///
    /// # Errors
    /// What `write(2)` says. A terminal that is gone is no error: [`Terminal::is_over`] tells.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<(), TerminalError> {
        while !bytes.is_empty() && !self.is_over() {
            match (&self.restore.file).write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        wait(&self.restore.file, PollFlags::IN | PollFlags::OUT, NAP)?;
                        self.read()?;
                    }
                    io::ErrorKind::Interrupted => {}
                    _ => self.failed(error)?,
                },
            }
        }
        Ok(())
    }

    /// What was typed or answered; waits at most this long for the first.
    ///
    /// # Errors
    /// What `read(2)` says.
    pub fn event(&mut self, timeout: Duration) -> Result<Option<Event>, TerminalError> {
        if self.events.is_empty() {
            wait(&self.restore.file, PollFlags::IN, timeout)?;
            self.read()?;
        }
        Ok(self.events.pop_front())
    }

    /// Reads what there is.
    fn read(&mut self) -> Result<(), TerminalError> {
        let mut bytes = [0; 1024];
        match (&self.restore.file).read(&mut bytes) {
            Ok(0) => self.stop.store(true, Ordering::Relaxed),
            Ok(length) => {
                let (events, stop) = (&mut self.events, &self.stop);
                self.input.feed(bytes.get(..length).unwrap_or_default(), |event| match event {
                    // Seen at once, also while a picture is being sent.
                    Event::Key(b'q' | b'Q' | CTRL_C) => stop.store(true, Ordering::Relaxed),
                    event => events.push_back(event),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.failed(error)?,
        }
        Ok(())
    }

    /// A terminal that was closed is nothing to complain about.
    fn failed(&self, error: io::Error) -> Result<(), TerminalError> {
        if error.raw_os_error() == Some(Errno::IO.raw_os_error()) {
            self.stop.store(true, Ordering::Relaxed);
            return Ok(());
        }
        Err(error.into())
    }
}

/// What the key combination sends on a raw terminal.
const CTRL_C: u8 = 3;

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore.restore();
    }
}

/// Waits until the terminal is ready, or a signal came, or the time is over.
fn wait(file: &File, flags: PollFlags, timeout: Duration) -> Result<(), Errno> {
    let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
    match poll(&mut [PollFd::new(file, flags)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::LocalModes;

    use super::*;

    /// Both ends of a terminal.
    fn pty() -> (File, File) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
        rustix::io::ioctl_fionbio(&slave, true).unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        (master.into(), slave.into())
    }

    fn is_raw(master: &File) -> bool {
        !tcgetattr(master).unwrap().local_modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn shown(mut master: &File) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let length = master.read(&mut bytes).unwrap_or(0);
        bytes.truncate(length);
        bytes
    }

    fn ends_as_it_was(master: &File) {
        assert!(!is_raw(master));
        let mut terminal = vt100::Parser::default();
        terminal.process(ENTER);
        terminal.process(&shown(master));
        assert!(!terminal.screen().alternate_screen() && !terminal.screen().hide_cursor());
    }

    #[test]
    fn what_was_taken_is_given_back() {
        let (master, slave) = pty();
        let terminal = Terminal::take_over(slave, b"CLEANUP").unwrap();
        assert!(is_raw(&master));
        assert_eq!(shown(&master), ENTER);
        drop(terminal);
        ends_as_it_was(&master);
    }

    #[test]
    fn a_panic_gives_it_back_before_it_is_told() {
        let (master, slave) = pty();
        let terminal = Terminal::take_over(slave, b"").unwrap();
        shown(&master);
        let thread = std::thread::spawn(move || {
            let terminal = terminal;
            assert!(!terminal.is_over());
            panic!("on purpose");
        });
        assert!(thread.join().is_err());
        ends_as_it_was(&master);
    }

    /// A terminal that takes nothing: `q` ends it all the same, and soon.
    #[test]
    fn a_stuck_terminal_can_be_left() {
        let (master, slave) = pty();
        let mut terminal = Terminal::take_over(slave, b"").unwrap();
        (&master).write_all(b"\x1b[6;20;10tq").unwrap();
        let start = Instant::now();
        terminal.send(&vec![b'x'; 1 << 20]).unwrap();
        assert!(terminal.is_over());
        assert_eq!(terminal.event(Duration::ZERO).unwrap(), Some(Event::Cell(10, 20)));
        drop(terminal);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(!is_raw(&master));
    }

    #[test]
    fn a_terminal_that_is_closed_ends_it() {
        let (master, slave) = pty();
        let mut terminal = Terminal::take_over(slave, b"").unwrap();
        drop(master);
        assert_eq!(terminal.event(Duration::from_secs(5)).unwrap(), None);
        terminal.send(b"x").unwrap();
        assert!(terminal.is_over());
    }
}
