//! The refresh engine against a device that says and does anything.

use std::sync::{Arc, Mutex};

use qemu_shim::{Console, Refresh};
use vfio_gfx::abi::{DeviceFlags, Interface, PlaneInfo, PlaneKind, RegionFlags};
use vfio_gfx::display::{Backend, BufferMapping, DeviceSummary, Display, DisplayError, RegionSummary, Watch};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::{BufferKind, Mapping, Vram};
use vfio_gfx::plane::{Plane, Source};
use zerocopy::FromZeros;

use crate::input::Input;

/// Bytes of each of the device's memories.
const MEMORY: u64 = 1 << 16;
const OPERATIONS: usize = 48;

/// What the device says of a plane; it reads as a driver's reply does.
#[derive(Clone, Copy, Debug)]
struct Answer {
    raw: PlaneInfo,
    offset: u64,
}

#[derive(Debug)]
struct Script {
    /// Primary, overlay, cursor.
    now: [Answer; 3],
    /// What the primary plane is at the next queries instead, the last first.
    next: Vec<Answer>,
    memories: [Vram; 2],
    gone: bool,
}

#[derive(Clone, Debug)]
struct Device(Arc<Mutex<Script>>);

impl Backend for Device {
    fn device(&mut self) -> Result<DeviceSummary, DisplayError> {
        Ok(DeviceSummary { flags: DeviceFlags::PCI, num_regions: 9, num_irqs: 5 })
    }
    fn region(&mut self, index: u32) -> Result<RegionSummary, DisplayError> {
        Ok(RegionSummary { index, flags: RegionFlags::empty(), size: 0, caps: Vec::new() })
    }
    fn irq_count(&mut self, _: u32) -> Result<u32, DisplayError> {
        Ok(0)
    }
    fn probe(&mut self, _: Interface) -> Result<bool, DisplayError> {
        Ok(true)
    }
    fn query(&mut self, interface: Interface, kind: PlaneKind) -> Result<Option<Plane>, DisplayError> {
        let mut script = self.0.lock().unwrap();
        if script.gone {
            return Err(vfio_gfx::vfio_user::ClientError::Closed.into());
        }
        let answer = match kind {
            PlaneKind::Primary => script.next.pop().unwrap_or(script.now[0]),
            PlaneKind::Overlay => script.now[1],
            PlaneKind::Cursor => script.now[2],
        };
        Ok(Plane::from_raw(&answer.raw, interface, kind, answer.offset)?)
    }
    fn watch(&mut self) -> Result<Option<Watch>, DisplayError> {
        Ok(None)
    }
    fn map_region(&mut self, index: u32) -> Result<Mapping, DisplayError> {
        let script = self.0.lock().unwrap();
        let memory = script.memories.get(index as usize).ok_or(DisplayError::NotMappable { index })?;
        Ok(Mapping::new(memory.reopen_read_only().unwrap(), BufferKind::Memfd, MEMORY)?)
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

/// Planes that change at will, between and during looks, over memory that changes too. What is promised:
///
/// - no plane makes a refresh fail in any other way than by an error, and nothing is read beyond the memory (or this
///   crashes);
/// - the picture is the plane's, pixel by pixel, after every refresh that found it steady, with nothing on it; and empty
///   after one that failed or found it off, while what viewers see is never empty;
/// - what is said to have changed is of the picture's size, and a viewer that repaints just that, and everything when the
///   size is another, has the same picture.
pub fn refresh(data: &[u8]) {
    let mut input = Input::new(data);
    let memories = [0, 1].map(|_| Vram::new("fuzz", MEMORY).unwrap());
    let script = Script {
        now: [Answer { raw: PlaneInfo::new_zeroed(), offset: 0 }; 3],
        next: Vec::new(),
        memories,
        gone: false,
    };
    let device = Device(Arc::new(Mutex::new(script)));
    let mut console = Console::new(Display::open(Box::new(device.clone())).unwrap());
    // What a viewer has that repaints what it is told.
    let mut viewed = qemu_shim::Frame::default();
    for _ in 0..OPERATIONS {
        if input.is_empty() {
            break;
        }
        let mut script = device.0.lock().unwrap();
        match input.byte() % 8 {
            0 => {
                let kind = usize::from(input.byte() % 3);
                script.now[kind] = answer(&mut input);
            }
            1 => {
                let answers = (0..input.byte() % 4).map(|_| answer(&mut input)).collect();
                script.next = answers;
            }
            2 => {
                let (memory, offset) = (usize::from(input.flag()), u64::from(input.any::<u16>()));
                let bytes = input.some_bytes(64);
                let len = bytes.len().min(usize::try_from(MEMORY - offset).unwrap());
                script.memories[memory].write(offset, &bytes[..len]).unwrap();
            }
            3 => script.gone = input.byte() == 0x55,
            _ => {
                drop(script);
                look(&device, &mut console, &mut viewed);
            }
        }
    }
    look(&device, &mut console, &mut viewed);
}

/// A reply of a driver: mostly one that could be.
fn answer(input: &mut Input<'_>) -> Answer {
    const FORMATS: [Fourcc; 7] = [
        Fourcc::XRGB8888,
        Fourcc::ARGB8888,
        Fourcc::RGB565,
        Fourcc::RGB888,
        Fourcc::XRGB2101010,
        Fourcc::ARGB16161616,
        Fourcc::NONE,
    ];
    if input.byte() % 8 == 7 {
        let raw = PlaneInfo {
            drm_format: if input.flag() { input.any() } else { input.pick(&FORMATS).bits() },
            width: input.number(),
            height: input.number(),
            stride: input.number(),
            size: input.number(),
            x_pos: input.number(),
            y_pos: input.number(),
            x_hot: input.number(),
            y_hot: input.number(),
            handle: input.number(),
            ..PlaneInfo::new_zeroed()
        };
        return Answer { raw, offset: input.number64() };
    }
    let format = input.pick(&FORMATS);
    let width = u32::from(input.byte()) % 100;
    let stride = width * format.bytes_per_pixel().unwrap_or(4) + u32::from(input.byte() % 16);
    let raw = PlaneInfo {
        drm_format: format.bits(),
        width,
        height: u32::from(input.byte()) % 100,
        stride,
        size: 1 << 16,
        x_pos: i32::from(input.any::<i8>()).cast_unsigned(),
        y_pos: i32::from(input.any::<i8>()).cast_unsigned(),
        handle: u32::from(input.byte() % 3),
        ..PlaneInfo::new_zeroed()
    };
    Answer { raw, offset: u64::from(input.any::<u16>()) }
}

fn look(device: &Device, console: &mut Console, viewed: &mut qemu_shim::Frame) {
    let result = console.refresh();
    if matches!(result, Ok(Refresh::Torn)) {
        // Not to be shown.
        return;
    }
    check_viewer(console, viewed, matches!(result, Ok(Refresh::Same | Refresh::Changed)));
    let script = device.0.lock().unwrap();
    if console.update(false).live
        && script.next.is_empty()
        && script.now[1..].iter().all(|answer| answer.raw.width == 0)
    {
        is_the_planes(console.plane(), console.frame(), &script.memories);
    }
}

/// What holds after every look whose picture may be shown: there is something to see, it is the guest's only if the look
/// succeeded, and a viewer that repaints what it is told of has the same picture.
pub(crate) fn check_viewer(console: &Console, viewed: &mut qemu_shim::Frame, live: bool) {
    let update = console.update(false);
    assert!(!update.frame.is_empty());
    assert_eq!(update.damage.size(), (update.frame.width(), update.frame.height()));
    assert_eq!(update.live, live);
    assert_eq!(console.frame().is_empty(), !update.live);
    let another_size = (viewed.width(), viewed.height()) != (update.frame.width(), update.frame.height());
    if another_size {
        viewed.clone_from(update.frame);
    }
    for rect in update.damage.rects() {
        let columns = rect.x as usize..(rect.x + rect.width) as usize;
        let rows = viewed.rows_mut().zip(update.frame.rows()).skip(rect.y as usize);
        for (row, new) in rows.take(rect.height as usize) {
            row[columns.clone()].copy_from_slice(&new[columns.clone()]);
        }
    }
    assert!(viewed == update.frame, "a viewer that repaints what it is told of has another picture");
}

/// Compares a picture with the memory that its plane is in, the slow way, for the format in which that is simple.
fn is_the_planes(plane: Option<&Plane>, frame: &qemu_shim::Frame, memories: &[Vram; 2]) {
    let plane = plane.expect("a picture has a plane");
    let Source::Region { index, offset } = plane.source else { panic!("nobody asked for buffers") };
    if plane.format != Fourcc::XRGB8888 {
        return;
    }
    for (y, row) in (0..).zip(frame.rows()) {
        for (x, pixel) in (0..).zip(row) {
            let mut bytes = [0; 4];
            let at = offset + y * u64::from(plane.geometry.stride()) + 4 * x;
            memories[index as usize].read(at, &mut bytes).unwrap();
            assert_eq!(*pixel, u32::from_le_bytes(bytes) & 0xff_ffff, "at {x}, {y}");
        }
    }
}
