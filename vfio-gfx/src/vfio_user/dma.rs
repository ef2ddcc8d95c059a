//! The ranges of guest memory that a VMM announces.
//!
//! They go with their descriptors to the device's [`GuestMemory`](crate::memory::GuestMemory), and end there with the
//! connection.

use std::os::fd::OwnedFd;

use zerocopy::IntoBytes;

use super::answers::parse;
use super::refusal::Refused;
use super::session::{Outbox, Session};
use super::{DmaMap, DmaUnmap};
use crate::abi::Errno;
use crate::device::Device;
use crate::memory::{DmaAccess, DmaError};
use crate::number::to_usize;

const FLAG_UNMAP_ALL: u32 = 2;

impl From<DmaError> for Errno {
    fn from(error: DmaError) -> Self {
        match error {
            DmaError::Flags(_) | DmaError::Range { .. } => Self::EINVAL,
            DmaError::Overlap { .. } => Self::EEXIST,
            DmaError::NotMapped { .. } => Self::ENOENT,
            DmaError::TooMany => Self::ENOSPC,
        }
    }
}

impl Session {
    pub(super) fn dma_map(&mut self, payload: &[u8], mut fds: Vec<OwnedFd>) -> Result<(), Refused> {
        let (request, _): (DmaMap, _) = parse(payload)?;
        check_size(request.argsz, size_of::<DmaMap>())?;
        if fds.len() > 1 {
            return Err(Refused::because(Errno::EINVAL, "expected one descriptor at most"));
        }
        let device = self.device.lock();
        device.check_plugged()?;
        Ok(map(&device, &request, fds.pop())?)
    }

    pub(super) fn dma_unmap(&mut self, payload: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        let (mut request, _): (DmaUnmap, _) = parse(payload)?;
        check_size(request.argsz, size_of::<DmaUnmap>())?;
        let mut device = self.device.lock();
        device.check_plugged()?;
        request.size = unmap(&mut device, &request)?;
        out.bytes.extend_from_slice(request.as_bytes());
        Ok(())
    }
}

fn check_size(argsz: u32, expected: usize) -> Result<(), Refused> {
    if to_usize(argsz) < expected {
        return Err(Refused::because(Errno::EINVAL, "argsz is smaller than the struct"));
    }
    Ok(())
}

fn map(device: &Device, request: &DmaMap, fd: Option<OwnedFd>) -> Result<(), DmaError> {
    let DmaMap { address, size, flags, offset, .. } = *request;
    let access = DmaAccess::from_bits(flags).filter(|access| !access.is_empty());
    let access = access.ok_or(DmaError::Flags(flags))?;
    if offset.checked_add(size).is_none() {
        return Err(DmaError::Range { address: offset, size });
    }
    device.guest_memory().map(address, size, access, fd.map(|fd| (fd, offset)))
}

fn unmap(device: &mut Device, request: &DmaUnmap) -> Result<u64, DmaError> {
    let DmaUnmap { address, size, flags, .. } = *request;
    match flags {
        0 => device.unmap_guest_memory(address, size),
        FLAG_UNMAP_ALL => Ok(device.unmap_all_guest_memory()),
        _ => Err(DmaError::Flags(flags)),
    }
}
