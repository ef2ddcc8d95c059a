//! What the first signal does, and the second.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use vfio_gfx::vfio_user::{Command as Message, Header};
use zerocopy::IntoBytes;

use crate::program::{Serving, program, until};

/// A VMM that asks for much, and reads no answer until it is told to.
fn ask_and_do_not_read(path: &Path, questions: u16) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    let version = b"\0\0\x01\0{\"capabilities\":{\"max_data_xfer_size\":1048576}}\0";
    stream.write_all(Header::command(1, Message::Version, version.len()).as_bytes()).unwrap();
    stream.write_all(version).unwrap();
    let mut header = [0; 16];
    stream.read_exact(&mut header).unwrap();
    let size = usize::try_from(u32::from_le_bytes([header[4], header[5], header[6], header[7]])).unwrap();
    stream.read_exact(&mut vec![0; size - 16]).unwrap();
    for id in 0..questions {
        // offset 0 of region 0, a mebibyte.
        let body = [0u64.to_ne_bytes(), (1u64 << 52).to_ne_bytes()].concat();
        stream.write_all(Header::command(id, Message::RegionRead, body.len()).as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
    }
    stream
}

#[test]
fn the_first_signal_drains() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let mut serving =
        Serving::start(program(dir.path()).args(["serve", "--type", "mdpy-vga", "--socket"]).arg(&path));
    serving.ready();
    let mut vmm = ask_and_do_not_read(&path, 4);
    std::thread::sleep(Duration::from_millis(100));
    serving.signal(Signal::TERM);
    until("no more connections", || !path.exists());
    let mut answers = Vec::new();
    vmm.read_to_end(&mut answers).unwrap();
    assert_eq!(answers.len(), 4 * (16 + 16 + (1 << 20)), "all four");
    assert_eq!(serving.end().0, Some(0));
}

#[test]
fn the_second_signal_does_not_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.sock");
    let mut serving =
        Serving::start(program(dir.path()).args(["serve", "--type", "mdpy-vga", "--socket"]).arg(&path));
    serving.ready();
    let _vmm = ask_and_do_not_read(&path, 4);
    std::thread::sleep(Duration::from_millis(100));
    serving.signal(Signal::TERM);
    until("no more connections", || !path.exists());
    std::thread::sleep(Duration::from_millis(200));
    assert!(serving.child.try_wait().unwrap().is_none(), "it waits for the VMM to read");
    let asked = Instant::now();
    serving.signal(Signal::INT);
    assert_eq!(serving.end().0, Some(1));
    assert!(asked.elapsed() < Duration::from_secs(2));
}
