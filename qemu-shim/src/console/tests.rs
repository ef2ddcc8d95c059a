//! The engine on devices that flip, blank, lie, and go.

use std::sync::{Arc, Mutex};

use mdev_sample::DeviceType;
use vfio_gfx::abi::{DeviceFlags, Interface, PlaneKind, RegionFlags};
use vfio_gfx::device::{Device, Interfaces, SharedDevice};
use vfio_gfx::display::{Backend, BufferMapping, DeviceSummary, DisplayError, Local, RegionSummary, Watch};
use vfio_gfx::format::{Fourcc, Modifier};
use vfio_gfx::memory::{BufferKind, Mapping, Vram};
use vfio_gfx::plane::{Geometry, Source};

use super::*;
use crate::damage::Rect;

fn write16(device: &mut Device, register: u64, value: u16) {
    device.guest_write(2, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
}

fn mode(device: &mut Device, width: u16, height: u16) {
    for (register, value) in [(4, 0), (3, 32), (1, width), (2, height), (6, width), (4, 0x41)] {
        write16(device, register, value);
    }
}

fn console(name: &str, interfaces: Option<Interfaces>) -> (SharedDevice, Console) {
    let device = DeviceType::find(name).unwrap().create(interfaces).unwrap();
    let device = SharedDevice::new(device);
    let display = Display::open(Box::new(Local::new(device.clone()))).unwrap();
    (device, Console::new(display))
}

/// Sets a plane of a vgfx device: 0 primary, 1 overlay, 2 cursor.
fn plane(device: &SharedDevice, number: u64, registers: &[(u64, u32)]) {
    let mut device = device.lock();
    for (register, value) in registers {
        device.guest_write(2, 0x840 + 0x40 * number + 4 * register, &value.to_le_bytes()).unwrap();
    }
}

fn commit(device: &SharedDevice) {
    device.lock().guest_write(2, 0x808, &1u32.to_le_bytes()).unwrap();
}

#[test]
fn a_guest_that_flips_is_followed_through_both_interfaces() {
    for interfaces in [Interfaces::REGION, Interfaces::DMABUF] {
        let (device, mut console) = console("mbochs-small", Some(interfaces));
        assert_eq!(console.refresh().unwrap(), Refresh::Off);
        {
            let mut device = device.lock();
            for (register, value) in [(3, 32), (1, 66), (2, 64), (6, 70), (4, 0x41)] {
                write16(&mut device, register, value);
            }
            // The second page, which starts in the middle of a memory page.
            let second_page = 64 * 70 * 4;
            device.vram().write(second_page + (63 * 70 + 65) * 4, &[0x33, 0x22, 0x11, 0xff]).unwrap();
        }
        assert_eq!(console.refresh().unwrap(), Refresh::Changed);
        assert!(console.frame().pixels().iter().all(|pixel| *pixel == 0));
        assert_eq!(console.refresh().unwrap(), Refresh::Same);
        {
            let mut device = device.lock();
            for (register, value) in [(6, 70), (8, 0), (9, 64)] {
                write16(&mut device, register, value);
            }
        }
        assert_eq!(console.refresh().unwrap(), Refresh::Changed);
        assert_eq!(console.frame().row(63).unwrap()[65], 0x0011_2233);
        device.lock().guest_write(2, 0x400, &[0]).unwrap();
        assert_eq!(console.refresh().unwrap(), Refresh::Off);
        assert!(console.frame().is_empty(), "nothing stale is kept");
    }
}

#[test]
fn only_the_tiles_that_changed_are_told() {
    let (device, mut console) = console("mbochs-small", None);
    mode(&mut device.lock(), 640, 480);
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    assert_eq!(console.damage().rects(), [Rect::new(0, 0, 640, 480)]);
    let vram = device.lock().vram().clone();
    vram.write((100 * 640 + 70) * 4, &[1, 2, 3, 4]).unwrap();
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    assert_eq!(console.damage().rects(), [Rect::new(64, 96, 32, 32)]);
    // What is not seen is not a change: the fourth byte of a pixel.
    vram.write((100 * 640 + 70) * 4, &[1, 2, 3, 9]).unwrap();
    assert_eq!(console.refresh().unwrap(), Refresh::Same);
    assert!(console.damage().is_empty());
}

#[test]
fn a_screen_that_is_off_says_so_and_comes_back() {
    let (device, mut console) = console("mbochs-small", None);
    assert!(!console.update(false).live, "nobody has looked");
    console.refresh().unwrap();
    let first = console.update(false);
    assert!(!first.live && !first.frame.is_empty() && !first.damage.is_empty());
    console.refresh().unwrap();
    assert!(console.update(false).is_empty(), "it is still off");
    mode(&mut device.lock(), 800, 600);
    console.refresh().unwrap();
    let update = console.update(false);
    assert!(update.live && update.resized && update.frame.width() == 800);
    device.lock().guest_write(2, 0x400, &[0]).unwrap();
    console.refresh().unwrap();
    let update = console.update(false);
    assert!(!update.live && !update.resized && !update.damage.is_empty(), "as large as before");
    device.lock().guest_write(2, 0x400, &[0x20]).unwrap();
    console.refresh().unwrap();
    let update = console.update(false);
    assert!(update.live && update.damage.rects() == [Rect::new(0, 0, 800, 600)], "all of it anew");
}

#[test]
fn overlay_and_cursor_are_composed_or_handed_over() {
    let (device, mut console) = console("vgfx-hd", None);
    let xrgb = Fourcc::XRGB8888.bits();
    let argb = Fourcc::ARGB8888.bits();
    let vram = device.lock().vram().clone();
    plane(&device, 0, &[(0, 1), (1, xrgb), (4, 400), (5, 100), (6, 80)]);
    plane(
        &device,
        1,
        &[
            (0, 1),
            (1, xrgb),
            (2, 0x10_0000),
            (4, 128),
            (5, 32),
            (6, 16),
            (7, 50),
            (8, (-8i32).cast_unsigned()),
        ],
    );
    plane(
        &device,
        2,
        &[(0, 1), (1, argb), (2, 0x20_0000), (4, 16), (5, 4), (6, 4), (7, 60), (8, 2), (9, 1), (10, 3)],
    );
    vram.write(0x10_0000, &[0, 0xff, 0, 0].repeat(32 * 16)).unwrap();
    vram.write(0x20_0000, &[0x80, 0, 0, 0x80].repeat(16)).unwrap();
    commit(&device);
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    let at = |console: &Console, x: usize, y: u32| console.frame().row(y).unwrap()[x];
    assert_eq!(at(&console, 50, 7), 0x00_ff00, "the overlay, above the edge");
    assert_eq!(at(&console, 50, 8), 0);
    assert_eq!(at(&console, 60, 2), 0x00_7f80, "the cursor over the overlay");
    let update = console.update(true);
    assert_eq!(
        update.frame.row(2).unwrap()[60],
        0x00_ff00,
        "a viewer that draws the cursor gets none in the picture"
    );
    let cursor = update.cursor.unwrap();
    assert_eq!(
        (cursor.x, cursor.y, cursor.hot_x, cursor.hot_y, cursor.pixels[0]),
        (60, 2, 1, 3, 0x8000_0080)
    );
    assert!(update.cursor_changed);

    assert_eq!(console.refresh().unwrap(), Refresh::Same);
    plane(&device, 2, &[(7, 5), (8, 70)]);
    commit(&device);
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    assert_eq!(at(&console, 60, 2), 0x00_ff00, "it left");
    assert_eq!(at(&console, 5, 70), 0x00_0080);
    assert_eq!(console.damage().count(), 2, "the tiles it left and entered");
    let update = console.update(true);
    assert!(update.cursor_moved && !update.cursor_changed && update.damage.is_empty());

    plane(&device, 1, &[(0, 0)]);
    plane(&device, 2, &[(0, 0)]);
    commit(&device);
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    assert!(console.frame().pixels().iter().all(|pixel| *pixel == 0));
    assert!(console.update(true).cursor.is_none() && console.update(true).cursor_changed);
}

/// A device whose answers a test writes.
#[derive(Debug, Default)]
struct Script {
    /// What the primary plane is, query by query; the last one stays.
    planes: Vec<Option<Plane>>,
    asked: usize,
    /// Memory of each region that can be mapped.
    regions: Vec<Option<Arc<Vram>>>,
    gone: bool,
}

#[derive(Clone, Debug, Default)]
struct Scripted(Arc<Mutex<Script>>);

fn region_plane(index: u32, offset: u64, (width, height, stride): (u32, u32, u32)) -> Plane {
    Plane {
        kind: PlaneKind::Primary,
        format: Fourcc::XRGB8888,
        modifier: Modifier::LINEAR,
        geometry: Geometry::new(width, height, stride, 4).unwrap(),
        size: stride * height,
        position: (0, 0),
        hotspot: None,
        source: Source::Region { index, offset },
    }
}

impl Scripted {
    fn new(planes: Vec<Option<Plane>>) -> Self {
        let vram = || Some(Arc::new(Vram::new("test", 1 << 20).unwrap()));
        Self(Arc::new(Mutex::new(Script { planes, regions: vec![vram(), vram()], ..Script::default() })))
    }

    fn console(&self) -> Console {
        Console::new(Display::open(Box::new(self.clone())).unwrap())
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }
}

impl Backend for Scripted {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        Ok(DeviceSummary { flags: DeviceFlags::PCI, num_regions: 9, num_irqs: 5 })
    }
    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        Ok(RegionSummary { index, flags: RegionFlags::empty(), size: 0, caps: Vec::new() })
    }
    fn irq_count(&mut self, _: u32) -> Result<u32, DisplayError> {
        Ok(0)
    }
    fn probe(&mut self, interface: Interface) -> Result<bool, DisplayError> {
        Ok(interface == Interface::Region)
    }
    fn query(&mut self, _: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        let mut script = self.script();
        if script.gone {
            return Err(vfio_gfx::vfio_user::ClientError::Closed.into());
        }
        if kind != PlaneKind::Primary {
            // As the kernel's mdpy: the primary plane, whatever was asked for.
            return Ok(script.planes[script.asked.saturating_sub(1).min(script.planes.len() - 1)]);
        }
        let plane = script.planes[script.asked.min(script.planes.len() - 1)];
        script.asked += 1;
        Ok(plane)
    }
    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        Ok(None)
    }
    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        let script = self.script();
        let vram = script.regions.get(index as usize).and_then(Option::as_deref);
        let vram = vram.ok_or(DisplayError::NotMappable { index })?;
        Ok(Mapping::new(vram.reopen_read_only().unwrap(), BufferKind::Memfd, vram.size())?)
    }
    fn map_buffer(&mut self, _: u32) -> Result<BufferMapping, DisplayError> {
        Err(DisplayError::NoInterface)
    }
    fn read(&mut self, _: u32, _: u64, _: &mut [u8]) -> Result<(), DisplayError> {
        Err(DisplayError::NoEdidRegion)
    }
    fn write(&mut self, _: u32, _: u64, _: &[u8]) -> Result<(), DisplayError> {
        Err(DisplayError::NoEdidRegion)
    }
}

