//! The flips of a device: who asks, who is waited for, and who is told.

use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::abi::pci_irq;

use super::flip::{Expired, Flips};
use super::{Device, FLIP_TIMEOUT, FlipEnd, Link, Notice, PacerId};

/// A log that says once who is late, and not at every frame of a console that is late again and again.
const QUIET: Duration = Duration::from_secs(10);

/// How a device's flips stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlipState {
    /// The number of the last flip that was asked for, from 1; 0 before the first. Numbers outlive resets.
    pub requested: u64,
    /// The number of the last flip that is over.
    pub completed: u64,
    /// Whether what is flipped to is seen.
    pub link: Link,
}

/// The flips, and what the rest of the device knows of them.
pub(super) struct FlipRecord {
    pub(super) flips: Flips,
    /// The device's time, from any beginning.
    clock: Box<dyn Fn() -> Duration + Send>,
    /// The link state that the model was told last.
    link: Link,
    /// The number of the last flip that the guest asked for; 0 before the first.
    pub(super) guests_last: u64,
    /// A flip waits for consoles that have not been told of it.
    pub(super) is_untold: bool,
    /// What the timer runs for.
    timer: Option<Duration>,
    warned: Option<Instant>,
}

impl Default for FlipRecord {
    fn default() -> Self {
        let (flips, started) = (Flips::default(), Instant::now());
        let clock = Box::new(move || started.elapsed());
        Self { flips, clock, link: Link::Up, guests_last: 0, is_untold: false, timer: None, warned: None }
    }
}

impl Device {
    /// Has flips take their time from `clock`, which does not run backwards, instead of `CLOCK_MONOTONIC`: for tests, whose time passes
    /// when they say so. To be called before the first flip. The descriptor of [`Device::change_timer`] still goes by the
    /// system's clock; what is due when somebody looks is what this one says.
    pub fn set_flip_clock(&mut self, clock: impl Fn() -> Duration + Send + 'static) {
        self.flip.clock = Box::new(clock);
    }

    /// The link state: [`Link::Down`] while the EDID region says so, [`Link::Degraded`] while a console that paces flips is
    /// late.
    #[must_use]
    pub fn link(&self) -> Link {
        match &self.edid {
            Some(edid) if !edid.is_link_up() => Link::Down,
            _ if self.flip.flips.is_degraded() => Link::Degraded,
            _ => Link::Up,
        }
    }

    /// How its flips stand.
    pub fn flip_state(&mut self) -> FlipState {
        self.end_what_is_due();
        let (requested, completed) = (self.flip.flips.requested(), self.flip.flips.completed());
        FlipState { requested, completed, link: self.link() }
    }

    /// Has every flip wait until a console has taken the frame, for [`FLIP_TIMEOUT`] at most. The console is to watch for
    /// display changes, and to say so with [`Device::stop_pacing`] before it stops to look. `name` is for the log.
    ///
    /// `None` where nobody is waited for: on a device that is unplugged, without the display interrupt or, for want of
    /// descriptors, without timers; and when [`MAX_PACERS`](super::MAX_PACERS) are waited for already.
    pub fn pace(&mut self, name: &str) -> Option<PacerId> {
        self.timers.as_ref().filter(|_| !self.is_revoked)?;
        self.flip.flips.join(name)
    }

    /// A console that paces has the frame of this flip: it asked for [`Device::flip_state`], then looked at the planes, and
    /// needs no pixel of earlier ones any more.
    pub fn frame_taken(&mut self, pacer: PacerId, flip: u64) {
        self.end_what_is_due();
        let end = self.flip.flips.taken(pacer, flip, (self.flip.clock)());
        self.flips_ended([end]);
    }

    /// A console is not to be waited for any more.
    pub fn stop_pacing(&mut self, pacer: PacerId) {
        let end = self.flip.flips.leave(pacer);
        self.flips_ended([end]);
    }

    /// Whether a console that paces is late: it is not waited for until it has taken the newest frame.
    #[must_use]
    pub fn is_late(&self, pacer: PacerId) -> bool {
        self.flip.flips.is_late(pacer)
    }

    /// Does what the model asks for, after a write.
    pub(super) fn carry_out(&mut self) {
        let effects = self.model.effects();
        self.raise(effects.interrupts);
        if effects.flip {
            self.begin_flip(true);
            let last = self.flip.flips.requested();
            self.flip.guests_last = last;
            // Copies of frames before are of no more use.
            self.buffers.retain(|key| key.copy_of == 0 || key.copy_of == last);
        }
        if self.guest.ended_buffers() != self.ended_buffers {
            self.forget_ended();
        }
    }

    /// The planes are others: consoles that pace are waited for. The guest is told the end of what it asked for itself.
    pub(super) fn begin_flip(&mut self, is_guests: bool) {
        let (before, this) = self.flip.flips.request((self.flip.clock)(), is_guests);
        self.flip.is_untold = self.flip.flips.is_pending();
        self.flips_ended([before, this]);
    }

    /// Ends the flip whose time is over.
    pub(super) fn end_what_is_due(&mut self) {
        if !self.flip.flips.is_pending() {
            return;
        }
        let Expired { end, is_guests, late } = self.flip.flips.expire((self.flip.clock)());
        for console in late {
            let what = if is_guests {
                "a flip timed out: the console has not taken the frame"
            } else {
                "guest memory was taken back: the console has not said that it let go of it"
            };
            if self.flip.warned.is_none_or(|warned| warned.elapsed() >= QUIET) {
                self.flip.warned = Some(Instant::now());
                warn!(%console, timeout = ?FLIP_TIMEOUT, "{what}; it is not waited for until it catches up");
            } else {
                debug!(%console, "{what}");
            }
        }
        self.flips_ended([end]);
    }

    /// After the timer has expired, or was stopped.
    pub(super) fn flip_timer_stopped(&mut self) {
        self.flip.timer = None;
        self.end_what_is_due();
        self.flips_ended([]);
    }

    /// What was asked for before a reset has no end.
    pub(super) fn cancel_flip(&mut self) {
        self.flip.flips.cancel();
        self.flips_ended([]);
    }

    /// The link may be another: the model is told.
    pub(super) fn update_link(&mut self) {
        let link = self.link();
        if std::mem::replace(&mut self.flip.link, link) != link {
            debug!(?link, "link state");
            self.tell_model(Notice::Link(link));
        }
    }

    /// Tells the model how flips ended, and has the timer run for the one that has not.
    fn flips_ended<const N: usize>(&mut self, ends: [Option<FlipEnd>; N]) {
        for end in ends.into_iter().flatten() {
            self.tell_model(Notice::FlipOver(end));
        }
        self.update_link();
        let deadline = self.flip.flips.deadline();
        if deadline == self.flip.timer {
            return;
        }
        self.flip.timer = deadline;
        if let Some(timers) = &mut self.timers {
            match deadline {
                Some(deadline) => timers.flip.start(deadline.saturating_sub((self.flip.clock)())),
                None => timers.flip.stop(),
            }
        }
    }

    fn tell_model(&mut self, notice: Notice) {
        self.model.notice(notice);
        // A notice is no access of the guest's, which alone asks for flips.
        let interrupts = self.model.effects().interrupts;
        self.raise(interrupts);
    }

    fn raise(&mut self, vectors: u32) {
        for vector in (0..u32::BITS).filter(|n| vectors >> n & 1 != 0) {
            self.irqs.trigger(pci_irq::MSI, vector);
        }
    }
}
