//! The registers that tell a guest of its flips and of the link.

use vfio_gfx::device::{FLIP_TIMEOUT, FlipEnd, Link, Notice};

// Registers, in bytes from the first.
const COMPLETED: u64 = 0x00;
const STATUS: u64 = 0x04;
const LINK: u64 = 0x08;
const INTERRUPTS: u64 = 0x0c;
const ENABLE: u64 = 0x10;
const TIME_OUT: u64 = 0x14;
const TIMED_OUT: u64 = 0x18;

/// INTERRUPTS: a flip is over.
pub(super) const FLIP_OVER: u32 = 1;
/// INTERRUPTS: a flip timed out.
pub(super) const FLIP_TIMED_OUT: u32 = 2;
/// INTERRUPTS: the link state is another.
pub(super) const LINK_CHANGED: u32 = 4;

/// Everything at power-on is zero.
#[derive(Debug, Default)]
pub(super) struct Status {
    commits: u32,
    completed: u32,
    last: u32,
    timed_out: u32,
    interrupts: u32,
    enable: u32,
    /// The interrupt is to be raised.
    raise: bool,
}

impl Status {
    /// Flips that were asked for.
    pub(super) fn commits(&self) -> u32 {
        self.commits
    }

    pub(super) fn committed(&mut self) {
        self.commits = self.commits.wrapping_add(1);
    }

    pub(super) fn read(&self, offset: u64, link: Link) -> u32 {
        match offset {
            COMPLETED => self.completed,
            STATUS => self.last,
            LINK => link.raw(),
            INTERRUPTS => self.interrupts,
            ENABLE => self.enable,
            TIME_OUT => u32::try_from(FLIP_TIMEOUT.as_millis()).unwrap_or(u32::MAX),
            TIMED_OUT => self.timed_out,
            _ => 0,
        }
    }

    pub(super) fn write(&mut self, offset: u64, value: u32) {
        match offset {
            INTERRUPTS => self.interrupts &= !value,
            ENABLE => {
                self.enable = value & (FLIP_OVER | FLIP_TIMED_OUT | LINK_CHANGED);
                // What happened before is not lost to who enables it late.
                self.raise |= self.interrupts & self.enable != 0;
            }
            _ => {}
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::FlipOver(end) => {
                self.completed = self.completed.wrapping_add(1);
                self.last = match end {
                    FlipEnd::Shown => 1,
                    FlipEnd::Replaced => 2,
                    FlipEnd::TimedOut => 3,
                };
                self.happened(FLIP_OVER);
                if end == FlipEnd::TimedOut {
                    self.timed_out = self.timed_out.wrapping_add(1);
                    self.happened(FLIP_TIMED_OUT);
                }
            }
            Notice::Link(_) => self.happened(LINK_CHANGED),
        }
    }

    fn happened(&mut self, what: u32) {
        self.interrupts |= what;
        self.raise |= self.enable & what != 0;
    }

    /// Whether the interrupt is to be raised, once.
    pub(super) fn take_interrupt(&mut self) -> bool {
        std::mem::take(&mut self.raise)
    }
}
