//! A display of our own: a Bochs display with two planes more, flips in one piece, and change events.
//!
//! Everything of [`mbochs`](crate::mbochs) is there, so `bochs-drm` drives it. A guest that knows more finds a second set
//! of registers in BAR2, 32 bits wide and little-endian:
//!
//! | BAR2 offset | what |
//! |---|---|
//! | 0x800 | identifier, reads `VGFX` |
//! | 0x804 | version, reads 1 |
//! | 0x808 | COMMIT: a write of any value makes the plane registers effective, all at once; reads how often |
//! | 0x840, 0x880, 0x8c0 | registers of the primary, overlay and cursor plane |
//!
//! | offset in a plane's registers | what |
//! |---|---|
//! | 0x00 | CONTROL: bit 0, the plane is on |
//! | 0x04 | FORMAT: DRM fourcc |
//! | 0x08, 0x0c | OFFSET: start of the buffer in video memory in bytes, low and high half |
//! | 0x10 | STRIDE in bytes |
//! | 0x14, 0x18 | WIDTH, HEIGHT in pixels |
//! | 0x1c, 0x20 | X, Y on the screen, two's complement; a primary plane ignores them |
//! | 0x24, 0x28 | HOT_X, HOT_Y: hotspot of the cursor, all ones = none; other planes ignore them |
//! | 0x2c, 0x30 | SRC_X, SRC_Y: first pixel shown, in pixels from the start of the buffer |
//!
//! Registers read back what was written, committed or not. While the primary plane is on here, the Bochs registers'
//! mode is not shown. A plane whose format is unknown or whose pixels leave the video memory is off. Blanking
//! (0x400) turns every plane off; RESET clears everything.

use std::time::Duration;

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::device::{Model, Platform, Scanout, ScanoutMemory};
use vfio_gfx::format::{Fourcc, Modifier};
use vfio_gfx::plane::Geometry;

use crate::mbochs::{Clock, Mbochs};

/// The formats a plane can have.
pub const FORMATS: [Fourcc; 7] = [
    Fourcc::XRGB8888,
    Fourcc::ARGB8888,
    Fourcc::XBGR8888,
    Fourcc::ABGR8888,
    Fourcc::RGB565,
    Fourcc::XRGB2101010,
    Fourcc::RGB888,
];

const ID: u64 = 0x800;
const VERSION: u64 = 0x804;
const COMMIT: u64 = 0x808;
const PLANES: u64 = 0x840;
const PLANE_SIZE: u64 = 0x40;
const PLANES_END: u64 = PLANES + 3 * PLANE_SIZE;

/// Registers of a plane, by number: offset / 4.
const REGISTERS: usize = 13;
const CONTROL: usize = 0;
const FORMAT: usize = 1;
const OFFSET_LOW: usize = 2;
const OFFSET_HIGH: usize = 3;
const STRIDE: usize = 4;
const WIDTH: usize = 5;
const HEIGHT: usize = 6;
const X: usize = 7;
const Y: usize = 8;
const HOT_X: usize = 9;
const HOT_Y: usize = 10;
const SRC_X: usize = 11;
const SRC_Y: usize = 12;

type Plane = [u32; REGISTERS];

/// The device model.
#[derive(Debug)]
pub struct Vgfx {
    bochs: Mbochs,
    vram_size: u64,
    /// What the guest wrote: primary, overlay, cursor.
    staged: [Plane; 3],
    /// What is in effect.
    live: [Plane; 3],
    commits: u32,
}

impl Vgfx {
    /// A display with this much video memory, in bytes, and this largest mode in pixels.
    #[must_use]
    pub fn new(vram_size: u64, max: (u32, u32), clock: Clock) -> Self {
        let planes = [[0; REGISTERS]; 3];
        Self {
            bochs: Mbochs::new(vram_size, max, clock),
            vram_size,
            staged: planes,
            live: planes,
            commits: 0,
        }
    }

    /// The plane register that an aligned 32-bit access reaches.
    fn register(&mut self, offset: u64) -> Option<&mut u32> {
        let inside =
            offset.checked_sub(PLANES).filter(|_| offset < PLANES_END && offset.is_multiple_of(4))?;
        let plane = usize::try_from(inside / PLANE_SIZE).ok()?;
        let register = usize::try_from(inside % PLANE_SIZE / 4).ok()?;
        self.staged.get_mut(plane)?.get_mut(register)
    }
}

