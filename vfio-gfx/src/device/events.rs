//! What changed on the screen, told to whoever waits.
//!
//! A console need not ask at every tick whether the guest has set a mode or flipped: it gives the device an eventfd per
//! kind of change and sleeps. Pixels that a guest draws into memory it shares with us cause no event; those still have to
//! be looked at.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bitflags::bitflags;

use super::Scanout;
use super::eventfd::signal;
use crate::abi::PlaneKind;
use crate::number::to_usize;

bitflags! {
    /// Kinds of display changes. Bit n is interrupt n of the display interrupt index.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct DisplayEvents: u8 {
        /// A primary or overlay plane came on or changed its size, stride or format.
        const MODE_SET = 1;
        /// A primary or overlay plane shows other memory, or is elsewhere.
        const FLIP = 2;
        /// The cursor moved.
        const CURSOR_MOVE = 4;
        /// The cursor came on or looks different.
        const CURSOR_SHAPE = 8;
        /// A plane went off.
        const PLANE_OFF = 16;
    }
}

/// How many kinds there are.
pub const DISPLAY_EVENTS: u32 = 5;

/// What each plane shows, in the order of [`PlaneKind::ALL`].
pub(super) type Planes = [Option<Scanout>; 3];

/// What is known of one plane.
pub(super) fn known(planes: &Planes, kind: PlaneKind) -> Option<&Option<Scanout>> {
    PlaneKind::ALL.into_iter().zip(planes).find_map(|(other, plane)| (other == kind).then_some(plane))
}

/// How one plane changed.
fn difference(kind: PlaneKind, old: Option<Scanout>, new: Option<Scanout>) -> DisplayEvents {
    let (old, new) = match (old, new) {
        (None, None) => return DisplayEvents::empty(),
        (Some(_), None) => return DisplayEvents::PLANE_OFF,
        (None, Some(_)) if kind == PlaneKind::Cursor => return DisplayEvents::CURSOR_SHAPE,
        (None, Some(_)) => return DisplayEvents::MODE_SET,
        (Some(old), Some(new)) => (old, new),
    };
    let same_memory = Scanout { position: old.position, ..new } == old;
    let same_layout = (new.format, new.modifier, new.geometry) == (old.format, old.modifier, old.geometry);
    match kind {
        _ if old == new => DisplayEvents::empty(),
        PlaneKind::Cursor if same_memory => DisplayEvents::CURSOR_MOVE,
        PlaneKind::Cursor if new.position != old.position => {
            DisplayEvents::CURSOR_MOVE | DisplayEvents::CURSOR_SHAPE
        }
        PlaneKind::Cursor => DisplayEvents::CURSOR_SHAPE,
        _ if same_layout => DisplayEvents::FLIP,
        _ => DisplayEvents::MODE_SET,
    }
}

/// How the screen changed.
pub(super) fn differences(old: &Planes, new: &Planes) -> DisplayEvents {
    let planes = PlaneKind::ALL.into_iter().zip(old.iter().zip(new));
    planes.fold(DisplayEvents::empty(), |events, (kind, (old, new))| events | difference(kind, *old, *new))
}

type Eventfds = [Option<OwnedFd>; to_usize(DISPLAY_EVENTS)];

/// One party's eventfds. It stops being told when this is dropped.
#[derive(Clone, Debug)]
pub struct Watcher(Arc<Mutex<Eventfds>>);

impl Watcher {
    /// Sets which eventfd each kind of change signals, by its bit; `None` = not told.
    pub fn set(&self, event: u32, eventfd: Option<OwnedFd>) {
        let mut eventfds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = usize::try_from(event).ok().and_then(|event| eventfds.get_mut(event)) {
            *slot = eventfd;
        }
    }
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Watchers(Vec<Weak<Mutex<Eventfds>>>);

impl Watchers {
    pub(super) fn add(&mut self) -> Watcher {
        let watcher = Arc::default();
        self.0.retain(|other| other.strong_count() > 0);
        self.0.push(Arc::downgrade(&watcher));
        Watcher(watcher)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn tell(&mut self, events: DisplayEvents) {
        self.0.retain(|watcher| {
            let Some(watcher) = watcher.upgrade() else {
                return false;
            };
            let eventfds = watcher.lock().unwrap_or_else(PoisonError::into_inner);
            for (bit, eventfd) in eventfds.iter().enumerate() {
                if let Some(eventfd) = eventfd
                    && events.bits() >> bit & 1 != 0
                {
                    signal(eventfd);
                }
            }
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::Fourcc;
    use crate::plane::Geometry;
    use rustix::event::{EventfdFlags, eventfd};

    fn scanout(width: u32, offset: u64, x: i32) -> Option<Scanout> {
        let geometry = Geometry::new(width, 64, width * 4, 4).unwrap();
        Some(Scanout { position: (x, 0), ..Scanout::primary(Fourcc::XRGB8888, geometry, offset) })
    }

    #[test]
    fn planes_that_change_together_are_all_told() {
        let (a, flipped, moved) = (scanout(64, 0, 0), scanout(64, 4096, 0), scanout(64, 0, 5));
        assert_eq!(differences(&[a, a, a], &[flipped, flipped, a]), DisplayEvents::FLIP);
        assert_eq!(
            differences(&[a, a, a], &[flipped, None, moved]),
            DisplayEvents::FLIP | DisplayEvents::PLANE_OFF | DisplayEvents::CURSOR_MOVE
        );
    }

    #[test]
    fn whoever_has_gone_is_forgotten_although_nothing_changes() {
        let mut watchers = Watchers::default();
        let stays = watchers.add();
        let told = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        stays.set(DisplayEvents::FLIP.bits().trailing_zeros(), Some(told.try_clone().unwrap()));
        for _ in 0..100 {
            drop(watchers.add());
        }
        assert!(watchers.0.len() <= 2, "{}", watchers.0.len());
        watchers.tell(DisplayEvents::FLIP);
        assert!(rustix::io::read(&told, &mut [0; 8]).is_ok(), "who stays is told");
    }

    #[test]
    fn each_change_has_its_name() {
        let (a, wide, flipped, moved) =
            (scanout(64, 0, 0), scanout(128, 0, 0), scanout(64, 4096, 0), scanout(64, 0, 5));
        for (kind, old, new, expected) in [
            (PlaneKind::Primary, None, a, DisplayEvents::MODE_SET),
            (PlaneKind::Primary, a, wide, DisplayEvents::MODE_SET),
            (PlaneKind::Primary, a, flipped, DisplayEvents::FLIP),
            (PlaneKind::Overlay, a, moved, DisplayEvents::FLIP),
            (PlaneKind::Primary, a, a, DisplayEvents::empty()),
            (PlaneKind::Primary, a, None, DisplayEvents::PLANE_OFF),
            (PlaneKind::Cursor, None, a, DisplayEvents::CURSOR_SHAPE),
            (PlaneKind::Cursor, a, flipped, DisplayEvents::CURSOR_SHAPE),
            (PlaneKind::Cursor, a, moved, DisplayEvents::CURSOR_MOVE),
            (PlaneKind::Cursor, flipped, moved, DisplayEvents::CURSOR_MOVE | DisplayEvents::CURSOR_SHAPE),
            (PlaneKind::Cursor, a, None, DisplayEvents::PLANE_OFF),
        ] {
            assert_eq!(difference(kind, old, new), expected, "{kind:?}");
        }
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let mut watchers = Watchers::default();
        let watcher = watchers.add();
        assert!(!watchers.is_empty());
        drop(watcher);
        watchers.tell(DisplayEvents::FLIP);
        assert!(watchers.is_empty());
    }
}
