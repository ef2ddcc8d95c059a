//! A stock QEMU with our devices over vfio-user: the firmware's text on both machine types, migration, and no server.
//!
//! Without a lab these are skipped.

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
    programs::{Server, artifacts, program},
    qmp, skip,
};

/// How long a machine may take to do what was asked of it: its drivers work when they find the time.
const SOON: Duration = Duration::from_secs(60);
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

/// The device as QEMU knows it: `id`, and `rest`, such as `,"romfile":"..."`.
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
    fn start(mut qemu: Command, machine: &str, dir: &Path) -> Self {
        let monitor = dir.join("qmp.sock");
        qemu.args(["-accel", "tcg", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-object", "memory-backend-memfd,id=mem,size=64M,share=on", "-machine"])
            .arg(format!("{machine},memory-backend=mem"))
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        let vmm = Running::start("qemu", &qemu);
        eventually("no monitor", || UnixStream::connect(&monitor).map(drop).map_err(|e| e.to_string()));
        Self { vmm, monitor }
    }
}

/// SeaBIOS writes on our display, over stock vfio-user, what it writes on QEMU's own.
#[track_caller]
fn seabios(machine: &str) {
    let Some(lab) = lab(&format!("seabios_on_{machine}")) else { return };
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut qemu = lab.qemu();
    let (width, height) = SIZE;
    qemu.arg("-device").arg(format!("bochs-display,edid=on,xres={width},yres={height}"));
    let own = Firmware::start(qemu, machine, dir.path());

    let server = Server::start("mbochs-medium");
    let mut qemu = lab.qemu();
    qemu.arg("-device").arg(device(&server, "gpu", &format!(r#","romfile":"{ROM}""#)));
    let other = tempfile::tempdir().expect("a temporary directory can be made");
    let mut ours = Firmware::start(qemu, machine, other.path());

    let name = format!("seabios-{machine}");
    let file = artifacts().join(format!("{name}-reference.png"));
    eventually(&name, || {
        let shown = server.screenshot(&name)?;
        let expected = qmp::screenshot(&own.monitor, &file)?;
        if shown.is_blank() || (shown.width, shown.height) != SIZE {
            return Err(format!("{}x{}, blank: {}", shown.width, shown.height, shown.is_blank()));
        }
        // Both have come to their end: the boot failed, for there is no disk.
        let same = shown.rgb == expected.rgb;
        same.then_some(()).ok_or_else(|| "not what QEMU's own display shows".to_owned())
    });
    assert!(ours.vmm.is_running());
}

#[test]
fn seabios_on_pc() {
    seabios("pc");
}

#[test]
fn seabios_on_q35() {
    seabios("q35");
}

/// A display that QEMU takes for one of the kernel's cannot be migrated, and QEMU says why. With vfio-user-pci QEMU
/// does not ask: it migrates without the display's state, and the machine that stays is unharmed.
#[test]
fn migration_is_refused_or_harmless() {
    let Some(lab) = lab("migration_is_refused_or_harmless") else { return };
    let server = Server::start("mbochs-medium");
    let qemu = lab.qemu();
    let mut shim = Command::new(program("qemu-shim"));
    shim.arg("qemu").arg(format!("vfio-user:{}", server.socket().display()));
    shim.arg("--preload").arg(program("libvfio_gfx_preload.so"));
    shim.arg("--").arg(qemu.get_program()).args(qemu.get_args());
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let pc = Firmware::start(shim, "pc", dir.path());
    let state = dir.path().join("state");
    let migrate = format!(r#"{{"execute":"migrate","arguments":{{"uri":"file:{}"}}}}"#, state.display());
    let refused = qmp::execute(&pc.monitor, &migrate).expect_err("the state of a display is nowhere kept");
    assert!(refused.contains("migration is not supported"), "{refused}");
    drop(pc);

    let mut qemu = lab.qemu();
    qemu.arg("-device").arg(device(&server, "gpu", &format!(r#","romfile":"{ROM}""#)));
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut pc = Firmware::start(qemu, "pc", dir.path());
    let mut before = None;
    eventually("no text", || {
        let shown = server.screenshot("migrate")?;
        let still = before.replace(shown.rgb.clone());
        let is_done = !shown.is_blank() && still.is_some_and(|still| still == shown.rgb);
        is_done.then_some(()).ok_or_else(|| "blank, or not complete".to_owned())
    });
    execute(&pc.monitor, &migrate);
    execute(&pc.monitor, r#"{"execute":"system_reset"}"#);
    eventually("no text after the reset", || {
        // It stops when it has been migrated, and that takes a moment.
        qmp::execute(&pc.monitor, r#"{"execute":"cont"}"#)?;
        let shown = server.screenshot("migrated")?;
        let is_same = Some(&shown.rgb) == before.as_ref();
        is_same.then_some(()).ok_or_else(|| "not as before".to_owned())
    });
    assert!(pc.vmm.is_running());
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