/// The place of a plane in the register file.
fn index(kind: PlaneKind) -> usize {
    match kind {
        PlaneKind::Primary => 0,
        PlaneKind::Overlay => 1,
        PlaneKind::Cursor => 2,
    }
}

/// What the registers of a plane describe, if it is on and possible.
fn scanout(kind: PlaneKind, plane: &Plane, vram_size: u64) -> Option<Scanout> {
    let format = Fourcc::from_bits(plane[FORMAT]);
    if plane[CONTROL] & 1 == 0 || !FORMATS.contains(&format) {
        return None;
    }
    let bytes_per_pixel = format.bytes_per_pixel()?;
    let geometry = Geometry::new(plane[WIDTH], plane[HEIGHT], plane[STRIDE], bytes_per_pixel).ok()?;
    let start = u64::from(plane[OFFSET_HIGH]) << 32 | u64::from(plane[OFFSET_LOW]);
    let column = u64::from(plane[SRC_X]).checked_mul(u64::from(bytes_per_pixel))?;
    let row = u64::from(plane[SRC_Y]).checked_mul(u64::from(plane[STRIDE]))?;
    let offset = start.checked_add(row)?.checked_add(column)?;
    // A source offset may leave the last row's padding outside the memory, but no pixel.
    let size = geometry.extent(bytes_per_pixel);
    if offset.checked_add(size)? > vram_size {
        return None;
    }
    let (hot_x, hot_y) = (plane[HOT_X], plane[HOT_Y]);
    let has_hotspot = kind == PlaneKind::Cursor && hot_x != u32::MAX && hot_y != u32::MAX;
    let on_screen = kind != PlaneKind::Primary;
    Some(Scanout {
        format,
        modifier: Modifier::LINEAR,
        geometry,
        memory: ScanoutMemory::Vram,
        offset,
        size,
        position: if on_screen { (plane[X].cast_signed(), plane[Y].cast_signed()) } else { (0, 0) },
        hotspot: has_hotspot.then_some((hot_x, hot_y)),
    })
}

impl Model for Vgfx {
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8], platform: &Platform<'_>) {
        let value = match offset {
            ID => u32::from_le_bytes(*b"VGFX"),
            VERSION => 1,
            COMMIT => self.commits,
            PLANES..PLANES_END => self.register(offset).map_or(0, |register| *register),
            _ => return self.bochs.read(region, offset, data, platform),
        };
        if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            *data = value.to_le_bytes();
        }
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8], platform: &Platform<'_>) {
        match (offset, data.try_into().map(u32::from_le_bytes)) {
            (COMMIT, Ok(_)) => {
                self.live = self.staged;
                self.commits = self.commits.wrapping_add(1);
            }
            (PLANES..PLANES_END, Ok(value)) => {
                if let Some(register) = self.register(offset) {
                    *register = value;
                }
            }
            (ID | VERSION | COMMIT | PLANES..PLANES_END, _) => {}
            _ => self.bochs.write(region, offset, data, platform),
        }
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        if self.bochs.is_blank() {
            return None;
        }
        let plane = self.live.get(index(kind))?;
        if kind == PlaneKind::Primary && plane[CONTROL] & 1 == 0 {
            return self.bochs.scanout(kind);
        }
        scanout(kind, plane, self.vram_size)
    }

    fn changes_in(&mut self) -> Option<Duration> {
        self.bochs.changes_in()
    }

    fn reset(&mut self, platform: &Platform<'_>) {
        self.bochs.reset(platform);
        (self.staged, self.live) = ([[0; REGISTERS]; 3], [[0; REGISTERS]; 3]);
        self.commits = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use vfio_gfx::abi::Interface;
    use vfio_gfx::device::{Device, DisplayEvents, SharedDevice};
    use vfio_gfx::display::{Display, Local};
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
            &[
                (CONTROL, 1),
                (FORMAT, format),
                (OFFSET_LOW, 1 << 20),
                (STRIDE, 512),
                (WIDTH, 64),
                (HEIGHT, 64),
            ],
        );
        stage(device, 2, &place);
    }

    #[test]
    fn a_guest_recognises_it() {
        let mut device = device();
        assert_eq!(
            (read32(&mut device, ID), read32(&mut device, VERSION)),
            (u32::from_le_bytes(*b"VGFX"), 1)
        );
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
                &[
                    (CONTROL, 1),
                    (FORMAT, Fourcc::XRGB8888.bits()),
                    (STRIDE, 2560),
                    (WIDTH, 640),
                    (HEIGHT, 480),
                ],
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
}
