//! One VMM owns the device; any number of consoles look at it and can do no more.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::mm::{MapFlags, ProtFlags};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

use vfio_gfx::abi::pci_irq;

use crate::fixture::{
    CONFIG, EDID, ENABLE, MARK, MARK_AT, REGISTERS, ROW, SCRATCH, STRIDE, Served, VRAM, VRAM_SIZE,
    check_console, check_vmm,
};
use crate::hostile::{EBUSY, EPERM};
use crate::peer::{
    CONSOLE, DMA_MAP, DMA_UNMAP, GET_GFX_DMABUF, GET_REGION_INFO, Peer, QUERY_GFX_PLANE, REGION_READ,
    REGION_WRITE, RESET, SET_IRQS, VERSION, VMM, access, message, region_info, u32_at, u64_at, version,
    words, write_payload,
};

/// `struct vfio_device_gfx_plane_info`, 64 bytes.
fn plane_query(flags: u32, plane_type: u32) -> Vec<u8> {
    words(&[[64, flags, plane_type].as_slice(), &[0; 13]].concat())
}

fn map(fd: &OwnedFd, prot: ProtFlags) -> Result<MmapRegion, MmapRegionError> {
    let file = FileOffset::new(File::from(fd.try_clone().unwrap()), 0);
    let flags = MapFlags::SHARED.bits().cast_signed();
    MmapRegion::build(Some(file), usize::try_from(VRAM_SIZE).unwrap(), prot.bits().cast_signed(), flags)
}

#[test]
fn one_vmm_at_a_time() {
    let served = Served::new();
    let mut first = served.vmm();
    first.write(REGISTERS, SCRATCH, b"kept");
    for _ in 0..3 {
        let mut second = served.peer();
        assert_eq!(second.ask(VERSION, &version(VMM)).refusal(), EBUSY);
        assert!(second.reply().is_none(), "who waits for more must not wait for ever");
    }
    check_vmm(&mut first);
    first.write(REGISTERS, SCRATCH, b"kept");
    // Gone without a word, as after kill -9.
    drop(first);
    let mut second = served.vmm();
    assert_eq!(second.read(REGISTERS, SCRATCH, 4), b"kept", "the device keeps its registers");
    assert_eq!(served.peer().ask(VERSION, &version(VMM)).refusal(), EBUSY);
}

#[test]
fn a_stranger_that_goes_takes_nobodys_place() {
    let served = Served::new();
    let mut vmm = served.vmm();
    drop(served.peer());
    drop(served.console());
    let mut refused = served.peer();
    assert_eq!(refused.ask(VERSION, &version(VMM)).refusal(), EBUSY);
    drop(refused);
    assert_eq!(served.peer().ask(VERSION, &version(VMM)).refusal(), EBUSY);
    check_vmm(&mut vmm);
}

/// The one that is gone is noticed before what the next one asks, whichever of them had connected first.
#[test]
fn a_vmm_that_is_gone_has_made_room_for_the_one_that_waits() {
    let served = Served::new();
    for _ in 0..20 {
        let mut next = served.peer();
        let (first, mut console) = (served.vmm(), served.console());
        // While the device is locked the server answers this console and sees nothing else.
        let device = served.device.clone();
        let held = device.lock();
        assert!(console.send(&message(1, REGION_READ, 0, &access(VRAM, 0, 4)), &[]));
        std::thread::sleep(Duration::from_millis(20));
        drop(first);
        assert!(next.send(&message(1, VERSION, 0, &version(VMM)), &[]));
        drop(held);
        assert_eq!(next.reply().unwrap().refusal(), 0);
        assert_eq!(console.reply().unwrap().refusal(), 0);
    }
}

#[test]
fn vmms_that_come_and_go_are_all_served() {
    let served = Served::new();
    for _ in 0..200 {
        check_vmm(&mut served.vmm());
    }
}

