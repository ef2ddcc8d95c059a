//! The console reads the kernel's own mediated devices: mdpy and mbochs of Linux 6.12, in a machine that has them; and
//! dma-bufs of ours made by a kernel that has udmabuf.
//!
//! Without a lab (`cargo xtask lab`) the test is skipped.

use std::time::Duration;

use serde_json::{Value, json};
use vfio_gfx_tests::{
    checksum,
    lab::{Kernel, Lab},
    machine::{Config, Machine},
    programs::artifacts,
    screen::Screen,
    skip,
};

/// mdpy's picture after its reset (samples/vfio-mdev/mdpy.c): every byte of line `y` is `y * 255 / height`.
fn gradient(width: u32, height: u32) -> Vec<u8> {
    let lines = (0..height).map(|y| u8::try_from(y * 255 / height).expect("less than 255"));
    lines.flat_map(|grey| std::iter::repeat_n(grey, width as usize * 4)).collect()
}

/// Makes a mediated device, and returns its directory.
#[track_caller]
fn create(machine: &mut Machine, driver: &str, kind: &str, uuid: &str) -> String {
    let types = format!("/sys/devices/virtual/{driver}/{driver}/mdev_supported_types");
    machine.success(&format!("echo {uuid} > {types}/{kind}/create"));
    format!("/sys/bus/mdev/devices/{uuid}")
}

#[track_caller]
fn info(machine: &mut Machine, device: &str) -> Value {
    let said = machine.success(&format!("qemu-shim info {device} --json"));
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("info {device}: {e}: {said}"))
}

/// The device shows mdpy's gradient, in every pixel and in the checksum.
#[track_caller]
fn expect_gradient(machine: &mut Machine, device: &str, (width, height): (u32, u32), name: &str) {
    let drawn = gradient(width, height);
    assert_eq!(machine.success(&format!("qemu-shim crc {device}")).trim(), checksum::vkms(&drawn));
    machine.success(&format!("qemu-shim screendump {device} -o /tmp/screen.png"));
    let path = artifacts().join(format!("{name}.png"));
    std::fs::write(&path, machine.file("/tmp/screen.png")).unwrap_or_else(|e| panic!("{name}: {e}"));
    let screen = Screen::read_png(&path).unwrap_or_else(|e| panic!("{e}"));
    screen.expect_xrgb8888(width, height, &drawn).unwrap_or_else(|e| panic!("{name}: {e}"));
}

/// mdpy: a region that the device does not count, and a picture.
fn mdpy(machine: &mut Machine) {
    for (kind, size, uuid) in [
        ("mdpy-vga", (640, 480), "a1b2c3d4-0000-4000-8000-000000000001"),
        ("mdpy-xga", (1024, 768), "a1b2c3d4-0000-4000-8000-000000000002"),
    ] {
        let path = create(machine, "mdpy", kind, uuid);
        let device = format!("vfio:{path}");
        let facts = info(machine, &device);
        assert_eq!(facts["interfaces"], json!(["region"]), "{facts}");
        assert_eq!(facts["edid"], Value::Null, "{facts}");
        let plane = &facts["planes"][0];
        assert_eq!((&plane["type"], &plane["region_index"]), (&json!("primary"), &json!(16)), "{facts}");
        assert_eq!((&plane["width"], &plane["height"]), (&json!(size.0), &json!(size.1)), "{facts}");
        assert_eq!(plane["hotspot"], Value::Null, "{facts}");
        expect_gradient(machine, &device, size, &format!("kernel-{kind}"));
        // The same device by the place that the path above leads to.
        let target = machine.success(&format!("realpath {path}"));
        assert_eq!(info(machine, &format!("vfio:{}", target.trim()))["planes"], facts["planes"]);
    }
}

/// While somebody has the device nobody else can, and is told so; when they are gone it is free, and can be removed.
fn one_at_a_time(machine: &mut Machine) {
    let path = "/sys/bus/mdev/devices/a1b2c3d4-0000-4000-8000-000000000001";
    machine.success(&format!("qemu-shim crc vfio:{path} --frames 2 > /tmp/crc & sleep 3; cat /tmp/crc"));
    let refused = machine.run(&format!("qemu-shim info vfio:{path}"));
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(refused.said.contains("in use"), "{refused:?}");
    machine.success("kill $!; wait $!; true");
    machine.success(&format!("qemu-shim info vfio:{path}"));
    machine.success(&format!("echo 1 > {path}/remove"));
    let gone = machine.run(&format!("qemu-shim info vfio:{path}"));
    assert!(gone.status == 1 && gone.said.contains(path), "{gone:?}");
}

