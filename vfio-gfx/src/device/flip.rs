//! Flips: asked for by the guest, over when every console that paces them has taken the frame, or when their time is.
//!
//! A guest that flips wants to know when it may draw into the frame before. Nobody may keep that from it: not a console that
//! hangs, not one that dies, not a VMM that stops. So a flip has an end of its own, [`FLIP_TIMEOUT`] after it was asked
//! for, and whoever has not taken the frame by then is *late*: flips do not wait for it until it has caught up. One that is stuck
//! costs its guest one time-out, not one per frame.
//!
//! At most one flip is not over: the next takes its place. Core tier: the time is the caller's.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long a flip may take, from its request. A console that is told of a flip takes the frame within one at 60 Hz, so six
/// times that is no hiccup any more; and it is what Linux waits for a vblank before it complains
/// (`drm_atomic_helper_wait_for_vblanks`), so that a driver that waits as long finds the flip over.
pub const FLIP_TIMEOUT: Duration = Duration::from_millis(100);

/// Most consoles that pace a device's flips at a time. More look all the same, but are not waited for.
pub const MAX_PACERS: usize = 64;

/// How a flip ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlipEnd {
    /// Every console that paces has taken the frame, or none does.
    Shown,
    /// The next flip came before.
    Replaced,
    /// A console has not taken the frame in [`FLIP_TIMEOUT`].
    TimedOut,
}

/// Whether what the guest flips to is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Consoles keep up, or none asked to be waited for.
    #[default]
    Up,
    /// The monitor is unplugged: the EDID region's link state.
    Down,
    /// A console is late.
    Degraded,
}

impl Link {
    /// Its number: those of the uapi's `VFIO_DEVICE_GFX_LINK_STATE_*` (vfio.h), and 3 for [`Link::Degraded`].
    #[must_use]
    pub const fn raw(self) -> u32 {
        match self {
            Self::Up => 1,
            Self::Down => 2,
            Self::Degraded => 3,
        }
    }

    /// The state with this number, if there is one.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            1 => Some(Self::Up),
            2 => Some(Self::Down),
            3 => Some(Self::Degraded),
            _ => None,
        }
    }
}

/// Somebody who paces. Never used twice in a device's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PacerId(u64);

#[derive(Debug)]
struct Pacer {
    name: String,
    /// The newest flip whose frame it has.
    taken: u64,
    /// Since when it has had a frame to take and has taken none.
    owes_since: Option<Duration>,
    /// It is not waited for.
    late: bool,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    deadline: Duration,
    /// Its end is somebody's to know.
    is_guests: bool,
    /// Somebody was late for it.
    missed: bool,
}

/// What the passing of time did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expired {
    /// How the flip ended, if it did and is the guest's.
    pub(super) end: Option<FlipEnd>,
    /// Whether it is the guest's.
    pub(super) is_guests: bool,
    /// Who is late from now on.
    pub(super) late: Vec<String>,
}

/// The flips of one device.
#[derive(Debug, Default)]
pub(super) struct Flips {
    /// How many were asked for; the number of the last.
    requested: u64,
    /// It, while it is not over.
    pending: Option<Pending>,
    pacers: BTreeMap<PacerId, Pacer>,
    last_pacer: u64,
}

impl Flips {
    /// The number of the last flip that was asked for, from 1; 0 before.
    pub(super) fn requested(&self) -> u64 {
        self.requested
    }