#[test]
fn interrupts_end_with_their_vmm() {
    let served = Served::new();
    let armed = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let fired = |fd: &OwnedFd| rustix::io::read(fd, &mut [0u8; 8]).is_ok();
    let fire = || served.device.lock().irqs().trigger(pci_irq::MSI, 0);
    let arm = words(&[20, 0x24, pci_irq::MSI, 0, 1]);
    let (first, second) = (armed(), armed());

    let mut vmm = served.vmm();
    fire();
    vmm.ask_with(SET_IRQS, &arm, &[&first]).ok();
    assert!(!fired(&first), "an interrupt from before is lost");
    fire();
    assert!(fired(&first));
    // Masked it waits, and a null write of the VMM's own makes it fire too (VFIO's loopback).
    vmm.ask(SET_IRQS, &words(&[20, 0x09, pci_irq::MSI, 0, 1])).ok();
    fire();
    assert!(!fired(&first));
    vmm.ask(SET_IRQS, &words(&[20, 0x11, pci_irq::MSI, 0, 1])).ok();
    assert!(fired(&first));
    vmm.ask(SET_IRQS, &words(&[20, 0x21, pci_irq::MSI, 0, 1])).ok();
    assert!(fired(&first));
    drop(vmm);

    let mut next = served.vmm();
    fire();
    assert!(!fired(&first), "the eventfd went with its VMM");
    next.ask_with(SET_IRQS, &arm, &[&second]).ok();
    fire();
    assert!(fired(&second) && !fired(&first));
    // EVENTFD without a descriptor takes it away; so does a count of 0.
    next.ask(SET_IRQS, &arm).ok();
    fire();
    assert!(!fired(&second));
    next.ask_with(SET_IRQS, &arm, &[&second]).ok();
    next.ask(SET_IRQS, &words(&[20, 0x21, pci_irq::MSI, 0, 0])).ok();
    fire();
    assert!(!fired(&second));
}

#[test]
fn consoles_own_nothing() {
    let served = Served::new();
    let mut vmm = served.vmm();
    vmm.write(REGISTERS, SCRATCH, b"mine");
    let mut console = served.console();
    let dma = [words(&[32, 3]), vec![0; 24]].concat();
    for (command, payload) in [
        (DMA_MAP, dma.clone()),
        (DMA_UNMAP, dma),
        (SET_IRQS, words(&[20, 0x21, pci_irq::MSI, 0, 0])),
        (RESET, vec![]),
        (REGION_WRITE, write_payload(VRAM, 0, b"x")),
        (REGION_WRITE, write_payload(REGISTERS, 0, b"x")),
        (REGION_WRITE, write_payload(CONFIG, 4, b"x")),
        (REGION_WRITE, write_payload(1, 0, b"x")),
        (REGION_READ, access(REGISTERS, 0, 4)),
    ] {
        assert_eq!(console.ask(command, &payload).refusal(), EPERM, "{command} {payload:?}");
    }
    assert_eq!(vmm.read(REGISTERS, SCRATCH, 4), b"mine");
    assert_eq!(vmm.read(VRAM, 0, 1), [0]);
    check_console(&mut console);
    assert_eq!(console.read(CONFIG, 0, 4), [0x34, 0x12, 0x78, 0x56]);
}

#[test]
fn a_console_sees_the_plane_and_its_pixels() {
    let served = Served::new();
    let mut vmm = served.vmm();
    let mut consoles = [served.console(), served.console(), served.console()];
    for console in &mut consoles {
        let off = console.ask(QUERY_GFX_PLANE, &plane_query(4, 1)).ok();
        assert_eq!((off.len(), &off[12..]), (72, &[0; 60][..]), "off is all zero");
    }
    vmm.write(REGISTERS, ROW, &10u32.to_le_bytes());
    vmm.write(REGISTERS, ENABLE, &1u32.to_le_bytes());
    let start = u64::from(STRIDE) * 10;
    vmm.write(VRAM, start, b"pixel");
    for console in &mut consoles {
        for (flags, handle, place) in [(4, VRAM, start), (2, 1, start)] {
            let plane = console.ask(QUERY_GFX_PLANE, &plane_query(flags, 1)).ok();
            assert_eq!(plane[12..16], *b"XR24");
            let words: Vec<u32> = [24, 28, 32, 36, 48, 52, 56].map(|at| u32_at(&plane, at)).into();
            // 48 rows of 320 bytes from byte 3200 of their first page, in whole pages.
            assert_eq!(words, [64, 48, 320, 0x5000, u32::MAX, u32::MAX, handle]);
            assert_eq!(u64_at(&plane, 64), place);
        }
        let buffer = console.ask(GET_GFX_DMABUF, &words(&[1, 0]));
        assert_eq!(buffer.fds.len(), 1);
        let (fd, place) = (File::from(buffer.fds[0].try_clone().unwrap()), u64_at(&buffer.payload, 8));
        let mut pixel = [0; 5];
        fd.read_exact_at(&mut pixel, place).unwrap();
        assert_eq!(&pixel, b"pixel");
        for probe in [3, 5] {
            assert_eq!(console.ask(QUERY_GFX_PLANE, &plane_query(probe, 1)).refusal(), 0);
        }
    }
}

