//! `VFIO_DEVICE_SET_IRQS`: a flag word, a range, and data that must fit it.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Errno;

/// The fixed part of `struct vfio_irq_set`, 20 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IrqSet {
    /// Size of the struct and its data, in bytes.
    pub argsz: u32,
    /// One data type and one action.
    pub flags: u32,
    /// Interrupt index.
    pub index: u32,
    /// First interrupt of the index.
    pub start: u32,
    /// How many interrupts.
    pub count: u32,
}

/// Bytes before the data of a `SET_IRQS`.
pub const IRQ_SET_HEADER: u32 = 20;

/// `VFIO_IRQ_SET_DATA_*`: what follows the header, one item per interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqData {
    /// Nothing.
    None,
    /// One byte each: 0 = leave it, else act on it.
    Bool,
    /// One `s32` descriptor each, -1 = take the eventfd away. Over vfio-user the descriptors travel beside the
    /// message instead.
    Eventfd,
}

/// `VFIO_IRQ_SET_ACTION_*`: what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqAction {
    /// Hold the interrupt back.
    Mask,
    /// Let it through again.
    Unmask,
    /// Set how it is signalled, or signal it.
    Trigger,
}

/// A well-formed `SET_IRQS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IrqRequest {
    /// Interrupt index.
    pub index: u32,
    /// First interrupt of the index.
    pub start: u32,
    /// How many interrupts.
    pub count: u32,
    /// What follows the header.
    pub data: IrqData,
    /// What to do.
    pub action: IrqAction,
}

/// Why a `SET_IRQS` is malformed. Always `EINVAL` to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum IrqSetError {
    /// `argsz` does not cover header and data.
    #[error("set irqs: argsz is {found}, header and data need {expected}")]
    ArgSize {
        /// Bytes needed.
        expected: u64,
        /// The caller's `argsz`.
        found: u32,
    },
    /// Not exactly one data type and one action, or bits that are not defined.
    #[error("set irqs: flags {found:#x} are not one DATA type and one ACTION")]
    Flags {
        /// The caller's flags.
        found: u32,
    },
    /// The range leaves the index.
    #[error("set irqs: interrupts {start}+{count} of index {index} exceed its {available}")]
    Range {
        /// Interrupt index.
        index: u32,
        /// First interrupt.
        start: u32,
        /// How many.
        count: u32,
        /// How many the index has.
        available: u32,
    },
}

impl From<IrqSetError> for Errno {
    fn from(_: IrqSetError) -> Self {
        Self::EINVAL
    }
}

