//! Input into a guest of QEMU, through its monitor: `--input qmp:PATH`.
//!
//! PATH is a QMP socket, as of `-qmp unix:PATH,server=on,wait=off`. QEMU serves one client at a time on each: where a
//! management program has one, give QEMU a second `-qmp` for the console. For the pointer QEMU needs a device that takes
//! absolute positions (`-device usb-tablet` or `virtio-tablet`); without one it refuses and only keys arrive.
//!
//! The socket belongs to a thread, so that nobody waits for QEMU: what is to happen is put in a bounded queue. When
//! QEMU goes, the thread tries again every [`RETRY`] until it is back; what is done meanwhile is lost, except that everything
//! held comes up.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use super::keyboard::Keyboard;
use super::mouse::Mouse;
use super::queue::{Event, Queue};
use super::{InputError, InputSink, Key, Pointer};

mod session;
#[expect(clippy::arithmetic_side_effects, reason = "shell: times from now on, counts of its own")]
mod worker;

/// The pause between two attempts to connect.
pub const RETRY: Duration = Duration::from_secs(1);

/// The monitor of a QEMU.
#[derive(Debug)]
pub struct Qmp {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

/// What the sink and its thread share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    /// An eventfd: there is something new in the state.
    wake: OwnedFd,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    keyboard: Keyboard,
    mouse: Mouse,
    connected: bool,
    stop: bool,
    /// What the next call tells.
    problem: Option<InputError>,
    /// What was told last, not to be told again.
    told: Option<InputError>,
    /// That the queue is full was told, and it still is.
    full: bool,
}

impl Qmp {
    /// Starts talking to the QEMU whose QMP socket is at `path`, which need not be there yet.
    ///
    /// # Errors
    /// Whatever keeps a thread or an eventfd from being made.
    pub fn start(path: PathBuf) -> io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let shared = Arc::new(Shared { path, state: Mutex::default(), wake });
        let worker = std::thread::Builder::new().name("input-qmp".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || worker::run(&shared)
        })?;
        Ok(Self { shared, worker: Some(worker) })
    }

    /// Whether QEMU takes input now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.lock().connected
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the thread look at the state.
    fn wake(&self) {
        // It fails only when it is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Puts events that belong together into the queue, wakes the thread, and tells what is wrong.
    fn submit(&self, mut state: MutexGuard<'_, State>, events: &[Event]) -> Result<(), InputError> {
        if state.connected && !events.is_empty() {
            if state.queue.push(events) {
                state.full = false;
                state.record(events);
                self.wake();
            } else if !state.full {
                state.full = true;
                let waiting = state.queue.len();
                return Err(InputError::Full { path: self.path.clone(), waiting });
            }
        }
        state.problem.take().map_or(Ok(()), Err)
    }
}

impl State {
    fn record(&mut self, events: &[Event]) {
        for event in events {
            match event {
                Event::Stroke(stroke) => self.keyboard.record(&[*stroke]),
                Event::Motion(motion) => self.mouse.record(*motion),
            }
        }
    }

    /// What lets go of everything that is held.
    fn releases(&self) -> Vec<Event> {
        let keys = self.keyboard.releases().into_iter().map(Event::Stroke);
        keys.chain(self.mouse.release().map(Event::Motion)).collect()
    }

    /// Something is wrong: the next call tells it, once.
    fn report(&mut self, problem: InputError) {
        if self.told.as_ref() != Some(&problem) {
            self.told = Some(problem.clone());
            self.problem = Some(problem);
        }
    }

    /// The connection is there.
    fn connect(&mut self) {
        self.connected = true;
        self.problem = None;
        self.told = None;
    }

    /// The connection is gone: what was held then is let go of when it is back.
    fn disconnect(&mut self, problem: InputError) {
        self.report(problem);
        if self.connected {
            self.connected = false;
            let releases = self.releases();
            self.queue.clear();
            self.queue.push(&releases);
            self.record(&releases);
        }
    }
}

impl InputSink for Qmp {
    fn key(&mut self, key: Key, down: bool) -> Result<(), InputError> {
        let state = self.shared.lock();
        let events: Vec<_> = state.keyboard.strokes(key, down).into_iter().map(Event::Stroke).collect();
        self.shared.submit(state, &events)
    }

    fn pointer(&mut self, pointer: Pointer) -> Result<(), InputError> {
        let state = self.shared.lock();
        let event = state.mouse.motion(pointer).map(Event::Motion);
        self.shared.submit(state, event.as_slice())
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        let state = self.shared.lock();
        let events = state.releases();
        // What cannot be let go of now is not ours to worry about any more.
        let _ = self.shared.submit(state, &events);
        self.shared.lock().stop = true;
        self.shared.wake();
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests;
