//! A device is unplugged while others use it, each from a thread of its own, in every order that the model checker tries.
//!
//! What runs here is the library itself. Only the lock of a shared device is another one: the model checker switches threads
//! at each use of it, and wherever a thread here says that pixels are being copied, which takes no lock.
#![cfg(shuttle)]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use shuttle::thread;
use vfio_gfx::abi::{Errno, PlaneKind};
use vfio_gfx::device::{
    Backing, ConfigSpace, Device, DeviceSpec, Identity, Interfaces, Model, Platform, Region, RegionTable,
    Scanout, SharedDevice,
};
use vfio_gfx::display::{Backend, Display, Local};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::Vram;
use vfio_gfx::plane::Geometry;
use vfio_gfx::vfio_user::{Command, DmaMap, Header, Message, Outbox, Role, Session, Version, VmmSlot};
use zerocopy::{FromBytes, IntoBytes};

/// Schedules of each test.
const SCHEDULES: usize = 1000;
/// Every byte that the guest draws. Zeros are never drawn.
const DRAWN: u8 = 7;
const VRAM_SIZE: u64 = 16 << 10;
const HEIGHT: u32 = 4;

/// A screen that is always on, in the page that its one register says.
struct Page(u8);

impl Model for Page {
    fn read(&mut self, _: u32, _: u64, data: &mut [u8], _: &Platform<'_>) {
        data.fill(self.0);
    }

    fn write(&mut self, _: u32, _: u64, data: &[u8], _: &Platform<'_>) {
        self.0 = data.first().map_or(0, |page| page % 4);
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        let geometry = Geometry::new(16, HEIGHT, 64, 4).unwrap();
        let plane = Scanout::primary(Fourcc::XRGB8888, geometry, u64::from(self.0) * 4096);
        (kind == PlaneKind::Primary).then_some(plane)
    }

    fn reset(&mut self, _: &Platform<'_>) {
        self.0 = 0;
    }
}

fn device(interfaces: Interfaces) -> SharedDevice {
    let identity =
        Identity { id: (0x1234, 0x5678), subsystem: (0, 0), class: (3, 0x80, 0), revision: 1, command: 3 };
    let config = ConfigSpace::new(identity).with_memory_bar(0, VRAM_SIZE, true).unwrap();
    let vram = Vram::new("model", VRAM_SIZE).unwrap();
    vram.fill(0, VRAM_SIZE, DRAWN);
    let spec = DeviceSpec {
        name: "model".into(),
        config: config.with_memory_bar(2, 4096, false).unwrap(),
        regions: RegionTable::new(
            9,
            vec![
                Region::new(0, VRAM_SIZE, 0x10_0000, Backing::Vram),
                Region::new(2, 4096, 0x1000, Backing::Trapped),
                Region::new(7, 256, 0, Backing::Config),
            ],
        ),
        display_region: 0,
        interfaces,
        irqs: Vec::new(),
        edid: None,
        events: true,
    };
    SharedDevice::new(Device::new(spec, Arc::new(vram), Box::new(Page(0))))
}

/// Unplugs. Nobody else runs between the end of it and the look at the memory: the lock is held.
fn unplug(device: &SharedDevice) {
    let mut device = device.lock();
    device.revoke().unwrap();
    assert_eq!(device.vram().allocated().unwrap(), 0);
}

/// A guest's CPU: flips, and draws into the memory that it has mapped, whatever has become of the device.
fn guest(device: &SharedDevice) {
    let vram = device.lock().vram().clone();
    for page in 0..3 {
        let flipped = device.lock().guest_write(2, 0, &[page]);
        let mut read = [0];
        let answered = device.lock().guest_read(2, 0, &mut read);
        assert!(answered.is_ok() || read == [0xff], "nobody answers on the bus");
        assert!(flipped.is_ok() || answered.is_err(), "once gone, gone for ever");
        vram.write(u64::from(page) * 4096, &[DRAWN; 64]).unwrap();
        thread::yield_now();
    }
}