#[test]
fn a_frame_that_is_flipped_away_is_read_again() {
    let a = Some(region_plane(0, 0, (64, 64, 256)));
    let b = Some(region_plane(0, 16384, (64, 64, 256)));
    // Looked at, flipped meanwhile; looked at again, and still there.
    let device = Scripted::new(vec![a, b, b]);
    device.script().regions[0].as_ref().unwrap().write(16384, &[7; 4]).unwrap();
    let mut console = device.console();
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    assert_eq!(console.frame().pixels()[0], 0x07_0707);
}

#[test]
fn a_frame_that_is_always_flipped_away_is_torn_and_its_damage_is_kept() {
    let a = Some(region_plane(0, 0, (64, 64, 256)));
    let b = Some(region_plane(0, 16384, (64, 64, 256)));
    let mut planes = vec![a, b, a, b, a, b];
    planes.push(b);
    let device = Scripted::new(planes);
    let mut console = device.console();
    assert_eq!(console.refresh().unwrap(), Refresh::Torn);
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    assert_eq!(console.damage().rects(), [Rect::new(0, 0, 64, 64)], "nothing of it was told yet");
}

/// Memory that is taken back while it is read: what is shown is the frame before, or why there is none.
#[test]
fn a_plane_that_goes_while_it_is_read_leaves_no_half_of_a_frame() {
    #[derive(Clone, Default)]
    struct Shown(Arc<Mutex<Vec<(bool, Frame)>>>);
    impl Listener for Shown {
        fn update(&mut self, update: &Update<'_>) {
            self.0.lock().unwrap().push((update.live, update.frame.clone()));
        }
    }
    let a = Some(region_plane(0, 0, (64, 64, 256)));
    // Looked at and there; then looked at, and gone when it was read.
    let device = Scripted::new(vec![a, a, a, None]);
    let mut console = device.console();
    let shown = Shown::default();
    console.add_listener(Box::new(shown.clone()));
    let vram = device.script().regions[0].clone().unwrap();
    vram.write(0, &[1; 64 * 256]).unwrap();
    console.tick().unwrap();
    // Another owner's bytes, in half of it.
    vram.write(0, &[9; 32 * 256]).unwrap();
    console.tick().unwrap();
    let shown = shown.0.lock().unwrap();
    assert_eq!(shown.iter().map(|(live, _)| *live).collect::<Vec<_>>(), [true, false]);
    assert!(shown[0].1.pixels().iter().all(|pixel| *pixel == 0x01_0101));
    assert!(shown[1].1.pixels().iter().all(|pixel| *pixel != 0x09_0909), "a placeholder");
    assert!(console.frame().is_empty() && console.plane().is_none());
}

