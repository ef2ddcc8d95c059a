//! Devices that go, and come back.
//!
//! A console outlives its device: viewers stay connected, and see why there is nothing to see. A device at the same place
//! is another device, whatever it is called: nothing that was known of the old one (memory, buffer ids, how it tells of changes)
//! is kept.

use std::time::{Duration, Instant};

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::display::Display;

use super::complaint::Complaint;
use super::placeholder::Reason;
use super::sprite::Sprite;
use super::{Console, ConsoleError};

/// A device that is gone is looked for no more often.
const BETWEEN: Duration = Duration::from_millis(500);

/// What a console shows, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A placeholder: nobody has looked yet.
    Waiting,
    /// The guest's picture.
    Live,
    /// A placeholder: the guest has turned its screen off.
    Off,
    /// A placeholder: the device says what cannot be.
    Broken,
    /// A placeholder: the device is gone.
    Unplugged,
}

/// How to get a device again that is gone.
#[derive(Default)]
pub(super) struct Plug {
    open: Option<Box<dyn FnMut() -> Option<Display> + Send>>,
    /// It is of no use to ask the device that there was.
    is_lost: bool,
    /// When another was last looked for.
    tried: Option<Instant>,
}

impl std::fmt::Debug for Plug {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plug").field("is_lost", &self.is_lost).finish_non_exhaustive()
    }
}

impl Plug {
    /// Whether a device that is gone may come back.
    pub(super) fn is_waiting(&self) -> bool {
        self.open.is_some()
    }

    /// Takes note of what a look found, and returns whether the device is lost.
    pub(super) fn saw(&mut self, error: Option<&ConsoleError>) -> bool {
        self.is_lost = error.is_some_and(ConsoleError::is_lost);
        self.is_lost
    }
}

impl Console {
    /// What the last refresh found.
    #[must_use]
    pub fn state(&self) -> State {
        match self.placeholder.reason() {
            None => State::Live,
            Some(Reason::NotYet) => State::Waiting,
            Some(Reason::Off) => State::Off,
            Some(Reason::Broken) => State::Broken,
            Some(Reason::Gone) => State::Unplugged,
        }
    }

    /// Waits for a device that is gone to come back: every refresh then calls `open`, twice a second at most, until it has one.
    /// Without this a console on a device that is gone stays so, until [`Console::replug`].
    pub fn reopen_with(&mut self, open: impl FnMut() -> Option<Display> + Send + 'static) {
        self.plug.open = Some(Box::new(open));
    }

    /// Looks at another device from now on. Listeners stay, a [`DamageSource`](super::DamageSource) does not.
    pub fn replug(&mut self, display: Display) {
        self.display = display;
        self.pace.unplug();
        self.primary.unplug();
        self.overlay = Sprite::new(PlaneKind::Overlay);
        self.cursor = Sprite::new(PlaneKind::Cursor);
        self.complaint = Complaint::default();
        self.plug.is_lost = false;
    }

    /// Gets the device again if it was lost.
    pub(super) fn find_device(&mut self) -> Result<(), ConsoleError> {
        let (true, Some(open)) = (self.plug.is_lost, &mut self.plug.open) else {
            return Ok(());
        };
        let now = Instant::now();
        let is_due = self.plug.tried.is_none_or(|tried| now.duration_since(tried) >= BETWEEN);
        let display = if is_due { open() } else { None };
        if is_due {
            // However long it took.
            self.plug.tried = Some(Instant::now());
        }
        let display = display.ok_or(ConsoleError::Unplugged)?;
        tracing::info!("the device is back");
        self.replug(display);
        Ok(())
    }
}
