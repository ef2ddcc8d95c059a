//! A console's connection as what a display asks: as [`vfio_gfx::display::Remote`] does over a socket, without one.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use vfio_gfx::abi::{
    DeviceFlags, Interface, IrqInfo, PlaneKind, PlaneRequest, REGION_INFO_MIN, RegionFlags, RegionInfo, caps,
};
use vfio_gfx::display::{Backend, BufferMapping, DeviceSummary, DisplayError, RegionSummary, Watch};
use vfio_gfx::memory::{BufferKind, Mapping};
use vfio_gfx::plane::Plane;
use vfio_gfx::vfio_user::extension::{BufferReply, BufferRequest, PlaneReply, kind_from_raw};
use vfio_gfx::vfio_user::{ClientError, Command, HEADER_SIZE, RegionAccess};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::peer::{Peer, read_header};

/// Room for a region info with its capabilities.
const REGION_INFO_ROOM: u32 = 4096;

/// One end of a connection; `None` once it has ended.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Mutex<Option<Peer>>>);

impl Line {
    pub(super) fn peer(&self) -> MutexGuard<'_, Option<Peer>> {
        self.0.lock().unwrap()
    }

    /// Sends a command, and returns the payload and the descriptors of its reply.
    fn ask(&self, command: Command, payload: &[u8]) -> Result<(Vec<u8>, Vec<OwnedFd>), DisplayError> {
        let mut line = self.peer();
        let peer = line.as_mut().ok_or(ClientError::Closed)?;
        let mut answer = Err(ClientError::Closed);
        let sent = peer.send(command, payload, Vec::new(), |out| {
            answer = match read_header(out).reported_error() {
                Some(errno) => Err(ClientError::Refused { command, errno }),
                None => {
                    let fds = out.fds.iter().map(|fd| fd.try_clone().unwrap()).collect();
                    Ok((out.bytes[HEADER_SIZE..].to_vec(), fds))
                }
            };
        });
        assert!(sent.is_ok(), "a well-formed {command:?} ended the connection");
        Ok(answer?)
    }

    fn region_info(&self, index: u32) -> Result<(RegionInfo, Vec<u8>, Option<OwnedFd>), DisplayError> {
        let request = RegionInfo { argsz: REGION_INFO_ROOM, index, ..RegionInfo::new_zeroed() };
        let (reply, mut fds) = self.ask(Command::GetRegionInfo, request.as_bytes())?;
        let (info, _) = RegionInfo::read_from_prefix(&reply).unwrap();
        Ok((info, reply, fds.pop()))
    }
}

impl Backend for Line {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        let (reply, _) = self.ask(Command::GetInfo, [16u32, 0, 0, 0].as_bytes())?;
        let [_, flags, num_regions, num_irqs] = <[u32; 4]>::read_from_bytes(&reply).unwrap();
        Ok(DeviceSummary { flags: DeviceFlags::from_bits_truncate(flags), num_regions, num_irqs })
    }

    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        let (info, reply, _) = self.region_info(index)?;
        let caps = caps::parse(&reply, info.cap_offset)
            .map_err(|source| DisplayError::Caps { region: index, source })?;
        Ok(RegionSummary { index, flags: RegionFlags::from_bits_truncate(info.flags), size: info.size, caps })
    }

    fn irq_count(&mut self, index: u32) -> Result<u32, DisplayError> {
        let request = IrqInfo { argsz: 16, flags: 0, index, count: 0 };
        let (reply, _) = self.ask(Command::GetIrqInfo, request.as_bytes())?;
        Ok(IrqInfo::read_from_prefix(&reply).unwrap().0.count)
    }

    fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError> {
        let request = PlaneRequest::Probe(interface).to_raw();
        match self.ask(Command::QueryGfxPlane, request.as_bytes()) {
            Ok(_) => Ok(true),
            Err(DisplayError::Client(ClientError::Refused { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        let request = PlaneRequest::Query(interface, kind.raw()).to_raw();
        let (reply, _) = self.ask(Command::QueryGfxPlane, request.as_bytes())?;
        let reply = PlaneReply::read_from_bytes(&reply).unwrap();
        Ok(Plane::from_raw(&reply.info, interface, kind, reply.offset)?)
    }

    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        Ok(None)
    }

    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        let (info, _, fd) = self.region_info(index)?;
        let fd = fd.ok_or(DisplayError::NotMappable { index })?;
        assert!(info.argsz >= REGION_INFO_MIN);
        Ok(Mapping::at(fd, BufferKind::Memfd, info.offset, info.size)?)
    }

    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError> {
        let request = BufferRequest { dmabuf_id: id, reserved: 0 };
        let (reply, mut fds) = self.ask(Command::GetGfxDmabuf, request.as_bytes())?;
        let reply = BufferReply::read_from_bytes(&reply).unwrap();
        let (kind, fd) = (kind_from_raw(reply.kind).unwrap(), fds.pop().unwrap());
        Ok(BufferMapping { kind, mapping: Mapping::new(fd, kind, reply.size)?, offset: reply.offset })
    }

    fn read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> Result<(), DisplayError> {
        let count = u32::try_from(data.len()).unwrap();
        let request = RegionAccess { offset, region, count };
        let (reply, _) = self.ask(Command::RegionRead, request.as_bytes())?;
        data.copy_from_slice(&reply[size_of::<RegionAccess>()..]);
        Ok(())
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), DisplayError> {
        let count = u32::try_from(data.len()).unwrap();
        let request = RegionAccess { offset, region, count };
        self.ask(Command::RegionWrite, &[request.as_bytes(), data].concat())?;
        Ok(())
    }
}
