//! Inputs to start from, written down as the operations they are: what drivers, VMMs and consoles really do.
//!
//! `cargo run -p vfio-gfx-fuzz --bin seeds` puts them into `fuzz/corpus`. The replay test runs them as they are here.

use vfio_gfx::abi::caps::{RegionCap, SparseArea, encode};
use vfio_gfx::edid::{Config, Mode, generate};
use vfio_gfx::vfio_user::{Command, HEADER_SIZE, Header, RegionAccess, Role};
use zerocopy::IntoBytes;

use crate::peer::proposal;

/// A number as the targets read one.
fn number(n: u32) -> Vec<u8> {
    match u8::try_from(n) {
        Ok(small @ 0..64) => vec![small],
        _ => [&[0xff], n.to_le_bytes().as_slice()].concat(),
    }
}

fn numbers(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|n| number(*n)).collect()
}

fn count(list: &[u32]) -> u8 {
    u8::try_from(list.len()).unwrap_or(u8::MAX)
}

/// Operation 0 of the `ioctl` target: which request, how much memory, the fields in it.
fn call(request: u8, len: u8, fields: &[u32]) -> Vec<u8> {
    [&[0, request, len, count(fields)], numbers(fields).as_slice()].concat()
}

/// Operation 6 of the `ioctl` and `messages` targets.
fn mode(width: u16, height: u16) -> Vec<u8> {
    [&[6], width.to_le_bytes().as_slice(), &height.to_le_bytes()].concat()
}

/// Every device of the menu through each set of interfaces, asked everything.
#[must_use]
pub fn ioctl() -> Vec<Vec<u8>> {
    let mut session = call(0, 24, &[24]);
    for index in [0, 2, 7, 8, 9, 16] {
        session.extend(call(1, 32, &[32, 0, index]));
        session.extend(call(1, 80, &[80, 0, index]));
    }
    session.extend(call(3, 16, &[16, 0, 1]));
    session.extend(mode(640, 480));
    for flags in [3, 5, 2, 4] {
        session.extend(call(7, 64, &[64, flags, 1]));
    }
    session.extend([call(10, 4, &[1]), call(10, 4, &[2]), call(6, 0, &[])].concat());
    let mut seeds: Vec<Vec<u8>> = [0, 6, 9, 10, 11, 14, 15]
        .into_iter()
        .flat_map(|device| [1, 2, 3].map(|interfaces| [&[device, interfaces], session.as_slice()].concat()))
        .collect();
    // Arm two interrupts, fire, mask, fire, unmask, disarm.
    let irqs: Vec<u8> = [(4, 32, 2), (1, 32, 0), (1, 8, 0), (2, 32, 0), (1, 16, 0), (1, 32, 0)]
        .into_iter()
        .flat_map(|(data, action, fds)| {
            let arg = call(4, 24, &[24, data + action, 1, 0, 2, 0x0101]);
            [arg, vec![fds]].concat()
        })
        .collect();
    seeds.push([&[0, 2], irqs.as_slice()].concat());
    // Wait for display changes, cause some, look.
    let watch = [call(3, 40, &[40, 0, 5]), call(4, 20, &[20, 36, 5, 0, 5]), vec![5]].concat();
    let planes = [plane(7, 0, 0, SCREEN), plane(7, 2, 1, CURSOR)].concat();
    let queries = [0, 1, 2].map(|kind| call(7, 64, &[64, 2, kind])).concat();
    seeds.push([&[8, 3], watch.as_slice(), &planes, &queries, &call(10, 4, &[1])].concat());
    // Reads of each place, and a base that leaves its page.
    let reads: Vec<u8> = (0..12).flat_map(|place| [4, place, 0, 4]).collect();
    let pan = [&[5, 4, 8, 2], 1u16.to_le_bytes().as_slice(), &[8, 200]].concat();
    seeds.push([&[0, 3], reads.as_slice(), &mode(800, 600), &pan, &call(7, 64, &[64, 2, 1])].concat());
    seeds
}

