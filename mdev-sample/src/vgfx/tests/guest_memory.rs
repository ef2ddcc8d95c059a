//! Planes in guest memory, and the owner's wish to have it back.

use std::sync::Arc;

use vfio_gfx::device::{DeviceError, DisplayEvents, FLIP_TIMEOUT};
use vfio_gfx::display::{Pace, Pixels};
use vfio_gfx::memory::{BufferKind, DmaAccess, PAGE_SIZE, Vram};

use super::*;

const STATE: u64 = 0x38;
/// Guest-physical address of the memory, and its size.
const RAM_AT: u64 = 0x1_0000_0000;
const RAM_SIZE: u64 = 1 << 20;
/// A frame of 64x64 is four pages.
const FRAME_BYTES: usize = 64 * 64 * 4;
const FRAME: u64 = FRAME_BYTES as u64;

fn map(device: &SharedDevice, ram: &Vram, access: DmaAccess) {
    let memory = Some((ram.file().try_clone().unwrap().into(), 0));
    device.lock().guest_memory().map(RAM_AT, RAM_SIZE, access, memory).unwrap();
}

fn unmap(device: &SharedDevice) {
    device.lock().unmap_guest_memory(RAM_AT, RAM_SIZE).unwrap();
}

/// The primary plane at this address of the guest's.
fn show(device: &SharedDevice, address: u64) {
    let mut device = device.lock();
    let (low, high) = (address & 0xffff_ffff, address >> 32);
    let place = [(OFFSET_LOW, low), (OFFSET_HIGH, high), (MEMORY, 1)];
    let shape = [(STRIDE, 256), (WIDTH, 64), (HEIGHT, 64), (CONTROL, 1)];
    for (register, value) in place.into_iter().chain(shape) {
        stage(&mut device, 0, &[(register, u32::try_from(value).unwrap())]);
    }
    stage(&mut device, 0, &[(FORMAT, Fourcc::XRGB8888.bits())]);
    write32(&mut device, COMMIT, 1);
}

fn state(device: &SharedDevice) -> u32 {
    read32(&mut device.lock(), PLANES + STATE)
}

fn machine() -> (SharedDevice, Arc<Vram>, Display) {
    let device = SharedDevice::new(device());
    let ram = Arc::new(Vram::new("guest", RAM_SIZE).unwrap());
    map(&device, &ram, DmaAccess::READ | DmaAccess::WRITE);
    let display = Display::open(Box::new(Local::new(device.clone()))).unwrap();
    (device, ram, display)
}

fn first_pixel(pixels: &Pixels<'_>) -> [u8; 4] {
    let mut pixel = [0; 4];
    pixels.read_row(0, &mut pixel).unwrap();
    pixel
}

#[test]
fn a_console_shows_what_the_guest_flips_to_in_its_own_memory() {
    let (device, ram, mut display) = machine();
    // The second begins in the middle of a page.
    for (n, at) in [(1u8, 0), (2, 5 * FRAME + 64), (3, RAM_SIZE - FRAME)] {
        ram.write(at, &[n; FRAME_BYTES]).unwrap();
        show(&device, RAM_AT + at);
        assert_eq!(state(&device), 1);
        let pixels = display.pixels(PlaneKind::Primary).unwrap().unwrap();
        assert_eq!(first_pixel(&pixels), [n; 4]);
        let mut last = [0; 256];
        pixels.read_row(63, &mut last).unwrap();
        assert_eq!(last, [n; 256]);
        drop(pixels);
        display.confirm().expect("in no region, and there");
    }
    // Back in video memory.
    stage(&mut device.lock(), 0, &[(MEMORY, 0), (OFFSET_LOW, 0), (OFFSET_HIGH, 0)]);
    write32(&mut device.lock(), COMMIT, 1);
    let pixels = display.pixels(PlaneKind::Primary).unwrap().unwrap();
    assert!(matches!(pixels.plane().source, Source::Region { .. }));
}

/// With udmabuf a console sees the memory itself; without, the frame as it was when the first console fetched it after
/// the flip.
#[test]
fn what_is_drawn_after_the_flip() {
    let (device, ram, mut display) = machine();
    ram.write(0, &[1; 4]).unwrap();
    show(&device, RAM_AT);
    assert_eq!(first_pixel(&display.pixels(PlaneKind::Primary).unwrap().unwrap()), [1; 4]);
    ram.write(0, &[2; 4]).unwrap();
    let is_live = device.lock().buffer_kind() == BufferKind::Dmabuf;
    let expected = if is_live { [2; 4] } else { [1; 4] };
    assert_eq!(first_pixel(&display.pixels(PlaneKind::Primary).unwrap().unwrap()), expected);
    let id = |device: &SharedDevice| {
        let plane = device.lock().query(Interface::Dmabuf, PlaneKind::Primary).unwrap().unwrap();
        let Source::Buffer { id, .. } = plane.source else { panic!("{plane:?}") };
        id
    };
    let before = id(&device);
    write32(&mut device.lock(), COMMIT, 1);
    assert_eq!(id(&device) == before, is_live, "the same buffer, but another copy");
    assert_eq!(first_pixel(&display.pixels(PlaneKind::Primary).unwrap().unwrap()), [2; 4]);
    if !is_live {
        assert!(matches!(device.lock().buffer(before, true), Err(DeviceError::NoBuffer(_))));
    }
}

