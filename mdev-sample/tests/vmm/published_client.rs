//! The `vfio_user` crate's client, which cloud-hypervisor links, through a whole session.
//!
//! What it gets wrong (version 0.1.7) is worked around here and must not be provoked by a server:
//! * `resettable()` says the opposite of the device's flag;
//! * it does not look at the error of a reply: `dma_map`, `set_irqs` and `reset` that were refused are `Ok`;
//! * an error reply to `region_read`, `region_write`, `get_irq_info` or `dma_unmap` is shorter than what it waits for,
//!   and it waits for ever: nothing here may be refused with one;
//! * it knows one capability, and warns of every other.

use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use vfio_gfx::memory::{BufferKind, Mapping, Vram};
use vfio_user::Client;

use crate::served::Served;

const VRAM: u32 = 0;
const REGISTERS: u32 = 2;
const CONFIG: u32 = 7;

/// `VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER`: with a count of 0, disable.
const DISABLE: u32 = 0x21;

fn read32(client: &mut Client, region: u32, offset: u64) -> u32 {
    let mut data = [0; 4];
    client.region_read(region, offset, &mut data).unwrap();
    u32::from_le_bytes(data)
}

fn write_register(client: &mut Client, register: u64, value: u16) {
    client.region_write(REGISTERS, 0x500 + 2 * register, &value.to_le_bytes()).unwrap();
}

/// Regions as it learned them while it connected.
fn check_regions(client: &Client, count: u32, vram_size: u64) {
    assert!(client.region(count - 1).is_some() && client.region(count).is_none());
    for index in 0..count {
        let region = client.region(index).unwrap();
        assert_eq!(region.index, index);
        assert_eq!(
            region.file_offset.is_some(),
            index == VRAM,
            "cloud-hypervisor unwraps a mappable region's"
        );
        assert!(region.sparse_areas.is_empty(), "region {index} is mapped as a whole");
    }
    let vram = client.region(VRAM).unwrap();
    assert_eq!((vram.size, vram.flags & 4), (vram_size, 4));
    let file = vram.file_offset.as_ref().unwrap();
    assert!(file.start().is_multiple_of(4096));
    assert!(file.file().metadata().unwrap().len() >= file.start() + vram.size);
    assert_eq!(client.region(CONFIG).unwrap().size, 256);
}

/// Its VMM sizes the BARs so and never writes an address: what is left there must not be taken for one.
fn size_bars(client: &mut Client, vram_size: u64) {
    for offset in (0x10..0x28).step_by(4).chain([0x30]) {
        client.region_write(CONFIG, offset, &[0xff; 4]).unwrap();
    }
    let mask = u32::MAX - u32::try_from(vram_size - 1).unwrap();
    assert_eq!(read32(client, CONFIG, 0x10), mask | 8, "prefetchable");
    assert_eq!(read32(client, CONFIG, 0x30), 0);
    client.region_write(CONFIG, 4, &2u32.to_le_bytes()).unwrap();
}

/// Everything but drawing.
fn check_rest(client: &mut Client) {
    for index in 0..5 {
        let info = client.get_irq_info(index).unwrap();
        assert_eq!((info.index, info.count), (index, 0));
        // There is nothing to disable, which the server says and the client does not notice; the conversation goes on.
        client.set_irqs(index, DISABLE, 0, 0, &[]).unwrap();
    }
    let memory = Vram::new("guest", 0x20_0000).unwrap();
    let fd = memory.file().as_raw_fd();
    client.dma_map(0, 0, 0x10_0000, fd).unwrap();
    client.dma_map(0x10_0000, 1 << 32, 0x10_0000, fd).unwrap();
    client.dma_map(0, 0x8_0000, 0x10_0000, fd).expect("refused: it overlaps, but the client does not look");
    client.dma_unmap(1 << 32, 0x10_0000).unwrap();
    client.dma_map(0x10_0000, 1 << 32, 0x10_0000, fd).unwrap();
    client.dma_unmap(0, 0x10_0000).unwrap();
    // Beyond a conventional configuration space there are ones, not an error.
    assert_eq!(read32(client, CONFIG, 0x100), u32::MAX);
}

