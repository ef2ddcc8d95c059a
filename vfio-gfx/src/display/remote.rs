//! A device behind a vfio-user socket, which the console trusts as little as the device trusts the console.

use std::os::fd::OwnedFd;
use std::path::Path;

use zerocopy::{FromBytes, IntoBytes};

use crate::abi::{
    DeviceFlags, Errno, IRQ_SET_HEADER, Interface, IrqInfo, IrqSet, PlaneKind, PlaneRequest, REGION_INFO_MIN,
    RegionFlags, RegionInfo, caps, pci_irq,
};
use crate::device::{DISPLAY_EVENTS, FlipState, Link};
use crate::memory::{BufferKind, Mapping};
use crate::plane::Plane;
use crate::vfio_user::extension::{
    BufferReply, BufferRequest, PACE_FLAG_LATE, PACE_JOIN, PACE_LEAVE, PACE_LOOK, PACE_TAKEN, PaceReply,
    PaceRequest, PlaneReply, kind_from_raw,
};
use crate::vfio_user::{Client, ClientError, Command, RegionAccess, Role};

use super::{Backend, BufferMapping, DeviceSummary, DisplayError, Pace, Paced, RegionSummary, Watch};

/// Most bytes of capabilities that are asked for.
const MAX_REGION_INFO: u32 = 4096;
/// Most interrupt indices that are looked at.
const MAX_IRQ_INDICES: u32 = 16;
/// Room for an interrupt info with its capabilities.
const IRQ_INFO_ROOM: u32 = 256;
/// `VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER` (vfio.h)
const IRQ_SET_EVENTFD_TRIGGER: u32 = 0x24;
/// Data bytes per region access; every server allows the protocol's default of 1 MiB.
const CHUNK: usize = 1 << 16;

/// Asks a device over its socket, as a console.
#[derive(Debug)]
pub struct Remote(Client);

impl Remote {
    /// Attaches to the server at `path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        Client::connect(path, Role::Console).map(Self)
    }

    fn region_info(
        &mut self,
        index: u32,
        argsz: u32,
    ) -> Result<(RegionInfo, Vec<u8>, Option<OwnedFd>), ClientError> {
        let command = Command::GetRegionInfo;
        let mut request: RegionInfo = zerocopy::FromZeros::new_zeroed();
        (request.argsz, request.index) = (argsz, index);
        self.0.call(command, &[request.as_bytes()], |payload, mut fds| {
            let (info, _) = read_struct::<RegionInfo>(command, payload)?;
            Ok((info, payload.to_vec(), fds.pop()))
        })
    }
}

fn read_struct<T: FromBytes>(command: Command, payload: &[u8]) -> Result<(T, &[u8]), ClientError> {
    T::read_from_prefix(payload).map_err(|_| ClientError::Malformed(command, "too short"))
}

