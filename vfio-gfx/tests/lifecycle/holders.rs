//! Who holds a device in this process when it is unplugged.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use vfio_gfx::abi::{
    DeviceIoctl, Errno, Interface, IrqAction, IrqData, IrqRequest, PlaneKind, PlaneRequest, pci_irq,
};
use vfio_gfx::device::{Device, DeviceError, SharedDevice};
use vfio_gfx::display::{Backend, Display, DisplayError, Local};
use vfio_gfx::memory::{BufferKind, DmaAccess, Mapping, Vram};
use vfio_gfx::vfio_user::{Role, VmmSlot};

use crate::party::Party;
use crate::subject::{CONFIG, EDID, FD_OFFSETS, REGISTERS, VRAM, VRAM_SIZE, device};

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn is_signalled(fd: &OwnedFd) -> bool {
    rustix::io::read(fd, &mut [0; 8]).is_ok()
}

fn revoked(device: &mut Device) {
    device.revoke().unwrap();
    device.revoke().expect("twice is harmless");
}

#[track_caller]
fn is_gone<T: std::fmt::Debug>(result: Result<T, DeviceError>) {
    assert!(matches!(result, Err(DeviceError::Revoked)), "{result:?}");
}

#[test]
fn every_operation_says_that_the_device_is_gone() {
    let device = &mut device(7);
    device.write(REGISTERS, 0, &[1, 0, 0, 0]).unwrap();
    let id = match device.query(Interface::Dmabuf, PlaneKind::Primary).unwrap().unwrap().source {
        vfio_gfx::plane::Source::Buffer { id, .. } => id,
        other => panic!("{other:?}"),
    };
    revoked(device);
    let mut byte = [1];
    for region in [VRAM, REGISTERS, CONFIG, EDID, 77] {
        is_gone(device.read(region, 0, &mut byte));
        is_gone(device.write(region, 0, &byte));
        is_gone(device.guest_write(region, 0, &byte));
        byte = [1];
        is_gone(device.guest_read(region, 0, &mut byte));
        assert_eq!(byte, [0xff], "nobody answers on the bus");
    }
    for (_, offset) in FD_OFFSETS {
        assert_eq!(device.fd_read(offset, &mut byte), Err(Errno::ENODEV));
        assert_eq!(device.fd_write(offset, &byte), Err(Errno::ENODEV));
        assert_eq!(device.fd_mmap(offset, 4096, true).unwrap_err(), Errno::ENODEV);
    }
    for interface in [Interface::Region, Interface::Dmabuf] {
        assert!(!device.probe(interface));
        for kind in PlaneKind::ALL {
            is_gone(device.query(interface, kind));
            is_gone(device.request(PlaneRequest::Query(interface, kind.raw())));
        }
        is_gone(device.request(PlaneRequest::Probe(interface)));
    }
    is_gone(device.buffer(id, true));
    for request in [
        DeviceIoctl::GetInfo,
        DeviceIoctl::GetRegionInfo,
        DeviceIoctl::GetIrqInfo,
        DeviceIoctl::SetIrqs,
        DeviceIoctl::Reset,
        DeviceIoctl::QueryGfxPlane,
        DeviceIoctl::GetGfxDmabuf,
        DeviceIoctl::Feature,
    ] {
        assert_eq!(device.ioctl(request.raw(), &mut [], vec![]).unwrap_err(), Errno::ENODEV);
    }
    assert_eq!(device.ioctl(0, &mut [], vec![]).unwrap_err(), Errno::ENODEV);
    device.reset();
    device.look_again();
    assert!(device.visible_edid().is_empty());
    assert_eq!(device.vram().allocated().unwrap(), 0, "and nothing of all that has touched its memory");
}

#[test]
fn memory_is_given_back_under_those_who_map_it() {
    let shared = SharedDevice::new(device(7));
    let vram = shared.lock().vram().clone();
    shared.lock().write(REGISTERS, 0, &[1, 0, 0, 0]).unwrap();
    let mut display = Display::open(Box::new(Local::new(shared.clone()))).unwrap();
    let mut row = [0; 4];
    let pixels = display.pixels(PlaneKind::Primary).unwrap().unwrap();
    pixels.read_row(0, &mut row).unwrap();
    assert_eq!(row, [7; 4]);
    let vmm = Mapping::new(vram.file().try_clone().unwrap().into(), BufferKind::Memfd, VRAM_SIZE).unwrap();
    assert_eq!(vram.allocated().unwrap(), VRAM_SIZE);
    revoked(&mut shared.lock());
    assert_eq!(vram.allocated().unwrap(), 0, "synchronously");
    // Both mappings are valid, and show nothing of what was there.
    pixels.read_row(1, &mut row).unwrap();
    assert_eq!(row, [0; 4]);
    drop(pixels);
    vmm.read(VRAM_SIZE - 4, &mut row).unwrap();
    assert_eq!(row, [0; 4]);
    // Nobody shows these zeros who asks first.
    assert!(display.confirm().unwrap_err().is_gone());
    assert!(display.pixels(PlaneKind::Primary).unwrap_err().is_gone());
    // A guest that draws on has pages of its own account, and no more of them than there were.
    vram.fill(0, u64::MAX, 9);
    assert_eq!(vram.allocated().unwrap(), VRAM_SIZE);
}

