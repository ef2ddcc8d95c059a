//! Every system call that a running program makes fails, each once, one at a time.
//!
//! A round arms a fault, has clients do all that there is to do, and then looks: did it happen; is the program still there,
//! asleep, with what it held before; is a new client served as ever. The next round has the next call of the kind fail, until
//! there are no more.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use tempfile::TempDir;
use vfio_gfx::display::DisplayError;
use vfio_gfx_tests::call;
use vfio_gfx_tests::inject::{Call, Fault, Faulty};
use vfio_gfx_tests::process::Running;
use vfio_gfx_tests::programs::{Server, program};
use vfio_gfx_tests::skip;
use vfio_gfx_tests::usage::{Usage, falls_asleep};
use vfio_gfx_tests::viewer::whole_visit;
use vfio_gfx_tests::vmm::{GUEST_PLANE, Vmm, console, guest_plane, look, whole_life};

const START: Duration = Duration::from_secs(60);
/// Buffers keep some of their size.
const SLACK_KIB: u64 = 2048;
/// Beyond this many of a kind only every seventh fails: they are the same few places of the program over and over.
const FIRST: u32 = 24;

/// What a call may fail with.
struct Kind {
    call: Call,
    /// With these it is as if nothing had happened: clients get what they asked for.
    unnoticed: &'static [Errno],
    /// With these a client may be let down; no other is.
    noticed: &'static [Errno],
    /// Without one of them the test would test nothing.
    must_happen: bool,
}

const fn kind(call: Call, unnoticed: &'static [Errno], noticed: &'static [Errno]) -> Kind {
    Kind { call, unnoticed, noticed, must_happen: true }
}

/// A call that a warm program need not make.
const fn rare(call: Call, unnoticed: &'static [Errno]) -> Kind {
    Kind { call, unnoticed, noticed: &[], must_happen: false }
}

impl Kind {
    /// The fault of a round: each errno in the first rounds, then one after the other. Whether it may be noticed.
    fn fault(&self, round: u32) -> Option<(Fault, bool)> {
        let all = self.unnoticed.len() + self.noticed.len();
        let kinds = u32::try_from(all).ok()?;
        let (nth, which) = match round.checked_sub(3 * kinds) {
            None => (1 + round / kinds, round % kinds),
            Some(later) if later < FIRST => (4 + later, later % kinds),
            Some(later) => (4 + FIRST + 7 * (later - FIRST), later % kinds),
        };
        let which = which as usize;
        let errno = self.unnoticed.iter().chain(self.noticed).nth(which)?;
        Some((Fault { call: self.call, nth, errno: *errno }, which >= self.unnoticed.len()))
    }
}

const INTR: Errno = Errno::INTR;
const AGAIN: Errno = Errno::AGAIN;
const NOMEM: Errno = Errno::NOMEM;
const MFILE: Errno = Errno::MFILE;
const NFILE: Errno = Errno::NFILE;

const OF_THE_SERVER: &[Kind] = &[
    kind(call!(epoll_pwait), &[INTR], &[]),
    kind(call!(recvmsg), &[INTR, AGAIN], &[NOMEM, Errno::CONNRESET]),
    kind(call!(sendmsg), &[INTR, AGAIN], &[NOMEM, Errno::PIPE]),
    kind(call!(accept4), &[INTR, AGAIN, MFILE, NFILE, NOMEM, Errno::NOBUFS], &[Errno::CONNABORTED]),
    kind(call!(epoll_ctl), &[], &[NOMEM, Errno::NOSPC]),
    kind(call!(ioctl), &[], &[NOMEM]),
    kind(call!(fcntl), &[], &[MFILE, NOMEM]),
    kind(call!(openat), &[INTR], &[MFILE, NFILE, NOMEM]),
    kind(call!(read), &[INTR], &[NOMEM]),
    kind(call!(statx), &[NOMEM], &[]),
    kind(call!(fstat), &[NOMEM], &[]),
    kind(call!(fstatfs), &[NOMEM], &[]),
    // Who it is, for the log: without, nobody is named.
    kind(call!(getsockopt), &[NOMEM], &[]),
    rare(call!(mremap), &[NOMEM]),
    rare(call!(io_setup), &[NOMEM, AGAIN]),
    rare(call!(io_submit), &[NOMEM, AGAIN]),
    rare(call!(timerfd_settime), &[NOMEM]),
    rare(call!(mmap), &[NOMEM]),
    rare(call!(munmap), &[NOMEM]),
    rare(call!(brk), &[NOMEM]),
];

