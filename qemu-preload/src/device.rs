//! The device behind the socket, in the words of the kernel's VFIO.
//!
//! Structs travel as they are: vfio-user's messages carry the ioctls' own. What differs is where things are. In VFIO a region
//! is a range of the device's descriptor and an eventfd a number in the argument; in vfio-user a region is read with messages
//! or has a descriptor of its own, and eventfds travel beside the message.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use vfio_gfx::abi::{
    DEVICE_INFO_MIN, DeviceFlags, DeviceIoctl, Errno, IRQ_INFO_MIN, IRQ_SET_HEADER, IrqData, IrqFlags,
    IrqInfo, IrqSet, REGION_INFO_MIN, RegionFlags, RegionInfo, pci_irq, pci_region,
};
use vfio_gfx::vfio_user::{
    Client, ClientError, Command, DmaMap, DmaUnmap, MAX_DATA_XFER, MAX_MSG_FDS, RegionAccess, Role,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::bytes::{fill, read};
use crate::{memory, report};

/// Where region N starts in the device's descriptor: as the kernel's vfio-pci has it (`VFIO_PCI_OFFSET_SHIFT`, vfio_pci_core.h).
pub(crate) const REGION_SHIFT: u32 = 40;
/// Most regions that a device may have. QEMU's own vfio-user client takes 100.
const MAX_REGIONS: u32 = 100;
/// Most bytes of a region's info and capabilities that are asked for.
const MAX_INFO: usize = 4096;

/// `struct vfio_iommu_type1_dma_map` (vfio.h): argsz, flags, vaddr, iova, size.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
#[repr(C)]
pub(crate) struct MapDma {
    pub(crate) argsz: u32,
    pub(crate) flags: u32,
    pub(crate) vaddr: u64,
    pub(crate) iova: u64,
    pub(crate) size: u64,
}

/// `VFIO_DMA_MAP_FLAG_READ`, `_WRITE` (vfio.h)
const DMA_READ: u32 = 1;
const DMA_WRITE: u32 = 2;

/// A region whose bytes are in a descriptor.
#[derive(Debug)]
struct Mappable {
    fd: OwnedFd,
    /// Where the region starts in it.
    base: u64,
    size: u64,
}

/// A device, as its only VMM.
#[derive(Debug)]
pub(crate) struct Device {
    /// `None` when it is gone.
    client: Option<Client>,
    flags: DeviceFlags,
    num_regions: u32,
    num_irqs: u32,
    mappable: BTreeMap<u32, Mappable>,
}

/// What a reply starts with.
fn reply<T: FromBytes>(command: Command, payload: &[u8]) -> Result<T, ClientError> {
    let value = T::read_from_prefix(payload).map(|(value, _)| value);
    value.map_err(|_| ClientError::Malformed(command, "too short"))
}

impl Device {
    /// Attaches to the device.
    ///
    /// # Errors
    /// [`ClientError`]; also when what it says of itself cannot be.
    pub(crate) fn attach(socket: &Path) -> Result<Self, ClientError> {
        let mut client = Client::connect(socket, Role::Vmm)?;
        let command = Command::GetInfo;
        let request = [DEVICE_INFO_MIN, 0, 0, 0];
        let [_, flags, num_regions, num_irqs] =
            client.call(command, &[request.as_bytes()], |payload, _| reply::<[u32; 4]>(command, payload))?;
        if !(pci_region::COUNT..=MAX_REGIONS).contains(&num_regions) {
            return Err(ClientError::Malformed(command, "expected 9 to 100 regions"));
        }
        let flags = DeviceFlags::from_bits_truncate(flags) - DeviceFlags::CAPS;
        Ok(Self { client: Some(client), flags, num_regions, num_irqs, mappable: BTreeMap::new() })
    }

    /// The index after the device's last region: the screen's.
    pub(crate) fn screen_region(&self) -> u32 {
        self.num_regions
    }

    fn is_gone(&self) -> bool {
        self.client.is_none()
    }

    /// Asks. What the device refuses is its errno; anything else is the end of the connection, said once.
    fn call<T>(
        &mut self,
        command: Command,
        payload: &[&[u8]],
        fds: &[OwnedFd],
        read: impl FnOnce(&[u8], Vec<OwnedFd>) -> Result<T, ClientError>,
    ) -> Result<T, Errno> {
        let client = self.client.as_mut().ok_or(Errno::EIO)?;
        match client.call_with_fds(command, payload, fds, read) {
            Ok(answer) => Ok(answer),
            Err(ClientError::Refused { errno, .. }) if errno != Errno::ENODEV => Err(errno),
            // Unplugged, or its server is gone: QEMU must not hear of it where it would give up.
            Err(error) => {
                report::error("the device is lost, the guest goes on without it", &error);
                self.client = None;
                Err(Errno::EIO)
            }
        }
    }

    /// Answers an ioctl on the device's descriptor; those about planes are the screen's.
    ///
    /// # Errors
    /// `ENOTTY` for what this kind of device has not.
    pub(crate) fn ioctl(&mut self, ioctl: DeviceIoctl, arg: &mut [u8]) -> Result<(), Errno> {
        match ioctl {
            DeviceIoctl::GetInfo => self.info(arg),
            DeviceIoctl::GetRegionInfo => self.region_info(arg),
            DeviceIoctl::GetIrqInfo => self.irq_info(arg),
            DeviceIoctl::SetIrqs => self.set_irqs(arg),
            DeviceIoctl::Reset => self.call(Command::Reset, &[], &[], |_, _| Ok(())),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn info(&self, arg: &mut [u8]) -> Result<(), Errno> {
        let argsz: u32 = read(arg)?;
        if argsz < DEVICE_INFO_MIN {
            return Err(Errno::EINVAL);
        }
        // The screen's region comes on top. Fields that the caller knows beyond these are those of capabilities: none.
        let answer = [argsz, self.flags.bits(), self.num_regions + 1, self.num_irqs, 0, 0];
        fill(arg, answer.as_bytes());
        Ok(())
    }

    fn region_info(&mut self, arg: &mut [u8]) -> Result<(), Errno> {
        let asked: RegionInfo = read(arg)?;
        if asked.argsz < REGION_INFO_MIN {
            return Err(Errno::EINVAL);
        }
        let command = Command::GetRegionInfo;
        let room = u32::try_from(arg.len().min(MAX_INFO)).map_err(|_| Errno::EINVAL)?;
        let request = RegionInfo { argsz: room, flags: 0, cap_offset: 0, size: 0, offset: 0, ..asked };
        let (mut info, mut bytes, fd) =
            self.call(command, &[request.as_bytes()], &[], |payload, mut fds| {
                Ok((reply::<RegionInfo>(command, payload)?, payload.to_vec(), fds.pop()))
            })?;
        let base = info.offset;
        info.offset = u64::from(asked.index) << REGION_SHIFT;
        let fd = fd.filter(|_| info.flags & RegionFlags::MMAP.bits() != 0);
        match fd.filter(|fd| holds(fd, base, info.size)) {
            Some(fd) => drop(self.mappable.insert(asked.index, Mappable { fd, base, size: info.size })),
            None => info.flags &= !RegionFlags::MMAP.bits(),
        }
        fill(&mut bytes, info.as_bytes());
        fill(arg, &bytes);
        Ok(())
    }

    fn irq_info(&mut self, arg: &mut [u8]) -> Result<(), Errno> {
        let asked: IrqInfo = read(arg)?;
        if asked.argsz < IRQ_INFO_MIN {
            return Err(Errno::EINVAL);
        }
        let command = Command::GetIrqInfo;
        let request = IrqInfo { argsz: IRQ_INFO_MIN, flags: 0, index: asked.index, count: 0 };
        let mut info =
            self.call(command, &[request.as_bytes()], &[], |payload, _| reply::<IrqInfo>(command, payload))?;
        // A device without error reporting has no such interrupt, as the kernel answers: of a count of 0 QEMU would warn.
        if matches!(asked.index, pci_irq::ERR | pci_irq::REQ) && info.count == 0 {
            return Err(Errno::EINVAL);
        }
        // Not of the uapi, and there is no room for any.
        info.flags &= !IrqFlags::CAPS.bits();
        info.argsz = asked.argsz;
        fill(arg, info.as_bytes());
        Ok(())
    }

    /// Eventfds travel beside the message, all of one with a descriptor or all without, and not too many at once.
    fn set_irqs(&mut self, arg: &[u8]) -> Result<(), Errno> {
        let set: IrqSet = read(arg)?;
        let all = set.start.checked_add(set.count);
        let request = IrqSet { argsz: set.argsz.min(u32::try_from(arg.len()).unwrap_or(u32::MAX)), ..set };
        let request = request.parse(all.map(|end| end.max(1)), true)?;
        let data = arg.get(size_of::<IrqSet>()..).unwrap_or_default();
        if request.data != IrqData::Eventfd {
            let len = if request.data == IrqData::Bool { request.count as usize } else { 0 };
            let data = data.get(..len).ok_or(Errno::EINVAL)?;
            let argsz = IRQ_SET_HEADER + u32::try_from(len).map_err(|_| Errno::EINVAL)?;
            let set = IrqSet { argsz, ..set };
            return self.call(Command::SetIrqs, &[set.as_bytes(), data], &[], |_, _| Ok(()));
        }
        let numbers: Vec<i32> = data.as_chunks().0.iter().map(|bytes| i32::from_ne_bytes(*bytes)).collect();
        let numbers = numbers.get(..request.count as usize).ok_or(Errno::EINVAL)?;
        let mut start = set.start;
        for run in numbers.chunk_by(|a, b| (*a < 0) == (*b < 0)) {
            for chunk in run.chunks(MAX_MSG_FDS) {
                let fds =
                    if chunk.iter().any(|number| *number < 0) { Vec::new() } else { duplicates(chunk)? };
                let count = u32::try_from(chunk.len()).map_err(|_| Errno::EINVAL)?;
                let set = IrqSet { argsz: IRQ_SET_HEADER, start, count, ..set };
                self.call(Command::SetIrqs, &[set.as_bytes()], &fds, |_, _| Ok(()))?;
                start = start.saturating_add(count);
            }
        }
        Ok(())
    }

    /// Reads a region; returns how many bytes.
    ///
    /// # Errors
    /// The device's errno.
    pub(crate) fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<usize, Errno> {
        let command = Command::RegionRead;
        let len = data.len().min(MAX_DATA_XFER);
        let data = data.get_mut(..len).ok_or(Errno::EINVAL)?;
        let request = RegionAccess { offset, region, count: u32::try_from(len).map_err(|_| Errno::EINVAL)? };
        self.call(command, &[request.as_bytes()], &[], |payload, _| {
            let bytes = payload.get(size_of::<RegionAccess>()..).unwrap_or_default();
            if bytes.len() < data.len() {
                return Err(ClientError::Malformed(command, "too few bytes"));
            }
            fill(data, bytes);
            Ok(())
        })?;
        Ok(len)
    }

    /// Writes to a region; returns how many bytes.
    ///
    /// # Errors
    /// The device's errno.
    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        let data = data.get(..data.len().min(MAX_DATA_XFER)).ok_or(Errno::EINVAL)?;
        let request =
            RegionAccess { offset, region, count: u32::try_from(data.len()).map_err(|_| Errno::EINVAL)? };
        self.call(Command::RegionWrite, &[request.as_bytes(), data], &[], |_, _| Ok(()))?;
        Ok(data.len())
    }

    /// The descriptor behind a range of a region, and where in it the range starts.
    ///
    /// # Errors
    /// `EINVAL` for a region without, or a range that leaves it.
    pub(crate) fn place(&self, region: u32, offset: u64, len: u64) -> Result<(OwnedFd, u64), Errno> {
        let Mappable { fd, base, size } = self.mappable.get(&region).ok_or(Errno::EINVAL)?;
        let end = offset.checked_add(len).filter(|end| *end <= size.next_multiple_of(4096));
        end.ok_or(Errno::EINVAL)?;
        let fd = fd.try_clone().map_err(|error| Errno::from(&error))?;
        Ok((fd, base.saturating_add(offset)))
    }

    /// Announces guest memory. A device that is gone takes any: QEMU aborts when memory cannot be mapped.
    ///
    /// # Errors
    /// `EINVAL` for a malformed argument, or the device's errno.
    pub(crate) fn map_dma(&mut self, arg: &[u8]) -> Result<(), Errno> {
        let MapDma { argsz, flags, vaddr, iova, size } = read(arg)?;
        if (argsz as usize) < size_of::<MapDma>() || flags & !(DMA_READ | DMA_WRITE) != 0 {
            return Err(Errno::EINVAL);
        }
        if self.is_gone() {
            return Ok(());
        }
        let shared = memory::shared(vaddr, size, flags & DMA_WRITE != 0);
        let (fds, offset) = shared.map_or((Vec::new(), 0), |shared| (vec![shared.fd], shared.offset));
        let map = DmaMap { argsz: 32, flags, offset, address: iova, size };
        let mapped = self.call(Command::DmaMap, &[map.as_bytes()], &fds, |_, _| Ok(()));
        mapped.or_else(|errno| if self.is_gone() { Ok(()) } else { Err(errno) })
    }

    /// Takes guest memory back; `size` in the argument becomes how much that was.
    ///
    /// # Errors
    /// `EINVAL` for a malformed argument, or the device's errno.
    pub(crate) fn unmap_dma(&mut self, arg: &mut [u8]) -> Result<(), Errno> {
        let unmap: DmaUnmap = read(arg)?;
        // No flags: neither dirty bitmaps nor UNMAP_ALL were offered.
        if (unmap.argsz as usize) < size_of::<DmaUnmap>() || unmap.flags != 0 {
            return Err(Errno::EINVAL);
        }
        if self.is_gone() {
            return Ok(());
        }
        let command = Command::DmaUnmap;
        let request = DmaUnmap { argsz: 24, ..unmap };
        let answer = self.call(command, &[request.as_bytes()], &[], |payload, _| {
            // A server may answer with the header alone.
            Ok(reply::<DmaUnmap>(command, payload).map_or(unmap.size, |answer| answer.size))
        });
        let size = match answer {
            Ok(size) => size,
            // The kernel finds nothing wrong with that.
            Err(Errno::ENOENT) => 0,
            Err(_) if self.is_gone() => unmap.size,
            Err(errno) => return Err(errno),
        };
        fill(arg, DmaUnmap { size, ..unmap }.as_bytes());
        Ok(())
    }
}

/// Whether a descriptor is long enough to be mapped from `base` on: QEMU would die of a mapping without memory behind it.
fn holds(fd: &OwnedFd, base: u64, size: u64) -> bool {
    let len = fd.try_clone().and_then(|fd| File::from(fd).metadata()).map_or(0, |file| file.len());
    base.is_multiple_of(4096) && base.checked_add(size).is_some_and(|end| end <= len)
}

/// The caller's descriptors, opened once more: they stay the caller's.
fn duplicates(numbers: &[i32]) -> Result<Vec<OwnedFd>, Errno> {
    numbers.iter().map(|number| crate::argument::duplicate(*number)).collect()
}
