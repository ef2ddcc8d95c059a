//! Runs in a guest whose kernel has udmabuf, as a static program: guest memory that a VMM shares becomes dma-bufs, and
//! consoles look at them. `udmabuf-probe` ends with 0 if all is as it should be.

mod faults;

use std::{
    error::Error,
    fs::File,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::ExitCode,
    sync::Arc,
    thread,
};

use vfio_gfx::{
    abi::{PlaneKind, pci_region},
    device::{
        Backing, ConfigSpace, Device, DeviceSpec, Identity, Interfaces, Model, Platform, Region, RegionTable,
        Scanout, ScanoutMemory, SharedDevice,
    },
    display::{Display, Remote},
    format::Fourcc,
    memory::{BufferKind, GuestExportError, GuestMemory, Mapping, SharedBuffer, Udmabuf, Vram},
    plane::{Geometry, Source},
    vfio_user::{Command, Header, Message, Outbox, Server, Session, Until, VmmSlot},
};

const PAGE: u64 = 4096;
/// Of each half of the guest's memory.
const PAGES: u64 = 64;
/// The second half of the guest's memory is at another address, as above the hole below 4 GiB.
const HIGH: u64 = 1 << 32;
const READ_WRITE: u32 = 3;

type Done = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    match pieces().and_then(|()| planes()).and_then(|()| unplugged()).and_then(|()| faults::fail_once()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            eprintln!("udmabuf-probe: {error}: {source}");
            ExitCode::FAILURE
        }
    }
}

fn duplicate(vram: &Vram) -> Result<OwnedFd, Box<dyn Error>> {
    Ok(vram.file().try_clone()?.into())
}

/// What page `n` of the guest's plane begins with.
fn mark(n: u64) -> [u8; 8] {
    (n * 0x0101_0101 + 7).to_le_bytes()
}

/// The guest's plane is every page of both halves in turn, the first half's from its end: no two adjoin.
fn scattered() -> Vec<(u64, u64)> {
    (0..PAGES).flat_map(|n| [((PAGES - 1 - n) * PAGE, PAGE), (HIGH + n * PAGE, PAGE)]).collect()
}

/// The guest draws: where each page of the plane is, its mark.
fn draw(low: &Vram, high: &Vram, first: u64) -> Done {
    for n in 0..PAGES {
        low.write((PAGES - 1 - n) * PAGE, &mark(first + 2 * n))?;
        high.write(n * PAGE, &mark(first + 2 * n + 1))?;
    }
    Ok(())
}

#[track_caller]
fn expect_drawn(mapping: &Mapping, first: u64) -> Done {
    let access = mapping.begin_read()?;
    for n in 0..2 * PAGES {
        let mut found = [0; 8];
        mapping.read(n * PAGE, &mut found)?;
        assert_eq!(found, mark(first + n), "page {n}");
    }
    drop(access);
    Ok(())
}