/// Of a plane in guest memory, of which consoles get a copy: it is made and read behind a console's request.
const OF_GUEST_MEMORY: &[Kind] = &[
    kind(call!(pread64), &[INTR], &[Errno::IO, NOMEM]),
    kind(call!(memfd_create), &[], &[MFILE, NOMEM]),
    kind(call!(ftruncate), &[], &[Errno::NOSPC]),
    kind(call!(fchmod), &[], &[Errno::PERM]),
    kind(call!(fcntl), &[], &[NOMEM]),
    kind(call!(mmap), &[], &[NOMEM]),
    kind(call!(fstat), &[], &[NOMEM]),
    kind(call!(fstatfs), &[], &[NOMEM]),
];

/// The program with two devices, each on its socket.
fn serve(calls: &[Call]) -> Result<(Faulty, TempDir, [PathBuf; 2]), String> {
    let dir = tempfile::tempdir().unwrap();
    let sockets = ["a.sock", "b.sock"].map(|name| dir.path().join(name));
    let mut command = Command::new(program("mdev-sample"));
    command.args(["serve", "--interfaces", "both", "--type", "vgfx-hd", "--socket"]).arg(&sockets[0]);
    command.args(["--type", "mdpy-vga", "--socket"]).arg(&sockets[1]);
    command.env("RUST_LOG", "error");
    let faulty = Faulty::start(calls, None, move || {
        let mut program = Running::start("mdev-sample", &command);
        program.expect_line("a.sock", START);
        program.expect_line("b.sock", START);
        program
    })?;
    Ok((faulty, dir, sockets))
}

/// Has all clients of a server meet these faults, beside one of another device.
fn a_server_bears(test: &str, kinds: &[Kind], life: fn(&Path) -> Life, size: (u32, u32)) {
    let calls: Vec<Call> = kinds.iter().map(|kind| kind.call).collect();
    let (mut faulty, _dir, [socket, other]) = match serve(&calls) {
        Ok(served) => served,
        Err(why) => return skip(test, &why),
    };
    let mut bystander = console(&other).unwrap();
    walk(&mut faulty, kinds, || expect(life(&socket), size), || expect(look(&mut bystander), (640, 480)));
}

#[test]
fn no_call_of_a_server_that_fails_harms_another_client() {
    let test = "no_call_of_a_server_that_fails_harms_another_client";
    a_server_bears(test, OF_THE_SERVER, whole_life, (640, 480));
}

#[test]
fn no_call_about_guest_memory_that_fails_harms_another_client() {
    let test = "no_call_about_guest_memory_that_fails_harms_another_client";
    if Path::new("/dev/udmabuf").exists() {
        return skip(test, "this host has udmabuf, and with it no copies of guest memory");
    }
    a_server_bears(test, OF_GUEST_MEMORY, guest_plane, GUEST_PLANE);
}

/// The size of the screen that a console saw, or what stood against it.
type Life = Result<Option<(u32, u32)>, DisplayError>;

fn expect(life: Life, size: (u32, u32)) -> Result<(), String> {
    match life {
        Ok(Some(found)) if found == size => Ok(()),
        other => Err(format!("expected a screen of {size:?}, found {other:?}")),
    }
}

/// All rounds of all kinds. In each, `act` has clients do everything, and `look` sees whether somebody else was disturbed. Once
/// before the first, for what the program allocates once is not looked for.
#[track_caller]
fn walk(
    faulty: &mut Faulty,
    kinds: &[Kind],
    mut act: impl FnMut() -> Result<(), String>,
    mut look: impl FnMut() -> Result<(), String>,
) {
    let pid = faulty.program.id();
    act().unwrap_or_else(|e| panic!("before any fault: {e}"));
    falls_asleep(pid, "warm");
    let before = Usage::of(pid);
    for kind in kinds {
        let mut happened = 0;
        for round in 0.. {
            let Some((fault, may_be_noticed)) = kind.fault(round) else { break };
            faulty.arm(fault);
            let acted = act();
            // What the program does at the end of its clients counts too.
            before.is_back(pid, SLACK_KIB, &fault.to_string());
            if !faulty.disarm() {
                acted.unwrap_or_else(|e| panic!("before {fault}: {e}"));
                // Of the first there may be others with another errno.
                if fault.nth == 1 {
                    continue;
                }
                break;
            }
            happened += 1;
            if !may_be_noticed {
                acted.unwrap_or_else(|e| panic!("{fault}: {e}"));
            }
            assert!(faulty.program.is_running(), "{fault} ends the program");
            look().unwrap_or_else(|e| panic!("{fault}: {e}"));
            act().unwrap_or_else(|e| panic!("after {fault}: {e}"));
        }
        falls_asleep(pid, kind.call.name);
        println!("{}: {happened} failed", kind.call.name);
        assert!(happened > 0 || !kind.must_happen, "{} is not called", kind.call.name);
    }
    before.is_back(pid, SLACK_KIB, "at the end");
}