/// A VMM without the extension is not told of it, and cannot use it.
#[test]
fn a_stock_vmm_meets_no_extension() {
    let served = Served::new();
    let mut vmm = served.peer();
    let reply = vmm.ask(VERSION, &version(VMM)).ok();
    assert!(!String::from_utf8_lossy(&reply).contains("vfio_gfx"));
    for (command, payload) in [(QUERY_GFX_PLANE, plane_query(5, 0)), (GET_GFX_DMABUF, words(&[1, 0]))] {
        assert_eq!(vmm.ask(command, &payload).refusal(), crate::hostile::EOPNOTSUPP, "{command:#x}");
    }
    let mut both = served.peer();
    drop(vmm);
    let json = r#"{"capabilities":{"vfio_gfx":{"version":9,"role":"vmm"}}}"#;
    let reply = both.ask(VERSION, &version(json)).ok();
    assert!(reply.ends_with(b"{\"capabilities\":{\"vfio_gfx\":{\"version\":1}}}\0"), "{reply:?}");
    both.ask(QUERY_GFX_PLANE, &plane_query(5, 0)).ok();
    check_vmm(&mut both);
}

#[test]
fn what_a_console_holds_cannot_be_written() {
    let served = Served::new();
    served.vmm().write(REGISTERS, ENABLE, &1u32.to_le_bytes());
    let mut console = served.console();
    let region = console.ask(GET_REGION_INFO, &region_info(VRAM, 32)).fds.pop().unwrap();
    console.ask(QUERY_GFX_PLANE, &plane_query(2, 1)).ok();
    let reply = console.ask(GET_GFX_DMABUF, &words(&[1, 0]));
    let is_memfd = u32_at(&reply.payload, 4) == 2;
    let buffer = reply.fds.into_iter().next().unwrap();
    for fd in [region].into_iter().chain(is_memfd.then_some(buffer)) {
        let file = File::from(fd.try_clone().unwrap());
        assert!(file.write_at(b"x", 0).is_err() && file.set_len(0).is_err());
        // Nor by another user who opens it anew through /proc/self/fd.
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
        assert!(map(&fd, ProtFlags::READ | ProtFlags::WRITE).is_err());
        let mapped = map(&fd, ProtFlags::READ).unwrap();
        let mut mark = [0; 16];
        mapped.as_volatile_slice().read_slice(&mut mark, usize::try_from(MARK_AT).unwrap()).unwrap();
        assert_eq!(&mark, MARK);
    }
}

#[test]
fn a_vmm_maps_what_consoles_see() {
    let served = Served::new();
    let mut vmm = served.vmm();
    let fd = vmm.ask(GET_REGION_INFO, &region_info(VRAM, 32)).fds.pop().unwrap();
    let mapped = map(&fd, ProtFlags::READ | ProtFlags::WRITE).unwrap();
    mapped.as_volatile_slice().write_slice(b"drawn", 4096).unwrap();
    assert_eq!(served.console().read(VRAM, 4096, 5), b"drawn");
    // The guest's memory outlives the connection, and even the server.
    drop(vmm);
    let mut console = served.console();
    mapped.as_volatile_slice().write_slice(b"still", 4096).unwrap();
    assert_eq!(console.read(VRAM, 4096, 5), b"still");
    drop(served);
    mapped.as_volatile_slice().write_slice(b"alone", 4096).unwrap();
}

/// vfio.h: link down, size and blob, link up.
#[test]
fn consoles_may_change_the_monitor() {
    let served = Served::new();
    let mut console = served.console();
    console.write(EDID, 0x14, &words(&[2]));
    assert_eq!(served.device.lock().visible_edid(), [0; 0]);
    console.write(EDID, 0x08, &words(&[256]));
    console.write(EDID, 0x800, &[7; 256]);
    console.write(EDID, 0x14, &words(&[1]));
    assert_eq!(served.device.lock().visible_edid(), [7; 256]);
    assert_eq!(Peer::attach(served.path(), CONSOLE).read(EDID, 0x8ff, 2), [7, 0]);
}

/// A VMM's accesses are its guest's: without COMMAND.MEMORY a BAR reads as ones and takes nothing.
#[test]
fn memory_decoding_is_honoured() {
    let served = Served::new();
    let mut vmm = served.vmm();
    vmm.write(CONFIG, 4, &[0, 0]);
    vmm.write(VRAM, 0, b"lost");
    assert_eq!(vmm.read(VRAM, MARK_AT, 4), [0xff; 4]);
    check_console(&mut served.console());
    vmm.write(CONFIG, 4, &[2, 0]);
    assert_eq!(vmm.read(VRAM, 0, 4), [0; 4]);
}