    /// The number of the last flip that is over.
    pub(super) fn completed(&self) -> u64 {
        self.requested.saturating_sub(u64::from(self.pending.is_some()))
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether somebody is late.
    pub(super) fn is_degraded(&self) -> bool {
        self.pacers.values().any(|pacer| pacer.late)
    }

    /// Whether this one is.
    pub(super) fn is_late(&self, id: PacerId) -> bool {
        self.pacers.get(&id).is_some_and(|pacer| pacer.late)
    }

    /// A flip is asked for, by the guest or by the device itself. Returns how the one before it ended, if it was not over, and
    /// how this one did, if it is. The end of what the device asked for is nobody's to know: neither here nor below is it
    /// returned.
    pub(super) fn request(&mut self, now: Duration, is_guests: bool) -> (Option<FlipEnd>, Option<FlipEnd>) {
        let replaced = self.pending.take().filter(|before| before.is_guests).map(|_| FlipEnd::Replaced);
        // 2^64 flips are more than a device makes in its life.
        self.requested = self.requested.saturating_add(1);
        for pacer in self.pacers.values_mut().filter(|pacer| !pacer.late) {
            pacer.owes_since.get_or_insert(now);
        }
        let deadline = now.saturating_add(FLIP_TIMEOUT);
        self.pending = Some(Pending { deadline, is_guests, missed: false });
        (replaced, self.settle())
    }

    /// Somebody will take every frame from now on, and wants to be waited for. `None`: there are [`MAX_PACERS`].
    pub(super) fn join(&mut self, name: &str) -> Option<PacerId> {
        if self.pacers.len() >= MAX_PACERS {
            return None;
        }
        self.last_pacer = self.last_pacer.saturating_add(1);
        let id = PacerId(self.last_pacer);
        let pacer = Pacer { name: name.to_owned(), taken: self.requested, owes_since: None, late: false };
        self.pacers.insert(id, pacer);
        Some(id)
    }

    /// Somebody has the frame of this flip, or of a later one. Returns how the flip ended, if it did. Numbers that were taken
    /// before, or not asked for yet, say nothing.
    pub(super) fn taken(&mut self, id: PacerId, flip: u64, now: Duration) -> Option<FlipEnd> {
        let requested = self.requested;
        let pacer = self.pacers.get_mut(&id)?;
        if flip > requested || flip < pacer.taken || (flip == pacer.taken && flip < requested) {
            return None;
        }
        pacer.taken = flip;
        if flip == requested {
            (pacer.owes_since, pacer.late) = (None, false);
        } else if !pacer.late {
            pacer.owes_since = Some(now);
        }
        self.settle()
    }

    /// Somebody is not to be waited for any more. Returns how the flip ended, if it did.
    pub(super) fn leave(&mut self, id: PacerId) -> Option<FlipEnd> {
        self.pacers.remove(&id)?;
        self.settle()
    }

    /// When [`Flips::expire`] has something to do, if nothing else happens.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let pending = self.pending?;
        let owing = self.pacers.values().filter(|pacer| !pacer.late).filter_map(|pacer| pacer.owes_since);
        let earliest = owing.min().map(|since| since.saturating_add(FLIP_TIMEOUT));
        Some(earliest.map_or(pending.deadline, |earliest| earliest.min(pending.deadline)))
    }

    /// It is `now`.
    pub(super) fn expire(&mut self, now: Duration) -> Expired {
        let Some(pending) = &mut self.pending else { return Expired::default() };
        let flip_is_over = now >= pending.deadline;
        let mut late = Vec::new();
        for pacer in self.pacers.values_mut().filter(|pacer| !pacer.late && pacer.taken < self.requested) {
            let is_over = |since: Duration| now >= since.saturating_add(FLIP_TIMEOUT);
            if flip_is_over || pacer.owes_since.is_some_and(is_over) {
                (pacer.late, pacer.owes_since) = (true, None);
                late.push(pacer.name.clone());
            }
        }
        pending.missed |= !late.is_empty();
        let is_guests = pending.is_guests;
        Expired { end: self.settle(), is_guests, late }
    }

    /// The device was reset: what was asked for is asked for no more.
    pub(super) fn cancel(&mut self) {
        self.pending = None;
        for pacer in self.pacers.values_mut() {
            (pacer.taken, pacer.owes_since) = (self.requested, None);
        }
    }

    /// Ends the flip if nobody is waited for.
    fn settle(&mut self) -> Option<FlipEnd> {
        let awaited = self.pacers.values().any(|pacer| !pacer.late && pacer.taken < self.requested);
        if awaited {
            return None;
        }
        let over = self.pending.take().filter(|over| over.is_guests)?;
        Some(if over.missed { FlipEnd::TimedOut } else { FlipEnd::Shown })
    }
}

#[cfg(test)]
mod tests;
