//! Raw arguments in, errno out: the device as its file descriptor.
//!
//! [`Device::ioctl`] judges an argument exactly as the uapi text says, from the caller's bytes: `argsz` below the
//! minimum is `EINVAL`, a larger one is fine, memory that is too short for what must be read or written is `EFAULT`, and
//! nothing beyond the known fields is touched. Checks come in the kernel's order (memory, argsz, then content).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::abi::{
    DEVICE_INFO_MIN, DeviceIoctl, Errno, IRQ_INFO_MIN, Interface, IrqFlags, IrqInfo, IrqSet, PLANE_INFO_MIN,
    PlaneInfo, PlaneKind, PlaneRequest, REGION_INFO_MIN, RegionFlags, RegionInfo, caps, feature_number,
};
use crate::number::to_usize;
use crate::plane::{Plane, Source};

use super::{Backing, DISPLAY_IRQ, Device, DeviceError, Region};

/// What an ioctl returns when it succeeds.
#[derive(Debug)]
pub enum IoctlReply {
    /// Zero.
    Done,
    /// A new file descriptor (`GET_GFX_DMABUF`).
    Fd(OwnedFd),
}

/// Reads a struct from the start of the caller's memory; `EFAULT` when it is shorter.
fn copy_in<T: FromBytes>(arg: &[u8]) -> Result<T, Errno> {
    T::read_from_prefix(arg).map(|(value, _)| value).map_err(|_| Errno::EFAULT)
}

/// Writes the first `len` bytes of a struct to the start of the caller's memory.
fn copy_out<T: IntoBytes + Immutable>(value: &T, len: usize, arg: &mut [u8]) -> Result<(), Errno> {
    let bytes = value.as_bytes().get(..len).ok_or(Errno::EFAULT)?;
    arg.get_mut(..len).ok_or(Errno::EFAULT)?.copy_from_slice(bytes);
    Ok(())
}

impl Device {
    /// Answers an ioctl on the device's descriptor. `arg` is the caller's memory from the argument pointer on: in and
    /// out, as far as it reaches. `SET_IRQS` takes its eventfds from `fds` (a caller's descriptor numbers mean nothing
    /// to us); pass none otherwise.
    ///
    /// # Errors
    /// The positive errno that the ioctl fails with; unknown requests are `ENOTTY`, and all are `ENODEV` once the device is
    /// unplugged.
    pub fn ioctl(&mut self, request: u32, arg: &mut [u8], fds: Vec<OwnedFd>) -> Result<IoctlReply, Errno> {
        self.check_plugged()?;
        match DeviceIoctl::from_raw(request).ok_or(Errno::ENOTTY)? {
            DeviceIoctl::GetInfo => self.get_info(arg),
            DeviceIoctl::GetRegionInfo => self.get_region_info(arg),
            DeviceIoctl::GetIrqInfo => self.get_irq_info(arg),
            DeviceIoctl::SetIrqs => {
                let data = arg.get(size_of::<IrqSet>()..).unwrap_or_default();
                self.set_irqs(&copy_in(arg)?, data, fds)?;
                Ok(IoctlReply::Done)
            }
            DeviceIoctl::Reset => {
                self.reset();
                Ok(IoctlReply::Done)
            }
            DeviceIoctl::QueryGfxPlane => self.query_gfx_plane(arg),
            DeviceIoctl::GetGfxDmabuf => self.get_gfx_dmabuf(arg),
            DeviceIoctl::Feature => feature(arg),
            _ => Err(Errno::ENOTTY),
        }
    }

    fn get_info(&self, arg: &mut [u8]) -> Result<IoctlReply, Errno> {
        let [argsz, ..]: [u32; 4] = copy_in(arg)?;
        if argsz < DEVICE_INFO_MIN {
            return Err(Errno::EINVAL);
        }
        let info = [argsz, self.flags().bits(), self.regions.num_regions(), self.num_irqs()];
        copy_out(&info, size_of_val(&info), arg)?;
        Ok(IoctlReply::Done)
    }

