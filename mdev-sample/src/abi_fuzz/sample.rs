//! A sample device of ours, in this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use vfio_gfx::abi::{DeviceIoctl, Errno};
use vfio_gfx::device::{Device, IoctlReply};

use super::target::{Dmabuf, MapRequest, Target};
use crate::{CreateError, DeviceType};

/// How much time passes between two calls, as in a replay: the device's clock counts calls, so a walk does not depend on
/// how long it takes.
const STEP: Duration = Duration::from_secs(10);

/// A fresh sample device.
#[derive(Debug)]
pub struct Sample {
    device: Device,
    calls: Arc<AtomicU64>,
    device_type: DeviceType,
}

impl Sample {
    /// Makes one, offering what the kernel's driver of this type does.
    ///
    /// # Errors
    /// [`CreateError`], in practice when the system has no memory for it.
    pub fn new(device_type: DeviceType) -> Result<Self, CreateError> {
        let calls = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&calls);
        let now =
            move || STEP.saturating_mul(u32::try_from(clock.load(Ordering::Relaxed)).unwrap_or(u32::MAX));
        let device = device_type.create_with_clock(None, Box::new(now))?;
        Ok(Self { device, calls, device_type })
    }

    fn call(&mut self) -> &mut Device {
        self.calls.fetch_add(1, Ordering::Relaxed);
        &mut self.device
    }
}

impl Target for Sample {
    fn name(&self) -> &str {
        self.device_type.name()
    }

    fn ioctl(&mut self, request: u32, arg: &mut [u8]) -> Result<(), Errno> {
        self.call().ioctl(request, arg, Vec::new()).map(|_| ())
    }

    fn ioctl_bad_pointer(&mut self, request: u32) -> Result<(), Errno> {
        self.ioctl(request, &mut [])
    }

    fn dmabuf(&mut self, id: u32) -> Result<Dmabuf, Errno> {
        let mut arg = id.to_ne_bytes();
        let request = DeviceIoctl::GetGfxDmabuf.raw();
        let IoctlReply::Fd(fd) = self.call().ioctl(request, &mut arg, Vec::new())? else {
            return Err(Errno::EIO);
        };
        let kind = self.device.buffer_kind();
        Dmabuf::of(fd, kind)
    }

    fn pread(&mut self, offset: u64, data: &mut [u8]) -> Result<usize, Errno> {
        self.call().fd_read(offset, data)
    }

    fn pwrite(&mut self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.call().fd_write(offset, data)
    }

    fn mmap(&mut self, request: MapRequest) -> Result<[u8; 16], Errno> {
        let shared = request.flags & 3 == 1;
        let (fd, at) = self.call().fd_mmap(request.offset, request.len as u64, shared)?;
        let mut first = [0; 16];
        match rustix::io::pread(fd, &mut first, at) {
            Ok(16) => Ok(first),
            Ok(_) => Err(Errno::EIO),
            Err(error) => Err(error.into()),
        }
    }
}
