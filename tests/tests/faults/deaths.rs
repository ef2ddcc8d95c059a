//! A server that dies at any byte of any reply: its consoles end with an error that says so, or wait.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use vfio_gfx::display::DisplayError;
use vfio_gfx::vfio_user::ClientError;
use vfio_gfx_tests::process::{Running, run};
use vfio_gfx_tests::programs::{Server, program};
use vfio_gfx_tests::relay::{Cut, Relay};
use vfio_gfx_tests::usage::{Usage, falls_asleep};
use vfio_gfx_tests::viewer::whole_visit;
use vfio_gfx_tests::vmm::{Vmm, console, export, look};

/// What a console may take that has lost its device: it need not wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);
/// More messages than any of these conversations has.
const MANY: usize = 100;

/// A device that shows something.
fn stage() -> (Server, Vmm) {
    let server = Server::start_with("vgfx-hd", &["--interfaces", "both"]);
    let mut vmm = Vmm::attach(server.socket()).unwrap();
    vmm.mode(640, 480).unwrap();
    (server, vmm)
}

/// All that a console does.
fn conversation(path: &Path) -> Result<(), DisplayError> {
    let mut display = console(path)?;
    display.backend().watch()?;
    look(&mut display)?;
    export(&mut display)?;
    display.backend().read(9, 0, &mut [0; 16])
}

fn is_clear(error: &DisplayError) -> bool {
    matches!(error, DisplayError::Client(ClientError::Closed | ClientError::Socket(_)))
}

#[test]
fn the_client_library_says_that_the_device_is_gone() {
    let (server, _vmm) = stage();
    let whole = Relay::start(server.socket(), None, || ());
    conversation(whole.path()).unwrap();
    let replies = whole.replies();
    drop(whole);
    assert!((8..MANY).contains(&replies), "{replies} replies");
    let before = Usage::own();
    for n in 0..replies {
        for bytes in [0, 8, 16, 24, usize::MAX] {
            let relay = Relay::start(server.socket(), Some(Cut { replies: n, bytes }), || ());
            let start = Instant::now();
            let error = conversation(relay.path()).expect_err("the device is gone");
            assert!(is_clear(&error), "byte {bytes} of reply {n}: {error:?}");
            assert!(start.elapsed() < PATIENCE, "byte {bytes} of reply {n}");
        }
    }
    // Other tests of this program hold descriptors of their own; what this one would leak are mappings of video memory.
    let name = "/memfd:vgfx-hd (deleted)".to_owned();
    let mappings = |usage: &Usage| usage.mappings.get(&name).copied().unwrap_or(0);
    assert!(mappings(&Usage::own()) <= mappings(&before) + 1);
}

/// Runs a command of the console through a relay that dies at each reply, until it gets through.
fn dies_at_each_reply(command: &str, args: &[&str]) {
    for replies in 0..MANY {
        let (server, _vmm) = stage();
        let pid = i32::try_from(server.process.id()).ok().and_then(Pid::from_raw).unwrap();
        let kill = move || kill_process(pid, Signal::KILL).unwrap();
        let relay = Relay::start(server.socket(), Some(Cut { replies, bytes: 0 }), kill);
        let mut console = std::process::Command::new(program("qemu-shim"));
        console.arg(command).arg(format!("vfio-user:{}", relay.path().display())).args(args);
        let finished = run(command, &console, "", PATIENCE);
        if finished.status.success() {
            // This many replies are enough for all that it does.
            assert!(replies > 3, "{command} asked only {replies} times");
            return;
        }
        assert_eq!(finished.status.code(), Some(1), "{command}, {replies} replies: {finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{command}, {replies} replies: {finished:?}");
        let line = finished.stderr;
        assert!(line.starts_with("qemu-shim: vfio-user:") && line.contains("the device"), "{line}");
    }
    panic!("{command} never ends");
}

#[test]
fn crc_ends_with_a_line_at_each_reply() {
    dies_at_each_reply("crc", &[]);
}

#[test]
fn screendump_ends_with_a_line_at_each_reply_and_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("screen.png");
    dies_at_each_reply("screendump", &["-o", file.to_str().unwrap()]);
    // The last one was whole.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn vnc_goes_on_without_its_device() {
    let (mut refused, mut served) = (0, 0);
    for replies in 0..MANY {
        let (server, _vmm) = stage();
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vnc.sock");
        let relay = Relay::start(server.socket(), Some(Cut { replies, bytes: 8 }), || ());
        let mut command = std::process::Command::new(program("qemu-shim"));
        command.arg("vnc").arg(format!("vfio-user:{}", relay.path().display())).arg("--listen");
        command.arg(format!("unix:{}", socket.display())).env("RUST_LOG", "error");
        let mut vnc = Running::start("qemu-shim vnc", &command);
        let start = Instant::now();
        while !vnc.said().contains("ready on") && vnc.is_running() {
            assert!(start.elapsed() < PATIENCE, "neither ready nor at an end");
            std::thread::sleep(Duration::from_millis(2));
        }
        if !vnc.is_running() {
            let (status, said) = (vnc.wait(PATIENCE), vnc.last_words(PATIENCE));
            assert_eq!((status.code(), said.lines().count()), (Some(1), 1), "{replies} replies: {said}");
            assert!(said.starts_with("qemu-shim: vfio-user:") && served == 0, "{said}");
            refused += 1;
            continue;
        }
        // A picture, of the device or of what became of it.
        for visit in 0..2 {
            whole_visit(&socket).unwrap_or_else(|e| panic!("visit {visit}, {replies} replies: {e}"));
        }
        assert!(vnc.is_running());
        served += 1;
        if relay.replies() < replies {
            // It has seen all that it wants to see.
            falls_asleep(vnc.id(), "without viewers");
            break;
        }
        falls_asleep(vnc.id(), "without its device");
        if served > 12 {
            break;
        }
    }
    assert!(refused >= 2 && served >= 3, "{refused} refused, {served} served");
}