/// A console: what it would show is what the guest drew.
fn console(device: &SharedDevice) {
    let Ok(mut display) = Display::open(Box::new(Local::new(device.clone()))) else { return };
    let mut is_gone = false;
    for _ in 0..3 {
        let mut frame = Vec::new();
        match display.pixels(PlaneKind::Primary) {
            Ok(Some(pixels)) => {
                for y in 0..HEIGHT {
                    let mut row = [0; 64];
                    pixels.read_row(y, &mut row).unwrap();
                    frame.extend(row);
                    thread::yield_now();
                }
            }
            Ok(None) => panic!("it is always on"),
            Err(error) => assert!(error.is_gone(), "{error}"),
        }
        match display.confirm() {
            Ok(()) => {
                assert!(!is_gone, "once gone, gone for ever");
                assert!(frame.iter().all(|byte| *byte == DRAWN), "zeros of a device that is gone were shown");
            }
            Err(error) => {
                assert!(error.is_gone(), "{error}");
                is_gone = true;
            }
        }
    }
}

fn together(device: &SharedDevice, parties: &[fn(&SharedDevice)]) {
    let start = |party: &fn(&SharedDevice)| {
        let (device, party) = (device.clone(), *party);
        thread::spawn(move || party(&device))
    };
    for thread in parties.iter().map(start).collect::<Vec<_>>() {
        thread.join().unwrap();
    }
}

/// At random, and with few switches in places that matter.
fn check(model: fn()) {
    shuttle::check_random(model, SCHEDULES);
    shuttle::check_pct(model, SCHEDULES, 3);
}

#[test]
fn zeros_of_a_device_that_is_gone_are_never_shown() {
    for interfaces in [|| device(Interfaces::REGION), || device(Interfaces::DMABUF)] {
        let model = move || together(&interfaces(), &[console, console, guest, unplug]);
        shuttle::check_random(model, SCHEDULES);
        shuttle::check_pct(model, SCHEDULES, 3);
    }
}

/// A client's questions, without a socket.
struct Client(Session);

impl Client {
    fn attach(device: &SharedDevice, role: Role) -> Result<Self, Errno> {
        let mut client = Self(Session::new(device.clone(), VmmSlot::default()));
        let mut proposal = Vec::new();
        Version::proposal(role).encode(false, &mut proposal);
        client.ask(Command::Version, &proposal, Vec::new()).map(|_| client)
    }

    fn ask(&mut self, command: Command, payload: &[u8], fds: Vec<OwnedFd>) -> Result<Vec<OwnedFd>, Errno> {
        let header = Header::command(1, command, payload.len());
        let mut out = Outbox::default();
        self.0.handle(Message { header, payload, fds }, &mut out).unwrap();
        let (reply, _) = Header::read_from_prefix(&out.bytes).unwrap();
        reply.reported_error().map_or(Ok(out.fds), Err)
    }
}

/// A VMM that grants memory and asks for the device's.
fn vmm(device: &SharedDevice) {
    let granted = Vram::new("guest", 4096).unwrap();
    let Ok(mut client) = Client::attach(device, Role::Vmm) else { return };
    let map = DmaMap { argsz: 32, flags: 3, offset: 0, address: 0, size: 4096 };
    let answers = [
        client.ask(Command::DmaMap, map.as_bytes(), vec![granted.file().try_clone().unwrap().into()]),
        client.ask(Command::GetRegionInfo, [32u32, 0, 0, 0, 0, 0, 0, 0].as_bytes(), Vec::new()),
        client.ask(Command::Reset, &[], Vec::new()),
    ];
    let gone = answers.iter().position(Result::is_err).unwrap_or(answers.len());
    assert!(answers[gone..].iter().all(|answer| matches!(answer, Err(Errno::ENODEV))), "{answers:?}");
    if device.lock().is_revoked() {
        // Attached still: what it granted is let go all the same.
        assert!(device.lock().guest_memory().buffer(&[(0, 4096)]).is_err(), "granted memory is kept");
    }
}

#[test]
fn nothing_is_granted_to_a_device_that_is_gone() {
    check(|| together(&device(Interfaces::all()), &[vmm, unplug]));
}

/// Somebody who sleeps until the device tells of a change.
fn sleeper(device: &SharedDevice) {
    let watch = Local::new(device.clone()).watch();
    while !device.lock().is_revoked() {
        thread::yield_now();
    }
    match watch {
        Ok(watch) => assert!(!watch.unwrap().wait(Duration::ZERO).unwrap().is_empty(), "it sleeps for ever"),
        Err(error) => assert!(error.is_gone(), "{error}"),
    }
}

#[test]
fn nobody_sleeps_for_ever() {
    check(|| together(&device(Interfaces::all()), &[sleeper, sleeper, unplug]));
}
