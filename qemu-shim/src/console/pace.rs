//! When it is worth looking again.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use vfio_gfx::device::DisplayEvents;
use vfio_gfx::display::{Display, DisplayError, Watch};

use super::{Console, ConsoleError, Refresh};

/// Twice in a frame at 60 Hz.
pub const SHORTEST_PAUSE: Duration = Duration::from_millis(8);
/// What nobody who watches should wait longer for.
pub const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// Looks without news before the pauses grow: a quarter of a second.
const CALM: u32 = 32;

/// How long to wait before the next look when this many in a row found nothing new: from twice per frame at 60 Hz to ten
/// times a second.
#[must_use]
pub fn pause(idle: u32) -> Duration {
    SHORTEST_PAUSE.saturating_mul(1 << idle.saturating_sub(CALM).min(8)).min(LONGEST_PAUSE)
}

/// What a console knows about when its device changes.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Once asked for: how the device tells of changes, if it does.
    watch: Option<Option<Watch>>,
    /// Changes told while a picture was read; whoever waits next is told of them.
    events: DisplayEvents,
    idle: u32,
}

impl Pace {
    /// Asks the device to tell of changes, once.
    pub(super) fn start(&mut self, display: &mut Display) -> Result<(), DisplayError> {
        if self.watch.is_none() {
            self.watch = Some(display.backend().watch()?);
        }
        Ok(())
    }

    /// The device is gone: what it told last would be told for ever.
    pub(super) fn unplug(&mut self) {
        self.watch = None;
        self.events = DisplayEvents::empty();
    }

    fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref().and_then(Option::as_ref)
    }

    /// Whether the device tells of changes.
    pub(super) fn is_told(&self) -> bool {
        self.watch().is_some()
    }

    /// What was told up to now is what will be seen.
    pub(super) fn begin_read(&mut self) -> Result<(), DisplayError> {
        if let Some(watch) = self.watch() {
            watch.wait(Duration::ZERO)?;
        }
        self.events = DisplayEvents::empty();
        Ok(())
    }

    /// Whether the device told of another picture since the read began.
    pub(super) fn flipped(&mut self) -> Result<bool, DisplayError> {
        if let Some(watch) = self.watch.as_ref().and_then(Option::as_ref) {
            self.events |= watch.wait(Duration::ZERO)?;
        }
        let another = DisplayEvents::MODE_SET | DisplayEvents::FLIP | DisplayEvents::PLANE_OFF;
        Ok(self.events.intersects(another))
    }

    /// Counts looks without news.
    pub(super) fn saw(&mut self, result: &Result<Refresh, ConsoleError>) {
        match result {
            Ok(Refresh::Changed | Refresh::Torn) => self.idle = 0,
            Ok(Refresh::Same | Refresh::Off) | Err(_) => self.idle = self.idle.saturating_add(1),
        }
    }
}

impl Console {
    /// How long to wait before looking again, unless one of [`Console::events`] says so earlier. `ZERO` when something
    /// changed while the last look was taken.
    #[must_use]
    pub fn pause(&self) -> Duration {
        if self.pace.events.is_empty() { pause(self.pace.idle) } else { Duration::ZERO }
    }

    /// Descriptors that become readable when the device tells of a change; empty where it cannot, or was not looked at yet.
    pub fn events(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.pace.watch().into_iter().flat_map(Watch::eventfds).map(AsFd::as_fd)
    }

    /// Looks come fast again: somebody began to watch, or did something that the guest may answer.
    pub fn wake(&mut self) {
        self.pace.idle = 0;
    }

    /// Sleeps until it is worth looking again, as the looks so far suggest.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn rest(&mut self) -> Result<(), ConsoleError> {
        self.sleep(self.pause())
    }

    /// Sleeps until it is worth looking again: until the device tells of a change, where it does that; else, and for
    /// pixels that a guest draws without telling, a little while that grows as long as nothing changes. `idle` is how many
    /// looks in a row found nothing new.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn wait(&mut self, idle: u32) -> Result<(), ConsoleError> {
        self.pace.start(&mut self.display)?;
        self.sleep(if self.pace.events.is_empty() { pause(idle) } else { Duration::ZERO })
    }

    fn sleep(&mut self, pause: Duration) -> Result<(), ConsoleError> {
        match self.pace.watch() {
            Some(watch) => drop(watch.wait(pause).map_err(DisplayError::from)?),
            None => std::thread::sleep(pause),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fast_after_news_and_never_slower_than_ten_times_a_second() {
        assert_eq!(pause(0), SHORTEST_PAUSE);
        assert_eq!(pause(CALM), SHORTEST_PAUSE);
        assert!(pause(CALM + 2) > pause(CALM + 1));
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
