mod flips;
mod guest_memory;

use super::shape::*;
use super::*;

use proptest::prelude::*;
use vfio_gfx::abi::Interface;
use vfio_gfx::device::{Device, DisplayEvents, SharedDevice};
use vfio_gfx::display::{Display, Local};
use vfio_gfx::format::Modifier;
use vfio_gfx::plane::Source;

use crate::dispi::LATCH_TIMEOUT;

fn device() -> Device {
    crate::DeviceType::find("vgfx-hd").unwrap().create(None).unwrap()
}

fn write32(device: &mut Device, offset: u64, value: u32) {
    device.guest_write(2, offset, &value.to_le_bytes()).unwrap();
}

fn read32(device: &mut Device, offset: u64) -> u32 {
    let mut data = [0; 4];
    device.guest_read(2, offset, &mut data).unwrap();
    u32::from_le_bytes(data)
}

fn stage(device: &mut Device, plane: u64, registers: &[(usize, u32)]) {
    for (register, value) in registers {
        write32(device, PLANES + PLANE_SIZE * plane + 4 * *register as u64, *value);
    }
}

fn cursor(device: &mut Device) {
    let format = Fourcc::ARGB8888.bits();
    let place = [(X, (-5i32).cast_unsigned()), (Y, 7), (HOT_X, 3), (HOT_Y, 4), (SRC_X, 1), (SRC_Y, 2)];
    stage(
        device,
        2,
        &[(CONTROL, 1), (FORMAT, format), (OFFSET_LOW, 1 << 20), (STRIDE, 512), (WIDTH, 64), (HEIGHT, 64)],
    );
    stage(device, 2, &place);
}

#[test]
fn a_guest_recognises_it() {
    let mut device = device();
    assert_eq!((read32(&mut device, ID), read32(&mut device, VERSION)), (u32::from_le_bytes(*b"VGFX"), 2));
}

#[test]
fn planes_change_at_the_commit_and_not_before() {
    let mut device = device();
    cursor(&mut device);
    assert!(device.query(Interface::Region, PlaneKind::Cursor).unwrap().is_none());
    write32(&mut device, COMMIT, 1);
    for interface in [Interface::Region, Interface::Dmabuf] {
        let plane = device.query(interface, PlaneKind::Cursor).unwrap().unwrap();
        assert_eq!((plane.position, plane.hotspot), ((-5, 7), Some((3, 4))));
        assert_eq!(plane.format, Fourcc::ARGB8888);
    }
    let plane = device.query(Interface::Region, PlaneKind::Cursor).unwrap().unwrap();
    assert_eq!(plane.source, Source::Region { index: 0, offset: (1 << 20) + 2 * 512 + 4 });
    assert_eq!(read32(&mut device, COMMIT), 1);
    device.reset();
    assert!(device.query(Interface::Region, PlaneKind::Cursor).unwrap().is_none());
}

#[test]
fn every_format_can_be_shown_and_no_other() {
    let mut device = device();
    for format in FORMATS {
        let stride = 640 * format.bytes_per_pixel().unwrap();
        stage(
            &mut device,
            0,
            &[(CONTROL, 1), (FORMAT, format.bits()), (STRIDE, stride), (WIDTH, 640), (HEIGHT, 480)],
        );
        write32(&mut device, COMMIT, 0);
        let plane = device.query(Interface::Dmabuf, PlaneKind::Primary).unwrap().unwrap();
        assert_eq!((plane.format, plane.modifier), (format, Modifier::LINEAR));
    }
    stage(&mut device, 0, &[(FORMAT, u32::from_le_bytes(*b"NV12"))]);
    write32(&mut device, COMMIT, 0);
    assert!(device.query(Interface::Dmabuf, PlaneKind::Primary).unwrap().is_none());
}

