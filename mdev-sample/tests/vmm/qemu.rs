//! QEMU's start (10.1 and 10.2, `vfio-user-pci`), and what its client makes fatal.

use std::os::fd::OwnedFd;
use std::path::Path;

use mdev_sample::TYPES;
use serde_json::Value;
use vfio_gfx::memory::Vram;

use crate::served::Served;
use crate::wire::{
    DMA_MAP, DMA_UNMAP, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, RESET, VERSION, Wire, u32_at, u32s, u64_at,
    u64s,
};

const CAPABILITIES: &str = concat!(
    r#"{"capabilities": {"pgsizes": 4096, "max_msg_fds": 16, "max_dma_maps": 65535, "max_data_xfer_size": 1048576, "#,
    r#""migration": {"max_bitmap_size": 268435456, "pgsize": 4096}, "write_multiple": true}}"#
);

/// The headers and structs it reads replies into: those of its requests, but for reads.
const NO_ROOM_BEYOND_THE_REQUEST: usize = 0;

/// VERSION, and the rules for its reply.
fn negotiate(wire: &mut Wire) {
    let request = [b"\0\0\0\0", CAPABILITIES.as_bytes(), b"\0"].concat();
    assert_eq!(16 + request.len(), 214, "as long as QEMU's");
    let reply = wire.ask(VERSION, &request, NO_ROOM_BEYOND_THE_REQUEST).payload;
    assert_eq!(reply[..4], [0; 4], "version 0.0, as asked");
    let json = reply[4..].strip_suffix(b"\0").expect("NUL at the end");
    let json: Value = serde_json::from_slice(json).unwrap();
    let capabilities = json["capabilities"].as_object().expect("an object");
    for (name, value) in capabilities {
        let number = value.as_u64().unwrap_or_else(|| panic!("{name}: {value}"));
        let is_accepted = match name.as_str() {
            "max_msg_fds" => number <= 16,
            "max_data_xfer_size" => number <= 64 << 20,
            "pgsizes" => number != 0 && number.is_multiple_of(4096),
            "max_dma_maps" => number <= 65535,
            // It would be warned of, or (write_multiple) make every message slow.
            _ => false,
        };
        assert!(is_accepted, "{name}: {value}");
    }
    assert!(capabilities["max_msg_fds"].as_u64() >= Some(1), "one descriptor per DMA_MAP");
}

/// Guest memory in five pieces, not waited for; ROMs are read-only and come without a descriptor.
fn announce_memory(wire: &mut Wire) {
    let memory = OwnedFd::from(Vram::new("guest", 0x800_0000).unwrap().file().try_clone().unwrap());
    let pieces: [(u32, u64, u64, u64, Option<&OwnedFd>); 5] = [
        (3, 0x0, 0x0, 0xa_0000, Some(&memory)),
        (1, 0x0, 0xc_0000, 0x2_0000, None),
        (1, 0x2_0000, 0xe_0000, 0x2_0000, None),
        (3, 0x10_0000, 0x10_0000, 0x7f0_0000, Some(&memory)),
        (1, 0x0, 0xfffc_0000, 0x4_0000, None),
    ];
    let mut sent = Vec::new();
    for (flags, offset, address, size, fd) in pieces {
        let request = [u32s(&[32, flags]), u64s(&[offset, address, size])].concat();
        sent.push(wire.send_in(usize::MAX, DMA_MAP, &request, fd));
    }
    for room in sent {
        assert!(wire.reply(room).payload.is_empty());
    }
}

/// GET_INFO to the config space, as `realize` does it. Returns the device's flags.
fn realize(wire: &mut Wire) -> u32 {
    let info = wire.ask(GET_INFO, &u32s(&[16, 0, 0, 0]), NO_ROOM_BEYOND_THE_REQUEST).payload;
    let (flags, regions, irqs) = (u32_at(&info, 4), u32_at(&info, 8), u32_at(&info, 12));
    assert!(flags & 2 != 0 && (8..=100).contains(&regions) && (3..=50).contains(&irqs), "{info:?}");
    for index in [0, 1, 2, 3, 4, 5, 7] {
        let request = u32s(&[32, 0, index, 0, 0, 0, 0, 0]);
        let reply = wire.ask(GET_REGION_INFO, &request, NO_ROOM_BEYOND_THE_REQUEST);
        let (argsz, flags, size) =
            (u32_at(&reply.payload, 0), u32_at(&reply.payload, 4), u64_at(&reply.payload, 16));
        assert_eq!(argsz, 32, "region {index}: no capabilities, so no second question");
        assert_eq!(
            reply.fds.len(),
            usize::from(flags & 4 != 0),
            "MMAP without a descriptor maps descriptor -1"
        );
        if let Some(fd) = reply.fds.first() {
            let offset = u64_at(&reply.payload, 24);
            let len = rustix::fs::fstat(fd).unwrap().st_size;
            assert!(offset.is_multiple_of(4096) && len.cast_unsigned() >= offset + size);
        }
        assert_eq!(size, if index == 7 { 256 } else { size }, "conventional PCI");
    }
    // ERR: none, and no error either.
    assert_eq!(irq_count(wire, 3), 0);
    let config = wire.read(7, 0, 256);
    assert_eq!(config[0x0e], 0, "one function, type 0 header");
    flags
}

