//! Every system call with which a program starts fails once: it says what it could not do and ends, or does without.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::Signal;
use vfio_gfx_tests::call;
use vfio_gfx_tests::inject::{Call, Fault, Faulty};
use vfio_gfx_tests::process::Running;
use vfio_gfx_tests::programs::{Server, program};
use vfio_gfx_tests::skip;
use vfio_gfx_tests::viewer::whole_visit;
use vfio_gfx_tests::vmm::{Vmm, whole_life};

use crate::calls::vnc;

const PATIENCE: Duration = Duration::from_secs(60);

const FAULTS: &[(Call, Errno)] = &[
    (call!(socketpair), Errno::MFILE),
    (call!(fcntl), Errno::MFILE),
    (call!(epoll_create1), Errno::MFILE),
    (call!(eventfd2), Errno::MFILE),
    (call!(epoll_ctl), Errno::NOMEM),
    (call!(getrandom), Errno::INTR),
    (call!(memfd_create), Errno::MFILE),
    (call!(ftruncate), Errno::NOMEM),
    (call!(fchmod), Errno::PERM),
    (call!(mmap), Errno::NOMEM),
    (call!(brk), Errno::NOMEM),
    (call!(timerfd_create), Errno::NFILE),
    (call!(socket), Errno::MFILE),
    (call!(bind), Errno::NOMEM),
    (call!(listen), Errno::NOMEM),
    (call!(ioctl), Errno::NOMEM),
    (call!(renameat2), Errno::NOSPC),
    (call!(statx), Errno::NOMEM),
    (call!(openat), Errno::MFILE),
    (call!(read), Errno::IO),
    (call!(getdents64), Errno::NOMEM),
    (call!(inotify_init1), Errno::MFILE),
    (call!(inotify_add_watch), Errno::NOSPC),
    (call!(write), Errno::NOSPC),
    (call!(connect), Errno::AGAIN),
    (call!(setsockopt), Errno::NOMEM),
    (call!(sendmsg), Errno::NOMEM),
    (call!(recvmsg), Errno::NOMEM),
    (call!(lseek), Errno::NOMEM),
    (call!(chmod), Errno::PERM),
    (call!(unlink), Errno::IO),
    (call!(readlink), Errno::NOMEM),
    (call!(prctl), Errno::INVAL),
    (call!(capset), Errno::PERM),
    (call!(landlock_create_ruleset), Errno::NOMEM),
    (call!(landlock_add_rule), Errno::NOMEM),
    (call!(landlock_restrict_self), Errno::TOOBIG),
    (call!(seccomp), Errno::NOMEM),
];

/// How a start went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// It ended with its line.
    Refused,
    /// It serves all the same.
    Served,
}

/// Starts a program with each of its calls failing. `command` is told where its socket is to be; `serves` looks whether it
/// does what it is for.
fn fails_at_each_call(
    name: &'static str,
    command: impl Fn(&Path) -> Command,
    serves: impl Fn(&Path) -> bool,
) {
    let mut lines = Vec::new();
    let mut counts = [0, 0];
    for (call, errno) in FAULTS {
        for nth in 1.. {
            let fault = Fault { call: *call, nth, errno: *errno };
            let dir = tempfile::tempdir().unwrap();
            let socket = dir.path().join("x.sock");
            let command = command(&socket);
            let started = Faulty::start(&[*call], Some(fault), move || Running::start(name, &command));
            let mut faulty = match started {
                Ok(faulty) => faulty,
                Err(why) => return skip(name, &why),
            };
            let start = outcome(&mut faulty.program, &socket, &fault);
            if !faulty.disarm() {
                assert_eq!(start, Start::Served, "nothing failed");
                break;
            }
            match start {
                Start::Refused => {
                    counts[0] += 1;
                    let line = complaint(name, &faulty.program.last_words(PATIENCE), &fault);
                    if !lines.contains(&line) {
                        lines.push(line);
                    }
                }
                Start::Served => {
                    counts[1] += 1;
                    assert!(serves(&socket), "{fault}: {}", faulty.program.said());
                    faulty.program.signal(Signal::TERM);
                    faulty.program.wait(PATIENCE);
                }
            }
            let left: Vec<PathBuf> =
                fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
            assert!(left.is_empty(), "{fault} leaves {left:?}");
        }
    }
    println!("{name}: {} starts refused, {} not disturbed; what was said:", counts[0], counts[1]);
    lines.iter().for_each(|line| println!("  {line}"));
    assert!(counts[0] > 10 && counts[1] > 3, "{counts:?}");
}

