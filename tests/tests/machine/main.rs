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
    thread,
    time::{Duration, Instant},
};

use vfio_gfx_tests::{
    lab::Lab,
    process::{Running, run},
    programs::Server,
    qmp, skip,
};

/// How long a machine may take to do what was asked of it: its drivers work when they find the time.
const SOON: Duration = Duration::from_secs(180);
/// What bochs-drm and the firmware choose on an mbochs-medium.
const SIZE: (u32, u32) = (1024, 768);
/// The firmware of a display with Bochs registers, of the package seabios.
const ROM: &str = "vgabios-bochs-display.bin";

fn lab(test: &str) -> Option<Lab> {
    Lab::open().inspect_err(|why| skip(test, why)).ok()
}

#[track_caller]
fn eventually(what: &str, mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + SOON;
    while let Err(error) = check() {
        assert!(Instant::now() < deadline, "{what}: {error}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// The device as QEMU knows it: `id`, and `rest`, such as `,"romfile":"..."` or `,"bus":"slot1"`.
fn device(server: &Server, id: &str, rest: &str) -> String {
    let path = server.socket().display();
    format!(r#"{{"driver":"vfio-user-pci","id":"{id}","socket":{{"type":"unix","path":"{path}"}}{rest}}}"#)
}

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
    let Some(lab) = lab("qemu_says_that_there_is_no_server") else { return };
    let mut server = Server::start("mbochs-medium");
    let device = device(&server, "gpu", "");
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
