//! A console's connection as what a display asks: as [`vfio_gfx::display::Remote`] does over a socket, without one.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use vfio_gfx::abi::{
    DeviceFlags, Errno, Interface, IrqInfo, PlaneKind, PlaneRequest, REGION_INFO_MIN, RegionFlags,
    RegionInfo, caps,
};
use vfio_gfx::device::{DISPLAY_EVENTS, DISPLAY_IRQ, FlipState, Link};
use vfio_gfx::display::{
    Backend, BufferMapping, DeviceSummary, DisplayError, Pace, Paced, RegionSummary, Watch,
};
use vfio_gfx::memory::{BufferKind, Mapping};
use vfio_gfx::plane::Plane;
use vfio_gfx::vfio_user::extension::{
    BufferReply, BufferRequest, PACE_FLAG_LATE, PACE_JOIN, PACE_LEAVE, PACE_LOOK, PACE_TAKEN, PaceReply,
    PaceRequest, PlaneReply, kind_from_raw,
};
use vfio_gfx::vfio_user::{ClientError, Command, HEADER_SIZE, RegionAccess};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::peer::{Peer, read_header};

/// Room for a region info with its capabilities.
const REGION_INFO_ROOM: u32 = 4096;

/// `VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER` (vfio.h)
const EVENTFD_TRIGGER: u32 = 0x24;

/// What was said of flips, and answered.
pub(super) type Said = (PaceRequest, Result<PaceReply, Errno>);

#[derive(Default)]
pub(super) struct Wire {
    /// `None` once the connection has ended.
    pub(super) peer: Option<Peer>,
    /// Whether the console asks to be told of changes.
    pub(super) is_told: bool,
    /// What it said of flips since somebody looked here.
    pub(super) said: Vec<Said>,
    /// Every memfd that it was given, with the number of the buffer if it is one.
    pub(super) given: Vec<(Option<u32>, OwnedFd)>,
}

/// One end of a connection.
#[derive(Clone, Default)]
pub(super) struct Line(Arc<Mutex<Wire>>);

impl Line {
    pub(super) fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap()
    }

    /// Sends a command, and returns the payload and the descriptors of its reply.
    fn ask(&self, command: Command, payload: &[u8]) -> Result<(Vec<u8>, Vec<OwnedFd>), ClientError> {
        self.ask_with(command, payload, Vec::new())
    }

    fn ask_with(
        &self,
        command: Command,
        payload: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), ClientError> {
        let mut wire = self.wire();
        let peer = wire.peer.as_mut().ok_or(ClientError::Closed)?;
        let mut answer = Err(ClientError::Closed);
        let sent = peer.send(command, payload, fds, |out| {
            answer = match read_header(out).reported_error() {
                Some(errno) => Err(ClientError::Refused { command, errno }),
                None => {
                    let fds = out.fds.iter().map(|fd| fd.try_clone().unwrap()).collect();
                    Ok((out.bytes[HEADER_SIZE..].to_vec(), fds))
                }
            };
        });
        assert!(sent.is_ok(), "a well-formed {command:?} ended the connection");
        answer
    }

    /// `PACE_FLIPS`; what is answered is noted.
    pub(super) fn say(&self, request: PaceRequest) -> Result<PaceReply, ClientError> {
        let answer = self.ask(Command::PaceFlips, request.as_bytes());
        let reply = answer.map(|(reply, _)| PaceReply::read_from_bytes(&reply).unwrap());
        let noted = match &reply {
            Ok(reply) => Ok(*reply),
            Err(ClientError::Refused { errno, .. }) => Err(*errno),
            Err(_) => return reply,
        };
        self.wire().said.push((request, noted));
        reply
    }

    /// Notes a descriptor that it was given.
    fn keep(&self, id: Option<u32>, fd: &OwnedFd) {
        self.wire().given.push((id, fd.try_clone().unwrap()));
    }

    fn region_info(&self, index: u32) -> Result<(RegionInfo, Vec<u8>, Option<OwnedFd>), ClientError> {
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
            Err(ClientError::Refused { errno: Errno::EINVAL, .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        let request = PlaneRequest::Query(interface, kind.raw()).to_raw();
        let (reply, _) = self.ask(Command::QueryGfxPlane, request.as_bytes())?;
        let reply = PlaneReply::read_from_bytes(&reply).unwrap();
        Ok(Plane::from_raw(&reply.info, interface, kind, reply.offset)?)
    }

    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        if !self.wire().is_told {
            return Ok(None);
        }
        let watch = Watch::new()?;
        let set = [20, EVENTFD_TRIGGER, DISPLAY_IRQ, 0, DISPLAY_EVENTS];
        let fds = watch.eventfds().iter().map(|fd| fd.try_clone().unwrap()).collect();
        self.ask_with(Command::SetIrqs, set.as_bytes(), fds)?;
        Ok(Some(watch))
    }

    fn pace(&mut self, pace: Pace) -> Result<Option<Paced>, DisplayError> {
        let (operation, flip) = match pace {
            Pace::Look => (PACE_LOOK, 0),
            Pace::Join => (PACE_JOIN, 0),
            Pace::Taken(flip) => (PACE_TAKEN, flip),
            Pace::Leave => (PACE_LEAVE, 0),
        };
        let PaceReply { requested, completed, link, flags } =
            self.say(PaceRequest { operation, reserved: 0, flip })?;
        let state = FlipState { requested, completed, link: Link::from_raw(link).unwrap() };
        Ok(Some(Paced { state, late: flags & PACE_FLAG_LATE != 0 }))
    }

    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        let (info, _, fd) = self.region_info(index)?;
        let fd = fd.ok_or(DisplayError::NotMappable { index })?;
        assert!(info.argsz >= REGION_INFO_MIN);
        self.keep(None, &fd);
        Ok(Mapping::at(fd, BufferKind::Memfd, info.offset, info.size)?)
    }

    fn map_buffer(&mut self, id: u32) -> Result<BufferMapping, DisplayError> {
        let request = BufferRequest { dmabuf_id: id, reserved: 0 };
        let (reply, mut fds) = self.ask(Command::GetGfxDmabuf, request.as_bytes())?;
        let reply = BufferReply::read_from_bytes(&reply).unwrap();
        let (kind, fd) = (kind_from_raw(reply.kind).unwrap(), fds.pop().unwrap());
        if kind == BufferKind::Memfd {
            self.keep(Some(id), &fd);
        }
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
