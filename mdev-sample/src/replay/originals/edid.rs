//! mbochs' EDID region: `handle_edid_regs` and `handle_edid_blob`.

use super::Byte;

/// `struct vfio_region_gfx_edid` (`linux/vfio.h`)
const REGISTERS: usize = 24;
const SIZE: usize = 0x08;
const LINK_STATE: usize = 0x14;
const LINK_UP: u32 = 1;
/// Where the blob is (`MBOCHS_EDID_BLOB_OFFSET`), and its length (`edid_blob`).
const BLOB_OFFSET: usize = 0x800;
const BLOB: usize = 0x400;

#[derive(Debug)]
pub(super) struct Edid {
    registers: [u8; REGISTERS],
    blob: [u8; BLOB],
}

impl Edid {
    /// As at power-on: neither size nor link state.
    pub(super) fn new(ours: &[u8]) -> Self {
        let mut registers = [0; REGISTERS];
        for (byte, ours) in registers.iter_mut().zip(ours) {
            *byte = *ours;
        }
        registers[SIZE..SIZE + 4].fill(0);
        registers[LINK_STATE..].fill(0);
        Self { registers, blob: [0; BLOB] }
    }

    fn word(&self, at: usize) -> u32 {
        self.registers.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u32::from_le_bytes)
    }

    /// Reads a piece. What is ignored leaves the caller's buffer as it was: stack.
    pub(super) fn read(&self, at: usize, len: usize) -> Vec<Byte> {
        let found = match at.checked_sub(BLOB_OFFSET) {
            Some(inside) => self.blob.get(inside..inside + len),
            None if is_register(at, len) => self.registers.get(at..at + len),
            None => None,
        };
        found.map_or_else(|| vec![None; len], |bytes| bytes.iter().copied().map(Some).collect())
    }

    pub(super) fn write(&mut self, at: usize, piece: &[u8]) {
        let end = at + piece.len();
        let target = match at.checked_sub(BLOB_OFFSET) {
            Some(inside) => self.blob.get_mut(inside..inside + piece.len()),
            None if is_register(at, piece.len()) && matches!(at, SIZE | LINK_STATE) => {
                self.registers.get_mut(at..end)
            }
            None => None,
        };
        if let Some(target) = target {
            target.copy_from_slice(piece);
        }
    }

    /// What the guest finds in its window: judged by where a piece starts, so the last one may show more than the size.
    pub(super) fn window(&self, at: usize, len: usize) -> Vec<Byte> {
        let visible =
            self.word(LINK_STATE) == LINK_UP && u32::try_from(at).is_ok_and(|at| at < self.word(SIZE));
        let shown = self.blob.get(at..at + len).filter(|_| visible);
        shown.map_or_else(|| vec![Some(0); len], |bytes| bytes.iter().copied().map(Some).collect())
    }
}

/// Registers answer to four bytes at a multiple of four.
fn is_register(at: usize, len: usize) -> bool {
    len == 4 && at.is_multiple_of(4) && at + len <= REGISTERS
}
