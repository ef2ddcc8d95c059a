//! What a console must show.

use std::collections::HashMap;

use vfio_gfx::abi::{Interface, PlaneKind};
use vfio_gfx::device::{Device, DeviceError};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::{BufferKind, PAGE_SIZE};
use vfio_gfx::plane::{Plane, Source};

use super::World;
use super::guest::{Frame, Guest};
use super::ram::Ram;

/// The copies of guest memory that somebody has asked for, by their buffer: its pages as they were then.
#[derive(Default)]
pub(super) struct Copies(HashMap<u32, Vec<u8>>);

impl Copies {
    /// A console has asked for the buffer of the primary plane, which is in guest memory.
    fn note(&mut self, id: u32, frame: &Frame, ram: &Ram) {
        let (start, len) = frame.pages();
        if let Some(bytes) = ram.bytes(start, len) {
            self.0.entry(id).or_insert(bytes);
        }
    }

    /// The guest flips: copies of frames before are of no more use.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// Whether there is no copy yet, and none can be made: the memory was cut short.
    pub(super) fn would_fail(&self, id: u32, guest: &Guest, ram: &Ram) -> bool {
        let pages = guest.primary().map(Frame::pages);
        !self.0.contains_key(&id) && pages.is_none_or(|(start, len)| ram.bytes(start, len).is_none())
    }
}

/// The buffer of a plane that was asked for as one.
pub(super) fn id_of(plane: Plane) -> u32 {
    let Source::Buffer { id, .. } = plane.source else { panic!("not a buffer: {plane:?}") };
    id
}

impl World {
    /// A console was given this buffer. If it is the primary plane's, and a copy, it has what the guest has there now.
    pub(super) fn was_given(&mut self, id: u32) {
        let mut device = self.device.lock();
        if !self.ram.is_shown(0) || device.buffer_kind() == BufferKind::Dmabuf {
            return;
        }
        let plane = device.query(Interface::Dmabuf, PlaneKind::Primary).unwrap();
        if let Some(frame) = self.guest.primary().filter(|_| plane.is_some_and(|plane| id_of(plane) == id)) {
            self.copies.note(id, frame, &self.ram);
        }
    }

    /// A console shows the primary plane, and its memory has these pixels.
    pub(super) fn check_picture(&mut self, which: usize) {
        let mut device = self.device.lock();
        let Some(console) = &self.seats[which].console else { return };
        let frame = self.guest.primary().filter(|_| self.ram.is_shown(0));
        let Some(frame) = frame else {
            return check_picture(&mut device, console);
        };
        if device.buffer_kind() == BufferKind::Dmabuf {
            return;
        }
        let plane =
            device.query(Interface::Dmabuf, PlaneKind::Primary).unwrap().expect("its memory is there");
        let id = id_of(plane);
        self.copies.note(id, frame, &self.ram);
        assert_eq!((console.frame().width(), console.frame().height()), (frame.width, frame.height));
        if frame.format != *b"XR24" || others_are_on(&mut device) {
            return;
        }
        let copy = &self.copies.0[&id];
        let inside = (frame.start % PAGE_SIZE) as usize;
        for (y, row) in console.frame().rows().enumerate() {
            let start = inside + y * frame.stride as usize;
            is_row(row, &copy[start..start + 4 * frame.width as usize], y);
        }
    }
}

fn others_are_on(device: &mut Device) -> bool {
    let interface =
        [Interface::Dmabuf, Interface::Region].into_iter().find(|interface| device.probe(*interface));
    interface.is_some_and(|interface| {
        let others = [PlaneKind::Overlay, PlaneKind::Cursor];
        others.into_iter().any(|kind| match device.query(interface, kind) {
            Err(DeviceError::NotInRegion) => true,
            plane => plane.unwrap().is_some(),
        })
    })
}

fn is_row(shown: &[u32], bytes: &[u8], y: usize) {
    for (pixel, bytes) in shown.iter().zip(bytes.chunks_exact(4)) {
        assert_eq!(*pixel, u32::from_le_bytes(bytes.try_into().unwrap()) & 0xff_ffff, "row {y}");
    }
}

/// The same for a plane in video memory; the slow way, for the format in which that is simple and where no other plane lies on it.
/// Of a large picture a few rows.
fn check_picture(device: &mut Device, console: &qemu_shim::Console) {
    let interface =
        [Interface::Region, Interface::Dmabuf].into_iter().find(|interface| device.probe(*interface));
    let Some(interface) = interface else { return };
    let Some(plane) = device.query(interface, PlaneKind::Primary).unwrap() else {
        return assert!(console.frame().is_empty(), "the screen is off");
    };
    if plane.format != Fourcc::XRGB8888 || others_are_on(device) || console.frame().is_empty() {
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
        is_row(console.frame().row(y).unwrap(), &row, y as usize);
    }
}
