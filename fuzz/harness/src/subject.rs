//! The devices that the targets take apart, and what holds for all of them.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mdev_sample::DeviceType;
use mdev_sample::mbochs::{Clock, Mbochs};
use mdev_sample::vgfx::Vgfx;
use rustix::fs::fstat;
use vfio_gfx::abi::{Interface, PlaneKind, pci_region};
use vfio_gfx::device::{Backing, Device, DeviceError, DeviceSpec, EdidRegion, Interfaces};
use vfio_gfx::edid::{self, Config, Mode};
use vfio_gfx::memory::{BufferKind, PAGE_SIZE, Vram};
use vfio_gfx::plane::{Plane, Source};

use crate::ids::Ids;
use crate::input::Input;

/// What an input chooses from. The small ones come often: making a device and clearing its screen costs what its video
/// memory costs.
const MENU: [Option<&str>; 16] = [
    None,
    None,
    None,
    None,
    None,
    None,
    Some("mbochs-small"),
    Some("mbochs-small"),
    Some("vgfx-hd"),
    Some("mbochs-medium"),
    Some("mbochs-large"),
    Some("mdpy-vga"),
    Some("mdpy-vga"),
    Some("mdpy-vga"),
    Some("mdpy-xga"),
    Some("mdpy-hd"),
];

/// Video memory of the device that is no sample type, in bytes.
const VRAM_SIZE: u64 = 4 << 20;

/// A device to take apart.
pub(crate) struct Subject {
    pub(crate) device: Device,
    /// Milliseconds on its clock, which moves when told, so that an input does the same each time.
    pub(crate) clock: Arc<AtomicU64>,
}

impl Subject {
    /// The device that the next two bytes of an input choose.
    pub(crate) fn choose(input: &mut Input<'_>) -> Self {
        let name = input.pick(&MENU);
        let interfaces = Interfaces::from_bits_truncate(input.byte());
        match name {
            Some(name) => Self::sample(name, interfaces),
            None => Self::own(interfaces),
        }
    }

    fn sample(name: &str, interfaces: Interfaces) -> Self {
        let clock = Arc::default();
        let created = DeviceType::find(name).unwrap().create_with_clock(Some(interfaces), read(&clock));
        Self { device: at(created.unwrap(), &clock), clock }
    }

    /// A small `vgfx`, which is a Bochs display too, with what no sample type has: interrupts to arm.
    pub(crate) fn own(interfaces: Interfaces) -> Self {
        Self::own_at(interfaces, Arc::default())
    }

    /// The same with a clock that others go by too.
    pub(crate) fn own_at(interfaces: Interfaces, clock: Arc<AtomicU64>) -> Self {
        let max = (1920, 1440);
        let edid = edid::generate(&Config::new(Mode::new(800, 600))).unwrap();
        let spec = DeviceSpec {
            name: "own".to_owned(),
            config: Mbochs::config(VRAM_SIZE).unwrap(),
            regions: Mbochs::regions(VRAM_SIZE),
            display_region: pci_region::BAR0,
            interfaces,
            irqs: vec![1, 4],
            edid: Some(EdidRegion::new(edid.as_bytes(), max)),
            events: true,
        };
        let vram = Arc::new(Vram::new("own", VRAM_SIZE).unwrap());
        let device = Device::new(spec, vram, Box::new(Vgfx::new(VRAM_SIZE, max, read(&clock))));
        Self { device: at(device, &clock), clock }
    }
}

fn read(clock: &Arc<AtomicU64>) -> Clock {
    let clock = Arc::clone(clock);
    Box::new(move || Duration::from_millis(clock.load(Ordering::Relaxed)))
}

/// Its flips go by the clock as well.
fn at(mut device: Device, clock: &Arc<AtomicU64>) -> Device {
    device.set_flip_clock(read(clock));
    device
}

/// The common beginning of every driver: a mode of 32 bits per pixel, switched on. Nothing on a device without the
/// registers.
pub(crate) fn set_mode(device: &mut Device, width: u16, height: u16) {
    const ENABLED_NOCLEARMEM: u16 = 0x81;
    for (register, value) in [(4, 0), (3, 32), (1, width), (2, height), (4, ENABLED_NOCLEARMEM)] {
        let _ = device.guest_write(2, 0x500 + 2 * register, &value.to_le_bytes());
    }
}

