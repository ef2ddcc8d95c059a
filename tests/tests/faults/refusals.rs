//! What a client is refused is told to whoever runs the server, without him asking for more log, and never more than he can read.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command as Program;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use tempfile::TempDir;
use vfio_gfx::vfio_user::{Client, ClientError, Command, Role};
use vfio_gfx_tests::process::Running;
use vfio_gfx_tests::programs::program;
use vfio_gfx_tests::viewer::whole_visit;
use vfio_gfx_tests::vmm::{console, longs, look, whole_life, words};

use super::calls::vnc;

const PATIENCE: Duration = Duration::from_secs(60);
const PAGE: u64 = 4096;

/// Two devices, `a.sock` and `b.sock`, and the log that a user gets.
fn serve() -> (Running, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Program::new(program("mdev-sample"));
    command.arg("serve");
    for name in ["a.sock", "b.sock"] {
        command.args(["--type", "vgfx-hd", "--socket"]).arg(dir.path().join(name));
    }
    command.env_remove("RUST_LOG");
    let mut server = Running::start("mdev-sample", &command);
    server.expect_line("a.sock", PATIENCE);
    server.expect_line("b.sock", PATIENCE);
    (server, dir)
}

fn map(flags: u32, address: u64, size: u64) -> Vec<u8> {
    [words(&[32, flags]), longs(&[0, address, size])].concat()
}

fn unmap(address: u64, size: u64) -> Vec<u8> {
    [words(&[24, 0]), longs(&[address, size])].concat()
}

fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    [longs(&[offset]), words(&[region, count])].concat()
}

fn ask(client: &mut Client, command: Command, payload: &[u8], fds: &[OwnedFd]) -> Result<(), ClientError> {
    client.call_with_fds(command, &[payload], fds, |_, _| Ok(()))
}

/// The lines that are warnings with `needle` in them, once there are as many as `least`.
#[track_caller]
fn warnings(server: &Running, needle: &str, least: usize) -> Vec<String> {
    let start = Instant::now();
    loop {
        let said = server.said();
        let lines: Vec<String> = said
            .lines()
            .filter(|line| line.contains("WARN") && line.contains(needle))
            .map(Into::into)
            .collect();
        if lines.len() >= least {
            return lines;
        }
        assert!(start.elapsed() < PATIENCE, "expected {least} lines with {needle}: {said}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Who, what and why: once for each kind of fault, and all of them counted when the connection ends.
#[test]
fn each_kind_of_fault_is_told_once_and_then_counted() {
    let (server, dir) = serve();
    let a = dir.path().join("a.sock");
    let mut vmm = Client::connect(&a, Role::Vmm).unwrap();
    ask(&mut vmm, Command::DmaMap, &map(3, 0, 4 * PAGE), &[]).unwrap();
    let event = || eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    let pipe = || OwnedFd::from(std::io::pipe().unwrap().1);
    for _ in 0..100 {
        let mut refuse = |command, payload: &[u8], fds: &[OwnedFd]| {
            let refused = ask(&mut vmm, command, payload, fds);
            assert!(matches!(refused, Err(ClientError::Refused { .. })), "{command:?}: {refused:?}");
        };
        refuse(Command::DmaMap, &map(3, PAGE, PAGE), &[]);
        refuse(Command::DmaMap, &map(3, 1, PAGE), &[]);
        refuse(Command::DmaUnmap, &unmap(1 << 40, PAGE), &[]);
        refuse(Command::RegionRead, &access(0, u64::MAX, 4), &[]);
        refuse(Command::SetIrqs, &words(&[20, 0x24, 1, 0, 1]), &[pipe()]);
        refuse(Command::Version, b"\0\0\x01\0{}\0", &[]);
        // What there is not is asked for by honest clients, too.
        refuse(Command::DeviceFeature, &words(&[8, 1 << 16]), &[event()]);
    }
    drop(vmm);
    let ends = warnings(&server, "refused in all", 1);
    assert_eq!(ends.len(), 1, "{ends:?}");
    for count in
        ["100 DmaMap (EEXIST)", "100 DmaMap (EINVAL)", "100 DmaUnmap (ENOENT)", "100 Version (EINVAL)"]
    {
        assert!(ends[0].contains(count), "{count}: {ends:?}");
    }
    let lines = warnings(&server, "refused", 7);
    assert_eq!(lines.len(), 7, "six kinds and their sum: {lines:#?}");
    let client = format!("client=\"process {}\"", std::process::id());
    assert!(lines.iter().all(|line| line.contains(&client) && line.contains("a.sock")), "{lines:#?}");
    for (command, why) in [
        ("DmaMap", "overlaps"),
        ("DmaMap", "whole pages"),
        ("DmaUnmap", "is not mapped"),
        ("RegionRead", "not of the device"),
        ("SetIrqs", "descriptor 0 of the request is no eventfd"),
        ("Version", "agreed on already"),
    ] {
        let told = |line: &&String| line.contains(&format!("command={command} ")) && line.contains(why);
        assert_eq!(lines.iter().filter(told).count(), 1, "{command}, {why}: {lines:#?}");
    }
}

/// Honest clients are refused nothing that anybody is told of.
#[test]
fn honest_clients_leave_no_warning() {
    let (server, dir) = serve();
    for name in ["a.sock", "b.sock", "a.sock"] {
        whole_life(&dir.path().join(name)).unwrap();
    }
    drop(console(&dir.path().join("a.sock")).unwrap());
    assert!(!server.said().contains("WARN"), "{}", server.said());
}

/// A message that no server can follow, and its connection's end: a line each, if it were not for the limit.
fn nuisance(path: &Path) {
    let mut stream = UnixStream::connect(path).unwrap();
    // DMA_UNMAP before VERSION, without a payload; then a size of 0. The server may have hung up meanwhile.
    let _ = stream.write_all(&words(&[0x0003_0001, 16, 0, 0, 0x0001_0002, 0, 0, 0]));
    // Until it has: so it is no burst of connections that is refused.
    let _ = std::io::copy(&mut stream, &mut std::io::sink());
}

/// A hostile client cannot fill the disk, by coming again either; others' faults are told all the same.
#[test]
fn who_comes_again_and_again_does_not_flood_the_log() {
    let (server, dir) = serve();
    let (a, b) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
    for _ in 0..2000 {
        nuisance(&a);
    }
    let lines = server.said().lines().count();
    assert!((20..100).contains(&lines), "{lines} lines about 2000 connections: {}", server.said());
    nuisance(&b);
    warnings(&server, "b.sock", 1);
    look(&mut console(&a).unwrap()).unwrap();
    // After a while one more is told, and how many were not.
    let start = Instant::now();
    while !server.said().contains(" unsaid=") {
        assert!(start.elapsed() < PATIENCE, "nobody says how many lines are missing: {}", server.said());
        std::thread::sleep(Duration::from_millis(200));
        nuisance(&a);
    }
}

/// Viewers neither.
#[test]
fn viewers_who_come_again_and_again_do_not_flood_the_log() {
    let (_server, dir) = serve();
    let socket = dir.path().join("vnc.sock");
    let mut command = vnc(&dir.path().join("a.sock"), &socket);
    command.env_remove("RUST_LOG");
    let mut vnc = Running::start("qemu-shim vnc", &command);
    vnc.expect_line("ready on", PATIENCE);
    for _ in 0..2000 {
        let mut stream = UnixStream::connect(&socket).unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    }
    let lines = vnc.said().lines().count();
    assert!((20..100).contains(&lines), "{lines} lines about 2000 viewers: {}", vnc.said());
    whole_visit(&socket).unwrap();
}
