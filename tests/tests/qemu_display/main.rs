//! An unmodified QEMU shows our device itself: the preload library under QEMU 7.2 and the newest.
//!
//! QEMU's `hw/vfio/display.c` is a consumer of the display ABI that is not ours. What it shows (its screendump, its VNC) must be
//! what our own console sees and what the guest drew, in every pixel.

mod window;

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use vfio_gfx_tests::{
    SOON, eventually,
    guest::{Config, Guest},
    lab::{Kernel, Lab},
    picture,
    process::{Running, run},
    programs::{Server, artifacts, program},
    qmp,
    screen::Screen,
    skip,
};

/// What bochs-drm and the firmware choose on an mbochs-medium.
const SIZE: (u32, u32) = (1024, 768);
const LIBRARY: &str = "libvfio_gfx_preload.so";

/// The lab and one of its QEMUs, or nothing if `test` is to be skipped.
fn lab(test: &str, qemu: fn(&Lab) -> Result<Command, String>) -> Option<(Lab, Command)> {
    let lab = Lab::open().and_then(|lab| qemu(&lab).map(|qemu| (lab, qemu)));
    lab.inspect_err(|why| skip(test, why)).ok()
}

fn newest(lab: &Lab) -> Result<Command, String> {
    Ok(lab.qemu())
}

/// `qemu-shim COMMAND DEVICE OPTIONS -- QEMU`
fn wrapped(words: &[&str], qemu: &Command) -> Command {
    let mut shim = Command::new(program("qemu-shim"));
    shim.args(words);
    if words[0] == "qemu" {
        shim.arg("--preload").arg(program(LIBRARY));
    }
    shim.arg("--").arg(qemu.get_program()).args(qemu.get_args());
    shim.envs(qemu.get_envs().filter_map(|(key, value)| Some((key, value?))));
    shim
}

/// A PC without a disk, whose firmware writes to our display, with a monitor and a VNC server in `dir`.
struct Firmware {
    vmm: Running,
    monitor: PathBuf,
    vnc: PathBuf,
}

impl Firmware {
    fn start(mut shim: Command, dir: &Path) -> Self {
        let (monitor, vnc) = (dir.join("qmp.sock"), dir.join("vnc.sock"));
        shim.args(["-accel", "tcg", "-m", "64", "-machine", "pc", "-nic", "none", "-display", "none"])
            .args(["-no-user-config", "-serial", "none", "-monitor", "none"])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()))
            .arg("-vnc")
            .arg(format!("unix:{}", vnc.display()));
        let vmm = Running::start("qemu-shim qemu", &shim);
        Self { vmm, monitor, vnc }
    }

    fn execute(&self, command: &str) {
        let executed = qmp::execute(&self.monitor, &format!(r#"{{"execute":"{command}"}}"#));
        executed.unwrap_or_else(|error| panic!("{error}"));
    }

    fn screen(&self, name: &str) -> Result<Screen, String> {
        qmp::screenshot(&self.monitor, &artifacts().join(format!("{name}.png")))
    }
}

/// Waits until two looks agree on a picture with something in it.
#[track_caller]
fn same_picture(what: &str, mut looks: impl FnMut() -> Result<(Screen, Screen), String>) -> Screen {
    eventually(what, || {
        let (one, other) = looks()?;
        if one.is_blank() || (one.width, one.height) != SIZE {
            return Err(format!("{}x{} pixels, blank: {}", one.width, one.height, one.is_blank()));
        }
        let is_same = (one.width, one.height) == (other.width, other.height) && one.rgb == other.rgb;
        is_same.then_some(one).ok_or_else(|| "the pictures differ".to_owned())
    })
}

/// One whole frame from a VNC server (RFB 3.8, RFC 6143), in its raw encoding.
fn vnc_frame(socket: &Path) -> Result<Screen, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", socket.display());
    let mut stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(SOON)).map_err(failed)?;
    let read = |stream: &mut UnixStream, len: usize| {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).map(|()| bytes).map_err(failed)
    };
    let version = read(&mut stream, 12)?;
    stream.write_all(&version).map_err(failed)?;
    let types = read(&mut stream, 1)?[0];
    read(&mut stream, types.into())?;
    // No password; shared.
    stream.write_all(&[1]).map_err(failed)?;
    read(&mut stream, 4)?;
    stream.write_all(&[1]).map_err(failed)?;
    let init = read(&mut stream, 24)?;
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    let (width, height) = (number(&init[0..2]), number(&init[2..4]));
    read(&mut stream, number(&init[20..24]).try_into().expect("a name fits in memory"))?;
    // 32 bits, depth 24, little-endian true colour: red at bit 16, green at 8, blue at 0.
    let format = [0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0];
    stream.write_all(&format).map_err(failed)?;
    let side = |side: u32| u16::try_from(side).expect("it came as 16 bits").to_be_bytes();
    let request = [&[3, 0, 0, 0, 0, 0][..], &side(width), &side(height)].concat();
    stream.write_all(&request).map_err(failed)?;
    let mut rgb = vec![0; (width * height * 3) as usize];
    let mut left = u64::from(width) * u64::from(height);
    while left > 0 {
        let header = read(&mut stream, 4)?;
        if header[0] != 0 {
            return Err(format!("expected a frame, found message {}", header[0]));
        }
        for _ in 0..number(&header[2..4]) {
            let rect = read(&mut stream, 12)?;
            let [x, y, w, h] = [0, 2, 4, 6].map(|at| number(&rect[at..at + 2]));
            for row in y..y + h {
                let pixels = read(&mut stream, (w * 4) as usize)?;
                let at = ((row * width + x) * 3) as usize;
                let row = rgb[at..].chunks_exact_mut(3).zip(pixels.chunks_exact(4));
                row.for_each(|(to, from)| to.copy_from_slice(&[from[2], from[1], from[0]]));
            }
            left = left.saturating_sub(u64::from(w) * u64::from(h));
        }
    }
    Ok(Screen { width, height, rgb })
}

