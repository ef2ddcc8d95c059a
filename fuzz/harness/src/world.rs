//! One device, its VMM and two people who look at it, all at once.

mod line;
mod ram;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use qemu_shim::{Console, Frame, Refresh};
use rustix::event::{EventfdFlags, eventfd};
use vfio_gfx::abi::{Interface, PlaneKind};
use vfio_gfx::device::{Device, Interfaces, SharedDevice};
use vfio_gfx::display::{Display, DisplayError};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::PAGE_SIZE;
use vfio_gfx::plane::Source;
use vfio_gfx::vfio_user::{Command, DmaMap, DmaUnmap, RegionAccess, Role, VmmSlot};
use zerocopy::{FromBytes, IntoBytes};

use crate::gifts::Gifts;
use crate::ids::Ids;
use crate::input::Input;
use crate::messages::{message, state};
use crate::peer::{Peer, check_reusable};
use crate::refresh::check_viewer;
use crate::subject::{COMMIT, PLANE_REGISTERS, Subject, check_planes};

use line::Line;
use ram::Ram;

/// Operations per input.
const MAX_OPERATIONS: usize = 120;

/// `VFIO_PCI_MSI_IRQ_INDEX`, and how many interrupts [`Subject::own`] has there.
const MSI: u32 = 1;
const MSI_COUNT: usize = 4;

/// `VFIO_IRQ_SET_DATA_NONE`, `_DATA_EVENTFD`; `_ACTION_TRIGGER` (vfio.h)
const DATA_NONE: u32 = 1;
const DATA_EVENTFD: u32 = 4;
const ACTION_TRIGGER: u32 = 32;

/// Somebody who looks.
#[derive(Default)]
struct Seat {
    line: Line,
    console: Option<Console>,
    /// What a viewer has that repaints what it is told of.
    viewed: Frame,
}

struct World {
    device: SharedDevice,
    clock: Arc<AtomicU64>,
    slot: VmmSlot,
    vmm: Option<Peer>,
    seats: [Seat; 2],
    ram: Ram,
    ids: Ids,
    gifts: Gifts,
    /// What interrupts are delivered to, and which are armed.
    eventfd: OwnedFd,
    armed: [bool; MSI_COUNT],
}