/// One dma-buf of 128 pieces of two memfds: live, and as long as somebody holds it; and what cannot become one.
fn pieces() -> Done {
    let udmabuf = Udmabuf::open()?;
    let (low, high) = (Vram::new("low", PAGES * PAGE)?, Vram::new("high", PAGES * PAGE)?);
    let memory = GuestMemory::default();
    let access = vfio_gfx::memory::DmaAccess::all();
    memory.map(0, PAGES * PAGE, access, Some((duplicate(&low)?, 0)))?;
    memory.map(HIGH, PAGES * PAGE, access, Some((duplicate(&high)?, 0)))?;
    let pieces = memory.pieces(&scattered())?;
    assert_eq!((pieces.as_slice().len() as u64, pieces.size()), (2 * PAGES, 2 * PAGES * PAGE));
    let SharedBuffer { kind, fd, offset, size } = pieces.export(Some(&udmabuf))?;
    assert_eq!((kind, offset, size), (BufferKind::Dmabuf, 0, pieces.size()));
    let flags = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    assert!(flags.contains("exp_name:\tudmabuf") && flags.contains("flags:\t02"), "close-on-exec: {flags}");
    let mapping = Mapping::new(fd, kind, size)?;
    assert!(mapping.is_mapped());
    for first in [0, 1000] {
        draw(&low, &high, first)?;
        expect_drawn(&mapping, first)?;
    }
    // The device writes, the console sees it.
    memory.write(HIGH, &mark(1001))?;
    expect_drawn(&mapping, 1000)?;
    let part = memory.buffer(&scattered())?;
    let part =
        memory.buffer_part(part, PAGE, 2 * PAGE).ok_or("the buffer is gone")?.export(Some(&udmabuf))?;
    let mut found = [0; 8];
    Mapping::new(part.fd, part.kind, part.size)?.read(PAGE, &mut found)?;
    assert_eq!(found, mark(1002));
    memory.unmap_all();
    drop((memory, pieces, low, high));
    expect_drawn(&mapping, 1000)?;

    let file: File = rustix::fs::memfd_create("unsealed", rustix::fs::MemfdFlags::CLOEXEC)?.into();
    file.set_len(PAGE)?;
    let memory = GuestMemory::default();
    memory.map(0, PAGE, access, Some((file.into(), 0)))?;
    let refused = memory.pieces(&[(0, PAGE)])?.export(Some(&udmabuf)).expect_err("it can be cut short");
    assert!(matches!(refused, GuestExportError::Seals { .. }), "{refused}");
    // More than udmabuf's limit of 64 MiB for one buffer.
    let large = Vram::new("large", 65 << 20)?;
    memory.map(HIGH, 65 << 20, access, Some((duplicate(&large)?, 0)))?;
    let refused = memory.pieces(&[(HIGH, 65 << 20)])?.export(Some(&udmabuf)).expect_err("it is too large");
    assert!(matches!(refused, GuestExportError::Udmabuf(_)), "{refused}");
    Ok(())
}

/// Shows the guest's plane in the guest's own memory as soon as a register is written; with a 2, in video memory.
#[derive(Default)]
struct Scanner(Option<ScanoutMemory>);

impl Model for Scanner {
    fn read(&mut self, _: u32, _: u64, _: &mut [u8], _: &Platform<'_>) {}

    fn write(&mut self, _: u32, _: u64, data: &[u8], platform: &Platform<'_>) {
        if data == [2] {
            self.0 = Some(ScanoutMemory::Vram);
            return;
        }
        self.0 = platform.guest.buffer(&scattered()).ok().map(ScanoutMemory::Guest);
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        let memory = self.0.filter(|_| kind == PlaneKind::Primary)?;
        // 512 KiB: a page is a row, and the last row the last page.
        let geometry = Geometry::new(1024, 128, 4096, 4).ok()?;
        Some(Scanout { memory, ..Scanout::primary(Fourcc::XRGB8888, geometry, 0) })
    }

    fn reset(&mut self, _: &Platform<'_>) {
        self.0 = None;
    }
}

fn device() -> Result<Device, Box<dyn Error>> {
    let identity =
        Identity { id: (0x1234, 0x1111), subsystem: (0, 0), class: (3, 0x80, 0), revision: 1, command: 2 };
    let regions = vec![
        Region::new(pci_region::BAR0, 1 << 20, 0x10_0000, Backing::Vram),
        Region::new(pci_region::BAR2, PAGE, 0x1000, Backing::Trapped),
    ];
    let spec = DeviceSpec {
        name: "scanner".into(),
        config: ConfigSpace::new(identity).with_memory_bar(pci_region::BAR0, 1 << 20, true)?,
        regions: RegionTable::new(0, regions),
        display_region: pci_region::BAR0,
        interfaces: Interfaces::DMABUF,
        irqs: vec![],
        edid: None,
        events: true,
    };
    Ok(Device::new(spec, Arc::new(Vram::new("scanner", 1 << 20)?), Box::<Scanner>::default()))
}

/// A VMM without its socket.
struct Vmm(Session);

impl Vmm {
    fn ask(&mut self, command: Command, payload: &[u8], fds: Vec<OwnedFd>) -> Done {
        let mut out = Outbox::default();
        let header = Header::command(1, command, payload.len());
        self.0.handle(Message { header, payload, fds }, &mut out)?;
        // Its header ends with the errno.
        match out.bytes.get(12..16) {
            Some([0, 0, 0, 0]) => Ok(()),
            errno => Err(format!("{command:?} was refused: errno {errno:?}").into()),
        }
    }

