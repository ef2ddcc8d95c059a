//! Reads, writes and mappings; and the ioctls that there are not.

use mdev_sample::abi_fuzz::{MapRequest, Target};
use vfio_gfx::abi::{DeviceIoctl, Errno};

use super::{Answer, GUARD, Pair, sizes};

#[test]
fn everything_else_is_enotty() {
    let known = [0x3b6b, 0x3b6c, 0x3b6d, 0x3b6e, 0x3b6f, 0x3b72, 0x3b73, 0x3b75];
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

/// There are no features, and a malformed request is malformed all the same.
#[test]
fn device_feature() {
    for mut pair in Pair::all() {
        for argsz in sizes(8) {
            for flags in (0..8).map(|bits| bits << 16).chain([1 << 19, 1 << 31, u32::MAX]) {
                for number in [0, 1, 11, 0xffff] {
                    for len in [0, 4, 7, 8, 64] {
                        let words = [argsz, flags | number];
                        let request = DeviceIoctl::Feature.raw();
                        let (answer, _) = pair.ioctl(request, &words[..words.len().min(len / 4)], len);
                        let expected = match (len, argsz) {
                            (..8, _) => Errno::EFAULT,
                            (_, ..8) => Errno::EINVAL,
                            _ if flags == 3 << 16 || flags >> 19 != 0 => Errno::EINVAL,
                            _ => Errno::ENOTTY,
                        };
                        assert_eq!(answer, Err(expected), "{} {words:x?} in {len} bytes", pair.name());
                    }
                }
            }
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