impl IrqSet {
    /// Judges the header in the order `vfio_set_irqs_validate_and_prepare` does: size, flags, range, data type, room
    /// for the data. `available` is the number of interrupts of `self.index`, `None` where there is no such index.
    /// `inline_fds` tells whether eventfds are part of the data (ioctl) or travel beside it (vfio-user).
    ///
    /// # Errors
    /// [`IrqSetError`]; a count of 0 on an index without interrupts is a range error, as in the kernel.
    pub fn parse(&self, available: Option<u32>, inline_fds: bool) -> Result<IrqRequest, IrqSetError> {
        let Self { argsz, flags, index, start, count } = *self;
        if argsz < IRQ_SET_HEADER {
            return Err(IrqSetError::ArgSize { expected: u64::from(IRQ_SET_HEADER), found: argsz });
        }
        let data = match flags & 0x7 {
            1 => IrqData::None,
            2 => IrqData::Bool,
            4 => IrqData::Eventfd,
            _ => return Err(IrqSetError::Flags { found: flags }),
        };
        let action = match flags & !0x7 {
            8 => IrqAction::Mask,
            16 => IrqAction::Unmask,
            32 => IrqAction::Trigger,
            _ => return Err(IrqSetError::Flags { found: flags }),
        };
        let available = available.unwrap_or(0);
        let end = start.checked_add(count);
        if start >= available || end.is_none_or(|end| end > available) {
            return Err(IrqSetError::Range { index, start, count, available });
        }
        let item: u64 = match data {
            IrqData::None => 0,
            IrqData::Bool => 1,
            IrqData::Eventfd if inline_fds => 4,
            IrqData::Eventfd => 0,
        };
        let expected = u64::from(count).saturating_mul(item).saturating_add(u64::from(IRQ_SET_HEADER));
        if u64::from(argsz) < expected {
            return Err(IrqSetError::ArgSize { expected, found: argsz });
        }
        Ok(IrqRequest { index, start, count, data, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::edges;

    fn set(argsz: u32, flags: u32, start: u32, count: u32) -> IrqSet {
        IrqSet { argsz, flags, index: 0, start, count }
    }

    #[test]
    fn disable_and_trigger_are_understood() {
        let disable = set(20, 0x21, 0, 0).parse(Some(1), true).unwrap();
        assert_eq!((disable.data, disable.action, disable.count), (IrqData::None, IrqAction::Trigger, 0));
        let arm = set(24, 0x24, 0, 1).parse(Some(1), true).unwrap();
        assert_eq!((arm.data, arm.action), (IrqData::Eventfd, IrqAction::Trigger));
        assert!(set(20, 0x24, 0, 1).parse(Some(1), true).is_err(), "no room for the descriptor");
        assert!(set(20, 0x24, 0, 1).parse(Some(1), false).is_ok(), "the descriptor travels beside");
    }

    #[test]
    fn each_action_has_its_flag() {
        let action = |flags| set(20, 1 | flags, 0, 1).parse(Some(1), true).map(|request| request.action);
        assert_eq!([8, 16, 32].map(action), [IrqAction::Mask, IrqAction::Unmask, IrqAction::Trigger].map(Ok));
        for flags in [0, 8 | 16, 16 | 32, 64] {
            assert_eq!(action(flags), Err(IrqSetError::Flags { found: 1 | flags }));
        }
    }

    #[test]
    fn ranges_cannot_wrap() {
        for (start, count) in [(0, 2), (1, 0), (1, u32::MAX), (u32::MAX, 1), (0, u32::MAX)] {
            assert!(
                matches!(
                    set(u32::MAX, 0x21, start, count).parse(Some(1), true),
                    Err(IrqSetError::Range { .. })
                ),
                "{start}+{count}"
            );
        }
        assert!(set(20, 0x21, 0, 0).parse(Some(0), true).is_err());
        assert!(set(20, 0x21, 0, 0).parse(None, true).is_err());
    }

    #[test]
    fn ranges_and_their_data_are_right_at_every_edge() {
        let all = || edges::U32.into_iter();
        for (start, count, available) in
            all().flat_map(|s| all().flat_map(move |c| all().map(move |a| (s, c, a))))
        {
            let fits = start < available && u64::from(start) + u64::from(count) <= u64::from(available);
            for (flags, item, inline_fds) in
                [(0x21, 0, true), (0x22, 1, true), (0x24, 4, true), (0x24, 0, false)]
            {
                let needed = 20 + u64::from(count) * item;
                for argsz in [19, 20, needed.saturating_sub(1), needed, u64::from(u32::MAX)] {
                    let Ok(argsz) = u32::try_from(argsz) else { continue };
                    let accepted = set(argsz, flags, start, count).parse(Some(available), inline_fds).is_ok();
                    let expected = fits && argsz >= 20 && u64::from(argsz) >= needed;
                    assert_eq!(
                        accepted, expected,
                        "{start}+{count} of {available}, {argsz} bytes, {flags:#x}"
                    );
                }
            }
        }
    }

    #[test]
    fn flags_are_one_data_type_and_one_action() {
        for flags in [0, 1, 0x20, 0x23, 0x31, 0x61, 0x100, u32::MAX] {
            assert!(
                matches!(set(64, flags, 0, 1).parse(Some(1), true), Err(IrqSetError::Flags { .. })),
                "{flags:#x}"
            );
        }
    }
}