fn irq_count(wire: &mut Wire, index: u32) -> u32 {
    let reply = wire.ask(GET_IRQ_INFO, &u32s(&[16, 0, index, 0]), NO_ROOM_BEYOND_THE_REQUEST).payload;
    assert_eq!(u32_at(&reply, 8), index);
    u32_at(&reply, 12)
}

fn size_bars(wire: &mut Wire) {
    let rom = wire.read(7, 0x30, 4);
    wire.write(7, 0x30, &0xffff_f800u32.to_le_bytes());
    assert_eq!(wire.read(7, 0x30, 4), [0; 4], "no ROM");
    wire.write(7, 0x30, &rom);
    for bar in 0..6 {
        let bits = wire.read(7, 0x10 + 4 * bar, 4)[0];
        assert_eq!(bits & 1, 0, "no I/O BAR: everything is memory");
    }
    assert_eq!(wire.read(7, 0x3d, 1), [0], "no pin: no INTx to be unmasked after each access");
    assert_eq!(irq_count(wire, 4), 0);
}

/// As `vfio_pci_pre_reset` and `_post_reset`, and then the firmware's churn.
fn machine_reset(wire: &mut Wire, flags: u32) {
    let command = wire.read(7, 4, 2);
    wire.write(7, 4, &[command[0] & !7, command[1]]);
    assert!(flags & 1 != 0, "without RESET it looks for a bus reset, which there is none");
    assert!(wire.ask(RESET, &[], NO_ROOM_BEYOND_THE_REQUEST).payload.is_empty());
    for bar in 0..6 {
        wire.write(7, 0x10 + 4 * bar, &[0; 4]);
    }
    wire.write(7, 4, &command);
    // The BIOS shadows ROMs: the same addresses again and again.
    for _ in 0..3 {
        let range = u64s(&[0xc_0000, 0x2_0000]);
        let unmapped =
            wire.ask(DMA_UNMAP, &[u32s(&[24, 0]), range.clone()].concat(), NO_ROOM_BEYOND_THE_REQUEST);
        assert_eq!(unmapped.payload, [u32s(&[24, 0]), range].concat());
        let map = [u32s(&[32, 3]), u64s(&[0xc_0000, 0xc_0000, 0x2_0000])].concat();
        wire.ask(DMA_MAP, &map, NO_ROOM_BEYOND_THE_REQUEST);
    }
}

fn start(path: &Path) -> Wire {
    let mut wire = Wire::connect(path);
    negotiate(&mut wire);
    announce_memory(&mut wire);
    let flags = realize(&mut wire);
    size_bars(&mut wire);
    machine_reset(&mut wire, flags);
    wire
}

#[test]
fn qemu_starts_with_every_type() {
    for device_type in TYPES {
        let served = Served::new(device_type.name());
        let mut wire = start(served.path());
        // The guest finds its device alive.
        wire.write(0, 4096, b"alive");
        assert_eq!(wire.read(0, 4096, 5), b"alive", "{}", device_type.name());
    }
}

/// `system_reset`, and a QEMU that was killed and started again.
#[test]
fn qemu_starts_again() {
    let served = Served::new("mbochs-medium");
    let mut wire = start(served.path());
    for _ in 0..3 {
        machine_reset(&mut wire, 3);
    }
    drop(wire);
    let mut wire = start(served.path());
    // UNMAP_ALL at its orderly end.
    let all = [u32s(&[24, 2]), u64s(&[0, 0])].concat();
    wire.ask(DMA_UNMAP, &all, NO_ROOM_BEYOND_THE_REQUEST);
}

/// bochs-drm's probe and mode set, after its probe of a PCI Express configuration space that is not there.
#[test]
fn a_guests_driver_gets_its_mode() {
    let served = Served::new("mbochs-medium");
    let mut wire = start(served.path());
    assert_eq!(wire.read(7, 0x100, 4), [0xff; 4]);
    assert_eq!(served.row(0), None, "off until there is a mode");
    assert_eq!(wire.read(2, 0x500, 2), [0xc5, 0xb0]);
    for (register, value) in [(4, 0), (3, 32), (1, 640), (2, 480), (6, 640), (8, 0), (9, 0), (4, 0x41)] {
        wire.write(2, 0x500 + 2 * register, &u16::to_le_bytes(value));
    }
    wire.write(0, 640 * 4 * 7, b"row seven");
    assert!(served.row(7).unwrap().starts_with(b"row seven"));
}
