//! Every argument has one answer, and it is the one that `docs/src/abi.md` documents: grids of sizes, flags, indices, offsets
//! and lengths, each put to the device in this process and to one behind a socket. Both answers are compared with each
//! other, byte for byte, and with what the chapter says, which is written down here a second time.

use mdev_sample::abi_fuzz::{MapRequest, RemoteTarget, Sample, Target};
use mdev_sample::{DeviceType, TYPES};
use vfio_gfx::abi::{DeviceIoctl, Errno, PlaneInfo, PlaneRequest};
use vfio_gfx::device::{DISPLAY_EVENTS, DeviceError};
use vfio_gfx::vfio_user::{Client, ClientError, Command, Role};
use zerocopy::FromBytes;

#[path = "common/served.rs"]
mod served;

use served::{Counted, Served};

/// What stands in the caller's memory where nothing is said.
const GUARD: u8 = 0xaa;

type Answer = Result<(), Errno>;

/// A device in this process and one behind a socket, of the same type.
struct Pair {
    here: Sample,
    remote: Counted,
    device_type: DeviceType,
    _served: Served,
}

impl Pair {
    fn new(device_type: DeviceType) -> Self {
        let served = Served::new(device_type);
        let here = Sample::new(device_type).unwrap();
        Self { here, remote: served.attach(), device_type, _served: served }
    }

    fn all() -> impl Iterator<Item = Self> {
        // One of each family; the others differ in sizes only.
        ["mdpy-vga", "mbochs-small", "vgfx-hd"]
            .into_iter()
            .map(|name| Self::new(DeviceType::find(name).unwrap()))
    }

    fn name(&self) -> &'static str {
        self.device_type.name()
    }

    fn is_vgfx(&self) -> bool {
        self.name().starts_with("vgfx")
    }

    fn offers_region(&self) -> bool {
        !self.name().starts_with("mbochs")
    }

    fn offers_dmabuf(&self) -> bool {
        !self.name().starts_with("mdpy")
    }

    /// Makes an ioctl on both, which must answer alike, and returns the answer and the memory after it.
    #[track_caller]
    fn ioctl(&mut self, request: u32, words: &[u32], len: usize) -> (Answer, Vec<u8>) {
        let mut arg: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        arg.resize(len, GUARD);
        let (mut here, mut remote) = (arg.clone(), arg.clone());
        let answer = self.here.ioctl(request, &mut here);
        let what = || format!("{} {request:#x} {words:x?} in {len} bytes", self.device_type.name());
        assert_eq!(self.remote.ioctl(request, &mut remote), answer, "{}", what());
        assert_eq!(remote, here, "{}", what());
        assert!(answer.is_ok() || here == arg, "{}: refused, and written", what());
        (answer, here)
    }

    fn write(&mut self, at: u64, data: &[u8]) -> Answer {
        let answer = self.here.pwrite(at, data);
        assert_eq!(self.remote.pwrite(at, data), answer, "{} {at:#x} {data:x?}", self.name());
        answer.map(|len| assert_eq!(len, data.len()))
    }

    fn set_mode(&mut self, y_offset: u16) {
        for (register, value) in
            [(4, 0), (1, 640), (2, 480), (3, 32), (6, 640), (8, 0), (9, y_offset), (4, 0x41)]
        {
            self.write(0x1500 + 2 * register, &u16::to_le_bytes(value)).unwrap();
        }
    }
}

fn word(memory: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(memory[at..at + 4].try_into().unwrap())
}

const ANY: u32 = u32::from_ne_bytes([GUARD; 4]);

/// Sizes around the least that is needed, and nonsense.
fn sizes(least: u32) -> Vec<u32> {
    let mut sizes: Vec<u32> = (least - 2..least + 26).collect();
    sizes.extend([0, 1, 4096, 4097, 1 << 20, i32::MAX as u32, 1 << 31, u32::MAX]);
    sizes
}

