//! What an absolute pointer does: where it is on a scale of its own, and which buttons changed.

use super::{Pointer, buttons};

/// The largest coordinate of an absolute pointer device, in QEMU and its USB tablet.
pub const MAX_COORDINATE: u16 = 0x7fff;

/// A pointer device changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Motion {
    /// Where it is then: from the left and from the top, 0 to [`MAX_COORDINATE`].
    pub position: (u16, u16),
    /// [`buttons`] that are down then.
    pub down: u16,
    /// Those of them that were not, and those that were and are not down any more.
    pub changed: u16,
}

impl Motion {
    /// Whether no button changes: one that comes later can stand for it.
    #[must_use]
    pub fn is_move(&self) -> bool {
        self.changed == 0
    }

    /// Whether buttons come up and none goes down.
    #[must_use]
    pub fn is_release(&self) -> bool {
        self.changed != 0 && self.changed & self.down == 0
    }
}

/// Where a pointer is and what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mouse {
    position: Option<(u16, u16)>,
    down: u16,
}

impl Mouse {
    /// What changes when the pointer is as a viewer says; none if nothing. It has happened when it was
    /// [recorded](Self::record).
    #[must_use]
    pub fn motion(&self, pointer: Pointer) -> Option<Motion> {
        let position = (scale(pointer.x, pointer.width), scale(pointer.y, pointer.height));
        let down = pointer.buttons & buttons::ALL;
        let motion = Motion { position, down, changed: down ^ self.down };
        (self.position != Some(position) || !motion.is_move()).then_some(motion)
    }

    /// What lets go of the buttons; none if none is held.
    #[must_use]
    pub fn release(&self) -> Option<Motion> {
        let position = self.position.filter(|_| self.down != 0)?;
        Some(Motion { position, down: 0, changed: self.down })
    }

    /// This happened.
    pub fn record(&mut self, motion: Motion) {
        *self = Self { position: Some(motion.position), down: motion.down };
    }
}

/// The middle of a pixel on the device's scale, so that a guest gets the same pixel however it rounds.
fn scale(at: u32, of: u32) -> u16 {
    let (at, of) = (u64::from(at.min(of.saturating_sub(1))), u64::from(of.max(1)));
    let middle = at.saturating_mul(2).saturating_add(1);
    let steps = u64::from(MAX_COORDINATE).saturating_add(1);
    let scaled = middle.saturating_mul(steps).checked_div(of.saturating_mul(2)).unwrap_or(0);
    u16::try_from(scaled).unwrap_or(MAX_COORDINATE).min(MAX_COORDINATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointer(x: u32, y: u32, buttons: u16) -> Pointer {
        Pointer { x, y, width: 1920, height: 1080, buttons }
    }

    #[test]
    fn a_guest_gets_the_same_pixel() {
        for of in [1, 2, 640, 800, 1080, 1366, 1920, 3840, 7680] {
            for at in 0..of {
                let scaled = u32::from(scale(at, of));
                assert!(scaled <= 0x7fff);
                assert_eq!(scaled * of / 0x8000, at, "rounding down, {at} of {of}");
                let rounded = (scaled * (of - 1) + 0x3fff) / 0x7fff;
                assert_eq!(rounded, at, "rounding to the nearest, {at} of {of}");
            }
        }
    }

    #[test]
    fn what_is_off_the_screen_is_at_its_edge() {
        assert_eq!(scale(5000, 640), scale(639, 640));
        assert_eq!(scale(u32::MAX, u32::MAX), MAX_COORDINATE);
        assert_eq!(scale(7, 0), scale(0, 1));
    }

    #[test]
    fn only_changes_are_told() {
        let mut mouse = Mouse::default();
        assert_eq!(mouse.release(), None);
        let first = mouse.motion(pointer(3, 4, 0)).unwrap();
        assert!(first.is_move());
        mouse.record(first);
        assert_eq!(mouse.motion(pointer(3, 4, 0)), None);
        let press = mouse.motion(pointer(3, 4, buttons::LEFT | buttons::FORWARD | 0x8000)).unwrap();
        assert_eq!((press.down, press.changed), (0x101, 0x101));
        assert!(!press.is_release() && !press.is_move());
        mouse.record(press);
        let release = mouse.motion(pointer(9, 9, buttons::LEFT)).unwrap();
        assert!(release.is_release());
        mouse.record(release);
        let last = mouse.release().unwrap();
        assert_eq!((last.down, last.changed, last.position), (0, buttons::LEFT, release.position));
    }
}
