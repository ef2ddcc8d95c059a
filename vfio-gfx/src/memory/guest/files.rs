//! The descriptors that came with guest memory: few, whatever a VMM sends.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, fstatfs};
use tracing::warn;
use vm_memory::FileOffset;

/// Most different files behind a guest's memory. A VMM has one per memory backend and sends a descriptor of it with each
/// range; the process has other uses for its descriptors.
pub const MAX_GUEST_FILES: usize = 64;

/// `TMPFS_MAGIC` and `HUGETLBFS_MAGIC` (`include/uapi/linux/magic.h`): what memfds are of.
const SHARED_MEMORY: [u64; 2] = [0x0102_1994, 0x9584_58f6];

/// Two descriptors with the same of these reach the same memory in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    access: OFlags,
}

/// Every file that a range or a buffer holds.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(Identity, Weak<File>)>);

impl Files {
    /// Keeps a descriptor, or another of the same file that is kept already. `None` when it cannot serve as `size` bytes of
    /// memory from `start`.
    pub(super) fn keep(&mut self, fd: OwnedFd, start: u64, size: u64) -> Option<FileOffset> {
        let file = File::from(fd);
        let Some(identity) = identify(&file, start, size) else {
            warn!(
                "guest memory came with a descriptor that is no shared memory of its size: it cannot be reached"
            );
            return None;
        };
        self.0.retain(|(_, file)| file.strong_count() > 0);
        let known = self.0.iter().find(|(other, _)| *other == identity).and_then(|(_, file)| file.upgrade());
        if let Some(known) = known {
            return Some(FileOffset::from_arc(known, start));
        }
        if self.0.len() >= MAX_GUEST_FILES {
            warn!(
                limit = MAX_GUEST_FILES,
                "guest memory is of too many files: a part of it cannot be reached"
            );
            return None;
        }
        let file = Arc::new(file);
        self.0.push((identity, Arc::downgrade(&file)));
        Some(FileOffset::from_arc(file, start))
    }
}

fn identify(file: &File, start: u64, size: u64) -> Option<Identity> {
    let stat = fstat(file).ok()?;
    let system = u64::try_from(fstatfs(file).ok()?.f_type).ok()?;
    let end = start.checked_add(size)?;
    let reaches = u64::try_from(stat.st_size).is_ok_and(|len| len >= end);
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile
        || !SHARED_MEMORY.contains(&system)
        || !reaches
    {
        return None;
    }
    let access = fcntl_getfl(file).ok()? & OFlags::RWMODE;
    Some(Identity { device: stat.st_dev, inode: stat.st_ino, access })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Vram;
    use rustix::event::{EventfdFlags, eventfd};

    #[test]
    fn one_descriptor_of_each_file_is_kept() {
        let mut files = Files::default();
        let memory = Vram::new("guest", 8192).unwrap();
        let fd = || memory.file().try_clone().unwrap().into();
        let low = files.keep(fd(), 0, 4096).unwrap();
        let high = files.keep(fd(), 4096, 4096).unwrap();
        assert!(Arc::ptr_eq(low.arc(), high.arc()));
        let read_only = files.keep(memory.reopen_read_only().unwrap(), 0, 8192).unwrap();
        assert!(!Arc::ptr_eq(low.arc(), read_only.arc()), "it cannot do the same");
    }

    #[test]
    fn what_is_no_memory_or_too_short_is_not_kept() {
        let mut files = Files::default();
        let memory = Vram::new("guest", 8192).unwrap();
        for (start, size) in [(4096, 8192), (8192, 4096), (u64::MAX, 4096)] {
            assert!(files.keep(memory.file().try_clone().unwrap().into(), start, size).is_none());
        }
        assert!(files.keep(eventfd(0, EventfdFlags::CLOEXEC).unwrap(), 0, 0).is_none());
        assert!(files.keep(File::open("/dev/zero").unwrap().into(), 0, 0).is_none());
        assert!(files.keep(File::open("/proc/self/maps").unwrap().into(), 0, 0).is_none());
    }

    #[test]
    fn files_are_bounded_and_forgotten_when_unused() {
        let mut files = Files::default();
        let fd = || Vram::new("guest", 4096).unwrap().file().try_clone().unwrap().into();
        let mut kept: Vec<FileOffset> =
            (0..MAX_GUEST_FILES).map(|_| files.keep(fd(), 0, 4096).unwrap()).collect();
        assert!(files.keep(fd(), 0, 4096).is_none());
        kept.pop();
        assert!(files.keep(fd(), 0, 4096).is_some());
    }
}
