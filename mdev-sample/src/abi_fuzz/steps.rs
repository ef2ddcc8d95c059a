//! Which calls a walk makes. They follow from the seed alone; no answer is looked at.

use std::collections::VecDeque;

use vfio_gfx::abi::DeviceIoctl;

use super::rng::Rng;
use super::target::MapRequest;
use super::{calls, places, scenes};

/// Which buffer is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BufferId {
    /// This one, whether it was ever issued or not.
    Literal(u32),
    /// One that the device named in answer to a query, this many distinct ids ago (modulo their number); 1 while there is
    /// none. The only thing in a walk that depends on answers.
    Answered(u32),
    /// The one asked for last.
    Again,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An ioctl with an argument in memory, by its name in the format.
    Ioctl {
        /// Name.
        op: &'static str,
        /// Number.
        request: u32,
        /// The memory from the argument pointer on.
        arg: Vec<u8>,
    },
    /// An ioctl whose argument points where no memory is.
    BadPointer {
        /// Name.
        op: &'static str,
        /// Number.
        request: DeviceIoctl,
    },
    /// `GET_GFX_DMABUF`.
    Dmabuf {
        /// Which.
        id: BufferId,
        /// Whether its descriptor stays open until after the next one has come.
        keep: bool,
    },
    /// `pread(2)`
    Read {
        /// Place in the descriptor.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// `pwrite(2)`
    Write {
        /// Place in the descriptor.
        offset: u64,
        /// Bytes.
        data: Vec<u8>,
    },
    /// `mmap(2)`
    Map(MapRequest),
    /// `VFIO_DEVICE_RESET`
    Reset,
}

impl Step {
    /// Its name in the format.
    #[must_use]
    pub fn op(&self) -> &'static str {
        match self {
            Self::Ioctl { op, .. } | Self::BadPointer { op, .. } => op,
            Self::Dmabuf { .. } => "get_gfx_dmabuf",
            Self::Read { .. } => "pread",
            Self::Write { .. } => "pwrite",
            Self::Map(_) => "mmap",
            Self::Reset => "reset",
        }
    }
}

/// The walk of a seed, without end.
#[derive(Clone, Debug)]
pub struct Walk {
    rng: Rng,
    /// What belongs together comes together.
    pending: VecDeque<Step>,
}

impl Walk {
    /// The walk of this seed. It begins with a `GET_INFO`, as every user of a device does.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let first = calls::info(&mut rng, Some(16));
        Self { rng, pending: VecDeque::from([first]) }
    }

    fn extend(&mut self) {
        let rng = &mut self.rng;
        let steps = match rng.below(100) {
            0..22 => vec![calls::query(rng)],
            22..26 => vec![calls::info(rng, None)],
            26..36 => vec![calls::region_info(rng)],
            36..42 => vec![calls::irq_info(rng)],
            42..44 => vec![calls::set_irqs(rng)],
            44 => vec![calls::feature(rng)],
            45 => vec![calls::other(rng)],
            46 => vec![calls::bad_pointer(rng)],
            47..51 => vec![Step::Dmabuf { id: calls::buffer_id(rng), keep: false }],
            51..69 => vec![Step::Read { offset: places::access(rng), len: calls::len(rng) }],
            69..84 => vec![Step::Write { offset: places::access(rng), data: calls::data(rng) }],
            84..88 => vec![calls::map(rng)],
            88 => vec![Step::Reset],
            89..94 => scenes::mode(rng),
            94..96 => scenes::planes(rng),
            96..98 => scenes::monitor(rng),
            _ => scenes::known_crash(rng),
        };
        self.pending.extend(steps);
    }
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.pending.is_empty() {
            self.extend();
        }
        self.pending.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::places;
    use super::*;

    #[test]
    fn a_seed_is_a_walk() {
        let walk = |seed| Walk::new(seed).take(500).collect::<Vec<_>>();
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1), walk(2));
    }

    #[test]
    fn every_call_of_the_format_is_made() {
        let ops: BTreeSet<_> = Walk::new(3).take(5000).map(|step| step.op()).collect();
        let expected = [
            "device_feature",
            "get_gfx_dmabuf",
            "get_gfx_dmabuf_bad_pointer",
            "get_info",
            "get_irq_info",
            "get_pci_hot_reset_info",
            "get_region_info",
            "ioeventfd",
            "mmap",
            "pread",
            "pwrite",
            "query_gfx_plane",
            "query_gfx_plane_bad_pointer",
            "reset",
            "set_irqs",
            "unknown_ioctl",
        ];
        assert_eq!(ops, BTreeSet::from(expected));
    }

    #[test]
    fn both_known_crashes_are_among_them() {
        let steps: Vec<Step> = Walk::new(4).take(5000).collect();
        let lost = |step: &Step| matches!(step, Step::Read { offset, len } if places::is_lost(*offset, *len));
        assert!(steps.iter().any(lost));
        let kept = |step: &Step| matches!(step, Step::Dmabuf { keep: true, .. });
        let again = |step: &Step| matches!(step, Step::Dmabuf { id: BufferId::Again, keep: false });
        assert!(steps.windows(2).any(|pair| kept(&pair[0]) && again(&pair[1])));
    }
}
