//! cloud-hypervisor's start, message by message as it was recorded (`data/cloud-hypervisor-startup.txt`).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use vfio_gfx::memory::Vram;

use crate::served::Served;
use crate::wire::{
    DMA_MAP, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, REGION_READ, REGION_WRITE, Reply, VERSION, Wire,
    access, u32_at, u32s, u64_at, u64s,
};

const RECORDING: &str = include_str!("../data/cloud-hypervisor-startup.txt");

/// What a type answers where it is not the recorded device: bytes of the configuration space.
struct Expected {
    name: &'static str,
    id: &'static str,
    /// STATUS: mdpy and vgfx have a capability list.
    status: &'static str,
    /// Whether there is a message-signalled interrupt.
    has_msi: bool,
    /// BAR0 after ones were written: type bits and size mask.
    bar0: &'static str,
    /// Whether BAR2 is there, with Bochs registers in it.
    has_registers: bool,
}

const fn bochs(name: &'static str, bar0: &'static str) -> Expected {
    Expected { name, id: "34121111", status: "0000", has_msi: false, bar0, has_registers: true }
}

const fn vgfx(name: &'static str, bar0: &'static str) -> Expected {
    Expected { status: "1000", has_msi: true, ..bochs(name, bar0) }
}

const fn mdpy(name: &'static str, bar0: &'static str) -> Expected {
    Expected { name, id: "361b0f00", status: "1000", has_msi: false, bar0, has_registers: false }
}

const TYPES: [Expected; 9] = [
    // The recorded one.
    bochs("mbochs-medium", "080000ff"),
    bochs("mbochs-small", "0800c0ff"),
    bochs("mbochs-large", "080000fc"),
    vgfx("vgfx-hd", "080000fe"),
    vgfx("vgfx-qhd", "080000fc"),
    vgfx("vgfx-uhd", "080000f8"),
    mdpy("mdpy-vga", "0800e0ff"),
    mdpy("mdpy-xga", "0800c0ff"),
    mdpy("mdpy-hd", "080080ff"),
];

fn number(word: &str) -> u64 {
    u64::from_str_radix(word, 16).unwrap_or_else(|_| panic!("{word} in the recording"))
}

fn small(word: &str) -> u32 {
    number(word).try_into().unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.as_bytes().chunks(2).map(|pair| number(std::str::from_utf8(pair).unwrap()).to_le_bytes()[0]).collect()
}

/// The replay of one line.
struct Replay<'a> {
    wire: Wire,
    /// Bytes per write to the socket.
    piece: usize,
    expected: &'a Expected,
    memory: OwnedFd,
    /// Bytes that the last write put somewhere, and where.
    written: Option<(u32, u64)>,
    vram: Option<OwnedFd>,
}

