//! A stock QEMU with our devices over vfio-user, through all that happens to a machine: firmware, reset, reboot, hot-plug,
//! migration, several displays, a server that dies, and none at all.
//!
//! One boot serves several checks, for booting is what takes time. Without a lab these are skipped.

mod firmware;
mod life;
mod migration;
mod witness;

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use vfio_gfx_tests::{
    SOON, eventually,
    lab::Lab,
    process::{Running, run},
    programs::Server,
    qmp,
};

/// What bochs-drm and the firmware choose on an mbochs-medium.
const SIZE: (u32, u32) = (1024, 768);
/// The firmware of a display with Bochs registers, of the package seabios.
const ROM: &str = "vgabios-bochs-display.bin";

#[track_caller]
fn execute(monitor: &Path, command: &str) {
    qmp::execute(monitor, command).unwrap_or_else(|error| panic!("{error}"));
}

/// A machine without a disk, which stays at what its firmware wrote.
struct Firmware {
    vmm: Running,
    monitor: PathBuf,
}

impl Firmware {
    /// `megabytes` of memory; SeaBIOS is content with 64.
    fn start(mut qemu: Command, machine: &str, megabytes: u32, dir: &Path) -> Self {
        let monitor = dir.join("qmp.sock");
        qemu.args(["-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-m", &megabytes.to_string(), "-object"])
            .arg(format!("memory-backend-memfd,id=mem,size={megabytes}M,share=on"))
            .arg("-machine")
            .arg(format!("{machine},memory-backend=mem"))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        let vmm = Running::start("qemu", &qemu);
        eventually("no monitor", || UnixStream::connect(&monitor).map(drop).map_err(|e| e.to_string()));
        Self { vmm, monitor }
    }
}

/// There must be a server before there is a VMM; which says so.
#[test]
fn qemu_says_that_there_is_no_server() {
    let Some(lab) = Lab::for_test("qemu_says_that_there_is_no_server") else { return };
    let mut server = Server::start("mbochs-medium");
    let device = server.qemu_device("");
    let path = server.socket().to_owned();
    server.process.crash();
    let mut qemu = lab.qemu();
    qemu.args(["-accel", "tcg", "-machine", "pc", "-nodefaults", "-display", "none", "-device"]).arg(&device);
    // Whether the socket of one that was killed lies there or not.
    for reason in ["Connection refused", "No such file or directory"] {
        let finished = run("qemu", &qemu, "", SOON);
        assert!(!finished.status.success(), "{finished:?}");
        assert!(finished.stderr.contains(reason) && finished.stderr.contains("device.sock"), "{finished:?}");
        let _ = std::fs::remove_file(&path);
    }
}
