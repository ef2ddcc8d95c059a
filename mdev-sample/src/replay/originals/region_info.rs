//! What mbochs tells of its regions: `argsz` bytes of a struct with room for one capability, whatever is in it.

use super::{Byte, digits};
use crate::replay::fields::{Fields, outcome, split_digits};

/// `struct vfio_region_info`, and with the type capability (`struct vfio_region_info_ext`).
const BASE: usize = 32;
const EXTENDED: usize = 48;

fn word(arg: &[u8], at: usize) -> u32 {
    arg.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u32::from_le_bytes)
}

pub(super) fn predict(arg: &[u8], vram_size: u64) -> Fields {
    let (argsz, index) = (usize::try_from(word(arg, 0)).unwrap_or(usize::MAX), word(arg, 8));
    let mut out: Vec<Byte> = arg.iter().copied().map(Some).collect();
    let answer = match (arg.len(), argsz, index) {
        (..BASE, ..) => Err("EFAULT"),
        (_, ..BASE, _) | (_, 49.., _) | (_, _, 10..) => Err("EINVAL"),
        _ => {
            let info = info(arg, index, vram_size);
            // As much as there is memory for; what does not fit is the error.
            for (slot, byte) in out.iter_mut().zip(info.into_iter().take(argsz)) {
                *slot = byte;
            }
            if arg.len() < argsz { Err("EFAULT") } else { Ok(0) }
        }
    };
    let mut fields = outcome(answer);
    fields.extend(split_digits("get_region_info", &digits(&out)));
    fields
}

fn info(arg: &[u8], index: u32, vram_size: u64) -> [Byte; EXTENDED] {
    let (flags, size, offset): (u32, u64, u64) = match index {
        0 => (7, vram_size, 0x3000),
        2 => (3, 0x1000, 0x1000),
        7 => (3, 0xff, 0),
        9 => (11, 0x1000, 0x2000),
        _ => (0, 0, 0),
    };
    let mut info = [None; EXTENDED];
    let mut put = |at: usize, bytes: &[u8]| {
        for (slot, byte) in info.iter_mut().skip(at).zip(bytes) {
            *slot = Some(*byte);
        }
    };
    put(0, arg.get(..16).unwrap_or(&[]));
    put(4, &flags.to_le_bytes());
    put(16, &size.to_le_bytes());
    put(24, &offset.to_le_bytes());
    if index == 9 {
        put(0, &[48, 0, 0, 0]);
        put(12, &[32, 0, 0, 0]);
        put(BASE, &[2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    }
    info
}
