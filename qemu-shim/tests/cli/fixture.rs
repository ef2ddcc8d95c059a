//! The program, and a device with a guest that draws through its registers and its mapped video memory.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use mdev_sample::DeviceType;
use tempfile::TempDir;
use vfio_gfx::device::{Interfaces, SharedDevice};
use vfio_gfx::memory::Vram;
use vfio_gfx::vfio_user::{self, Client, Role, Server, Stopper, Until};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory};

pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qemu-shim"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

/// What it prints when all is well.
#[track_caller]
pub(crate) fn printed(args: &[&str]) -> String {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && stderr.is_empty(), "{args:?}: {} {stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Its complaint: one line on stderr, nothing on stdout.
#[track_caller]
pub(crate) fn complaint(args: &[&str], status: i32) -> String {
    let output = run(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert!(stderr.starts_with("qemu-shim: ") && stderr.ends_with('\n'), "{args:?}: {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    stderr
}

/// CRC-32 without any inversion, straight from the polynomial: what the programs are compared with.
pub(crate) fn crc32(seed: u32, bytes: impl IntoIterator<Item = u8>) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|n| {
        (0..8).fold(u32::try_from(n).unwrap(), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    });
    bytes.into_iter().fold(seed, |crc, byte| crc >> 8 ^ table[usize::from(crc.to_le_bytes()[0] ^ byte)])
}

/// What the kernel's vkms sums for pixels of red, green and blue: 16 bits a channel, opaque alpha first, seed 0.
pub(crate) fn vkms_crc<'a>(pixels: impl IntoIterator<Item = &'a [u8; 3]>) -> u32 {
    crc32(0, pixels.into_iter().flat_map(|&[r, g, b]| [0xff, 0xff, r, r, g, g, b, b]))
}

/// A picture: red, green and blue of each pixel, top row first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// One in which no two neighbours, rows or columns are alike.
    pub(crate) fn known(width: usize, height: usize) -> Self {
        let pixel = |n: usize| {
            let (x, y) = (n % width, n / width);
            [x * 7 + y, y * 5 + x / 256, x ^ y].map(|channel| channel.to_le_bytes()[0])
        };
        Self { width, height, pixels: (0..width * height).map(pixel).collect() }
    }

    pub(crate) fn solid(width: usize, height: usize, rgb: [u8; 3]) -> Self {
        Self { width, height, pixels: vec![rgb; width * height] }
    }

    /// Panics unless the file is an 8-bit RGB PNG.
    pub(crate) fn from_png(path: &Path) -> Self {
        let file = std::io::BufReader::new(File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
        Self {
            width: info.width as usize,
            height: info.height as usize,
            pixels: bytes.as_chunks().0.to_vec(),
        }
    }

    /// Panics unless the file is a binary PPM and nothing more.
    pub(crate) fn from_ppm(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let mut rest = bytes.as_slice();
        let mut word = || {
            let end = rest.iter().position(u8::is_ascii_whitespace).unwrap();
            let word = std::str::from_utf8(&rest[..end]).unwrap();
            rest = &rest[end + 1..];
            word.to_owned()
        };
        let [magic, width, height, most] = std::array::from_fn(|_| word());
        assert_eq!((&*magic, &*most), ("P6", "255"));
        let (pixels, odd) = rest.as_chunks();
        let picture =
            Self { width: width.parse().unwrap(), height: height.parse().unwrap(), pixels: pixels.to_vec() };
        assert!(odd.is_empty() && picture.pixels.len() == picture.width * picture.height, "{width}x{height}");
        picture
    }
}

/// A served device, and the VMM that has mapped its video memory into a guest.
pub(crate) struct Guest {
    vmm: Client,
    vram: MmapRegion,
    path: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    dir: TempDir,
}

impl Guest {
    pub(crate) fn new(device_type: &str) -> Self {
        Self::offering(device_type, None)
    }

    pub(crate) fn offering(device_type: &str, interfaces: Option<Interfaces>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gpu.sock");
        let device = DeviceType::find(device_type).unwrap().create(interfaces).unwrap();
        let mut server = Server::bind(SharedDevice::new(device), &path).unwrap();
        let stopper = server.stopper().unwrap();
        let thread = Some(std::thread::spawn(move || server.run(Until::Stopped).unwrap()));
        let mut vmm = Client::connect(&path, Role::Vmm).unwrap();
        let vram = map(&mut vmm);
        Self { vmm, vram, path, stopper, thread, dir }
    }

    /// The device, as a word of the command line.
    pub(crate) fn device(&self) -> String {
        format!("vfio-user:{}", self.path.display())
    }

    /// A place for files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Every file there is, but the socket.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "gpu.sock")
            .collect()
    }

    /// Writes a 16-bit DISPI register.
    pub(crate) fn register(&mut self, register: u64, value: u16) {
        let offset = (0x500 + 2 * register).to_ne_bytes();
        let place = [2u32, 2].map(u32::to_ne_bytes);
        let payload = [&offset[..], place.as_flattened(), &value.to_le_bytes()];
        self.vmm.call(vfio_user::Command::RegionWrite, &payload, |_, _| Ok(())).unwrap();
    }

    /// Writes a 32-bit register of BAR2.
    pub(crate) fn write(&mut self, offset: u64, value: u32) {
        let place = [&offset.to_ne_bytes()[..], [2u32, 4].map(u32::to_ne_bytes).as_flattened()].concat();
        let payload = [&place[..], &value.to_le_bytes()];
        self.vmm.call(vfio_user::Command::RegionWrite, &payload, |_, _| Ok(())).unwrap();
    }

    /// Reads one.
    pub(crate) fn read(&mut self, offset: u64) -> u32 {
        let place = [&offset.to_ne_bytes()[..], [2u32, 4].map(u32::to_ne_bytes).as_flattened()].concat();
        let data = |payload: &[u8], _| Ok(u32::from_le_bytes(payload[16..20].try_into().unwrap()));
        self.vmm.call(vfio_user::Command::RegionRead, &[&place], data).unwrap()
    }

    /// Lets the device reach memory at this address of the guest's.
    pub(crate) fn share(&mut self, memory: &Vram, address: u64) {
        let head = [32u32, 3].map(u32::to_ne_bytes);
        let range = [0, address, memory.size()].map(u64::to_ne_bytes);
        let fd: OwnedFd = memory.file().try_clone().unwrap().into();
        let payload = [head.as_flattened(), range.as_flattened()];
        self.vmm.call_with_fds(vfio_user::Command::DmaMap, &payload, &[fd], |_, _| Ok(())).unwrap();
    }

    /// Takes it back.
    pub(crate) fn unshare(&mut self, memory: &Vram, address: u64) {
        let head = [24u32, 0].map(u32::to_ne_bytes);
        let range = [address, memory.size()].map(u64::to_ne_bytes);
        let payload = [head.as_flattened(), range.as_flattened()];
        self.vmm.call(vfio_user::Command::DmaUnmap, &payload, |_, _| Ok(())).unwrap();
    }

    /// Sets a mode as bochs-drm does; `virtual_width` pixels from one row to the next.
    pub(crate) fn mode(&mut self, width: u16, height: u16, virtual_width: u16) {
        for (register, value) in
            [(4, 0), (3, 32), (1, width), (2, height), (6, virtual_width), (8, 0), (9, 0), (4, 0x41)]
        {
            self.register(register, value);
        }
    }

    /// Draws through the mapping: rows `stride` pixels apart from pixel `start` on, with rubbish in what is no colour.
    pub(crate) fn draw(&self, picture: &Picture, stride: usize, start: usize) {
        for (y, row) in picture.pixels.chunks(picture.width).enumerate() {
            let mut bytes: Vec<u8> = row.iter().flat_map(|&[r, g, b]| [b, g, r, 0xa5]).collect();
            bytes.resize(stride * 4, 0x77);
            self.vram.as_volatile_slice().write_slice(&bytes, (start + y * stride) * 4).unwrap();
        }
    }
}

/// Maps BAR0 as a VMM does.
fn map(vmm: &mut Client) -> MmapRegion {
    let mut request = [0; 32];
    request[0] = 32;
    let (size, fd): (u64, OwnedFd) = vmm
        .call(vfio_user::Command::GetRegionInfo, &[&request], |payload, mut fds| {
            Ok((u64::from_ne_bytes(payload[16..24].try_into().unwrap()), fds.remove(0)))
        })
        .unwrap();
    MmapRegion::from_file(FileOffset::new(File::from(fd), 0), usize::try_from(size).unwrap()).unwrap()
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || std::thread::panicking(), "the server panicked");
    }
}
