//! mbochs.c: registers, an EDID region, and video memory that `pread` and `pwrite` find two pages too far on.

use std::collections::BTreeMap;

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::format::Fourcc;

use super::config::{self, Config};
use super::edid::Edid;
use super::mode::{Buffers, Mode, REGISTERS};
use super::{Byte, PowerOn, region_info};
use crate::replay::fields::{Fields, outcome, split};

const MMIO: u64 = 0x1000;
const MMIO_END: u64 = 0x2000;
const EDID: u64 = 0x2000;
const EDID_END: u64 = 0x3000;
const VRAM: u64 = 0x3000;
const WINDOW_END: u64 = MMIO + 0x400;
const DISPI: u64 = MMIO + 0x500;
const PAGE: u64 = 0x1000;
/// BAR0 is the video memory, BAR2 the registers.
const BARS: &[(u64, u64)] = &[(0x10, 0), (0x18, MMIO_END - MMIO)];
const ID: usize = 0;
const VIDEO_MEMORY_64K: usize = 10;

#[derive(Debug)]
pub(in super::super) struct Mbochs {
    config: Config,
    vram_size: u64,
    registers: [u16; REGISTERS],
    edid: Edid,
    /// What was written to the video memory, by its place there.
    vram: BTreeMap<u64, u8>,
    buffers: Buffers,
}

/// The register that a piece reaches: only pieces of two bytes reach one.
pub(in super::super) fn register(at: u64, len: usize) -> Option<usize> {
    let index = usize::try_from(at.checked_sub(DISPI)? / 2).ok()?;
    (len == 2 && index < REGISTERS).then_some(index)
}

fn inside(at: u64, base: u64) -> usize {
    usize::try_from(at - base).unwrap_or(usize::MAX)
}

impl Mbochs {
    pub(super) fn new(power_on: PowerOn<'_>) -> Self {
        let PowerOn { config, edid, vram_size } = power_on;
        let mut mbochs = Self {
            config: Config::new(config, BARS, vram_size),
            vram_size,
            registers: [0; REGISTERS],
            edid: Edid::new(edid),
            vram: BTreeMap::new(),
            buffers: Buffers::new(usize::MAX),
        };
        mbochs.reset();
        mbochs
    }

    /// `mbochs_reset`: the registers, and nothing else.
    pub(super) fn reset(&mut self) {
        self.registers = power_on_registers(self.vram_size);
    }

    pub(in super::super) fn registers(&self) -> &[u16; REGISTERS] {
        &self.registers
    }

    pub(in super::super) fn mode(&self) -> Option<Mode> {
        Mode::of(&self.registers, self.vram_size)
    }

    pub(in super::super) fn buffers(&self) -> &Buffers {
        &self.buffers
    }

    pub(super) fn reaches(&self, at: u64, len: usize) -> bool {
        let end = at.saturating_add(len as u64);
        at < config::SIZE || at >= MMIO && (end <= EDID_END || at >= VRAM && end <= VRAM + self.vram_size)
    }

    pub(super) fn read(&self, at: u64, len: usize) -> Option<Vec<Byte>> {
        if !self.reaches(at, len) {
            return None;
        }
        Some(match at {
            ..config::SIZE => self.config.read(at, len),
            MMIO..WINDOW_END => self.edid.window(inside(at, MMIO), len),
            WINDOW_END..MMIO_END => match register(at, len) {
                Some(index) => self.registers[index].to_le_bytes().map(Some).to_vec(),
                None => vec![Some(0); len],
            },
            EDID..EDID_END => self.edid.read(inside(at, EDID), len),
            _ => (shifted(at)..).take(len).map(|at| self.vram_byte(at)).collect(),
        })
    }

    pub(super) fn write(&mut self, at: u64, piece: &[u8]) -> bool {
        if !self.reaches(at, piece.len()) {
            return false;
        }
        match at {
            ..config::SIZE => self.config.write(at, piece),
            MMIO..MMIO_END => {
                if let (Some(index), [low, high]) = (register(at, piece.len()), piece) {
                    self.registers[index] = u16::from_le_bytes([*low, *high]);
                }
            }
            EDID..EDID_END => self.edid.write(inside(at, EDID), piece),
            _ => self.vram.extend((shifted(at)..).zip(piece.iter().copied())),
        }
        true
    }

