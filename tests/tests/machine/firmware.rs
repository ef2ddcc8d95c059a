//! What firmware shows before there is an operating system, on our display and on QEMU's own: the same.

use std::{ffi::OsStr, fs, path::PathBuf, process::Command};

use tempfile::TempDir;
use vfio_gfx_tests::{
    eventually,
    lab::Lab,
    programs::{Server, artifacts},
    qmp, skip,
};

use super::{Firmware, ROM, SIZE};

/// Two machines alike: one with QEMU's own display, and one with ours.
struct Twins {
    own: Firmware,
    ours: Firmware,
    server: Server,
    _dirs: [TempDir; 2],
}

impl Twins {
    /// `firmware` is given a directory for each machine, and returns arguments.
    fn start(
        lab: &Lab,
        machine: &str,
        megabytes: u32,
        (server, rest): (Server, &str),
        firmware: impl Fn(&TempDir) -> Vec<PathBuf>,
    ) -> Self {
        let (width, height) = SIZE;
        let displays =
            [format!("bochs-display,edid=on,xres={width},yres={height}"), server.qemu_device(rest)];
        let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary directory can be made"));
        let start = |number: usize| {
            let mut qemu: Command = lab.qemu();
            qemu.args(firmware(&dirs[number])).arg("-device").arg(&displays[number]);
            Firmware::start(qemu, machine, megabytes, dirs[number].path())
        };
        Self { own: start(0), ours: start(1), server, _dirs: dirs }
    }

    /// Both come to the same picture; which both keep, for there is nothing to boot.
    #[track_caller]
    fn expect_same_picture(&mut self, name: &str) {
        let file = artifacts().join(format!("{name}-reference.png"));
        eventually(name, || {
            let shown = self.server.screenshot(name)?;
            let expected = qmp::screenshot(&self.own.monitor, &file)?;
            if shown.is_blank() || (shown.width, shown.height) != SIZE {
                return Err(format!("{}x{}, blank: {}", shown.width, shown.height, shown.is_blank()));
            }
            let same = shown.rgb == expected.rgb;
            same.then_some(()).ok_or_else(|| "not what QEMU's own display shows".to_owned())
        });
        assert!(self.ours.vmm.is_running());
    }
}

/// With the ROM that QEMU brings along.
#[test]
fn seabios_on_pc() {
    let Some(lab) = Lab::for_test("firmware::seabios_on_pc") else { return };
    let romfile = format!(r#","romfile":"{ROM}""#);
    let display = (Server::start("mbochs-medium"), romfile.as_str());
    Twins::start(&lab, "pc", 64, display, |_| Vec::new()).expect_same_picture("seabios-pc");
}

/// With the same ROM, served by the device.
#[test]
fn seabios_on_q35_out_of_the_devices_rom() {
    let Some(lab) = Lab::for_test("firmware::seabios_on_q35_out_of_the_devices_rom") else { return };
    let rom = lab.seabios(ROM);
    let display = (Server::start_with("mbochs-medium", &[OsStr::new("--rom"), rom.as_os_str()]), "");
    Twins::start(&lab, "q35", 64, display, |_| Vec::new()).expect_same_picture("seabios-q35");
}

/// OVMF has a driver for the display, and needs no ROM.
#[test]
fn ovmf_on_q35() {
    let test = "firmware::ovmf_on_q35";
    let Some(lab) = Lab::for_test(test) else { return };
    let (code, variables) = match lab.ovmf() {
        Ok(files) => files,
        Err(why) => return skip(test, &why),
    };
    let firmware = |dir: &TempDir| {
        let own = dir.path().join("variables.fd");
        fs::copy(&variables, &own).unwrap_or_else(|e| panic!("{}: {e}", variables.display()));
        let code = format!("if=pflash,format=raw,readonly=on,file={}", code.display());
        let own = format!("if=pflash,format=raw,file={}", own.display());
        ["-drive", &code, "-drive", &own].map(PathBuf::from).to_vec()
    };
    let display = (Server::start("mbochs-medium"), "");
    Twins::start(&lab, "q35", 256, display, firmware).expect_same_picture("ovmf-q35");
}
