//! QEMU's calls, in QEMU's order (7.2 and later), on a sample device.

mod dma;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::thread::JoinHandle;

use mdev_sample::DeviceType;
use rustix::event::{EventfdFlags, eventfd};
use tempfile::TempDir;
use vfio_gfx::abi::{ContainerIoctl, DeviceIoctl, Errno, FdKind, GroupIoctl, Interface, Ioctl, pci_region};
use vfio_gfx::device::SharedDevice;
use vfio_gfx::memory::Vram;
use vfio_gfx::vfio_user::{Server, Stopper, Until};

use crate::config::{Config, Path};
use crate::device::REGION_SHIFT;
use crate::shim::{Arg, Shim};

/// A served device, and QEMU's view of it.
struct Qemu {
    shim: Shim,
    config: Config,
    stopper: Stopper,
    server: Option<JoinHandle<()>>,
    _dir: TempDir,
}

/// 32-bit fields in a row.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

impl Qemu {
    fn new(device_type: &str) -> Self {
        Self::that_is_offered(device_type, Interface::Region)
    }

    fn that_is_offered(device_type: &str, interface: Interface) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("device.sock");
        let device = DeviceType::find(device_type).unwrap().create(None).unwrap();
        let mut server = Server::bind(SharedDevice::new(device), &socket).unwrap();
        let stopper = server.stopper().unwrap();
        let server = Some(std::thread::spawn(move || server.run(Until::Stopped).unwrap()));
        let config = Config { socket, group: 42, interface };
        Self { shim: Shim::new(), config, stopper, server, _dir: dir }
    }

    fn value(&self, ioctl: Ioctl, value: usize) -> Result<i32, Errno> {
        self.shim.ioctl(&self.config, ioctl, Arg::Value(value))
    }

    fn ask(&self, ioctl: Ioctl, mut arg: Vec<u8>) -> Result<Vec<u8>, Errno> {
        self.shim.ioctl(&self.config, ioctl, Arg::Struct(&mut arg)).map(|result| {
            assert_eq!(result, 0);
            arg
        })
    }

    fn device(&self, ioctl: DeviceIoctl, arg: &[u32]) -> Result<Vec<u8>, Errno> {
        self.ask(Ioctl::Device(ioctl), words(arg))
    }

    fn read(&self, region: u32, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let mut data = vec![0; len];
        assert_eq!(self.shim.read((u64::from(region) << REGION_SHIFT) + offset, &mut data)?, len);
        Ok(data)
    }

    fn write(&self, region: u32, offset: u64, data: &[u8]) -> Result<(), Errno> {
        self.shim
            .write((u64::from(region) << REGION_SHIFT) + offset, data)
            .map(|len| assert_eq!(len, data.len()))
    }

    /// The group, the container and the device, as `realize` opens them. Returns the number of regions.
    fn start(&self) -> u32 {
        // Where another VMM has just gone, the server notices in its own time.
        let open = |_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            self.shim.open(&self.config, Path::Group).ok()
        };
        let group = (0..500).find_map(open).expect("the device is free");
        assert_eq!(
            word(&self.ask(Ioctl::Group(GroupIoctl::GetStatus), words(&[8, 0])).unwrap(), 4),
            1,
            "viable"
        );
        let container = self.shim.open(&self.config, Path::Container).unwrap();
        assert_eq!(self.shim.files.kind(group), Some(FdKind::Group));
        assert_eq!(self.shim.files.kind(container), Some(FdKind::Container));
        let value = |ioctl, value| self.value(Ioctl::Container(ioctl), value);
        assert_eq!(value(ContainerIoctl::GetApiVersion, 0), Ok(0));
        assert_eq!(value(ContainerIoctl::CheckExtension, 3), Ok(1), "type 1 v2");
        assert_eq!(value(ContainerIoctl::CheckExtension, 10), Ok(0), "no UPDATE_VADDR");
        assert_eq!(self.value(Ioctl::Group(GroupIoctl::SetContainer), 0x1234), Ok(0));
        assert_eq!(value(ContainerIoctl::SetIommu, 3), Ok(0));
        assert_eq!(value(ContainerIoctl::SetIommu, 7), Err(Errno::EINVAL));
        let info = self.ask(Ioctl::Container(ContainerIoctl::GetInfo), words(&[24, 0, 0, 0, 0, 0])).unwrap();
        assert_eq!((word(&info, 4), long(&info, 8), word(&info, 16)), (1, !0xfff, 0));
        let fd = self.value(Ioctl::Group(GroupIoctl::GetDeviceFd), 0x1234).unwrap();
        assert_eq!(self.shim.files.kind(fd), Some(FdKind::Device));
        // 7.2 knows 20 bytes, later ones 24.
        let info = self.device(DeviceIoctl::GetInfo, &[20, 0, 0, 0, 7]).unwrap();
        assert_eq!((word(&info, 4), word(&info, 16)), (3, 0), "resettable, PCI, no capabilities");
        assert!(word(&info, 12) >= 3, "interrupts");
        word(&info, 8)
    }

    fn region(&self, index: u32) -> Result<Vec<u8>, Errno> {
        self.device(DeviceIoctl::GetRegionInfo, &[32, 0, index, 0, 0, 0, 0, 0])
    }

    fn map(&self, vaddr: usize, iova: u64, size: u64) -> Result<(), Errno> {
        let arg = [words(&[32, 3]), words(&[0; 6])].concat();
        let mut arg = arg;
        arg[8..16].copy_from_slice(&vaddr.to_ne_bytes());
        arg[16..24].copy_from_slice(&iova.to_ne_bytes());
        arg[24..32].copy_from_slice(&size.to_ne_bytes());
        self.ask(Ioctl::Container(ContainerIoctl::MapDma), arg).map(drop)
    }

    fn unmap(&self, iova: u64, size: u64) -> Result<u64, Errno> {
        let arg = [words(&[24, 0]), iova.to_ne_bytes().to_vec(), size.to_ne_bytes().to_vec()].concat();
        self.ask(Ioctl::Container(ContainerIoctl::UnmapDma), arg).map(|arg| long(&arg, 16))
    }

    fn query(&self, flags: u32) -> Result<Vec<u8>, Errno> {
        let mut arg = vec![0; 64];
        arg[..8].copy_from_slice(&words(&[64, flags]));
        self.ask(Ioctl::Device(DeviceIoctl::QueryGfxPlane), arg)
    }

    /// A plane as a buffer: 1 is the screen, 2 the pointer.
    fn query_buffer(&self, kind: u32) -> Result<Vec<u8>, Errno> {
        let mut arg = vec![0; 64];
        arg[..12].copy_from_slice(&words(&[64, 2, kind]));
        self.ask(Ioctl::Device(DeviceIoctl::QueryGfxPlane), arg)
    }

    /// The file behind a plane's buffer, as QEMU gets it.
    fn buffer(&self, id: u32) -> Result<File, Errno> {
        let fd = self.shim.ioctl(&self.config, Ioctl::Device(DeviceIoctl::GetGfxDmabuf), Arg::Word(id))?;
        // The number is a descriptor of this process; the copy is ours.
        Ok(crate::argument::duplicate(fd)?.into())
    }

    /// Has the guest set a mode of 640x480 with the picture `row` rows down its memory.
    fn set_mode(&self, row: u16) {
        self.write(pci_region::CONFIG, 4, &[2, 0]).unwrap();
        for (register, value) in [(4, 0), (3, 32), (1, 640), (2, 480), (6, 640), (8, 0), (9, row), (4, 0x41)]
        {
            self.write(2, 0x500 + 2 * register, &u16::to_le_bytes(value)).unwrap();
        }
    }

    fn crash_server(&mut self) {
        self.stopper.stop();
        self.server.take().unwrap().join().unwrap();
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.stopper.stop();
        drop(self.server.take().map(JoinHandle::join));
    }
}

