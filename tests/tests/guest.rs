//! Stock Linux guests drive our devices, and the console sees what they draw, in every pixel.
//!
//! The programs are used as people use them: `mdev-sample` serves, QEMU runs the guest, `qemu-shim` looks.
//! Each test has a device and a guest of its own, so that they can run at the same time; without a lab
//! (`cargo xtask lab`) they are skipped.

use std::time::Duration;

use vfio_gfx_tests::{
    SOON, checksum, eventually,
    guest::{Config, Guest},
    lab::{Kernel, Lab},
    picture,
    process::{Running, run},
    programs::{Server, artifacts},
    qmp,
};

/// What a stock driver makes of a device.
struct Case<'a> {
    /// Names the artifacts.
    name: &'a str,
    device_type: &'a str,
    kernel: Kernel,
    driver: &'a str,
    size: (u32, u32),
}

/// A device, the guest that drives it, and the picture the guest can show.
struct Scene {
    // Dropped in this order: the guest before the device it uses.
    guest: Guest,
    server: Server,
    size: (u32, u32),
    picture: Vec<u8>,
}

impl Scene {
    #[track_caller]
    fn set(lab: &Lab, case: &Case<'_>) -> Self {
        let (width, height) = case.size;
        let picture = picture::xrgb8888(width, height);
        let server = Server::start(case.device_type);
        let guest = boot(lab, case, &server.qemu_device(""), &picture);
        Self { guest, server, size: case.size, picture }
    }

    /// Waits until the console sees the guest's picture, in every pixel.
    #[track_caller]
    fn expect_picture(&self, name: &str) {
        eventually("the picture does not appear", || {
            let (width, height) = self.size;
            let screen = self.server.screenshot(name)?;
            screen.expect_xrgb8888(width, height, &self.picture)
        });
    }

    /// Waits until the console sees something else than the guest's picture.
    #[track_caller]
    fn expect_no_picture(&self, name: &str) {
        eventually("the picture does not go away", || {
            let (width, height) = self.size;
            let screen = self.server.screenshot(name)?;
            let compared = screen.expect_xrgb8888(width, height, &self.picture);
            compared.map_or(Ok(()), |()| Err("still there".into()))
        });
    }
}

/// Boots the guest of `case`, and checks that its framebuffer is the one the picture is made for.
#[track_caller]
fn boot(lab: &Lab, case: &Case<'_>, device: &str, picture: &[u8]) -> Guest {
    let guest = Guest::boot(lab, Config { kernel: case.kernel, driver: case.driver, device, picture });
    let display = &guest.display;
    assert_eq!(display.size, case.size, "framebuffer of the guest");
    assert_eq!(
        (display.stride, display.bits),
        (case.size.0 * 4, 32),
        "stride and bits of the guest's framebuffer"
    );
    guest
}

/// What every driver must bring to the screen: its text console first, then a picture, pixel by pixel.
#[track_caller]
fn text_and_picture(scene: &mut Scene, name: &str) {
    let text = format!("{name}-boot");
    eventually("the text console does not appear", || {
        let screen = scene.server.screenshot(&text)?;
        if (screen.width, screen.height) != scene.size {
            return Err(format!("{}x{} pixels", screen.width, screen.height));
        }
        let blank = screen.is_blank();
        if blank { Err("blank".into()) } else { Ok(()) }
    });
    let info = scene.server.ask("info", &["--json"]);
    for line in info.unwrap_or_else(|e| panic!("{e}")).lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(object.is_object(), "{line}");
    }

    scene.guest.show_picture();
    scene.expect_picture(&format!("{name}-picture"));
    let expected = checksum::vkms(&scene.picture);
    for arguments in [&[][..], &["--algorithm", "vkms"]] {
        let found = scene.server.ask("crc", arguments);
        let found = found.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(found.trim(), expected, "crc {arguments:?}");
    }

    scene.guest.show_text();
    scene.expect_no_picture(&format!("{name}-text"));
}

/// The guest's connector has the mode of the case, and its driver found an EDID.
#[track_caller]
fn edid_and_modes(case: &Case<'_>, guest: &Guest) {
    assert!(!guest.display.edid.is_empty(), "the guest's driver found no EDID");
    let mode = format!("{}x{}", case.size.0, case.size.1);
    let modes = &guest.display.modes;
    assert!(modes.contains(&mode), "expected {mode} among the connector's modes, found {modes:?}");
}

/// The EDID the guest's driver read is one that edid-decode finds no fault with. (It does with that of QEMU's
/// own display.)
#[track_caller]
fn edid_conforms(lab: &Lab, guest: &Guest) {
    let mut edid_decode = lab.program("edid-decode");
    edid_decode.arg("--check");
    let limit = Duration::from_secs(20);
    let decoded = run("edid-decode", &edid_decode, &guest.display.edid, limit);
    let report = format!("{}{}", decoded.stdout, decoded.stderr);
    assert!(
        decoded.status.success() && report.contains("EDID conformity: PASS"),
        "edid-decode --check: {}\n{report}",
        decoded.status
    );
}

/// All that bochs-drm does with a device of ours.
#[track_caller]
fn bochs_drm(lab: &Lab, case: &Case<'_>) {
    let mut scene = Scene::set(lab, case);
    edid_and_modes(case, &scene.guest);
    edid_conforms(lab, &scene.guest);
    text_and_picture(&mut scene, case.name);
    scene.guest.power_off();
    assert!(scene.server.process.is_running(), "the device ended with its VMM");
}

