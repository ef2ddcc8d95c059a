//! A day's worth of events, and then everything is as it was: descriptors, threads, mappings and memory, of the server and
//! of its clients.
//!
//! As part of all tests a hundredth of it runs; `cargo xtask soak` sets `VFIO_GFX_SOAK` to 1 for all of it. Each phase runs once
//! before its figures are taken: what the first run allocates (buffers that keep their size, pages of the heap) stays.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use vfio_gfx::abi::PlaneKind;
use vfio_gfx::display::{Display, Watch};
use vfio_gfx_tests::process::Running;
use vfio_gfx_tests::programs::{Server, program};
use vfio_gfx_tests::usage::{Usage, falls_asleep};
use vfio_gfx_tests::vmm::{Vmm, console, export, guest_memory, look, whole_life};

/// How much of the whole runs: 1 = everything, 100 = a hundredth.
const SCALE: &str = "VFIO_GFX_SOAK";
const QUERIES: u32 = 1_000_000;
const MODES: u32 = 100_000;
const CONNECTIONS: u32 = 10_000;
const LIFECYCLES: u32 = 1_000;
const DEVICES: usize = 64;
const CONSOLES: usize = 8;

/// What the heaps of both sides may keep, whatever they did: malloc gives pages back when the top of its heap is free, and a
/// buffer that is kept may lie there. A leak of one small allocation per event would be megabytes in the full run, and a page
/// per device or connection too.
const SLACK_KIB: u64 = 1024;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// One at a time: each looks at what this process holds.
static TURN: Mutex<()> = Mutex::new(());

fn times(all: u32) -> u32 {
    let scale = env::var(SCALE).ok().and_then(|scale| scale.parse().ok()).unwrap_or(100);
    (all / scale.max(1)).max(1)
}

/// Runs a phase twice, first to warm up, and compares what both sides hold then.
fn soak(name: &str, server: u32, count: u32, warm_up: u32, mut phase: impl FnMut(u32)) {
    phase(warm_up);
    falls_asleep(server, "warm");
    let (theirs, ours) = (Usage::of(server), Usage::own());
    let start = Instant::now();
    phase(count);
    let took = start.elapsed();
    falls_asleep(server, name);
    let (their_end, our_end) =
        (theirs.is_back(server, SLACK_KIB, name), ours.is_back(std::process::id(), SLACK_KIB, name));
    println!("{name}: {count} in {:.1} s", took.as_secs_f64());
    println!("  server before: {theirs}\n  server after:  {their_end}");
    println!("  client before: {ours}\n  client after:  {our_end}");
}

#[test]
fn queries() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start_quietly("vgfx-hd", &["--interfaces", "both"]);
    let mut vmm = Vmm::attach(server.socket()).unwrap();
    vmm.mode(800, 600).unwrap();
    let mut display = console(server.socket()).unwrap();
    soak("queries", server.process.id(), times(QUERIES), 1000, |count| {
        for n in 0..count {
            let kind = PlaneKind::ALL[n as usize % 3];
            let plane = display.plane(kind).unwrap();
            assert_eq!(plane.is_some(), kind == PlaneKind::Primary);
        }
    });
}

#[test]
fn mode_sets_and_flips() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start_quietly("vgfx-hd", &["--interfaces", "both"]);
    let mut vmm = Vmm::attach(server.socket()).unwrap();
    let mut display = console(server.socket()).unwrap();
    let watch = display.backend().watch().unwrap().unwrap();
    soak("mode sets, each with a flip", server.process.id(), times(MODES), 300, |count| {
        for n in 0..count {
            let width = 640 + 8 * u16::try_from(n % 100).unwrap();
            vmm.mode(width, 480).unwrap();
            vmm.flip(480).unwrap();
            if n % 10 == 0 {
                assert!(!watch.wait(PATIENCE).unwrap().is_empty(), "told of changes");
                assert_eq!(look(&mut display).unwrap(), Some((width.into(), 480)));
            }
            if n % 100 == 0 {
                export(&mut display).unwrap();
            }
        }
    });
}