#[test]
fn every_change_of_the_plane_is_followed_and_nothing_stale_is_shown() {
    let device = Scripted::new(vec![Some(region_plane(0, 0, (64, 64, 256)))]);
    {
        let script = device.script();
        script.regions[0].as_ref().unwrap().write(0, &[1; 65536]).unwrap();
        script.regions[1].as_ref().unwrap().write(0, &[2; 65536]).unwrap();
    }
    let mut console = device.console();
    let mut show = |plane: Option<Plane>| {
        let mut script = device.script();
        (script.planes, script.asked) = (vec![plane], 0);
        drop(script);
        console.refresh().map(|_| {
            (console.frame().width(), console.frame().height(), console.frame().pixels().last().copied())
        })
    };
    assert_eq!(show(Some(region_plane(0, 0, (64, 64, 256)))).unwrap(), (64, 64, Some(0x01_0101)));
    assert_eq!(
        show(Some(region_plane(1, 0, (64, 64, 256)))).unwrap(),
        (64, 64, Some(0x02_0202)),
        "another region"
    );
    assert_eq!(
        show(Some(region_plane(1, 65536 - 8192, (64, 64, 256)))).unwrap(),
        (64, 64, Some(0)),
        "another offset"
    );
    assert_eq!(
        show(Some(region_plane(1, 0, (64, 64, 1024 + 256)))).unwrap(),
        (64, 64, Some(0)),
        "another stride"
    );
    assert_eq!(
        show(Some(region_plane(1, 0, (32, 16, 256)))).unwrap(),
        (32, 16, Some(0x02_0202)),
        "another size"
    );
    let rgb565 = Plane { format: Fourcc::RGB565, ..region_plane(1, 0, (32, 16, 256)) };
    for _ in 0..3 {
        assert_eq!(show(Some(rgb565)).unwrap(), (32, 16, Some(0x00_4110)), "another format");
        let before = region_plane(1, 0, (32, 16, 256));
        assert_eq!(show(Some(before)).unwrap(), (32, 16, Some(0x02_0202)), "and what it was");
        assert_eq!(show(Some(before)).unwrap(), (32, 16, Some(0x02_0202)), "at rest");
    }
    assert_eq!(show(None).unwrap(), (0, 0, None));
    let lies = [
        region_plane(7, 0, (64, 64, 256)),
        region_plane(0, u64::MAX - 3, (64, 64, 256)),
        region_plane(0, (1 << 20) - 256, (64, 64, 256)),
        Plane { format: Fourcc::from_bits(0x1234_5678), ..region_plane(0, 0, (64, 64, 256)) },
    ];
    for lie in lies {
        assert!(show(Some(lie)).is_err());
        assert_eq!(show(Some(region_plane(0, 0, (64, 64, 256)))).unwrap(), (64, 64, Some(0x01_0101)));
    }
}

