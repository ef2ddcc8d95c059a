//! The display interrupt of a device: who waits, and what they are told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::abi::{IrqAction, IrqData, IrqRequest, IrqSet, PlaneKind};

use super::events::{self, Planes};
use super::irq::check_eventfds;
use super::{DISPLAY_EVENTS, DISPLAY_IRQ, Device, DeviceError, DisplayEvents, IrqError, Scanout, Watcher};

impl Device {
    /// Looks at the planes, and tells whoever waits what changed since the last look.
    fn look(&mut self) {
        let new: Planes = PlaneKind::ALL.map(|kind| self.scanout(kind));
        if let Some((watchers, known)) = &mut self.watchers {
            let mut events = events::differences(known, &new);
            // One that looks as before is waited for as well.
            events.set(DisplayEvents::FLIP, events.contains(DisplayEvents::FLIP) || self.flip.is_untold);
            self.flip.is_untold = false;
            *known = new;
            if !events.is_empty() {
                watchers.tell(events);
            }
        }
    }

    /// Signals what changed since the last time. Costs nothing while nobody waits.
    pub(super) fn tell_watchers(&mut self) {
        if self.watchers.as_ref().is_some_and(|(watchers, _)| !watchers.is_empty()) {
            self.look();
            self.run_timer();
        }
    }

    /// Tells whoever waits if this plane, just looked at for somebody else, is not what they were told last.
    pub(super) fn tell_if_new(&mut self, kind: PlaneKind, now: Option<Scanout>) {
        let known = self.watchers.as_ref().and_then(|(_, known)| events::known(known, kind));
        if known.is_some_and(|known| *known != now) {
            self.tell_watchers();
        }
    }

    /// Has the timer expire when a plane is to change by itself. One that runs already is left alone: what it finds then
    /// says when to look again.
    fn run_timer(&mut self) {
        if self.is_revoked {
            return;
        }
        if let Some(timers) = &mut self.timers
            && !timers.change.is_running()
            && let Some(time) = self.model.changes_in()
        {
            timers.change.start(time);
        }
    }

    /// A descriptor that becomes readable when the device has something to do without any access to it: a plane may have
    /// changed while somebody waits for changes, or a flip has taken too long. Whoever drives the device polls it, and then calls
    /// [`Device::look_again`]. `None` on a device without the display interrupt.
    #[must_use]
    pub fn change_timer(&self) -> Option<BorrowedFd<'_>> {
        self.timers.as_ref().map(AsFd::as_fd)
    }

    /// Tells whoever waits what changed by itself, and ends a flip that has taken too long. Harmless at any time.
    pub fn look_again(&mut self) {
        if let Some(timers) = &mut self.timers {
            timers.change.stop();
            timers.flip.stop();
        }
        self.flip_timer_stopped();
        self.tell_watchers();
    }

    /// Waits for display changes, from now on: the returned [`Watcher`] takes an eventfd per kind of
    /// [`DisplayEvents`]. `None` on a device without the display interrupt. A device that is unplugged
    /// tells of nothing any more.
    pub fn watch(&mut self) -> Option<Watcher> {
        self.look();
        let watcher = self.watchers.as_mut().map(|(watchers, _)| watchers.add());
        // A change may be on its way that nobody waited for.
        self.run_timer();
        watcher
    }

    /// Sets the eventfds of one party's display interrupt: `SET_IRQS` on index [`DISPLAY_IRQ`], with `ACTION_TRIGGER` and
    /// either one eventfd per interrupt of the range or none, which takes them away. `DATA_NONE` with a count of 0 ends it.
    ///
    /// # Errors
    /// [`DeviceError::Revoked`], [`DeviceError::IrqSet`] where the request is malformed or the device has no such interrupt,
    /// [`DeviceError::Irq`] where a descriptor is no eventfd, for masking and the like.
    pub fn set_display_irq(
        &mut self,
        watcher: &mut Option<Watcher>,
        set: &IrqSet,
        fds: Vec<OwnedFd>,
    ) -> Result<(), DeviceError> {
        self.check_plugged()?;
        let request = set.parse(self.has_events().then_some(DISPLAY_EVENTS), false)?;
        let IrqRequest { start, count, data, action, .. } = request;
        match (data, action) {
            (IrqData::None, IrqAction::Trigger) if count == 0 => *watcher = None,
            (IrqData::Eventfd, IrqAction::Trigger) => {
                check_eventfds(data, count, &fds)?;
                if watcher.is_none() {
                    *watcher = self.watch();
                }
                let watcher = watcher.as_ref().ok_or(DeviceError::NoIrq(set.index))?;
                let mut fds = fds.into_iter();
                for event in start..start.saturating_add(count) {
                    watcher.set(event, fds.next());
                }
            }
            (data, action) => return Err(IrqError::Unsupported { data, action }.into()),
        }
        Ok(())
    }

    /// What `GET_INFO` says: the highest interrupt index plus one.
    #[must_use]
    pub fn num_irqs(&self) -> u32 {
        if self.has_events() { self.irqs.num_irqs().max(DISPLAY_IRQ + 1) } else { self.irqs.num_irqs() }
    }

    /// How many interrupts an index has, `None` where there is no such index.
    #[must_use]
    pub fn irq_count(&self, index: u32) -> Option<u32> {
        if self.has_events() && index == DISPLAY_IRQ { Some(DISPLAY_EVENTS) } else { self.irqs.count(index) }
    }

    /// Whether it has the display interrupt.
    #[must_use]
    pub fn has_events(&self) -> bool {
        self.watchers.is_some()
    }
}