    fn get_region_info(&self, arg: &mut [u8]) -> Result<IoctlReply, Errno> {
        let mut info: RegionInfo = copy_in(arg)?;
        if info.argsz < REGION_INFO_MIN || !self.regions.answers(info.index) {
            return Err(Errno::EINVAL);
        }
        (info.flags, info.size, info.offset) = (0, 0, 0);
        if let Some(region) = self.regions.get(info.index) {
            info.flags = region.flags().bits();
            info.size = region.size;
            info.offset = region.fd_offset;
            if region.flags().contains(RegionFlags::CAPS) {
                let caps = region.caps();
                let needed = size_of::<RegionInfo>().saturating_add(caps.len());
                // A caller whose argsz cannot hold the chain still succeeds and learns how much to bring (vfio.h).
                if to_usize(info.argsz) < needed {
                    info.argsz = u32::try_from(needed).unwrap_or(u32::MAX);
                    info.cap_offset = 0;
                } else {
                    info.cap_offset = REGION_INFO_MIN;
                    arg.get_mut(size_of::<RegionInfo>()..needed).ok_or(Errno::EFAULT)?.copy_from_slice(caps);
                }
            }
        }
        copy_out(&info, size_of::<RegionInfo>(), arg)?;
        Ok(IoctlReply::Done)
    }

    fn get_irq_info(&self, arg: &mut [u8]) -> Result<IoctlReply, Errno> {
        let mut info: IrqInfo = copy_in(arg)?;
        if info.argsz < IRQ_INFO_MIN {
            return Err(Errno::EINVAL);
        }
        info.count = self.irq_count(info.index).ok_or(Errno::EINVAL)?;
        info.flags = self.irqs.flags(info.index).bits();
        if self.has_events() && info.index == DISPLAY_IRQ {
            info.flags = (IrqFlags::EVENTFD | IrqFlags::CAPS).bits();
            let caps = caps::display_irq();
            let needed = size_of::<IrqInfo>().saturating_add(caps.len());
            if to_usize(info.argsz) < needed {
                info.argsz = u32::try_from(needed).unwrap_or(u32::MAX);
            } else {
                arg.get_mut(size_of::<IrqInfo>()..needed).ok_or(Errno::EFAULT)?.copy_from_slice(&caps);
            }
        }
        copy_out(&info, size_of::<IrqInfo>(), arg)?;
        Ok(IoctlReply::Done)
    }

