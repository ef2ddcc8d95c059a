//! Consoles that flips wait for, over the socket.

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::device::{Effects, Model, Platform, Scanout};
use vfio_gfx::format::Fourcc;
use vfio_gfx::plane::Geometry;

use crate::fixture::{REGISTERS, SCRATCH, Served, check_console, device_with};
use crate::hostile::{EINVAL, EOPNOTSUPP};
use crate::peer::{Peer, u32_at, u64_at};

const PACE_FLIPS: u16 = 0x7600;
const LOOK: u32 = 0;
const JOIN: u32 = 1;
const TAKEN: u32 = 2;
const LEAVE: u32 = 3;

/// Every write of a register is a flip.
#[derive(Default)]
struct Flipping {
    flipped: bool,
}

impl Model for Flipping {
    fn read(&mut self, _: u32, _: u64, _: &mut [u8], _: &Platform<'_>) {}

    fn write(&mut self, _: u32, _: u64, _: &[u8], _: &Platform<'_>) {
        self.flipped = true;
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        let geometry = Geometry::new(64, 48, 256, 4).unwrap();
        (kind == PlaneKind::Primary).then(|| Scanout::primary(Fourcc::XRGB8888, geometry, 0))
    }

    fn effects(&mut self) -> Effects {
        Effects { flip: std::mem::take(&mut self.flipped), interrupts: 0 }
    }

    fn reset(&mut self, _: &Platform<'_>) {}
}

fn request(operation: u32, flip: u64) -> Vec<u8> {
    [&operation.to_ne_bytes()[..], &[0; 4], &flip.to_ne_bytes()].concat()
}

/// Requested, completed, and the flags.
fn pace(console: &mut Peer, operation: u32, flip: u64) -> (u64, u64, u32) {
    let reply = console.ask(PACE_FLIPS, &request(operation, flip)).ok();
    assert_eq!(reply.len(), 24);
    assert!((1..=3).contains(&u32_at(&reply, 16)), "a link state");
    (u64_at(&reply, 0), u64_at(&reply, 8), u32_at(&reply, 20))
}

fn flip(vmm: &mut Peer) {
    vmm.write(REGISTERS, SCRATCH, &[1]);
}

#[test]
fn a_console_joins_takes_and_leaves() {
    let served = Served::of(|| device_with(Box::new(Flipping::default()), true));
    let (mut vmm, mut console) = (served.vmm(), served.console());
    flip(&mut vmm);
    assert_eq!(pace(&mut console, LOOK, 0), (1, 1, 0), "nobody is waited for");
    assert_eq!(pace(&mut console, JOIN, 0), (1, 1, 1));
    assert_eq!(pace(&mut console, JOIN, 0), (1, 1, 1), "once is as good as twice");
    flip(&mut vmm);
    let (requested, _, _) = pace(&mut console, LOOK, 0);
    assert_eq!(requested, 2);
    assert_eq!(pace(&mut console, TAKEN, 2), (2, 2, 1));
    flip(&mut vmm);
    assert_eq!(pace(&mut console, LEAVE, 0), (3, 3, 0));
    assert_eq!(pace(&mut console, LEAVE, 0), (3, 3, 0));
    // A console that is cut off is not waited for either.
    pace(&mut console, JOIN, 0);
    drop(console);
    let mut other = served.console();
    flip(&mut vmm);
    assert_eq!(pace(&mut other, LOOK, 0).0, 4);
    check_console(&mut other);
}

#[test]
fn nonsense_is_refused_and_changes_nothing() {
    let served = Served::of(|| device_with(Box::new(Flipping::default()), true));
    let (mut vmm, mut console) = (served.vmm(), served.console());
    flip(&mut vmm);
    let mut refused = vec![
        request(4, 0),
        request(u32::MAX, 0),
        request(LOOK, 1),
        request(JOIN, 1),
        request(LEAVE, 1),
        request(TAKEN, 1),
        request(LOOK, 0)[..15].to_vec(),
        Vec::new(),
    ];
    let mut reserved = request(LOOK, 0);
    reserved[7] = 1;
    refused.push(reserved);
    for payload in refused {
        assert_eq!(console.ask(PACE_FLIPS, &payload).refusal(), EINVAL, "{payload:?}");
    }
    pace(&mut console, JOIN, 0);
    for future in [2, u64::MAX] {
        let payload = request(TAKEN, future);
        assert_eq!(console.ask(PACE_FLIPS, &payload).refusal(), EINVAL, "not asked for yet");
    }
    assert_eq!(pace(&mut console, TAKEN, 0), (1, 1, 1), "taken long ago");
    assert_eq!(vmm.ask(PACE_FLIPS, &request(LOOK, 0)).refusal(), EOPNOTSUPP, "without the extension");
}

#[test]
fn a_device_without_events_has_no_flips_that_wait() {
    let served = Served::of(|| device_with(Box::new(Flipping::default()), false));
    let mut console = served.console();
    for operation in [LOOK, JOIN, LEAVE] {
        assert_eq!(console.ask(PACE_FLIPS, &request(operation, 0)).refusal(), EOPNOTSUPP);
    }
}
