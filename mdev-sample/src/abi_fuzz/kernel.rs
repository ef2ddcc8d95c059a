//! A device of the kernel, called through its descriptor.
#![expect(unsafe_code, reason = "ioctls and mappings that are wrong on purpose")]

use std::ffi::c_void;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use rustix::fs::{SeekFrom, seek};
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect, munmap};
use vfio_gfx::abi::{DeviceIoctl, Errno};
use vfio_gfx::display::{Kernel, KernelError};
use vfio_gfx::memory::PAGE_SIZE;

use super::target::{Dmabuf, MapRequest, Target};

/// An address where no memory is: the first page is never mapped.
const BAD_POINTER: usize = 8;

/// A device of the kernel, taken until this is dropped.
#[derive(Debug)]
pub struct KernelTarget {
    name: String,
    // The arguments' memory is never gone before the device.
    kernel: Kernel,
    memory: Memory,
}

impl KernelTarget {
    /// Takes the device at `path`: its directory in sysfs, or `/dev/vfio/devices/vfioN`. Its name in recordings is its
    /// mediated type's (`mdev_type`), or else the last part of the path.
    ///
    /// # Errors
    /// [`KernelError`] when the kernel does not let us have it.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let kernel = Kernel::open(path)?;
        let mediated = fs::canonicalize(path.join("mdev_type")).ok();
        let named = mediated.as_deref().unwrap_or(path).file_name();
        let name = named.map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let memory = Memory::new().map_err(|error| KernelError::Descriptor(error.into()))?;
        Ok(Self { name, kernel, memory })
    }
}

/// A page with nothing behind it: what ends at its end cannot be overrun, neither by the kernel.
#[derive(Debug)]
struct Memory(*mut c_void);

impl Memory {
    fn new() -> rustix::io::Result<Self> {
        // SAFETY: new memory, at a place of the system's choice.
        let page =
            unsafe { mmap_anonymous(ptr::null_mut(), 2 * PAGE, ProtFlags::empty(), MapFlags::PRIVATE) }?;
        let memory = Self(page);
        // SAFETY: the first of the two pages just mapped.
        unsafe { mprotect(page, PAGE, MprotectFlags::READ | MprotectFlags::WRITE) }?;
        Ok(memory)
    }

    /// Where `len` bytes begin that end with the page.
    fn tail(&self, len: usize) -> *mut u8 {
        // At most a page, so inside of it.
        self.0.cast::<u8>().wrapping_add(PAGE.saturating_sub(len))
    }
}

/// [`PAGE_SIZE`] as a length.
#[expect(clippy::cast_possible_truncation, reason = "4096")]
const PAGE: usize = PAGE_SIZE as usize;

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: both pages are ours, and nobody borrows them.
        let _ = unsafe { munmap(self.0, 2 * PAGE) };
    }
}

/// Any ioctl that takes a pointer. Its result is the return value.
struct Raw {
    request: u32,
    argument: *mut c_void,
}

// SAFETY: only `KernelTarget::raw` makes one, whose argument points to the guarded page or to no memory at all; whatever
// the kernel does there touches nothing else of this process. None of the walk's calls has an address in its argument.
unsafe impl Ioctl for Raw {
    type Output = IoctlOutput;
    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        Opcode::from(self.request)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        self.argument
    }

    unsafe fn output_from_ptr(out: IoctlOutput, _: *mut c_void) -> rustix::io::Result<IoctlOutput> {
        Ok(out)
    }
}

impl KernelTarget {
    fn raw(&self, request: u32, argument: *mut c_void) -> Result<IoctlOutput, Errno> {
        // SAFETY: see `Raw`.
        unsafe { rustix::ioctl::ioctl(self.kernel.as_fd(), Raw { request, argument }) }.map_err(Errno::from)
    }
}