/// An operation that sets a plane: which, format, and its numbers from the start of the buffer on.
fn plane(operation: u8, which: u8, format: u8, list: [u32; 10]) -> Vec<u8> {
    [&[operation, which, format], numbers(&list).as_slice()].concat()
}

const SCREEN: [u32; 10] = [4096, 2560, 640, 480, 0, 0, 0, 0, 0, 0];
const CURSOR: [u32; 10] = [0x20_0000, 512, 64, 64, u32::MAX - 4, 7, 3, 4, 1, 2];

/// Operation 0 of the `registers` target.
fn dispi(register: u8, value: u32) -> Vec<u8> {
    [&[0, register], number(value).as_slice()].concat()
}

/// Operation 2 of the `registers` target: data, then place and offset.
fn poke(place: u8, offset: u8, data: &[u8]) -> Vec<u8> {
    [&[2, u8::try_from(data.len()).unwrap_or(0)], data, &[place, offset]].concat()
}

/// What drivers do to a Bochs display, and what a host does to its EDID.
#[must_use]
pub fn registers() -> Vec<Vec<u8>> {
    let bochs_drm =
        [(4, 0), (3, 32), (1, 1024), (2, 768), (5, 0), (6, 1024), (7, 768), (8, 0), (9, 0), (4, 0x41)];
    let set_mode: Vec<u8> =
        bochs_drm.into_iter().flat_map(|(register, value)| dispi(register, value)).collect();
    let flip =
        [dispi(6, 1100), dispi(8, 100), vec![9, 60], dispi(9, 200), dispi(6, 1024), vec![9, 200]].concat();
    let blank = [poke(2, 0, &[0]), poke(2, 0, &[0x20])].concat();
    let big_endian = poke(6, 4, &[0xbe; 4]);
    // A write while decoding is off, which must do nothing.
    let sizing =
        [poke(9, 0, &[0xff; 24]), poke(8, 4, &[0]), poke(4, 2, &[0x80, 2]), poke(8, 4, &[7])].concat();
    let edid = generate(&Config::new(Mode::new(640, 480))).map(|edid| edid.as_bytes()[..64].to_vec());
    let update =
        [poke(12, 20, &[2, 0, 0, 0]), poke(14, 0, &edid.unwrap_or_default()), poke(12, 8, &[64, 0, 0, 0])]
            .concat();
    let up = poke(12, 20, &[1, 0, 0, 0]);
    let caps = [dispi(4, 3), vec![4, 8, 4, 2], dispi(0, 0xb0c0), dispi(0, 7)].concat();
    let planes =
        [plane(7, 0, 0, SCREEN), plane(7, 2, 1, CURSOR), poke(17, 8, &[0, 16, 0, 0]), vec![8, 5]].concat();
    vec![
        planes,
        [set_mode.clone(), flip].concat(),
        [set_mode.clone(), blank, big_endian, vec![5]].concat(),
        [sizing, set_mode.clone()].concat(),
        [update, up, vec![4, 255, 0, 0]].concat(),
        [caps, set_mode].concat(),
    ]
}

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

/// What real clients say, and what they might.
#[must_use]
pub fn version() -> Vec<Vec<u8>> {
    [
        r#"{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}"#,
        r#"{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}"#,
        r#"{"capabilities":{"vfio_gfx":{"version":1,"role":"console"}}}"#,
        r#"{"capabilities":{"vfio_gfx":{"version":18446744073709551615}}}"#,
        r#"{"capabilities":{"max_msg_fds":0,"max_dma_maps":4294967295,"pgsizes":4294967295}}"#,
        r#"{"capabilities":{}}"#,
        "{}",
    ]
    .into_iter()
    .map(|json| [&[0, 0, 1, 0], json.as_bytes(), &[0]].concat())
    .chain([vec![0, 0, 0, 0]])
    .collect()
}

