//! `qemu-shim vnc`: what it gives up once it serves, and that viewers, browsers and QEMU's monitor are served as well.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Guest, Picture, program};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether somebody has chosen for all tests, as under a sanitizer, whose own calls the sandbox does not let pass.
fn is_chosen() -> bool {
    let chosen = std::env::var_os("VFIO_GFX_SANDBOX").is_some();
    if chosen {
        println!("SKIPPED: VFIO_GFX_SANDBOX is set");
    }
    chosen
}

/// The program, which ends with its test.
struct Console(Child);

impl Drop for Console {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Console {
    /// Of each thread, a line of its status.
    fn threads(&self, name: &str) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let line = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("status")).unwrap();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().to_owned()
        };
        tasks.map(|task| line(task.unwrap())).collect()
    }
}

/// A viewer that is let in, and the size that it is told.
fn come_in(stream: &mut UnixStream) -> (u16, u16) {
    let mut hear = |count: usize, answer: &[u8]| {
        let mut bytes = vec![0; count];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(answer).unwrap();
        bytes
    };
    hear(12, b"RFB 003.008\n");
    // One kind of security, none; then that others may stay.
    assert_eq!(hear(2, b"\x01"), [1, 1]);
    assert_eq!(hear(4, b"\x01"), [0; 4]);
    let init = hear(24, b"");
    let name = u32::from_be_bytes([init[20], init[21], init[22], init[23]]);
    hear(name.try_into().unwrap(), b"");
    (u16::from_be_bytes([init[0], init[1]]), u16::from_be_bytes([init[2], init[3]]))
}

/// Serves the monitor's next client as far as QEMU does before commands.
fn agree(monitor: &UnixListener) -> BufReader<UnixStream> {
    let (mut stream, _) = monitor.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n").unwrap();
    let mut heard = BufReader::new(stream.try_clone().unwrap());
    assert!(line(&mut heard).contains("qmp_capabilities"));
    stream.write_all(b"{\"return\": {}}\r\n").unwrap();
    heard
}

fn line(heard: &mut impl BufRead) -> String {
    let mut line = String::new();
    heard.read_line(&mut line).unwrap();
    line
}

#[test]
fn a_console_serves_with_what_it_keeps() {
    if is_chosen() {
        return;
    }
    let mut guest = Guest::new("mbochs-small");
    guest.mode(96, 64, 96);
    let picture = Picture::known(96, 64);
    guest.draw(&picture, 96, 0);
    let (socket, qmp) = (guest.file("vnc.sock"), guest.file("qmp.sock"));
    let monitor = UnixListener::bind(&qmp).unwrap();
    let mut command = program();
    command.args(["vnc", &guest.device(), "--websocket", "127.0.0.1:0"]);
    command.arg("--listen").arg(format!("unix:{}", socket.display()));
    command.arg("--input").arg(format!("qmp:{}", qmp.display()));
    let mut console = Console(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let ready = line(&mut BufReader::new(console.0.stdout.take().unwrap()));
    let web = ready.trim().rsplit("http://").next().unwrap().trim_end_matches('/');

    assert_eq!(console.threads("Seccomp:"), ["2", "2"], "both threads");
    assert_eq!(console.threads("NoNewPrivs:"), ["1", "1"]);

    let mut heard = agree(&monitor);
    let mut viewer = UnixStream::connect(&socket).unwrap();
    viewer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(come_in(&mut viewer), (96, 64));
    // FramebufferUpdateRequest of all, in Raw, which needs no asking for.
    viewer.write_all(&[3, 0, 0, 0, 0, 0, 0, 96, 0, 64]).unwrap();
    let mut update = vec![0; 4 + 12 + 96 * 64 * 4];
    viewer.read_exact(&mut update).unwrap();
    let shown: Vec<_> = update[16..].chunks(4).map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
    assert!(shown == picture.pixels, "another picture");

    // KeyEvent: an "a" goes down. The monitor may not have been agreed upon yet when it comes, so it is pressed again and again.
    let press = |viewer: &mut UnixStream, heard: &mut BufReader<UnixStream>| {
        for down in [1, 0].into_iter().cycle().take(400) {
            viewer.write_all(&[4, down, 0, 0, 0, 0, 0, b'a']).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            heard.get_ref().set_nonblocking(true).unwrap();
            let is_there = heard.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
            heard.get_ref().set_nonblocking(false).unwrap();
            if is_there {
                return line(heard);
            }
        }
        panic!("no key arrives");
    };
    assert!(press(&mut viewer, &mut heard).contains("input-send-event"));
    // QEMU restarts: its monitor is another socket at the same place.
    drop((heard, monitor));
    fs::remove_file(&qmp).unwrap();
    let monitor = UnixListener::bind(&qmp).unwrap();
    let mut heard = agree(&monitor);
    assert!(press(&mut viewer, &mut heard).contains("input-send-event"));

    let mut browser = TcpStream::connect(web).unwrap();
    browser.set_read_timeout(Some(PATIENCE)).unwrap();
    browser.write_all(format!("GET / HTTP/1.1\r\nHost: {web}\r\n\r\n").as_bytes()).unwrap();
    assert!(line(&mut BufReader::new(browser)).contains("200"));

    kill_process(Pid::from_child(&console.0), Signal::TERM).unwrap();
    let mut logs = String::new();
    console.0.stderr.take().unwrap().read_to_string(&mut logs).unwrap();
    assert_eq!(console.0.wait().unwrap().code(), Some(0), "{logs}");
    assert!(logs.contains("sandbox: ") && logs.contains("seccomp"), "{logs}");
    assert!(!socket.exists(), "its socket is gone");
}

#[test]
fn a_console_that_reaches_nobody_keeps_no_capability() {
    if is_chosen() {
        return;
    }
    let guest = Guest::new("mdpy-vga");
    let socket = guest.file("vnc.sock");
    let mut command = program();
    command.args(["vnc", "sample:mdpy-vga", "--listen"]).arg(format!("unix:{}", socket.display()));
    let mut console = Console(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    assert!(line(&mut BufReader::new(console.0.stdout.take().unwrap())).contains("ready"));
    for name in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(console.threads(name), ["0000000000000000"], "{name}");
    }
}