#[test]
fn get_info() {
    for mut pair in Pair::all() {
        for argsz in sizes(16) {
            for len in [0, 4, 15, 16, 17, 24, 64] {
                let (answer, memory) =
                    pair.ioctl(DeviceIoctl::GetInfo.raw(), &[argsz][..len.min(4) / 4], len);
                let expected = match (len, argsz) {
                    (..16, _) => Err(Errno::EFAULT),
                    (_, ..16) => Err(Errno::EINVAL),
                    _ => Ok(()),
                };
                assert_eq!(answer, expected, "argsz {argsz}, {len} bytes");
                if answer.is_ok() {
                    let num_regions = if pair.offers_dmabuf() { 10 } else { 9 };
                    let num_irqs = if pair.is_vgfx() { 6 } else { 5 };
                    let words = [0, 4, 8, 12].map(|at| word(&memory, at));
                    assert_eq!(words, [argsz, 3, num_regions, num_irqs]);
                    assert!(memory[16..].iter().all(|byte| *byte == GUARD), "the struct's head and no more");
                }
            }
        }
    }
}

#[test]
fn get_region_info() {
    for mut pair in Pair::all() {
        let vram = match pair.name() {
            "mdpy-vga" => (2u64 << 20, 0x1000),
            "mbochs-small" => (4 << 20, 0x3000),
            _ => (32 << 20, 0x3000),
        };
        for argsz in sizes(32) {
            for index in (0..18).chain([255, 1 << 16, i32::MAX as u32, u32::MAX]) {
                for len in [0, 16, 31, 32, 40, 47, 48, 96] {
                    let words = [argsz, ANY, index, 7];
                    let request = DeviceIoctl::GetRegionInfo.raw();
                    let (answer, memory) = pair.ioctl(request, &words[..words.len().min(len / 4)], len);
                    let (mut flags, mut size, mut offset) = (0, 0, 0);
                    let is_bochs = pair.offers_dmabuf();
                    let exists = index < if is_bochs { 10 } else { 9 } || !is_bochs && index == 16;
                    match index {
                        7 => (flags, size) = (3, 256),
                        0 => (flags, size, offset) = (7, vram.0, vram.1),
                        16 if !is_bochs => (flags, size, offset) = (7, vram.0, vram.1),
                        2 if is_bochs => (flags, size, offset) = (3, 0x1000, 0x1000),
                        9 if is_bochs => (flags, size, offset) = (11, 0x1000, 0x2000),
                        _ => {}
                    }
                    let has_caps = flags & 8 != 0;
                    let expected = match (len, argsz) {
                        (..32, _) => Err(Errno::EFAULT),
                        (_, ..32) => Err(Errno::EINVAL),
                        _ if !exists => Err(Errno::EINVAL),
                        (..48, 48..) if has_caps => Err(Errno::EFAULT),
                        _ => Ok(()),
                    };
                    assert_eq!(answer, expected, "{} argsz {argsz} index {index} {len} bytes", pair.name());
                    if answer.is_err() {
                        continue;
                    }
                    let needs = if has_caps && argsz < 48 { 48 } else { argsz };
                    let cap_offset = match (has_caps, argsz) {
                        (false, _) => 7,
                        (true, ..48) => 0,
                        (true, _) => 32,
                    };
                    let words = [0, 4, 8, 12].map(|at| word(&memory, at));
                    assert_eq!(words, [needs, flags, index, cap_offset], "{} {argsz}", pair.name());
                    let longs = [16, 24].map(|at| u64::from_ne_bytes(memory[at..at + 8].try_into().unwrap()));
                    assert_eq!(longs, [size, offset], "{} index {index}", pair.name());
                    let behind = if cap_offset == 32 { 48 } else { 32 };
                    assert!(memory[behind..].iter().all(|byte| *byte == GUARD));
                    if cap_offset == 32 {
                        assert_eq!(memory[32..48], [2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
                    }
                }
            }
        }
    }
}

#[test]
fn get_irq_info() {
    for mut pair in Pair::all() {
        for argsz in sizes(16) {
            for index in (0..9).chain([1 << 16, u32::MAX]) {
                for len in [0, 15, 16, 39, 40, 64] {
                    let words = [argsz, ANY, index, ANY];
                    let request = DeviceIoctl::GetIrqInfo.raw();
                    let (answer, memory) = pair.ioctl(request, &words[..words.len().min(len / 4)], len);
                    let is_display = pair.is_vgfx() && index == 5;
                    let expected = match (len, argsz) {
                        (..16, _) => Err(Errno::EFAULT),
                        (_, ..16) => Err(Errno::EINVAL),
                        _ if index >= 5 && !is_display => Err(Errno::EINVAL),
                        (..40, 40..) if is_display => Err(Errno::EFAULT),
                        _ => Ok(()),
                    };
                    assert_eq!(answer, expected, "{} argsz {argsz} index {index} {len} bytes", pair.name());
                    if answer.is_ok() {
                        let (flags, count) = if is_display { (17, DISPLAY_EVENTS) } else { (0, 0) };
                        let needs = if is_display && argsz < 40 { 40 } else { argsz };
                        assert_eq!([0, 4, 8, 12].map(|at| word(&memory, at)), [needs, flags, index, count]);
                        let behind = if is_display && argsz >= 40 { 40 } else { 16 };
                        assert!(memory[behind..].iter().all(|byte| *byte == GUARD));
                    }
                }
            }
        }
    }
}

#[test]
fn set_irqs() {
    let flags = (0..0x80).chain([0x100, 0x121, 1 << 31, u32::MAX]);
    let ranges =
        [(0, 0), (0, 1), (0, 5), (0, 6), (1, 0), (4, 1), (4, 2), (5, 0), (0, u32::MAX), (u32::MAX, 1)];
    for mut pair in Pair::all() {
        for flags in flags.clone() {
            for index in [0, 1, 4, 5, 6, u32::MAX] {
                for (start, count) in ranges {
                    for (argsz, len) in
                        [(20, 20), (19, 20), (24, 24), (25, 25), (u32::MAX, 64), (20, 19), (0, 20)]
                    {
                        let words = [argsz, flags, index, start, count];
                        let head = &words[..words.len().min(len / 4)];
                        let (answer, _) = pair.ioctl(DeviceIoctl::SetIrqs.raw(), head, len);
                        let available = if pair.is_vgfx() && index == 5 { DISPLAY_EVENTS } else { 0 };
                        let expected = match (len, argsz) {
                            (..20, _) => Err(Errno::EFAULT),
                            (_, ..20) => Err(Errno::EINVAL),
                            _ => set_irqs_expected(flags, (start, count), available, argsz),
                        };
                        assert_eq!(answer, expected, "{} {words:x?} in {len} bytes", pair.name());
                    }
                }
            }
        }
    }
}

/// One kind of data and one action, in a range of what there is, with room for the data; then what the display interrupt
/// knows.
fn set_irqs_expected(flags: u32, (start, count): (u32, u32), available: u32, argsz: u32) -> Answer {
    let (data, action) = (flags & 7, flags & !7);
    let in_range = start < available && count <= available - start;
    if !matches!(data, 1 | 2 | 4) || !matches!(action, 8 | 16 | 32) || !in_range {
        return Err(Errno::EINVAL);
    }
    if data == 2 && u64::from(argsz) < 20 + u64::from(count) {
        return Err(Errno::EINVAL);
    }
    match (data, action, count) {
        (4, 32, _) | (1, 32, 0) => Ok(()),
        _ => Err(Errno::ENOTTY),
    }
}

#[test]
fn query_gfx_plane() {
    let flags: Vec<u32> = (0..17).chain([0x21, 0x82, 0x102, 1 << 31, (1 << 31) | 2, u32::MAX]).collect();
    for mut pair in Pair::all() {
        for has_mode in [false, true] {
            if has_mode && pair.offers_dmabuf() {
                pair.set_mode(0);
            }
            for argsz in sizes(60) {
                for flags in &flags {
                    for plane in [0, 1, 2, 3, u32::MAX] {
                        for len in [0, 8, 59, 60, 63, 64, 80] {
                            query_answers(&mut pair, [argsz, *flags, plane], len, has_mode);
                        }
                    }
                }
            }
        }
    }
}

fn query_answers(pair: &mut Pair, words: [u32; 3], len: usize, has_mode: bool) {
    let [argsz, flags, plane] = words;
    let request = DeviceIoctl::QueryGfxPlane.raw();
    let (answer, memory) = pair.ioctl(request, &words[..words.len().min(len / 4)], len);
    let offered = match flags {
        2 | 3 => pair.offers_dmabuf(),
        4 | 5 => pair.offers_region(),
        _ => false,
    };
    let expected = match (len, argsz) {
        (..60, _) => Err(Errno::EFAULT),
        (_, ..60) => Err(Errno::EINVAL),
        _ if !offered => Err(Errno::EINVAL),
        _ => Ok(()),
    };
    assert_eq!(answer, expected, "{} {words:x?} in {len} bytes", pair.name());
    if answer.is_err() {
        return;
    }
    assert_eq!([0, 4, 8].map(|at| word(&memory, at)), words, "what was asked stays");
    assert!(memory[60..].iter().all(|byte| *byte == GUARD), "reserved is neither read nor written");
    let body = &memory[12..60];
    let shows = plane == 1 || plane == 0 && flags == 4;
    if flags & 1 != 0 {
        assert!(body.iter().all(|byte| *byte == GUARD), "a probe writes nothing");
    } else if shows && (has_mode || !pair.offers_dmabuf()) {
        let [format, width, height, stride, size] = [12, 24, 28, 32, 36].map(|at| word(&memory, at));
        assert_eq!((format, width, height, stride), (0x3432_5258, 640, 480, 2560));
        assert!(size.is_multiple_of(4096) && size >= stride * height);
        assert_eq!([40, 44, 48, 52].map(|at| word(&memory, at)), [0, 0, u32::MAX, u32::MAX]);
        let region = if pair.offers_dmabuf() { 0 } else { 16 };
        assert_eq!(word(&memory, 56), if flags == 4 { region } else { 1 });
    } else {
        assert!(body.iter().all(|byte| *byte == 0), "off: {words:x?}");
    }
}

/// The typed methods are the third way to the same answers.
#[test]
fn in_process_requests() {
    for device_type in TYPES {
        let mut device = device_type.create(None).unwrap();
        for argsz in sizes(60) {
            for flags in 0..17 {
                for plane in [0, 1, 2, 3, u32::MAX] {
                    let mut arg = [0; 64];
                    for (slot, word) in arg.chunks_exact_mut(4).zip([argsz, flags, plane]) {
                        slot.copy_from_slice(&word.to_ne_bytes());
                    }
                    let raw = PlaneInfo::read_from_bytes(&arg).unwrap();
                    let typed = PlaneRequest::parse(&raw)
                        .map_err(DeviceError::from)
                        .and_then(|request| device.request(request))
                        .map(|_| ())
                        .map_err(Errno::from);
                    let ioctl =
                        device.ioctl(DeviceIoctl::QueryGfxPlane.raw(), &mut arg, Vec::new()).map(|_| ());
                    assert_eq!(typed, ioctl, "{} {argsz} {flags} {plane}", device_type.name());
                }
            }
        }
    }
}

/// What a struct without an offset cannot say is refused by the ioctls.
#[test]
fn planes_that_start_elsewhere() {
    let mut pair = Pair::new(DeviceType::find("vgfx-hd").unwrap());
    pair.set_mode(480);
    let request = DeviceIoctl::QueryGfxPlane.raw();
    assert_eq!(pair.ioctl(request, &[64, 4, 1], 64).0, Err(Errno::EOPNOTSUPP));
    let (answer, memory) = pair.ioctl(request, &[64, 2, 1], 64);
    assert_eq!(answer, Ok(()));
    let id = word(&memory, 56);
    // A memfd has no place of its own for it; a dma-buf begins with the plane.
    let same = |pair: &mut Pair, id: u32| {
        let here = pair.here.dmabuf(id).map(|buffer| buffer.size);
        assert_eq!(pair.remote.dmabuf(id).map(|buffer| buffer.size), here);
        here
    };
    let here = same(&mut pair, id);
    let is_udmabuf = std::path::Path::new("/dev/udmabuf").exists();
    assert_eq!(here, if is_udmabuf { Ok(640 * 480 * 4) } else { Err(Errno::EINVAL) });
    pair.set_mode(0);
    let (_, memory) = pair.ioctl(request, &[64, 2, 1], 64);
    assert_eq!(word(&memory, 56), id + 1);
    assert!(same(&mut pair, id + 1).is_ok());
}

#[test]
fn get_gfx_dmabuf() {
    for mut pair in Pair::all() {
        let request = DeviceIoctl::GetGfxDmabuf.raw();
        for id in [0, 1, 2, 99, 1 << 31, u32::MAX] {
            for len in [0, 3, 4, 8] {
                let (answer, _) = pair.ioctl(request, &[id][..len.min(4) / 4], len);
                let expected = match (pair.offers_dmabuf(), len) {
                    (false, _) => Errno::ENOTTY,
                    (true, ..4) => Errno::EFAULT,
                    (true, _) => Errno::ENOENT,
                };
                assert_eq!(answer, Err(expected), "{} id {id} in {len} bytes", pair.name());
            }
        }
    }
}

#[test]
fn everything_else_is_enotty() {
    let known = [0x3b6b, 0x3b6c, 0x3b6d, 0x3b6e, 0x3b6f, 0x3b72, 0x3b73];
    for mut pair in Pair::all() {
        for request in (0x3b00..0x3c00).filter(|request| !known.contains(request)).chain([0, u32::MAX]) {
            for len in [0, 8, 64] {
                assert_eq!(pair.ioctl(request, &[], len).0, Err(Errno::ENOTTY), "{request:#x}");
            }
        }
        for len in [0, 8] {
            assert_eq!(pair.ioctl(DeviceIoctl::Reset.raw(), &[], len).0, Ok(()), "it has no argument");
        }
    }
}

/// Places in the descriptor of this family, and where each region ends.
fn regions(pair: &Pair) -> Vec<(u64, u64)> {
    match pair.name() {
        "mdpy-vga" => vec![(0, 0x100), (0x1000, 0x1000 + (2 << 20))],
        "mbochs-small" => vec![(0, 0x100), (0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x3000 + (4 << 20))],
        _ => vec![(0, 0x100), (0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x3000 + (32 << 20))],
    }
}

#[test]
fn read_and_write() {
    for mut pair in Pair::all() {
        let regions = regions(&pair);
        let edges: Vec<u64> = regions.iter().flat_map(|(start, end)| [*start, *end]).collect();
        let near = edges.iter().flat_map(|edge| edge.saturating_sub(9)..edge + 9);
        let places: Vec<u64> =
            near.chain([0x800, 1 << 40, i64::MAX as u64, u64::MAX - 3, u64::MAX]).collect();
        for at in places {
            for len in (0..10).chain([16, 64, 4096]) {
                let (mut here, mut remote) = (vec![GUARD; len], vec![GUARD; len]);
                let answer = pair.here.pread(at, &mut here);
                assert_eq!(pair.remote.pread(at, &mut remote), answer, "{} {at:#x}+{len}", pair.name());
                let end = at.checked_add(len as u64);
                let inside = |(start, stop): &(u64, u64)| at >= *start && end.is_some_and(|end| end <= *stop);
                let fits = len == 0 || regions.iter().any(inside);
                assert_eq!(answer, if fits { Ok(len) } else { Err(Errno::EFAULT) }, "{at:#x}+{len}");
                assert!(answer.is_err() || remote == here, "{} {at:#x}+{len}", pair.name());
                // The EDID region has answers of its own.
                if !(0x2000..0x3000).contains(&at) || pair.name() == "mdpy-vga" || !fits {
                    let expected = if fits { Ok(()) } else { Err(Errno::EFAULT) };
                    assert_eq!(pair.write(at, &here), expected, "{} {at:#x}+{len}", pair.name());
                }
            }
        }
    }
}

#[test]
fn edid_region_writes() {
    const EPERM: Answer = Err(Errno::EPERM);
    const EINVAL: Answer = Err(Errno::EINVAL);
    let word = |value: u32| value.to_ne_bytes().to_vec();
    let answers: &[(u64, Vec<u8>, Answer)] = &[
        // Read-only registers: what would change them is refused, what would not is not.
        (0x00, word(0x900), EPERM),
        (0x00, word(0x800), Ok(())),
        (0x04, word(1), EPERM),
        (0x0c, word(1), EPERM),
        (0x10, word(0), EPERM),
        (0x0d, vec![0xff], EPERM),
        // The size may be what there is room for.
        (0x08, word(0), Ok(())),
        (0x08, word(0x400), Ok(())),
        (0x08, word(0x401), EINVAL),
        (0x08, word(u32::MAX), EINVAL),
        (0x09, vec![1], Ok(())),
        (0x09, vec![5], EINVAL),
        // Up and down, and nothing else.
        (0x14, word(1), Ok(())),
        (0x14, word(2), Ok(())),
        (0x14, word(0), EINVAL),
        (0x14, word(3), EINVAL),
        (0x14, word(u32::MAX), EINVAL),
        // Between registers and blob is nothing, and behind it.
        (0x18, word(0), EINVAL),
        (0x16, word(0), EINVAL),
        (0x7fe, word(0), EINVAL),
        (0x7ff, vec![0], EINVAL),
        (0x800, vec![1; 0x400], Ok(())),
        (0x800, vec![1; 0x401], EINVAL),
        (0xbff, vec![1], Ok(())),
        (0xbff, vec![1; 2], EINVAL),
        (0xc00, vec![1], EINVAL),
        (0xfff, vec![1], EINVAL),
        (0x08, vec![], Ok(())),
    ];
    for mut pair in Pair::all().filter(Pair::offers_dmabuf) {
        for (at, data, expected) in answers {
            let before = read_edid(&mut pair);
            assert_eq!(pair.write(0x2000 + at, data), *expected, "{} {at:#x} {data:x?}", pair.name());
            let after = read_edid(&mut pair);
            assert!(expected.is_ok() || after == before, "{at:#x}: refused, and changed");
        }
    }
}

fn read_edid(pair: &mut Pair) -> Vec<u8> {
    let (mut here, mut remote) = (vec![0; 0x1000], vec![0; 0x1000]);
    pair.here.pread(0x2000, &mut here).unwrap();
    pair.remote.pread(0x2000, &mut remote).unwrap();
    assert!(here == remote);
    here
}

#[test]
fn mmap() {
    for mut pair in Pair::all() {
        let (start, end) = regions(&pair).pop().unwrap();
        let size = usize::try_from(end - start).unwrap();
        for offset in [0, 0x1000, 0x2000, 0x3000, 0x4000, 1 << 40] {
            for len in [0x1000, size - 0x1000, size, size + 0x1000] {
                for flags in [1, 2] {
                    let request = MapRequest { offset, len, prot: 1, flags };
                    let answer = pair.here.mmap(request);
                    assert_eq!(pair.remote.mmap(request), answer);
                    let is_right = offset == start && len <= size && flags == 1;
                    assert_eq!(answer.is_ok(), is_right, "{} {request:x?}", pair.name());
                    assert!(is_right || answer == Err(Errno::EINVAL));
                }
            }
        }
    }
}

/// A message has no memory behind it: one that is shorter than its struct is `EINVAL`, where an ioctl is `EFAULT`.
#[test]
fn messages_that_are_too_short() {
    let served = Served::new(DeviceType::find("vgfx-hd").unwrap());
    let mut client = Client::connect(&served.path, Role::Vmm).unwrap();
    let commands = [
        (Command::GetInfo, 16),
        (Command::GetRegionInfo, 32),
        (Command::GetIrqInfo, 16),
        (Command::SetIrqs, 20),
        (Command::RegionRead, 16),
        (Command::RegionWrite, 16),
        (Command::QueryGfxPlane, 64),
        (Command::GetGfxDmabuf, 8),
    ];
    for (command, needed) in commands {
        for len in 0..needed {
            let mut payload = vec![0; len];
            payload.iter_mut().take(4).zip(64u32.to_ne_bytes()).for_each(|(slot, byte)| *slot = byte);
            let result = client.call(command, &[&payload], |_, _| Ok(()));
            let refused = matches!(result, Err(ClientError::Refused { errno: Errno::EINVAL, .. }));
            assert!(refused, "{command:?} of {len} bytes: {result:?}");
        }
    }
    // The device is none the worse for it, and the place of the VMM is free when the client has gone.
    drop(client);
    assert!(RemoteTarget::connect(&served.path).is_ok());
}
