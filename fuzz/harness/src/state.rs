//! What a console must not change.

use vfio_gfx::abi::{Interface, PlaneKind};
use vfio_gfx::device::{Backing, Device};
use vfio_gfx::vfio_user::{Command, RegionAccess};

/// Registers of a `vgfx` that tell how flips end and of the link: COMPLETED, STATUS, LINK, INTERRUPTS, TIMED_OUT.
const TELLING: [u64; 5] = [0x80c, 0x810, 0x814, 0x818, 0x824];

/// Bits of INTERRUPTS.
const FLIP_OVER: u32 = 1;
const FLIP_TIMED_OUT: u32 = 2;
const LINK_CHANGED: u32 = 4;

/// Configuration space, display registers, what is shown, and video memory: its start, and what an access would touch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    fixed: Vec<u8>,
    telling: [u32; 5],
}

impl State {
    pub(crate) fn of(device: &mut Device, access: Option<RegionAccess>) -> Self {
        let plane = device.query(Interface::Region, PlaneKind::Primary).ok();
        let mut fixed = format!("{plane:?}").into_bytes();
        let mut add = |device: &mut Device, region, offset, len| {
            let start = fixed.len();
            fixed.resize(start + len, 0);
            let _ = device.read(region, offset, &mut fixed[start..]);
        };
        add(device, 7, 0, 256);
        add(device, 0, 0, 1 << 14);
        add(device, 2, 0x604, 4);
        for offset in (0x500..0x516).step_by(2) {
            add(device, 2, offset, 2);
        }
        for offset in (0x800..0x900).step_by(4).filter(|offset| !TELLING.contains(offset)) {
            add(device, 2, offset, 4);
        }
        if let Some(RegionAccess { offset, region, count }) = access
            && device.regions().get(region).is_some_and(|region| region.backing == Backing::Vram)
        {
            add(device, region, offset, count.min(1 << 16) as usize);
        }
        let telling = TELLING.map(|offset| {
            let mut register = [0; 4];
            let _ = device.read(2, offset, &mut register);
            u32::from_le_bytes(register)
        });
        Self { fixed, telling }
    }

    /// A console did something (`None`: it left) and time stood still. It may plug the monitor in and out, by the EDID region; it may
    /// end the flip that is waiting for it, by saying so or by going; and then the guest is told just that.
    pub(crate) fn check_since(&self, before: &Self, command: Option<Command>) {
        assert!(self.fixed == before.fixed, "a console changed something by {command:?}");
        let [completed, last, link, told, timed_out] = self.telling;
        let [was_completed, was_last, was_link, was_told, was_timed_out] = before.telling;
        let may_end_flips = matches!(command, None | Some(Command::PaceFlips));
        let may_change_link = may_end_flips || command == Some(Command::RegionWrite);
        let over = completed.wrapping_sub(was_completed);
        assert!(over <= u32::from(may_end_flips), "{over} flips ended by {command:?}");
        assert!(may_change_link || link == was_link, "link {link} instead of {was_link} by {command:?}");
        if over == 0 {
            assert_eq!((last, timed_out), (was_last, was_timed_out), "the end of no flip, by {command:?}");
        } else {
            // Shown, or out of time for somebody else who was waited for too.
            let late = timed_out - was_timed_out;
            assert_eq!(last, [1, 3][usize::try_from(late).unwrap()], "a flip ended by {command:?}");
        }
        let news = [
            (over != 0, FLIP_OVER),
            (timed_out != was_timed_out, FLIP_TIMED_OUT),
            (link != was_link, LINK_CHANGED),
        ];
        let news = news.into_iter().fold(0, |news, (is_so, bit)| if is_so { news | bit } else { news });
        assert_eq!(told, was_told | news, "what the guest is told after {command:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(telling: [u32; 5], command: Option<Command>) {
        let before = State { fixed: vec![1], telling: [4, 1, 1, 1, 0] };
        State { fixed: vec![1], telling }.check_since(&before, command);
    }

    #[test]
    fn a_console_ends_a_flip_and_unplugs_the_monitor() {
        check([4, 1, 1, 1, 0], Some(Command::RegionRead));
        check([5, 1, 1, 1, 0], Some(Command::PaceFlips));
        check([5, 3, 1, 3, 1], None);
        check([4, 1, 2, 5, 0], Some(Command::RegionWrite));
    }

    #[test]
    #[should_panic(expected = "flips ended")]
    fn no_other_message_ends_flips() {
        check([5, 1, 1, 1, 0], Some(Command::RegionWrite));
    }

    #[test]
    #[should_panic(expected = "the guest is told")]
    fn a_link_that_changes_is_told() {
        check([4, 1, 2, 1, 0], Some(Command::RegionWrite));
    }

    #[test]
    #[should_panic(expected = "link 2")]
    fn no_read_changes_the_link() {
        check([4, 1, 2, 5, 0], Some(Command::RegionRead));
    }
}