#[test]
fn a_console_in_this_process_is_told_by_whatever_it_asks() {
    let shared = SharedDevice::new(device(7));
    let mut local = Local::new(shared.clone());
    revoked(&mut shared.lock());
    let answers: [(&str, Result<(), DisplayError>); 9] = [
        ("device", local.device().map(drop)),
        ("region", local.region(VRAM).map(drop)),
        ("irq_count", local.irq_count(0).map(drop)),
        ("probe", local.probe(Interface::Region).map(drop)),
        ("query", local.query(Interface::Region, PlaneKind::Primary).map(drop)),
        ("watch", local.watch().map(drop)),
        ("map_region", local.map_region(VRAM).map(drop)),
        ("map_buffer", local.map_buffer(1).map(drop)),
        ("read", local.read(EDID, 0, &mut [0])),
    ];
    for (what, answer) in answers {
        assert!(matches!(&answer, Err(error) if error.is_gone()), "{what}: {answer:?}");
    }
    assert!(Display::open(Box::new(local)).unwrap_err().is_gone());
}

#[test]
fn whoever_sleeps_is_woken_and_interrupts_end() {
    let shared = SharedDevice::new(device(7));
    let mut display = Display::open(Box::new(Local::new(shared.clone()))).unwrap();
    let watch = display.backend().watch().unwrap().unwrap();
    let slot = VmmSlot::default();
    let mut vmm = Party::attach(&shared, &slot, Role::Vmm).unwrap();
    let msi = event();
    let arm = IrqRequest {
        index: pci_irq::MSI,
        start: 0,
        count: 1,
        data: IrqData::Eventfd,
        action: IrqAction::Trigger,
    };
    shared.lock().irqs().set(arm, &[], vec![msi.try_clone().unwrap()]).unwrap();
    shared.lock().irqs().trigger(pci_irq::MSI, 0);
    assert!(is_signalled(&msi));
    let sleeper = std::thread::spawn(move || watch.wait(Duration::from_secs(60)).unwrap());
    std::thread::sleep(Duration::from_millis(20));
    revoked(&mut shared.lock());
    assert!(!sleeper.join().unwrap().is_empty(), "woken long before the minute is over");
    shared.lock().irqs().trigger(pci_irq::MSI, 0);
    assert!(!is_signalled(&msi));
    assert_eq!(vmm.set_row(1), Err(Errno::ENODEV));
    // Nobody can attach either, and the VMM's going is ordinary.
    assert_eq!(Party::attach(&shared, &VmmSlot::default(), Role::Vmm).err(), Some(Errno::ENODEV));
    assert_eq!(Party::attach(&shared, &slot, Role::Console).err(), Some(Errno::ENODEV));
    drop(vmm);
    assert!(!slot.is_taken());
}

#[test]
fn guest_memory_is_let_go() {
    let mut device = device(7);
    let guest = Vram::new("guest", 1 << 20).unwrap();
    let file = || (OwnedFd::from(guest.file().try_clone().unwrap()), 0);
    device.guest_memory().map(0, 1 << 20, DmaAccess::all(), Some(file())).unwrap();
    let buffer = device.guest_memory().buffer(&[(0, 4096)]).unwrap();
    let open = || {
        let inode = rustix::fs::fstat(guest.file()).unwrap().st_ino;
        let is_it = |path: std::path::PathBuf| {
            File::open(path).is_ok_and(|file| rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_ino == inode))
        };
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .filter(|entry| is_it(entry.as_ref().unwrap().path()))
            .count()
    };
    assert_eq!(open(), 2, "the guest's own and the device's");
    revoked(&mut device);
    assert_eq!(open(), 1);
    assert!(device.guest_memory().buffer_size(buffer).is_none());
}

#[test]
fn a_device_asks_back_whoever_wants_to_be_asked() {
    let shared = SharedDevice::new(device(7));
    let slot = VmmSlot::default();
    assert!(!shared.lock().request_release(), "nobody is there");
    let mut vmm = Party::attach(&shared, &slot, Role::Vmm).unwrap();
    assert!(!shared.lock().request_release(), "it did not arm the interrupt");
    let request = event();
    vmm.arm(request.try_clone().unwrap()).unwrap();
    assert!(shared.lock().request_release() && is_signalled(&request));
    assert!(shared.lock().request_release() && is_signalled(&request), "again");
    drop(vmm);
    assert!(!shared.lock().request_release() && !is_signalled(&request));
    // The kernel's sample drivers have no such interrupt, and neither has a device that nobody will take away.
    let mut console = Party::attach(&shared, &slot, Role::Console).unwrap();
    assert_eq!(console.arm(event()), Err(Errno::EPERM));
}
