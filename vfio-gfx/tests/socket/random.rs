//! Bytes that nobody thought of: the server survives them and serves the next one.

use std::io::Read;
use std::os::fd::AsFd;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::fixture::{EDID, EDID_BYTES, Served, VRAM};
use crate::hostile::{await_fds, open_fds};
use crate::peer::{CONSOLE, GET_INFO, NO_REPLY, Peer, VMM, message, version, words};

/// What a hostile peer writes.
#[derive(Clone, Debug)]
struct Write {
    bytes: Vec<u8>,
    fds: usize,
}

/// Small numbers are where the structs' meanings are, huge ones where their sums overflow.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..64u32, 2 => Just(0x1000), 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn command() -> impl Strategy<Value = u16> {
    prop_oneof![8 => 1..19u16, 3 => 0x3b72..0x3b74u16, 1 => any::<u16>()]
}

/// Well framed, whatever is in it.
fn framed() -> impl Strategy<Value = Write> {
    let flags = prop_oneof![6 => Just(0), 2 => Just(NO_REPLY), 1 => any::<u32>()];
    (any::<u16>(), command(), flags, vec(word(), 0..20), vec(any::<u8>(), 0..4), 0..10usize).prop_map(
        |(id, command, flags, payload, tail, fds)| {
            let bytes = message(id, command, flags, &[words(&payload), tail].concat());
            // Descriptors are the exception.
            Write { bytes, fds: fds.saturating_sub(6) }
        },
    )
}

/// No frame at all, or one that is a lie.
fn unframed() -> impl Strategy<Value = Write> {
    let lie = (framed(), 0..16usize, any::<u8>()).prop_map(|(mut write, at, byte)| {
        write.bytes[at] = byte;
        write
    });
    let noise = (vec(any::<u8>(), 1..200), 0..10usize).prop_map(|(bytes, fds)| Write { bytes, fds });
    prop_oneof![lie, noise]
}

/// Negotiates as one or the other or not at all, writes, takes what comes back, and goes.
fn attack(served: &Served, negotiate: Option<&str>, writes: &[Write]) {
    let mut peer = served.peer();
    let mut replies = peer.stream().try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let mut bytes = 0;
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = replies.read(&mut buffer) {
            bytes += len;
        }
        bytes
    });
    if let Some(capabilities) = negotiate {
        peer.send(&message(0, 1, 0, &version(capabilities)), &[]);
    }
    let fd = std::fs::File::open("/dev/null").unwrap();
    for write in writes {
        if !peer.send(&write.bytes, &vec![fd.as_fd(); write.fds]) {
            break;
        }
    }
    peer.stream().shutdown(std::net::Shutdown::Write).unwrap_or_default();
    let bytes = reading.join().unwrap();
    assert!(bytes <= 200 + writes.len() * (16 + (1 << 20)), "more answers than questions");
}

/// The next console finds everything as it was, but for what a VMM may have drawn.
fn check_next(served: &Served, fds: usize) {
    let mut console = Peer::attach(served.path(), CONSOLE);
    assert_eq!(console.ask(GET_INFO, &words(&[16, 0, 0, 0])).ok(), words(&[16, 3, 10, 5]));
    assert_eq!(console.read(VRAM, 0, 4096).len(), 4096);
    console.write(EDID, 0x800, &EDID_BYTES);
    assert_eq!(console.read(EDID, 0x800, 128), EDID_BYTES);
    drop(console);
    await_fds(fds, "noise");
}

fn run(strategy: impl Strategy<Value = Vec<Write>>) {
    let served = Served::alone();
    let fds = open_fds();
    let roles = prop::sample::select(vec![None, Some(CONSOLE), Some(VMM)]);
    let config = Config { cases: 150, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(roles, strategy), |(role, writes)| {
            attack(&served, role, &writes);
            check_next(&served, fds);
            Ok(())
        })
        .unwrap();
    crate::fixture::check_vmm(&mut served.vmm());
}

#[test]
fn well_framed_messages() {
    run(vec(framed(), 1..40));
}

#[test]
fn streams_that_cannot_be_followed() {
    run(vec(prop_oneof![3 => framed(), 1 => unframed()], 1..10));
}
