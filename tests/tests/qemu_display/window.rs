//! QEMU's own window, drawn with OpenGL, on a device that offers dma-bufs: its size reaches the guest as that of its monitor.

use std::path::Path;

use vfio_gfx_tests::{
    SOON, eventually, lab::Lab, process::Running, programs::Server, qmp, screen::Screen, skip,
    xserver::XServer,
};

use crate::LIBRARY;

/// What GTK's window of QEMU is called.
const TITLE: &str = "QEMU";

/// The size that the monitor prefers, as the console reads it from the EDID that QEMU wrote.
fn preferred(server: &Server) -> Result<(u32, u32), String> {
    let info = server.ask("info", &[])?;
    let line = info.lines().find(|line| line.starts_with("EDID:")).ok_or(format!("no EDID: {info}"))?;
    let size = line.split("preferred ").nth(1).and_then(|rest| rest.split('@').next());
    let (width, height) = size.and_then(|size| size.split_once('x')).ok_or_else(|| line.to_owned())?;
    let number = |text: &str| text.parse().map_err(|_| line.to_owned());
    Ok((number(width)?, number(height)?))
}

/// What the device shows, once QEMU's window has it in its lower left corner, below the menu.
fn in_window(xserver: &XServer<'_>, server: &Server, size: (u32, u32)) -> Result<(), String> {
    let ours = server.screenshot("qemu-window-ours")?;
    if (ours.width, ours.height) != size || ours.is_blank() {
        return Err(format!("{}x{} pixels, blank: {}", ours.width, ours.height, ours.is_blank()));
    }
    let window = xserver.window("qemu-window", TITLE)?;
    let Screen { width, height, .. } = window;
    if width < size.0 || height < size.1 {
        return Err(format!("a window of {width}x{height}"));
    }
    let bytes = |pixels: u32| pixels as usize * 3;
    let rows = window.rgb.chunks(bytes(width)).skip((height - size.1) as usize);
    let shown: Vec<u8> = rows.flat_map(|row| &row[..bytes(size.0)]).copied().collect();
    if shown == ours.rgb { Ok(()) } else { Err(format!("another picture in a window of {width}x{height}")) }
}

#[test]
fn a_window_with_opengl_is_the_guests_monitor() {
    let name = "a_window_with_opengl_is_the_guests_monitor";
    let Some(lab) = Lab::for_test(name) else { return };
    if !lab.viewers().join("usr/lib/x86_64-linux-gnu/qemu/ui-gtk.so").is_file() {
        return skip(name, "no QEMU with windows in the lab: run `cargo xtask lab` (as root)");
    }
    let xserver = XServer::start(&lab);
    let mut server = Server::start("mbochs-medium");
    xserver.bring("qemu-shim");
    xserver.bring(LIBRARY);
    xserver.bring_socket(server.socket());
    assert!(preferred(&server).is_err() || preferred(&server) != Ok((640, 480)), "nobody has written yet");

    let mut qemu = xserver.program("/tmp/qemu-shim");
    qemu.args(["qemu", "vfio-user:/tmp/gpu.sock", "--interface", "dmabuf", "--preload"])
        .arg(Path::new("/tmp").join(LIBRARY))
        .args(["--romfile", "vgabios-bochs-display.bin", "--", "qemu-system-x86_64"])
        .args(["-L", "/usr/share/seabios", "-accel", "tcg", "-m", "64", "-nodefaults", "-no-user-config"])
        .args(["-display", "gtk,gl=on", "-S", "-qmp", "unix:/tmp/qmp.sock,server=on,wait=off"])
        .env("LIBGL_ALWAYS_SOFTWARE", "1");
    let mut qemu = Running::start("qemu-shim qemu", &qemu);
    qemu.expect_line("ready on", SOON);

    // QEMU's window begins with 640x480, and so does a firmware that starts when it is there.
    eventually("the EDID of the first window", || match preferred(&server)? {
        (640, 480) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let monitor = xserver.tmp().join("qmp.sock");
    let execute = |command: &str| {
        qmp::execute(&monitor, &format!(r#"{{"execute":"{command}"}}"#))
            .unwrap_or_else(|error| panic!("{error}"));
    };
    execute("cont");
    eventually("the firmware's text in the window", || in_window(&xserver, &server, (640, 480)));

    xserver.xdotool(TITLE, &["windowsize", "%@", "900", "700"]);
    // As wide as the window, and as high as it is without its menu.
    let resized = eventually("the EDID of the larger window", || match preferred(&server)? {
        (900, height @ 600..700) => Ok((900, height)),
        other => Err(format!("{other:?}")),
    });
    execute("system_reset");
    eventually("the guest's picture in the new size", || in_window(&xserver, &server, resized));
    execute("quit");
    assert!(qemu.wait(SOON).success());
    assert!(server.process.is_running());
    let said = server.process.said();
    assert!(!said.contains("WARN"), "QEMU is refused nothing: {said}");
}
