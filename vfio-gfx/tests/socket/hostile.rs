//! Whatever bytes arrive: that connection gets an error reply or is closed, nobody else notices, and nothing is left.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::fixture::{EDID, REGISTERS, Served, VRAM, VRAM_SIZE, check_console, check_vmm};
use crate::peer::{
    CONSOLE, DMA_MAP, DMA_UNMAP, GET_GFX_DMABUF, GET_INFO, GET_IRQ_INFO, GET_REGION_INFO, MOST_FDS, NO_REPLY,
    Peer, QUERY_GFX_PLANE, REGION_READ, REGION_WRITE, RESET, SET_IRQS, VERSION, VMM, access, message,
    region_info, sized, version, words, write_payload,
};

pub(crate) const EPERM: u32 = 1;
pub(crate) const ENOENT: u32 = 2;
pub(crate) const EBUSY: u32 = 16;
pub(crate) const EEXIST: u32 = 17;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOTTY: u32 = 25;
pub(crate) const EOPNOTSUPP: u32 = 95;

/// `MAX_MESSAGE`: a header, the fixed part of a region write, and the protocol's default of 1 MiB of data.
const LONGEST: u32 = 16 + 16 + (1 << 20);

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An error reply; the connection goes on.
    Refused(u32),
    /// An error reply, and the connection ends: there is nothing to agree on.
    Ended(u32),
    /// A good reply: useless, but no harm.
    Answered,
    /// The connection is closed, with no reply.
    Closed,
}
pub(crate) use Fate::{Answered, Closed, Ended, Refused};

/// Something no well-behaved peer sends.
pub(crate) struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    fds: usize,
    fate: Fate,
}

impl Case {
    /// A whole message.
    pub(crate) fn new(name: &'static str, command: u16, payload: &[u8], fate: Fate) -> Self {
        Self { name, bytes: message(7, command, 0, payload), fds: 0, fate }
    }

    pub(crate) fn with_fds(self, fds: usize) -> Self {
        Self { fds, ..self }
    }

    fn raw(name: &'static str, bytes: Vec<u8>, fate: Fate) -> Self {
        Self { name, bytes, fds: 0, fate }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.fate, Refused(_))
    }

    /// Sends it and looks what becomes of it.
    pub(crate) fn run(&self, peer: &mut Peer) {
        self.send(peer, &self.bytes);
        match self.fate {
            Closed => {
                peer.finish();
                assert!(peer.reply().is_none(), "{}: must be closed without a reply", self.name);
            }
            fate => {
                let reply = peer.reply().unwrap_or_else(|| panic!("{}: closed", self.name));
                assert_eq!(reply.id, 7, "{}", self.name);
                let refused = if let Refused(errno) | Ended(errno) = fate { errno } else { 0 };
                assert_eq!(reply.refusal(), refused, "{}", self.name);
                if let Ended(_) = fate {
                    assert!(
                        peer.reply().is_none(),
                        "{}: who waits for more must not wait for ever",
                        self.name
                    );
                }
                assert!(reply.payload.len() <= 4096 + 16, "{}", self.name);
            }
        }
    }

    /// The same for a message that wants no reply: there is none, not even of an error.
    pub(crate) fn run_without_reply(&self, peer: &mut Peer) {
        if let Closed | Ended(_) = self.fate {
            return;
        }
        let mut bytes = self.bytes.clone();
        bytes[8..12].copy_from_slice(&NO_REPLY.to_ne_bytes());
        self.send(peer, &bytes);
        assert!(peer.send(&message(8, GET_INFO, 0, &words(&[16, 0, 0, 0])), &[]), "{}: closed", self.name);
        assert_eq!(peer.reply().map(|reply| reply.id), Some(8), "{}: a reply that nobody wants", self.name);
    }

    fn send(&self, peer: &mut Peer, bytes: &[u8]) {
        let fd = useless_fd();
        // The server may hang up before it has read everything.
        let _ = peer.send(bytes, &vec![fd.as_fd(); self.fds]);
    }
}