#[test]
fn a_device_that_goes_is_told_to_listeners() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<(bool, bool, u32)>>>);
    impl Listener for Log {
        fn update(&mut self, update: &Update<'_>) {
            assert_eq!(update.damage.size(), (update.frame.width(), update.frame.height()));
            self.0.lock().unwrap().push((update.live, update.resized, update.damage.count()));
        }
    }
    let device = Scripted::new(vec![Some(region_plane(0, 0, (64, 64, 256)))]);
    let mut console = device.console();
    console.tick().unwrap();
    assert_eq!(device.script().asked, 0, "nobody listens, nobody looks");
    let (early, late) = (Log::default(), Log::default());
    console.add_listener(Box::new(early.clone()));
    console.tick().unwrap();
    console.tick().unwrap();
    let asked = device.script().asked;
    let id = console.add_listener(Box::new(late.clone()));
    console.tick().unwrap();
    assert_eq!(device.script().asked - asked, 1, "one look for all, and nothing changed");
    assert_eq!(*early.0.lock().unwrap(), [(true, true, 4)]);
    assert_eq!(*late.0.lock().unwrap(), [(true, true, 4)], "whoever comes late is told everything");
    assert!(console.remove_listener(id).is_some() && console.remove_listener(id).is_none());
    device.script().gone = true;
    assert!(console.tick().unwrap_err().is_gone());
    assert_eq!(early.0.lock().unwrap().last(), Some(&(false, false, 4)));
    assert_eq!(late.0.lock().unwrap().len(), 1);
}

