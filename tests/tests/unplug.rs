//! A display is taken away from a stock QEMU, with its guest's consent and without.
//!
//! Without a lab these are skipped.

use std::{
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use tempfile::TempDir;
use vfio_gfx_tests::{
    SOON, eventually,
    guest::{Config, Guest},
    lab::{Kernel, Lab},
    process::{Running, run},
    programs::{artifacts, program, vfio_user_pci},
    qmp,
    screen::Screen,
};

const UUID: &str = "11111111-1111-4111-8111-111111111111";

/// What a directory defines, served.
struct Definitions {
    process: Running,
    dir: TempDir,
}

impl Definitions {
    fn serve(grace: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let mut serve = Command::new(program("mdev-sample"));
        serve.args(["serve", "--grace", grace, "--definitions"]).arg(dir.path());
        Self { process: Running::start("mdev-sample", &serve), dir }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(format!("{UUID}.sock"))
    }

    fn manage(&self, args: &[&str]) {
        let mut command = Command::new(program("mdev-sample"));
        command.args(args).arg("--definitions").arg(self.dir.path());
        run("mdev-sample", &command, "", SOON).success().unwrap_or_else(|error| panic!("{args:?}: {error}"));
    }

    fn create(&mut self) {
        self.manage(&["create", "--type", "mbochs-medium", "--uuid", UUID]);
        self.process.expect_line("ready on", SOON);
    }

    fn device(&self, rest: &str) -> String {
        vfio_user_pci(&self.socket(), &format!(r#","id":"gpu"{rest}"#))
    }

    fn screenshot(&self, name: &str) -> Result<Screen, String> {
        let path = artifacts().join(format!("{name}.png"));
        let _ = std::fs::remove_file(&path);
        let mut dump = Command::new(program("qemu-shim"));
        dump.arg("screendump").arg(format!("vfio-user:{}", self.socket().display())).arg("-o").arg(&path);
        run("qemu-shim", &dump, "", SOON).success()?;
        Screen::read_png(&path)
    }
}

#[track_caller]
fn execute(monitor: &Path, command: &str) {
    qmp::execute(monitor, command).unwrap_or_else(|error| panic!("{error}"));
}

/// Linux unplugs the card when QEMU asks it to; the device is then free, and another one takes its place.
#[test]
fn a_guest_that_is_asked_unplugs_its_card() {
    let Some(lab) = Lab::for_test("a_guest_that_is_asked_unplugs_its_card") else { return };
    let mut served = Definitions::serve("3600");
    served.create();
    let device = served.device("");
    let config = Config { kernel: Kernel::Linux612, driver: "bochs", device: &device, picture: &[] };
    let mut guest = Guest::boot(&lab, config);
    execute(&guest.monitor(), r#"{"execute":"device_del","arguments":{"id":"gpu"}}"#);
    served.process.expect_line("the VMM is gone", SOON);
    served.manage(&["remove", UUID]);
    served.process.expect_line("unplugged", SOON);

    served.create();
    execute(&guest.monitor(), &format!(r#"{{"execute":"device_add","arguments":{device}}}"#));
    eventually("its driver shows nothing on the next card", || {
        let shown = served.screenshot("unplug-next")?;
        if shown.is_blank() { Err("blank".to_owned()) } else { Ok(()) }
    });
    guest.power_off();
}

/// A firmware has no idea of hot-plug. The card is taken away; the machine goes on, also through a reset, in which all of its
/// memory is mapped anew and every message about it refused.
#[test]
fn a_machine_that_cannot_be_asked_goes_on_without() {
    let Some(lab) = Lab::for_test("a_machine_that_cannot_be_asked_goes_on_without") else { return };
    let mut served = Definitions::serve("1");
    served.create();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let monitor = dir.path().join("qmp.sock");
    let mut qemu = lab.qemu();
    qemu.args(["-accel", "tcg", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none"])
        .args([
            "-object",
            "memory-backend-memfd,id=mem,size=64M,share=on",
            "-machine",
            "pc,memory-backend=mem",
        ])
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", monitor.display()))
        .arg("-device")
        .arg(served.device(r#","romfile":"vgabios-bochs-display.bin""#));
    let mut vmm = Running::start("qemu", &qemu);
    eventually("no monitor", || UnixStream::connect(&monitor).map(drop).map_err(|e| e.to_string()));
    eventually("no text", || {
        let shown = served.screenshot("unplug-firmware")?;
        if shown.is_blank() { Err("blank".to_owned()) } else { Ok(()) }
    });
    served.manage(&["remove", UUID]);
    // vfio-user-pci cannot be asked.
    served.process.expect_line("unplugged", SOON);
    for _ in 0..3 {
        execute(&monitor, r#"{"execute":"system_reset"}"#);
        thread::sleep(Duration::from_secs(1));
        // It answers, so it is there.
        execute(&monitor, r#"{"execute":"query-status"}"#);
    }
    assert!(vmm.is_running());
}
