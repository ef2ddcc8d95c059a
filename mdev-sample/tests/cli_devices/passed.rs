//! Sockets that a supervisor made.

use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::program::{PATIENCE, Serving, width};

/// Starts the program as systemd does: sockets from descriptor 3 on, LISTEN_PID, NOTIFY_SOCKET.
fn activated(dir: &Path, listeners: &[&UnixListener], args: &[&str]) -> Command {
    // The shell moves each to its place, and becomes the program with its own number.
    let mut script = String::new();
    for (place, listener) in (3..).zip(listeners) {
        rustix::io::fcntl_setfd(listener, rustix::io::FdFlags::empty()).unwrap();
        let fd = listener.as_raw_fd();
        assert!(fd >= 10, "no place of its own");
        script += &format!("exec {place}<&{fd} {fd}<&-; ");
    }
    script += &format!("export LISTEN_PID=$$ LISTEN_FDS={}; exec \"$0\" \"$@\"", listeners.len());
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_mdev-sample")).args(args);
    command.env("NOTIFY_SOCKET", dir.join("notify")).stdin(Stdio::null());
    command
}

/// A listener whose number is above those that are passed.
fn high(path: &Path) -> UnixListener {
    let listener = UnixListener::bind(path).unwrap();
    rustix::io::fcntl_dupfd_cloexec(&listener, 40).unwrap().into()
}

#[test]
fn sockets_that_systemd_passes_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
    let (listener_a, listener_b) = (high(&a), high(&b));
    let notify = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut text = [0; 64];
        let len = notify.recv(&mut text).unwrap();
        String::from_utf8(text[..len].to_vec()).unwrap()
    };
    // Somebody waits already: that is what activation is for.
    let waiting = std::thread::spawn({
        let b = b.clone();
        move || width(&b)
    });
    let (a_text, b_text) = (a.to_str().unwrap(), b.to_str().unwrap());
    let args = ["serve", "--type", "mdpy-vga", "--socket", b_text, "--type", "mdpy-hd", "--socket", a_text];
    let mut serving = Serving::start(&mut activated(dir.path(), &[&listener_a, &listener_b], &args));
    serving.ready();
    serving.ready();
    assert_eq!(told(), "READY=1");
    assert_eq!((waiting.join().unwrap(), width(&a)), (640, 1920));
    serving.signal(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(serving.end().0, Some(0));
    assert!(a.exists() && b.exists(), "systemd keeps them");
}

#[test]
fn a_socket_that_no_device_wants_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let a = dir.path().join("a.sock");
    let listener = high(&a);
    let b = dir.path().join("b.sock");
    let args = ["serve", "--type", "mdpy-vga", "--socket", b.to_str().unwrap()];
    let output = activated(dir.path(), &[&listener], &args).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && stderr.contains("a.sock: was passed to us"), "{stderr}");
}