/// A VMM that runs a guest, grants memory and takes it back, arms interrupts, resets, goes and comes again; its owner, who cuts that
/// memory short; and two consoles that look, send what they like, go and come again.
///
/// Oracle, after each operation: the VMM's place is taken when there is one; planes fit their memory and ids are never reissued
/// ([`crate::messages()`]); grants are what a list of them says, byte for byte, and end with the VMM, as the buffers made of them
/// do; an access to memory that was cut short is an error, and makes no file longer; an interrupt reaches its eventfd when it is
/// armed, and nobody when the VMM is gone; a console changes nothing, whatever it sends; it shows what the video memory has
/// as soon as it looks, a viewer that repaints what it is told of has the same picture, and one whose connection is gone shows
/// nothing stale. At the end all descriptors are closed and the next VMM can attach.
pub fn world(data: &[u8]) {
    let input = &mut Input::new(data);
    let interfaces = Interfaces::from_bits_truncate(input.byte());
    let Subject { device, clock } = Subject::own(interfaces);
    let mut world = World {
        device: SharedDevice::new(device),
        clock,
        slot: VmmSlot::default(),
        vmm: None,
        seats: Default::default(),
        ram: Ram::new(),
        ids: Ids::default(),
        gifts: Gifts::new(),
        eventfd: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap(),
        armed: [false; MSI_COUNT],
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

impl World {
    fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 20 {
            0 | 1 => self.set_mode(input),
            2 => {
                let register = 0x500 + 2 * u64::from(input.byte() % 11);
                self.guest_write(2, register, &input.any::<u16>().to_le_bytes());
            }
            3 => self.set_plane(input),
            4 => {
                let offset = u64::from(input.number());
                self.guest_write(0, offset, input.some_bytes(64));
            }
            5 | 6 => self.map(input),
            7 => self.unmap(input),
            8 => self.ram.resize(usize::from(input.byte() % 3), u64::from(input.byte() % 20)),
            9 => self.reach(input),
            10 => self.arm(input),
            11 => self.fire(input),
            12 => self.sit_or_stand(usize::from(input.byte() & 1)),
            13..=15 => self.look(usize::from(input.byte() & 1)),
            16 => self.vmm_comes_or_goes(),
            17 => {
                self.clock.fetch_add(u64::from(input.byte()) * 10, Ordering::Relaxed);
                self.device.lock().look_again();
            }
            18 => self.say(input),
            _ if input.byte() < 0x40 => {
                if let Some(vmm) = &mut self.vmm {
                    vmm.call(Command::Reset, &[]).unwrap();
                }
            }
            _ => self.say(input),
        }
    }

    /// What holds whatever happened.
    fn check(&mut self) {
        assert_eq!(self.slot.is_taken(), self.vmm.is_some());
        let mut device = self.device.lock();
        check_planes(&mut device, &mut self.ids);
        self.ram.check(&device);
    }

    fn end(mut self) {
        if self.vmm.is_some() {
            self.vmm_comes_or_goes();
        }
        drop(self.seats);
        self.gifts.check_released();
        check_reusable(&self.device, &self.slot);
    }

    /// The guest writes through its VMM; without one there is none.
    fn guest_write(&mut self, region: u32, offset: u64, data: &[u8]) {
        if let Some(vmm) = &mut self.vmm {
            let count = u32::try_from(data.len()).unwrap();
            let access = RegionAccess { offset, region, count };
            vmm.call(Command::RegionWrite, &[access.as_bytes(), data].concat());
        }
    }

    fn set_mode(&mut self, input: &mut Input<'_>) {
        // Small ones mostly: a console looks at all of it.
        let side = |input: &mut Input<'_>| if input.flag() { u16::from(input.byte()) } else { input.any() };
        let (width, height) = (side(input), side(input));
        for (register, value) in [(4, 0), (3, 32), (1, width), (2, height), (4, 0x81u16)] {
            self.guest_write(2, 0x500 + 2 * register, &value.to_le_bytes());
        }
    }

    fn set_plane(&mut self, input: &mut Input<'_>) {
        let plane = PLANE_REGISTERS + 0x40 * u64::from(input.byte() % 3);
        let format = input.pick(&[*b"XR24", *b"AR24", *b"RG16", *b"RG24", *b"NV12"]);
        let (width, height) = (u32::from(input.byte()), u32::from(input.byte()));
        let stride = width * 4 + u32::from(input.byte());
        let rest = [(); 6].map(|()| input.number());
        let start = input.number();
        let on = u32::from(!input.byte().is_multiple_of(4));
        let registers = [on, u32::from_le_bytes(format), start, 0, stride, width, height];
        for (n, value) in (0..).zip(registers.into_iter().chain(rest)) {
            self.guest_write(2, plane + 4 * n, &value.to_le_bytes());
        }
        self.guest_write(2, COMMIT, &[0; 4]);
    }

    fn map(&mut self, input: &mut Input<'_>) {
        let page = |input: &mut Input<'_>| match input.byte() {
            few @ 0..0xf0 => u64::from(few % 32) * PAGE_SIZE,
            0xf0..0xf8 => (u64::MAX - 0xffff).wrapping_add(u64::from(input.byte() % 20) * PAGE_SIZE),
            _ => input.number64(),
        };
        let (address, size, offset) = (page(input), page(input), page(input));
        let choice = input.byte();
        let flags = if choice < 0xe0 { 1 + u32::from(choice % 3) } else { input.number() };
        let which = usize::from(input.byte() % 4);
        let memory = (which < 3).then_some((which, offset));
        let Some(vmm) = &mut self.vmm else { return };
        let fds = memory.map(|(which, _)| self.ram.descriptor(which)).into_iter().collect();
        let request = DmaMap { argsz: 32, flags, offset, address, size };
        let accepted = vmm.call_with(Command::DmaMap, request.as_bytes(), fds).is_some();
        let expected = self.ram.map((address, size), flags, memory, offset);
        assert_eq!(accepted, expected, "{request:x?}");
    }

    fn unmap(&mut self, input: &mut Input<'_>) {
        let address = match input.byte() {
            choice @ 0..0x80 => self.ram.an_address(choice),
            few @ 0x80..0xf0 => u64::from(few % 32) * PAGE_SIZE,
            _ => input.number64(),
        };
        let size = u64::from(input.byte() % 32) * PAGE_SIZE;
        let all = input.byte() < 8;
        let Some(vmm) = &mut self.vmm else { return };
        let request = DmaUnmap { argsz: 24, flags: if all { 2 } else { 0 }, address, size };
        let reply = vmm.call(Command::DmaUnmap, request.as_bytes());
        let unmapped = reply.map(|reply| DmaUnmap::read_from_prefix(&reply).unwrap().0.size);
        let expected = if all { Some(self.ram.clear()) } else { self.ram.unmap(address, size) };
        assert_eq!(unmapped, expected, "{request:x?}");
    }

    /// The device reaches into its guest's memory.
    fn reach(&mut self, input: &mut Input<'_>) {
        let address = match input.byte() {
            choice @ 0..0xc0 => self.ram.an_address(choice).saturating_add(u64::from(input.any::<u16>())),
            _ => input.number64(),
        };
        let device = self.device.lock();
        match input.byte() % 3 {
            0 => self.ram.check_read(&device, address, usize::from(input.any::<u16>())),
            1 => self.ram.check_write(&device, address, input.some_bytes(255)),
            _ => {
                let pages = u64::from(input.byte() % 40);
                self.ram.check_buffer(&device, address & !(PAGE_SIZE - 1), pages * PAGE_SIZE);
            }
        }
    }

    fn arm(&mut self, input: &mut Input<'_>) {
        let start = usize::from(input.byte()) % MSI_COUNT;
        let count = 1 + usize::from(input.byte()) % (MSI_COUNT - start);
        let (takes_away, ends) = (input.flag(), input.byte() < 32);
        let Some(vmm) = &mut self.vmm else { return };
        let words = |data: u32, start: usize, count: usize| {
            [20, data | ACTION_TRIGGER, MSI, u32::try_from(start).unwrap(), u32::try_from(count).unwrap()]
        };
        if ends {
            vmm.call(Command::SetIrqs, words(DATA_NONE, 0, 0).as_bytes()).unwrap();
            self.armed = [false; MSI_COUNT];
            return;
        }
        let given = if takes_away { 0 } else { count };
        let fds = (0..given).map(|_| self.eventfd.try_clone().unwrap()).collect();
        vmm.call_with(Command::SetIrqs, words(DATA_EVENTFD, start, count).as_bytes(), fds).unwrap();
        self.armed[start..start + count].fill(!takes_away);
    }

    fn fire(&mut self, input: &mut Input<'_>) {
        let which = usize::from(input.byte()) % MSI_COUNT;
        self.device.lock().irqs().trigger(MSI, u32::try_from(which).unwrap());
        self.check_fired(u64::from(self.armed[which]));
    }

    /// How often interrupts were delivered since the last time.
    fn check_fired(&self, expected: u64) {
        let mut count = [0; 8];
        let read = rustix::io::read(&self.eventfd, &mut count).is_ok();
        assert_eq!(if read { u64::from_ne_bytes(count) } else { 0 }, expected, "interrupts");
    }

    fn vmm_comes_or_goes(&mut self) {
        if self.vmm.take().is_none() {
            let mut vmm = Peer::new(&self.device, &self.slot);
            assert!(vmm.negotiate(Role::Vmm));
            self.vmm = Some(vmm);
            return;
        }
        self.ram.clear();
        self.armed = [false; MSI_COUNT];
        let mut device = self.device.lock();
        for which in 0..4 {
            device.irqs().trigger(MSI, which);
        }
        assert!(
            device.guest_memory().read(self.ram.an_address(0), &mut [0]).is_err(),
            "a grant outlived its VMM"
        );
        assert_eq!(device.unmap_all_guest_memory(), 0, "grants outlived their VMM");
        drop(device);
        self.check_fired(0);
    }

    fn sit_or_stand(&mut self, which: usize) {
        let seat = &mut self.seats[which];
        let mut peer = seat.line.peer();
        if peer.take().is_some() {
            return;
        }
        let mut console = Peer::new(&self.device, &self.slot);
        assert!(console.negotiate(Role::Console));
        *peer = Some(console);
        drop(peer);
        let offers =
            [Interface::Region, Interface::Dmabuf].map(|interface| self.device.lock().probe(interface));
        match Display::open(Box::new(seat.line.clone())) {
            Ok(display) => seat.console = Some(Console::new(display)),
            Err(error) => assert!(
                matches!(error, DisplayError::NoInterface) && offers == [false; 2],
                "cannot open: {error}"
            ),
        }
        seat.viewed = Frame::default();
    }

    fn look(&mut self, which: usize) {
        let Seat { line, console, viewed } = &mut self.seats[which];
        let Some(console) = console else { return };
        let result = console.refresh();
        assert!(!matches!(result, Ok(Refresh::Torn)), "nobody flipped");
        check_viewer(console, viewed, result.is_ok_and(|refresh| refresh != Refresh::Off));
        if line.peer().is_none() {
            assert!(console.frame().is_empty(), "a picture without a connection");
            return;
        }
        check_picture(&mut self.device.lock(), console);
    }

    /// Anything well-framed, from anybody; what the model of this world does not follow is left out.
    fn say(&mut self, input: &mut Input<'_>) {
        let who = input.byte() % 4;
        let (header, payload) = message(input);
        let fds = self.gifts.some(input.byte() % 6);
        let bytes = [header.as_bytes(), &payload].concat();
        if who < 2 {
            let line = self.seats[usize::from(who)].line.clone();
            let mut peer = line.peer();
            let Some(console) = peer.as_mut() else { return };
            let access = RegionAccess::read_from_prefix(&payload).ok().map(|(access, _)| access);
            let before = state(&mut self.device.lock(), access);
            if console.receive(&bytes, fds, |_, _| {}).is_err() {
                *peer = None;
            }
            assert!(
                state(&mut self.device.lock(), access) == before,
                "a console changed something by {header:?}"
            );
            return;
        }
        let modelled = [Command::DmaMap, Command::DmaUnmap, Command::SetIrqs].map(Command::raw);
        if modelled.contains(&header.command) {
            return;
        }
        if let Some(vmm) = &mut self.vmm
            && vmm.receive(&bytes, fds, |_, _| {}).is_err()
        {
            self.vmm_comes_or_goes();
        }
    }
}