#[test]
fn a_device_that_is_waited_for_is_another_when_it_comes() {
    let plane = |width: u32| Some(region_plane(0, 0, (width, 64, width * 4)));
    let (first, second) = (Scripted::new(vec![plane(64)]), Scripted::new(vec![plane(32)]));
    let mut console = first.console();
    assert_eq!((console.state(), console.refresh().unwrap()), (State::Waiting, Refresh::Changed));
    assert_eq!(console.state(), State::Live);
    first.script().gone = true;
    assert!(console.refresh().unwrap_err().is_gone());
    assert_eq!(console.state(), State::Unplugged);
    // Nobody waits: it is gone for good.
    console.add_listener(Box::new(Nobody));
    assert!(console.tick().is_err());
    let asked = first.script().asked;
    let mut next = Some(second.console().display);
    let tries = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&tries);
    console.reopen_with(move || {
        let mut tries = counter.lock().unwrap();
        *tries += 1;
        if *tries == 1 { None } else { next.take() }
    });
    let start = Instant::now();
    console.tick().unwrap();
    while console.refresh().is_err() {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(*tries.lock().unwrap(), 2);
    assert!(start.elapsed() >= Duration::from_millis(500), "not at every look");
    assert_eq!(first.script().asked, asked, "and the one that is gone is left alone");
    assert_eq!((console.state(), console.frame().width()), (State::Live, 32));
}

/// A listener that only has to be there.
struct Nobody;

impl Listener for Nobody {
    fn update(&mut self, _: &Update<'_>) {}
}

#[test]
fn a_source_of_damage_spares_the_rest() {
    #[derive(Clone)]
    struct Written(Arc<Mutex<Vec<std::ops::Range<u64>>>>);
    impl DamageSource for Written {
        fn written(
            &mut self,
            range: std::ops::Range<u64>,
            each: &mut dyn FnMut(std::ops::Range<u64>),
        ) -> std::io::Result<()> {
            assert_eq!(range, 0..64 * 256);
            self.0.lock().unwrap().drain(..).for_each(each);
            Ok(())
        }
    }
    let device = Scripted::new(vec![Some(region_plane(0, 0, (64, 64, 256)))]);
    let written = Written(Arc::default());
    let mut console = device.console();
    console.set_damage_source(Box::new(written.clone()));
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    let vram = device.script().regions[0].clone().unwrap();
    vram.write(0, &[1; 4]).unwrap();
    vram.write(33 * 256, &[1; 4]).unwrap();
    assert_eq!(console.refresh().unwrap(), Refresh::Same, "nobody said that anything was written");
    written.0.lock().unwrap().push(33 * 256 + 1..33 * 256 + 2);
    assert_eq!(console.refresh().unwrap(), Refresh::Changed);
    assert_eq!(console.damage().rects(), [Rect::new(0, 32, 32, 32)]);
}