#[test]
fn memory_that_is_not_granted_is_not_shown() {
    let (device, ram, mut display) = machine();
    let outside = [
        (RAM_AT + RAM_SIZE, 3),
        (RAM_AT + RAM_SIZE - FRAME + 4, 3),
        (RAM_AT - 4, 3),
        (0, 3),
        (u64::MAX - FRAME + 2, 2),
        (u64::MAX, 2),
    ];
    for (address, expected) in outside {
        show(&device, address);
        assert_eq!(state(&device), expected, "{address:#x}");
        assert!(display.plane(PlaneKind::Primary).unwrap().is_none());
    }
    // No larger than the video memory, whatever the guest has.
    stage(&mut device.lock(), 0, &[(STRIDE, 1 << 20)]);
    write32(&mut device.lock(), COMMIT, 1);
    assert_eq!(state(&device), 2);
    // To be read only.
    unmap(&device);
    map(&device, &ram, DmaAccess::READ);
    show(&device, RAM_AT);
    assert_eq!(state(&device), 3);
}

#[test]
fn memory_that_is_taken_back_is_gone_at_once_and_for_good() {
    let (device, ram, mut display) = machine();
    let watch = display.backend().watch().unwrap().unwrap();
    show(&device, RAM_AT);
    let Some(plane) = device.lock().query(Interface::Dmabuf, PlaneKind::Primary).unwrap() else {
        panic!("it is on");
    };
    let Source::Buffer { id, .. } = plane.source else { panic!("{plane:?}") };
    display.pixels(PlaneKind::Primary).unwrap().unwrap();
    watch.wait(Duration::ZERO).unwrap();
    unmap(&device);
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), DisplayEvents::PLANE_OFF);
    assert_eq!(state(&device), 3);
    assert!(display.pixels(PlaneKind::Primary).unwrap().is_none());
    assert!(matches!(device.lock().buffer(id, true), Err(DeviceError::NoBuffer(_))));
    // The same memory again is another buffer, and not shown before the guest says so.
    map(&device, &ram, DmaAccess::READ | DmaAccess::WRITE);
    assert!(display.plane(PlaneKind::Primary).unwrap().is_none());
    write32(&mut device.lock(), COMMIT, 1);
    assert_eq!(state(&device), 1);
    let plane = device.lock().query(Interface::Dmabuf, PlaneKind::Primary).unwrap().unwrap();
    assert!(!matches!(plane.source, Source::Buffer { id: other, .. } if other == id));
}

/// A console that paces is to look when memory is taken back; one that does not is late. The owner waits for neither, and
/// the guest has no flip that it did not ask for.
#[test]
fn a_console_that_does_not_let_go_is_late() {
    let (device, _ram, mut console) = machine();
    let watch = console.backend().watch().unwrap().unwrap();
    let say = |console: &mut Display, pace| console.backend().pace(pace).unwrap().unwrap();
    say(&mut console, Pace::Join);
    show(&device, RAM_AT);
    console.pixels(PlaneKind::Primary).unwrap().unwrap();
    say(&mut console, Pace::Taken(1));
    unmap(&device);
    assert!(watch.wait(Duration::ZERO).unwrap().contains(DisplayEvents::PLANE_OFF));
    let asked = say(&mut console, Pace::Look).state;
    assert_eq!(asked.requested, 2);
    assert_eq!(read32(&mut device.lock(), COMMIT), 1);
    std::thread::sleep(FLIP_TIMEOUT + Duration::from_millis(5));
    device.lock().look_again();
    let late = say(&mut console, Pace::Look);
    assert!(late.late && late.state.completed == 2);
    assert_eq!(read32(&mut device.lock(), 0x80c), 1, "COMPLETED");
    assert!(!say(&mut console, Pace::Taken(2)).late);
}

/// Buffers that a guest flips between keep their names, and those that it shows no more are given up.
#[test]
fn few_buffers_are_kept() {
    let (device, _ram, _display) = machine();
    let room = |device: &SharedDevice| {
        let device = device.lock();
        let mut made = Vec::new();
        while let Ok(id) = device.guest_memory().buffer(&[(RAM_AT, PAGE_SIZE)]) {
            made.push(id);
        }
        made.iter().for_each(|id| device.guest_memory().release(*id));
        made.len()
    };
    let all = room(&device);
    for n in 0..200 {
        show(&device, RAM_AT + n % 60 * FRAME);
    }
    assert_eq!(room(&device), all - 8);
    device.lock().reset();
    assert_eq!(room(&device), all);
    show(&device, RAM_AT);
    stage(&mut device.lock(), 0, &[(CONTROL, 0)]);
    write32(&mut device.lock(), COMMIT, 1);
    assert_eq!(room(&device), all);
}