/// EDIDs of one to three blocks.
#[must_use]
pub fn edid_parse() -> Vec<Vec<u8>> {
    let with_cta = [(640, 480), (1366, 768), (2560, 1440), (7680, 4320)]
        .map(|(width, height)| Config::new(Mode::new(width, height)));
    let plain = Config { cta: false, ..Config::new(Mode::new(1024, 768)) };
    // A CTA block with a video data block, which ours do not have.
    let mut video = vec![0; 128];
    video[..9].copy_from_slice(&[2, 3, 9, 0, 0x44, 0x90, 4, 31, 200]);
    with_cta
        .iter()
        .chain([&plain])
        .filter_map(|config| generate(config).ok())
        .map(|edid| edid.as_bytes().to_vec())
        .map(|edid| if edid.len() == 128 { [&edid[..126], &[1, 0], &video].concat() } else { edid })
        .collect()
}

/// Displays to describe.
#[must_use]
pub fn edid_generate() -> Vec<Vec<u8>> {
    let rest = |name: &str| {
        let len = u8::try_from(name.len()).unwrap_or_default();
        [&[45, 0, 0, 1, 2, 3, 1, 0, len], name.as_bytes(), &[1, 42, 1]].concat()
    };
    let mode = |width, height| numbers(&[width, height]);
    vec![
        [mode(1024, 768), vec![1, 0], rest("Screen")].concat(),
        [mode(7680, 4320), vec![1, 0], rest("Large")].concat(),
        [mode(1920, 1080), vec![0], 144_000u32.to_le_bytes().to_vec(), vec![0], rest("Fast")].concat(),
        [mode(800, 600), vec![1, 1], mode(800, 600), rest("Bounded")].concat(),
        [mode(800, 600), vec![1, 2, 0], number(524_288), rest("Small VRAM")].concat(),
        [mode(1366, 768), vec![1, 4], mode(344, 194), rest("Panel")].concat(),
    ]
}

/// Chains as devices have them.
#[must_use]
pub fn caps() -> Vec<Vec<u8>> {
    let areas = (0..3).map(|n| SparseArea { offset: n << 12, size: 4096 }).collect();
    [
        vec![],
        vec![RegionCap::GFX_EDID],
        vec![RegionCap::SparseMmap(areas), RegionCap::GFX_EDID, RegionCap::Other { id: 5, version: 1 }],
    ]
    .into_iter()
    .map(|list| [&[32, 0], [0; 32].as_slice(), &encode(&list)].concat())
    .collect()
}

/// A framebuffer, a cursor, and one that is all bytes.
#[must_use]
pub fn plane_info() -> Vec<Vec<u8>> {
    let start = |interface: u8, kind: u8| [vec![interface, kind, 0, 0, 0], number(1 << 22), vec![0]].concat();
    let screen = numbers(&[60, 4, 1]);
    let rest = numbers(&[640, 480, 2560, 1_228_800, 0, 0, 0, 0, 0, 0, 9]);
    let cursor = numbers(&[63, 63, 512, 1 << 15, 10, 20, 3, 4, 0, 0, 1]);
    vec![
        [start(1, 0), screen.clone(), vec![0], rest].concat(),
        [start(0, 2), screen, vec![2], cursor].concat(),
        [vec![1, 0, 0, 0, 0, 0, 1], vec![0x41; 64]].concat(),
        vec![0; HEADER_SIZE],
    ]
}

/// Planes that come, change and lie on each other.
#[must_use]
pub fn refresh() -> Vec<Vec<u8>> {
    let plane = |kind: u8, format: u8, x: u8| vec![0, kind, 0, format, 64, 0, 48, x, 2, 0, 0x40, 0];
    let write = [vec![2, 0, 0x44, 0, 8], vec![0x11; 8]].concat();
    vec![
        [plane(0, 0, 0), vec![4], write.clone(), vec![4], vec![4]].concat(),
        [plane(0, 2, 0), plane(2, 1, 10), vec![4], plane(2, 1, 0xf0), write, vec![4]].concat(),
        [
            plane(0, 0, 0),
            vec![4],
            vec![1, 1],
            plane(0, 0, 0)[2..].to_vec(),
            vec![4, 4],
            plane(0, 6, 0),
            vec![4],
        ]
        .concat(),
        vec![0, 0, 7, 1, 0x34, 0x12, 0x34, 0x12, 40, 40, 63, 90, 0, 0, 0, 0, 0, 0, 0, 4],
    ]
}