/// What is mapped there, without mapping it.
fn bytes_at(place: &(OwnedFd, u64), offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let file = File::from(place.0.try_clone().unwrap());
    file.read_exact_at(&mut bytes, place.1 + offset).unwrap();
    bytes
}

#[test]
fn qemu_starts_with_every_type() {
    for device_type in mdev_sample::TYPES {
        let qemu = Qemu::new(device_type.name());
        let regions = qemu.start();
        for index in (0..6).chain([7]) {
            let info = qemu.region(index).unwrap();
            let (flags, size) = (word(&info, 4), long(&info, 16));
            assert_eq!(long(&info, 24), u64::from(index) << 40);
            if flags & 4 != 0 {
                assert_eq!(qemu.shim.place(u64::from(index) << 40, size).map(|(_, base)| base), Ok(0));
            }
            assert!(qemu.shim.place(u64::from(index) << 40, size.next_multiple_of(4096) + 1).is_err());
        }
        assert_eq!(long(&qemu.region(7).unwrap(), 16), 256, "conventional PCI");
        assert_eq!(
            qemu.device(DeviceIoctl::GetIrqInfo, &[16, 0, 3, 0]),
            Err(Errno::EINVAL),
            "no error interrupt"
        );
        assert_eq!(qemu.read(7, 0, 256).unwrap()[0x0e], 0, "type 0 header");
        assert_eq!(qemu.query(3), Err(Errno::EINVAL), "no dma-bufs");
        assert!(qemu.query(5).is_ok());
        assert_eq!(qemu.ask(Ioctl::Device(DeviceIoctl::Feature), Vec::new()), Err(Errno::ENOTTY));
        assert_eq!(qemu.value(Ioctl::Device(DeviceIoctl::Reset), 0), Ok(0));
        // The plane is in the region after the device's own, which can be read and mapped, not written.
        let plane = qemu.query(4).unwrap();
        let (width, height, stride, size) =
            (word(&plane, 24), word(&plane, 28), word(&plane, 32), word(&plane, 36));
        assert_eq!((word(&plane, 56), word(&plane, 12)), (regions - 1, u32::from_le_bytes(*b"XR24")));
        let screen = qemu.region(regions - 1).unwrap();
        assert_eq!(word(&screen, 4), 5, "READ | MMAP");
        assert!(stride == width * 4 && size >= stride * height && u64::from(size) <= long(&screen, 16));
        assert_eq!(qemu.write(regions - 1, 0, &[0; 4]), Err(Errno::EINVAL));
    }
}