/// The firmware's text through QEMU's screendump and VNC, before and after a reset; then without its device.
#[track_caller]
fn shows_firmware(name: &str, qemu: &Command) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut server = Server::start("mbochs-medium");
    let device = format!("vfio-user:{}", server.socket().display());
    let romfile = ["--romfile", "vgabios-bochs-display.bin"];
    let mut pc = Firmware::start(wrapped(&["qemu", &device, romfile[0], romfile[1]], qemu), dir.path());
    pc.vmm.expect_line("ready on", SOON);
    for when in ["boot", "reset"] {
        let shot = format!("{name}-firmware-{when}");
        let ours = format!("{shot}-ours");
        same_picture(&shot, || Ok((pc.screen(&shot)?, server.screenshot(&ours)?)));
        same_picture(&shot, || Ok((vnc_frame(&pc.vnc)?, pc.screen(&shot)?)));
        if when == "boot" {
            pc.execute("system_reset");
            // The picture of before goes at once.
            thread::sleep(Duration::from_secs(1));
        }
    }

    server.process.crash();
    let gone = pc.screen(&format!("{name}-gone")).unwrap_or_else(|error| panic!("{error}"));
    assert!(!gone.is_blank(), "there is nothing that says that the device is gone");
    pc.execute("system_reset");
    eventually("one line for the device, one for its picture", || {
        let said = pc.vmm.said();
        let all = ["the device is lost", "no picture"].iter().all(|what| said.contains(what));
        if all && said.matches("vfio-gfx: ").count() == 2 { Ok(()) } else { Err(said) }
    });
    // The firmware maps and unmaps memory all the same.
    thread::sleep(Duration::from_secs(2));
    assert!(pc.vmm.is_running());
    pc.execute("quit");
    assert!(pc.vmm.wait(SOON).success());
}

/// What a guest's driver draws, in QEMU's screendump and ours, and guest memory and interrupts on the way.
#[track_caller]
fn shows_guest(name: &str, lab: &Lab, qemu: &Command, kernel: Kernel) {
    let (width, height) = SIZE;
    let picture = picture::xrgb8888(width, height);
    let server = Server::start("mbochs-medium");
    let device = format!("vfio-user:{}", server.socket().display());
    let config = Config { kernel, driver: "bochs", device: "", picture: &picture };
    let mut guest = Guest::boot_with(lab, config, wrapped(&["qemu", &device], qemu));
    assert_eq!(guest.display.size, SIZE, "framebuffer of the guest");
    guest.show_picture();
    let file = artifacts().join(format!("{name}-guest.png"));
    eventually("QEMU's picture", || {
        qmp::screenshot(&guest.monitor(), &file)?.expect_xrgb8888(width, height, &picture)
    });
    eventually("our picture", || {
        server.screenshot(&format!("{name}-guest-ours"))?.expect_xrgb8888(width, height, &picture)
    });
    guest.show_text();
    let text = format!("{name}-text");
    same_picture(&text, || {
        let theirs = qmp::screenshot(&guest.monitor(), &artifacts().join(format!("{text}.png")))?;
        Ok((theirs, server.screenshot(&format!("{text}-ours"))?))
    });
    guest.power_off();
}

#[test]
fn qemu_7_2_shows_firmware() {
    if let Some((_, qemu)) = lab("qemu_7_2_shows_firmware", Lab::qemu_7_2) {
        shows_firmware("qemu-7.2", &qemu);
    }
}

#[test]
fn the_newest_qemu_shows_firmware() {
    if let Some((_, qemu)) = lab("the_newest_qemu_shows_firmware", newest) {
        shows_firmware("qemu-newest", &qemu);
    }
}

