//! A display of our own: a Bochs display with two planes more, flips in one piece, and change events.
//!
//! Everything of [`mbochs`](crate::mbochs) is there, so `bochs-drm` drives it. A guest that knows more finds a second set
//! of registers in BAR2, 32 bits wide and little-endian:
//!
//! | BAR2 offset | what |
//! |---|---|
//! | 0x800 | identifier, reads `VGFX` |
//! | 0x804 | version, reads 2; version 1 had no registers from 0x80c to 0x824 and none from 0x34 on in a plane |
//! | 0x808 | COMMIT: a write of any value makes the plane registers effective, all at once: a flip; reads how many |
//! | 0x80c | COMPLETED: how many flips are over; equal to COMMIT when all are |
//! | 0x810 | STATUS: how the last of them ended; 0 none did, 1 shown, 2 replaced by the next, 3 timed out |
//! | 0x814 | LINK: 1 up, 2 down (no monitor), 3 degraded (a console does not keep up) |
//! | 0x818 | INTERRUPTS: bit 0 a flip is over, bit 1 one timed out, bit 2 LINK changed; bits written as 1 are cleared |
//! | 0x81c | ENABLE: which of these raise the message-signalled interrupt |
//! | 0x820 | TIME_OUT: milliseconds that a flip takes at most |
//! | 0x824 | TIMED_OUT: how many flips timed out |
//! | 0x840, 0x880, 0x8c0 | registers of the primary, overlay and cursor plane |
//!
//! | offset in a plane's registers | what |
//! |---|---|
//! | 0x00 | CONTROL: bit 0, the plane is on |
//! | 0x04 | FORMAT: DRM fourcc |
//! | 0x08, 0x0c | OFFSET: start of the buffer in its memory in bytes, low and high half |
//! | 0x10 | STRIDE in bytes |
//! | 0x14, 0x18 | WIDTH, HEIGHT in pixels |
//! | 0x1c, 0x20 | X, Y on the screen, two's complement; a primary plane ignores them |
//! | 0x24, 0x28 | HOT_X, HOT_Y: hotspot of the cursor, all ones = none; other planes ignore them |
//! | 0x2c, 0x30 | SRC_X, SRC_Y: first pixel shown, in pixels from the start of the buffer |
//! | 0x34 | MEMORY: 0 video memory, 1 guest memory; OFFSET is then a guest-physical address |
//! | 0x38 | STATE, read-only: 0 off, 1 on, 2 not possible, 3 its guest memory is not there (any more) |
//!
//! Registers read back what was written, committed or not. While the primary plane is on here, the Bochs registers'
//! mode is not shown. Whatever monitor was announced, a plane is on only if its format is known and its pixels are in its memory: the
//! video memory, or memory that the VMM granted for reading and writing and no more of it than there is video memory. Guest memory
//! is looked up at COMMIT; when the VMM takes it back the plane is off until a later COMMIT finds it. Blanking
//! (0x400) turns every plane off; RESET clears everything, and a flip that was under way then is not counted.

mod guest;
mod shape;
mod status;
#[cfg(test)]
mod tests;

use std::time::Duration;

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::device::{Effects, Model, Notice, Platform, Scanout, ScanoutMemory};
use vfio_gfx::format::Fourcc;
use vfio_gfx::memory::{GuestBufferId, GuestMemory};

use crate::mbochs::{Clock, Mbochs};
use guest::GuestBuffers;
use shape::{CONTROL, MEMORY, Plane, Shape};
use status::Status;

/// The formats a plane can have.
pub const FORMATS: [Fourcc; 7] = [
    Fourcc::XRGB8888,
    Fourcc::ARGB8888,
    Fourcc::XBGR8888,
    Fourcc::ABGR8888,
    Fourcc::RGB565,
    Fourcc::XRGB2101010,
    Fourcc::RGB888,
];

const ID: u64 = 0x800;
const VERSION: u64 = 0x804;
const COMMIT: u64 = 0x808;
const STATUS: u64 = 0x80c;
const STATUS_END: u64 = 0x828;
const PLANES: u64 = 0x840;
const PLANE_SIZE: u64 = 0x40;
const PLANES_END: u64 = PLANES + 3 * PLANE_SIZE;
/// In a plane's registers.
const STATE: u64 = 0x38;

/// A plane in effect.
#[derive(Clone, Copy, Debug, Default)]
struct Live {
    registers: Plane,
    /// Of a plane in guest memory, while it was there at the commit.
    buffer: Option<GuestBufferId>,
}

impl Live {
    fn is_on(&self) -> bool {
        self.registers[CONTROL] & 1 != 0
    }

    fn is_guests(&self) -> bool {
        self.registers[MEMORY] & 1 != 0
    }
}

/// The device model.
#[derive(Debug)]
pub struct Vgfx {
    bochs: Mbochs,
    vram_size: u64,
    /// What the guest wrote: primary, overlay, cursor.
    staged: [Plane; 3],
    /// What is in effect.
    live: [Live; 3],
    buffers: GuestBuffers,
    status: Status,
    effects: Effects,
}