#[test]
fn a_bochs_driver_works_as_ever() {
    let mut device = device();
    for (register, value) in [(3u64, 32u16), (1, 800), (2, 600), (4, 0x41)] {
        device.guest_write(2, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
    }
    let plane = device.query(Interface::Region, PlaneKind::Primary).unwrap().unwrap();
    assert_eq!((plane.geometry.width(), plane.geometry.height()), (800, 600));
    cursor(&mut device);
    write32(&mut device, COMMIT, 0);
    device.guest_write(2, 0x400, &[0]).unwrap();
    for kind in PlaneKind::ALL {
        assert!(device.query(Interface::Region, kind).unwrap().is_none(), "blank");
    }
}

#[test]
fn whoever_waits_is_told_what_changed() {
    let shared = SharedDevice::new(device());
    let mut display = Display::open(Box::new(Local::new(shared.clone()))).unwrap();
    let watch = display.backend().watch().unwrap().unwrap();
    let expect = |events: DisplayEvents, change: &dyn Fn(&mut Device)| {
        change(&mut shared.lock());
        assert_eq!(watch.wait(Duration::ZERO).unwrap(), events);
        assert_eq!(watch.wait(Duration::ZERO).unwrap(), DisplayEvents::empty(), "told once");
    };
    expect(DisplayEvents::empty(), &cursor);
    expect(DisplayEvents::CURSOR_SHAPE, &|device| write32(device, COMMIT, 0));
    expect(DisplayEvents::CURSOR_MOVE, &|device| {
        stage(device, 2, &[(X, 9)]);
        write32(device, COMMIT, 0);
    });
    expect(DisplayEvents::MODE_SET, &|device| {
        stage(
            device,
            0,
            &[(CONTROL, 1), (FORMAT, Fourcc::XRGB8888.bits()), (STRIDE, 2560), (WIDTH, 640), (HEIGHT, 480)],
        );
        write32(device, COMMIT, 0);
    });
    expect(DisplayEvents::FLIP | DisplayEvents::PLANE_OFF, &|device| {
        stage(device, 0, &[(OFFSET_LOW, 2560 * 480)]);
        stage(device, 2, &[(CONTROL, 0)]);
        write32(device, COMMIT, 0);
    });
    expect(DisplayEvents::PLANE_OFF, &Device::reset);
}

/// A base that the guest never completes is shown after a while, and told then, to who waits here and to who has only
/// a descriptor.
#[test]
fn whoever_waits_is_told_of_what_happens_by_itself() {
    let shared = SharedDevice::new(device());
    let mut display = Display::open(Box::new(Local::new(shared.clone()))).unwrap();
    for (register, value) in [(3u64, 32u16), (1, 640), (2, 480), (4, 0x41)] {
        shared.lock().guest_write(2, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
    }
    let watch = display.backend().watch().unwrap().unwrap();
    let start = std::time::Instant::now();
    shared.lock().guest_write(2, 0x510, &8u16.to_le_bytes()).unwrap();
    assert_eq!(watch.wait(Duration::from_secs(30)).unwrap(), DisplayEvents::FLIP);
    let took = start.elapsed();
    assert!((LATCH_TIMEOUT..LATCH_TIMEOUT * 10).contains(&took), "{took:?}");
    assert_eq!(watch.wait(Duration::ZERO).unwrap(), DisplayEvents::empty());
    // Somebody asks before the timer does: what they find, everybody is told.
    shared.lock().guest_write(2, 0x510, &16u16.to_le_bytes()).unwrap();
    std::thread::sleep(LATCH_TIMEOUT + Duration::from_millis(10));
    let plane = display.plane(PlaneKind::Primary).unwrap().unwrap();
    assert_eq!(plane.source.offset() % 4096, 64);
    assert!(watch.eventfds().iter().any(|fd| rustix::io::read(fd, &mut [0; 8]).is_ok()));
}

proptest! {
    #[test]
    fn whatever_is_committed_fits(values in proptest::collection::vec((0..3u64, 0..REGISTERS, any::<u32>(), any::<bool>()), 0..120)) {
        let mut device = device();
        cursor(&mut device);
        for (plane, register, value, small) in values {
            stage(&mut device, plane, &[(CONTROL, 1), (register, if small { value % 5000 } else { value })]);
            write32(&mut device, COMMIT, 0);
            for kind in PlaneKind::ALL {
                if let Some(plane) = device.query(Interface::Region, kind).unwrap() {
                    prop_assert!(plane.check_within(device.vram().size()).is_ok());
                }
            }
        }
    }
}
