//! What one client takes, another is not without: descriptors, connections.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use vfio_gfx::vfio_user::MAX_CONNECTIONS;
use vfio_gfx_tests::process::Running;
use vfio_gfx_tests::programs::{Server, program};
use vfio_gfx_tests::usage::{Usage, cpu_time, falls_asleep};
use vfio_gfx_tests::viewer::{Viewer, whole_visit};
use vfio_gfx_tests::vmm::{Vmm, console, look, whole_life};

use crate::calls::vnc;

const PATIENCE: Duration = Duration::from_secs(60);

/// Lets a process have this many descriptors more than it has.
fn leave(pid: u32, more: usize) -> Rlimit {
    let used = Usage::of(pid).descriptor_count() + more;
    // The hard limit stays: only the privileged can raise it again.
    set(pid, Rlimit { current: u64::try_from(used).ok(), ..getrlimit(Resource::Nofile) })
}

fn set(pid: u32, limit: Rlimit) -> Rlimit {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    prlimit(pid, Resource::Nofile, limit).unwrap()
}

fn two_devices() -> (Running, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(program("mdev-sample"));
    command.args(["serve", "--type", "mdpy-vga", "--socket"]).arg(dir.path().join("a.sock"));
    command.args(["--type", "vgfx-hd", "--socket"]).arg(dir.path().join("b.sock")).env("RUST_LOG", "warn");
    let mut server = Running::start("mdev-sample", &command);
    server.expect_line("a.sock", PATIENCE);
    server.expect_line("b.sock", PATIENCE);
    (server, dir)
}

fn connect_until_nobody_accepts(path: &Path, count: usize) -> Vec<UnixStream> {
    (0..count).map(|_| UnixStream::connect(path).unwrap()).collect()
}

#[test]
fn descriptors_that_one_client_used_up_cost_the_others_nothing() {
    let (server, dir) = two_devices();
    let (a, b) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
    let pid = server.id();
    whole_life(&b).unwrap();
    let mut other = console(&a).unwrap();
    look(&mut other).unwrap();
    falls_asleep(pid, "warm");
    let before = Usage::of(pid);
    let limit = leave(pid, 4);
    let greedy = connect_until_nobody_accepts(&b, 20);
    // A busy client must not have the server try again at every message.
    let start = Instant::now();
    let mut looks = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        look(&mut other).unwrap();
        looks += 1;
    }
    let complaints = server.said().lines().filter(|line| line.contains("cannot accept")).count();
    assert!((1..=4).contains(&complaints) && looks > 20, "{complaints} complaints in {looks} looks");
    // Nor does it spin while nobody asks.
    let used = cpu_time(pid);
    std::thread::sleep(Duration::from_millis(1500));
    let used = cpu_time(pid).saturating_sub(used);
    assert!(used < Duration::from_millis(100), "{used:?} of CPU time while nothing can be accepted");
    drop(greedy);
    set(pid, limit);
    whole_life(&b).unwrap();
    before.is_back(pid, 1024, "after the greedy one");
    falls_asleep(pid, "after the greedy one");
}

#[test]
fn a_vnc_server_out_of_descriptors_waits_for_some() {
    let server = Server::start_with("vgfx-hd", &["--interfaces", "both"]);
    let mut vmm = Vmm::attach(server.socket()).unwrap();
    vmm.mode(640, 480).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("vnc.sock");
    let mut vnc = Running::start("qemu-shim vnc", &vnc(server.socket(), &socket));
    vnc.expect_line("ready on", PATIENCE);
    let mut viewer = Viewer::connect(&socket).unwrap();
    viewer.update().unwrap();
    let limit = leave(vnc.id(), 2);
    let greedy = connect_until_nobody_accepts(&socket, 10);
    let used = cpu_time(vnc.id());
    for _ in 0..5 {
        viewer.update().unwrap();
        std::thread::sleep(Duration::from_millis(200));
    }
    let used = cpu_time(vnc.id()).saturating_sub(used);
    assert!(used < Duration::from_millis(700), "{used:?} of CPU time while nobody can be accepted");
    drop(greedy);
    set(vnc.id(), limit);
    whole_visit(&socket).unwrap();
}

#[test]
fn a_device_has_so_many_connections_and_another_has_its_own() {
    let (server, dir) = two_devices();
    let (a, b) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
    let greedy = connect_until_nobody_accepts(&b, MAX_CONNECTIONS);
    assert!(console(&b).is_err(), "closed as it comes");
    look(&mut console(&a).unwrap()).unwrap();
    drop(greedy);
    let start = Instant::now();
    while console(&b).is_err() {
        assert!(start.elapsed() < PATIENCE, "no place is free again");
    }
    falls_asleep(server.id(), "after the greedy one");
}

#[test]
fn a_server_takes_all_the_descriptors_it_may_have() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("prlimit");
    command
        .arg("--nofile=64:4096")
        .arg(program("mdev-sample"))
        .args(["serve", "--type", "vgfx-hd", "--socket"]);
    command.arg(dir.path().join("a.sock"));
    let mut server = Running::start("mdev-sample", &command);
    server.expect_line("ready on", PATIENCE);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("4096"), "{line}");
}
