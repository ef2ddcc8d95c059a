//! What whoever runs a server reads about its clients.

use rustix::process::Signal;
use vfio_gfx::abi::Errno;
use vfio_gfx::vfio_user::{Client, ClientError, Command as Message, RegionAccess, Role};
use zerocopy::IntoBytes;

use crate::program::{Serving, attach, program};

#[track_caller]
fn refused(client: &mut Client, message: Message, payload: &[&[u8]], expected: Errno) {
    let result = client.call(message, payload, |_, _| Ok(()));
    assert!(
        matches!(result, Err(ClientError::Refused { errno, .. }) if errno == expected),
        "{message:?}: {result:?}"
    );
}

#[test]
fn what_a_client_was_refused_is_told_once_and_counted_when_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("a.sock");
    let mut command = program(dir.path());
    command.args(["serve", "--type", "mbochs-small", "--socket"]).arg(&socket);
    let mut serving = Serving::start(&mut command);
    serving.ready();
    let register = RegionAccess { offset: 0, region: 2, count: 4 };
    let mut nosy = attach(&socket, Role::Console);
    for _ in 0..3 {
        refused(&mut nosy, Message::RegionRead, &[register.as_bytes()], Errno::EPERM);
    }
    refused(&mut nosy, Message::RegionWrite, &[register.as_bytes(), &[0; 4]], Errno::EPERM);
    // No fault of anybody: the buffer is gone by now.
    refused(&mut nosy, Message::GetGfxDmabuf, &[&[9, 0, 0, 0, 0, 0, 0, 0]], Errno::ENOENT);
    drop(nosy);
    let mut clumsy = attach(&socket, Role::Console);
    refused(&mut clumsy, Message::RegionWrite, &[register.as_bytes(), &[0; 4]], Errno::EPERM);
    drop(clumsy);
    serving.signal(Signal::TERM);
    let (status, logs) = serving.end();
    assert_eq!(status, Some(0), "{logs}");

    let told: Vec<&str> = logs.lines().filter(|line| line.contains("refused")).collect();
    let who = format!("process {}", std::process::id());
    assert!(told.iter().all(|line| line.contains(&who) && line.contains("a.sock")), "{logs}");
    let of = |what: &str| told.iter().filter(|line| line.contains(what)).count();
    assert_eq!(told.len(), 4, "{logs}");
    assert_eq!((of("command=RegionRead"), of("command=RegionWrite")), (1, 2), "{logs}");
    assert_eq!(of("3 RegionRead (EPERM), 1 RegionWrite (EPERM)"), 1, "{logs}");
}
