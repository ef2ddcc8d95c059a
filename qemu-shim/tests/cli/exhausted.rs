//! `qemu-shim vnc` without descriptors to spare.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::fixture::{Guest, program};
use crate::sandboxed::{Console, PATIENCE, come_in};

/// Whoever comes then waits until there is one. The server does not try all the time, and ends for nobody.
#[test]
fn a_viewer_that_comes_when_there_are_no_descriptors_waits_for_one() {
    let guest = Guest::new("mdpy-vga");
    let socket = guest.file("vnc.sock");
    let mut command = program();
    command.args(["vnc", "sample:mdpy-vga", "--listen"]).arg(format!("unix:{}", socket.display()));
    let mut console = Console(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let mut ready = String::new();
    BufReader::new(console.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let connect = || {
        let viewer = UnixStream::connect(&socket).unwrap();
        viewer.set_read_timeout(Some(PATIENCE)).unwrap();
        viewer
    };
    let mut first = connect();
    come_in(&mut first);
    let proc = format!("/proc/{}", console.0.id());
    let open = (0..).find(|number: &u64| !fs::exists(format!("{proc}/fd/{number}")).unwrap()).unwrap();
    let limit = |current| {
        let limit = Rlimit { current: Some(current), maximum: Some(1024) };
        prlimit(Some(Pid::from_child(&console.0)), Resource::Nofile, limit).unwrap();
    };
    let busy = || {
        let text = fs::read_to_string(format!("{proc}/schedstat")).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    limit(open);
    let start = busy();
    let mut waiting = connect();
    std::thread::sleep(Duration::from_secs(2));
    let spent = busy() - start;
    assert!(spent < Duration::from_millis(100), "busy for {spent:?}");
    waiting.set_nonblocking(true).unwrap();
    assert!(waiting.read(&mut [0; 1]).is_err(), "neither greeted nor closed");
    waiting.set_nonblocking(false).unwrap();
    limit(1024);
    assert_eq!(come_in(&mut waiting), (640, 480));
}
