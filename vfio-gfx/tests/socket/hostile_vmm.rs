//! The party that owns the device may be hostile too: its own requests are checked, and consoles go on.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use rustix::event::{EventfdFlags, eventfd};

use crate::fixture::{CONFIG, EDID, REGISTERS, Served, VRAM, VRAM_SIZE, check_console, check_vmm};
use crate::hostile::{
    Answered, Case, Closed, EEXIST, EINVAL, ENOENT, ENOTTY, EOPNOTSUPP, Refused, await_fds, open_fds,
};
use crate::peer::{
    DMA_MAP, DMA_UNMAP, GET_INFO, NO_REPLY, REGION_READ, REGION_WRITE, RESET, SET_IRQS, VERSION, VMM, access,
    message, version, words, write_payload,
};

const PAGE: u64 = 4096;
/// What [`prepare`] maps.
const MAPPED: (u64, u64) = (16 * PAGE, 16 * PAGE);

fn dma_map(flags: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let place = [offset, address, size].map(u64::to_ne_bytes);
    [words(&[32, flags]), place.concat()].concat()
}

fn dma_unmap(flags: u32, address: u64, size: u64) -> Vec<u8> {
    [words(&[24, flags]), [address, size].map(u64::to_ne_bytes).concat()].concat()
}

fn dma() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, command, payload: &[u8], fate| cases.push(Case::new(name, command, payload, fate));
    add("map: a header alone", DMA_MAP, &[], Refused(EINVAL));
    add("map: a byte too few", DMA_MAP, &[32; 31], Refused(EINVAL));
    // All else is right.
    let map = [words(&[31]), dma_map(3, 0, 1 << 40, PAGE)[4..].to_vec()].concat();
    add("map: argsz 31", DMA_MAP, &map, Refused(EINVAL));
    for flags in [0, 4, u32::MAX] {
        add("map: flags", DMA_MAP, &dma_map(flags, 0, 0, PAGE), Refused(EINVAL));
    }
    for (offset, address, size) in [
        (0, 0, 0),
        (0, 0, 1),
        (0, 1, PAGE),
        (0, 0, PAGE + 1),
        (0, u64::MAX - PAGE + 1, 2 * PAGE),
        (0, 0, u64::MAX),
        (0, u64::MAX, u64::MAX),
        (u64::MAX, 0, PAGE),
    ] {
        add("map: range", DMA_MAP, &dma_map(3, offset, address, size), Refused(EINVAL));
    }
    let (start, size) = MAPPED;
    for (address, size) in [
        (start, size),
        (start, PAGE),
        (start + PAGE, PAGE),
        (start - PAGE, 2 * PAGE),
        (start + size - PAGE, 2 * PAGE),
        (0, 1 << 40),
    ] {
        add("map: overlap", DMA_MAP, &dma_map(3, 0, address, size), Refused(EEXIST));
    }
    add("unmap: a byte too few", DMA_UNMAP, &[24; 23], Refused(EINVAL));
    let unmap = [words(&[23]), dma_unmap(0, start, size)[4..].to_vec()].concat();
    add("unmap: argsz 23", DMA_UNMAP, &unmap, Refused(EINVAL));
    for flags in [1, 3, 4, u32::MAX] {
        add("unmap: flags", DMA_UNMAP, &dma_unmap(flags, start, size), Refused(EINVAL));
    }
    for (address, size) in [(0, PAGE), (start, PAGE), (start + PAGE, size), (1 << 40, PAGE), (0, start)] {
        add("unmap: never mapped", DMA_UNMAP, &dma_unmap(0, address, size), Refused(ENOENT));
    }
    for (address, size) in [(1, PAGE), (0, 0), (start, 1), (u64::MAX - PAGE + 1, 2 * PAGE), (0, u64::MAX)] {
        add("unmap: range", DMA_UNMAP, &dma_unmap(0, address, size), Refused(EINVAL));
    }
    cases.push(
        Case::new("map: two descriptors", DMA_MAP, &dma_map(3, 0, 0, PAGE), Refused(EINVAL)).with_fds(2),
    );
    cases.push(Case::new("map: nine", DMA_MAP, &dma_map(3, 0, 0, PAGE), Closed).with_fds(9));
    cases
}

