//! A stream has no messages: they come in pieces, in heaps, and faster than they can be answered.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use vfio_gfx::memory::Vram;

use crate::fixture::{MARK, MARK_AT, Served, VRAM, check_console, check_vmm};
use crate::hostile::{await_fds, open_fds, status_kib};
use crate::peer::{
    CONSOLE, DMA_MAP, DMA_UNMAP, GET_INFO, Peer, REGION_READ, REGION_WRITE, VERSION, VMM, access, message,
    version, words, write_payload,
};

/// A conversation with a reply to each message: ids count from 0.
fn conversation() -> Vec<Vec<u8>> {
    vec![
        message(0, VERSION, 0, &version(VMM)),
        message(1, GET_INFO, 0, &words(&[16, 0, 0, 0])),
        message(2, REGION_WRITE, 0, &write_payload(VRAM, 0, b"in pieces")),
        message(3, REGION_READ, 0, &access(VRAM, 0, 9)),
    ]
}

fn expect_replies(peer: &mut Peer) {
    for id in 0..4 {
        let reply = peer.reply().expect("a reply");
        assert_eq!(reply.id, id);
        let payload = reply.ok();
        if id == 3 {
            assert_eq!(&payload[16..], b"in pieces");
        }
    }
}

#[test]
fn byte_by_byte() {
    let served = Served::new();
    let mut peer = served.peer();
    for byte in conversation().concat() {
        assert!(peer.send(&[byte], &[]));
    }
    expect_replies(&mut peer);
}

#[test]
fn all_in_one_write() {
    let served = Served::new();
    let mut peer = served.peer();
    assert!(peer.send(&conversation().concat(), &[]));
    expect_replies(&mut peer);
}

/// Every place where a message can be cut, between the header's fields and inside them.
#[test]
fn cut_anywhere() {
    let served = Served::new();
    let mut console = served.console();
    let whole = message(5, REGION_READ, 0, &access(VRAM, MARK_AT, 16));
    let mut peer = served.console();
    for cut in 1..whole.len() {
        assert!(peer.send(&whole[..cut], &[]));
        // The server takes one read from each in turn: when this is answered, it has seen the first piece.
        check_console(&mut console);
        assert!(peer.send(&whole[cut..], &[]));
        assert_eq!(&peer.reply().expect("a reply").ok()[16..], MARK, "cut at {cut}");
    }
}

/// The longest message there is, in pieces that end anywhere.
#[test]
fn the_longest_message() {
    let served = Served::new();
    let mut peer = served.vmm();
    let data: Vec<u8> = (0..1u32 << 20).map(|n| n.to_le_bytes()[(n % 3) as usize]).collect();
    let whole = message(5, REGION_WRITE, 0, &write_payload(VRAM, 4096, &data));
    for piece in whole.chunks(77_777) {
        assert!(peer.send(piece, &[]));
    }
    assert_eq!(peer.reply().expect("a reply").ok(), access(VRAM, 4096, 1 << 20));
    assert!(peer.read(VRAM, 4096, 1 << 20) == data);
}

/// As QEMU announces its guest's memory: one descriptor with each message, and no reply awaited.
#[test]
fn pipelined_messages_keep_their_descriptors_apart() {
    let served = Served::alone();
    let mut vmm = served.vmm();
    let fds = open_fds();
    let memory = OwnedFd::from(Vram::new("guest", 5 * 4096).unwrap().file().try_clone().unwrap());
    for id in 0..5u16 {
        let place = [u64::from(id) * 4096, u64::from(id) << 20, 4096].map(u64::to_ne_bytes);
        let map = [words(&[32, 3]), place.concat()].concat();
        // Two descriptors with one message would be refused, so none may stray.
        assert!(vmm.send(&message(id, DMA_MAP, 0, &map), &[memory.as_fd()]));
    }
    for id in 0..5 {
        let reply = vmm.reply().expect("a reply");
        assert_eq!((reply.id, reply.ok()), (id, vec![]));
    }
    drop(memory);
    await_fds(fds + 1, "maps of one memory");
    check_vmm(&mut vmm);
}

/// A message in two pieces: its descriptor rides on the first, and the next message's on its own.
#[test]
fn a_cut_message_keeps_its_descriptor() {
    let served = Served::new();
    let mut console = served.console();
    let mut vmm = served.vmm();
    let memory = OwnedFd::from(Vram::new("guest", 2 * 4096).unwrap().file().try_clone().unwrap());
    let map = |address: u64| [words(&[32, 3]), [0, address, 4096].map(u64::to_ne_bytes).concat()].concat();
    for cut in 1..48 {
        let (first, second) = (message(1, DMA_MAP, 0, &map(0)), message(2, DMA_MAP, 0, &map(4096)));
        assert!(vmm.send(&first[..cut], &[memory.as_fd()]));
        if cut % 2 == 0 {
            check_console(&mut console);
        }
        assert!(vmm.send(&first[cut..], &[]));
        assert!(vmm.send(&second, &[memory.as_fd()]));
        for id in [1, 2] {
            let reply = vmm.reply().expect("a reply");
            assert_eq!((reply.id, reply.ok()), (id, vec![]), "cut at {cut}");
        }
        let all = [words(&[24, 2]), vec![0; 16]].concat();
        vmm.ask(DMA_UNMAP, &all).ok();
    }
}

/// 40 MiB of answers that nobody takes: they are not made, and are right when somebody does.
#[test]
fn replies_that_are_never_read() {
    const READS: u16 = 10_000;
    let served = Served::alone();
    let (mut console, mut vmm) = (served.console(), served.vmm());
    let mut lazy = served.console();
    let before = status_kib("VmRSS");
    let mut writer = lazy.stream().try_clone().unwrap();
    // For as long as nothing is read: however long the others take.
    writer.set_write_timeout(None).unwrap();
    let writing = std::thread::spawn(move || {
        for id in 0..READS {
            let place = u64::from(id % 500) * 4096;
            writer.write_all(&message(id, REGION_READ, 0, &access(VRAM, place, 4096))).unwrap();
        }
    });
    // If they waited for it they would wait for ever, and give up.
    for _ in 0..2000 {
        check_console(&mut console);
        check_vmm(&mut vmm);
    }
    let grown = status_kib("VmRSS").saturating_sub(before);
    assert!(grown < 8 << 10, "{grown} KiB for somebody who does not read");
    for id in 0..READS {
        let reply = lazy.reply().expect("a reply");
        assert_eq!(reply.id, id);
        let payload = reply.ok();
        assert_eq!(payload.len(), 16 + 4096);
        let marked = u64::from(id % 500) * 4096 == MARK_AT;
        assert_eq!(payload[16..].starts_with(MARK), marked, "read {id}");
    }
    writing.join().unwrap();
    check_console(&mut lazy);
}

/// The same, and gone.
#[test]
fn replies_that_will_never_be_read() {
    let served = Served::alone();
    let mut console = served.console();
    let fds = open_fds();
    for _ in 0..20 {
        let peer = Peer::attach(served.path(), CONSOLE);
        peer.stream().set_nonblocking(true).unwrap();
        let read = message(1, REGION_READ, 0, &access(VRAM, 0, 1 << 20));
        while peer.stream().write(&read).is_ok() {}
        check_console(&mut console);
        peer.stream().set_nonblocking(false).unwrap();
        drop(peer);
    }
    await_fds(fds, "unread replies");
}
