//! What a server gives up once it serves, and that it serves as well.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use vfio_gfx::abi::PlaneKind;
use vfio_gfx::device::DisplayEvents;
use vfio_gfx::display::{Display, Remote};
use vfio_gfx::vfio_user::{Client, Command as Message, Role};

use crate::program::{Serving, attach, program};

/// Whether somebody has chosen for all tests, as under a sanitizer, whose own calls the sandbox does not let pass.
fn is_chosen() -> bool {
    let chosen = std::env::var_os("VFIO_GFX_SANDBOX").is_some();
    if chosen {
        println!("SKIPPED: VFIO_GFX_SANDBOX is set");
    }
    chosen
}

fn serve(dir: &Path, mode: Option<&str>) -> Serving {
    let mut command = program(dir);
    command.args(["serve", "--type", "vgfx-hd", "--socket"]).arg(dir.join("a.sock"));
    Serving::start(command.args(mode.map(|mode| format!("--sandbox={mode}"))))
}

#[test]
fn it_gives_up_what_it_does_not_need_and_says_so() {
    if is_chosen() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut serving = serve(dir.path(), None);
    serving.ready();
    let given_up = ["Seccomp:", "NoNewPrivs:", "CapPrm:", "CapEff:", "CapInh:", "CapAmb:"];
    assert_eq!(given_up.map(|name| serving.status(name)), [2, 1, 0, 0, 0, 0]);
    let limits = fs::read_to_string(format!("/proc/{}/limits", serving.child.id())).unwrap();
    let core: Vec<_> =
        limits.lines().find(|line| line.starts_with("Max core")).unwrap().split("  ").collect();
    assert_eq!(core.iter().filter(|word| word.trim() == "0").count(), 2, "{limits}");
    serving.signal(Signal::TERM);
    let (status, logs) = serving.end();
    assert_eq!(status, Some(0), "{logs}");
    let said: Vec<_> = logs.lines().filter(|line| line.contains("sandbox: ")).collect();
    assert!(said.len() == 1 && said[0].contains("seccomp") && said[0].contains("landlock"), "{logs}");
}

#[test]
fn whoever_does_not_want_it_need_not_have_it() {
    if is_chosen() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut serving = serve(dir.path(), Some("off"));
    serving.ready();
    assert_eq!(["Seccomp:", "NoNewPrivs:"].map(|name| serving.status(name)), [0, 0]);
    serving.signal(Signal::TERM);
    let (status, logs) = serving.end();
    assert!(status == Some(0) && logs.contains("sandbox: off"), "{logs}");
}

#[test]
fn the_filter_that_only_logs_is_there() {
    if is_chosen() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut serving = serve(dir.path(), Some("log"));
    serving.ready();
    assert_eq!(serving.status("Seccomp:"), 2);
    serving.signal(Signal::TERM);
    let (status, logs) = serving.end();
    assert!(status == Some(0) && logs.contains("sandbox: refuses nothing"), "{logs}");
}

/// Writes a 16-bit DISPI register, as a guest does through its VMM.
fn register(vmm: &mut Client, number: u64, value: u16) {
    let payload = [&(0x500 + 2 * number).to_ne_bytes()[..], &2u32.to_ne_bytes(), &2u32.to_ne_bytes()];
    vmm.call(Message::RegionWrite, &[payload.concat().as_slice(), &value.to_le_bytes()], |_, _| Ok(()))
        .unwrap();
}

#[test]
fn a_whole_session_needs_nothing_that_was_given_up() {
    if is_chosen() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let mut serving = serve(dir.path(), Some("on"));
    if !serving.is_ready() {
        let (_, logs) = serving.end();
        assert!(logs.contains("cannot have landlock"), "{logs}");
        println!("SKIPPED: {logs}");
        return;
    }
    let mut display = Display::open(Box::new(Remote::connect(&path).unwrap())).unwrap();
    let watch = display.backend().watch().unwrap().unwrap();
    let mut vmm = attach(&path, Role::Vmm);
    for (number, value) in [(4, 0), (3, 32), (1, 800), (2, 600), (6, 800), (8, 0), (9, 0), (4, 0x41)] {
        register(&mut vmm, number, value);
    }
    // An eventfd that the server signals by asynchronous I/O.
    assert_eq!(watch.wait(Duration::from_secs(30)).unwrap(), DisplayEvents::MODE_SET);
    let pixels = display.pixels(PlaneKind::Primary).unwrap().unwrap();
    assert_eq!((pixels.plane().geometry.width(), pixels.plane().geometry.height()), (800, 600));
    drop(vmm);
    // Everything that a client can ask, in disorder.
    let device = format!("vfio-user:{}", path.display());
    for seed in ["1", "2"] {
        let walk =
            program(dir.path()).args(["abi-fuzz", &device, "--seed", seed, "--steps", "3000"]).output();
        let walk = walk.unwrap();
        assert!(walk.status.success(), "{walk:?}");
    }
    serving.signal(Signal::TERM);
    let (status, logs) = serving.end();
    assert_eq!(status, Some(0), "{logs}");
    assert!(!logs.contains("asynchronous"), "{logs}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "its socket is gone");
}
