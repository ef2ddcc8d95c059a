//! One connection to a device, without its socket: messages in, replies out.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use thiserror::Error;
use tracing::debug;
use zerocopy::IntoBytes;

use super::refusal::{Refusals, Refused};
use super::{Command, HEADER_SIZE, HeaderError, Kind, Message, Role, Version};
use crate::abi::Errno;
use crate::device::{PacerId, SharedDevice, Watcher};

/// What an [`Outbox`] shrinks back to.
const SMALL: usize = 4096;

/// A reply on its way out. At most one exists per connection: the next command is looked at when it is gone.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Header and payload; empty when there is nothing to send.
    pub bytes: Vec<u8>,
    /// Descriptors that ride on the first byte.
    pub fds: Vec<OwnedFd>,
}

impl Outbox {
    /// Forgets the reply and gives back what a large one took.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(SMALL);
        self.fds.clear();
    }
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Ending {
    /// The stream cannot be followed.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A reply, where the server asked nothing.
    #[error("the client sent a reply, but was asked nothing")]
    UnexpectedReply,
    /// More descriptors than a message may carry.
    #[error("{0} descriptors with one message: at most {limit} are accepted", limit = super::MAX_MSG_FDS)]
    TooManyFds(usize),
}

/// The one place a VMM can take on a device.
#[derive(Clone, Debug, Default)]
pub struct VmmSlot(Arc<AtomicBool>);

impl VmmSlot {
    /// Takes the place, if it is free.
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    fn release(&self) {
        self.0.store(false, Ordering::Release);
    }

    /// Whether a VMM is attached.
    #[must_use]
    pub fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What the two sides agreed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    pub(super) role: Role,
    pub(super) extension: bool,
}

/// The server's side of one connection.
#[derive(Debug)]
pub struct Session {
    pub(super) device: SharedDevice,
    /// Its display interrupt.
    pub(super) watcher: Option<Watcher>,
    /// Flips wait for it.
    pub(super) pacer: Option<PacerId>,
    /// Who it is, for the log.
    pub(super) peer: String,
    agreed: Option<Agreed>,
    slot: VmmSlot,
    refusals: Refusals,
    is_over: bool,
}

impl Session {
    /// A connection that has said nothing yet.
    #[must_use]
    pub fn new(device: SharedDevice, slot: VmmSlot) -> Self {
        let peer = "a client".to_owned();
        Self {
            device,
            watcher: None,
            pacer: None,
            peer,
            agreed: None,
            slot,
            refusals: Refusals::default(),
            is_over: false,
        }
    }

    /// The same with a name for the log.
    #[must_use]
    pub fn of_peer(mut self, peer: String) -> Self {
        self.peer = peer;
        self
    }

    /// What the connection is for, once it has said so.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.agreed.map(|agreed| agreed.role)
    }

    /// Whether the connection is to end once the reply is sent: there is no agreement. Clients exist that wait for more than the
    /// head of a refusal (the crate `vfio_user` 0.1, which cloud-hypervisor links): they would wait for ever.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Says in the log how often the client was refused what, where that was not said with each.
    pub(super) fn sum_up(&self) {
        self.refusals.sum_up(&self.peer, self.role());
    }

    /// Answers one message; every one with `ENODEV` once the device is unplugged. The reply, if one is wanted, is appended to `out`, which must be empty.
    ///
    /// # Errors
    /// [`Ending`] when the connection cannot go on; what a well-formed message asks wrongly is an error *reply*.
    pub fn handle(&mut self, message: Message<'_>, out: &mut Outbox) -> Result<(), Ending> {
        let header = message.header;
        if header.kind()? == Kind::Reply {
            return Err(Ending::UnexpectedReply);
        }
        if message.fds.len() > super::MAX_MSG_FDS {
            return Err(Ending::TooManyFds(message.fds.len()));
        }
        out.bytes.resize(HEADER_SIZE, 0);
        let reply = match self.dispatch(message, out) {
            Ok(()) => header.reply(out.bytes.len().saturating_sub(HEADER_SIZE)),
            Err(refused) => {
                self.refusals.add(&self.peer, self.role(), header.command, &refused);
                out.bytes.truncate(HEADER_SIZE);
                out.fds.clear();
                header.error(refused.errno)
            }
        };
        if header.no_reply() {
            out.clear();
        } else if let Some(slot) = out.bytes.get_mut(..HEADER_SIZE) {
            slot.copy_from_slice(reply.as_bytes());
        }
        Ok(())
    }

    fn dispatch(&mut self, message: Message<'_>, out: &mut Outbox) -> Result<(), Refused> {
        let Message { header, payload, fds } = message;
        self.device.lock().check_plugged()?;
        let command = Command::from_raw(header.command).ok_or(Errno::EOPNOTSUPP)?;
        let agreed = match (command, self.agreed) {
            (Command::Version, None) => {
                let agreement = self.negotiate(payload, out);
                self.is_over = agreement.is_err();
                return agreement;
            }
            (Command::Version, Some(_)) => {
                return Err(Refused::because(Errno::EINVAL, "the version is agreed on already"));
            }
            (_, None) => return Err(Refused::because(Errno::EINVAL, "expected the version first")),
            (_, Some(agreed)) => agreed,
        };
        match command {
            Command::GetInfo => self.get_info(payload, out)?,
            Command::GetRegionInfo => self.get_region_info(agreed, payload, out)?,
            Command::GetIrqInfo => self.get_irq_info(payload, out)?,
            Command::RegionRead => self.region_read(agreed, payload, out)?,
            Command::RegionWrite => self.region_write(agreed, payload, out)?,
            Command::QueryGfxPlane if agreed.extension => self.query_gfx_plane(payload, out)?,
            Command::GetGfxDmabuf if agreed.extension => self.get_gfx_dmabuf(agreed, payload, out)?,
            Command::PaceFlips if agreed.extension => self.pace_flips(payload, out)?,
            Command::DmaMap | Command::DmaUnmap | Command::Reset if agreed.role == Role::Console => {
                return Err(Refused::because(Errno::EPERM, "only the VMM may do this"));
            }
            Command::DmaMap => self.dma_map(payload, fds)?,
            Command::DmaUnmap => self.dma_unmap(payload, out)?,
            Command::SetIrqs => self.set_irqs(agreed, payload, fds)?,
            Command::Reset => self.device.lock().reset(),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        }
        Ok(())
    }

    fn negotiate(&mut self, payload: &[u8], out: &mut Outbox) -> Result<(), Refused> {
        let proposal = Version::parse(payload)?;
        let answer = proposal.answer();
        let extension = answer.capabilities.extension;
        let role = extension.map_or(Role::Vmm, |(_, role)| role);
        if role == Role::Vmm && !self.slot.take() {
            return Err(Refused::because(Errno::EBUSY, "another VMM is attached"));
        }
        self.agreed = Some(Agreed { role, extension: extension.is_some() });
        answer.encode(true, &mut out.bytes);
        debug!(?role, "attached");
        Ok(())
    }
}

/// The peer is gone: what it owned goes with it, the device's state stays for the next one.
impl Drop for Session {
    fn drop(&mut self) {
        if let Some(pacer) = self.pacer.take() {
            self.device.lock().stop_pacing(pacer);
        }
        if self.role() == Some(Role::Vmm) {
            let mut device = self.device.lock();
            device.irqs().disarm();
            device.unmap_all_guest_memory();
            drop(device);
            self.slot.release();
        }
    }
}
