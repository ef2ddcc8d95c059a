//! A server whose clients are too many: for it, or for the system.

use std::fs;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use vfio_gfx::vfio_user::{Client, ClientError, Role};

use crate::program::{Serving, attach, program, until, width};

/// Most connections to one device (`vfio_user::server::MAX_CONNECTIONS`).
const MOST: usize = 256;

fn serve(dir: &tempfile::TempDir) -> (Serving, std::path::PathBuf) {
    let socket = dir.path().join("a.sock");
    let mut command = program(dir.path());
    let mut serving = Serving::start(command.args(["serve", "--type", "mdpy-vga", "--socket"]).arg(&socket));
    serving.ready();
    (serving, socket)
}

#[test]
fn one_device_has_so_many_clients_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let (_serving, socket) = serve(&dir);
    let mut crowd: Vec<Client> = (0..MOST).map(|_| attach(&socket, Role::Console)).collect();
    let refused = Client::connect(&socket, Role::Console);
    assert!(matches!(refused, Err(ClientError::Closed)), "{refused:?}");
    crowd.pop();
    until("there is room for one again", || Client::connect(&socket, Role::Console).is_ok());
    drop(crowd);
    assert_eq!(width(&socket), 640);
}

/// Whoever comes when the server has no descriptor left waits for one. The server does not try all the time.
#[test]
fn who_comes_when_there_are_no_descriptors_waits_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (serving, socket) = serve(&dir);
    let mut before = attach(&socket, Role::Console);
    let proc = format!("/proc/{}", serving.child.id());
    let is_free = |number: &u64| !fs::exists(format!("{proc}/fd/{number}")).unwrap();
    let open = (0..).find(is_free).unwrap();
    let limit = |current| {
        let limit = Rlimit { current: Some(current), maximum: Some(1024) };
        prlimit(Some(Pid::from_child(&serving.child)), Resource::Nofile, limit).unwrap();
    };
    let busy = || {
        let text = fs::read_to_string(format!("{proc}/schedstat")).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    limit(open);
    let start = busy();
    let waiting = UnixStream::connect(&socket).unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    let spent = busy() - start;
    assert!(spent < Duration::from_millis(100), "busy for {spent:?}");
    // Those who are in are served meanwhile.
    before.call(vfio_gfx::vfio_user::Command::GetInfo, &[&[16, 0, 0, 0], &[0; 12]], |_, _| Ok(())).unwrap();
    limit(1024);
    Client::negotiate(waiting, Role::Console).unwrap();
}