/// Offset in BAR2 of the plane registers of a `vgfx`, which are effective once [`COMMIT`] is written.
pub(crate) const PLANE_REGISTERS: u64 = 0x840;
/// Offset in BAR2.
pub(crate) const COMMIT: u64 = 0x808;

/// Writes the registers of one plane, from the first on, and commits them. Nothing on a device that is no `vgfx`.
pub(crate) fn set_plane(device: &mut Device, input: &mut Input<'_>) {
    let plane = u64::from(input.byte() % 3);
    let format = input.pick(&[*b"XR24", *b"AR24", *b"RG16", *b"RG24", *b"NV12"]);
    let start = input.number();
    let registers = [1, u32::from_le_bytes(format), start, 0];
    let others = [(); 9].map(|()| input.number());
    for (n, value) in (0..).zip(registers.into_iter().chain(others)) {
        let _ = device.guest_write(2, PLANE_REGISTERS + 0x40 * plane + 4 * n, &u32::to_le_bytes(value));
    }
    let _ = device.guest_write(2, COMMIT, &[0; 4]);
}

/// Asks for every plane through every interface.
///
/// Oracle: an interface that is not offered is refused; through the others the same planes are on, but that no region
/// has those in guest memory; and each lies in the region or buffer that the answer names.
pub(crate) fn check_planes(device: &mut Device, ids: &mut Ids) {
    for kind in PlaneKind::ALL {
        let answers = [Interface::Region, Interface::Dmabuf].map(|interface| {
            let answer = device.query(interface, kind);
            if !device.probe(interface) {
                assert!(matches!(answer, Err(DeviceError::NotOffered(_))), "{answer:?}");
                return None;
            }
            if matches!(answer, Err(DeviceError::NotInRegion)) {
                assert_eq!(interface, Interface::Region);
                return Some(Err(()));
            }
            let plane = answer.unwrap();
            if let Some(plane) = &plane {
                assert_eq!(plane.kind, kind);
                check_plane(device, plane, ids);
            }
            Some(Ok(plane))
        });
        match answers {
            [Some(Err(())), Some(buffer)] => assert!(buffer.is_ok_and(|plane| plane.is_some())),
            [Some(Ok(region)), Some(Ok(buffer))] => check_same(device, region, buffer),
            _ => {}
        }
    }
}

/// Checks that both interfaces show the same plane.
fn check_same(device: &mut Device, region: Option<Plane>, buffer: Option<Plane>) {
    let shape = |plane: Plane| (plane.format, plane.modifier, plane.geometry, plane.size, plane.position);
    assert_eq!(region.map(shape), buffer.map(shape), "the interfaces contradict each other");
    if let Some((region, Source::Buffer { id, .. })) = region.zip(buffer.map(|plane| plane.source)) {
        let buffer = device.buffer(id, false).unwrap();
        // A memfd is the whole video memory; a dma-buf starts with the plane's first page.
        let start = region.source.offset();
        let expected = if buffer.kind == BufferKind::Memfd { start } else { start % PAGE_SIZE };
        assert_eq!(buffer.offset, expected, "buffer {id} is other memory");
    }
}

/// Checks that a plane's pixels lie where it says.
fn check_plane(device: &mut Device, plane: &Plane, ids: &mut Ids) {
    let vram = device.vram().size();
    let size = u64::from(plane.size);
    assert!(size > 0 && size.is_multiple_of(PAGE_SIZE) && size <= vram, "{plane:?}");
    match plane.source {
        Source::Region { index, .. } => {
            let region = device.regions().get(index).unwrap();
            assert_eq!(region.backing, Backing::Vram);
            plane.check_within(region.size).unwrap();
        }
        Source::Buffer { id, offset } => {
            assert!(offset < PAGE_SIZE, "a buffer starts in the plane's first page");
            plane.check_within(size).unwrap();
            if !ids.queried(plane) {
                // Fetched when it was new.
                return;
            }
            // Not as a console would: of guest memory that makes a copy, of just then.
            let buffer = match device.buffer(id, false) {
                Err(DeviceError::GuestExport(_)) => return,
                buffer => buffer.unwrap(),
            };
            let identity = |fd: BorrowedFd<'_>| fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).unwrap();
            let is_video_memory = identity(buffer.fd.as_fd()) == identity(device.vram().file().as_fd());
            let buffer = if is_video_memory { device.buffer(id, true).unwrap() } else { buffer };
            Plane { source: Source::Buffer { id, offset: buffer.offset }, ..*plane }
                .check_within(buffer.size)
                .unwrap();
        }
    }
}