/// The call that lets the server signal without waiting is made once in its life: before it is warm.
#[test]
fn signals_arrive_where_there_is_no_asynchronous_io() {
    for errno in [NOMEM, AGAIN] {
        let (faulty, _dir, [socket, _]) = match serve(&[call!(io_setup)]) {
            Ok(served) => served,
            Err(why) => return skip("signals_arrive_where_there_is_no_asynchronous_io", &why),
        };
        let mut vmm = Vmm::attach(&socket).unwrap();
        let mut display = console(&socket).unwrap();
        let watch = display.backend().watch().unwrap().expect("it tells of changes");
        faulty.arm(Fault { call: call!(io_setup), nth: 1, errno });
        for size in [640, 320] {
            vmm.mode(size, size).unwrap();
            assert!(!watch.wait(START).unwrap().is_empty(), "{errno}: a mode of {size} is not told");
            assert_eq!(look(&mut display).unwrap(), Some((size.into(), size.into())));
        }
        assert!(faulty.disarm(), "{errno} did not happen");
    }
}

/// A timer is started only for a guest that leaves something half done while somebody waits for changes.
#[test]
fn a_change_whose_timer_fails_is_told_with_the_next_access_and_the_next_one_by_itself() {
    let (faulty, _dir, [socket, _]) = match serve(&[call!(timerfd_settime)]) {
        Ok(served) => served,
        Err(why) => {
            return skip(
                "a_change_whose_timer_fails_is_told_with_the_next_access_and_the_next_one_by_itself",
                &why,
            );
        }
    };
    let mut vmm = Vmm::attach(&socket).unwrap();
    vmm.mode(640, 480).unwrap();
    let mut display = console(&socket).unwrap();
    let watch = display.backend().watch().unwrap().expect("it tells of changes");
    faulty.arm(Fault { call: call!(timerfd_settime), nth: 1, errno: NOMEM });
    vmm.begin_flip(800).unwrap();
    assert!(watch.wait(Duration::from_secs(3)).unwrap().is_empty(), "its timer did not fail");
    assert!(faulty.disarm(), "it did not happen");
    assert_eq!(look(&mut display).unwrap(), Some((640, 480)));
    assert!(!watch.wait(START).unwrap().is_empty(), "not told with the access");
    vmm.begin_flip(1024).unwrap();
    assert!(!watch.wait(START).unwrap().is_empty(), "the next is not told by itself");
}

const OF_VNC: &[Kind] = &[
    kind(call!(ppoll), &[INTR, NOMEM], &[]),
    kind(call!(accept4), &[INTR, AGAIN, MFILE, NFILE, NOMEM, Errno::NOBUFS], &[Errno::CONNABORTED]),
    kind(call!(recvfrom), &[INTR, AGAIN], &[NOMEM, Errno::CONNRESET]),
    kind(call!(sendto), &[INTR, AGAIN], &[NOMEM, Errno::PIPE]),
    kind(call!(ioctl), &[], &[NOMEM]),
    kind(call!(getrandom), &[INTR], &[Errno::IO]),
    rare(call!(mmap), &[NOMEM]),
    rare(call!(munmap), &[NOMEM]),
    rare(call!(brk), &[NOMEM]),
    rare(call!(read), &[INTR, NOMEM]),
    // Of the connection to the device.
    kind(call!(recvmsg), &[INTR], &[]),
    kind(call!(sendmsg), &[INTR], &[]),
];

#[test]
fn no_call_of_vnc_that_fails_harms_another_viewer() {
    let server = Server::start_with("vgfx-hd", &["--interfaces", "both"]);
    let mut vmm = Vmm::attach(server.socket()).unwrap();
    vmm.mode(640, 480).unwrap();
    let calls: Vec<Call> = OF_VNC.iter().map(|kind| kind.call).collect();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vnc.sock");
    let command = vnc(server.socket(), &socket);
    let faulty = Faulty::start(&calls, None, move || {
        let mut program = Running::start("qemu-shim vnc", &command);
        program.expect_line("ready on", START);
        program
    });
    let mut faulty = match faulty {
        Ok(faulty) => faulty,
        Err(why) => return skip("no_call_of_vnc_that_fails_harms_another_viewer", &why),
    };
    let mut row = 0;
    let visit = || {
        // Something to ask the device about.
        row = 480 - row;
        vmm.flip(row).map_err(|e| e.to_string())?;
        whole_visit(&socket).map_err(|e| e.to_string())
    };
    walk(&mut faulty, OF_VNC, visit, || Ok(()));
}

/// `qemu-shim vnc` on a device.
pub(crate) fn vnc(device: &Path, socket: &Path) -> Command {
    let mut command = Command::new(program("qemu-shim"));
    command.arg("vnc").arg(format!("vfio-user:{}", device.display())).arg("--listen");
    command.arg(format!("unix:{}", socket.display())).env("RUST_LOG", "off");
    command
}
