//! How flips must end, by what is promised of them: each once, at the latest 100 ms after it was asked for, and before only when
//! everybody who is waited for has taken it or when the next one comes.

use vfio_gfx::abi::Errno;
use vfio_gfx::device::Device;
use vfio_gfx::vfio_user::extension::{
    PACE_FLAG_JOINED, PACE_FLAG_LATE, PACE_JOIN, PACE_LEAVE, PACE_LOOK, PACE_TAKEN, PaceReply, PaceRequest,
};

use super::guest::read_register;
use crate::subject::COMMIT;

/// What a flip may take, in milliseconds.
const TIME_OUT: u64 = 100;

/// Registers of a `vgfx` from [`COMMIT`] on.
const REGISTERS: usize = 8;
/// Bits of INTERRUPTS.
const OVER: u32 = 1;
const LATE: u32 = 2;
const LINK: u32 = 4;

/// Who can pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Seat(usize),
    Vmm,
}

impl Party {
    fn place(self) -> usize {
        match self {
            Self::Seat(which) => which,
            Self::Vmm => 2,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Pacer {
    taken: u64,
    /// Since when it has had something to take and took nothing.
    idle_since: Option<u64>,
    late: bool,
}

/// The flip that is not over.
#[derive(Clone, Copy, Debug)]
struct Open {
    asked: u64,
    is_guests: bool,
    missed: bool,
}

#[derive(Debug)]
pub(super) struct Flips {
    now: u64,
    requested: u64,
    open: Option<Open>,
    pacers: [Option<Pacer>; 3],
    is_monitor_on: bool,
    link: u32,
    /// What the guest reads: commits, completed, how the last ended, how many timed out, what happened, what it wants to know.
    commits: u32,
    completed: u32,
    last: u32,
    timed_out: u32,
    happened: u32,
    enabled: u32,
    raised: u64,
}

impl Default for Flips {
    fn default() -> Self {
        Self {
            now: 0,
            requested: 0,
            open: None,
            pacers: [None; 3],
            is_monitor_on: true,
            link: 1,
            commits: 0,
            completed: 0,
            last: 0,
            timed_out: 0,
            happened: 0,
            enabled: 0,
            raised: 0,
        }
    }
}

impl Flips {
    /// Of a device that is plugged in now.
    pub(super) fn from(now: u64) -> Self {
        Self { now, ..Self::default() }
    }

    /// The guest asks for one.
    pub(super) fn commit(&mut self) {
        self.commits += 1;
        self.ask(true);
    }

    fn ask(&mut self, is_guests: bool) {
        if self.open.take().is_some_and(|before| before.is_guests) {
            self.end(2);
        }
        self.requested += 1;
        self.open = Some(Open { asked: self.now, is_guests, missed: false });
        for pacer in self.pacers.iter_mut().flatten().filter(|pacer| !pacer.late) {
            pacer.idle_since.get_or_insert(self.now);
        }
        self.settle();
    }

    fn end(&mut self, how: u32) {
        self.completed += 1;
        self.last = how;
        self.timed_out += u32::from(how == 3);
        self.tell(if how == 3 { OVER | LATE } else { OVER });
    }

    fn tell(&mut self, what: u32) {
        self.happened |= what;
        self.raised += u64::from(self.enabled & what != 0);
    }

    /// A flip is over when nobody is waited for; the link is what that leaves.
    fn settle(&mut self) {
        let is_awaited =
            self.pacers.iter().flatten().any(|pacer| !pacer.late && pacer.taken < self.requested);
        if !is_awaited && let Some(over) = self.open.take().filter(|over| over.is_guests) {
            self.end(if over.missed { 3 } else { 1 });
        }
        let is_degraded = self.pacers.iter().flatten().any(|pacer| pacer.late);
        let link = match (self.is_monitor_on, is_degraded) {
            (false, _) => 2,
            (true, true) => 3,
            (true, false) => 1,
        };
        if std::mem::replace(&mut self.link, link) != link {
            self.tell(LINK);
        }
    }

    pub(super) fn pass(&mut self, time: u64) {
        self.now += time;
        let Some(open) = &mut self.open else { return };
        for pacer in self.pacers.iter_mut().flatten() {
            let since = pacer.idle_since.map_or(open.asked, |since| since.min(open.asked));
            if !pacer.late && pacer.taken < self.requested && self.now >= since + TIME_OUT {
                (pacer.late, pacer.idle_since, open.missed) = (true, None, true);
            }
        }
        self.settle();
    }

    /// What was asked for is asked for no more; who is late stays so.
    pub(super) fn reset(&mut self) {
        self.open = None;
        for pacer in self.pacers.iter_mut().flatten() {
            (pacer.taken, pacer.idle_since) = (self.requested, None);
        }
        (self.commits, self.completed, self.last, self.timed_out) = (0, 0, 0, 0);
        (self.happened, self.enabled) = (0, 0);
    }

    /// The guest writes INTERRUPTS or ENABLE.
    pub(super) fn acknowledge(&mut self, what: u32) {
        self.happened &= !what;
    }

    pub(super) fn enable(&mut self, what: u32) {
        self.enabled = what & (OVER | LATE | LINK);
        self.raised += u64::from(self.happened & self.enabled != 0);
    }

    pub(super) fn leave(&mut self, party: Party) {
        if self.pacers[party.place()].take().is_some() {
            self.settle();
        }
    }

    /// `PACE_FLIPS`, and the reply that there was to it.
    pub(super) fn paced(&mut self, party: Party, request: PaceRequest, reply: Result<PaceReply, Errno>) {
        let place = party.place();
        let PaceRequest { operation, reserved, flip } = request;
        let is_taken = operation == PACE_TAKEN;
        let is_sane = reserved == 0 && operation <= PACE_LEAVE && (is_taken || flip == 0);
        if !is_sane || (is_taken && (self.pacers[place].is_none() || flip > self.requested)) {
            return assert_eq!(reply, Err(Errno::EINVAL), "{party:?}: {request:?}");
        }
        match operation {
            PACE_LOOK => {}
            PACE_JOIN => {
                let taken = self.requested;
                self.pacers[place].get_or_insert(Pacer { taken, idle_since: None, late: false });
            }
            PACE_TAKEN => self.take(place, flip),
            _ => self.leave(party),
        }
        let pacer = self.pacers[place];
        let joined = if pacer.is_some() { PACE_FLAG_JOINED } else { 0 };
        let late = if pacer.is_some_and(|pacer| pacer.late) { PACE_FLAG_LATE } else { 0 };
        let completed = self.requested - u64::from(self.open.is_some());
        let expected =
            PaceReply { requested: self.requested, completed, link: self.link, flags: joined | late };
        assert_eq!(reply, Ok(expected), "{party:?}: {request:?}");
    }

    fn take(&mut self, place: usize, flip: u64) {
        let Some(pacer) = &mut self.pacers[place] else { return };
        let is_newest = flip == self.requested;
        if !is_newest && flip <= pacer.taken {
            return;
        }
        pacer.taken = flip;
        if is_newest {
            (pacer.idle_since, pacer.late) = (None, false);
        } else if !pacer.late {
            pacer.idle_since = Some(self.now);
        }
        self.settle();
    }

    /// Whoever paces and has just looked has the newest frame.
    pub(super) fn check_keeps_up(&self, party: Party) {
        let pacer = self.pacers[party.place()].expect("it joined when it looked");
        assert!(!pacer.late && pacer.taken == self.requested, "{pacer:?} of {}", self.requested);
    }

    /// The number of the newest flip.
    pub(super) fn newest(&self) -> u64 {
        self.requested
    }

    /// Guest memory was taken back: the device may have consoles look, as after a flip.
    pub(super) fn memory_was_taken_back(&mut self, device: &mut Device) {
        let requested = device.flip_state().requested;
        if requested != self.requested {
            self.ask(false);
        }
        assert_eq!(requested, self.requested);
    }

    /// How often the interrupt was raised since the last time.
    pub(super) fn take_raised(&mut self) -> u64 {
        std::mem::take(&mut self.raised)
    }

    /// The device says of flips and link just what is so.
    pub(super) fn check(&mut self, device: &mut Device) {
        let mut monitor = [0; 4];
        device.read(9, 20, &mut monitor).unwrap();
        self.is_monitor_on = u32::from_ne_bytes(monitor) == 1;
        self.settle();
        let mut found = [0; REGISTERS];
        for (offset, register) in (COMMIT..).step_by(4).zip(&mut found) {
            *register = read_register(device, offset);
        }
        let expected = [
            self.commits,
            self.completed,
            self.last,
            self.link,
            self.happened,
            self.enabled,
            u32::try_from(TIME_OUT).unwrap(),
            self.timed_out,
        ];
        assert_eq!(
            found, expected,
            "COMMIT, COMPLETED, STATUS, LINK, INTERRUPTS, ENABLE, TIME_OUT, TIMED_OUT of {self:?}"
        );
        let state = device.flip_state();
        let completed = self.requested - u64::from(self.open.is_some());
        assert_eq!(
            (state.requested, state.completed, state.link.raw()),
            (self.requested, completed, self.link)
        );
        // Not by what was expected, but by what a guest sees: one flip at most is not over.
        assert!(found[0] - found[1] <= 1, "flips that never end");
    }
}
