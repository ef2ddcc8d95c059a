//! mdpy.c: a picture in memory of which `pread` and `pwrite` reach the first four bytes only.

use super::config::{self, Config};
use super::{Byte, PowerOn};

/// Where the video memory is (`MDPY_MEMORY_BAR_OFFSET`).
const VRAM: u64 = 0x1000;
/// What the vendor capability says of the picture, in pixels (`mdpy-defs.h`).
const WIDTH: usize = 0x48;
const HEIGHT: usize = 0x4c;

#[derive(Debug)]
pub(in super::super) struct Mdpy {
    config: Config,
    vram_size: u64,
    /// Whatever the offset, an access is to the start of the memory (`mdev_access`).
    first: [u8; 4],
    /// Bytes of a row, and rows.
    picture: (u64, u64),
}

impl Mdpy {
    pub(super) fn new(power_on: PowerOn<'_>) -> Self {
        let PowerOn { config, vram_size, .. } = power_on;
        let word = |at: usize| {
            config.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map_or(0, u32::from_le_bytes)
        };
        let picture = (u64::from(word(WIDTH)) * 4, u64::from(word(HEIGHT)));
        Self { config: Config::new(config, &[(0x10, 0)], vram_size), vram_size, first: [0; 4], picture }
    }

    pub(super) fn reaches(&self, at: u64, len: usize) -> bool {
        at < config::SIZE || at >= VRAM && at.saturating_add(len as u64) <= VRAM + self.vram_size
    }

    pub(super) fn read(&self, at: u64, len: usize) -> Option<Vec<Byte>> {
        if at < config::SIZE {
            return Some(self.config.read(at, len));
        }
        self.reaches(at, len).then(|| self.first.iter().copied().map(Some).take(len).collect())
    }

    pub(super) fn write(&mut self, at: u64, piece: &[u8]) -> bool {
        if at < config::SIZE {
            self.config.write(at, piece);
        } else if self.reaches(at, piece.len()) {
            for (slot, byte) in self.first.iter_mut().zip(piece) {
                *slot = *byte;
            }
        } else {
            return false;
        }
        true
    }

    /// The picture is painted anew; its first row is black.
    pub(super) fn reset(&mut self) {
        self.first = [0; 4];
    }

    /// What a mapping shows: row by row from black to nearly white (`mdpy_reset`), but for what was written.
    pub(super) fn mapped(&self, at: u64) -> Byte {
        let (stride, rows) = self.picture;
        let row = at.checked_div(stride)?;
        let shade = if row < rows { u8::try_from(row * 255 / rows).ok()? } else { 0 };
        let written = usize::try_from(at).ok().and_then(|at| self.first.get(at).copied());
        Some(written.unwrap_or(shade))
    }
}
