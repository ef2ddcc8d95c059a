//! Single calls, most of their arguments at or around what is right.

use vfio_gfx::abi::DeviceIoctl;

use super::places;
use super::rng::Rng;
use super::steps::{BufferId, Step};
use super::target::MapRequest;

/// What stands behind a struct, as in the kernel's recordings: a call that touches it shows.
pub(super) const GUARD: u8 = 0xaa;
/// `_IO(';', 100 + 99)` and others that are no device's.
const UNKNOWN: [u32; 3] = [0x3bc7, 0x3b00, 0x3bff];
/// `VFIO_IRQ_SET_DATA_EVENTFD` (linux/vfio.h)
const DATA_EVENTFD: u32 = 1 << 2;
/// `VFIO_DEVICE_FEATURE_PROBE` (linux/vfio.h). Features are only probed: some take addresses of the caller's memory.
const FEATURE_PROBE: u32 = 1 << 18;

pub(super) fn ioctl(op: &'static str, request: DeviceIoctl, arg: Vec<u8>) -> Step {
    Step::Ioctl { op, request: request.raw(), arg }
}

/// `len` bytes of memory with these words at the start. Once in a while it ends early.
fn memory(rng: &mut Rng, words: &[u32], len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(len, GUARD);
    if rng.one_in(32) {
        bytes.truncate(usize::try_from(rng.below(len as u64)).unwrap_or_default());
    }
    bytes
}

/// A size that may be just right, just wrong or nonsense.
fn argsz(rng: &mut Rng, least: u32, len: u32) -> u32 {
    match rng.below(12) {
        0 => 0,
        1 => least - 1,
        2 => least + 1,
        3 => least + 4 * u32::try_from(rng.below(12)).unwrap_or_default(),
        4 => u32::MAX,
        5 => u32::try_from(rng.below(200)).unwrap_or_default(),
        6 | 7 => len,
        _ => least,
    }
}

/// Mostly below `limit`, sometimes at or far beyond it.
fn index(rng: &mut Rng, limit: u32) -> u32 {
    match rng.below(16) {
        0 => limit,
        1 => limit + 1,
        2 => rng.pick(&[16, 17, 31, 63, 255, 1 << 16, 0x7fff_ffff, 0x8000_0000, u32::MAX]),
        3 => rng.u32(),
        _ => u32::try_from(rng.below(u64::from(limit))).unwrap_or_default(),
    }
}

/// What a field that is only written holds: what the caller left there.
fn left_over(rng: &mut Rng) -> u32 {
    match rng.below(3) {
        0 => 0,
        1 => u32::from_le_bytes([GUARD; 4]),
        _ => rng.u32(),
    }
}

pub(super) fn query(rng: &mut Rng) -> Step {
    // Probes are 3 and 5, queries 2 and 4 (linux/vfio.h); with bits too many, too few or unknown the rest.
    let flags = match rng.below(8) {
        0 | 1 => 2,
        2 | 3 => 4,
        4 => rng.pick(&[3, 5]),
        5 => rng.u32(),
        _ => u32::try_from(rng.below(9)).unwrap_or_default(),
    };
    let size = argsz(rng, 60, 64);
    let plane = index(rng, 3);
    let mut words = vec![size, flags, plane];
    if rng.one_in(2) {
        words.extend((0..13).map(|_| rng.u32()));
    }
    ioctl("query_gfx_plane", DeviceIoctl::QueryGfxPlane, memory(rng, &words, 80))
}

pub(super) fn info(rng: &mut Rng, size: Option<u32>) -> Step {
    match size {
        Some(size) => {
            let mut arg = size.to_le_bytes().to_vec();
            arg.resize(64, GUARD);
            ioctl("get_info", DeviceIoctl::GetInfo, arg)
        }
        None => {
            let size = argsz(rng, 16, 24);
            ioctl("get_info", DeviceIoctl::GetInfo, memory(rng, &[size], 64))
        }
    }
}

pub(super) fn region_info(rng: &mut Rng) -> Step {
    let words = [argsz(rng, 32, 48), left_over(rng), index(rng, 10), left_over(rng)];
    ioctl("get_region_info", DeviceIoctl::GetRegionInfo, memory(rng, &words, 96))
}

