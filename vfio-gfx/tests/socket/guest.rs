//! Guest memory that a VMM shares: a plane in it, who gets its buffer, and how it ends.
//!
//! Where the host has udmabuf everybody gets a dma-buf, and where it has not only the VMM gets the memfd, which it has.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use vfio_gfx::abi::{Interface, PlaneKind};
use vfio_gfx::device::DeviceError;
use vfio_gfx::memory::{BufferKind, Mapping, Vram};

use crate::fixture::{CONTIGUOUS, ENABLE, GUEST, HEIGHT, REGISTERS, STRIDE, Served, WIDTH, check_vmm};
use crate::hostile::{EINVAL, ENOENT, EOPNOTSUPP, EPERM, await_fds, open_fds};
use crate::peer::{DMA_MAP, DMA_UNMAP, GET_GFX_DMABUF, Peer, QUERY_GFX_PLANE, RESET, u32_at, u64_at, words};

const PAGE: u64 = 4096;
/// Pages of the guest; device address 0 is the start of its memory.
const PAGES: u64 = 64;
/// Where the plane is.
const FIRST: u32 = 8;

fn ram() -> Vram {
    Vram::new("guest", PAGES * PAGE).unwrap()
}

fn fd(ram: &Vram) -> OwnedFd {
    ram.file().try_clone().unwrap().into()
}

fn map(vmm: &mut Peer, ram: &Vram) {
    let place = [0, 0, PAGES * PAGE].map(u64::to_ne_bytes).concat();
    vmm.ask_with(DMA_MAP, &[words(&[32, 3]), place].concat(), &[&fd(ram)]).ok();
}

fn unmap(vmm: &mut Peer) {
    let all = [0, PAGES * PAGE].map(u64::to_ne_bytes).concat();
    vmm.ask(DMA_UNMAP, &[words(&[24, 0]), all].concat()).ok();
}

/// The guest puts its plane into its own memory.
fn show(vmm: &mut Peer, place: u32) {
    vmm.write(REGISTERS, ENABLE, &1u32.to_le_bytes());
    vmm.write(REGISTERS, GUEST, &place.to_le_bytes());
}

/// The plane's size and buffer id as the dma-buf interface has them, all zero when it is off.
fn query(peer: &mut Peer) -> (u32, u32, u32) {
    let plane = peer.ask(QUERY_GFX_PLANE, &words(&[[64, 2, 1].as_slice(), &[0; 13]].concat())).ok();
    (u32_at(&plane, 24), u32_at(&plane, 28), u32_at(&plane, 56))
}

