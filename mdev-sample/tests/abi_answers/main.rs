//! Every argument has one answer, and it is the one that `docs/src/abi.md` documents: grids of sizes, flags, indices, offsets
//! and lengths, each put to the device in this process and to one behind a socket. Both answers are compared with each
//! other, byte for byte, and with what the chapter says, which is written down here a second time.

mod access;
mod info;
mod messages;
mod planes;
#[path = "../common/served.rs"]
mod served;

use mdev_sample::DeviceType;
use mdev_sample::abi_fuzz::{Sample, Target};
use vfio_gfx::abi::Errno;

use served::{Counted, Served};

/// What stands in the caller's memory where nothing is said.
const GUARD: u8 = 0xaa;

type Answer = Result<(), Errno>;

/// A device in this process and one behind a socket, of the same type.
struct Pair {
    here: Sample,
    remote: Counted,
    device_type: DeviceType,
    _served: Served,
}

impl Pair {
    fn new(device_type: DeviceType) -> Self {
        let served = Served::new(device_type);
        let here = Sample::new(device_type).unwrap();
        Self { here, remote: served.attach(), device_type, _served: served }
    }

    fn all() -> impl Iterator<Item = Self> {
        // One of each family; the others differ in sizes only.
        ["mdpy-vga", "mbochs-small", "vgfx-hd"]
            .into_iter()
            .map(|name| Self::new(DeviceType::find(name).unwrap()))
    }

    fn name(&self) -> &'static str {
        self.device_type.name()
    }

    fn is_vgfx(&self) -> bool {
        self.name().starts_with("vgfx")
    }

    fn offers_region(&self) -> bool {
        !self.name().starts_with("mbochs")
    }

    fn offers_dmabuf(&self) -> bool {
        !self.name().starts_with("mdpy")
    }

    /// Makes an ioctl on both, which must answer alike, and returns the answer and the memory after it.
    #[track_caller]
    fn ioctl(&mut self, request: u32, words: &[u32], len: usize) -> (Answer, Vec<u8>) {
        let mut arg: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        arg.resize(len, GUARD);
        let (mut here, mut remote) = (arg.clone(), arg.clone());
        let answer = self.here.ioctl(request, &mut here);
        let what = || format!("{} {request:#x} {words:x?} in {len} bytes", self.device_type.name());
        assert_eq!(self.remote.ioctl(request, &mut remote), answer, "{}", what());
        assert_eq!(remote, here, "{}", what());
        assert!(answer.is_ok() || here == arg, "{}: refused, and written", what());
        (answer, here)
    }

    fn write(&mut self, at: u64, data: &[u8]) -> Answer {
        let answer = self.here.pwrite(at, data);
        assert_eq!(self.remote.pwrite(at, data), answer, "{} {at:#x} {data:x?}", self.name());
        answer.map(|len| assert_eq!(len, data.len()))
    }

    fn set_mode(&mut self, y_offset: u16) {
        for (register, value) in
            [(4, 0), (1, 640), (2, 480), (3, 32), (6, 640), (8, 0), (9, y_offset), (4, 0x41)]
        {
            self.write(0x1500 + 2 * register, &u16::to_le_bytes(value)).unwrap();
        }
    }
}

fn word(memory: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(memory[at..at + 4].try_into().unwrap())
}

const ANY: u32 = u32::from_ne_bytes([GUARD; 4]);

/// Sizes around the least that is needed, and nonsense.
fn sizes(least: u32) -> Vec<u32> {
    let mut sizes: Vec<u32> = (least - 2..least + 26).collect();
    sizes.extend([0, 1, 4096, 4097, 1 << 20, i32::MAX as u32, 1 << 31, u32::MAX]);
    sizes
}