fn irqs() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name, payload: &[u8], fds, fate| {
        cases.push(Case::new(name, SET_IRQS, payload, fate).with_fds(fds));
    };
    add("irqs: a header alone", &[], 0, Refused(EINVAL));
    add("irqs: argsz 19", &words(&[19, 0x21, 1, 0, 1]), 0, Refused(EINVAL));
    // No data type, two, an undefined one; no action, two, an undefined one.
    for flags in [0, 0x20, 0x23, 0x27, 0x01, 0x31, 0x39, 0x41, 0x61, u32::MAX] {
        add("irqs: flags", &words(&[64, flags, 1, 0, 1]), 0, Refused(EINVAL));
    }
    for (index, start, count) in [
        (0, 0, 0),
        (0, 0, 1),
        (1, 1, 0),
        (1, 1, 1),
        (1, 0, 2),
        (1, 0, u32::MAX),
        (1, u32::MAX, 1),
        (1, u32::MAX, u32::MAX),
        (4, 0, 1),
        (5, 0, 1),
        (u32::MAX, 0, 1),
    ] {
        for flags in [0x21, 0x24] {
            add("irqs: range", &words(&[20, flags, index, start, count]), 0, Refused(EINVAL));
        }
    }
    add("irqs: no room for a bool", &words(&[20, 0x22, 1, 0, 1]), 0, Refused(EINVAL));
    add("irqs: two descriptors for one", &words(&[20, 0x24, 1, 0, 1]), 2, Refused(EINVAL));
    add("irqs: eight for one", &words(&[20, 0x24, 1, 0, 1]), 8, Refused(EINVAL));
    add("irqs: nine for one", &words(&[20, 0x24, 1, 0, 1]), 9, Closed);
    add("irqs: an eventfd that masks", &words(&[20, 0x0c, 1, 0, 1]), 1, Refused(ENOTTY));
    add("irqs: an eventfd that unmasks", &words(&[20, 0x14, 1, 0, 1]), 1, Refused(ENOTTY));
    add("irqs: useless descriptors", &words(&[20, 0x21, 1, 0, 0]), 3, Answered);
    cases
}

fn accesses() -> Vec<Case> {
    let mut cases = vec![
        Case::new("a second VERSION", VERSION, &version(VMM), Refused(EINVAL)),
        Case::new("a reset with a payload", RESET, &[1; 100], Answered),
        Case::new("a useless descriptor", GET_INFO, &words(&[16, 0, 0, 0]), Answered).with_fds(1),
        Case::new("EDID size", REGION_WRITE, &write_payload(EDID, 8, &words(&[u32::MAX])), Refused(EINVAL)),
    ];
    let mut add = |name, command, payload: &[u8], fate| cases.push(Case::new(name, command, payload, fate));
    // REGION_IO_FDS, the server's own DMA commands, WRITE_MULTI, FEATURE, MIG_DATA.
    for command in [6, 11, 12, 15, 16, 17, 18] {
        add("not supported", command, &[0xff; 64], Refused(EOPNOTSUPP));
    }
    for (region, offset, len) in [
        (VRAM, VRAM_SIZE, 1),
        (VRAM, VRAM_SIZE - 1, 2),
        (VRAM, u64::MAX, 1),
        (VRAM, u64::MAX - 3, 4),
        (REGISTERS, 4094, 4),
        (REGISTERS, u64::MAX, 4),
        (CONFIG, 254, 4),
        (CONFIG, 4096, 1),
        (CONFIG, u64::MAX, 1),
        (1, 0, 1),
        (10, 0, 1),
        (u32::MAX, 0, 1),
    ] {
        let data = vec![0xff; usize::try_from(len).unwrap()];
        add("read outside", REGION_READ, &access(region, offset, len), Refused(EINVAL));
        add("write outside", REGION_WRITE, &write_payload(region, offset, &data), Refused(EINVAL));
    }
    for region in [VRAM, REGISTERS, CONFIG] {
        add("read of 2^32-1 bytes", REGION_READ, &access(region, 0, u32::MAX), Refused(EINVAL));
        let lie = [access(region, 0, u32::MAX), vec![0; 4]].concat();
        add("write of 2^32-1 bytes", REGION_WRITE, &lie, Refused(EINVAL));
    }
    cases
}

