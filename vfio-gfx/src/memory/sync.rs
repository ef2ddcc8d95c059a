//! `DMA_BUF_IOCTL_SYNC` (`include/uapi/linux/dma-buf.h`): whoever reads a dma-buf with the CPU says when it begins and
//! ends, so that the exporter can bring caches up to date.
#![expect(unsafe_code, reason = "one ioctl whose argument layout only we can vouch for")]

use std::ffi::c_void;
use std::fs::File;
use std::io;

use rustix::io::Errno;
use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, opcode};

/// `struct dma_buf_sync`, 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct DmaBufSync {
    flags: u64,
}

/// `DMA_BUF_SYNC_READ`
const READ: u64 = 1;
/// `DMA_BUF_SYNC_END`
const END: u64 = 4;

// SAFETY: DMA_BUF_IOCTL_SYNC (_IOW('b', 0, struct dma_buf_sync)) reads 8 bytes at the pointer and writes nothing.
unsafe impl Ioctl for DmaBufSync {
    type Output = ();
    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        opcode::write::<Self>(b'b', 0)
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::from_mut(self).cast()
    }

    unsafe fn output_from_ptr(_: IoctlOutput, _: *mut c_void) -> rustix::io::Result<()> {
        Ok(())
    }
}

fn sync(dmabuf: &File, flags: u64) -> io::Result<()> {
    loop {
        // SAFETY: the descriptor is a dma-buf, for which `DmaBufSync` describes the ioctl; on any other the number is
        // unknown and nothing is read.
        match unsafe { rustix::ioctl::ioctl(dmabuf, DmaBufSync { flags }) } {
            Err(Errno::INTR | Errno::AGAIN) => {}
            result => return Ok(result?),
        }
    }
}

/// The CPU is reading a buffer. Ends when dropped.
#[derive(Debug)]
pub struct CpuAccess<'a>(Option<&'a File>);

impl<'a> CpuAccess<'a> {
    /// Begins to read a dma-buf; memory of any other kind (`None`) needs no word.
    pub(super) fn begin(dmabuf: Option<&'a File>) -> io::Result<Self> {
        if let Some(file) = dmabuf {
            sync(file, READ)?;
        }
        Ok(Self(dmabuf))
    }
}

impl Drop for CpuAccess<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.0 {
            // A buffer that fails to end is its exporter's affair; what was read was read.
            let _ = sync(file, READ | END);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_number_is_the_uapis() {
        assert_eq!(DmaBufSync { flags: 0 }.opcode(), 0x4008_6200);
    }

    #[test]
    fn what_is_no_dmabuf_is_an_error() {
        let file = tempfile::tempfile().unwrap();
        assert!(CpuAccess::begin(Some(&file)).is_err());
        assert!(CpuAccess::begin(None).is_ok());
    }
}
