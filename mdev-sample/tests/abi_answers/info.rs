//! The three info ioctls, and SET_IRQS.

use vfio_gfx::abi::{DeviceIoctl, Errno};
use vfio_gfx::device::DISPLAY_EVENTS;

use super::{ANY, Answer, GUARD, Pair, sizes, word};

/// `VFIO_PCI_MSI_IRQ_INDEX`: our own types have one.
const MSI: u32 = 1;

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
                        let (flags, count) = match index {
                            5 => (17, DISPLAY_EVENTS),
                            MSI if pair.is_vgfx() => (1, 1),
                            _ => (0, 0),
                        };
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
                        let available = match index {
                            5 if pair.is_vgfx() => DISPLAY_EVENTS,
                            MSI if pair.is_vgfx() => 1,
                            _ => 0,
                        };
                        let expected = match (len, argsz) {
                            (..20, _) => Err(Errno::EFAULT),
                            (_, ..20) => Err(Errno::EINVAL),
                            _ => set_irqs_expected(flags, (start, count), available, argsz, index == 5),
                        };
                        assert_eq!(answer, expected, "{} {words:x?} in {len} bytes", pair.name());
                    }
                }
            }
        }
    }
}

/// One kind of data and one action, in a range of what there is, with room for the data; then what the display interrupt
/// knows, or an ordinary one: that takes all but an eventfd to be told of masking.
fn set_irqs_expected(
    flags: u32,
    (start, count): (u32, u32),
    available: u32,
    argsz: u32,
    is_display: bool,
) -> Answer {
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
        (1 | 2, _, _) if !is_display => Ok(()),
        _ => Err(Errno::ENOTTY),
    }
}
