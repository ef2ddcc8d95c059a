//! A device of the kernel: a mediated device (`/sys/bus/mdev/devices/UUID`), or any that a VFIO driver has.
//!
//! `vfio-ioctls` opens and attaches it, by its group or by its character device and iommufd. Questions go to the
//! device's descriptor directly ([`calls`]): the crate has no display ioctls, loses errors of region accesses, and
//! finds regions by their place in a table from which the ones that a device lacks are missing. What drivers answer
//! differs, and where it does the rules are in [`answers`].
//!
//! The kernel gives a device to one process at a time, so a console reads a device while no VMM has it.

mod answers;
mod attach;
mod calls;
mod error;
mod place;

pub use error::KernelError;
pub use place::PlaceError;

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::abi::{
    self, DeviceFlags, Interface, PlaneKind, PlaneRequest, REGION_INFO_MIN, RegionFlags, RegionInfo,
};
use crate::memory::{BufferKind, Mapping};
use crate::plane::Plane;

use self::attach::Attached;
use self::error::call_failed;
use self::place::Place;
use super::{Backend, BufferMapping, DeviceSummary, DisplayError, RegionSummary, Watch};

/// How many descriptors of buffers are kept.
const MAX_BUFFERS: usize = 64;

/// Asks a device of the kernel.
pub struct Kernel {
    /// By id, and in the order in which they came. Each is fetched once and kept: mbochs loses count of a buffer's
    /// references when it is fetched again. Closed before the device is, which owns their memory.
    buffers: Vec<(u32, OwnedFd)>,
    /// A device's regions do not change.
    regions: BTreeMap<u32, (RegionSummary, u64)>,
    device: Attached,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("device", self.device.file()).finish_non_exhaustive()
    }
}

impl Kernel {
    /// Takes the device at `path`: its directory in sysfs (`/sys/bus/mdev/devices/UUID` or where that leads), or its
    /// character device (`/dev/vfio/devices/vfioN`). Nobody else can use it meanwhile.
    ///
    /// # Errors
    /// [`KernelError`] when the path means no device, or the kernel does not let us have it.
    pub fn open(path: &Path) -> Result<Self, KernelError> {
        let device = Attached::new(&Place::find(path, Path::new("/"))?)?;
        Ok(Self { buffers: Vec::new(), regions: BTreeMap::new(), device })
    }

    /// A region, and where in the descriptor it is.
    fn find_region(&mut self, index: u32) -> Result<&(RegionSummary, u64), DisplayError> {
        if !self.regions.contains_key(&index) {
            let region = self.ask_region(index)?;
            self.regions.insert(index, region);
        }
        Ok(&self.regions[&index])
    }

    fn ask_region(&self, index: u32) -> Result<(RegionSummary, u64), DisplayError> {
        let failed = || call_failed("GET_REGION_INFO");
        let ask = |argsz| calls::region_info(self.device.file(), index, argsz);
        let first = answers::absent_is_none(ask(REGION_INFO_MIN), answers::absent_region(index));
        let Some((mut info, mut reply)) = first.map_err(failed())? else {
            let absent = RegionSummary { index, flags: RegionFlags::empty(), size: 0, caps: Vec::new() };
            return Ok((absent, 0));
        };
        if let Some(argsz) = answers::second_argsz(&info) {
            (info, reply) = ask(argsz).map_err(failed())?;
        }
        Ok((answers::summary(&RegionInfo { index, ..info }, &reply)?, info.offset))
    }

    /// Where in the descriptor an access begins, if all of it is in the region.
    fn locate(&mut self, region: u32, offset: u64, len: usize) -> Result<u64, DisplayError> {
        let (summary, start) = self.find_region(region)?;
        let size = summary.reachable();
        let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
        let inside = end.is_some_and(|end| end <= size).then(|| start.checked_add(offset)).flatten();
        Ok(inside.ok_or(KernelError::OutOfBounds { region, offset, len, size })?)
    }

