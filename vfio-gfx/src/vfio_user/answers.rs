//! What a device answers to each command.
//!
//! The info, interrupt and plane commands carry the ioctls' own structs and go through the same [`Device::ioctl`] or
//! typed methods that serve every other transport.
//!
//! [`Device::ioctl`]: crate::device::Device::ioctl

use std::os::fd::OwnedFd;

use zerocopy::{FromBytes, IntoBytes};

use super::extension::{BufferReply, BufferRequest, PlaneReply, kind_to_raw};
use super::refusal::Refused;
use super::session::{Agreed, Outbox, Session};
use super::{MAX_DATA_XFER, RegionAccess, Role};
use crate::abi::{
    DEVICE_INFO_MIN, DeviceIoctl, Errno, IRQ_INFO_MIN, IrqSet, PlaneInfo, PlaneRequest, REGION_INFO_MIN,
    RegionFlags, RegionInfo, caps, pci_region,
};
use crate::device::{Backing, CONFIG_SIZE, DISPLAY_IRQ, DeviceError};
use crate::number::to_usize;
use crate::plane::Plane;

/// What PCI Express calls extended configuration space ends here. A VMM that probes for it must read ones, not an error.
const EXTENDED_CONFIG_SIZE: u64 = 4096;

/// The largest reply to an info command: no device of this crate has capabilities near this.
const MAX_INFO: usize = 4096;

pub(super) fn parse<T: FromBytes>(payload: &[u8]) -> Result<(T, &[u8]), Errno> {
    T::read_from_prefix(payload).map_err(|_| Errno::EINVAL)
}

impl Session {
    /// Runs an info ioctl on a copy of the payload that is as large as its argsz says, and returns what it filled.
    fn info_ioctl(&self, ioctl: DeviceIoctl, payload: &[u8], fixed: u32) -> Result<Vec<u8>, Errno> {
        let fixed = to_usize(fixed);
        if payload.len() < fixed {
            return Err(Errno::EINVAL);
        }
        let (argsz, _): (u32, _) = parse(payload)?;
        let len = usize::try_from(argsz).unwrap_or(MAX_INFO).clamp(fixed, MAX_INFO);
        let mut arg = vec![0; len];
        for (byte, given) in arg.iter_mut().zip(payload) {
            *byte = *given;
        }
        self.device.lock().ioctl(ioctl.raw(), &mut arg, Vec::new())?;
        Ok(arg)
    }

    pub(super) fn get_info(&self, payload: &[u8], out: &mut Outbox) -> Result<(), Errno> {
        let info = self.info_ioctl(DeviceIoctl::GetInfo, payload, DEVICE_INFO_MIN)?;
        out.bytes.extend(info.iter().take(to_usize(DEVICE_INFO_MIN)));
        Ok(())
    }

    pub(super) fn get_irq_info(&self, payload: &[u8], out: &mut Outbox) -> Result<(), Errno> {
        let info = self.info_ioctl(DeviceIoctl::GetIrqInfo, payload, IRQ_INFO_MIN)?;
        // Capabilities follow only where there are some and the caller brought room.
        let len = if caps::is_display_irq(&info) { info.len() } else { to_usize(IRQ_INFO_MIN) };
        out.bytes.extend(info.iter().take(len));
        Ok(())
    }

