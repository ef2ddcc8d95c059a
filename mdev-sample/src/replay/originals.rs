//! What the kernel's drivers keep, as far as their faults show through a `pread`.
//!
//! A deviation in what a read returns is allowed only if the kernel returned exactly what its source says it would. This
//! small model of mdpy.c and mbochs.c (Linux 6.12, samples/vfio-mdev) predicts that; a byte it cannot know (stale kernel
//! stack) is `None`.

use std::collections::BTreeMap;

use super::record::Record;

/// Bytes of configuration space in the originals (`MDPY_CONFIG_SPACE_SIZE`, `MBOCHS_CONFIG_SPACE_SIZE`).
pub(super) const CONFIG_SIZE: u64 = 0xff;

/// Revision in configuration space (`linux/pci_regs.h`).
const REVISION: u64 = 0x08;
const DISPI_START: u64 = 0x1500;
const DISPI_END: u64 = DISPI_START + 2 * 11;
const EDID_WINDOW: u64 = 0x1000;
const EDID_WINDOW_END: u64 = 0x1400;
const EDID_REGION: u64 = 0x2000;
const EDID_SIZE: u64 = EDID_REGION + 0x08;
const EDID_LINK: u64 = EDID_REGION + 0x14;
const EDID_BLOB: u64 = EDID_REGION + 0x800;
const EDID_BLOB_END: u64 = EDID_BLOB + 0x400;
const MBOCHS_VRAM: u64 = 0x3000;
const MDPY_VRAM: u64 = 0x1000;
/// mbochs subtracts the offset of the wrong region: what is written at x lands at x + 0x2000 (mbochs.c:480).
const MBOCHS_SHIFT: u64 = 0x2000;

/// The state of one of the originals. Places are offsets in the device's descriptor.
#[derive(Debug)]
pub(super) struct Original {
    mbochs: bool,
    /// Bytes that a `pwrite` left somewhere; `None` = unknown.
    bytes: BTreeMap<u64, Option<u8>>,
    /// mdpy reaches only the first four bytes of its video memory (mdpy.c:191).
    first: [u8; 4],
}

impl Original {
    /// A device just made. `config` is our configuration space at power-on; the originals' differs in the revision.
    pub(super) fn new(device: &str, config: &[u8]) -> Self {
        let mut original =
            Self { mbochs: device.starts_with("mbochs"), bytes: BTreeMap::new(), first: [0; 4] };
        original.put(0, config);
        original.put(REVISION, &[1]);
        original.put_dispi_id();
        original
    }

    fn put_dispi_id(&mut self) {
        if self.mbochs {
            self.put(DISPI_START, &0xb0c5u16.to_le_bytes());
        }
    }

    pub(super) fn is_mbochs(&self) -> bool {
        self.mbochs
    }

    fn byte(&self, at: u64) -> Option<u8> {
        self.bytes.get(&at).copied().unwrap_or(Some(0))
    }

    fn word(&self, at: u64) -> Option<u32> {
        let bytes: Option<Vec<u8>> = (at..at + 4).map(|at| self.byte(at)).collect();
        bytes.and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes)
    }

    fn put(&mut self, at: u64, data: &[u8]) {
        for (at, byte) in (at..).zip(data) {
            self.bytes.insert(at, Some(*byte));
        }
    }

    /// Takes note of a call that the kernel carried out.
    pub(super) fn observe(&mut self, record: &Record) {
        match (record.op.as_str(), record.offset, &record.data) {
            ("pwrite", Some(at), Some(data)) => self.write(at, &data.0),
            ("reset", ..) if self.mbochs => {
                self.bytes.retain(|at, _| !(DISPI_START..DISPI_END).contains(at));
                self.put_dispi_id();
            }
            ("reset", ..) => self.first = [0; 4],
            _ => {}
        }
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        let bar = at == 0x10 || (at == 0x18 && self.mbochs);
        if bar {
            // The drivers read four bytes whatever the length; what lies behind a short one is kernel stack.
            let known = |n: usize| data.get(n).copied();
            let kind = self.byte(at).map_or(0, |byte| byte & 0x0f);
            self.bytes.insert(at, known(0).map(|byte| byte & 0xf0 | kind));
            for n in 1..4 {
                self.bytes.insert(at + n as u64, known(n));
            }
        } else if at < CONFIG_SIZE {
            // Everything else in configuration space ignores writes.
        } else if !self.mbochs {
            for (slot, byte) in self.first.iter_mut().zip(data) {
                *slot = *byte;
            }
        } else if at >= MBOCHS_VRAM
            || (DISPI_START..DISPI_END).contains(&at) && data.len() == 2
            || (at == EDID_SIZE || at == EDID_LINK) && data.len() == 4
        {
            self.put(at, data);
        } else if (EDID_BLOB..EDID_BLOB_END).contains(&at) {
            // In pieces of four; a piece that leaves the blob is ignored.
            let room = usize::try_from(EDID_BLOB_END - at).unwrap_or(0);
            self.put(at, &data[..data.len().min(room)]);
        }
    }

    /// What a `pread` returns where only the driver's own state matters, byte by byte.
    pub(super) fn read(&self, at: u64, len: usize) -> Vec<Option<u8>> {
        (at..).take(len).map(|at| self.read_byte(at)).collect()
    }

    fn read_byte(&self, at: u64) -> Option<u8> {
        if at < CONFIG_SIZE {
            return self.byte(at);
        }
        if !self.mbochs {
            let lane = usize::try_from(at - MDPY_VRAM).unwrap_or(0) % 4;
            return Some(self.first[lane]);
        }
        if (EDID_WINDOW..EDID_WINDOW_END).contains(&at) {
            let inside = at - EDID_WINDOW;
            let visible = self.word(EDID_LINK)? == 1 && inside < u64::from(self.word(EDID_SIZE)?);
            return if visible { self.byte(EDID_BLOB + inside) } else { Some(0) };
        }
        self.byte(at)
    }

    /// What a mapping of the video memory shows, where a `pwrite` put it.
    pub(super) fn mapped(&self, at: u64) -> Vec<Option<u8>> {
        (at..at + 4)
            .map(|at| match (self.mbochs, at.checked_sub(MBOCHS_SHIFT)) {
                (true, Some(written)) => self.byte(MBOCHS_VRAM + written),
                (true, None) => Some(0),
                (false, _) if at < 4 => Some(self.first[usize::try_from(at).unwrap_or(0)]),
                (false, _) => None,
            })
            .collect()
    }
}
