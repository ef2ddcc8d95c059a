//! VNC viewers that people use, on a guest's screen: what they show is what the guest drew, what is typed into them arrives,
//! and they live through a change of the mode.
//!
//! Needs the lab with its viewers and its browser (`cargo xtask lab`); another Chromium may be named in `VFIO_GFX_CHROMIUM`.
//! Without them these tests are skipped.

mod browser;
mod desktop;
mod scene;
mod site;

use std::{fs, path::Path, time::Duration};

use vfio_gfx_tests::{eventually, lab::Lab, process::run, screen::Screen, skip};

use browser::Browser;
use desktop::Desktop;
use scene::{ANSWER, LINE, SIZE, Scene, TYPED, Vnc, write};
use site::Site;

/// How long a program that takes a picture and ends may take.
const PICTURE: Duration = Duration::from_secs(60);
/// A VNC password, of the eight bytes that count.
const PASSWORD: &str = "sekrit12";

/// The lab with viewers, or nothing if `test` is to be skipped.
fn lab(test: &str) -> Option<Lab> {
    let lab = Lab::open().and_then(|lab| {
        let there = lab.viewers().join("usr/bin/vncdo").symlink_metadata().is_ok();
        if there { Ok(lab) } else { Err("no VNC viewers in the lab: run `cargo xtask lab` (as root)".into()) }
    });
    lab.inspect_err(|why| skip(test, why)).ok()
}

#[test]
fn tigervnc_shows_types_and_resizes() {
    let Some(lab) = lab("tigervnc_shows_types_and_resizes") else { return };
    let mut scene = Scene::boot(&lab);
    let vnc = scene.vnc(&[]);
    let address = format!("127.0.0.1::{}", vnc.port);
    let desktop = Desktop::start(&lab);
    scene.guest.show_picture();
    for encoding in ["Raw", "ZRLE", "Tight"] {
        let _viewer = desktop.tigervnc(encoding, &address, &[]);
        scene.expect_picture(encoding, || desktop.shown());
    }

    scene.guest.show_shell();
    let mut viewer = desktop.tigervnc("Tight", &address, &[]);
    scene.expect_same("tigervnc-shell", SIZE, || desktop.shown());
    // The viewer takes the keyboard some time after it gets the focus.
    desktop.xdotool(&[
        "windowfocus",
        "--sync",
        "sleep",
        "1",
        "type",
        "--args",
        "1",
        "--delay",
        "20",
        LINE,
        "key",
        "Return",
    ]);
    scene.guest.vmm.expect_line(ANSWER, TYPED);

    // A larger window asks for a larger screen; the guest's driver looks at the monitor when it comes.
    desktop.xdotool(&["windowsize", "1280", "720"]);
    eventually("the monitor is not exchanged", || {
        let said = scene.server.ask("info", &[])?;
        if said.contains("preferred 1280x720") { Ok(()) } else { Err(said) }
    });
    scene.guest.restart_driver((1280, 720));
    scene.expect_same("tigervnc-resized", (1280, 720), || desktop.shown());
    assert!(viewer.is_running(), "the viewer ended");
    scene.guest.power_off();
}

#[test]
fn tigervnc_encrypts_and_knows_the_password() {
    let Some(lab) = lab("tigervnc_encrypts_and_knows_the_password") else { return };
    let mut scene = Scene::boot(&lab);
    scene.guest.show_picture();
    let desktop = Desktop::start(&lab);
    let dir = desktop.tmp();
    let signed =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let certificate = write(dir, "certificate.pem", &signed.cert.pem());
    let key = write(dir, "key.pem", &signed.signing_key.serialize_pem());
    let password = write(dir, "password", PASSWORD);
    let path = |path: &Path| path.to_str().expect("a temporary path is UTF-8").to_owned();
    let (certificate, key, password) = (path(&certificate), path(&key), path(&password));
    let tls = ["--tls-cert", &certificate, "--tls-key", &key];
    let trusts = "-X509CA=/tmp/certificate.pem";

    let vnc = Vnc::start(&scene.server, &[&tls[..], &["--tls-required"]].concat());
    let viewer = desktop.tigervnc("ZRLE", &format!("localhost::{}", vnc.port), &[trusts]);
    scene.expect_picture("X509None", || desktop.shown());
    assert!(viewer.said().contains("X509None"), "it is not encrypted");
    drop((viewer, vnc));

    let mut vnc = Vnc::start(&scene.server, &[&tls[..], &["--password-file", &password]].concat());
    let address = format!("localhost::{}", vnc.port);
    for (security, chosen) in [("X509Vnc", "X509Vnc"), ("VncAuth", "VncAuth")] {
        let types = format!("-SecurityTypes={security}");
        let viewer = desktop.tigervnc_with_password("Tight", &address, &[trusts, &types], PASSWORD);
        scene.expect_picture(security, || desktop.shown());
        assert!(viewer.said().contains(chosen), "expected {chosen}");
    }
    let mut viewer = desktop.tigervnc_with_password("Tight", &address, &[trusts], "another1");
    viewer.expect_line("wrong password", PICTURE);
    vnc.process.expect_line("wrong VNC password", PICTURE);
}