impl Replay<'_> {
    fn ask(&mut self, command: u16, payload: &[u8], fd: bool) -> Reply {
        let memory = fd.then(|| self.memory.try_clone().unwrap());
        self.wire.send_in(self.piece, command, payload, memory.as_ref());
        self.wire.reply(1 << 16)
    }

    fn line(&mut self, line: &str) {
        let (message, answer) = line.split_once(" > ").unwrap_or((line, ""));
        let words: Vec<&str> = message.split(' ').collect();
        match words[..] {
            ["version", major, minor, json] => {
                let numbers =
                    [major, minor].map(|n| u16::try_from(number(n)).unwrap().to_ne_bytes()).concat();
                let reply = self.ask(VERSION, &[&numbers, json.as_bytes(), &[0]].concat(), false).payload;
                assert_eq!(reply[..4], numbers, "{line}");
                assert!(reply.ends_with(b"}\0"));
                assert!(reply.windows(14).any(|at| at == b"\"capabilities\""), "its client insists on it");
            }
            ["info", argsz] => {
                let reply = self.ask(GET_INFO, &u32s(&[small(argsz), 0, 0, 0]), false).payload;
                let (flags, regions, irqs) = (u32_at(&reply, 4), u32_at(&reply, 8), u32_at(&reply, 12));
                // Without PCI it gives up; without RESET it resets at once.
                assert!(reply.len() == 16 && flags == 3 && regions >= 9 && irqs >= 5, "{line}: {reply:?}");
            }
            ["region", index, argsz] => {
                let request = u32s(&[small(argsz), 0, small(index), 0, 0, 0, 0, 0]);
                let reply = self.ask(GET_REGION_INFO, &request, false);
                self.region(small(index), reply);
            }
            ["irq", index] => {
                let reply = self.ask(GET_IRQ_INFO, &u32s(&[16, 0, small(index), 0]), false).payload;
                // One with INTx costs a SET_IRQS per access.
                let index = small(index);
                let one = u32::from(self.expected.has_msi && index == 1);
                assert_eq!(reply, u32s(&[16, one, index, one]), "{line}");
            }
            ["dma", argsz, flags, ref place @ ..] => {
                let place: Vec<u64> = place.iter().map(|word| number(word)).collect();
                let request = [u32s(&[small(argsz), small(flags)]), u64s(&place)].concat();
                assert!(self.ask(DMA_MAP, &request, true).payload.is_empty(), "{line}");
            }
            ["read", region, offset, count] => {
                let (region, offset, count) = (small(region), number(offset), small(count) as usize);
                if region == 2 && !self.expected.has_registers {
                    return;
                }
                let reply = self.ask(REGION_READ, &access(region, offset, count), false).payload;
                assert_eq!(reply[16..], bytes(self.answer(region, offset, answer)), "{line}");
            }
            ["write", region, offset, data] => {
                let (region, offset, data) = (small(region), number(offset), bytes(data));
                if region == 2 && !self.expected.has_registers {
                    return;
                }
                let request = [access(region, offset, data.len()), data].concat();
                self.ask(REGION_WRITE, &request, false);
                self.written = Some((region, offset));
            }
            _ => panic!("{line} in the recording"),
        }
    }

    /// Rules without which it panics: a mappable region carries a descriptor as long as it says, at whole pages.
    fn region(&mut self, index: u32, mut reply: Reply) {
        let (flags, size, offset) =
            (u32_at(&reply.payload, 4), u64_at(&reply.payload, 16), u64_at(&reply.payload, 24));
        assert_eq!(
            (reply.payload.len(), u32_at(&reply.payload, 0)),
            (32, 32),
            "no capabilities to be fetched"
        );
        assert_eq!(flags & 4 != 0, index == 0, "region {index}: only the video memory is mapped");
        assert_eq!(reply.fds.len(), usize::from(index == 0));
        if index == 0 {
            let fd = reply.fds.remove(0);
            assert!(offset.is_multiple_of(4096) && size > 0);
            assert!(File::from(fd.try_clone().unwrap()).metadata().unwrap().len() >= offset + size);
            self.vram = Some(fd);
        }
    }

    /// What is to be read. The recorded server showed a BAR's type bits after sizing only; a BAR that is one has them
    /// always.
    fn answer<'a>(&'a self, region: u32, offset: u64, recorded: &'a str) -> &'a str {
        let is_sized = self.written == Some((7, offset));
        match (region, offset) {
            (7, 0x00) => self.expected.id,
            (7, 0x06) => self.expected.status,
            (7, 0x10) if is_sized => self.expected.bar0,
            (7, 0x10) => "08000000",
            (7, 0x18) if !self.expected.has_registers => "00000000",
            _ => recorded,
        }
    }
}

fn replay(expected: &Expected, piece: usize) {
    let served = Served::new(expected.name);
    let memory = Vram::new("guest", 0x800_0000).unwrap().file().try_clone().unwrap();
    let mut replay = Replay {
        wire: Wire::connect(served.path()),
        piece,
        expected,
        memory: memory.into(),
        written: None,
        vram: None,
    };
    let lines = RECORDING.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut messages = 0;
    for line in lines {
        replay.line(line);
        messages += 1;
    }
    assert_eq!(messages, 40, "the recording has as many");
    // Its guest then drew through the mapping: these eight bytes.
    let drawn = [0x40, 0x80, 0xff, 0x00, 0xef, 0xbe, 0xad, 0xde];
    File::from(replay.vram.take().unwrap()).write_at(&drawn, 0).unwrap();
    assert_eq!(replay.wire.read(0, 0, 8), drawn);
    drop(replay);
    // Gone: the next VMM finds the registers as they were left.
    let mut next = Wire::connect(served.path());
    next.ask(VERSION, b"\0\0\0\0{}\0", 64);
    if expected.has_registers {
        assert_eq!(next.read(2, 0x502, 2), [0x80, 0x02]);
    } else {
        assert_eq!(served.row(0).unwrap()[..8], drawn, "mdpy is always on");
    }
}

#[test]
fn the_recorded_device() {
    replay(&TYPES[0], usize::MAX);
}

#[test]
fn the_recorded_device_byte_by_byte() {
    replay(&TYPES[0], 1);
}

#[test]
fn every_other_type() {
    for expected in &TYPES[1..] {
        replay(expected, 7);
    }
    assert!(mdev_sample::TYPES.iter().all(|t| TYPES.iter().any(|expected| expected.name == t.name())));
}
