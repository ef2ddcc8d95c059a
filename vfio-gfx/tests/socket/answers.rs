//! What the info commands answer, in the bytes a VMM parses.

use std::fs::File;

use crate::fixture::{CONFIG, EDID, REGISTERS, Served, VRAM, VRAM_SIZE};
use crate::hostile::EINVAL;
use crate::peer::{
    CONSOLE, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, Peer, Reply, VERSION, region_info, u32_at, u64_at,
    version, words,
};

const READ: u32 = 1;
const WRITE: u32 = 2;
const MMAP: u32 = 4;
const CAPS: u32 = 8;

fn info(peer: &mut Peer, index: u32, argsz: u32) -> Reply {
    let reply = peer.ask(GET_REGION_INFO, &region_info(index, argsz));
    assert_eq!((reply.refusal(), u32_at(&reply.payload, 8)), (0, index));
    reply
}

#[test]
fn the_device() {
    let served = Served::new();
    for peer in [&mut served.vmm(), &mut served.console()] {
        // PCI and RESET; nine PCI regions and the EDID; five PCI interrupt indices.
        assert_eq!(peer.ask(GET_INFO, &words(&[16, 0, 0, 0])).ok(), words(&[16, 3, 10, 5]));
        // cloud-hypervisor counts the header in argsz.
        assert_eq!(peer.ask(GET_INFO, &words(&[32, 0, 0, 0])).ok().len(), 16);
    }
}

#[test]
fn every_region_index_answers() {
    let served = Served::new();
    let mut vmm = served.vmm();
    for index in 0..=EDID {
        let (flags, size) = match index {
            VRAM => (READ | WRITE | MMAP, VRAM_SIZE),
            REGISTERS => (READ | WRITE, 4096),
            CONFIG => (READ | WRITE, 256),
            EDID => (READ | WRITE | CAPS, 4096),
            _ => (0, 0),
        };
        let reply = info(&mut vmm, index, 32);
        assert_eq!(reply.payload.len(), 32);
        assert_eq!((u32_at(&reply.payload, 4), u64_at(&reply.payload, 16)), (flags, size), "region {index}");
        assert_eq!(reply.fds.len(), usize::from(flags & MMAP != 0), "region {index}");
    }
    let mut console = served.console();
    for (index, flags) in
        [(VRAM, READ | MMAP), (REGISTERS, READ), (CONFIG, READ), (EDID, READ | WRITE | CAPS), (1, 0)]
    {
        assert_eq!(u32_at(&info(&mut console, index, 32).payload, 4), flags, "region {index} of a console");
    }
}

/// VMMs map `size` bytes at `offset` of the descriptor, and one of them dies if it cannot.
#[test]
fn what_can_be_mapped_is_there() {
    let served = Served::new();
    for peer in [&mut served.vmm(), &mut served.console()] {
        let mut reply = info(peer, VRAM, 32);
        let (size, offset) = (u64_at(&reply.payload, 16), u64_at(&reply.payload, 24));
        assert!(offset.is_multiple_of(4096));
        let file = File::from(reply.fds.pop().unwrap());
        assert!(file.metadata().unwrap().len() >= offset + size);
    }
}

/// vfio.h: who brings too little room for the capabilities is told how much there is to bring, and succeeds.
#[test]
fn capabilities_need_room() {
    let served = Served::new();
    let mut vmm = served.vmm();
    for argsz in [32, 33, 47] {
        let reply = info(&mut vmm, EDID, argsz).payload;
        assert_eq!((reply.len(), u32_at(&reply, 0), u32_at(&reply, 12)), (32, 48, 0), "argsz {argsz}");
    }
    for argsz in [48, 64, 4096] {
        let reply = info(&mut vmm, EDID, argsz).payload;
        assert_eq!((u32_at(&reply, 0), u32_at(&reply, 12)), (argsz, 32));
        // VFIO_REGION_INFO_CAP_TYPE, version 1, the last; GFX, EDID.
        assert_eq!(reply[32..48], [&[2, 0, 1, 0, 0, 0, 0, 0][..], &words(&[1, 1])].concat());
    }
}

#[test]
fn every_interrupt_index_answers() {
    let served = Served::new();
    for peer in [&mut served.vmm(), &mut served.console()] {
        for index in 0..5 {
            let count = u32::from(index == 1);
            let reply = peer.ask(GET_IRQ_INFO, &words(&[16, 0, index, 0])).ok();
            assert_eq!(reply, words(&[16, count, index, count]), "EVENTFD where there is one");
        }
        assert_eq!(peer.ask(GET_IRQ_INFO, &words(&[16, 0, 5, 0])).refusal(), EINVAL);
    }
}

#[test]
fn versions_are_negotiated_down() {
    let served = Served::new();
    let json = r#"{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":99,"pgsizes":69632,"new":[{}]}}"#;
    for (minor, answered) in [(0, 0), (1, 1), (2, 1), (0xffff, 1)] {
        let mut request = version(json);
        request[2..4].copy_from_slice(&u16::to_ne_bytes(minor));
        let mut vmm = served.peer();
        let reply = vmm.ask(VERSION, &request).ok();
        assert_eq!(reply[..4], [0, 0, answered, 0], "minor {minor}");
        let text = std::str::from_utf8(&reply[4..reply.len() - 1]).unwrap();
        let found: serde_json::Value = serde_json::from_str(text).unwrap();
        let expected = r#"{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":99,"pgsizes":4096}}"#;
        assert_eq!(found, serde_json::from_str::<serde_json::Value>(expected).unwrap());
        assert_eq!(reply.last(), Some(&0));
        vmm.finish();
        vmm.wait_closed();
    }
    drop(served.peer().ask(VERSION, &version(CONSOLE)).ok());
}
