//! Planes that change by themselves: whoever waits behind a socket is told, and the server sleeps until then.

use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use vfio_gfx::abi::PlaneKind;
use vfio_gfx::device::{DisplayEvents, Model, Platform, Scanout};
use vfio_gfx::display::{Display, Remote};
use vfio_gfx::format::Fourcc;
use vfio_gfx::plane::Geometry;

use crate::fixture::{REGISTERS, Served, device_with};
use crate::hostile::EINVAL;
use crate::peer::{Peer, RESET, SET_IRQS, words};

const DELAY: Duration = Duration::from_millis(200);

/// Its plane comes on [`DELAY`] after a write.
#[derive(Default)]
struct Late(Option<Instant>);

impl Model for Late {
    fn read(&mut self, _: u32, _: u64, _: &mut [u8], _: &Platform<'_>) {}

    fn write(&mut self, _: u32, _: u64, _: &[u8], _: &Platform<'_>) {
        self.0 = Some(Instant::now());
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        let on = kind == PlaneKind::Primary && self.0?.elapsed() >= DELAY;
        on.then(|| Scanout::primary(Fourcc::XRGB8888, Geometry::new(64, 64, 256, 4).unwrap(), 0))
    }

    fn changes_in(&mut self) -> Option<Duration> {
        self.0.map(|since| DELAY.saturating_sub(since.elapsed())).filter(|left| !left.is_zero())
    }

    fn reset(&mut self, _: &Platform<'_>) {
        self.0 = None;
    }
}

#[test]
fn what_happens_without_an_access_is_told() {
    let served = Served::of(|| device_with(Box::new(Late::default()), true));
    let mut vmm: Peer = served.vmm();
    let mut displays: Vec<Display> =
        (0..2).map(|_| Display::open(Box::new(Remote::connect(served.path()).unwrap())).unwrap()).collect();
    let watches: Vec<_> = displays.iter_mut().map(|d| d.backend().watch().unwrap().unwrap()).collect();
    for _ in 0..2 {
        let start = Instant::now();
        vmm.write(REGISTERS, 0, &[1]);
        for watch in &watches {
            assert_eq!(watch.wait(Duration::from_secs(30)).unwrap(), DisplayEvents::MODE_SET);
        }
        assert!((DELAY..DELAY + Duration::from_secs(10)).contains(&start.elapsed()));
        vmm.ask(RESET, &[]).ok();
        assert_eq!(watches[0].wait(Duration::from_secs(30)).unwrap(), DisplayEvents::PLANE_OFF);
        assert_eq!(watches[1].wait(Duration::from_secs(30)).unwrap(), DisplayEvents::PLANE_OFF);
    }
}

/// Somebody comes to wait while the change is under way already.
#[test]
fn whoever_comes_in_between_is_told_too() {
    let served = Served::of(|| device_with(Box::new(Late::default()), true));
    served.vmm().write(REGISTERS, 0, &[1]);
    let mut display = Display::open(Box::new(Remote::connect(served.path()).unwrap())).unwrap();
    let watch = display.backend().watch().unwrap().unwrap();
    if display.plane(PlaneKind::Primary).unwrap().is_none() {
        assert_eq!(watch.wait(Duration::from_secs(30)).unwrap(), DisplayEvents::MODE_SET);
    }
}

/// A console's interrupt is a write to a descriptor of its choice, too.
#[test]
fn only_eventfds_are_told() {
    let served = Served::of(|| device_with(Box::new(Late::default()), true));
    let mut console = served.console();
    let (reader, writer) = std::io::pipe().unwrap();
    // DATA_EVENTFD | ACTION_TRIGGER on the two first kinds of changes.
    let arm = words(&[20, 0x24, 5, 0, 2]);
    let eventfd = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    for useless in [reader.into(), writer.into(), std::fs::File::open("/dev/null").unwrap().into()] {
        assert_eq!(console.ask_with(SET_IRQS, &arm, &[&eventfd, &useless]).refusal(), EINVAL);
    }
    console.ask_with(SET_IRQS, &arm, &[&eventfd, &eventfd]).ok();
    served.vmm().write(REGISTERS, 0, &[1]);
    // Blocks until the mode is set.
    let mut count = [0; 8];
    rustix::io::read(&eventfd, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
}
