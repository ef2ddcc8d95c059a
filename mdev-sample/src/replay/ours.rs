//! What our mbochs answers where the original answers otherwise: the other half of a deviation.
//!
//! It follows the same calls as the model of the original, by the rules that we add: registers are out of reach while the
//! function does not decode memory, the identifier latches what is a version only, and a blanked screen is off. So a
//! deviation covers the answer that those rules give, and no other.

use vfio_gfx::abi::HOTSPOT_NONE;
use vfio_gfx::device::BUFFER_TABLE_SIZE;
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::{PAGE_SIZE, page_align};

use super::fields::Fields;
use super::originals::{Buffers, Mode, REGISTERS, power_on_registers, register};
use super::record::Record;
use crate::pieces::pieces;

/// The VGA attribute controller, and its bit that drives the screen.
const VGA_ATTRIBUTE: u64 = 0x1400;
const SCREEN_ON: u8 = 0x20;
const ID: usize = 0;
const ENABLE: usize = 4;
const VIDEO_MEMORY_64K: usize = 10;
const GETCAPS: u16 = 2;

#[derive(Debug)]
pub(super) struct Ours {
    registers: [u16; REGISTERS],
    blank: bool,
    /// Whether the function decodes memory accesses.
    decodes: bool,
    vram_size: u64,
    buffers: Buffers,
}

impl Ours {
    pub(super) fn new(vram_size: u64) -> Self {
        Self {
            registers: power_on_registers(vram_size),
            blank: false,
            decodes: true,
            vram_size,
            buffers: Buffers::new(BUFFER_TABLE_SIZE),
        }
    }

    /// Takes note of a call that we carried out. `decodes` is what configuration space says after it.
    pub(super) fn observe(&mut self, record: &Record, decodes: bool) {
        match (record.op.as_str(), record.offset, &record.data) {
            ("pwrite", Some(at), Some(data)) if self.decodes => {
                for (place, range) in pieces(at, data.0.len()) {
                    self.write(place, &data.0[range]);
                }
            }
            ("reset", ..) => {
                self.registers = power_on_registers(self.vram_size);
                self.blank = false;
            }
            ("query_gfx_plane", ..) => {
                let asks = |arg: &[u8]| arg.get(4..12) == Some(&[2, 0, 0, 0, 1, 0, 0, 0]);
                if let (true, Some(mode)) = (record.arg.as_ref().is_some_and(|arg| asks(&arg.0)), self.mode())
                {
                    self.buffers.ask(mode);
                }
            }
            _ => {}
        }
        self.decodes = decodes;
    }

    fn write(&mut self, at: u64, piece: &[u8]) {
        if let (VGA_ATTRIBUTE, Some(index)) = (at, piece.first()) {
            self.blank = index & SCREEN_ON == 0;
        }
        if let (Some(index), [low, high]) = (register(at, piece.len()), piece) {
            let value = u16::from_le_bytes([*low, *high]);
            match index {
                ID if !(0xb0c0..=0xb0c5).contains(&value) => {}
                VIDEO_MEMORY_64K => {}
                _ => self.registers[index] = value,
            }
        }
    }

    pub(super) fn registers(&self) -> &[u16; REGISTERS] {
        &self.registers
    }

    pub(super) fn is_blank(&self) -> bool {
        self.blank
    }

    pub(super) fn decodes(&self) -> bool {
        self.decodes
    }

    /// Whether a register reads as a limit instead of what was written.
    pub(super) fn reads_limits(&self) -> bool {
        self.registers[ENABLE] & GETCAPS != 0
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        Mode::of(&self.registers, self.vram_size).filter(|_| !self.blank)
    }

    /// The id that we name for a mode, now or next.
    pub(super) fn id(&self, mode: &Mode) -> u32 {
        self.buffers.next_id(mode)
    }

    /// What a query for the primary plane answers.
    pub(super) fn plane(&self) -> Fields {
        let word = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let mode = self.mode();
        let get = |value: fn(&Mode) -> u64| mode.as_ref().map_or(0, |mode| word(value(mode)));
        let size = |mode: &Mode| page_align(mode.offset % PAGE_SIZE + mode.size()).unwrap_or(u64::MAX);
        let (format, hotspot) = if mode.is_some() { (Fourcc::XRGB8888.bits(), HOTSPOT_NONE) } else { (0, 0) };
        let words = [
            ("drm_format", format),
            ("width", get(|mode| mode.width)),
            ("height", get(|mode| mode.height)),
            ("stride", get(|mode| mode.stride)),
            ("size", get(size)),
            ("x_pos", 0),
            ("y_pos", 0),
            ("x_hot", hotspot),
            ("y_hot", hotspot),
            ("handle", mode.as_ref().map_or(0, |mode| self.id(mode))),
        ];
        let mut fields = vec![("ret", "0".to_owned()), ("errno", "0".to_owned())];
        fields.push(("drm_format_mod", "0".repeat(16)));
        fields.extend(words.map(|(name, word)| (name, format!("{:08x}", word.swap_bytes()))));
        fields
    }
}
