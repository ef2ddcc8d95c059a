//! The device is unplugged under everybody who holds it, and another plugged in.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::fstat;
use vfio_gfx::abi::{Errno, Interface, PlaneKind, PlaneRequest};
use vfio_gfx::device::{DeviceError, SharedDevice};
use vfio_gfx::memory::Vram;
use vfio_gfx::vfio_user::{Command, HEADER_SIZE, Header, Role, VmmSlot};
use zerocopy::IntoBytes;

use super::flips::Flips;
use super::picture::Copies;
use super::{World, device};
use crate::ids::Ids;
use crate::input::Input;
use crate::peer::{Peer, read_header};

/// A device that was unplugged, and its VMM, which is told so whatever it asks.
pub(super) struct Gone {
    device: SharedDevice,
    slot: VmmSlot,
    vmm: Option<Peer>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let had_vmm = self.vmm.take().is_some();
        if had_vmm && !std::thread::panicking() {
            assert!(!self.slot.is_taken(), "the VMM of a device that is gone has its place");
            assert!(self.device.lock().is_revoked());
        }
    }
}

/// One question of each kind, with the bytes of its payload as far as they are not zero.
const QUESTIONS: [(Command, &[u32], usize); 14] = [
    (Command::GetInfo, &[16], 16),
    (Command::GetRegionInfo, &[32, 0, 9], 32),
    (Command::GetIrqInfo, &[16, 0, 1], 16),
    (Command::SetIrqs, &[20, 33, 1, 0, 0], 20),
    (Command::SetIrqs, &[20, 33, 5, 0, 0], 20),
    (Command::RegionRead, &[0, 0, 0, 4], 16),
    (Command::RegionRead, &[0, 0, 9, 4], 16),
    (Command::RegionWrite, &[0x808, 0, 2, 4], 20),
    (Command::RegionWrite, &[0, 0, 9, 4], 20),
    (Command::DmaMap, &[32, 3, 0, 0, 0, 0, 4096], 32),
    (Command::DmaUnmap, &[24, 2], 24),
    (Command::QueryGfxPlane, &[64, 2, 1], 64),
    (Command::GetGfxDmabuf, &[1], 8),
    (Command::PaceFlips, &[1], 16),
];

/// Asks everything; every answer is `ENODEV`.
fn check_answers(peer: &mut Peer) {
    for (command, words, len) in QUESTIONS {
        let mut payload = words.as_bytes().to_vec();
        payload.resize(len, 0);
        let mut answer = None;
        let sent = peer.send(command, &payload, Vec::new(), |out| answer = read_header(out).reported_error());
        assert_eq!(
            (sent.is_ok(), answer),
            (true, Some(Errno::ENODEV)),
            "{command:?} after the device has gone"
        );
    }
}

impl World {
    /// Takes the device away. What anybody had of it is gone when that returns.
    pub(super) fn unplug(&mut self, input: &mut Input<'_>) {
        let consoles_go = input.byte();
        self.wires.check_msi(self.flips.take_raised());
        let (vram, given) = self.memory();
        self.device.lock().revoke().unwrap();
        self.device.lock().revoke().unwrap();
        self.is_unplugged = true;
        self.wires.cut(&self.device);
        assert_eq!(vram.allocated().unwrap(), 0, "video memory of a device that is gone");
        for fd in &given {
            assert_eq!(fstat(fd).unwrap().st_blocks, 0, "memory that consoles were given");
        }
        drop(given);
        self.ram.clear();
        self.ram.check_descriptors();
        // As in a server, or a little later.
        for (which, seat) in self.seats.iter().enumerate() {
            if consoles_go >> which & 1 != 0 {
                seat.line.wire().peer = None;
            }
        }
        self.check_answers();
    }