    /// As the ioctl, but `offset` is where the region starts in the descriptor beside the reply, and a console gets a
    /// descriptor it cannot write.
    pub(super) fn get_region_info(
        &self,
        agreed: Agreed,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Errno> {
        let mut reply = self.info_ioctl(DeviceIoctl::GetRegionInfo, payload, REGION_INFO_MIN)?;
        let (mut info, _): (RegionInfo, _) = parse(&reply)?;
        info.offset = 0;
        let device = self.device.lock();
        // The lock was let go since the ioctl.
        device.check_plugged()?;
        let backing = device.regions().get(info.index).map(|region| region.backing);
        if agreed.role == Role::Console && backing != Some(Backing::Edid) {
            info.flags &= !RegionFlags::WRITE.bits();
        }
        if backing == Some(Backing::Vram) {
            let vram = device.vram();
            let fd: std::io::Result<OwnedFd> = match agreed.role {
                Role::Vmm => vram.file().try_clone().map(OwnedFd::from),
                Role::Console => vram.reopen_read_only(),
            };
            out.fds.push(fd.map_err(|error| Errno::from(&error))?);
        }
        let fixed = info.as_bytes();
        reply.get_mut(..fixed.len()).ok_or(Errno::EINVAL)?.copy_from_slice(fixed);
        // Without capabilities nothing follows the struct, whatever room the caller has for them.
        let has_caps = info.flags & RegionFlags::CAPS.bits() != 0 && info.cap_offset != 0;
        let len = if has_caps { reply.len() } else { fixed.len() };
        out.bytes.extend(reply.iter().take(len));
        Ok(())
    }

    pub(super) fn region_read(
        &self,
        agreed: Agreed,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let (access, _): (RegionAccess, _) = parse(payload)?;
        let RegionAccess { offset, region, count } = access;
        let len = usize::try_from(count).ok().filter(|len| *len <= MAX_DATA_XFER).ok_or(Errno::EINVAL)?;
        out.bytes.extend_from_slice(access.as_bytes());
        let start = out.bytes.len();
        let mut device = self.device.lock();
        device.check_plugged()?;
        if agreed.role == Role::Vmm && is_extended_config(region, offset, len) {
            out.bytes.resize(start.saturating_add(len), 0xff);
            return Ok(());
        }
        // The region is checked before memory follows the count.
        let outside = || Refused::because(Errno::EINVAL, &format!("{}: not of the device", place(&access)));
        let found = device.regions().get(region).ok_or_else(outside)?;
        if !found.contains(offset, len) {
            return Err(outside());
        }
        if agreed.role == Role::Console && found.backing == Backing::Trapped {
            return Err(Refused::because(Errno::EPERM, "reading a register may change it: only the VMM may"));
        }
        out.bytes.resize(start.saturating_add(len), 0);
        let data = out.bytes.get_mut(start..).unwrap_or_default();
        match agreed.role {
            Role::Vmm => device.guest_read(region, offset, data),
            Role::Console => device.read(region, offset, data),
        }?;
        Ok(())
    }

    pub(super) fn region_write(
        &self,
        agreed: Agreed,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let (access, data): (RegionAccess, _) = parse(payload)?;
        let RegionAccess { offset, region, count } = access;
        if usize::try_from(count).ok() != Some(data.len()) {
            let why = format!("{}, with {} bytes of data", place(&access), data.len());
            return Err(Refused::because(Errno::EINVAL, &why));
        }
        let mut device = self.device.lock();
        device.check_plugged()?;
        if agreed.role == Role::Console {
            let backing = device.regions().get(region).map(|region| region.backing);
            if backing != Some(Backing::Edid) {
                return Err(Refused::because(Errno::EPERM, "a console may write to the EDID only"));
            }
        }
        if !is_extended_config(region, offset, data.len()) {
            device.guest_write(region, offset, data)?;
        }
        out.bytes.extend_from_slice(access.as_bytes());
        Ok(())
    }

    /// The display interrupt is each client's own; all others are the VMM's.
    pub(super) fn set_irqs(
        &mut self,
        agreed: Agreed,
        payload: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(), Refused> {
        let (set, data): (IrqSet, _) = parse(payload)?;
        let mut device = self.device.lock();
        if device.has_events() && set.index == DISPLAY_IRQ {
            return Ok(device.set_display_irq(&mut self.watcher, &set, fds)?);
        }
        if agreed.role == Role::Console {
            return Err(Refused::because(Errno::EPERM, "this interrupt is the VMM's"));
        }
        Ok(device.set_irqs(&set, data, fds)?)
    }

    pub(super) fn query_gfx_plane(&self, payload: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        let (mut info, _): (PlaneInfo, _) = parse(payload)?;
        let request = PlaneRequest::parse(&info)?;
        let plane = self.device.lock().request(request);
        if let (PlaneRequest::Probe(_), Err(error)) = (request, &plane) {
            return Err(Refused::ordinary(error.into()));
        }
        let plane = plane?;
        if let PlaneRequest::Query(..) = request {
            match &plane {
                Some(plane) => plane.to_raw(&mut info),
                None => Plane::off_to_raw(&mut info),
            }
        }
        let offset = plane.map_or(0, |plane| plane.source.offset());
        out.bytes.extend_from_slice(PlaneReply { info, offset }.as_bytes());
        Ok(())
    }

    pub(super) fn get_gfx_dmabuf(
        &self,
        agreed: Agreed,
        payload: &[u8],
        out: &mut Outbox,
    ) -> Result<(), Refused> {
        let (BufferRequest { dmabuf_id, reserved }, _) = parse(payload)?;
        if reserved != 0 {
            return Err(Errno::EINVAL.into());
        }
        let buffer = self.device.lock().buffer(dmabuf_id, agreed.role == Role::Console);
        let buffer = match buffer {
            // The plane was another before the client could ask.
            Err(error @ DeviceError::NoBuffer(_)) => return Err(Refused::ordinary(error.into())),
            buffer => buffer?,
        };
        let reply = BufferReply {
            dmabuf_id,
            kind: kind_to_raw(buffer.kind),
            offset: buffer.offset,
            size: buffer.size,
        };
        out.bytes.extend_from_slice(reply.as_bytes());
        out.fds.push(buffer.fd);
        Ok(())
    }
}

/// An access, for a sentence about it.
fn place(RegionAccess { offset, region, count }: &RegionAccess) -> String {
    format!("{count} bytes at {offset:#x} of region {region}")
}

/// Whether an access lies in the configuration space that a conventional device does not have.
fn is_extended_config(region: u32, offset: u64, len: usize) -> bool {
    let end = u64::try_from(len).ok().and_then(|len| offset.checked_add(len));
    region == pci_region::CONFIG
        && offset >= CONFIG_SIZE
        && end.is_some_and(|end| end <= EXTENDED_CONFIG_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::{edges, to_u64};

    #[test]
    fn extended_configuration_space_has_edges() {
        let places = || edges::u64().into_iter().chain([255, 256, 257]);
        for (offset, len) in places().flat_map(|offset| places().map(move |len| (offset, len))) {
            let Ok(len) = usize::try_from(len) else { continue };
            let inside = offset >= 256 && u128::from(offset) + u128::from(to_u64(len)) <= 4096;
            assert_eq!(is_extended_config(pci_region::CONFIG, offset, len), inside, "{offset:#x}+{len:#x}");
            assert!(!is_extended_config(pci_region::BAR0, offset, len));
        }
    }
}