fn cases() -> impl Iterator<Item = Case> {
    [dma(), irqs(), accesses()].into_iter().flatten()
}

#[test]
fn a_hostile_vmm_harms_nobody() {
    let served = Served::alone();
    let (mut console, mut other) = (served.console(), served.console());
    let fds = open_fds();
    for case in cases() {
        for run in [Case::run, Case::run_without_reply] {
            let mut vmm = served.vmm();
            let (address, size) = MAPPED;
            vmm.ask(DMA_MAP, &dma_map(3, 0, address, size)).ok();
            run(&case, &mut vmm);
            check_console(&mut console);
            check_console(&mut other);
            drop(vmm);
            // The next one finds the place free and the device alive.
            let mut next = served.vmm();
            check_vmm(&mut next);
            drop(next);
            await_fds(fds, "a hostile VMM");
        }
    }
}

#[test]
fn a_vmm_that_was_refused_goes_on() {
    let served = Served::new();
    let mut vmm = served.vmm();
    let (address, size) = MAPPED;
    vmm.ask(DMA_MAP, &dma_map(3, 0, address, size)).ok();
    for case in cases().filter(Case::is_refused) {
        case.run(&mut vmm);
    }
    check_vmm(&mut vmm);
    // What was refused has changed nothing: the range is still there, and whole.
    assert_eq!(vmm.ask(DMA_UNMAP, &dma_unmap(0, address, size)).ok(), dma_unmap(0, address, size));
}

#[test]
fn ranges_are_bounded_in_number_and_end_with_their_vmm() {
    let served = Served::new();
    let mut vmm = served.vmm();
    // What was proposed to nobody is what QEMU proposes: 65535.
    for n in 0..65535 {
        assert!(vmm.send(&message(0, DMA_MAP, NO_REPLY, &dma_map(3, 0, n * PAGE, PAGE)), &[]));
    }
    assert_eq!(vmm.ask(DMA_MAP, &dma_map(3, 0, 1 << 40, PAGE)).refusal(), 28, "ENOSPC");
    vmm.ask(DMA_UNMAP, &dma_unmap(0, 0, PAGE)).ok();
    vmm.ask(DMA_MAP, &dma_map(3, 0, 1 << 40, PAGE)).ok();
    drop(vmm);
    let mut next = served.vmm();
    next.ask(DMA_MAP, &dma_map(3, 0, 0, 1 << 41)).ok();
}

/// An interrupt is a write to a descriptor that the VMM chose. If that write could block, so would everybody: it must be an
/// eventfd, as for the kernel, and a full one is full.
#[test]
fn an_interrupt_that_nobody_takes_holds_up_nobody() {
    let served = Served::new();
    let mut console = served.console();
    let mut vmm = served.vmm();
    let arm = words(&[20, 0x24, 1, 0, 1]);
    let (reader, writer) = std::io::pipe().unwrap();
    let (one, other) = UnixStream::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    for useless in [reader.into(), writer.into(), one.into(), other.into(), OwnedFd::from(file)] {
        assert_eq!(vmm.ask_with(SET_IRQS, &arm, &[&useless]).refusal(), EINVAL);
    }
    let full = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    rustix::io::write(&full, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    vmm.ask_with(SET_IRQS, &arm, &[&full]).ok();
    for _ in 0..3 {
        vmm.ask(SET_IRQS, &words(&[20, 0x21, 1, 0, 1])).ok();
    }
    check_console(&mut console);
    check_vmm(&mut vmm);
    let mut count = [0; 8];
    rustix::io::read(&full, &mut count).unwrap();
    assert_eq!(
        u64::from_ne_bytes(count),
        u64::MAX,
        "no write(2) gets it there: none that could block was made"
    );
    vmm.ask(SET_IRQS, &words(&[20, 0x21, 1, 0, 1])).ok();
    rustix::io::read(&full, &mut count).unwrap();
    assert_eq!(u64::from_ne_bytes(count), 1);
}
