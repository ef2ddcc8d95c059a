//! From an address of this process to the file behind it: how another process can be given the guest's memory.
//!
//! QEMU names guest memory by its address (`VFIO_IOMMU_MAP_DMA`), vfio-user by a descriptor and an offset. The kernel knows
//! both: `/proc/self/maps` has the file of every mapping, and QEMU keeps the descriptors of its memory open.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::{major, minor};

/// A file's identity, as `/proc/self/maps` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    major: u32,
    minor: u32,
    inode: u64,
}

/// Where memory is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    file: Identity,
    offset: u64,
}

/// The descriptor of shared memory, and where in it the range starts.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fd: OwnedFd,
    pub(crate) offset: u64,
}

/// What is behind `size` bytes at `address`; `None` for memory that cannot be shared (anonymous or private, or of a file that
/// is no longer open).
pub(crate) fn shared(address: u64, size: u64, is_writable: bool) -> Option<Shared> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let Place { file, offset } = find(&maps, address, size)?;
    let fd = fs::read_dir("/proc/self/fd").ok()?.flatten().find_map(|entry| {
        let found = fs::metadata(entry.path()).ok()?;
        let is_it =
            (found.ino(), major(found.dev()), minor(found.dev())) == (file.inode, file.major, file.minor);
        // Opened anew, so that who gets it can do no more with it than the guest's device may.
        is_it.then(|| File::options().read(true).write(is_writable).open(entry.path()).ok()).flatten()
    })?;
    Some(Shared { fd: fd.into(), offset })
}

/// Where the range is, if all of it is one stretch of one file, mapped shared.
fn find(maps: &str, address: u64, size: u64) -> Option<Place> {
    let end = address.checked_add(size).filter(|_| size > 0)?;
    let mut found: Option<Place> = None;
    let mut at = address;
    for mapping in maps.lines().filter_map(Mapping::parse) {
        if !(mapping.start..mapping.end).contains(&at) {
            continue;
        }
        let here = mapping.place(at)?;
        let start = *found.get_or_insert(here);
        // The next mapping must go on where this one ends.
        if here.file != start.file || here.offset.checked_sub(start.offset)? != at - address {
            return None;
        }
        at = mapping.end;
        if at >= end {
            return Some(start);
        }
    }
    None
}

/// One line of `/proc/self/maps` (proc(5)).
struct Mapping {
    start: u64,
    end: u64,
    is_shared: bool,
    offset: u64,
    file: Identity,
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let hex = |word: &str| u64::from_str_radix(word, 16).ok();
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let is_shared = words.next()?.as_bytes().get(3) == Some(&b's');
        let offset = hex(words.next()?)?;
        let (major, minor) = words.next()?.split_once(':')?;
        let file = Identity {
            major: u32::from_str_radix(major, 16).ok()?,
            minor: u32::from_str_radix(minor, 16).ok()?,
            inode: words.next()?.parse().ok()?,
        };
        Some(Self { start: hex(start)?, end: hex(end)?, is_shared, offset, file })
    }

    fn place(&self, address: u64) -> Option<Place> {
        let offset = address.checked_sub(self.start)?.checked_add(self.offset)?;
        (self.is_shared && self.file.inode != 0).then_some(Place { file: self.file, offset })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAPS: &str = "\
5500-5600 r-xp 00000000 fe:01 1234                       /usr/bin/qemu system
7000-8000 rw-s 00000000 00:01 77                         /memfd:mem (deleted)
8000-9000 r--s 00001000 00:01 77                         /memfd:mem (deleted)
9000-a000 rw-s 00005000 00:01 77                         /memfd:mem (deleted)
a000-b000 rw-p 00000000 00:00 0
b000-c000 rw-s 00000000 00:01 78                         /memfd:other (deleted)
";

    #[test]
    fn a_range_is_found_across_mappings_that_go_on() {
        let place = |offset| Some(Place { file: Identity { major: 0, minor: 1, inode: 77 }, offset });
        assert_eq!(find(MAPS, 0x7000, 0x1000), place(0));
        assert_eq!(find(MAPS, 0x7800, 0x1000), place(0x800));
        assert_eq!(find(MAPS, 0x7000, 0x2000), place(0));
        assert_eq!(find(MAPS, 0x9ff0, 0x10), place(0x5ff0));
    }

    #[test]
    fn what_cannot_be_shared_as_one_is_not() {
        let refused = [
            (0x5500, 0x10),
            (0xa000, 0x1000),
            (0x8000, 0x2000),
            (0xb000, 0x1001),
            (0x7000, 0),
            (0x1, 0x1),
            (0x7000, u64::MAX),
        ];
        for (address, size) in refused {
            assert_eq!(find(MAPS, address, size), None, "{address:#x}+{size:#x}");
        }
    }

    #[test]
    fn this_processs_own_memory_is_found() {
        let vram = vfio_gfx::memory::Vram::new("preload-test", 0x4000).unwrap();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps.lines().find(|line| line.contains("preload-test")).unwrap();
        let start = Mapping::parse(line).unwrap().start;
        let found = shared(start + 0x1000, 0x2000, true).unwrap();
        assert_eq!(found.offset, 0x1000);
        vram.write(0x1000, b"seen").unwrap();
        let mut back = [0; 4];
        std::os::unix::fs::FileExt::read_exact_at(&File::from(found.fd), &mut back, 0x1000).unwrap();
        assert_eq!(&back, b"seen");
        let stack = 0u8;
        assert!(shared(u64::try_from(std::ptr::from_ref(&stack).addr()).unwrap(), 1, false).is_none());
    }

    proptest! {
        #[test]
        fn nonsense_is_no_mapping(text in "[0-9a-f:rwsp \n-]{0,200}", address: u64, size: u64) {
            let _ = find(&text, address, size);
            let _ = find(&format!("0-ffffffffffffffff rw-s ffffffffffffffff 0:1 1\n{text}"), address, size);
        }
    }
}
