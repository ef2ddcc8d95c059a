//! `--rom FILE`: devices that bring firmware along.

use std::fs;
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;
use vfio_user::Client;

use crate::program::{Serving, complaint, program};

const ROM: u32 = 6;
const CONFIG: u32 = 7;
/// `VFIO_REGION_INFO_FLAG_READ`
const READ: u32 = 1;

/// An image of 2560 bytes for a Bochs display, its PCI data structure at 0x1c.
fn image() -> Vec<u8> {
    let mut image: Vec<u8> = (0..2560u32).map(|at| at.to_le_bytes()[0] ^ 0x5a).collect();
    image[..3].copy_from_slice(&[0x55, 0xaa, 5]);
    image[0x18..0x1a].copy_from_slice(&[0x1c, 0]);
    image[0x1c..0x34].fill(0);
    image[0x1c..0x24].copy_from_slice(b"PCIR\x34\x12\x11\x11");
    image[0x2c] = 5;
    image[0x31] = 0x80;
    image
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

fn read(client: &mut Client, region: u32, offset: u64, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    client.region_read(region, offset, &mut data).unwrap();
    data
}

/// What a VMM reads back after it wrote ones: the size, or nothing.
fn sized(client: &mut Client) -> Vec<u8> {
    client.region_write(CONFIG, 0x30, &0xffff_f800u32.to_le_bytes()).unwrap();
    let mask = read(client, CONFIG, 0x30, 4);
    client.region_write(CONFIG, 0x30, &[0; 4]).unwrap();
    mask
}

/// With the client that cloud-hypervisor links. The device beside it has none.
#[test]
fn a_vmm_finds_the_rom_of_the_device_that_has_one() {
    let dir = tempfile::tempdir().unwrap();
    let rom = write(&dir, "rom", &image());
    let (with, without) = (dir.path().join("with.sock"), dir.path().join("without.sock"));
    let mut command = program(dir.path());
    command.args(["serve", "--type", "mbochs-small", "--rom", &rom, "--socket"]).arg(&with);
    command.args(["--type", "mbochs-small", "--socket"]).arg(&without);
    let mut serving = Serving::start(&mut command);
    serving.ready();
    serving.ready();

    let mut client = Client::new(&with).unwrap();
    let region = client.region(ROM).unwrap();
    assert_eq!((region.size, region.flags, region.file_offset.is_none()), (4096, READ, true));
    let mut expected = image();
    expected.resize(4096, 0);
    assert_eq!(read(&mut client, ROM, 0, 4096), expected, "padded with zeros");
    // In pieces, and with memory decoding off: QEMU reads it when it pleases.
    client.region_write(CONFIG, 4, &[0, 0]).unwrap();
    assert_eq!(read(&mut client, ROM, 2556, 8), expected[2556..2564]);
    assert_eq!(sized(&mut client), 0xffff_f000u32.to_le_bytes());

    let mut client = Client::new(&without).unwrap();
    let region = client.region(ROM).unwrap();
    assert_eq!((region.size, region.flags), (0, 0));
    assert_eq!(sized(&mut client), [0; 4]);
}

#[test]
fn what_is_no_rom_of_the_device_is_refused_before_there_is_a_socket() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |device_type: &str, rom: &str| {
        let socket = dir.path().join("a.sock");
        let mut command = program(dir.path());
        command.args(["serve", "--type", device_type, "--rom", rom, "--socket"]).arg(&socket);
        let output: Output = command.output().unwrap();
        assert!(!socket.exists());
        let complaint = complaint(&output);
        assert!(complaint.contains(&format!("--rom {rom}: ")), "{complaint}");
        complaint
    };
    let good = write(&dir, "good", &image());
    assert!(refused("mbochs-small", "/nonexistent/rom").contains("cannot be read: No such file"));
    assert!(refused("mbochs-small", &write(&dir, "text", b"no ROM")).contains("expected the bytes 55 aa"));
    assert!(refused("mbochs-small", &write(&dir, "cut", &image()[..2559])).contains("cut short"));
    assert!(refused("mdpy-vga", &good).contains("of device 1234:1111, and this one is 1b36:000f"));
    if Path::new("/dev/zero").exists() {
        assert!(refused("mbochs-small", "/dev/zero").contains("at most 16 MiB"));
    }
}