/// A plane that starts anywhere in the device's memory starts at the first byte of what QEMU maps, once.
#[test]
fn flips_show_without_an_offset() {
    let qemu = Qemu::new("mbochs-medium");
    let screen = u64::from(qemu.start() - 1) << REGION_SHIFT;
    qemu.region(0).unwrap();
    let mapped = qemu.shim.place(screen, crate::screen::SIZE).unwrap();
    for row in [0, 480, 1, 480, 77] {
        qemu.set_mode(row);
        let start = u64::from(row) * 640 * 4;
        let colour = [row.to_le_bytes()[0], 2, 3, 0];
        qemu.write(0, start, &colour).unwrap();
        qemu.write(0, start + 639 * 4 + 479 * 2560, &[9, 8, 7, 6]).unwrap();
        let plane = qemu.query(4).unwrap();
        assert_eq!((word(&plane, 24), word(&plane, 28)), (640, 480));
        assert_eq!(bytes_at(&mapped, 0, 4), colour, "row {row}");
        assert_eq!(bytes_at(&mapped, 639 * 4 + 479 * 2560, 3), [9, 8, 7], "row {row}");
    }
}

/// A QEMU with OpenGL: the picture is a buffer, another one for each size, and writes to the EDID get through.
#[test]
fn dma_bufs_are_offered_when_they_are_asked_for() {
    let qemu = Qemu::that_is_offered("mbochs-medium", Interface::Dmabuf);
    let regions = qemu.start();
    assert_eq!(qemu.query(5), Err(Errno::EINVAL), "no region");
    assert_eq!(qemu.query(4), Err(Errno::EINVAL));
    assert!(qemu.query(3).is_ok());
    assert!(qemu.buffer(1).is_err(), "nothing is shown yet");
    qemu.set_mode(480);
    qemu.write(0, 480 * 2560, &[1, 2, 3, 0]).unwrap();
    let plane = qemu.query_buffer(1).unwrap();
    let id = word(&plane, 56);
    assert_eq!((word(&plane, 24), word(&plane, 28), word(&plane, 32)), (640, 480, 2560));
    let mut bytes = [0; 4];
    qemu.buffer(id).unwrap().read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(bytes, [1, 2, 3, 0]);
    assert_eq!(word(&qemu.query_buffer(1).unwrap(), 56), id, "the same buffer");
    assert_eq!(word(&qemu.query_buffer(2).unwrap(), 12), 0, "the pointer is in the picture");
    qemu.write(2, 0x500 + 2 * 2, &400u16.to_le_bytes()).unwrap();
    let smaller = qemu.query_buffer(1).unwrap();
    assert_eq!((word(&smaller, 28), word(&smaller, 56)), (400, id + 1), "another size, another buffer");
    assert_eq!(qemu.buffer(id).map(drop), Err(Errno::EINVAL), "what is gone does not come back");
    // QEMU finds the EDID by its capability: type 1 (GFX), subtype 1 (EDID), and writes to its registers.
    let of_edid = |index: &u32| {
        let mut arg = words(&[256, 0, *index, 0, 0, 0, 0, 0]);
        arg.resize(256, 0);
        let info =
            qemu.device(DeviceIoctl::GetRegionInfo, &arg.chunks(4).map(|w| word(w, 0)).collect::<Vec<_>>());
        let info = info.unwrap();
        let cap = word(&info, 12) as usize;
        cap != 0 && (word(&info, cap + 8), word(&info, cap + 12)) == (1, 1)
    };
    let edid = (9..regions).find(of_edid).expect("a region of EDID");
    qemu.write(edid, 0x14, &2u32.to_ne_bytes()).unwrap();
    assert_eq!(word(&qemu.read(edid, 0x14, 4).unwrap(), 0), 2, "the link is down");
}

