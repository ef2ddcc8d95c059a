//! A guest at the registers, and a host at the EDID region.

use std::sync::atomic::Ordering;

use mdev_sample::mbochs::{EDID_REGION, MMIO_SIZE};
use rustix::event::{EventfdFlags, eventfd};
use vfio_gfx::abi::{Interface, PlaneKind, pci_region};
use vfio_gfx::device::{CONFIG_SIZE, DISPLAY_EVENTS, Device, EDID_BLOB_MAX, EDID_REGION_SIZE, Interfaces};
use vfio_gfx::plane::Plane;

use crate::ids::Ids;
use crate::input::Input;
use crate::subject::{COMMIT, PLANE_REGISTERS, Subject, check_planes, set_plane};

/// Operations per input.
const MAX_OPERATIONS: usize = 200;

const BAR2: u32 = pci_region::BAR2;
const CONFIG: u32 = pci_region::CONFIG;
const DISPI: u64 = 0x500;

/// Where accesses are tried: region and offset.
const PLACES: [(u32, u64); 19] = [
    (BAR2, 0),
    (BAR2, 0x3fc),
    (BAR2, 0x400),
    (BAR2, 0x4fe),
    (BAR2, DISPI),
    (BAR2, 0x514),
    (BAR2, 0x600),
    (BAR2, MMIO_SIZE - 4),
    (CONFIG, 0),
    (CONFIG, 0x10),
    (CONFIG, 0x34),
    (CONFIG, 0xfc),
    (EDID_REGION, 0),
    (EDID_REGION, 0x7fc),
    (EDID_REGION, 0x800),
    (pci_region::BAR0, 0),
    (BAR2, 0x7fc),
    (BAR2, PLANE_REGISTERS),
    (BAR2, 0x8fc),
];

/// Any sequence of accesses of any width to every region of a `vgfx` display: a guest's through its BARs and
/// configuration space, a host's to the EDID region, with resets and the passing of time in between.
///
/// Oracle: an access inside its region has a result and one that leaves it has none; read-only bits of configuration
/// space, EDID registers and DISPI registers never change; while memory decoding is off BARs read as ones and writes
/// change nothing; the window shows the visible EDID and zeros behind it; a refused write to the EDID region changes
/// nothing; what is read in pieces is what is read at once; planes are what the registers
/// say and fit the video memory; who waits for changes is told when a register changes one.
pub fn registers(data: &[u8]) {
    let input = &mut Input::new(data);
    let Subject { mut device, clock } = Subject::own(Interfaces::all());
    let mut ids = Ids::default();
    let mut config = [0; 256];
    device.read(CONFIG, 0, &mut config).unwrap();
    let vram_size = device.vram().size();
    let told = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap();
    let watcher = device.watch().unwrap();
    (0..DISPLAY_EVENTS).for_each(|event| watcher.set(event, told.try_clone().ok()));
    let mut shown = planes(&mut device);
    for _ in 0..MAX_OPERATIONS {
        if input.is_empty() {
            break;
        }
        let what = input.byte() % 10;
        match what {
            0 | 1 => {
                let (register, value) = (u64::from(input.byte() % 16), input.number());
                let value = u16::try_from(value & 0xffff).unwrap_or_default();
                device.guest_write(BAR2, DISPI + 2 * register, &value.to_le_bytes()).unwrap();
            }
            2 | 3 => write(&mut device, input),
            4 => read(&mut device, input),
            5 => device.reset(),
            6 => {
                let command = [input.byte(), 0];
                device.guest_write(CONFIG, 4, &command).unwrap();
            }
            7 => set_plane(&mut device, input),
            8 => device.guest_write(BAR2, COMMIT, &[0; 4]).unwrap(),
            _ => {
                clock.fetch_add(u64::from(input.byte()) * 10, Ordering::Relaxed);
            }
        }
        let now = planes(&mut device);
        let was_told = rustix::io::read(&told, &mut [0; 8]).is_ok();
        // Time alone can put a scanout base into effect; that is told with the next write.
        assert!(was_told || now == shown || what == 9, "nobody was told: {shown:?} became {now:?}");
        shown = now;
        check_config(&mut device, &config, vram_size);
        check_edid(&mut device);
        check_dispi(&mut device, vram_size);
        check_planes(&mut device, &mut ids);
    }
}

/// What is on the screen.
fn planes(device: &mut Device) -> [Option<Plane>; 3] {
    PlaneKind::ALL.map(|kind| device.query(Interface::Region, kind).unwrap())
}

/// Which region, which offset, and whether the access must succeed.
fn place(input: &mut Input<'_>, device: &Device, len: usize) -> (u32, u64, bool) {
    let (region, base) = input.pick(&PLACES);
    let offset = match input.byte() {
        after @ 0..0xf0 => base + u64::from(after),
        0xf0..0xfa => base + u64::from(input.any::<u16>()),
        _ => input.any(),
    };
    let size = device.regions().get(region).unwrap().size;
    (region, offset, u128::from(offset) + len as u128 <= u128::from(size))
}

fn decodes(device: &mut Device) -> bool {
    let mut command = [0];
    device.read(CONFIG, 4, &mut command).unwrap();
    command[0] & 2 != 0
}