#[test]
fn programs_that_take_pictures() {
    let Some(lab) = lab("programs_that_take_pictures") else { return };
    let mut scene = Scene::boot(&lab);
    let vnc = scene.vnc(&[]);
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let take = |name: &str, arguments: &[&str]| {
        let mut command = lab.viewer(dir.path(), name);
        command.args(arguments);
        run(name, &command, "", PICTURE).success()
    };
    // Its own way to say a port: counted from 5900.
    let gvnc = format!("127.0.0.1:{}", vnc.port - 5900);
    let address = format!("127.0.0.1::{}", vnc.port);
    scene.guest.show_picture();
    scene.expect_picture("gvnccapture", || {
        take("gvnccapture", &[&gvnc, "/tmp/gvnc.png"])?;
        Screen::read_png(&dir.path().join("gvnc.png"))
    });
    scene.expect_picture("vncdotool", || {
        take("vncdo", &["-s", &address, "capture", "/tmp/vncdo.png"])?;
        Screen::read_png(&dir.path().join("vncdo.png"))
    });
    // It keeps pictures as JPEG only: the best there is, and what that costs.
    let snapshot = || {
        take("vncsnapshot", &["-quality", "100", &address, "/tmp/snapshot.jpg"])?;
        read_jpeg(&dir.path().join("snapshot.jpg"))
    };
    eventually("vncsnapshot does not show the picture", || match scene.distance(&snapshot()?)? {
        0..=3 => Ok(()),
        steps => Err(format!("{steps} steps away")),
    });

    scene.guest.show_shell();
    let typed = take("vncdo", &["--force-caps", "-s", &address, "type", LINE, "key", "enter"]);
    typed.unwrap_or_else(|e| panic!("vncdo: {e}"));
    scene.guest.vmm.expect_line(ANSWER, TYPED);

    // Nobody looks while the mode changes. This one must be told the right size at once: it knows no other way.
    scene.server.ask("resize", &["800x600"]).unwrap_or_else(|e| panic!("{e}"));
    scene.guest.restart_driver((800, 600));
    let screen = snapshot().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((screen.width, screen.height), (800, 600), "what vncsnapshot was told");
    scene.guest.power_off();
}

/// Not a viewer of VNC, but of the same picture: `qemu-shim watch` in a terminal that shows pixels.
#[test]
fn kitty_shows_the_guest() {
    let test = "kitty_shows_the_guest";
    let Some(lab) = lab(test) else { return };
    if !lab.viewers().join("usr/bin/kitty").exists() {
        return skip(test, "no kitty in the lab: run `cargo xtask lab` (as root)");
    }
    let mut scene = Scene::boot(&lab);
    let desktop = Desktop::start(&lab);
    let mut kitty = desktop.kitty(scene.server.socket());
    scene.guest.show_picture();
    // It blends colours as light, and rounds on the way there and back.
    eventually("kitty does not show the picture", || {
        match scene.distance(&desktop.corner_of_kitty(SIZE)?)? {
            0..=1 => Ok(()),
            steps => Err(format!("{steps} steps away")),
        }
    });
    desktop.press_in_kitty("q");
    eventually("it does not quit", || if kitty.is_running() { Err("running".into()) } else { Ok(()) });
    scene.guest.power_off();
}

fn read_jpeg(path: &Path) -> Result<Screen, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let bytes = fs::read(path).map_err(|e| failed(&e))?;
    let mut decoder = zune_jpeg::JpegDecoder::new(zune_jpeg::zune_core::bytestream::ZCursor::new(bytes));
    let rgb = decoder.decode().map_err(|e| failed(&e))?;
    let (width, height) = decoder.dimensions().ok_or_else(|| failed(&"no size"))?;
    let side = |side| u32::try_from(side).map_err(|e| failed(&e));
    Ok(Screen { width: side(width)?, height: side(height)?, rgb })
}

#[test]
fn our_page_and_novnc_in_chromium() {
    let test = "our_page_and_novnc_in_chromium";
    let Some(lab) = lab(test) else { return };
    let mut browser = match Browser::start(&lab) {
        Ok(browser) => browser,
        Err(why) => return skip(test, &why),
    };
    let novnc = Site::start(lab.viewers().join("usr/share/novnc"), include_str!("novnc.html"));
    let mut scene = Scene::boot(&lab);
    let vnc = scene.vnc(&["--websocket", "127.0.0.1:0", "--allow-origin", &novnc.origin()]);
    let page = vnc.link.as_deref().expect("a link for --websocket");
    let socket = page.replacen("http", "ws", 1) + "websockify";
    let pages = [("page", page.to_owned()), ("novnc", format!("{}/?{socket}", novnc.origin()))];
    for (name, address) in pages {
        scene.guest.restart_driver(SIZE);
        scene.guest.show_picture();
        browser.open(&address);
        scene.expect_picture(name, || browser.canvas(name));
        scene.guest.show_shell();
        scene.expect_same(&format!("{name}-shell"), SIZE, || browser.canvas(name));
        browser.click();
        browser.type_line(LINE);
        scene.guest.vmm.expect_line(ANSWER, TYPED);

        scene.server.ask("resize", &["800x600"]).unwrap_or_else(|e| panic!("{e}"));
        scene.guest.restart_driver((800, 600));
        scene.expect_same(&format!("{name}-mode"), (800, 600), || browser.canvas(name));
        scene.server.ask("resize", &["1024x768"]).unwrap_or_else(|e| panic!("{e}"));
    }
    scene.guest.power_off();
}