    /// Behind the end is whatever lies behind the list of pages.
    fn vram_byte(&self, at: u64) -> Byte {
        (at < self.vram_size).then(|| self.mapped(at))
    }

    pub(super) fn mapped(&self, at: u64) -> u8 {
        self.vram.get(&at).copied().unwrap_or(0)
    }

    /// `VFIO_DEVICE_GET_REGION_INFO`.
    pub(super) fn predict_region_info(&self, arg: &[u8]) -> Fields {
        region_info::predict(arg, self.vram_size)
    }

    /// The mode that a query asks about, if it is well-formed and asks for a plane that is on.
    fn asked(&self, arg: &[u8]) -> Result<Option<Mode>, &'static str> {
        let word = |at: usize| arg.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let (60.., Some(argsz), Some(flags), Some(plane)) = (arg.len(), word(0), word(4), word(8)) else {
            return Err("EFAULT");
        };
        match (argsz, flags) {
            (..60, _) => Err("EINVAL"),
            (_, 2) if plane == PlaneKind::Primary.raw() => Ok(self.mode()),
            (_, 2 | 3) => Ok(None),
            _ => Err("EINVAL"),
        }
    }

    /// `mbochs_query_gfx_plane`. The first query of each mode makes its buffer and then fails.
    pub(super) fn predict_query(&self, arg: &[u8]) -> Fields {
        let asked = self.asked(arg).and_then(|mode| match mode {
            Some(mode) => self.buffers.id(&mode).map(|id| Some((mode, id))).ok_or("ENOMEM"),
            None => Ok(None),
        });
        let mut fields = outcome(asked.map(|_| 0));
        let mut out = arg.to_vec();
        let is_query = arg.get(4) == Some(&2);
        if let (Ok(found), true, Some(answer)) = (asked, is_query, out.get_mut(12..60)) {
            let (mode, id) = found.unzip();
            let mode = |value: fn(&Mode) -> u64| mode.as_ref().map_or(0, value).to_le_bytes();
            answer.fill(0);
            let format = if id.is_some() { Fourcc::XRGB8888.bits() } else { 0 };
            answer[0..4].copy_from_slice(&format.to_le_bytes());
            answer[12..16].copy_from_slice(&mode(|mode| mode.width)[..4]);
            answer[16..20].copy_from_slice(&mode(|mode| mode.height)[..4]);
            answer[20..24].copy_from_slice(&mode(|mode| mode.stride)[..4]);
            answer[24..28].copy_from_slice(&mode(Mode::size)[..4]);
            answer[44..48].copy_from_slice(&id.unwrap_or(0).to_le_bytes());
        }
        fields.extend(split("query_gfx_plane", &out));
        fields
    }

    pub(super) fn query(&mut self, arg: &[u8]) {
        if let Ok(Some(mode)) = self.asked(arg) {
            self.buffers.ask(mode);
        }
    }

    /// `mbochs_get_gfx_dmabuf`: a buffer that does not start at a page is never exported, and one that is cannot be mapped.
    pub(super) fn predict_buffer(&self, id: u32) -> Fields {
        let found = match self.buffers.mode(id) {
            None => Err("ENOENT"),
            Some(mode) if !mode.offset.is_multiple_of(PAGE) => Err("EINVAL"),
            Some(mode) => Ok(mode.size()),
        };
        let mut fields = outcome(found.map(|_| 1));
        if let Ok(size) = found {
            fields.push(("size", size.to_string()));
            fields.push(("mmap_shared", "EINVAL".to_owned()));
            fields.push(("mmap_private", "EINVAL".to_owned()));
        }
        fields
    }
}

/// The registers after power-on and reset.
pub(in super::super) fn power_on_registers(vram_size: u64) -> [u16; REGISTERS] {
    let mut registers = [0; REGISTERS];
    registers[ID] = 0xb0c5;
    registers[VIDEO_MEMORY_64K] = u16::try_from(vram_size >> 16).unwrap_or(u16::MAX);
    registers
}

/// Where in the video memory an access ends up: the offset of the wrong region is subtracted (`mdev_access`).
fn shifted(at: u64) -> u64 {
    at - MMIO
}
