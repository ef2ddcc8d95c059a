//! Calls that mean something only one after the other.

use vfio_gfx::abi::DeviceIoctl;
use vfio_gfx::format::Fourcc;

use super::rng::Rng;
use super::steps::{BufferId, Step};
use super::{calls, places};

fn dispi(register: u64, value: u16) -> Step {
    Step::Write { offset: places::DISPI + 2 * register, data: value.to_le_bytes().to_vec() }
}

fn word(offset: u64, value: u32) -> Step {
    Step::Write { offset, data: value.to_le_bytes().to_vec() }
}

/// Asks for the primary plane as a buffer, and for that. Twice: mbochs has no memory for the first query of each mode.
fn look(rng: &mut Rng) -> Vec<Step> {
    let request = |plane: u32| {
        let mut arg: Vec<u8> = [64, 2, plane].into_iter().flat_map(u32::to_le_bytes).collect();
        arg.resize(80, calls::GUARD);
        calls::ioctl("query_gfx_plane", DeviceIoctl::QueryGfxPlane, arg)
    };
    let plane = rng.pick(&[1, 1, 0, 2]);
    vec![request(1), request(plane), Step::Dmabuf { id: BufferId::Answered(0), keep: false }]
}

/// A driver that sets a mode, most of them sensible.
pub(super) fn mode(rng: &mut Rng) -> Vec<Step> {
    let (width, height) = rng.pick(&[
        (640, 480),
        (640, 480),
        (800, 600),
        (320, 200),
        (1024, 768),
        (1280, 1024),
        (1920, 1080),
        (1921, 1081),
        (2560, 1440),
        (64, 64),
        (63, 64),
        (8192, 8192),
        (0, 0),
    ]);
    let virt_width = rng.pick(&[width, width, width, width, width + 32, width + 1, 0]);
    let mut steps = vec![
        // The identifier, which mbochs lets anyone overwrite, and then knows no mode.
        dispi(0, 0xb0c5),
        dispi(4, 0),
        dispi(1, width),
        dispi(2, height),
        dispi(3, if rng.one_in(8) { rng.pick(&[24, 16, 8, 0]) } else { 32 }),
        dispi(6, virt_width),
        dispi(8, rng.pick(&[0, 0, 0, 0, 0, 0, 4, 32, 1])),
        dispi(9, rng.pick(&[0, 0, 0, height, height, 64, 1, 16, u16::MAX])),
        dispi(4, rng.pick(&[0x41, 0x41, 0x41, 0xc1, 0x01, 0x43])),
        // Lets the display shine (VGA attribute controller).
        Step::Write { offset: 0x1400, data: vec![if rng.one_in(8) { 0x00 } else { 0x20 }] },
    ];
    steps.extend(look(rng));
    steps
}

/// A driver of our own types that shows one of their planes; `docs/src/devices.md` has the registers.
pub(super) fn planes(rng: &mut Rng) -> Vec<Step> {
    let plane = places::PLANE_REGISTERS + 0x40 + 0x40 * rng.below(3);
    let (width, height) = rng.pick(&[(64, 64), (256, 128), (640, 480), (65, 33), (4096, 4096), (0, 1)]);
    let format = rng.pick(&[Fourcc::XRGB8888.bits(), Fourcc::ARGB8888.bits(), Fourcc::RGB565.bits(), 0]);
    let values = [
        rng.pick(&[1, 1, 1, 0, u32::MAX]),
        format,
        rng.pick(&[0, 0x10_0000, 0x1000, 4, u32::MAX]),
        0,
        rng.pick(&[width * 4, width * 4, width * 4 + 64, 0]),
        width,
        height,
        rng.pick(&[0, 10, u32::MAX, 5000]),
        rng.pick(&[0, 10, u32::MAX - 20]),
    ];
    let mut steps: Vec<Step> =
        (0..).step_by(4).zip(values).map(|(at, value)| word(plane + at, value)).collect();
    steps.push(word(places::PLANE_REGISTERS + 8, 1));
    steps.extend(look(rng));
    steps
}

/// Somebody who plugs in a monitor.
pub(super) fn monitor(rng: &mut Rng) -> Vec<Step> {
    let size = rng.pick(&[128, 256, 0, 1, 1024, 1025]);
    let mut blob = vec![0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0];
    blob.extend(rng.bytes(56));
    vec![
        word(places::EDID + 0x14, 2),
        Step::Write { offset: places::EDID_BLOB, data: blob },
        word(places::EDID + 8, size),
        word(places::EDID + 0x14, rng.pick(&[1, 1, 1, 0, 3])),
        Step::Read { offset: 0x1000, len: 64 },
    ]
}

/// What is known to bring the kernel's mbochs down.
pub(super) fn known_crash(rng: &mut Rng) -> Vec<Step> {
    match rng.below(4) {
        0 => vec![Step::Read { offset: places::lost(rng), len: 4 }],
        1 => vec![Step::Write { offset: places::lost(rng), data: rng.bytes(4) }],
        _ => vec![
            Step::Dmabuf { id: BufferId::Answered(0), keep: true },
            Step::Dmabuf { id: BufferId::Again, keep: false },
        ],
    }
}
