//! Reset, reboot, hot-plug, two displays and lost servers, under Linux' bochs-drm.

use std::{ffi::OsStr, path::Path};

use rustix::process::Signal;
use vfio_gfx_tests::{
    SOON, eventually,
    guest::{Config, Guest},
    lab::{Kernel, Lab},
    picture,
    programs::Server,
    qmp,
};

use super::{ROM, SIZE, execute, witness::Witness};

/// What bochs-drm chooses on an mbochs-small.
const SMALL: (u32, u32) = (800, 600);

/// The part of the picture that fills a screen: the same bytes show differently at another width.
fn part(picture: &[u8], (width, height): (u32, u32)) -> &[u8] {
    &picture[..(width * height * 4) as usize]
}

/// The guest writes its picture to the framebuffer of this size, as soon as it has one, and the device shows it.
#[track_caller]
fn show(guest: &mut Guest, server: &Server, name: &str, size: (u32, u32), picture: &[u8]) {
    eventually("the guest has no such framebuffer", || {
        guest.draw(size).then_some(()).ok_or_else(|| format!("{size:?}"))
    });
    expect_picture(server, name, size, picture);
}

#[track_caller]
fn expect_picture(server: &Server, name: &str, (width, height): (u32, u32), picture: &[u8]) {
    eventually(name, || {
        server.screenshot(name)?.expect_xrgb8888(width, height, part(picture, (width, height)))
    });
}

#[track_caller]
fn expect_off(server: &Server, name: &str) {
    eventually(name, || match server.screenshot(name) {
        Err(error) if error.contains("the display is off") => Ok(()),
        other => Err(format!("{:?}", other.map(|screen| (screen.width, screen.height)))),
    });
}

/// Takes the device `id` out of the running guest, and waits until the guest has let go of it and QEMU of its server.
#[track_caller]
fn unplug(monitor: &Path, id: &str) {
    execute(monitor, &format!(r#"{{"execute":"device_del","arguments":{{"id":"{id}"}}}}"#));
    let list = format!(r#"{{"execute":"qom-list","arguments":{{"path":"/machine/peripheral/{id}"}}}}"#);
    eventually("the guest does not let go of its display", || match qmp::execute(monitor, &list) {
        Ok(()) => Err("still there".to_owned()),
        Err(error) if error.contains("DeviceNotFound") => Ok(()),
        Err(error) => Err(error),
    });
}

#[track_caller]
fn plug(monitor: &Path, device: &str) {
    execute(monitor, &format!(r#"{{"execute":"device_add","arguments":{device}}}"#));
}

fn config(picture: &[u8]) -> Config<'_> {
    Config { kernel: Kernel::Linux612, driver: "bochs", device: "", picture }
}

/// A PC with one display, which has a ROM: booted, reset and rebooted without a wrong frame from SeaBIOS to Linux; unplugged
/// and plugged; its server killed, and replaced.
#[test]
fn a_pc_is_reset_and_its_display_is_plugged_and_lost() {
    let Some(lab) = Lab::for_test("life::a_pc_is_reset_and_its_display_is_plugged_and_lost") else { return };
    let picture = picture::xrgb8888(SIZE.0, SIZE.1);
    let rom = lab.seabios(ROM);
    let mut server = Server::start_with("mbochs-medium", &[OsStr::new("--rom"), rom.as_os_str()]);
    let gpu = server.qemu_device(r#","id":"gpu""#);
    let witness = |name, server: &Server| Witness::start(name, server.socket(), SIZE, &picture);

    let boot = witness("pc-boot", &server);
    let mut qemu = lab.qemu();
    qemu.arg("-device").arg(&gpu);
    let mut guest = Guest::boot_on(&lab, config(&picture), "pc", qemu);
    let monitor = guest.monitor();
    boot.expect_text();
    show(&mut guest, &server, "pc", SIZE, &picture);

    let reset = witness("pc-reset", &server);
    execute(&monitor, r#"{"execute":"system_reset"}"#);
    guest.expect_ready();
    reset.expect_text();
    show(&mut guest, &server, "pc-was-reset", SIZE, &picture);

    let reboot = witness("pc-reboot", &server);
    guest.reboot();
    guest.expect_ready();
    reboot.expect_text();
    show(&mut guest, &server, "pc-rebooted", SIZE, &picture);

    unplug(&monitor, "gpu");
    server.process.expect_line("the VMM is gone", SOON);
    expect_off(&server, "pc-unplugged");
    plug(&monitor, &gpu);
    show(&mut guest, &server, "pc-plugged", SIZE, &picture);

    // QEMU does not connect again: the guest lives on with a dead display, until that is replaced.
    server.restart(Signal::KILL);
    assert_eq!(guest.shell("true"), 0, "the guest goes on");
    expect_off(&server, "pc-server-restarted");
    unplug(&monitor, "gpu");
    plug(&monitor, &gpu);
    show(&mut guest, &server, "pc-server-replaced", SIZE, &picture);
    guest.power_off();
    assert!(server.process.is_running());
}

/// A q35 with two displays, one behind a port and one on the root bus: each shows its own. The first goes to another port,
/// the second loses its server, which ends as it should; the guest and the other display go on.
#[test]
fn a_q35_has_two_displays_and_loses_each() {
    let Some(lab) = Lab::for_test("life::a_q35_has_two_displays_and_loses_each") else { return };
    let picture = picture::xrgb8888(SIZE.0, SIZE.1);
    let mut moved = Server::start("mbochs-medium");
    let mut fixed = Server::start("mbochs-small");
    let mut qemu = lab.qemu();
    qemu.args(["-device", "pcie-root-port,id=slot1,chassis=1,slot=1"])
        // A port that is empty at first has no room for video memory, unless it is asked for: twice its size, for SeaBIOS places
        // it anywhere.
        .args(["-device", "pcie-root-port,id=slot2,chassis=2,slot=2,pref32-reserve=32M"])
        .arg("-device")
        .arg(moved.qemu_device(r#","id":"moved","bus":"slot1""#))
        .arg("-device")
        .arg(fixed.qemu_device(r#","id":"fixed","bus":"pcie.0""#));
    let mut guest = Guest::boot_on(&lab, config(&picture), "q35", qemu);
    let monitor = guest.monitor();
    show(&mut guest, &moved, "q35-port", SIZE, &picture);
    show(&mut guest, &fixed, "q35-root", SMALL, &picture);
    expect_picture(&moved, "q35-port-still", SIZE, &picture);

    unplug(&monitor, "moved");
    expect_off(&moved, "q35-unplugged");
    expect_picture(&fixed, "q35-root-still", SMALL, &picture);
    plug(&monitor, &moved.qemu_device(r#","id":"moved","bus":"slot2""#));
    show(&mut guest, &moved, "q35-other-port", SIZE, &picture);

    fixed.restart(Signal::TERM);
    assert_eq!(guest.shell("true"), 0, "the guest goes on");
    expect_off(&fixed, "q35-server-restarted");
    show(&mut guest, &moved, "q35-not-concerned", SIZE, &picture);
    guest.power_off();
    assert!(moved.process.is_running() && fixed.process.is_running());
}
