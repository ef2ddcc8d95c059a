//! One device, its VMM and two people who look at it, all at once; and the next device, when it is unplugged.

mod bell;
mod dma;
mod flips;
mod guest;
mod line;
mod picture;
mod plug;
mod ram;
mod seat;
mod talk;
mod wires;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vfio_gfx::device::{Interfaces, SharedDevice};
use vfio_gfx::vfio_user::{Command, Role, VmmSlot};

use crate::gifts::Gifts;
use crate::ids::Ids;
use crate::input::Input;
use crate::peer::{Peer, check_reusable};
use crate::subject::{Subject, check_planes};

use flips::{Flips, Party};
use guest::Guest;
use picture::Copies;
use plug::Gone;
use ram::Ram;
use seat::Seat;
use wires::Wires;

/// Operations per input.
const MAX_OPERATIONS: usize = 120;

struct World {
    interfaces: Interfaces,
    device: SharedDevice,
    /// Milliseconds, of everything here.
    clock: Arc<AtomicU64>,
    slot: VmmSlot,
    vmm: Option<Peer>,
    seats: [Seat; 2],
    ram: Ram,
    ids: Ids,
    gifts: Gifts,
    wires: Wires,
    guest: Guest,
    flips: Flips,
    copies: Copies,
    is_unplugged: bool,
    /// How many devices there were before this one.
    generation: u32,
    /// The one before, if its VMM still holds it.
    gone: Option<Gone>,
}

/// A VMM that runs a guest, grants memory and takes it back, arms interrupts, resets, goes and comes again; its owner, who cuts that
/// memory short; two consoles that look, pace flips, send messages, go and come again; whoever unplugs the device and plugs in another.
///
/// Oracle, after each operation: the VMM's place is taken when there is one; planes fit their memory and ids are never reissued
/// ([`crate::messages()`]); grants are what a list of them says, byte for byte, and end with the VMM, as the buffers made of them
/// do, and no descriptor of that memory is kept; an access to memory that was cut short is an error, and makes no file longer; an
/// interrupt reaches its eventfd when it is armed, and nobody when the VMM is gone; the eventfd is closed then.
///
/// Every flip ends once, in its time and for the reason that a model of them says: registers, interrupts and what consoles are told of
/// flips and link are exactly the model's. A console that looks keeps up.
///
/// A console changes nothing, whatever it sends; it shows what the video memory has as soon as it looks, and of guest memory what was
/// there when somebody first asked for the frame; it never gets that memory's descriptor. A viewer that repaints what it is told of has
/// the same picture, and one whose connection or device is gone shows nothing stale.
///
/// A device that was unplugged answers `ENODEV` to whatever anybody asks it, for ever. It has no memory left, neither its own nor
/// anybody else's, and no eventfd; whoever still has its video memory, or a copy of a frame, reads zeros. Consoles go on with the next.
/// At the end all descriptors are closed and the next VMM can attach.
pub fn world(data: &[u8]) {
    let input = &mut Input::new(data);
    let interfaces = Interfaces::from_bits_truncate(input.byte());
    let clock = Arc::default();
    let mut world = World {
        interfaces,
        device: device(interfaces, &clock),
        clock,
        slot: VmmSlot::default(),
        vmm: None,
        seats: Default::default(),
        ram: Ram::new(),
        ids: Ids::default(),
        gifts: Gifts::new(),
        wires: Wires::default(),
        guest: Guest::default(),
        flips: Flips::default(),
        copies: Copies::default(),
        is_unplugged: false,
        generation: 0,
        gone: None,
    };
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        world.step(input);
        world.check();
    }
    world.end();
}

/// A device that can be asked back, and whose time is ours.
fn device(interfaces: Interfaces, clock: &Arc<AtomicU64>) -> SharedDevice {
    let mut device = Subject::own_at(interfaces, Arc::clone(clock)).device;
    device.offer_release_request();
    SharedDevice::new(device)
}

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        if self.is_unplugged {
            return self.step_unplugged(input);
        }
        match input.byte() % 28 {
            0 => self.set_mode(input),
            1 => self.set_base(input),
            2..=4 => self.set_plane(input),
            5 => self.commit(),
            6 => self.set_interrupts(input),
            7 => self.draw(input),
            8 | 9 => self.map(input),
            10 => self.unmap(input),
            11 => self.ram.resize(usize::from(input.byte() % 3), u64::from(input.byte() % 20)),
            12 => self.reach(input),
            13 => self.arm(input),
            14 => self.fire(input),
            15 => self.sit_or_stand(input),
            16..=18 => self.look(usize::from(input.byte() & 1)),
            19 => self.vmm_comes_or_goes(),
            20 | 21 => self.pass_time(input),
            22 | 23 => self.say(input),
            24 | 25 => self.pace(input),
            26 => self.ask_back(),
            _ => match input.byte() {
                0..0x40 => self.reset(),
                0x40..0xa0 => self.unplug(input),
                _ => self.say(input),
            },
        }
    }

    /// What holds whatever happened.
    fn check(&mut self) {
        if self.is_unplugged {
            return self.check_unplugged();
        }
        assert_eq!(self.slot.is_taken(), self.vmm.is_some());
        let mut device = self.device.lock();
        check_planes(&mut device, &mut self.ids);
        self.ram.check(&device);
        self.flips.check(&mut device);
        self.guest.check(&mut device, &self.ram);
        drop(device);
        self.wires.check_msi(self.flips.take_raised());
    }

    fn end(mut self) {
        if self.is_unplugged {
            self.plug();
        }
        if self.vmm.is_some() {
            self.vmm_comes_or_goes();
        }
        drop((self.seats, self.gone));
        self.gifts.check_released();
        check_reusable(&self.device, &self.slot);
    }

    fn pass_time(&mut self, input: &mut Input<'_>) {
        let time = match input.byte() {
            short @ 0..0xa0 => u64::from(short),
            long => u64::from(long) * 10,
        };
        self.clock.fetch_add(time, Ordering::Relaxed);
        self.flips.pass(time);
        let mut device = self.device.lock();
        if input.flag() {
            // As a server's timer has it; else a guest's access finds out.
            device.look_again();
        }
    }

    fn reset(&mut self) {
        if let Some(vmm) = &mut self.vmm {
            vmm.call(Command::Reset, &[]).unwrap();
            self.flips.reset();
            self.guest.reset();
            (0..3).for_each(|plane| self.ram.show(plane, None));
        }
    }

    fn vmm_comes_or_goes(&mut self) {
        if self.vmm.take().is_none() {
            let mut vmm = Peer::new(&self.device, &self.slot);
            assert!(vmm.negotiate(Role::Vmm));
            self.vmm = Some(vmm);
            return;
        }
        // Nobody is waited for any more before interrupts are taken away.
        self.flips.leave(Party::Vmm);
        self.wires.check_msi(self.flips.take_raised());
        self.wires.cut(&self.device);
        self.ram.clear();
        self.memory_was_taken_back();
        let mut device = self.device.lock();
        assert!(
            device.guest_memory().read(self.ram.an_address(0), &mut [0]).is_err(),
            "a grant outlived its VMM"
        );
        assert_eq!(device.unmap_all_guest_memory(), 0, "grants outlived their VMM");
    }
}