impl Target for KernelTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn ioctl(&mut self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        let len = arg.len().min(PAGE);
        let memory = self.memory.tail(len);
        // SAFETY: `len` bytes of the page, which is ours; it and `arg` are apart.
        unsafe { ptr::copy_nonoverlapping(arg.as_ptr(), memory, len) };
        let result = self.raw(request, memory.cast());
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(memory, arg.as_mut_ptr(), len) };
        result.map(|_| ())
    }

    fn ioctl_bad_pointer(&mut self, request: u32) -> Result<(), Errno> {
        self.raw(request, ptr::without_provenance_mut(BAD_POINTER)).map(|_| ())
    }

    fn dmabuf(&mut self, id: u32) -> Result<Dmabuf, Errno> {
        let memory = self.memory.tail(size_of::<u32>());
        // SAFETY: the last four bytes of the page.
        unsafe { memory.cast::<u32>().write_unaligned(id) };
        let fd = self.raw(DeviceIoctl::GetGfxDmabuf.raw(), memory.cast())?;
        if fd < 0 {
            return Err(Errno::EBADF);
        }
        // SAFETY: a result that is no error is a descriptor that nobody else owns yet.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let size = seek(&fd, SeekFrom::End(0))?;
        let map = |flags| {
            let len = usize::try_from(size).unwrap_or(usize::MAX);
            map(fd.as_fd(), 0, len, ProtFlags::READ, flags).map(|_| ())
        };
        Ok(Dmabuf { mmap_shared: map(MapFlags::SHARED), mmap_private: map(MapFlags::PRIVATE), size, fd })
    }

    fn pread(&mut self, offset: u64, data: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::pread(self.kernel.as_fd(), data, offset).map_err(Errno::from)
    }

    fn pwrite(&mut self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        rustix::io::pwrite(self.kernel.as_fd(), data, offset).map_err(Errno::from)
    }

    fn mmap(&mut self, request: MapRequest) -> Result<[u8; 16], Errno> {
        let prot = ProtFlags::from_bits_retain(request.prot);
        let flags = MapFlags::from_bits_retain(request.flags);
        let mapped = map(self.kernel.as_fd(), request.offset, request.len, prot, flags)?;
        mapped.first16()
    }
}

/// A mapping, undone when dropped.
struct Mapped {
    at: *mut c_void,
    len: usize,
}

fn map(
    fd: BorrowedFd<'_>,
    offset: u64,
    len: usize,
    prot: ProtFlags,
    flags: MapFlags,
) -> Result<Mapped, Errno> {
    // SAFETY: a new mapping at a place of the system's choice; the walk's flags have no MAP_FIXED.
    let at = unsafe { mmap(ptr::null_mut(), len, prot, flags, fd, offset) }?;
    Ok(Mapped { at, len })
}

impl Mapped {
    /// What the mapping shows first. The kernel reads it, so that a page which is not there is an error and no signal.
    fn first16(&self) -> Result<[u8; 16], Errno> {
        let mut first = [0; 16];
        let (reader, writer) = rustix::pipe::pipe()?;
        let len = self.len.min(first.len());
        // SAFETY: `len` bytes of a mapping that can be read and that lives on; nobody but the kernel looks at them.
        let mapped = unsafe { std::slice::from_raw_parts(self.at.cast::<u8>(), len) };
        let written = rustix::io::write(&writer, mapped)?;
        rustix::io::read(&reader, &mut first[..written.min(len)])?;
        Ok(first)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody borrows it.
        let _ = unsafe { munmap(self.at, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_device_is_not_opened() {
        let error = KernelTarget::open(Path::new("/sys/bus/mdev/devices/none")).unwrap_err();
        assert!(matches!(error, KernelError::Place(_)), "{error}");
    }

    /// The kernel cannot write behind an argument, and says so.
    #[test]
    fn memory_ends_where_the_argument_does() {
        let memory = Memory::new().unwrap();
        let file = tempfile::tempfile().unwrap();
        rustix::io::pwrite(&file, &[7; 16], 0).unwrap();
        // SAFETY: the kernel checks the memory, of which the last byte is not there.
        let slice = unsafe { std::slice::from_raw_parts_mut(memory.tail(15), 15) };
        assert_eq!(rustix::io::pread(&file, &mut *slice, 0), Ok(15));
        assert_eq!(slice, [7; 15]);
        let prot = ProtFlags::READ;
        let mapped = map(file.as_fd(), 0, PAGE, prot, MapFlags::SHARED).unwrap();
        assert_eq!(mapped.first16(), Ok([7; 16]));
        let behind = map(file.as_fd(), PAGE_SIZE, PAGE, prot, MapFlags::SHARED).unwrap();
        assert_eq!(behind.first16(), Err(Errno::EFAULT));
    }
}
