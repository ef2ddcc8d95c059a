//! One connection to a device, without a socket.

use std::os::fd::OwnedFd;

use vfio_gfx::abi::{Errno, Interface, IrqSet, PlaneInfo, PlaneKind, PlaneRequest, RegionInfo, pci_irq};
use vfio_gfx::device::SharedDevice;
use vfio_gfx::vfio_user::extension::{BufferReply, BufferRequest, PlaneReply};
use vfio_gfx::vfio_user::{
    Command, HEADER_SIZE, Header, Message, Outbox, RegionAccess, Role, Session, Version, VmmSlot,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::subject::{REGISTERS, VRAM};

pub(crate) struct Party(Session);

impl Party {
    /// Attaches as a client that knows the display extension.
    pub(crate) fn attach(device: &SharedDevice, slot: &VmmSlot, role: Role) -> Result<Self, Errno> {
        let mut party = Self(Session::new(device.clone(), slot.clone()));
        let mut proposal = Vec::new();
        Version::proposal(role).encode(false, &mut proposal);
        party.ask(Command::Version, &proposal, Vec::new()).map(|_| party)
    }

    /// One command; its reply's payload and descriptors.
    pub(crate) fn ask(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
        let header = Header::command(1, command, payload.len());
        let mut out = Outbox::default();
        self.0.handle(Message { header, payload, fds }, &mut out).unwrap();
        let (reply, payload) = Header::read_from_prefix(&out.bytes).unwrap();
        match reply.reported_error() {
            Some(errno) => {
                assert!(out.bytes.len() == HEADER_SIZE && out.fds.is_empty(), "an error brings nothing else");
                Err(errno)
            }
            None => Ok((payload.to_vec(), out.fds)),
        }
    }

    pub(crate) fn set_row(&mut self, row: u32) -> Result<(), Errno> {
        let access = RegionAccess { offset: 0, region: REGISTERS, count: 4 };
        let payload = [access.as_bytes(), &row.to_le_bytes()].concat();
        self.ask(Command::RegionWrite, &payload, Vec::new()).map(drop)
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64) -> Result<u8, Errno> {
        let access = RegionAccess { offset, region, count: 1 };
        let (reply, _) = self.ask(Command::RegionRead, access.as_bytes(), Vec::new())?;
        Ok(*reply.last().unwrap())
    }

    pub(crate) fn reset(&mut self) -> Result<(), Errno> {
        self.ask(Command::Reset, &[], Vec::new()).map(drop)
    }

    /// The buffer that the primary plane is in, if it is on.
    pub(crate) fn query(&mut self) -> Result<Option<u32>, Errno> {
        let request: PlaneInfo = PlaneRequest::Query(Interface::Dmabuf, PlaneKind::Primary.raw()).to_raw();
        let (reply, _) = self.ask(Command::QueryGfxPlane, request.as_bytes(), Vec::new())?;
        let (reply, _) = PlaneReply::read_from_prefix(&reply).unwrap();
        Ok((reply.info.width != 0).then_some(reply.info.handle))
    }

    /// The video memory's descriptor.
    pub(crate) fn map(&mut self) -> Result<OwnedFd, Errno> {
        let request = RegionInfo { argsz: 32, index: VRAM, ..FromZeros::new_zeroed() };
        let (_, mut fds) = self.ask(Command::GetRegionInfo, request.as_bytes(), Vec::new())?;
        Ok(fds.pop().expect("a descriptor"))
    }

    pub(crate) fn export(&mut self, dmabuf_id: u32) -> Result<(BufferReply, OwnedFd), Errno> {
        let request = BufferRequest { dmabuf_id, reserved: 0 };
        let (reply, mut fds) = self.ask(Command::GetGfxDmabuf, request.as_bytes(), Vec::new())?;
        Ok((BufferReply::read_from_prefix(&reply).unwrap().0, fds.pop().expect("a descriptor")))
    }

    /// Arms the interrupt by which the device is asked back.
    pub(crate) fn arm(&mut self, eventfd: OwnedFd) -> Result<(), Errno> {
        let set = IrqSet { argsz: 20, flags: 0x24, index: pci_irq::REQ, start: 0, count: 1 };
        self.ask(Command::SetIrqs, set.as_bytes(), vec![eventfd]).map(drop)
    }
}