/// Linux 6.12 flips between two framebuffers: QEMU cannot be told where one starts.
#[test]
fn qemu_7_2_shows_a_guest_that_flips() {
    if let Some((lab, qemu)) = lab("qemu_7_2_shows_a_guest_that_flips", Lab::qemu_7_2) {
        shows_guest("qemu-7.2", &lab, &qemu, Kernel::Linux612);
    }
}

#[test]
fn the_newest_qemu_shows_the_newest_linux() {
    if let Some((lab, qemu)) = lab("the_newest_qemu_shows_the_newest_linux", newest) {
        shows_guest("qemu-newest", &lab, &qemu, Kernel::Newest);
    }
}

/// A device and a stock QEMU in one command, and nothing left when it ends.
#[test]
fn run_qemu_starts_and_cleans_up() {
    let Some((_, qemu)) = lab("run_qemu_starts_and_cleans_up", newest) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let words = ["run-qemu", "mbochs-medium", "--romfile", "vgabios-bochs-display.bin"];
    let mut pc = Firmware::start(wrapped(&words, &qemu), dir.path());
    let ready = pc.vmm.expect_line("ready on", SOON);
    let device = ready.rsplit(' ').next().expect("a line has a last word").to_owned();
    let file = artifacts().join("run-qemu.png");
    let screen = eventually("the firmware's text", || {
        let mut console = Command::new(program("qemu-shim"));
        console.arg("screendump").arg(&device).arg("-o").arg(&file);
        run("qemu-shim screendump", &console, "", SOON).success()?;
        let screen = Screen::read_png(&file)?;
        if screen.is_blank() { Err("blank".to_owned()) } else { Ok(screen) }
    });
    assert_eq!((screen.width, screen.height), SIZE);
    // As Ctrl-C or a service manager ends it.
    pc.vmm.signal(rustix::process::Signal::TERM);
    assert!(pc.vmm.wait(SOON).success());
    assert!(!pc.vmm.said().contains("refused"), "a stock QEMU is refused nothing: {}", pc.vmm.said());
    let socket = Path::new(device.strip_prefix("vfio-user:").expect("a device to look at"));
    assert!(!socket.exists() && socket.parent().is_some_and(|dir| !dir.exists()), "left behind: {device}");
}

/// The library in a process that is no QEMU, without a lab: its own files are its own, all others libc's.
#[test]
fn the_library_minds_its_own_files() {
    let server = Server::start("mdpy-vga");
    let cat = |file: &str, socket: &Path| {
        let mut cat = Command::new("cat");
        cat.arg(file)
            .env("LD_PRELOAD", program(LIBRARY))
            .env("VFIO_GFX_PRELOAD_GROUP", "42")
            .env("VFIO_GFX_PRELOAD_SOCKET", socket);
        run("cat", &cat, "", SOON)
    };
    let version = std::fs::read_to_string("/proc/version").expect("every Linux has it");
    assert_eq!(cat("/proc/version", server.socket()).success(), Ok(version));
    assert_eq!(cat("/dev/vfio/42", server.socket()).success(), Ok(String::new()), "the device is there");
    let other = cat("/dev/vfio/43", server.socket());
    assert!(other.stderr.contains("No such file"), "{other:?}");
    let nobody = cat("/dev/vfio/42", Path::new("/nonexistent/device.sock"));
    assert!(
        !nobody.status.success() && nobody.stderr.contains("/nonexistent/device.sock: cannot connect"),
        "{nobody:?}"
    );
    assert_eq!(nobody.stderr.lines().filter(|line| line.starts_with("vfio-gfx: ")).count(), 1, "{nobody:?}");
}

#[test]
fn a_command_that_cannot_be_is_refused() {
    let refused = |words: &[&str]| {
        let mut shim = Command::new(program("qemu-shim"));
        shim.args(words);
        let finished = run("qemu-shim", &shim, "", SOON);
        (finished.status.code(), finished.stderr)
    };
    let library = program(LIBRARY).display().to_string();
    let (code, said) = refused(&["qemu", "vfio:/sys/x", "--preload", &library, "--", "true"]);
    assert!(code == Some(1) && said.contains("vfio:/sys/x"), "{said}");
    let (code, said) = refused(&["qemu", "sample:mdpy-vga", "--preload", "/nonexistent.so", "--", "true"]);
    assert!(code == Some(1) && said.contains("/nonexistent.so"), "{said}");
    let (code, said) = refused(&["qemu", "vfio-user:/nonexistent.sock", "--preload", &library, "--", "true"]);
    assert!(code == Some(1) && said.contains("/nonexistent.sock"), "{said}");
    assert_eq!(refused(&["qemu", "sample:mdpy-vga"]).0, Some(2), "no program");
    let (code, _) = refused(&["qemu", "sample:mdpy-vga", "--preload", &library, "--", "sh", "-c", "exit 7"]);
    assert_eq!(code, Some(7), "the status is the VMM's");
    assert_eq!(refused(&["run-qemu", "no-such-type", "--", "true"]).0, Some(2));
}
