//! The display interrupt of a device: who waits, and what they are told.

use std::os::fd::OwnedFd;

use crate::abi::{Errno, IrqAction, IrqData, IrqSet, PlaneKind};

use super::events::{self, Planes};
use super::{DISPLAY_EVENTS, DISPLAY_IRQ, Device, Watcher};

impl Device {
    /// Looks at the planes, and tells whoever waits what changed since the last look.
    fn look(&mut self) {
        let new: Planes = PlaneKind::ALL.map(|kind| self.model.scanout(kind));
        if let Some((watchers, known)) = &mut self.watchers {
            let events = events::differences(known, &new);
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
        }
    }

    /// Waits for display changes, from now on: the returned [`Watcher`] takes an eventfd per kind of
    /// [`DisplayEvents`](super::DisplayEvents). `None` on a device without the display interrupt.
    pub fn watch(&mut self) -> Option<Watcher> {
        self.look();
        self.watchers.as_mut().map(|(watchers, _)| watchers.add())
    }

    /// Sets the eventfds of one party's display interrupt: `SET_IRQS` on index [`DISPLAY_IRQ`], with `ACTION_TRIGGER` and
    /// either one eventfd per interrupt of the range or none, which takes them away. `DATA_NONE` with a count of 0 ends it.
    ///
    /// # Errors
    /// `EINVAL` where the request is malformed or the device has no such interrupt, `ENOTTY` for masking and the like.
    pub fn set_display_irq(
        &mut self,
        watcher: &mut Option<Watcher>,
        set: &IrqSet,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Errno> {
        let request = set.parse(self.has_events().then_some(DISPLAY_EVENTS), false)?;
        match (request.data, request.action) {
            (IrqData::None, IrqAction::Trigger) if request.count == 0 => *watcher = None,
            (IrqData::Eventfd, IrqAction::Trigger) => {
                if !fds.is_empty() && fds.len() != request.count as usize {
                    return Err(Errno::EINVAL);
                }
                if watcher.is_none() {
                    *watcher = self.watch();
                }
                let watcher = watcher.as_ref().ok_or(Errno::EINVAL)?;
                let mut fds = fds.into_iter();
                for event in request.start..request.start + request.count {
                    watcher.set(event, fds.next());
                }
            }
            _ => return Err(Errno::ENOTTY),
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