/// Viewers of every kind, and a screen that changes.
#[must_use]
pub fn viewers() -> Vec<Vec<u8>> {
    let say = |bytes: &[u8]| [&[0, u8::try_from(bytes.len()).unwrap_or(u8::MAX)], bytes, &[1]].concat();
    let request = say(&[3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    // Tight, ZRLE, Zlib, cursor, sizes, fences, continuous updates.
    let encodings = [7i32, 16, 6, -239, -308, -312, -313].map(i32::to_be_bytes).concat();
    let encodings = say(&[&[2, 0, 0, 7], encodings.as_slice()].concat());
    let draw = [vec![3, 0, 1, 40], vec![0x5a; 40], vec![1]].concat();
    vec![
        [vec![0, 0, 1], encodings, request.clone(), draw.clone(), vec![2, 90, 1], request.clone()].concat(),
        [vec![0, 0, 1], request.clone(), vec![4, 70, 60, 1], draw, vec![5, 20, 1, 6, 0, 1, 6, 1, 1]].concat(),
        [vec![1, 0, 0], say(b"RFB 003.003\n"), say(&[9; 16]), vec![7, 90, 1], say(&[])].concat(),
        [vec![1, 2, 0], say(b"RFB 003.008\n"), say(&[19]), say(&[0, 2]), say(&[0, 0, 1, 5])].concat(),
        [
            vec![0, 0, 1],
            say(&[251, 0, 4, 0, 3, 0, 0, 0]),
            say(&[6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            request,
        ]
        .concat(),
    ]
}

/// A VMM with a guest, two consoles, memory that is granted, cut short and taken back.
#[must_use]
pub fn world() -> Vec<Vec<u8>> {
    let (vmm, first, second) = (vec![16], vec![12, 0], vec![12, 1]);
    let mode = vec![0, 1, 64, 1, 48];
    let draw = [vec![4], number(512), vec![16], vec![0x3c; 16]].concat();
    let look = vec![13, 0, 13, 1];
    let cursor = [vec![3, 2, 1, 16, 16, 0], numbers(&[3, 4, 1, 1, 0, 0]), number(4096), vec![1]].concat();
    // 8 pages at 4 of the first memory, to read and write; then what the device does with them.
    let map = vec![5, 4, 8, 0, 2, 0];
    // The start, and the seventh page.
    let reach = |what: &[u8]| [&[9, 0, 0, 0], what, &[9, 0, 0, 0x60], what].concat();
    let reaches = [reach(&[0, 16, 0]), reach(&[1, 4, 1, 2, 3, 4]), reach(&[2, 8])].concat();
    // Four, two of them fired; then all taken away, and one fired.
    let arm = vec![10, 0, 3, 0, 64, 11, 0, 11, 3, 10, 0, 3, 1, 64, 11, 0];
    let say = |who: u8, command: u8| vec![18, who, command, 3, 60, 3, 1, 0, 1, 0, 0, 3];
    let start = [vmm.clone(), first.clone(), second, mode.clone()].concat();
    vec![
        [
            vec![1],
            start.clone(),
            draw.clone(),
            look.clone(),
            cursor,
            look.clone(),
            draw.clone(),
            look.clone(),
        ]
        .concat(),
        [vec![2], start.clone(), draw, look.clone(), vmm.clone(), look.clone(), first, look.clone()].concat(),
        [
            vec![3],
            vmm.clone(),
            map.clone(),
            reaches.clone(),
            vec![8, 0, 5],
            reaches.clone(),
            vec![7, 0, 8, 255],
        ]
        .concat(),
        [vec![3], vmm.clone(), map, reaches, arm.clone(), vmm.clone(), vec![11, 0], vmm, arm].concat(),
        [
            vec![3],
            start,
            say(0, 0),
            say(1, 14),
            say(2, 5),
            say(2, 19),
            vec![17, 200],
            look,
            vec![19, 0],
            mode,
        ]
        .concat(),
    ]
}