    fn map(&mut self, address: u64, memory: &Vram) -> Done {
        let place = [0, address, memory.size()].map(u64::to_ne_bytes).concat();
        let head = [32, READ_WRITE].map(u32::to_ne_bytes).concat();
        self.ask(Command::DmaMap, &[head, place].concat(), vec![duplicate(memory)?])
    }

    fn unmap(&mut self, address: u64, size: u64) -> Done {
        let place = [address, size].map(u64::to_ne_bytes).concat();
        let head = [24u32, 0].map(u32::to_ne_bytes).concat();
        self.ask(Command::DmaUnmap, &[head, place].concat(), vec![])
    }
}

/// A device is unplugged while somebody holds a dma-buf of its video memory, whose pages nobody can take back: they show nothing.
fn unplugged() -> Done {
    let mut device = device()?;
    let vram = Arc::clone(device.vram());
    for page in 0..128 {
        vram.write(page * PAGE, &mark(page))?;
    }
    device.guest_write(pci_region::BAR2, 0, &[2])?;
    let plane =
        device.query(vfio_gfx::abi::Interface::Dmabuf, PlaneKind::Primary)?.ok_or("the plane is off")?;
    let Source::Buffer { id, .. } = plane.source else { return Err("the plane is no buffer".into()) };
    let SharedBuffer { kind, fd, size, .. } = device.buffer(id, true)?;
    assert_eq!(kind, BufferKind::Dmabuf);
    let holder = Mapping::new(fd, kind, size)?;
    expect_drawn(&holder, 0)?;
    device.revoke()?;
    assert_eq!(vram.allocated()?, 0, "the memfd has no pages");
    for page in 0..128 {
        let mut found = [1; 8];
        holder.read(page * PAGE, &mut found)?;
        assert_eq!(found, [0; 8], "page {page}");
    }
    Ok(())
}

/// The whole way: DMA_MAP with descriptors, a register that names the pages, a console behind a socket that shows them.
fn planes() -> Done {
    let shared = SharedDevice::new(device()?);
    let path = Path::new("/tmp/scanner.sock");
    let mut server = Server::bind(shared.clone(), path)?;
    let stopper = server.stopper()?;
    let serving = thread::spawn(move || server.run(Until::Stopped));
    let mut vmm = Vmm(Session::new(shared.clone(), VmmSlot::default()));
    let version = [&[0, 0, 1, 0], &b"{}\0"[..]].concat();
    vmm.ask(Command::Version, &version, vec![])?;
    let (low, high) = (Vram::new("low", PAGES * PAGE)?, Vram::new("high", PAGES * PAGE)?);
    vmm.map(0, &low)?;
    vmm.map(HIGH, &high)?;
    shared.lock().guest_write(pci_region::BAR2, 0, &[1])?;

    let mut display = Display::open(Box::new(Remote::connect(path)?))?;
    let watch = display.backend().watch()?.ok_or("no display events")?;
    draw(&low, &high, 5)?;
    let mut row = vec![0; 4096];
    let pixels = display.pixels(PlaneKind::Primary)?.ok_or("the plane is off")?;
    for n in 0..128 {
        pixels.read_row(n, &mut row)?;
        assert_eq!(row[..8], mark(5 + u64::from(n)), "row {n}");
    }
    drop(pixels);
    let Some(Source::Buffer { id, .. }) = display.plane(PlaneKind::Primary)?.map(|plane| plane.source) else {
        return Err("the plane is no buffer".into());
    };
    let held = display.backend().map_buffer(id)?;
    assert_eq!(held.kind, BufferKind::Dmabuf);
    // The VMM takes one half back: the plane goes off, and who waits is told; who holds the buffer keeps it.
    vmm.unmap(HIGH, PAGES * PAGE)?;
    let told = watch.wait(std::time::Duration::from_secs(10))?;
    assert_eq!(told, vfio_gfx::device::DisplayEvents::PLANE_OFF);
    assert_eq!(display.plane(PlaneKind::Primary)?, None);
    assert!(display.backend().map_buffer(id).is_err(), "a buffer of memory that was taken back");
    drop(high);
    expect_drawn(&held.mapping, 5)?;
    drop(vmm);
    assert!(shared.lock().guest_memory().read(0, &mut [0]).is_err(), "the VMM is gone");
    drop(display);
    stopper.stop();
    serving.join().map_err(|_| "the server panicked")??;
    Ok(())
}