impl Vgfx {
    /// A display with this much video memory, in bytes, and this largest mode in pixels.
    #[must_use]
    pub fn new(vram_size: u64, max: (u32, u32), clock: Clock) -> Self {
        Self {
            bochs: Mbochs::new(vram_size, max, clock),
            vram_size,
            staged: Default::default(),
            live: Default::default(),
            buffers: GuestBuffers::default(),
            status: Status::default(),
            effects: Effects::default(),
        }
    }

    /// The plane register that an aligned 32-bit access reaches.
    fn register(&mut self, offset: u64) -> Option<&mut u32> {
        let (plane, inside) = plane_at(offset)?;
        let register = usize::try_from(inside / 4).ok().filter(|_| inside.is_multiple_of(4))?;
        self.staged.get_mut(plane)?.get_mut(register)
    }

    fn read_plane(&mut self, offset: u64, guest: &GuestMemory) -> u32 {
        match plane_at(offset) {
            Some((plane, STATE)) => self.live.get(plane).map_or(0, |live| self.state(live, guest)),
            _ => self.register(offset).map_or(0, |register| *register),
        }
    }

    /// The STATE register.
    fn state(&self, live: &Live, guest: &GuestMemory) -> u32 {
        if !live.is_on() {
            return 0;
        }
        if Shape::of(&live.registers, self.vram_size).is_none() {
            return 2;
        }
        let is_there = live.buffer.is_some_and(|buffer| guest.buffer_size(buffer).is_some());
        if live.is_guests() && !is_there { 3 } else { 1 }
    }

    /// Makes what was staged effective.
    fn commit(&mut self, guest: &GuestMemory) {
        self.live = self.staged.map(|registers| Live { registers, buffer: None });
        let vram_size = self.vram_size;
        for live in self.live.iter_mut().filter(|live| live.is_on() && live.is_guests()) {
            live.buffer = Shape::of(&live.registers, vram_size)
                .and_then(|shape| shape.pages())
                .and_then(|(start, len)| self.buffers.get(guest, start, len));
        }
        if self.live.iter().all(|live| live.buffer.is_none()) {
            self.buffers.clear(guest);
        }
        self.status.committed();
        self.effects.flip = true;
    }
}

/// The plane whose registers are there, and where in them.
fn plane_at(offset: u64) -> Option<(usize, u64)> {
    let inside = offset.checked_sub(PLANES).filter(|_| offset < PLANES_END)?;
    Some((usize::try_from(inside / PLANE_SIZE).ok()?, inside % PLANE_SIZE))
}

/// The place of a plane in the register file.
fn index(kind: PlaneKind) -> usize {
    match kind {
        PlaneKind::Primary => 0,
        PlaneKind::Overlay => 1,
        PlaneKind::Cursor => 2,
    }
}

impl Model for Vgfx {
    fn read(&mut self, region: u32, offset: u64, data: &mut [u8], platform: &Platform<'_>) {
        let value = match offset {
            ID => u32::from_le_bytes(*b"VGFX"),
            VERSION => 2,
            COMMIT => self.status.commits(),
            STATUS..STATUS_END => self.status.read(offset - STATUS, platform.link),
            PLANES..PLANES_END => self.read_plane(offset, platform.guest),
            _ => return self.bochs.read(region, offset, data, platform),
        };
        if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            *data = value.to_le_bytes();
        }
    }

    fn write(&mut self, region: u32, offset: u64, data: &[u8], platform: &Platform<'_>) {
        match (offset, data.try_into().map(u32::from_le_bytes)) {
            (COMMIT, Ok(_)) => self.commit(platform.guest),
            (STATUS..STATUS_END, Ok(value)) => self.status.write(offset - STATUS, value),
            (PLANES..PLANES_END, Ok(value)) => {
                if let Some(register) = self.register(offset) {
                    *register = value;
                }
            }
            (ID | VERSION | COMMIT | STATUS..STATUS_END | PLANES..PLANES_END, _) => {}
            _ => self.bochs.write(region, offset, data, platform),
        }
    }

    fn scanout(&mut self, kind: PlaneKind) -> Option<Scanout> {
        if self.bochs.is_blank() {
            return None;
        }
        let live = self.live.get(index(kind))?;
        if !live.is_on() {
            return if kind == PlaneKind::Primary { self.bochs.scanout(kind) } else { None };
        }
        let scanout = Shape::of(&live.registers, self.vram_size)?.scanout(kind);
        if !live.is_guests() {
            return Some(scanout);
        }
        // The buffer begins with the page that the plane begins in.
        let offset = scanout.offset % vfio_gfx::memory::PAGE_SIZE;
        Some(Scanout { memory: ScanoutMemory::Guest(live.buffer?), offset, ..scanout })
    }

    fn changes_in(&mut self) -> Option<Duration> {
        self.bochs.changes_in()
    }

    fn notice(&mut self, notice: Notice) {
        self.status.notice(notice);
    }

    fn effects(&mut self) -> Effects {
        let interrupts = u32::from(self.status.take_interrupt());
        Effects { interrupts, ..std::mem::take(&mut self.effects) }
    }

    fn reset(&mut self, platform: &Platform<'_>) {
        self.bochs.reset(platform);
        (self.staged, self.live) = Default::default();
        self.buffers.clear(platform.guest);
        self.status = Status::default();
        self.effects = Effects::default();
    }
}