/// A QEMU without OpenGL must not be offered a buffer, nor get one.
#[test]
fn dma_bufs_are_not_offered_by_default() {
    let qemu = Qemu::new("mbochs-medium");
    qemu.start();
    qemu.set_mode(0);
    assert!(qemu.query(4).is_ok());
    assert_eq!(qemu.query(3), Err(Errno::EINVAL));
    assert_eq!(qemu.query_buffer(1), Err(Errno::EINVAL));
    assert_eq!(qemu.buffer(1).map(drop), Err(Errno::ENOTTY));
}

#[test]
fn guest_memory_is_announced_with_its_descriptor_or_without() {
    let qemu = Qemu::new("mbochs-medium");
    qemu.start();
    let memory = Vram::new("preload-guest", 0x10000).unwrap();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let line = maps.lines().find(|line| line.contains("preload-guest")).unwrap();
    let start = usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
    assert_eq!(memory.size(), 0x10000);
    qemu.map(start, 0, 0x10000).unwrap();
    let anonymous = vec![0u8; 0x4000];
    let vaddr = anonymous.as_ptr().addr().next_multiple_of(4096);
    qemu.map(vaddr, 0xc0000, 0x1000).unwrap();
    assert_eq!(qemu.map(vaddr, 0xc0000, 0x1000), Err(Errno::EEXIST));
    assert_eq!(qemu.map(vaddr, 1, 0x1000), Err(Errno::EINVAL));
    assert_eq!(qemu.unmap(0xc0000, 0x1000), Ok(0x1000));
    assert_eq!(qemu.unmap(0xc0000, 0x1000), Ok(0), "as the kernel answers");
    assert_eq!(qemu.unmap(0, 0x10000), Ok(0x10000));
}

/// As vfio.h has them: descriptors in the argument, -1 for none.
#[test]
fn interrupts_are_refused_where_there_are_none() {
    let qemu = Qemu::new("mbochs-medium");
    qemu.start();
    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let fd = event.as_raw_fd().cast_unsigned();
    assert_eq!(qemu.device(DeviceIoctl::SetIrqs, &[24, 0x24, 0, 0, 1, fd]), Err(Errno::EINVAL));
    assert_eq!(qemu.device(DeviceIoctl::SetIrqs, &[20, 0x24, 0, 0, 1]), Err(Errno::EINVAL), "no descriptor");
    assert_eq!(qemu.device(DeviceIoctl::SetIrqs, &[24, 0x24, 0, 0, 1, 1 << 20]), Err(Errno::EBADF));
    assert_eq!(qemu.device(DeviceIoctl::SetIrqs, &[20, 0x24, 0, u32::MAX, 2]), Err(Errno::EINVAL));
}