fn read(device: &mut Device, input: &mut Input<'_>) {
    let len = usize::from(input.byte());
    let (region, offset, inside) = place(input, device, len);
    let mut data = vec![0x5a; len];
    let result = device.guest_read(region, offset, &mut data);
    assert_eq!(result.is_ok(), inside, "{result:?}");
    // Registers of BAR2 behind the EDID window answer to one width only; all else is memory.
    if inside && !(region == BAR2 && offset + len as u64 > 0x400) {
        for (n, expected) in (offset..).zip(&data) {
            let mut byte = [0];
            device.guest_read(region, n, &mut byte).unwrap();
            assert_eq!(byte[0], *expected, "region {region} at {n:#x}");
        }
    }
}

fn write(device: &mut Device, input: &mut Input<'_>) {
    let data = input.some_bytes(64);
    let (region, offset, inside) = place(input, device, data.len());
    let is_live = region > pci_region::BAR5 || decodes(device);
    let before = contents(device);
    let result = device.guest_write(region, offset, data);
    if region != EDID_REGION {
        assert_eq!(result.is_ok(), inside, "{result:?}");
    }
    if result.is_err() || !is_live {
        assert!(contents(device) == before, "a write that was refused or ignored changed something");
    }
}

/// Everything that a write could change, but the video memory.
fn contents(device: &mut Device) -> Vec<u8> {
    let mut all = Vec::new();
    for (region, size) in [(CONFIG, CONFIG_SIZE), (EDID_REGION, EDID_REGION_SIZE)] {
        let start = all.len();
        all.resize(start + usize::try_from(size).unwrap_or_default(), 0);
        device.read(region, 0, &mut all[start..]).unwrap();
    }
    let dispi = (DISPI..DISPI + 22).step_by(2).map(|offset| (offset, 2));
    for (offset, width) in dispi.chain((0x800..0x900).step_by(4).map(|offset| (offset, 4))) {
        let mut register = [0; 4];
        device.read(BAR2, offset, &mut register[..width]).unwrap();
        all.extend(register);
    }
    all
}

/// PCI 3.0, 6.1: COMMAND's IO, MEMORY, MASTER, SERR and INTX_DISABLE, the cache line size, the interrupt line, and the
/// address bits of the BARs at and above their size; nothing else is writable.
fn check_config(device: &mut Device, at_power_on: &[u8; 256], vram_size: u64) {
    let mut writable = [0; 256];
    writable[4..6].copy_from_slice(&[0x07, 0x05]);
    writable[0x0c] = 0xff;
    writable[0x3c] = 0xff;
    for (bar, size) in [(0x10, vram_size), (0x18, MMIO_SIZE)] {
        let mask = (!(size - 1)).to_le_bytes();
        writable[bar..bar + 4].copy_from_slice(&mask[..4]);
    }
    let mut now = [0; 256];
    device.read(CONFIG, 0, &mut now).unwrap();
    for (n, ((now, then), writable)) in now.iter().zip(at_power_on).zip(writable).enumerate() {
        assert_eq!(now & !writable, then & !writable, "read-only bits of byte {n:#x} changed");
    }
}

fn check_edid(device: &mut Device) {
    let mut registers = [0; 24];
    device.read(EDID_REGION, 0, &mut registers).unwrap();
    let [offset, max_size, size, x, y, link] =
        [0, 4, 8, 12, 16, 20].map(|at| u32::from_ne_bytes(registers[at..at + 4].try_into().unwrap()));
    assert_eq!((offset, max_size, x, y), (0x800, 0x400, 1920, 1440), "read-only EDID registers");
    assert!(size <= max_size && (link == 1 || link == 2));
    let mut blob = vec![0; EDID_BLOB_MAX];
    device.read(EDID_REGION, 0x800, &mut blob).unwrap();
    blob.truncate(if link == 1 { size as usize } else { 0 });
    assert_eq!(device.visible_edid(), blob);
    let mut expected = blob;
    expected.resize(EDID_BLOB_MAX, 0);
    if !decodes(device) {
        expected.fill(0xff);
    }
    let mut window = vec![0x5a; EDID_BLOB_MAX];
    device.guest_read(BAR2, 0, &mut window).unwrap();
    assert!(window == expected, "the window is not the visible EDID");
}

fn check_dispi(device: &mut Device, vram_size: u64) {
    let mut registers = [0u16; 11];
    for (offset, register) in (DISPI..).step_by(2).zip(&mut registers) {
        let mut bytes = [0; 2];
        device.read(BAR2, offset, &mut bytes).unwrap();
        *register = u16::from_le_bytes(bytes);
    }
    let [id, width, height, bpp, enable, ..] = registers;
    assert!((0xb0c0..=0xb0c5).contains(&id), "{id:#x}");
    assert_eq!(u64::from(registers[10]), vram_size >> 16);
    let mut qext = [0; 8];
    device.read(BAR2, 0x600, &mut qext[..4]).unwrap();
    device.read(BAR2, 0x604, &mut qext[4..]).unwrap();
    assert!(qext == [8, 0, 0, 0, 0x1e, 0x1e, 0x1e, 0x1e] || qext == [8, 0, 0, 0, 0xbe, 0xbe, 0xbe, 0xbe]);
    let Some(plane) = device.query(Interface::Region, PlaneKind::Primary).unwrap() else {
        return;
    };
    let mut commits = [0; 4];
    device.read(BAR2, COMMIT, &mut commits).unwrap();
    // From the first commit on another set of registers may be what is shown.
    if commits == [0; 4] && enable & 2 == 0 {
        assert!(enable & 1 != 0);
        assert_eq!((plane.geometry.width(), plane.geometry.height()), (u32::from(width), u32::from(height)));
        assert_eq!(bpp, 32);
    }
}