/// A console shows the primary plane, and the video memory has these pixels; the slow way, for the format in which that
/// is simple and where no other plane lies on it. Of a large picture a few rows.
fn check_picture(device: &mut Device, console: &Console) {
    let interface =
        [Interface::Region, Interface::Dmabuf].into_iter().find(|interface| device.probe(*interface));
    let Some(interface) = interface else { return };
    let planes = PlaneKind::ALL.map(|kind| (kind, device.query(interface, kind).unwrap()));
    let others = planes.iter().any(|(kind, plane)| *kind != PlaneKind::Primary && plane.is_some());
    let primary = planes.into_iter().find_map(|(kind, plane)| plane.filter(|_| kind == PlaneKind::Primary));
    let Some(plane) = primary else {
        return assert!(console.frame().is_empty(), "the screen is off");
    };
    if plane.format != Fourcc::XRGB8888 || others || console.frame().is_empty() {
        return;
    }
    let (width, height) = (plane.geometry.width(), plane.geometry.height());
    assert_eq!((console.frame().width(), console.frame().height()), (width, height));
    // Where the plane is in the video memory: the region says so, and a memfd too.
    let start = match plane.source {
        Source::Region { offset, .. } => offset,
        Source::Buffer { id, .. } => device.buffer(id, false).unwrap().offset,
    };
    let step = (height / 64).max(1);
    let mut row = vec![0; 4 * width as usize];
    for y in (0..height).step_by(step as usize) {
        device.vram().read(start + u64::from(y) * u64::from(plane.geometry.stride()), &mut row).unwrap();
        let shown = console.frame().row(y).unwrap();
        for (pixel, bytes) in shown.iter().zip(row.chunks_exact(4)) {
            assert_eq!(*pixel, u32::from_le_bytes(bytes.try_into().unwrap()) & 0xff_ffff, "row {y}");
        }
    }
}