/// A VMM that knows the extension.
fn vmm(served: &Served) -> Peer {
    Peer::attach(served.path(), r#"{"capabilities":{"max_msg_fds":8,"vfio_gfx":{"version":1,"role":"vmm"}}}"#)
}

fn has_udmabuf(served: &Served) -> bool {
    served.device.lock().buffer_kind() == BufferKind::Dmabuf
}

#[test]
fn a_plane_in_guest_memory_has_a_buffer_until_the_memory_goes() {
    let served = Served::new();
    let ram = ram();
    let (mut vmm, mut console) = (vmm(&served), served.console());
    map(&mut vmm, &ram);
    for place in [FIRST | CONTIGUOUS, FIRST] {
        show(&mut vmm, place);
        let (width, height, id) = query(&mut console);
        assert_eq!((width, height), (WIDTH, HEIGHT));
        let region = console.ask(QUERY_GFX_PLANE, &words(&[[64, 4, 1].as_slice(), &[0; 13]].concat()));
        assert_eq!(region.refusal(), EOPNOTSUPP, "a region shows video memory");
        // The last page of the plane is elsewhere where it is scattered.
        let last = FIRST + if place & CONTIGUOUS == 0 { 16 + 1 } else { 3 };
        ram.write(u64::from(last) * PAGE + 5, b"pixel").unwrap();
        let request = words(&[id, 0]);
        let reply = vmm.ask(GET_GFX_DMABUF, &request);
        if !has_udmabuf(&served) {
            assert_eq!(console.ask(GET_GFX_DMABUF, &request).refusal(), EPERM, "all of the guest's memory");
        }
        if place & CONTIGUOUS == 0 && !has_udmabuf(&served) {
            assert_eq!(reply.refusal(), EOPNOTSUPP);
        } else {
            let kind = if has_udmabuf(&served) { BufferKind::Dmabuf } else { BufferKind::Memfd };
            let (offset, size) = (u64_at(&reply.payload, 8), u64_at(&reply.payload, 16));
            let mapping = Mapping::new(reply.fds.into_iter().next().unwrap(), kind, size).unwrap();
            unmap(&mut vmm);
            assert_eq!(query(&mut console), (0, 0, 0), "off");
            assert_eq!(vmm.ask(GET_GFX_DMABUF, &request).refusal(), ENOENT);
            // Who has it keeps it, live.
            let mut pixel = [0; 5];
            mapping.read(offset + 3 * PAGE + 5, &mut pixel).unwrap();
            assert_eq!(&pixel, b"pixel");
            map(&mut vmm, &ram);
            assert_eq!(query(&mut console), (0, 0, 0), "the same memory, but another buffer");
            assert_eq!(vmm.ask(GET_GFX_DMABUF, &request).refusal(), ENOENT);
        }
    }
    vmm.write(REGISTERS, GUEST, &0u32.to_le_bytes());
    assert_eq!(query(&mut console).0, WIDTH, "back in video memory");
    check_vmm(&mut vmm);
}

#[test]
fn guest_memory_ends_with_its_vmm_and_not_with_a_reset() {
    let served = Served::alone();
    let fds = open_fds();
    let ram = ram();
    let mut first = vmm(&served);
    map(&mut first, &ram);
    first.ask(RESET, &[]).ok();
    show(&mut first, FIRST | CONTIGUOUS);
    let id = query(&mut first).2;
    assert_eq!(
        served
            .device
            .lock()
            .query(Interface::Dmabuf, PlaneKind::Primary)
            .unwrap()
            .map(|p| p.geometry.stride()),
        Some(STRIDE)
    );
    let mut data = [1; 4];
    served.device.lock().guest_memory().read(PAGE, &mut data).unwrap();
    drop(first);
    let mut next = vmm(&served);
    assert_eq!(query(&mut next), (0, 0, 0));
    assert!(served.device.lock().guest_memory().read(PAGE, &mut data).is_err());
    assert!(matches!(served.device.lock().buffer(id, false), Err(DeviceError::NoBuffer(_))));
    drop(next);
    drop(ram);
    await_fds(fds, "a VMM and its memory");
}

/// What is no memory is no error, as ever: a VMM announces all that it has. It is just not reached.
#[test]
fn descriptors_that_cannot_serve_are_not_kept() {
    let served = Served::alone();
    let mut vmm = vmm(&served);
    let fds = open_fds();
    let useless = [
        OwnedFd::from(File::open("/dev/zero").unwrap()),
        rustix::fs::memfd_create("empty", rustix::fs::MemfdFlags::CLOEXEC).unwrap(),
        rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap(),
    ];
    for (n, fd) in (0u64..).zip(&useless) {
        let place = [0, n * PAGE, PAGE].map(u64::to_ne_bytes).concat();
        vmm.ask_with(DMA_MAP, &[words(&[32, 3]), place].concat(), &[fd]).ok();
        assert!(served.device.lock().guest_memory().read(n * PAGE, &mut [0; 1]).is_err());
    }
    drop(useless);
    await_fds(fds, "descriptors of no use");
    // The guest names them all the same; its plane is where it was.
    show(&mut vmm, 1);
    assert_eq!(query(&mut vmm).0, WIDTH);
}

/// More files than are kept, each behind a range of its own: the process's descriptors are not a VMM's to use up.
#[test]
fn files_are_bounded_in_number() {
    let served = Served::alone();
    let mut vmm = vmm(&served);
    let fds = open_fds();
    for n in 0..200u64 {
        let (memory, place) = (ram(), [0, n * PAGE, PAGE].map(u64::to_ne_bytes).concat());
        vmm.ask_with(DMA_MAP, &[words(&[32, 3]), place].concat(), &[&fd(&memory)]).ok();
    }
    await_fds(fds + 64, "64 files");
    let readable = |n: u64| served.device.lock().guest_memory().read(n * PAGE, &mut [0; 1]).is_ok();
    assert_eq!((0..200).filter(|n| readable(*n)).count(), 64);
}

/// A VMM that grants reading only is not written, whatever its descriptor could do.
#[test]
fn grants_are_kept() {
    let served = Served::new();
    let ram = ram();
    ram.write(0, b"mine").unwrap();
    let mut vmm = vmm(&served);
    for (flags, reads, writes) in [(1, true, false), (2, false, true), (3, true, true)] {
        let place = [0, 0, PAGE].map(u64::to_ne_bytes).concat();
        vmm.ask_with(DMA_MAP, &[words(&[32, flags]), place].concat(), &[&fd(&ram)]).ok();
        let device = served.device.lock();
        let memory = device.guest_memory();
        assert_eq!(memory.read(0, &mut [0; 4]).is_ok(), reads);
        assert_eq!(memory.write(0, b"ours").is_ok(), writes);
        assert_eq!(memory.buffer(&[(0, PAGE)]).is_ok(), reads && writes);
        assert!(memory.read(PAGE - 1, &mut [0; 2]).is_err(), "a byte more than was granted");
        drop(device);
        let mut back = [0; 4];
        ram.file().read_exact_at(&mut back, 0).unwrap();
        assert_eq!(&back, if writes { b"ours" } else { b"mine" });
        ram.write(0, b"mine").unwrap();
        vmm.ask(DMA_UNMAP, &[words(&[24, 2]), vec![0; 16]].concat()).ok();
    }
    let two = [words(&[32, 3]), [0, 0, PAGE].map(u64::to_ne_bytes).concat()].concat();
    assert_eq!(vmm.ask_with(DMA_MAP, &two, &[&fd(&ram), &fd(&ram)]).refusal(), EINVAL);
}