    /// `SET_IRQS` of the VMM: `data` is what is behind the header, without descriptors.
    pub(crate) fn set_irqs(
        &mut self,
        set: &IrqSet,
        data: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(), DeviceError> {
        self.check_plugged()?;
        if self.has_events() && set.index == DISPLAY_IRQ {
            let mut watcher = self.own_watcher.take();
            let result = self.set_display_irq(&mut watcher, set, fds);
            self.own_watcher = watcher;
            return result;
        }
        let request = set.parse(self.irqs.count(set.index), false)?;
        Ok(self.irqs.set(request, data, fds)?)
    }

    /// In the region interface plane type 0 also finds the primary plane where the device has no overlay: QEMU asks so
    /// (`hw/vfio/display.c` leaves the type zero). A plane whose first pixel is not at the start of its region cannot be
    /// expressed by the struct, which has no offset: `EOPNOTSUPP`. (The typed [`Device::request`] and the vfio-user
    /// extension can express it.)
    fn query_gfx_plane(&mut self, arg: &mut [u8]) -> Result<IoctlReply, Errno> {
        const LEN: usize = to_usize(PLANE_INFO_MIN);
        let head = arg.get(..LEN).ok_or(Errno::EFAULT)?;
        let mut raw: PlaneInfo = zerocopy::FromZeros::new_zeroed();
        raw.as_mut_bytes().get_mut(..LEN).ok_or(Errno::EFAULT)?.copy_from_slice(head);
        let request = PlaneRequest::parse(&raw)?;
        let mut plane = self.request(request)?;
        if plane.is_none() && request == PlaneRequest::Query(Interface::Region, PlaneKind::Overlay.raw()) {
            plane = self.query(Interface::Region, PlaneKind::Primary)?;
        }
        if let PlaneRequest::Query(..) = request {
            match plane {
                Some(plane) if matches!(plane.source, Source::Region { offset: 1.., .. }) => {
                    return Err(Errno::EOPNOTSUPP);
                }
                Some(plane) => plane.to_raw(&mut raw),
                None => Plane::off_to_raw(&mut raw),
            }
            copy_out(&raw, LEN, arg)?;
        }
        Ok(IoctlReply::Done)
    }

    fn get_gfx_dmabuf(&mut self, arg: &[u8]) -> Result<IoctlReply, Errno> {
        if !self.probe(Interface::Dmabuf) {
            return Err(Errno::ENOTTY);
        }
        let id: u32 = copy_in(arg)?;
        let buffer = self.buffer(id, false)?;
        if buffer.offset != 0 {
            // The caller would take the start of the descriptor for the plane.
            return Err(Errno::EINVAL);
        }
        Ok(IoctlReply::Fd(buffer.fd))
    }

    /// `pread(2)` on the device's descriptor, as the guest side reads: the region is found by its place.
    ///
    /// # Errors
    /// `ENODEV` once the device is unplugged; `EFAULT` where no region is, or where the access leaves it, as the kernel's
    /// samples answer. Nothing to read is read anywhere.
    pub fn fd_read(&mut self, offset: u64, data: &mut [u8]) -> Result<usize, Errno> {
        self.check_plugged()?;
        if data.is_empty() {
            return Ok(0);
        }
        let (region, inside) = self.regions.at_fd_offset(offset).ok_or(Errno::EFAULT)?;
        let index = region.index;
        self.guest_read(index, inside, data).map_err(fd_errno)?;
        Ok(data.len())
    }

    /// `pwrite(2)` on the device's descriptor.
    ///
    /// # Errors
    /// As [`Device::fd_read`], or what the EDID region refused.
    pub fn fd_write(&mut self, offset: u64, data: &[u8]) -> Result<usize, Errno> {
        self.check_plugged()?;
        if data.is_empty() {
            return Ok(0);
        }
        let (region, inside) = self.regions.at_fd_offset(offset).ok_or(Errno::EFAULT)?;
        let index = region.index;
        self.guest_write(index, inside, data).map_err(fd_errno)?;
        Ok(data.len())
    }

    /// `mmap(2)` on the device's descriptor: which descriptor to map instead, and where in it. As in the kernel's samples
    /// a mapping starts where its region does, is shared, and may be shorter than the region.
    ///
    /// # Errors
    /// `ENODEV` once the device is unplugged; `EINVAL` where no mappable region starts, or when it is shorter or the mapping
    /// private.
    pub fn fd_mmap(&self, offset: u64, len: u64, shared: bool) -> Result<(BorrowedFd<'_>, u64), Errno> {
        self.check_plugged()?;
        let starts_here = |region: &&Region| region.backing == Backing::Vram && region.fd_offset == offset;
        let region = self.regions.iter().find(starts_here).ok_or(Errno::EINVAL)?;
        if !shared || len == 0 || len > region.size {
            return Err(Errno::EINVAL);
        }
        Ok((self.vram.as_ref().as_fd(), 0))
    }
}

/// No feature is offered. A malformed request is one all the same.
fn feature(arg: &[u8]) -> Result<IoctlReply, Errno> {
    let [argsz, flags]: [u32; 2] = copy_in(arg)?;
    feature_number(argsz, flags)?;
    Err(Errno::ENOTTY)
}

fn fd_errno(error: DeviceError) -> Errno {
    match error {
        DeviceError::NoRegion(_) | DeviceError::OutOfBounds { .. } => Errno::EFAULT,
        other => Errno::from(&other),
    }
}
