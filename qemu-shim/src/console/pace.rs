//! When it is worth looking again, and flips that wait for us to look.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use vfio_gfx::device::{DisplayEvents, Link};
use vfio_gfx::display::{Display, DisplayError, Pace as Say, Watch};

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
    /// Whether flips are to wait for this console, and whether they do.
    wanted: bool,
    joined: Joined,
    /// The flip whose frame is about to be taken.
    taking: Option<u64>,
    /// Something was told since the last look.
    is_news: bool,
    /// A plane went off since the last look.
    is_off: bool,
    /// The link state, as far as it is known.
    link: Option<Link>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Joined {
    #[default]
    No,
    Yes,
    /// The device has no flips that wait.
    Refused,
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
        *self = Self { idle: self.idle, wanted: self.wanted, ..Self::default() };
    }

    fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref().and_then(Option::as_ref)
    }

    /// Whether the device tells of changes.
    pub(super) fn is_told(&self) -> bool {
        self.watch().is_some()
    }

    /// Sleeps until something is told, or the time is over. Returns what was told.
    fn listen(&mut self, time: Duration) -> Result<DisplayEvents, DisplayError> {
        let Some(watch) = self.watch.as_ref().and_then(Option::as_ref) else {
            return Ok(DisplayEvents::empty());
        };
        let told = watch.wait(time)?;
        self.is_news |= !told.is_empty();
        self.is_off |= told.contains(DisplayEvents::PLANE_OFF);
        Ok(told)
    }

    /// What was told up to now is what will be seen. Asks for the number of the flip only after something was told. Returns
    /// whether the planes are what they were at the last look, by the word of a device that tells of changes.
    pub(super) fn begin_read(&mut self, display: &mut Display) -> Result<bool, DisplayError> {
        self.listen(Duration::ZERO)?;
        let is_news = std::mem::take(&mut self.is_news);
        self.events = DisplayEvents::empty();
        if std::mem::take(&mut self.is_off) {
            // Its memory may be wanted back. What is still shown is fetched again.
            display.release_buffers();
        }
        if !self.is_told() {
            return Ok(false);
        }
        match self.joined {
            Joined::No if self.wanted => {
                let paced = display.backend().pace(Say::Join)?;
                self.joined = if paced.is_some() { Joined::Yes } else { Joined::Refused };
                self.link = paced.map(|paced| paced.state.link);
            }
            Joined::Yes if is_news => {
                let paced = display.backend().pace(Say::Look)?;
                self.taking = paced.map(|paced| paced.state.requested);
            }
            Joined::No | Joined::Yes | Joined::Refused => {}
        }
        Ok(!is_news)
    }

    /// After a look: says that the frame is taken, unless it is not whole. Whatever was wrong with it, nobody need wait for it.
    pub(super) fn end_read(
        &mut self,
        display: &mut Display,
        result: &Result<Refresh, ConsoleError>,
    ) -> Result<(), DisplayError> {
        let over = match result {
            Ok(refresh) => *refresh != Refresh::Torn,
            Err(error) => !error.is_gone(),
        };
        if over && let Some(flip) = self.taking.take() {
            self.link = display.backend().pace(Say::Taken(flip))?.map(|paced| paced.state.link);
        }
        Ok(())
    }

    fn stop(&mut self, display: &mut Display) -> Result<(), DisplayError> {
        self.taking = None;
        if std::mem::replace(&mut self.joined, Joined::No) == Joined::Yes {
            display.backend().pace(Say::Leave)?;
        }
        Ok(())
    }

    /// Whether the device told of another picture since the read began.
    pub(super) fn flipped(&mut self) -> Result<bool, DisplayError> {
        let told = self.listen(Duration::ZERO)?;
        self.events |= told;
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
        if self.pace.is_told() {
            self.pace.listen(pause)?;
        } else {
            std::thread::sleep(pause);
        }
        Ok(())
    }

    /// Has a guest that waits for its flips wait for this console: for whoever looks whenever the device tells of a change.
    /// It costs nothing while there are no changes; where the device has no flips that wait, nothing at all.
    ///
    /// Whoever stops to look calls [`Console::stop_pacing`], else the guest's next flip times out.
    pub fn pace_flips(&mut self) {
        self.pace.wanted = true;
    }

    /// Whether flips wait for this console.
    #[must_use]
    pub fn is_pacing(&self) -> bool {
        self.pace.joined == Joined::Yes
    }

    /// Flips wait for this console no more, until it looks again.
    ///
    /// # Errors
    /// [`ConsoleError`].
    pub fn stop_pacing(&mut self) -> Result<(), ConsoleError> {
        Ok(self.pace.stop(&mut self.display)?)
    }

    /// The link state as of the last flip; `None` while flips do not wait for this console.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        self.pace.link
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