    /// The video memory, and every memfd that a console was given and that is the device's still: of a frame that was flipped away
    /// the copy is whose it was given to.
    fn memory(&self) -> (Arc<Vram>, Vec<OwnedFd>) {
        let mut device = self.device.lock();
        let seats = self.seats.iter().filter(|seat| seat.is_at(self.generation));
        let mut given: Vec<_> = seats.flat_map(|seat| std::mem::take(&mut seat.line.wire().given)).collect();
        given.retain(|(id, _)| id.is_none_or(|id| device.buffer(id, true).is_ok()));
        (Arc::clone(device.vram()), given.into_iter().map(|(_, fd)| fd).collect())
    }

    fn check_answers(&mut self) {
        self.vmm.iter_mut().for_each(check_answers);
        for seat in &self.seats {
            seat.line.wire().peer.iter_mut().for_each(check_answers);
        }
    }

    pub(super) fn step_unplugged(&mut self, input: &mut Input<'_>) {
        match input.byte() % 6 {
            0 | 1 => self.look(usize::from(input.byte() & 1)),
            2 => self.say(input),
            3 => self.check_answers(),
            4 => {
                self.vmm = None;
                assert!(!self.slot.is_taken());
            }
            _ => self.plug(),
        }
    }

    /// What holds of a device that is gone, whatever is done to it.
    pub(super) fn check_unplugged(&mut self) {
        assert_eq!(self.slot.is_taken(), self.vmm.is_some());
        for role in [Role::Vmm, Role::Console] {
            assert!(!Peer::new(&self.device, &self.slot).negotiate(role), "somebody attached");
        }
        let mut device = self.device.lock();
        assert!(device.is_revoked() && !device.request_release() && device.visible_edid().is_empty());
        let mut data = [0; 4];
        for region in [0, 2, 7, 9] {
            assert!(matches!(device.guest_read(region, 0, &mut data), Err(DeviceError::Revoked)));
            assert_eq!(data, [0xff; 4], "nobody answers on the bus");
            assert!(matches!(device.read(region, 0, &mut data), Err(DeviceError::Revoked)));
            assert!(matches!(device.guest_write(region, 0, &data), Err(DeviceError::Revoked)));
            assert!(matches!(device.write(region, 0, &data), Err(DeviceError::Revoked)));
        }
        for interface in [Interface::Region, Interface::Dmabuf] {
            assert!(!device.probe(interface));
            assert!(matches!(device.request(PlaneRequest::Probe(interface)), Err(DeviceError::Revoked)));
            for kind in PlaneKind::ALL {
                assert!(matches!(device.query(interface, kind), Err(DeviceError::Revoked)));
            }
        }
        for id in 0..4 {
            assert!(matches!(device.buffer(id, true), Err(DeviceError::Revoked)));
        }
        assert!(device.pace("nobody").is_none());
        device.reset();
        device.look_again();
        assert_eq!(device.guest_memory().ended_buffers(), 0, "guest memory of a device that is gone");
        drop(device);
        self.wires.check_msi(0);
    }

    /// Another device in the place of the one that was unplugged. Whoever has that still has it.
    pub(super) fn plug(&mut self) {
        let next = device(self.interfaces, &self.clock);
        let now = self.clock.load(Ordering::Relaxed);
        self.gone = Some(Gone {
            device: std::mem::replace(&mut self.device, next),
            slot: std::mem::take(&mut self.slot),
            vmm: self.vmm.take(),
        });
        (self.ids, self.flips) = (Ids::default(), Flips::from(now));
        self.guest.reset();
        self.copies = Copies::default();
        self.ram.replug();
        self.generation += 1;
        self.is_unplugged = false;
    }

    /// The VMM of a device that is gone says something. Returns whether there is one.
    pub(super) fn talk_to_the_dead(&mut self, bytes: &[u8], header: &Header) -> bool {
        let Some(gone) = &mut self.gone else { return false };
        let Some(vmm) = &mut gone.vmm else { return false };
        let mut answers = Vec::new();
        let ended = vmm.receive(bytes, Vec::new(), |_, out| answers.push(out.bytes.clone())).is_err();
        if ended {
            self.gone = None;
        } else if !header.no_reply() {
            assert!(answers.iter().all(|answer| answer.len() == HEADER_SIZE), "an answer that is no error");
        }
        true
    }
}