fn useless_fd() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// To somebody who has not even negotiated.
fn strangers() -> Vec<Case> {
    let refused = |name, payload: &[u8]| Case::new(name, VERSION, payload, Ended(EINVAL));
    let json = |name, json: &str| refused(name, &version(json));
    let mut cases = vec![
        Case::raw("size 0", sized(7, VERSION, 0, 0, &[]), Closed),
        Case::raw("size 15", sized(7, VERSION, 0, 15, &[]), Closed),
        Case::raw("size 2^32-1", sized(7, VERSION, 0, u32::MAX, &[0; 64]), Closed),
        Case::raw("a byte too long", sized(7, REGION_WRITE, 0, LONGEST + 1, &[0; 64]), Closed),
        Case::raw("half a header", message(7, VERSION, 0, &[])[..8].to_vec(), Closed),
        Case::raw("half a payload", sized(7, VERSION, 0, 100, &[0; 40]), Closed),
        Case::raw("the start of the longest message", sized(7, REGION_WRITE, 0, LONGEST, &[0; 5000]), Closed),
        Case::raw("a reply", message(7, VERSION, 1, &version(CONSOLE)), Closed),
        Case::raw("neither command nor reply", message(7, VERSION, 2, &version(CONSOLE)), Closed),
        Case::raw("flags 2^32-1", message(7, VERSION, u32::MAX, &version(CONSOLE)), Closed),
        Case::raw("HTTP", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), Closed),
        refused("a version of nothing", &[]),
        refused("a version of three bytes", &[0; 3]),
        refused("major 1", &[1, 0, 0, 0]),
        refused("no NUL", &[&[0, 0, 1, 0], CONSOLE.as_bytes()].concat()),
        json("no JSON", "hello"),
        json("an array", "[]"),
        json("two objects", "{}{}"),
        json("a NUL inside", "{}\0{}"),
        json("capabilities that are none", r#"{"capabilities":7}"#),
        json("negative descriptors", r#"{"capabilities":{"max_msg_fds":-1}}"#),
        json("astronomic data", r#"{"capabilities":{"max_data_xfer_size":1e300}}"#),
        json("no data", r#"{"capabilities":{"max_data_xfer_size":0}}"#),
        json("a number of 2^64", r#"{"capabilities":{"max_dma_maps":18446744073709551616}}"#),
        json("no page size", r#"{"capabilities":{"pgsizes":0}}"#),
        json("an extension that is none", r#"{"capabilities":{"vfio_gfx":1}}"#),
        json("an unknown role", r#"{"capabilities":{"vfio_gfx":{"version":1,"role":"root"}}}"#),
        json("version 0 of the extension", r#"{"capabilities":{"vfio_gfx":{"version":0}}}"#),
        json("a hundred thousand brackets", &"[".repeat(100_000)),
        Case::new("a second VMM", VERSION, &version(VMM), Ended(EBUSY)),
        Case::new("a second VMM that says nothing of itself", VERSION, &[0; 4], Ended(EBUSY)),
        Case::new("8 useless descriptors", VERSION, &version(CONSOLE), Answered).with_fds(8),
        Case::new("9 descriptors", VERSION, &version(CONSOLE), Closed).with_fds(9),
        Case::new("10 descriptors", VERSION, &version(CONSOLE), Closed).with_fds(10),
        Case::new("253 descriptors", VERSION, &version(CONSOLE), Closed).with_fds(MOST_FDS),
    ];
    for command in [
        DMA_MAP,
        DMA_UNMAP,
        GET_INFO,
        GET_REGION_INFO,
        GET_IRQ_INFO,
        SET_IRQS,
        REGION_READ,
        REGION_WRITE,
        RESET,
        QUERY_GFX_PLANE,
        GET_GFX_DMABUF,
    ] {
        cases.push(Case::new("a command before VERSION", command, &[32; 64], Refused(EINVAL)));
    }
    for command in [0, 14, 19, 99, 0x3b71, 0xffff] {
        cases.push(Case::new("an unknown command", command, &[0; 32], Refused(EOPNOTSUPP)));
    }
    cases
}

/// From a console.
fn consoles() -> Vec<Case> {
    let mut cases = vec![Case::new("a second VERSION", VERSION, &version(CONSOLE), Refused(EINVAL))];
    let mut add = |name, command, payload: &[u8], fate| cases.push(Case::new(name, command, payload, fate));
    for (command, needed) in [
        (GET_INFO, 16),
        (GET_REGION_INFO, 32),
        (GET_IRQ_INFO, 16),
        (REGION_READ, 16),
        (REGION_WRITE, 16),
        (QUERY_GFX_PLANE, 64),
        (GET_GFX_DMABUF, 8),
    ] {
        add("a header alone", command, &[], Refused(EINVAL));
        add("a byte too few", command, &vec![64; needed - 1], Refused(EINVAL));
    }
    for (command, fixed) in [(GET_INFO, 4), (GET_REGION_INFO, 8), (GET_IRQ_INFO, 4)] {
        let info = |argsz| [words(&[argsz]), words(&vec![0; fixed - 1])].concat();
        add("argsz 0", command, &info(0), Refused(EINVAL));
        add("argsz 15", command, &info(15), Refused(EINVAL));
        add("argsz 2^32-1", command, &info(u32::MAX), Answered);
        add("a payload far too long", command, &[info(64), vec![0xff; 100_000]].concat(), Answered);
    }
    for index in [10, 64, u32::MAX] {
        add("region out of range", GET_REGION_INFO, &region_info(index, 32), Refused(EINVAL));
        add("irq out of range", GET_IRQ_INFO, &words(&[16, 0, index, 0]), Refused(EINVAL));
        add("read of no region", REGION_READ, &access(index, 0, 4), Refused(EINVAL));
    }
    for (region, offset, count) in [
        (VRAM, 0, u32::MAX),
        (VRAM, 0, (1 << 20) + 1),
        (VRAM, VRAM_SIZE, 1),
        (VRAM, VRAM_SIZE - 1, 2),
        (VRAM, u64::MAX, 1),
        (VRAM, u64::MAX - 3, 4),
        (VRAM, u64::MAX, u32::MAX),
        (EDID, 4096, 1),
        (1, 0, 1),
    ] {
        add("read outside", REGION_READ, &access(region, offset, count), Refused(EINVAL));
    }
    let mut lie = write_payload(EDID, 0x800, &[1; 8]);
    for count in [0, 7, 9, u32::MAX] {
        lie[12..16].copy_from_slice(&count.to_ne_bytes());
        add("write of another count", REGION_WRITE, &lie, Refused(EINVAL));
    }
    add("EDID beyond the blob", REGION_WRITE, &write_payload(EDID, 0xbff, &[0; 2]), Refused(EINVAL));
    add("EDID near 2^64", REGION_WRITE, &write_payload(EDID, u64::MAX, &[0; 2]), Refused(EINVAL));
    add("EDID size", REGION_WRITE, &write_payload(EDID, 8, &words(&[0x401])), Refused(EINVAL));
    add("EDID link", REGION_WRITE, &write_payload(EDID, 20, &words(&[3])), Refused(EINVAL));
    add("EDID limits", REGION_WRITE, &write_payload(EDID, 12, &words(&[1])), Refused(EPERM));
    add("registers read", REGION_READ, &access(REGISTERS, 0, 4), Refused(EPERM));
    for argsz in [0, 59] {
        add(
            "plane argsz",
            QUERY_GFX_PLANE,
            &words(&[[argsz, 4].as_slice(), &[0; 14]].concat()),
            Refused(EINVAL),
        );
    }
    for flags in [0, 1, 6, 7, 8, 12, u32::MAX] {
        add(
            "plane flags",
            QUERY_GFX_PLANE,
            &words(&[[64, flags].as_slice(), &[0; 14]].concat()),
            Refused(EINVAL),
        );
    }
    add("buffer 0", GET_GFX_DMABUF, &words(&[0, 0]), Refused(ENOENT));
    add("a buffer never issued", GET_GFX_DMABUF, &words(&[u32::MAX, 0]), Refused(ENOENT));
    add("reserved bits", GET_GFX_DMABUF, &words(&[1, 1]), Refused(EINVAL));
    cases.push(Case::new("a useless descriptor", GET_INFO, &words(&[16, 0, 0, 0]), Answered).with_fds(1));
    cases.push(Case::new("too many descriptors", GET_INFO, &words(&[16, 0, 0, 0]), Closed).with_fds(9));
    cases
}

/// Open descriptors of this process.
pub(crate) fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The server closes its side when it sees ours closed, a moment later.
pub(crate) fn await_fds(expected: usize, after: &str) {
    let start = Instant::now();
    while open_fds() != expected {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{after}: {} open, expected {expected}",
            open_fds()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A line of `/proc/self/status`, in KiB.
pub(crate) fn status_kib(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':')).unwrap();
    value.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn strangers_and_consoles_harm_nobody() {
    let served = Served::alone();
    let (mut console, mut vmm) = (served.console(), served.vmm());
    check_console(&mut console);
    check_vmm(&mut vmm);
    let (fds, peak) = (open_fds(), status_kib("VmPeak"));
    let strangers = strangers().into_iter().map(|case| (case, false));
    for (case, negotiated) in strangers.chain(consoles().into_iter().map(|case| (case, true))) {
        for run in [Case::run, Case::run_without_reply] {
            let mut peer = if negotiated { served.console() } else { served.peer() };
            run(&case, &mut peer);
            check_console(&mut console);
            check_vmm(&mut vmm);
            drop(peer);
            await_fds(fds, case.name);
        }
    }
    // 2^32-1 bytes were asked for in many ways; threads' arenas and stacks are well below this.
    let grown = status_kib("VmPeak") - peak;
    assert!(grown < 512 << 10, "the address space grew by {grown} KiB");
}

#[test]
fn a_connection_that_was_refused_goes_on() {
    let served = Served::new();
    let mut vmm = served.vmm();
    let mut peer = served.peer();
    for case in strangers().into_iter().filter(Case::is_refused) {
        case.run(&mut peer);
    }
    assert_eq!(peer.ask(VERSION, &version(CONSOLE)).refusal(), 0);
    for case in consoles().into_iter().filter(Case::is_refused) {
        case.run(&mut peer);
    }
    check_console(&mut peer);
    check_vmm(&mut vmm);
}

/// Descriptors that come drop by drop beside a message that never ends.
#[test]
fn descriptors_do_not_pile_up_behind_an_unfinished_message() {
    let served = Served::alone();
    let mut console = served.console();
    let fds = open_fds();
    let mut peer = served.peer();
    let fd = useless_fd();
    assert!(peer.send(&sized(7, VERSION, 0, 4096, &[]), &[]));
    let mut most = 0;
    for _ in 0..100 {
        if !peer.send(&[0], &[fd.as_fd(); 8]) {
            break;
        }
        // A round trip elsewhere: the server has been here.
        check_console(&mut console);
        most = most.max(open_fds());
    }
    assert!(most < fds + 32, "{} descriptors are held for one unfinished message", most - fds);
    drop((peer, fd));
    await_fds(fds, "unfinished message");
}