pub(super) fn irq_info(rng: &mut Rng) -> Step {
    let words = [argsz(rng, 16, 24), left_over(rng), index(rng, 6), left_over(rng)];
    let len = rng.pick(&[16, 64]);
    ioctl("get_irq_info", DeviceIoctl::GetIrqInfo, memory(rng, &words, len))
}

pub(super) fn set_irqs(rng: &mut Rng) -> Step {
    // One action and one kind of data is what is right.
    let flags = match rng.below(4) {
        0 => rng.u32() & 0x7f,
        _ => rng.pick(&[1, 2, 4]) | rng.pick(&[8, 16, 32]),
    };
    let count = rng.pick(&[0, 0, 1, 1, 2, u32::MAX]);
    let words = [argsz(rng, 20, 24), flags, index(rng, 6), rng.pick(&[0, 0, 1, u32::MAX]), count];
    let mut arg: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    // A descriptor's number would mean nothing to whoever replays it; -1 stands for none.
    let data =
        if flags & DATA_EVENTFD == 0 { u32::try_from(rng.below(2)).unwrap_or_default() } else { u32::MAX };
    arg.extend_from_slice(&data.to_le_bytes());
    ioctl("set_irqs", DeviceIoctl::SetIrqs, arg)
}

pub(super) fn feature(rng: &mut Rng) -> Step {
    let number = rng.pick(&[0, 1, 2, 3, 10, 0xffff]);
    let flags = FEATURE_PROBE | rng.pick(&[0, 1 << 16, 1 << 17, 3 << 16]) | number;
    let mut words = vec![argsz(rng, 8, 64), flags];
    words.resize(16, 0);
    ioctl("device_feature", DeviceIoctl::Feature, memory(rng, &words, 64))
}

/// Calls that displays have no use for, with arguments that mean nothing.
pub(super) fn other(rng: &mut Rng) -> Step {
    match rng.below(3) {
        0 => Step::Ioctl { op: "unknown_ioctl", request: rng.pick(&UNKNOWN), arg: vec![0; 16] },
        1 => ioctl("ioeventfd", DeviceIoctl::Ioeventfd, vec![0; 32]),
        _ => ioctl("get_pci_hot_reset_info", DeviceIoctl::GetPciHotResetInfo, vec![0; 16]),
    }
}

pub(super) fn bad_pointer(rng: &mut Rng) -> Step {
    if rng.one_in(2) {
        Step::BadPointer { op: "query_gfx_plane_bad_pointer", request: DeviceIoctl::QueryGfxPlane }
    } else {
        Step::BadPointer { op: "get_gfx_dmabuf_bad_pointer", request: DeviceIoctl::GetGfxDmabuf }
    }
}

pub(super) fn buffer_id(rng: &mut Rng) -> BufferId {
    match rng.below(8) {
        0 => BufferId::Literal(rng.pick(&[0, u32::MAX, 0x8000_0000])),
        1 => BufferId::Literal(u32::try_from(rng.below(16)).unwrap_or_default()),
        2..5 => BufferId::Answered(0),
        _ => BufferId::Answered(u32::try_from(rng.below(8)).unwrap_or_default()),
    }
}

pub(super) fn len(rng: &mut Rng) -> usize {
    match rng.below(32) {
        0 => 0,
        1 => rng.pick(&[64, 128, 256, 1024, 4096]),
        2..6 => usize::try_from(rng.below(17)).unwrap_or_default(),
        _ => rng.pick(&[1, 2, 4, 4, 8]),
    }
}

pub(super) fn data(rng: &mut Rng) -> Vec<u8> {
    let len = len(rng);
    match rng.below(4) {
        0 => vec![0; len],
        // Sizes a BAR.
        1 => vec![0xff; len],
        2 => rng
            .u32()
            .checked_shr(28)
            .unwrap_or_default()
            .to_le_bytes()
            .into_iter()
            .cycle()
            .take(len)
            .collect(),
        _ => rng.bytes(len),
    }
}

pub(super) fn map(rng: &mut Rng) -> Step {
    Step::Map(MapRequest {
        offset: places::map(rng),
        len: places::map_len(rng),
        prot: rng.pick(&[1, 1, 3]),
        flags: rng.pick(&[1, 1, 1, 2]),
    })
}
