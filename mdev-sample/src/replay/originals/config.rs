//! Configuration space of the originals: 255 bytes in which only BARs take writes.

use super::Byte;

/// Bytes of it (`MDPY_CONFIG_SPACE_SIZE`, `MBOCHS_CONFIG_SPACE_SIZE`).
pub(super) const SIZE: u64 = 0xff;
/// Revision (`linux/pci_regs.h`).
const REVISION: usize = 0x08;
/// The bits of a memory BAR that say what it is (`~PCI_BASE_ADDRESS_MEM_MASK`).
const BAR_KIND: u8 = 0x0f;

#[derive(Debug)]
pub(super) struct Config {
    /// One more than the size: a read of four bytes at the end goes beyond it, into what the allocation rounds up to.
    bytes: [Byte; 256],
    /// Register and size of each BAR.
    bars: &'static [(u64, u64)],
    /// As at power-on: what a BAR is never changes.
    at_first: [Byte; 256],
    vram_size: u64,
}

impl Config {
    /// As at power-on. A BAR of size 0 in `bars` is the video memory's.
    pub(super) fn new(ours: &[u8], bars: &'static [(u64, u64)], vram_size: u64) -> Self {
        let mut bytes = [Some(0); 256];
        for (byte, ours) in bytes.iter_mut().zip(ours) {
            *byte = Some(*ours);
        }
        bytes[REVISION] = Some(1);
        Self { bytes, bars, at_first: bytes, vram_size }
    }

    pub(super) fn read(&self, at: u64, len: usize) -> Vec<Byte> {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        self.bytes.iter().copied().skip(start).take(len).collect()
    }

    /// A BAR takes four bytes, however many were written: what lies behind fewer is stack (`handle_pci_cfg_write`).
    pub(super) fn write(&mut self, at: u64, piece: &[u8]) {
        let Some((_, size)) = self.bars.iter().find(|(register, _)| *register == at) else {
            return;
        };
        let size = if *size == 0 { self.vram_size } else { *size };
        let mut value: [Byte; 4] = [0, 1, 2, 3].map(|n| piece.get(n).copied());
        // Of all ones only what lies above the size stays. With stack behind them nobody knows whether it is all ones.
        if piece.iter().all(|byte| *byte == 0xff) {
            let mask = (!size).wrapping_add(1).to_le_bytes();
            for ((byte, mask), n) in value.iter_mut().zip(mask).zip(0..) {
                *byte = (piece.len() == 4 || *byte == Some(mask) && n < piece.len()).then_some(mask);
            }
        }
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let Some([low, rest @ ..]) = self.bytes.get_mut(start..start.saturating_add(4)) else {
            return;
        };
        let kind = self.at_first.get(start).copied().flatten().unwrap_or(0) & BAR_KIND;
        *low = value[0].map(|byte| byte & !BAR_KIND | kind);
        rest.copy_from_slice(&value[1..]);
    }
}