impl Backend for Remote {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        let request = [16u32, 0, 0, 0];
        let reply = self.0.call(Command::GetInfo, &[request.as_bytes()], |payload, _| {
            let ([_, flags, num_regions, num_irqs], _) = read_struct::<[u32; 4]>(Command::GetInfo, payload)?;
            Ok(DeviceSummary { flags: DeviceFlags::from_bits_truncate(flags), num_regions, num_irqs })
        })?;
        Ok(reply)
    }

    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        let (mut info, mut reply, _) = self.region_info(index, REGION_INFO_MIN)?;
        if info.argsz > REGION_INFO_MIN {
            (info, reply, _) = self.region_info(index, info.argsz.min(MAX_REGION_INFO))?;
        }
        let caps = caps::parse(&reply, info.cap_offset)
            .map_err(|source| DisplayError::Caps { region: index, source })?;
        Ok(RegionSummary { index, flags: RegionFlags::from_bits_truncate(info.flags), size: info.size, caps })
    }

    fn irq_count(&mut self, index: u32) -> Result<u32, DisplayError> {
        let request = IrqInfo { argsz: 16, flags: 0, index, count: 0 };
        let count = self.0.call(Command::GetIrqInfo, &[request.as_bytes()], |payload, _| {
            Ok(read_struct::<IrqInfo>(Command::GetIrqInfo, payload)?.0.count)
        })?;
        Ok(count)
    }

    fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError> {
        let request = PlaneRequest::Probe(interface).to_raw();
        match self.0.call(Command::QueryGfxPlane, &[request.as_bytes()], |_, _| Ok(())) {
            Ok(()) => Ok(true),
            Err(ClientError::Refused { errno: Errno::EINVAL, .. }) => Ok(false),
            Err(ClientError::Refused { errno, .. }) => Err(DisplayError::Probe { interface, errno }),
            Err(error) => Err(error.into()),
        }
    }

    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        let request = PlaneRequest::Query(interface, kind.raw()).to_raw();
        let reply = self.0.call(Command::QueryGfxPlane, &[request.as_bytes()], |payload, _| {
            Ok(read_struct::<PlaneReply>(Command::QueryGfxPlane, payload)?.0)
        })?;
        Ok(Plane::from_raw(&reply.info, interface, kind, reply.offset)?)
    }

    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        let num_irqs = self.device()?.num_irqs.min(MAX_IRQ_INDICES);
        for index in pci_irq::COUNT..num_irqs {
            let request = IrqInfo { argsz: IRQ_INFO_ROOM, flags: 0, index, count: 0 };
            let (info, is_display) =
                self.0.call(Command::GetIrqInfo, &[request.as_bytes()], |payload, _| {
                    let (info, _) = read_struct::<IrqInfo>(Command::GetIrqInfo, payload)?;
                    Ok((info, caps::is_display_irq(payload)))
                })?;
            if is_display && info.count == DISPLAY_EVENTS {
                let watch = Watch::new()?;
                let flags = IRQ_SET_EVENTFD_TRIGGER;
                let set = IrqSet { argsz: IRQ_SET_HEADER, flags, index, start: 0, count: DISPLAY_EVENTS };
                self.0.call_with_fds(Command::SetIrqs, &[set.as_bytes()], watch.eventfds(), |_, _| Ok(()))?;
                return Ok(Some(watch));
            }
        }
        Ok(None)
    }

    fn pace(&mut self, pace: Pace) -> Result<Option<Paced>, DisplayError> {
        let command = Command::PaceFlips;
        let (operation, flip) = match pace {
            Pace::Look => (PACE_LOOK, 0),
            Pace::Join => (PACE_JOIN, 0),
            Pace::Taken(flip) => (PACE_TAKEN, flip),
            Pace::Leave => (PACE_LEAVE, 0),
        };
        let request = PaceRequest { operation, reserved: 0, flip };
        let reply = self.0.call(command, &[request.as_bytes()], |payload, _| {
            let (PaceReply { requested, completed, link, flags }, _) = read_struct(command, payload)?;
            let link = Link::from_raw(link).ok_or(ClientError::Malformed(command, "unknown link state"))?;
            let state = FlipState { requested, completed, link };
            Ok(Paced { state, late: flags & PACE_FLAG_LATE != 0 })
        });
        match reply {
            Ok(paced) => Ok(Some(paced)),
            // A server that does not know the command, a device without flips, or enough consoles that are waited for.
            Err(ClientError::Refused { errno: Errno::EOPNOTSUPP | Errno::ENOSPC, .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        let (info, _, fd) = self.region_info(index, MAX_REGION_INFO)?;
        let mappable = RegionFlags::from_bits_truncate(info.flags).contains(RegionFlags::MMAP);
        let fd = fd.filter(|_| mappable && info.size > 0);
        let fd = fd.ok_or(DisplayError::NotMappable { index })?;
        Ok(Mapping::at(fd, BufferKind::Memfd, info.offset, info.size)?)
    }

    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError> {
        let command = Command::GetGfxDmabuf;
        let request = BufferRequest { dmabuf_id: id, reserved: 0 };
        let (reply, fd) = self.0.call(command, &[request.as_bytes()], |payload, mut fds| {
            let (reply, _) = read_struct::<BufferReply>(command, payload)?;
            let fd = fds.pop().ok_or(ClientError::Malformed(command, "no descriptor came with it"))?;
            Ok((reply, fd))
        })?;
        let kind =
            kind_from_raw(reply.kind).ok_or(ClientError::Malformed(command, "unknown kind of buffer"))?;
        Ok(BufferMapping { kind, mapping: Mapping::new(fd, kind, reply.size)?, offset: reply.offset })
    }

    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), DisplayError> {
        let command = Command::RegionRead;
        let mut at = offset;
        for chunk in data.chunks_mut(CHUNK) {
            let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let request = RegionAccess { offset: at, region, count };
            self.0.call(command, &[request.as_bytes()], |payload, _| {
                let (_, bytes) = read_struct::<RegionAccess>(command, payload)?;
                let bytes =
                    bytes.get(..chunk.len()).ok_or(ClientError::Malformed(command, "too few bytes"))?;
                chunk.copy_from_slice(bytes);
                Ok(())
            })?;
            at = at.saturating_add(u64::from(count));
        }
        Ok(())
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
        let mut at = offset;
        for chunk in data.chunks(CHUNK) {
            let count = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            let request = RegionAccess { offset: at, region, count };
            self.0.call(Command::RegionWrite, &[request.as_bytes(), chunk], |_, _| Ok(()))?;
            at = at.saturating_add(u64::from(count));
        }
        Ok(())
    }
}
