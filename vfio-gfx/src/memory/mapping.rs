//! The reading side: bytes of a descriptor that somebody else owns.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{SealFlags, SeekFrom, fcntl_get_seals, seek};
use rustix::mm::{MapFlags, ProtFlags};
use thiserror::Error;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

use super::{BufferKind, CpuAccess, fdinfo, page_align};

/// Why bytes cannot be reached.
#[derive(Debug, Error)]
pub enum MappingError {
    /// The descriptor is shorter than its owner says.
    #[error("descriptor holds {found} bytes, {expected} were announced")]
    TooShort {
        /// Bytes announced.
        expected: u64,
        /// Bytes there.
        found: u64,
    },
    /// Nothing to map, or more than an address space holds.
    #[error("cannot map {0} bytes")]
    Size(u64),
    /// mmap refused. A dma-buf whose exporter has no CPU mapping (the kernel's mbochs, for one) ends here.
    #[error("the descriptor cannot be mapped for reading: {0}")]
    Map(#[source] MmapRegionError),
    /// pread, lseek or fcntl failed.
    #[error("cannot read the descriptor")]
    Io(#[from] io::Error),
    /// An access outside the announced size.
    #[error("read of {len} bytes at {offset:#x} leaves the {size:#x} bytes mapped")]
    OutOfBounds {
        /// Bytes from the start.
        offset: u64,
        /// Bytes.
        len: usize,
        /// Bytes mapped.
        size: u64,
    },
}

#[derive(Debug)]
enum Access {
    Mapped(MmapRegion),
    /// A dma-buf: mapped too, but reading begins and ends.
    Dmabuf(MmapRegion),
    /// The owner could cut it short under a mapping, so it is read call by call.
    Pread(File),
}

/// `size` bytes of a descriptor, read-only. Reading copies; the owner may write at any time.
#[derive(Debug)]
pub struct Mapping {
    access: Access,
    /// Where in what is accessed the bytes of interest start.
    base: u64,
    size: u64,
}

impl Mapping {
    /// Takes a descriptor of which `size` bytes are of interest. A memfd is mapped only if it is sealed against
    /// shrinking, and read with `pread(2)` otherwise; what claims to be a dma-buf is mapped (its pages are pinned).
    ///
    /// # Errors
    /// [`MappingError`] when the descriptor is shorter than `size`, or cannot be mapped.
    pub fn new(fd: OwnedFd, kind: BufferKind, size: u64) -> Result<Self, MappingError> {
        Self::at(fd, kind, 0, size)
    }

    /// The same for `size` bytes that start at `base` of the descriptor.
    ///
    /// # Errors
    /// As [`Mapping::new`].
    pub fn at(fd: OwnedFd, kind: BufferKind, base: u64, size: u64) -> Result<Self, MappingError> {
        let end = base.checked_add(size).filter(|_| size > 0).ok_or(MappingError::Size(size))?;
        let whole = Self::from_start(fd, kind, end)?;
        Ok(Self { base, size, ..whole })
    }

    fn from_start(fd: OwnedFd, kind: BufferKind, size: u64) -> Result<Self, MappingError> {
        let file = File::from(fd);
        let found = seek(&file, SeekFrom::End(0)).map_err(io::Error::from)?;
        if found < size {
            return Err(MappingError::TooShort { expected: size, found });
        }
        let pages = page_align(size).ok_or(MappingError::Size(size))?.min(page_align(found).unwrap_or(found));
        let len = usize::try_from(pages).map_err(|_| MappingError::Size(size))?;
        if len == 0 || isize::try_from(len).is_err() {
            return Err(MappingError::Size(size));
        }
        let access = match kind {
            BufferKind::Memfd if is_sealed(&file) => Access::Mapped(map_shared(file, 0, len)?),
            // A dma-buf's own length limits its mapping; a memfd may end within the last page.
            BufferKind::Dmabuf if is_dmabuf(&file) => {
                Access::Dmabuf(map_shared(file, 0, usize::try_from(size).unwrap_or(len))?)
            }
            // Whatever it is, it can be cut short: take no chances with it.
            _ => Access::Pread(file),
        };
        Ok(Self { access, base: 0, size })
    }

    /// Takes `size` bytes at `offset` of a VFIO device's descriptor: a region that can be mapped. The caller vouches
    /// that the device's driver keeps memory behind the region for as long as the descriptor is open, as those of
    /// mediated displays do.
    ///
    /// # Errors
    /// [`MappingError`] when the device does not map them.
    pub(crate) fn of_device(device: File, offset: u64, size: u64) -> Result<Self, MappingError> {
        let len = page_align(size).and_then(|len| usize::try_from(len).ok());
        let len = len.filter(|len| *len > 0 && isize::try_from(*len).is_ok());
        let len = len.ok_or(MappingError::Size(size))?;
        map_shared(device, offset, len).map(|map| Self { access: Access::Mapped(map), base: 0, size })
    }

    /// Bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether reading needs no system call.
    #[must_use]
    pub fn is_mapped(&self) -> bool {
        matches!(self.access, Access::Mapped(_) | Access::Dmabuf(_))
    }

    /// Says that reading begins, until the result is dropped. Reads outside of it may find stale bytes in a dma-buf.
    ///
    /// # Errors
    /// [`MappingError::Io`] when the exporter refuses.
    pub fn begin_read(&self) -> Result<CpuAccess<'_>, MappingError> {
        let dmabuf = match &self.access {
            Access::Dmabuf(map) => map.file_offset().map(FileOffset::file),
            Access::Mapped(_) | Access::Pread(_) => None,
        };
        Ok(CpuAccess::begin(dmabuf)?)
    }

    /// Copies bytes out.
    ///
    /// # Errors
    /// [`MappingError::OutOfBounds`], or [`MappingError::Io`] when the owner cut the file short.
    pub fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), MappingError> {
        let place = self.place(offset, data.len())?;
        match &self.access {
            Access::Mapped(map) | Access::Dmabuf(map) => {
                let out_of_bounds = MappingError::OutOfBounds { offset, len: data.len(), size: self.size };
                let start = usize::try_from(place).unwrap_or(usize::MAX);
                map.as_volatile_slice().read_slice(data, start).map_err(|_| out_of_bounds)
            }
            Access::Pread(file) => Ok(file.read_exact_at(data, place)?),
        }
    }

