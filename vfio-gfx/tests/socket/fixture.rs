//! A small device of our own, served.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vfio_gfx::abi::PlaneKind;
use vfio_gfx::abi::caps::RegionCap;
use vfio_gfx::device::{
    Backing, ConfigSpace, Device, DeviceSpec, EdidRegion, Identity, Interfaces, Model, Platform, Region,
    RegionTable, Scanout, ScanoutMemory, SharedDevice,
};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::{GuestBufferId, GuestMemory, Vram};
use vfio_gfx::plane::Geometry;
use vfio_gfx::vfio_user::{Server, Stopper, Until};

use crate::peer::{CONSOLE, Peer, VMM};

pub(crate) const VRAM: u32 = 0;
/// The trapped one: four 32-bit registers that hold what is written.
pub(crate) const REGISTERS: u32 = 2;
pub(crate) const CONFIG: u32 = 7;
pub(crate) const EDID: u32 = 9;
pub(crate) const VRAM_SIZE: u64 = 2 << 20;
pub(crate) const EDID_BYTES: [u8; 128] = [0xed; 128];

/// Register 0 means nothing.
pub(crate) const SCRATCH: u64 = 0;
/// Register 1: the plane is on.
pub(crate) const ENABLE: u64 = 4;
/// Register 2: the row of the video memory that the plane starts in.
pub(crate) const ROW: u64 = 8;

/// Register 3: 0, or a page of guest memory where the plane is instead: two pages from there on and two 16 pages on, or
/// four in a row with [`CONTIGUOUS`].
pub(crate) const GUEST: u64 = 12;
pub(crate) const CONTIGUOUS: u32 = 1 << 31;

pub(crate) const WIDTH: u32 = 64;
pub(crate) const HEIGHT: u32 = 48;
pub(crate) const STRIDE: u32 = 320;

/// Where the fixture writes [`MARK`] into the video memory.
pub(crate) const MARK_AT: u64 = 0x1_0000;
pub(crate) const MARK: &[u8; 16] = b"right, even now!";

#[derive(Default)]
struct Registers {
    bytes: [u8; 16],
    guest: Option<GuestBufferId>,
}

impl Registers {
    fn get(&self, at: u64) -> u32 {
        let at = usize::try_from(at).unwrap();
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    /// A buffer of the guest memory that register 3 names, if that is memory.
    fn guest_buffer(&self, memory: &GuestMemory) -> Option<GuestBufferId> {
        let (value, page) = (self.get(GUEST), 4096);
        let start = u64::from(value & !CONTIGUOUS) * page;
        let scattered = [(start, 2 * page), (start + 16 * page, 2 * page)];
        let ranges = if value & CONTIGUOUS == 0 { &scattered[..] } else { &[(start, 4 * page)] };
        (value != 0).then(|| memory.buffer(ranges).ok()).flatten()
    }
}

impl Model for Registers {
    fn read(&mut self, _: u32, offset: u64, data: &mut [u8], _: &Platform<'_>) {
        let from = self.bytes.iter().skip(usize::try_from(offset).unwrap());
        data.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    }

    fn write(&mut self, _: u32, offset: u64, data: &[u8], platform: &Platform<'_>) {
        let to = self.bytes.iter_mut().skip(usize::try_from(offset).unwrap());
        to.zip(data).for_each(|(to, from)| *to = *from);
        if offset == GUEST {
            if let Some(old) = self.guest.take() {
                platform.guest.release(old);
            }
            self.guest = self.guest_buffer(platform.guest);
        }
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        let on = kind == PlaneKind::Primary && self.get(ENABLE) != 0;
        let geometry = Geometry::new(WIDTH, HEIGHT, STRIDE, 4).unwrap();
        let offset = u64::from(self.get(ROW)) * u64::from(STRIDE);
        let memory = self.guest.map_or(ScanoutMemory::Vram, ScanoutMemory::Guest);
        on.then(|| Scanout { memory, ..Scanout::primary(Fourcc::XRGB8888, geometry, offset) })
    }