    /// The descriptor of a buffer, fetched the first time it is asked for.
    fn buffer(&mut self, id: u32) -> Result<&OwnedFd, KernelError> {
        let at = match self.buffers.iter().position(|(known, _)| *known == id) {
            Some(at) => at,
            None => {
                let fd = calls::get_dmabuf(self.device.file(), id)
                    .map_err(call_failed(KernelError::GET_DMABUF))?;
                if self.buffers.len() == MAX_BUFFERS {
                    self.buffers.remove(0);
                }
                self.buffers.push((id, fd));
                self.buffers.len() - 1
            }
        };
        Ok(&self.buffers[at].1)
    }
}

/// The device's descriptor, for calls that are not made here.
impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.file().as_fd()
    }
}

impl Backend for Kernel {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        let info = calls::device_info(self.device.file()).map_err(call_failed("GET_INFO"))?;
        Ok(DeviceSummary {
            flags: DeviceFlags::from_bits_truncate(info.flags),
            num_regions: info.num_regions,
            num_irqs: info.num_irqs,
        })
    }

    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        Ok(self.find_region(index)?.0.clone())
    }

    fn irq_count(&mut self, index: u32) -> Result<u32, DisplayError> {
        // vfio-pci refuses to speak of the ones that a device lacks, although it counts them.
        let info = answers::absent_is_none(calls::irq_info(self.device.file(), index), &[Errno::INVAL]);
        Ok(info.map_err(call_failed("GET_IRQ_INFO"))?.map_or(0, |info| info.count))
    }

    fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError> {
        let request = PlaneRequest::Probe(interface).to_raw();
        answers::offered(calls::query_plane(self.device.file(), &request)).map_err(|errno| {
            let errno = abi::Errno::from_raw(errno.raw_os_error().cast_unsigned());
            DisplayError::Probe { interface, errno }
        })
    }

    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        // A struct of zeros each time: GVT-g does not touch the fields of a plane that is off.
        let request = PlaneRequest::Query(interface, kind.raw()).to_raw();
        let reply = answers::retry_no_memory(|| calls::query_plane(self.device.file(), &request))
            .map_err(call_failed("QUERY_GFX_PLANE"))?;
        Ok(Plane::from_raw(&reply, interface, kind, 0)?)
    }

    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        // No driver of the kernel has such an interrupt.
        Ok(None)
    }

    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        // Mediated displays back such a region with memory that stays. A real device's registers (vfio-pci, which offers
        // no display) vanish from under their mapping when it is reset.
        let offered = self.probe(Interface::Region)?;
        let (region, offset) = self.find_region(index)?;
        if !offered || !region.flags.contains(RegionFlags::MMAP) || region.size == 0 {
            return Err(DisplayError::NotMappable { index });
        }
        let (size, offset) = (region.size, *offset);
        let file = self.device.file().try_clone().map_err(KernelError::Descriptor)?;
        Ok(Mapping::of_device(file, offset, size)?)
    }

    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError> {
        let fd = self.buffer(id)?.try_clone().map_err(KernelError::Descriptor)?;
        // A dma-buf's end is its size (dma-buf.c, dma_buf_llseek).
        let size = seek(&fd, SeekFrom::End(0)).map_err(std::io::Error::from)?;
        let kind = BufferKind::Dmabuf;
        let mapping =
            Mapping::new(fd, kind, size).map_err(|source| KernelError::Unmappable { id, source })?;
        Ok(BufferMapping { kind, mapping, offset: 0 })
    }

    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), DisplayError> {
        let len = data.len();
        let at = self.locate(region, offset, len)?;
        let read = self.device.file().read_exact_at(data, at);
        Ok(read.map_err(|source| KernelError::Access { region, offset, len, source })?)
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
        let len = data.len();
        let at = self.locate(region, offset, len)?;
        let written = self.device.file().write_all_at(data, at);
        Ok(written.map_err(|source| KernelError::Access { region, offset, len, source })?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_device_is_not_opened() {
        let error = Kernel::open(Path::new("/sys/bus/mdev/devices/none")).unwrap_err();
        assert!(matches!(error, KernelError::Place(PlaceError::Missing { .. })), "{error}");
        assert!(error.to_string().contains("/sys/bus/mdev/devices/none"));
        let error = Kernel::open(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(error, KernelError::Place(PlaceError::NoDevice(_))), "{error}");
    }
}
