//! One connection to a device, without a socket: what the server's event loop does, and what holds for every reply.

use std::os::fd::OwnedFd;

use vfio_gfx::abi::{Interface, PlaneInfo, PlaneRequest};
use vfio_gfx::device::SharedDevice;
use vfio_gfx::vfio_user::{
    Command, Ending, HEADER_SIZE, Header, Inbox, MAX_MESSAGE, MAX_MSG_FDS, Outbox, Role, Session, Version,
    VmmSlot,
};
use zerocopy::{FromBytes, IntoBytes};

/// Memory that an idle connection may keep for each direction, in bytes.
const IDLE: usize = 8192;

/// A connection.
pub(crate) struct Peer {
    inbox: Inbox,
    pub(crate) session: Session,
    outbox: Outbox,
}

impl Peer {
    pub(crate) fn new(device: &SharedDevice, slot: &VmmSlot) -> Self {
        Self {
            inbox: Inbox::new(MAX_MESSAGE),
            session: Session::new(device.clone(), slot.clone()),
            outbox: Outbox::default(),
        }
    }

    /// Takes what one `sendmsg` of the client carried, in as many reads as there is room, and answers every message
    /// that is whole. `answered` sees each command with its reply.
    ///
    /// # Errors
    /// [`Ending`]: the connection is over.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        mut fds: Vec<OwnedFd>,
        mut answered: impl FnMut(Header, &Outbox),
    ) -> Result<(), Ending> {
        while !bytes.is_empty() {
            let space = self.inbox.space()?;
            assert!(!space.is_empty() && space.len() <= MAX_MESSAGE, "room for {} bytes", space.len());
            let len = space.len().min(bytes.len());
            let (now, later) = bytes.split_at(len);
            space[..len].copy_from_slice(now);
            bytes = later;
            self.inbox.filled(len, std::mem::take(&mut fds));
            while let Some(message) = self.inbox.next_message()? {
                let header = message.header;
                self.session.handle(message, &mut self.outbox)?;
                check_reply(header, &self.outbox);
                answered(header, &self.outbox);
                self.outbox.clear();
                assert!(self.outbox.bytes.capacity() <= IDLE, "an idle connection keeps memory");
            }
        }
        Ok(())
    }

    /// Sends one command without descriptors, and returns the payload of the reply unless it was refused.
    pub(crate) fn call(&mut self, command: Command, payload: &[u8]) -> Option<Vec<u8>> {
        self.call_with(command, payload, Vec::new())
    }

    /// The same with descriptors.
    pub(crate) fn call_with(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: Vec<OwnedFd>,
    ) -> Option<Vec<u8>> {
        let mut reply = None;
        self.send(command, payload, fds, |out| {
            let refused = read_header(out).reported_error().is_some();
            reply = (!refused).then(|| out.bytes[HEADER_SIZE..].to_vec());
        })
        .unwrap();
        reply
    }

    /// Sends one command; `answered` sees the reply.
    ///
    /// # Errors
    /// [`Ending`]: the connection is over.
    pub(crate) fn send(
        &mut self,
        command: Command,
        payload: &[u8],
        fds: Vec<OwnedFd>,
        mut answered: impl FnMut(&Outbox),
    ) -> Result<(), Ending> {
        let mut message = Header::command(7, command, payload.len()).as_bytes().to_vec();
        message.extend_from_slice(payload);
        self.receive(&message, fds, |_, out| answered(out))
    }

    /// Negotiates, with the display extension.
    pub(crate) fn negotiate(&mut self, role: Role) -> bool {
        self.call(Command::Version, &proposal(role)).is_some()
    }
}

/// The payload of a VERSION command.
pub(crate) fn proposal(role: Role) -> Vec<u8> {
    let mut payload = Vec::new();
    Version::proposal(role).encode(false, &mut payload);
    payload
}

/// The header of a reply.
pub(crate) fn read_header(out: &Outbox) -> Header {
    Header::read_from_prefix(&out.bytes).unwrap().0
}

/// A reply is asked for or absent, echoes its command, says its own size, is bounded, and carries no descriptors if it
/// is an error.
fn check_reply(command: Header, out: &Outbox) {
    if command.no_reply() {
        assert!(out.bytes.is_empty() && out.fds.is_empty(), "a reply that nobody asked for");
        return;
    }
    let reply = read_header(out);
    assert_eq!((reply.id, reply.command), (command.id, command.command));
    assert_eq!(usize::try_from(reply.size), Ok(out.bytes.len()));
    assert!(out.bytes.capacity() <= 2 * MAX_MESSAGE && out.bytes.len() <= MAX_MESSAGE);
    assert!(out.fds.len() <= MAX_MSG_FDS);
    match reply.flags {
        1 => assert_eq!(reply.errno, 0),
        0x21 => {
            assert!((1..4096).contains(&reply.errno), "errno {}", reply.errno);
            assert!(out.bytes.len() == HEADER_SIZE && out.fds.is_empty());
        }
        flags => panic!("a reply with flags {flags:#x}"),
    }
}

/// Whatever happened on a device: once its VMM is gone, the next one can attach, ask what it is, and query it.
pub(crate) fn check_reusable(device: &SharedDevice, slot: &VmmSlot) {
    assert!(!slot.is_taken(), "the VMM is gone, its place is not free");
    let mut vmm = Peer::new(device, slot);
    assert!(vmm.negotiate(Role::Vmm));
    assert!(!Peer::new(device, slot).negotiate(Role::Vmm), "a second VMM attached");
    let info = vmm.call(Command::GetInfo, [16u32, 0, 0, 0].as_bytes()).unwrap();
    assert_eq!(info.len(), 16);
    for interface in [Interface::Region, Interface::Dmabuf] {
        let offered = device.lock().probe(interface);
        for request in [PlaneRequest::Probe(interface), PlaneRequest::Query(interface, 1)] {
            let request: PlaneInfo = request.to_raw();
            let reply = vmm.call(Command::QueryGfxPlane, request.as_bytes());
            assert_eq!(reply.is_some(), offered);
        }
    }
    drop(vmm);
    assert!(!slot.is_taken());
}