    fn reset(&mut self, _: &Platform<'_>) {
        *self = Self::default();
    }
}

pub(crate) fn device() -> Device {
    device_with(Box::new(Registers::default()), false)
}

/// The same device around another model.
pub(crate) fn device_with(model: Box<dyn Model>, events: bool) -> Device {
    let identity =
        Identity { id: (0x1234, 0x5678), subsystem: (0, 0), class: (3, 0x80, 0), revision: 1, command: 3 };
    let config = ConfigSpace::new(identity).with_memory_bar(VRAM, VRAM_SIZE, true).unwrap();
    let vram = Vram::new("fixture", VRAM_SIZE).unwrap();
    vram.write(MARK_AT, MARK).unwrap();
    let spec = DeviceSpec {
        name: "fixture".into(),
        config: config.with_memory_bar(REGISTERS, 4096, false).unwrap(),
        regions: RegionTable::new(
            EDID + 1,
            vec![
                Region::new(VRAM, VRAM_SIZE, 0x10_0000, Backing::Vram),
                Region::new(REGISTERS, 4096, 0x1000, Backing::Trapped),
                Region::new(CONFIG, 256, 0, Backing::Config),
                Region::new(EDID, 4096, 0x2000, Backing::Edid).with_caps(&[RegionCap::GFX_EDID]),
            ],
        ),
        display_region: VRAM,
        interfaces: Interfaces::all(),
        irqs: vec![0, 1],
        edid: Some(EdidRegion::new(&EDID_BYTES, (0, 0))),
        events,
    };
    Device::new(spec, Arc::new(vram), model)
}

/// Tests of this binary run side by side; one that counts the process's descriptors runs alone.
static PROCESS: RwLock<()> = RwLock::new(());

/// What keeps the others out, or lets them be.
pub(crate) enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

impl Turn {
    pub(crate) fn shared() -> Self {
        Self::Shared { _guard: PROCESS.read().unwrap_or_else(PoisonError::into_inner) }
    }

    pub(crate) fn alone() -> Self {
        Self::Alone { _guard: PROCESS.write().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// A device behind a socket, until it is dropped.
pub(crate) struct Served {
    pub(crate) device: SharedDevice,
    path: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    _dir: TempDir,
    _turn: Turn,
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::of(device)
    }

    /// A device of the caller's, made when it is our turn: who waits for it must not open anything yet.
    pub(crate) fn of(make: impl FnOnce() -> Device) -> Self {
        let turn = Turn::shared();
        Self::start(turn, make())
    }

    /// While nothing else in this process opens descriptors.
    pub(crate) fn alone() -> Self {
        let turn = Turn::alone();
        Self::start(turn, device())
    }

    fn start(turn: Turn, device: Device) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let device = SharedDevice::new(device);
        let mut server = Server::bind(device.clone(), &path).unwrap();
        let stopper = server.stopper().unwrap();
        let thread = Some(std::thread::spawn(move || server.run(Until::Stopped).unwrap()));
        Self { device, path, stopper, thread, _dir: dir, _turn: turn }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::connect(&self.path)
    }

    pub(crate) fn console(&self) -> Peer {
        Peer::attach(&self.path, CONSOLE)
    }

    pub(crate) fn vmm(&self) -> Peer {
        Peer::attach(&self.path, VMM)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        let thread = self.thread.take().unwrap();
        let asked = Instant::now();
        while !thread.is_finished() && asked.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let ended = thread.is_finished() && thread.join().is_ok();
        assert!(ended || std::thread::panicking(), "the server panicked or does not stop");
    }
}

/// A console that looks whether it still gets right answers.
pub(crate) fn check_console(console: &mut Peer) {
    assert_eq!(console.read(VRAM, MARK_AT, 16), MARK);
    assert_eq!(console.read(EDID, 0x800, 128), EDID_BYTES);
}

/// A VMM that looks whether it still gets right answers.
pub(crate) fn check_vmm(vmm: &mut Peer) {
    assert_eq!(vmm.read(CONFIG, 0, 4), [0x34, 0x12, 0x78, 0x56]);
    let value = [vmm.read(REGISTERS, SCRATCH, 1)[0].wrapping_add(1), 2, 3, 4];
    vmm.write(REGISTERS, SCRATCH, &value);
    assert_eq!(vmm.read(REGISTERS, SCRATCH, 4), value);
}