/// The lab and this harness, without our programs: if this fails, look there first.
#[track_caller]
fn reference(lab: &Lab, case: &Case<'_>) {
    let (width, height) = case.size;
    let picture = picture::xrgb8888(width, height);
    let device = format!("bochs-display,edid=on,xres={width},yres={height}");
    let mut guest = boot(lab, case, &device, &picture);
    edid_and_modes(case, &guest);
    let file = artifacts().join(format!("{}.png", case.name));
    eventually("the text console does not appear", || {
        let screen = qmp::screenshot(&guest.monitor(), &file)?;
        let blank = screen.is_blank();
        if blank { Err("blank".into()) } else { Ok(()) }
    });
    guest.show_picture();
    eventually("the picture does not appear", || {
        let screen = qmp::screenshot(&guest.monitor(), &file)?;
        screen.expect_xrgb8888(width, height, &picture)
    });
    guest.show_text();
    guest.power_off();
}

#[test]
fn reference_linux_6_12_on_qemus_own_display() {
    if let Some(lab) = Lab::for_test("reference_linux_6_12_on_qemus_own_display") {
        let case = Case {
            name: "reference-6.12",
            device_type: "",
            kernel: Kernel::Linux612,
            driver: "bochs",
            size: (1024, 768),
        };
        reference(&lab, &case);
    }
}

#[test]
fn reference_newest_linux_on_qemus_own_display() {
    if let Some(lab) = Lab::for_test("reference_newest_linux_on_qemus_own_display") {
        let case = Case {
            name: "reference-newest",
            device_type: "",
            kernel: Kernel::Newest,
            driver: "bochs",
            size: (800, 600),
        };
        reference(&lab, &case);
    }
}

#[test]
fn bochs_drm_of_linux_6_12_drives_mbochs_medium() {
    if let Some(lab) = Lab::for_test("bochs_drm_of_linux_6_12_drives_mbochs_medium") {
        let case = Case {
            name: "mbochs-medium-6.12",
            device_type: "mbochs-medium",
            kernel: Kernel::Linux612,
            driver: "bochs",
            size: (1024, 768),
        };
        bochs_drm(&lab, &case);
    }
}

#[test]
fn bochs_drm_of_the_newest_linux_drives_mbochs_medium() {
    if let Some(lab) = Lab::for_test("bochs_drm_of_the_newest_linux_drives_mbochs_medium") {
        let case = Case {
            name: "mbochs-medium-newest",
            device_type: "mbochs-medium",
            kernel: Kernel::Newest,
            driver: "bochs",
            size: (1024, 768),
        };
        bochs_drm(&lab, &case);
    }
}

/// The smallest device: its memory holds two framebuffers of its only large mode, as bochs-drm of 6.12
/// demands.
#[test]
fn bochs_drm_of_linux_6_12_drives_mbochs_small() {
    if let Some(lab) = Lab::for_test("bochs_drm_of_linux_6_12_drives_mbochs_small") {
        let case = Case {
            name: "mbochs-small-6.12",
            device_type: "mbochs-small",
            kernel: Kernel::Linux612,
            driver: "bochs",
            size: (800, 600),
        };
        bochs_drm(&lab, &case);
    }
}

/// Our own display, through the region interface, at a size that only its EDID can have told the guest.
#[test]
fn bochs_drm_of_linux_6_12_drives_vgfx_hd() {
    if let Some(lab) = Lab::for_test("bochs_drm_of_linux_6_12_drives_vgfx_hd") {
        let case = Case {
            name: "vgfx-hd-6.12",
            device_type: "vgfx-hd",
            kernel: Kernel::Linux612,
            driver: "bochs",
            size: (1920, 1080),
        };
        bochs_drm(&lab, &case);
    }
}

#[test]
fn mdpy_fb_of_linux_6_12_drives_mdpy_xga() {
    if let Some(lab) = Lab::for_test("mdpy_fb_of_linux_6_12_drives_mdpy_xga") {
        let case = Case {
            name: "mdpy-xga-6.12",
            device_type: "mdpy-xga",
            kernel: Kernel::Linux612,
            driver: "mdpy-fb",
            size: (1024, 768),
        };
        let mut scene = Scene::set(&lab, &case);
        text_and_picture(&mut scene, case.name);
        scene.guest.power_off();
    }
}

/// Neither a console nor a VMM that is killed takes anybody else down.
#[test]
fn the_device_survives_consoles_and_vmms_that_crash() {
    let Some(lab) = Lab::for_test("the_device_survives_consoles_and_vmms_that_crash") else {
        return;
    };
    let case = Case {
        name: "crash",
        device_type: "mbochs-medium",
        kernel: Kernel::Linux612,
        driver: "bochs",
        size: (1024, 768),
    };
    let mut scene = Scene::set(&lab, &case);

    let console = scene.server.console("crc", &["--frames", "100000"]);
    let mut console = Running::start("qemu-shim crc", &console);
    // A checksum a line, and nothing else, is what it prints: it is at work.
    scene.guest.show_text();
    let line = console.expect_line("", SOON);
    assert_eq!(line.trim().len(), 8, "expected 8 hex digits, found {line}");
    console.crash();
    assert!(scene.guest.vmm.is_running() && scene.server.process.is_running());
    scene.guest.show_picture();
    scene.expect_picture("crash-of-a-console");

    scene.guest.vmm.crash();
    let screen = scene.server.screenshot("crash-of-a-vmm");
    screen.unwrap_or_else(|e| panic!("the device does not serve after its VMM was killed: {e}"));
    assert!(scene.server.process.is_running());

    scene.guest = boot(&lab, &case, &scene.server.qemu_device(""), &scene.picture);
    // What the first guest left in the device's memory must not pass for what the second draws.
    scene.expect_no_picture("crash-second-vmm-boot");
    scene.guest.show_picture();
    scene.expect_picture("crash-and-second-vmm");
}
