//! Video memory: a sealed memfd that this process, the VMM and the guest map.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use memfd::{FileSeal, MemfdOptions};
use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom, fallocate, seek};
use thiserror::Error;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

use super::PAGE_SIZE;

/// Why video memory could not be made or reached.
#[derive(Debug, Error)]
pub enum VramError {
    /// Not a positive number of pages that can be mapped.
    #[error("video memory of {0} bytes: must be a positive multiple of {PAGE_SIZE}")]
    Size(u64),
    /// memfd_create or its sealing failed.
    #[error("cannot create a sealed memfd of {size} bytes")]
    Memfd {
        /// Bytes.
        size: u64,
        /// What the system said.
        #[source]
        source: memfd::Error,
    },
    /// ftruncate failed.
    #[error("cannot size a memfd to {size} bytes")]
    Resize {
        /// Bytes.
        size: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// fchmod failed.
    #[error("cannot restrict a memfd to its owner")]
    Permissions(#[source] io::Error),
    /// mmap failed.
    #[error("cannot map {size} bytes of video memory")]
    Map {
        /// Bytes.
        size: u64,
        /// What vm-memory said.
        #[source]
        source: MmapRegionError,
    },
    /// An access outside the memory.
    #[error("access to {len} bytes at {offset:#x} leaves the {size:#x} bytes of video memory")]
    OutOfBounds {
        /// Bytes from the start.
        offset: u64,
        /// Bytes.
        len: usize,
        /// Bytes of memory.
        size: u64,
    },
}

/// A device's video memory.
///
/// Backed by a memfd that is sealed against shrinking (whoever maps it keeps valid memory), growing and further
/// seals (a client with the descriptor cannot seal it against our writes). Pages exist only once touched. All
/// access copies; the guest may write at any time.
#[derive(Debug)]
pub struct Vram {
    file: Arc<File>,
    map: MmapRegion,
    size: u64,
}

impl Vram {
    /// Makes `size` bytes of zeroed video memory. `name` shows in `/proc/PID/maps`.
    ///
    /// # Errors
    /// [`VramError`] when the size is no positive multiple of a page or the system refuses.
    pub fn new(name: &str, size: u64) -> Result<Self, VramError> {
        let len = usize::try_from(size).map_err(|_| VramError::Size(size))?;
        if size == 0 || !size.is_multiple_of(PAGE_SIZE) || isize::try_from(size).is_err() {
            return Err(VramError::Size(size));
        }
        let memfd = MemfdOptions::new()
            .allow_sealing(true)
            .close_on_exec(true)
            .create(name)
            .map_err(|source| VramError::Memfd { size, source })?;
        memfd.as_file().set_len(size).map_err(|source| VramError::Resize { size, source })?;
        // A memfd is born with mode 0777, and whoever holds a read-only descriptor may ask /proc for a writable one.
        let owner_only = Permissions::from_mode(0o600);
        memfd.as_file().set_permissions(owner_only).map_err(VramError::Permissions)?;
        // udmabuf wants SHRINK and refuses WRITE; SEAL comes last, it ends the list.
        for seal in [FileSeal::SealShrink, FileSeal::SealGrow, FileSeal::SealSeal] {
            memfd.add_seal(seal).map_err(|source| VramError::Memfd { size, source })?;
        }
        let file = Arc::new(memfd.into_file());
        let map = MmapRegion::from_file(FileOffset::from_arc(Arc::clone(&file), 0), len)
            .map_err(|source| VramError::Map { size, source })?;
        Ok(Self { file, map, size })
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The memfd, writable: for the VMM that maps it into its guest.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The memory where this process has it mapped: for a VMM in this process that gives it to its guest, and for a
    /// [`WriteTracker`](super::WriteTracker).
    #[must_use]
    pub fn memory(&self) -> VolatileSlice<'_> {
        self.map.as_volatile_slice()
    }

    /// A new read-only descriptor of the same memory: for consoles, which have nothing to write. A fresh open file
    /// description (through `/proc/self/fd`). Another user's process cannot make it writable; one of this process's own
    /// user can, as it can do anything else to this process.
    ///
    /// # Errors
    /// What `open(2)` says; `ENOENT` where `/proc` is not mounted.
    pub fn reopen_read_only(&self) -> io::Result<OwnedFd> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn check(&self, offset: u64, len: usize) -> Result<usize, VramError> {
        let out_of_bounds = || VramError::OutOfBounds { offset, len, size: self.size };
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > self.size) {
            return Err(out_of_bounds());
        }
        usize::try_from(offset).map_err(|_| out_of_bounds())
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// [`VramError::OutOfBounds`]; nothing is copied then.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), VramError> {
        let start = self.check(offset, data.len())?;
        self.map.as_volatile_slice().read_slice(data, start).map_err(|_| VramError::OutOfBounds {
            offset,
            len: data.len(),
            size: self.size,
        })
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// [`VramError::OutOfBounds`]; nothing is copied then.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), VramError> {
        let start = self.check(offset, data.len())?;
        self.map.as_volatile_slice().write_slice(data, start).map_err(|_| VramError::OutOfBounds {
            offset,
            len: data.len(),
            size: self.size,
        })
    }

    /// Gives every page back to the system, at once, whoever else has the memory mapped: mappings stay valid and read as
    /// zeros from now on, because the file keeps its size. Who touches a page again, be it only to read it, gets a new one
    /// of zeros, which the system charges to him. Pages that a dma-buf pins go when it is closed.
    ///
    /// # Errors
    /// What `fallocate(2)` says.
    pub fn give_back(&self) -> io::Result<()> {
        // SHRINK and GROW do not seal against this; WRITE would (mm/shmem.c, `shmem_fallocate`).
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match fallocate(&self.file, flags, 0, self.size) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }

    /// Zeroes what was ever written, and touches nothing else: for pages that outlive [`Vram::give_back`] in a dma-buf.
    pub(crate) fn clear(&self) {
        // A descriptor of its own: whoever has one of ours shares its position.
        let Ok(file) = self.reopen_read_only() else { return self.fill(0, self.size, 0) };
        let mut at = 0;
        // ENXIO: no data from here on.
        while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
            let end = seek(&file, SeekFrom::Hole(start)).unwrap_or(self.size);
            self.fill(start, end.saturating_sub(start), 0);
            at = end.max(start.saturating_add(1));
        }
    }

