//! Listeners: those who are told what changed, instead of asking.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Console, ConsoleError, Refresh, Update};

/// Somebody who shows, stores or sends what a device shows.
pub trait Listener: Send {
    /// Whether it draws the cursor itself: it is then given the picture without.
    fn draws_cursor(&self) -> bool {
        false
    }

    /// Something changed. The first call says that all of the picture did.
    fn update(&mut self, update: &Update<'_>);
}

/// Names a listener of one console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerId(u64);

struct Entry {
    id: ListenerId,
    /// Has been told nothing yet.
    is_new: bool,
    listener: Box<dyn Listener>,
}

/// Everybody who listens.
#[derive(Default)]
pub(super) struct Listeners {
    entries: Vec<Entry>,
    next: u64,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").field("count", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Console {
    /// Adds a listener.
    pub fn add_listener(&mut self, listener: Box<dyn Listener>) -> ListenerId {
        let id = ListenerId(self.listeners.next);
        self.listeners.next += 1;
        self.listeners.entries.push(Entry { id, is_new: true, listener });
        id
    }

    /// Takes a listener back; `None` if it is not one of this console's.
    pub fn remove_listener(&mut self, id: ListenerId) -> Option<Box<dyn Listener>> {
        let at = self.listeners.entries.iter().position(|entry| entry.id == id)?;
        Some(self.listeners.entries.remove(at).listener)
    }

    /// Looks once, for all listeners together, and tells them what changed. Nothing is looked at for nobody. What is wrong
    /// with the device goes to the log, once, and the listeners are shown why there is no picture.
    ///
    /// # Errors
    /// [`ConsoleError`] when the device is gone for good; the listeners have been told. One that is waited for
    /// ([`Console::reopen_with`]) is not.
    pub fn tick(&mut self) -> Result<(), ConsoleError> {
        if self.listeners.entries.is_empty() {
            return self.stop_pacing();
        }
        let result = self.refresh();
        if let Err(error) = &result {
            self.complain(error);
        }
        if !matches!(result, Ok(Refresh::Torn)) {
            let mut listeners = std::mem::take(&mut self.listeners.entries);
            for entry in &mut listeners {
                let update = self.update(entry.listener.draws_cursor());
                if entry.is_new {
                    let mut everything = update.damage.clone();
                    everything.add_all();
                    let changed = update.cursor.is_some();
                    entry.listener.update(&Update {
                        damage: &everything,
                        resized: true,
                        cursor_changed: changed,
                        cursor_moved: changed,
                        ..update
                    });
                    entry.is_new = false;
                } else if !update.is_empty() {
                    entry.listener.update(&update);
                }
            }
            self.listeners.entries = listeners;
        }
        match result {
            Err(error) if error.is_gone() && !self.plug.is_waiting() => Err(error),
            _ => Ok(()),
        }
    }

    /// Looks and tells, again and again, as fast as there is news and ten times a second otherwise, until `stop`.
    ///
    /// # Errors
    /// As [`Console::tick`].
    pub fn run(&mut self, stop: &AtomicBool) -> Result<(), ConsoleError> {
        self.pace_flips();
        while !stop.load(Ordering::Relaxed) {
            self.tick()?;
            self.rest()?;
        }
        self.stop_pacing()
    }
}