    /// The same bytes where they are; `None` where they are read call by call.
    pub(super) fn slice(&self, offset: u64, len: usize) -> Result<Option<VolatileSlice<'_>>, MappingError> {
        let place = self.place(offset, len)?;
        let (Access::Mapped(map) | Access::Dmabuf(map)) = &self.access else { return Ok(None) };
        let start = usize::try_from(place).unwrap_or(usize::MAX);
        let out_of_bounds = MappingError::OutOfBounds { offset, len, size: self.size };
        map.get_slice(start, len).map(Some).map_err(|_| out_of_bounds)
    }

    /// Where bytes are in what is accessed.
    fn place(&self, offset: u64, len: usize) -> Result<u64, MappingError> {
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > self.size) {
            return Err(MappingError::OutOfBounds { offset, len, size: self.size });
        }
        // Does not overflow: the end of what was mapped did not.
        Ok(self.base.saturating_add(offset))
    }
}

/// Maps for reading. The file must be one that cannot be cut short.
fn map_shared(file: File, offset: u64, len: usize) -> Result<MmapRegion, MappingError> {
    let flags = MapFlags::SHARED.bits().cast_signed();
    let prot = ProtFlags::READ.bits().cast_signed();
    let place = FileOffset::from_arc(Arc::new(file), offset);
    MmapRegion::build(Some(place), len, prot, flags).map_err(MappingError::Map)
}

/// Whether a descriptor is a memfd that nobody can shrink any more.
fn is_sealed(file: &File) -> bool {
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

/// Whether a descriptor is a dma-buf. The kernel names them in fdinfo (`exp_name:`, dma-buf.c `dma_buf_show_fdinfo`);
/// no other kind of file has that line.
fn is_dmabuf(file: &File) -> bool {
    fdinfo::says(file, "exp_name:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Vram;

    #[test]
    fn sealed_memory_is_mapped_and_live() {
        let vram = Vram::new("test", 8192).unwrap();
        let map = Mapping::new(vram.reopen_read_only().unwrap(), BufferKind::Memfd, 8192).unwrap();
        assert!(map.is_mapped());
        vram.write(5000, b"late").unwrap();
        let mut back = [0; 4];
        map.read(5000, &mut back).unwrap();
        assert_eq!(&back, b"late");
        assert!(map.read(8190, &mut back).is_err());
        assert!(map.read(u64::MAX, &mut back).is_err());
    }

    #[test]
    fn memory_that_can_shrink_is_an_error_and_not_a_crash() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        for kind in [BufferKind::Memfd, BufferKind::Dmabuf] {
            file.set_len(8192).unwrap();
            let map = Mapping::new(file.try_clone().unwrap().into(), kind, 8192).unwrap();
            assert!(!map.is_mapped());
            map.read(4096, &mut [0; 16]).unwrap();
            file.set_len(0).unwrap();
            assert!(matches!(map.read(4096, &mut [0; 16]), Err(MappingError::Io(_))));
        }
    }

    #[test]
    fn a_range_of_a_device_is_mapped_where_it_is() {
        let vram = Vram::new("test", 16384).unwrap();
        vram.write(4096, b"first").unwrap();
        let file = || File::from(vram.reopen_read_only().unwrap());
        let map = Mapping::of_device(file(), 4096, 5000).unwrap();
        assert_eq!((map.size(), map.is_mapped()), (5000, true));
        let mut back = [0; 5];
        map.read(0, &mut back).unwrap();
        assert_eq!(&back, b"first");
        assert!(map.read(4996, &mut back).is_err());
        assert!(matches!(Mapping::of_device(file(), 1, 4096), Err(MappingError::Map(_))));
        for size in [0, u64::MAX, u64::MAX / 2] {
            assert!(matches!(Mapping::of_device(file(), 0, size), Err(MappingError::Size(_))), "{size}");
        }
    }

    #[test]
    fn a_part_is_counted_from_its_start() {
        let vram = Vram::new("test", 8192).unwrap();
        vram.write(5000, b"part").unwrap();
        let map = Mapping::at(vram.reopen_read_only().unwrap(), BufferKind::Memfd, 4096, 4096).unwrap();
        let mut back = [0; 4];
        map.read(904, &mut back).unwrap();
        assert_eq!(&back, b"part");
        assert!(map.read(4093, &mut back).is_err());
        let beyond = |base| Mapping::at(vram.reopen_read_only().unwrap(), BufferKind::Memfd, base, 4096);
        assert!(beyond(4097).is_err() && beyond(u64::MAX).is_err());
    }

    #[test]
    fn announced_and_real_size_are_compared() {
        let vram = Vram::new("test", 4096).unwrap();
        let announce = |size| Mapping::new(vram.reopen_read_only().unwrap(), BufferKind::Memfd, size);
        assert!(matches!(announce(4097), Err(MappingError::TooShort { found: 4096, .. })));
        assert!(announce(u64::MAX).is_err());
        assert!(announce(0).is_err());
    }
}