/// vgfx-hd's display events are an interrupt: eventfds get through, in more than one message where they are many.
#[test]
fn eventfds_travel() {
    let qemu = Qemu::new("vgfx-hd");
    qemu.start();
    let info = qemu.device(DeviceIoctl::GetInfo, &[16, 0, 0, 0]).unwrap();
    let last = word(&info, 12) - 1;
    let irq = qemu.device(DeviceIoctl::GetIrqInfo, &[16, 0, last, 0]).unwrap();
    let count = word(&irq, 12);
    assert_eq!((word(&irq, 0), word(&irq, 4) & 16), (16, 0), "no capabilities in a struct that has no room");
    let events: Vec<OwnedFd> = (0..count).map(|_| eventfd(0, EventfdFlags::NONBLOCK).unwrap()).collect();
    let numbers: Vec<u32> = events.iter().map(|event| event.as_raw_fd().cast_unsigned()).collect();
    let arm = [&[20 + 4 * count, 0x24, last, 0, count][..], &numbers].concat();
    qemu.device(DeviceIoctl::SetIrqs, &arm).unwrap();
    qemu.set_mode(0);
    let mut counter = [0; 8];
    let fired = events.iter().filter(|event| rustix::io::read(event, &mut counter).is_ok()).count();
    assert!(fired > 0, "a mode set is an event");
}

#[test]
fn files_are_opened_once_and_again_after_close() {
    let qemu = Qemu::new("mdpy-vga");
    for _ in 0..3 {
        qemu.start();
        assert_eq!(qemu.shim.open(&qemu.config, Path::Group), Err(Errno::EBUSY));
        for kind in [FdKind::Device, FdKind::Group, FdKind::Container] {
            qemu.shim.close(kind);
        }
        assert_eq!(qemu.query(4), Err(Errno::ENODEV));
        assert_eq!(qemu.read(7, 0, 4), Err(Errno::ENODEV));
    }
}

/// QEMU goes on: it can map memory, look at the screen, and reset its machine.
#[test]
fn a_device_that_dies_is_an_error_and_no_end() {
    let mut qemu = Qemu::new("mbochs-medium");
    let screen = u64::from(qemu.start() - 1) << REGION_SHIFT;
    qemu.set_mode(0);
    qemu.write(0, 0, &[1, 2, 3, 0]).unwrap();
    let mapped = qemu.shim.place(screen, 4096).unwrap();
    qemu.query(4).unwrap();
    qemu.crash_server();
    for _ in 0..2 {
        assert_eq!(qemu.read(7, 0, 4), Err(Errno::EIO));
        assert_eq!(qemu.write(0, 0, &[0; 4]), Err(Errno::EIO));
        assert_eq!(qemu.value(Ioctl::Device(DeviceIoctl::Reset), 0), Err(Errno::EIO));
        assert_eq!(qemu.map(0x1000, 0, 0x1000), Ok(()));
        assert_eq!(qemu.unmap(0, 0x1000), Ok(0x1000));
        let plane = qemu.query(4).unwrap();
        assert_eq!((word(&plane, 24), word(&plane, 28)), (640, 480), "of the size of the last picture");
        assert_ne!(bytes_at(&mapped, 0, 4), [1, 2, 3, 0], "not the last picture");
    }
}

#[test]
fn nobody_there_is_an_error() {
    let mut qemu = Qemu::new("mdpy-vga");
    qemu.crash_server();
    assert_eq!(qemu.shim.open(&qemu.config, Path::Group), Err(Errno::EIO));
    assert_eq!(qemu.value(Ioctl::Group(GroupIoctl::GetDeviceFd), 0), Err(Errno::ENODEV));
}
