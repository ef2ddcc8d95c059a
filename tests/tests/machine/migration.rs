//! Migration, which these displays are not made for.

use std::process::Command;

use vfio_gfx_tests::{
    eventually,
    lab::Lab,
    programs::{Server, program},
    qmp,
};

use super::{Firmware, ROM, execute};

/// A display that QEMU takes for one of the kernel's cannot be migrated, and QEMU says why. With vfio-user-pci QEMU
/// does not ask: it migrates without the display's state, and the machine that stays is unharmed.
#[test]
fn it_is_refused_or_harmless() {
    let Some(lab) = Lab::for_test("migration::it_is_refused_or_harmless") else { return };
    let server = Server::start("mbochs-medium");
    let qemu = lab.qemu();
    let mut shim = Command::new(program("qemu-shim"));
    shim.arg("qemu").arg(format!("vfio-user:{}", server.socket().display()));
    shim.arg("--preload").arg(program("libvfio_gfx_preload.so"));
    shim.arg("--").arg(qemu.get_program()).args(qemu.get_args());
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let pc = Firmware::start(shim, "pc", 64, dir.path());
    let state = dir.path().join("state");
    let migrate = format!(r#"{{"execute":"migrate","arguments":{{"uri":"file:{}"}}}}"#, state.display());
    let refused = qmp::execute(&pc.monitor, &migrate).expect_err("the state of a display is nowhere kept");
    assert!(refused.contains("migration is not supported"), "{refused}");
    drop(pc);

    let mut qemu = lab.qemu();
    qemu.arg("-device").arg(server.qemu_device(&format!(r#","romfile":"{ROM}""#)));
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut pc = Firmware::start(qemu, "pc", 64, dir.path());
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