    /// Bytes that the system holds for this memory: pages that were touched.
    ///
    /// # Errors
    /// What `fstat(2)` says.
    pub fn allocated(&self) -> io::Result<u64> {
        let blocks = rustix::fs::fstat(&self.file)?.st_blocks;
        // In units of 512 bytes (stat(3type)).
        Ok(u64::try_from(blocks).unwrap_or(0).saturating_mul(512))
    }

    /// Sets `len` bytes from `offset` to `value`, stopping at the end of the memory.
    pub fn fill(&self, offset: u64, len: u64, value: u8) {
        let chunk = [value; 4096];
        let end = offset.saturating_add(len).min(self.size);
        let mut at = offset;
        while at < end {
            let part = usize::try_from(end - at).unwrap_or(chunk.len()).min(chunk.len());
            if self.write(at, &chunk[..part]).is_err() {
                return;
            }
            at += part as u64;
        }
    }
}

impl AsFd for Vram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::SealFlags;

    #[test]
    fn bytes_come_back_through_every_descriptor() {
        let vram = Vram::new("test", 1 << 20).unwrap();
        vram.write(4095, b"across").unwrap();
        let mut back = [0; 6];
        vram.read(4095, &mut back).unwrap();
        assert_eq!(&back, b"across");
        let read_only = vram.reopen_read_only().unwrap();
        assert_eq!(rustix::io::pread(&read_only, &mut back, 4095).unwrap(), 6);
        assert_eq!(&back, b"across");
        assert!(rustix::io::pwrite(&read_only, b"x", 0).is_err());
    }

    #[test]
    fn access_outside_is_an_error() {
        let vram = Vram::new("test", 4096).unwrap();
        assert!(vram.read(4096, &mut [0]).is_err());
        assert!(vram.read(4095, &mut [0; 2]).is_err());
        assert!(vram.write(u64::MAX, &[0]).is_err());
        assert!(vram.read(4096, &mut []).is_ok(), "nothing at the end is inside");
    }

    #[test]
    fn nobody_can_shrink_or_seal_it() {
        let vram = Vram::new("test", 8192).unwrap();
        assert!(vram.file().set_len(4096).is_err());
        assert!(rustix::fs::fcntl_add_seals(vram.file(), SealFlags::FUTURE_WRITE).is_err());
        let seals = rustix::fs::fcntl_get_seals(vram.file()).unwrap();
        assert!(seals.contains(SealFlags::SHRINK) && !seals.contains(SealFlags::WRITE));
    }

    #[test]
    fn memory_is_given_back_under_a_mapping_which_stays_valid() {
        let vram = Vram::new("test", 1 << 20).unwrap();
        vram.fill(0, 1 << 20, 7);
        let holder =
            MmapRegion::<()>::from_file(FileOffset::from_arc(Arc::clone(&vram.file), 0), 1 << 20).unwrap();
        let last = |map: &MmapRegion| map.as_volatile_slice().read_obj::<u8>((1 << 20) - 1).unwrap();
        assert_eq!((vram.allocated().unwrap(), last(&holder)), (1 << 20, 7));
        vram.give_back().unwrap();
        assert_eq!(vram.allocated().unwrap(), 0, "at once, and not when the holder goes");
        assert_eq!(last(&holder), 0, "and no SIGBUS");
        assert!(vram.allocated().unwrap() <= 4096, "a page that he touched");
        vram.give_back().unwrap();
        assert_eq!(vram.allocated().unwrap(), 0);
    }

    #[test]
    fn clearing_touches_only_what_was_written() {
        let vram = Vram::new("test", 1 << 20).unwrap();
        for page in [0, 3, 255] {
            vram.write(page * 4096 + 5, b"x").unwrap();
        }
        vram.clear();
        assert_eq!(vram.allocated().unwrap(), 3 * 4096);
        let mut all = vec![1; 1 << 20];
        vram.read(0, &mut all).unwrap();
        assert!(all.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn sizes_are_whole_pages() {
        for size in [0, 1, 4095, u64::MAX, u64::MAX - 4095] {
            assert!(Vram::new("test", size).is_err(), "{size}");
        }
    }

    #[test]
    fn fill_stops_at_the_end() {
        let vram = Vram::new("test", 8192).unwrap();
        vram.fill(8000, u64::MAX, 7);
        let mut back = [0; 192];
        vram.read(8000, &mut back).unwrap();
        assert_eq!(back, [7; 192]);
        let mut before = [1];
        vram.read(7999, &mut before).unwrap();
        assert_eq!(before, [0]);
    }
}