/// mbochs: off until a guest sets a mode, buffers that no processor can read, and an EDID region.
fn mbochs(machine: &mut Machine) {
    let path = create(machine, "mbochs", "mbochs-medium", "a1b2c3d4-0000-4000-8000-000000000003");
    let device = format!("vfio:{path}");
    let facts = info(machine, &device);
    assert_eq!(facts["interfaces"], json!(["dmabuf"]), "{facts}");
    assert_eq!(facts["planes"], json!([]), "{facts}");
    assert_eq!(facts["edid"]["link"], "down", "{facts}");
    let regions = facts["regions"].as_array().expect("regions is a list");
    let edid = regions.iter().find(|region| region["index"] == 9).expect("region 9 is there");
    assert_eq!((&edid["caps"], &edid["size"]), (&json!(["gfx-edid"]), &json!(4096)), "{facts}");
    let off = machine.run(&format!("qemu-shim screendump {device} -o /tmp/off.png"));
    assert_eq!(off.status, 1, "{off:?}");
    assert!(off.said.contains("off"), "{off:?}");
    assert_ne!(machine.run("test -e /tmp/off.png").status, 0, "a picture of nothing was left");
    // Twice: what the first left open or broken would show.
    machine.success(&format!("kernel-probe mbochs {path}"));
    machine.success(&format!("echo 1 > {path}/remove"));
    let path = create(machine, "mbochs", "mbochs-small", "a1b2c3d4-0000-4000-8000-000000000003");
    let small = machine.run(&format!("kernel-probe mbochs {path}"));
    // 4 MiB are enough for every mode of the probe.
    assert_eq!(small.status, 0, "{small:?}");
}

/// Ours, where the kernel makes dma-bufs: what a console reads through one is what it reads through the region.
fn udmabuf(machine: &mut Machine) {
    machine.success("test -c /dev/udmabuf");
    for (interfaces, expected) in [("dmabuf", json!("dma-buf")), ("region", Value::Null)] {
        let socket = format!("/tmp/{interfaces}.sock");
        let log = format!("/tmp/{interfaces}.log");
        let serve = format!("mdev-sample serve --type mdpy-xga --socket {socket} --interfaces {interfaces}");
        let wait = format!("for n in $(seq 300); do [ -S {socket} ] && break; usleep 100000; done");
        let ready = format!("{wait}; cat {log}; test -S {socket}");
        machine.success(&format!("{serve} > {log} 2>&1 & {ready}"));
        let device = format!("vfio-user:{socket}");
        let facts = info(machine, &device);
        assert_eq!(facts["buffer"], expected, "{facts}");
        expect_gradient(machine, &device, (1024, 768), &format!("udmabuf-{interfaces}"));
    }
    // Guest memory in many pieces, which no program of ours shows by itself. Twice, as above.
    machine.success("udmabuf-probe");
    machine.success("udmabuf-probe");
    guest_memory(machine);
}

/// A plane of our own display in guest memory: the console reads it through a dma-buf of the guest's pages, until its VMM
/// goes.
fn guest_memory(machine: &mut Machine) {
    let wait = "for n in $(seq 300); do [ -S /tmp/vgfx.sock ] && break; usleep 100000; done";
    machine.success(&format!(
        "mdev-sample serve --type vgfx-hd --socket /tmp/vgfx.sock > /tmp/vgfx.log 2>&1 & {wait}; test -S /tmp/vgfx.sock"
    ));
    let shown = "for n in $(seq 300); do grep -q shown /tmp/shown && break; usleep 100000; done";
    machine.success(&format!(
        "vgfx-probe /tmp/vgfx.sock > /tmp/shown 2>&1 & echo $! > /tmp/vgfx.pid; {shown}; cat /tmp/shown; grep shown /tmp/shown"
    ));
    let device = "vfio-user:/tmp/vgfx.sock";
    let facts = info(machine, device);
    assert_eq!(facts["buffer"], json!("dma-buf"), "{facts}");
    expect_gradient(machine, device, (640, 480), "udmabuf-guest-memory");
    machine.success("kill $(cat /tmp/vgfx.pid)");
    let gone = "for n in $(seq 300); do qemu-shim screendump vfio-user:/tmp/vgfx.sock -o /tmp/gone.png || exit 0; usleep 100000; done";
    let off = machine.run(&format!("({gone}; exit 1)"));
    assert!(off.status == 0 && off.said.contains("off"), "{off:?}");
}

#[test]
fn kernel_devices_and_dma_bufs_of_linux_6_12() {
    const TEST: &str = "kernel_devices_and_dma_bufs_of_linux_6_12";
    let lab = match Lab::open() {
        Ok(lab) => lab,
        Err(why) => return skip(TEST, &why),
    };
    let mut machine = Machine::boot(
        &lab,
        Config {
            kernel: Kernel::Linux612,
            drivers: &["mdpy", "mbochs"],
            modules: &["kernel/drivers/vfio/vfio_iommu_type1.ko"],
            programs: &["mdev-sample", "qemu-shim", "kernel-probe", "udmabuf-probe", "vgfx-probe"],
            files: &[],
            megabytes: 512,
        },
    );
    machine.success("ls -l /dev/vfio /dev/udmabuf");
    mdpy(&mut machine);
    one_at_a_time(&mut machine);
    mbochs(&mut machine);
    udmabuf(&mut machine);
    // mbochs can be brought to free memory twice. The kernel says so, now or a little later.
    std::thread::sleep(Duration::from_secs(1));
    let log = machine.success("dmesg");
    for trouble in ["BUG", "WARNING", "Oops", "refcount", "Bad page"] {
        assert!(!log.contains(trouble), "the kernel is in trouble: {log}");
    }
}