#[test]
fn mbochs_medium() {
    let served = Served::new("mbochs-medium");
    let mut client = Client::new(served.path()).unwrap();
    assert!(!client.resettable(), "inverted: the device can be reset, and says so");
    check_regions(&client, 10, 16 << 20);
    assert_eq!(read32(&mut client, CONFIG, 0), 0x1111_1234);
    size_bars(&mut client, 16 << 20);
    assert_eq!(read32(&mut client, CONFIG, 0x18), 0xffff_f000);
    check_rest(&mut client);

    for (register, value) in [(4, 0), (3, 32), (1, 800), (2, 600), (6, 800), (8, 0), (9, 0), (4, 0x41)] {
        write_register(&mut client, register, value);
    }
    let mut id = [0; 2];
    client.region_read(REGISTERS, 0x500, &mut id).unwrap();
    assert_eq!(u16::from_le_bytes(id), 0xb0c5);

    // A pixel through the descriptor that the guest maps: the same pages. That they can be mapped is looked at, too.
    let file = client.region(VRAM).unwrap().file_offset.clone().unwrap();
    let mapped = Mapping::new(file.file().try_clone().unwrap().into(), BufferKind::Memfd, 16 << 20).unwrap();
    assert!(mapped.is_mapped());
    let pixel = [0x33, 0x22, 0x11, 0xff];
    let place = (599 * 800 + 799) * 4;
    file.file().write_at(&pixel, file.start() + place).unwrap();
    let mut back = [0; 4];
    mapped.read(place, &mut back).unwrap();
    assert_eq!(back, pixel);
    let row = served.row(599).unwrap();
    assert_eq!(row[799 * 4..], pixel);
    assert!(row[..799 * 4].iter().all(|byte| *byte == 0));
    // And what is read through the socket is it as well.
    client.region_read(VRAM, place, &mut back).unwrap();
    assert_eq!(back, pixel);

    client.reset().unwrap();
    assert_eq!(served.row(0), None, "off after a reset");
    client.shutdown().unwrap();
    drop(client);
    // Its place is free again.
    assert_eq!(read32(&mut Client::new(served.path()).unwrap(), CONFIG, 0), 0x1111_1234);
}

/// It reads more than the head of a refusal before it looks at it: without an end of the connection it would never know.
#[test]
fn a_place_that_is_taken() {
    let served = Served::new("mbochs-medium");
    let _first = Client::new(served.path()).unwrap();
    assert!(Client::new(served.path()).is_err());
}

#[test]
fn mdpy_xga() {
    let served = Served::new("mdpy-xga");
    let mut client = Client::new(served.path()).unwrap();
    assert!(!client.resettable(), "inverted");
    check_regions(&client, 9, 4 << 20);
    assert_eq!(read32(&mut client, CONFIG, 0), 0x000f_1b36);
    size_bars(&mut client, 4 << 20);
    check_rest(&mut client);
    // The vendor capability in which mdpy-fb finds its mode.
    assert_eq!(read32(&mut client, CONFIG, 0x34) & 0xff, 0x40);
    assert_eq!(read32(&mut client, CONFIG, 0x40), 0x0010_0009);
    assert_eq!(read32(&mut client, CONFIG, 0x44), u32::from_le_bytes(*b"XR24"));
    assert_eq!([0x48, 0x4c].map(|at| read32(&mut client, CONFIG, at)), [1024, 768]);

    assert_eq!(served.row(767).unwrap(), [254; 4096], "the gradient it comes with");
    let file = client.region(VRAM).unwrap().file_offset.clone().unwrap();
    file.file().write_at(&[1, 2, 3, 4], file.start() + 767 * 4096).unwrap();
    assert_eq!(served.row(767).unwrap()[..8], [1, 2, 3, 4, 254, 254, 254, 254]);
    client.reset().unwrap();
    assert_eq!(served.row(767).unwrap(), [254; 4096]);
}