fn outcome(program: &mut Running, socket: &Path, fault: &Fault) -> Start {
    let start = Instant::now();
    loop {
        if !program.is_running() {
            assert_eq!(program.wait(PATIENCE).code(), Some(1), "{fault}: {}", program.said());
            return Start::Refused;
        }
        if socket.exists() && program.said().contains("ready on")
            || fault.call == call!(write) && socket.exists()
        {
            return Start::Served;
        }
        assert!(start.elapsed() < PATIENCE, "{fault}: neither ready nor at an end: {}", program.said());
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// One line, which says more than the system's message.
fn complaint(name: &str, said: &str, fault: &Fault) -> String {
    let program = name.split(' ').next().unwrap();
    let line = said.trim_end();
    assert!(!line.contains('\n') && !line.is_empty(), "{fault}: expected one line, found {said:?}");
    let message = line.strip_prefix(&format!("{program}: ")).unwrap_or_else(|| panic!("{fault}: {line}"));
    let system = std::io::Error::from_raw_os_error(fault.errno.raw_os_error()).to_string();
    assert!(!message.starts_with(&system), "{fault}: {line}: does not say what failed");
    message.split('/').next().unwrap_or(message).to_owned()
}

#[test]
fn a_server_starts_or_says_why_not() {
    let command = |socket: &Path| {
        let mut command = Command::new(program("mdev-sample"));
        command.args(["serve", "--interfaces", "both", "--type", "vgfx-hd", "--socket"]).arg(socket);
        command.env("RUST_LOG", "off");
        command
    };
    fails_at_each_call("mdev-sample serve", command, |socket| whole_life(socket).is_ok());
}

#[test]
fn vnc_starts_or_says_why_not() {
    let server = Server::start_with("vgfx-hd", &["--interfaces", "both"]);
    let mut vmm = Vmm::attach(server.socket()).unwrap();
    vmm.mode(640, 480).unwrap();
    let device = server.socket().to_owned();
    fails_at_each_call("qemu-shim vnc", |socket| vnc(&device, socket), |socket| whole_visit(socket).is_ok());
}

/// A directory of definitions is followed: what failed once is served with the next change, and nothing else is disturbed.
#[test]
fn a_definition_that_could_not_be_served_is_with_the_next_change() {
    let faults = [
        (call!(memfd_create), Errno::MFILE),
        (call!(mmap), Errno::NOMEM),
        (call!(timerfd_create), Errno::MFILE),
        (call!(socket), Errno::NFILE),
        (call!(bind), Errno::NOSPC),
        (call!(epoll_ctl), Errno::NOSPC),
        (call!(openat), Errno::MFILE),
        (call!(getdents64), Errno::NOMEM),
        (call!(inotify_add_watch), Errno::NOSPC),
        (call!(read), Errno::NOMEM),
        (call!(read), Errno::INTR),
    ];
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("vgfx")).unwrap();
    let paths = |number: usize| {
        let uuid = format!("00000000-0000-4000-8000-{number:012}");
        (dir.path().join("vgfx").join(&uuid), dir.path().join(format!("{uuid}.sock")))
    };
    let plug = |number: usize| {
        let draft = dir.path().join("draft");
        fs::write(&draft, r#"{"mdev_type": "vgfx-hd", "start": "auto"}"#).unwrap();
        fs::rename(draft, paths(number).0).unwrap();
    };
    let appears = |number: usize| {
        let start = Instant::now();
        while !paths(number).1.exists() {
            assert!(start.elapsed() < PATIENCE, "device {number} is not served");
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let mut command = Command::new(program("mdev-sample"));
    command.args(["serve", "--interfaces", "both", "--definitions"]).arg(dir.path()).env("RUST_LOG", "warn");
    let calls: Vec<Call> = faults.iter().map(|(call, _)| *call).collect();
    plug(0);
    let started = Faulty::start(&calls, None, move || Running::start("mdev-sample", &command));
    let mut faulty = match started {
        Ok(faulty) => faulty,
        Err(why) => return skip("a_definition_that_could_not_be_served_is_with_the_next_change", &why),
    };
    appears(0);
    let mut number = 1;
    for (call, errno) in faults {
        for nth in 1..4 {
            let fault = Fault { call, nth, errno };
            faulty.arm(fault);
            plug(number);
            let start = Instant::now();
            // Served all the same, or complained about, or silently missed.
            while !paths(number).1.exists() && start.elapsed() < Duration::from_millis(300) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let happened = faulty.disarm();
            plug(number + 1);
            appears(number + 1);
            appears(number);
            assert!(faulty.program.is_running(), "{fault}");
            for served in [0, number, number + 1] {
                whole_life(&paths(served).1).unwrap_or_else(|e| panic!("device {served} after {fault}: {e}"));
            }
            for gone in [number, number + 1] {
                fs::remove_file(paths(gone).0).unwrap();
            }
            number += 2;
            if !happened {
                break;
            }
        }
    }
    assert!(!faulty.program.said().contains("panicked"));
}