#[test]
fn connections() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let server = Server::start_quietly("vgfx-hd", &["--interfaces", "both"]);
    soak("connections of VMMs and consoles", server.process.id(), times(CONNECTIONS), 70, |count| {
        for n in 0..count {
            match n % 3 {
                0 => drop(whole_life(server.socket()).unwrap()),
                1 => {
                    let mut display = console(server.socket()).unwrap();
                    drop(display.backend().watch().unwrap());
                    look(&mut display).unwrap();
                }
                _ => {
                    let mut vmm = Vmm::attach(server.socket()).unwrap();
                    vmm.grant(guest_memory()).unwrap();
                }
            }
            // A VMM is gone when the server has looked; the next would find its place taken.
            if n % 3 != 1 {
                until_free(server.socket());
            }
        }
    });
}

/// Waits until a VMM can attach.
fn until_free(socket: &Path) {
    let start = Instant::now();
    while Vmm::attach(socket).is_err() {
        assert!(start.elapsed() < PATIENCE, "the VMM's place stays taken");
    }
}

/// A server of the devices that a directory defines.
struct Farm {
    process: Running,
    dir: TempDir,
}

impl Farm {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("vgfx")).unwrap();
        let mut command = Command::new(program("mdev-sample"));
        command.args(["serve", "--interfaces", "both", "--definitions"]).arg(dir.path());
        // What it says is kept by this process, and counts as its memory.
        command.env("RUST_LOG", "error");
        Self { process: Running::start("mdev-sample", &command), dir }
    }

    fn paths(&self, number: usize) -> (PathBuf, PathBuf) {
        let uuid = format!("00000000-0000-4000-8000-{number:012}");
        (self.dir.path().join("vgfx").join(&uuid), self.dir.path().join(format!("{uuid}.sock")))
    }

    /// Defines a device, and returns where it is served.
    fn plug(&self, number: usize) -> PathBuf {
        let (file, socket) = self.paths(number);
        // Whole when it appears.
        let draft = self.dir.path().join("draft");
        fs::write(&draft, r#"{"mdev_type": "vgfx-hd", "start": "auto"}"#).unwrap();
        fs::rename(&draft, file).unwrap();
        until("a socket appears", || socket.exists());
        socket
    }

    fn unplug(&self, number: usize) {
        let (file, socket) = self.paths(number);
        fs::remove_file(file).unwrap();
        until("the socket goes", || !socket.exists());
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not so: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn lifecycles() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let farm = Farm::start();
    soak("lives of a device", farm.process.id(), times(LIFECYCLES), 10, |count| {
        for number in 0..count as usize {
            let socket = farm.plug(number);
            whole_life(&socket).unwrap();
            let mut display = console(&socket).unwrap();
            look(&mut display).unwrap();
            farm.unplug(number);
            assert!(look(&mut display).is_err(), "a device that is gone says so");
        }
    });
}

#[test]
fn many_devices_and_many_consoles() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let farm = Farm::start();
    // A console is a socket, five eventfds and a mapping.
    let limits = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limits.maximum, ..limits }).unwrap();
    let rounds = if times(100) > 1 { 3 } else { 1 };
    soak("rounds of 64 devices and 8 consoles of each", farm.process.id(), rounds, 1, |rounds| {
        for _ in 0..rounds {
            let sockets: Vec<PathBuf> = (0..DEVICES).map(|number| farm.plug(number)).collect();
            let mut vmms: Vec<Vmm> = sockets.iter().map(|socket| Vmm::attach(socket).unwrap()).collect();
            let mut consoles: Vec<(Display, Watch)> = Vec::new();
            for socket in &sockets {
                for _ in 0..CONSOLES {
                    let mut display = console(socket).unwrap();
                    let watch = display.backend().watch().unwrap().unwrap();
                    consoles.push((display, watch));
                }
            }
            for vmm in &mut vmms {
                vmm.mode(640, 480).unwrap();
            }
            for (display, watch) in &mut consoles {
                assert!(!watch.wait(PATIENCE).unwrap().is_empty());
                assert_eq!(look(display).unwrap(), Some((640, 480)));
                export(display).unwrap();
            }
            drop((vmms, consoles));
            (0..DEVICES).for_each(|number| farm.unplug(number));
        }
    });
}
