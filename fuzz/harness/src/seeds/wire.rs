//! Of `session` and `messages`.

use vfio_gfx::vfio_user::{Command, Header, RegionAccess, Role};
use zerocopy::IntoBytes;

use super::{CURSOR, SCREEN, count, mode, number, numbers, plane};
use crate::peer::proposal;

/// A whole message.
fn message(command: Command, payload: &[u8]) -> Vec<u8> {
    [Header::command(1, command, payload.len()).as_bytes(), payload].concat()
}

fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    [RegionAccess { offset, region, count }.as_bytes(), data].concat()
}

fn payload(words: &[u32], len: usize) -> Vec<u8> {
    let mut payload = words.as_bytes().to_vec();
    payload.resize(len, 0);
    payload
}

/// The streams of a VMM and of a console, whole and in pieces.
#[must_use]
pub fn session() -> Vec<Vec<u8>> {
    let probing = [
        message(Command::GetInfo, &payload(&[16], 16)),
        message(Command::GetRegionInfo, &payload(&[32, 0, 9], 32)),
        message(Command::GetRegionInfo, &payload(&[48, 0, 9], 32)),
        message(Command::GetIrqInfo, &payload(&[40, 0, 5], 40)),
        message(Command::RegionRead, &access(7, 0, 4, &[])),
        message(Command::RegionRead, &access(0, 0, 1 << 12, &[])),
    ];
    // Beside these two go two descriptors.
    let arming = [1, 5].map(|index| message(Command::SetIrqs, &payload(&[20, 36, index, 0, 2], 20)));
    let owning = [
        message(Command::DmaMap, &payload(&[32, 3, 0, 0, 0, 0, 0x1000], 32)),
        message(Command::SetIrqs, &payload(&[20, 33, 1, 0, 2], 20)),
        message(Command::RegionWrite, &access(2, 0x508, 2, &[0x41, 0])),
        message(Command::DmaUnmap, &payload(&[24, 2], 24)),
        message(Command::Reset, &[]),
    ];
    let looking = [
        message(Command::QueryGfxPlane, &payload(&[64, 2, 1], 64)),
        message(Command::GetGfxDmabuf, &payload(&[1], 8)),
    ];
    let piece = |fds: u8, bytes: &[u8]| {
        let len = u32::try_from(bytes.len()).unwrap_or_default();
        [&[fds], number(len).as_slice(), bytes].concat()
    };
    let mut seeds = Vec::new();
    for role in [Role::Vmm, Role::Console] {
        let version = message(Command::Version, &proposal(role));
        let (before, after) =
            ([version, probing.concat()].concat(), [owning.concat(), looking.concat()].concat());
        for (device, size) in [(0, 7), (0, 4000), (6, 40), (8, 100), (11, 64)] {
            let mut seed = vec![device, 3];
            before.chunks(size).for_each(|bytes| seed.extend(piece(0, bytes)));
            arming.iter().for_each(|bytes| seed.extend(piece(2, bytes)));
            after.chunks(size).for_each(|bytes| seed.extend(piece(0, bytes)));
            seeds.push(seed);
        }
    }
    // VERSION, then a region write of half a megabyte, most of it a run of one byte.
    let large = u32::try_from(16 + 17 * 30_000).unwrap_or_default();
    let head = access(0, 0, 17 * 30_000, &[]);
    let run = [&[0xa0, 0x77], 30_000u16.to_le_bytes().as_slice()].concat();
    let write = [&[0xc0, 10, 1, 0], number(large).as_slice(), &[0, 16], &head, &run].concat();
    seeds.push([&[0, 3, 0xe0, 0], write.as_slice()].concat());
    seeds
}

/// Operation 0 of the `messages` target; `console` is which peer.
fn exchange(console: bool, command: u8, fields: &[u32], data: &[u8]) -> Vec<u8> {
    let len = u8::try_from(data.len()).unwrap_or(u8::MAX);
    let head = [if console { 0x80 } else { 0 }, command, count(fields)];
    let is_write = matches!(command, 7..10);
    let wrong_count: &[u8] = if is_write { &[0] } else { &[] };
    // As many descriptors as interrupts, a third of this byte.
    let fds = if command == 14 { fields.last().map_or(0, |n| u8::try_from(3 * n).unwrap_or(0)) } else { 0 };
    [&head, numbers(fields).as_slice(), &[len], data, wrong_count, &[1, 0, 0, fds, 20]].concat()
}

/// A VMM and a console at one device.
#[must_use]
pub fn messages() -> Vec<Vec<u8>> {
    let attach = [0x05, 0, 0x85, 1];
    let mut both = [mode(640, 480), plane(14, 0, 0, SCREEN), plane(14, 2, 1, CURSOR)].concat();
    for console in [false, true] {
        for (command, fields) in [
            (0, &[60, 3, 1][..]),
            (0, &[60, 5, 1]),
            (0, &[60, 2, 1]),
            (0, &[60, 4, 1]),
            (3, &[1]),
            (5, &[0, 0, 7, 32]),
            (5, &[0, 0, 2, 32]),
            (5, &[0, 0, 0, 4096]),
            (10, &[48, 0, 9]),
            (10, &[32, 0, 0]),
            (12, &[16]),
            (13, &[16, 0, 1]),
            (14, &[20, 36, 1, 0, 2]),
            // The last of four is no eventfd.
            (14, &[20, 36, 1, 0, 4]),
            (14, &[20, 36, 5, 0, 1]),
            (13, &[40, 0, 5]),
            (16, &[32, 3, 0, 0, 0, 0, 4096]),
            (18, &[24, 2]),
            (19, &[]),
        ] {
            both.extend(exchange(console, command, fields, &[]));
        }
        both.extend(exchange(console, 7, &[0x508, 0, 2, 2], &[0x41, 0]));
        both.extend(exchange(console, 7, &[20, 0, 9, 4], &[2, 0, 0, 0]));
        both.extend(exchange(console, 7, &[0, 0, 0, 4], &[1, 2, 3, 4]));
    }
    [0, 6, 11].into_iter().map(|device| [&[device, 3], attach.as_slice(), &both, &[7, 0]].concat()).collect()
}
