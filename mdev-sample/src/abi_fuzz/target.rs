//! A device as its descriptor shows it: what a walk calls.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{SeekFrom, seek};
use vfio_gfx::abi::Errno;
use vfio_gfx::memory::{BufferKind, Mapping};

/// A mapping that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// Place in the device's descriptor, in bytes.
    pub offset: u64,
    /// Bytes.
    pub len: usize,
    /// `PROT_*`; reading is always among it.
    pub prot: u32,
    /// `MAP_SHARED` (1) or `MAP_PRIVATE` (2).
    pub flags: u32,
}

/// A buffer that a device handed out.
#[derive(Debug)]
pub struct Dmabuf {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// Bytes.
    pub size: u64,
    /// Whether it can be mapped shared and read-only.
    pub mmap_shared: Result<(), Errno>,
    /// Whether it can be mapped privately and read-only.
    pub mmap_private: Result<(), Errno>,
}

impl Dmabuf {
    /// A buffer of one of our devices.
    pub(super) fn of(fd: OwnedFd, kind: BufferKind) -> Result<Self, Errno> {
        let size = seek(&fd, SeekFrom::End(0))?;
        let copy = fd.try_clone().map_err(|_| Errno::EMFILE)?;
        let mmap_shared = Mapping::new(copy, kind, size).map(|_| ()).map_err(|_| Errno::EINVAL);
        // udmabuf refuses private mappings, a memfd allows them (drivers/dma-buf/udmabuf.c, mm/shmem.c).
        let mmap_private = if kind == BufferKind::Memfd { Ok(()) } else { Err(Errno::EINVAL) };
        Ok(Self { fd, size, mmap_shared, mmap_private })
    }
}

/// A device, called through its descriptor. Each call is one record of a recording.
///
/// Errors are the errno of the system call.
#[expect(clippy::missing_errors_doc, reason = "said once for all")]
pub trait Target {
    /// The device's type, as recordings name it.
    fn name(&self) -> &str;

    /// An ioctl whose argument points to `arg`, with no memory behind it.
    fn ioctl(&mut self, request: u32, arg: &mut [u8]) -> Result<(), Errno>;

    /// An ioctl whose argument points where no memory is.
    fn ioctl_bad_pointer(&mut self, request: u32) -> Result<(), Errno>;

    /// `GET_GFX_DMABUF`, and what can be found out about the buffer.
    fn dmabuf(&mut self, id: u32) -> Result<Dmabuf, Errno>;

    /// `pread(2)`: how many bytes.
    fn pread(&mut self, offset: u64, data: &mut [u8]) -> Result<usize, Errno>;

    /// `pwrite(2)`: how many bytes.
    fn pwrite(&mut self, offset: u64, data: &[u8]) -> Result<usize, Errno>;

    /// `mmap(2)`: the first bytes of the mapping, which is undone.
    fn mmap(&mut self, request: MapRequest) -> Result<[u8; 16], Errno>;

    /// Whether the device is still there. Asked after each call; an error ends the walk.
    fn check(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The walk is over: leaves the device as somebody else can use it.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}
