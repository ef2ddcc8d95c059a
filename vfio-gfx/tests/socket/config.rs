//! Configuration space and BARs under a guest that does with them what nobody should.

use crate::fixture::{
    CONFIG, ENABLE, MARK, MARK_AT, REGISTERS, SCRATCH, Served, VRAM, VRAM_SIZE, check_console, check_vmm,
};
use crate::hostile::EINVAL;
use crate::peer::{Peer, QUERY_GFX_PLANE, REGION_WRITE, u32_at, words, write_payload};

const COMMAND: u64 = 0x04;
const BAR0: u64 = 0x10;
const BAR2: u64 = 0x18;
/// Memory decoding.
const MEMORY: [u8; 2] = [2, 0];

/// Which bits of the fixture's header a guest can change: COMMAND's that a VGA-less function has, the cache line size, addresses of
/// a prefetchable BAR of 2 MiB and of one of 4 KiB, and the interrupt line (PCI 3.0, 6.2).
fn writable() -> [u8; 256] {
    let mut mask = [0; 256];
    let bars = [(BAR0, u32::try_from(VRAM_SIZE).unwrap()), (BAR2, 4096)];
    for (bar, size) in bars {
        let at = usize::try_from(bar).unwrap();
        mask[at..at + 4].copy_from_slice(&size.wrapping_neg().to_le_bytes());
    }
    (mask[0x0c], mask[0x3c]) = (0xff, 0xff);
    mask
}

fn config(vmm: &mut Peer) -> Vec<u8> {
    vmm.read(CONFIG, 0, 256)
}

/// Bytes that hardware would not change stay, whatever is written at whatever offset, across registers too, and a write that leaves
/// the space changes nothing.
#[test]
fn writes_of_every_width_at_every_offset_are_hardwares() {
    let served = Served::new();
    let mut vmm = served.vmm();
    let (writable, born) = (writable(), config(&mut vmm));
    for width in [1, 2, 3, 4, 8, 256] {
        for offset in 0..256 {
            let data = vec![if offset % 2 == 0 { 0xff } else { 0xa5 }; width];
            let before = config(&mut vmm);
            if offset + width > 256 {
                let payload = write_payload(CONFIG, offset as u64, &data);
                assert_eq!(vmm.ask(REGION_WRITE, &payload).refusal(), EINVAL, "{width} at {offset:#x}");
                assert_eq!(config(&mut vmm), before, "{width} at {offset:#x}");
                continue;
            }
            vmm.write(CONFIG, offset as u64, &data);
            let after = config(&mut vmm);
            for at in (0..256).filter(|at| ![4, 5].contains(at)) {
                let is_written = (offset..offset + width).contains(&at);
                let mask = if is_written { writable[at] } else { 0 };
                let expected = before[at] & !mask | data[0] & mask;
                assert_eq!(after[at], expected, "byte {at:#x} after {width} at {offset:#x}");
            }
            // COMMAND has bits that are wired to zero: none of STATUS comes with them.
            assert_eq!(after[6..8], born[6..8]);
        }
    }
    vmm.write(CONFIG, COMMAND, &MEMORY);
    check_vmm(&mut vmm);
    check_console(&mut served.console());
}

/// Where the guest has its BARs is between it and its VMM: moved while they are mapped and decoded, onto each other or to
/// the end of the address space, the device's memory and registers are what they were.
#[test]
fn bars_that_move_while_they_are_mapped_take_nothing_with_them() {
    let served = Served::new();
    let mut vmm = served.vmm();
    let mut console = served.console();
    vmm.write(CONFIG, COMMAND, &MEMORY);
    vmm.write(REGISTERS, ENABLE, &1u32.to_le_bytes());
    vmm.write(REGISTERS, SCRATCH, b"kept");
    let plane =
        |peer: &mut Peer| peer.ask(QUERY_GFX_PLANE, &words(&[[64, 4, 1].as_slice(), &[0; 13]].concat())).ok();
    let shown = plane(&mut console);
    assert_ne!(u32_at(&shown, 12), 0, "the plane is on");
    for (vram, registers) in [
        (0xe000_0000u32, 0xf000_0000u32),
        (0xe000_0000, 0xe000_0000),
        (0, 0),
        (0xffff_ffff, 0xffff_ffff),
        (0x1234_5678, 0x8765_4321),
    ] {
        vmm.write(CONFIG, BAR0, &vram.to_le_bytes());
        vmm.write(CONFIG, BAR2, &registers.to_le_bytes());
        // What is below a BAR's size reads as its type: here memory, 32 bits, the first prefetchable.
        let mask = u32::try_from(VRAM_SIZE).unwrap().wrapping_neg();
        assert_eq!(vmm.read(CONFIG, BAR0, 4), (vram & mask | 8).to_le_bytes());
        assert_eq!(vmm.read(CONFIG, BAR2, 4), (registers & !0xfff).to_le_bytes());
        assert_eq!(vmm.read(REGISTERS, SCRATCH, 4), b"kept");
        assert_eq!(vmm.read(VRAM, MARK_AT, 16), MARK);
        check_console(&mut console);
        assert_eq!(plane(&mut console), shown, "{vram:#x} and {registers:#x}");
    }
}
