//! The Bochs display interface: eleven 16-bit registers that describe one scanout.
//!
//! Core tier: no I/O, every write of every value has a result. What is not obvious:
//!
//! * The scanout base is three registers, VIRT_WIDTH, X_OFFSET and Y_OFFSET, and drivers write them one after the other,
//!   with the guest's other CPUs and our consoles running in between. The base in effect therefore changes as a whole,
//!   when Y_OFFSET is written (the last of the three in every driver), when the display is switched on, or, for a guest
//!   that writes only some of them, [`LATCH_TIMEOUT`] after the last write.
//! * The ID register latches 0xB0C0 to 0xB0C5: drivers probe versions by writing one and reading it back.
//! * While ENABLE has GETCAPS set, XRES, YRES and BPP read as the largest values that work.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

use std::time::Duration;

use vfio_gfx::format::Fourcc;
use vfio_gfx::plane::Geometry;

/// How many registers there are.
pub const REGISTERS: usize = 11;

/// How long a base that was only partly written waits for the rest. Far above what lies between two writes of a driver
/// whose CPU is descheduled, and short enough for a guest that pans with one register.
pub const LATCH_TIMEOUT: Duration = Duration::from_secs(1);

/// Smallest width and height that count as a mode, as in the kernel's mbochs and QEMU's bochs-display.
const MIN_DIMENSION: u32 = 64;

/// What GETCAPS reports where the device has no limit of its own: the largest mode of Linux's bochs-drm.
const UNLIMITED: u16 = 8192;

const BYTES_PER_PIXEL: u32 = 4;

// Register numbers and bits: QEMU docs/specs/standard-vga.rst; Bochs VBE extension.
const ID: usize = 0;
const XRES: usize = 1;
const YRES: usize = 2;
const BPP: usize = 3;
const ENABLE: usize = 4;
const VIRT_WIDTH: usize = 6;
const X_OFFSET: usize = 8;
const Y_OFFSET: usize = 9;
const VIDEO_MEMORY_64K: usize = 10;

const ENABLED: u16 = 0x01;
const GETCAPS: u16 = 0x02;
const NOCLEARMEM: u16 = 0x80;

const ID_FIRST: u16 = 0xb0c0;
const ID_LAST: u16 = 0xb0c5;

/// The three registers that say where in the video memory the scanout starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Base {
    virt_width: u16,
    x: u16,
    y: u16,
}

/// What a register write asks of the device beyond the register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// Nothing.
    None,
    /// A mode was set without NOCLEARMEM: clear this many bytes from the start of the video memory.
    Clear(u64),
}

/// Byte order of the pixels, from the qext register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteOrder {
    /// Blue first.
    Little,
    /// The unused byte first.
    Big,
}

/// The register file.
#[derive(Clone, Debug)]
pub struct Dispi {
    registers: [u16; REGISTERS],
    /// The base in effect.
    live: Base,
    /// When the base in the registers became newer than the one in effect, on the caller's clock.
    stale_since: Option<Duration>,
    vram_size: u64,
    max: (u16, u16),
}

impl Dispi {
    /// Registers of a display with this much video memory, in bytes, and this largest mode in pixels (0 = no limit).
    #[must_use]
    pub fn new(vram_size: u64, max: (u32, u32)) -> Self {
        let limit = |max: u32| if max == 0 { UNLIMITED } else { u16::try_from(max).unwrap_or(UNLIMITED) };
        let mut dispi = Self {
            registers: [0; REGISTERS],
            live: Base::default(),
            stale_since: None,
            vram_size,
            max: (limit(max.0), limit(max.1)),
        };
        dispi.reset();
        dispi
    }

    /// Back to power-on: off, version 0xB0C5.
    pub fn reset(&mut self) {
        self.registers = [0; REGISTERS];
        self.set(ID, ID_LAST);
        self.set(VIDEO_MEMORY_64K, u16::try_from(self.vram_size >> 16).unwrap_or(u16::MAX));
        self.live = Base::default();
        self.stale_since = None;
    }

    fn get(&self, register: usize) -> u16 {
        self.registers.get(register).copied().unwrap_or(0)
    }

    fn set(&mut self, register: usize, value: u16) {
        if let Some(slot) = self.registers.get_mut(register) {
            *slot = value;
        }
    }

    /// Reads a register; one that does not exist reads as 0.
    #[must_use]
    pub fn read(&self, register: usize) -> u16 {
        if self.get(ENABLE) & GETCAPS != 0 {
            match register {
                XRES => return self.max.0,
                YRES => return self.max.1,
                BPP => return 32,
                _ => {}
            }
        }
        self.get(register)
    }

    /// Writes a register. `now` is any clock that does not run backwards.
    pub fn write(&mut self, register: usize, value: u16, now: Duration) -> Effect {
        let was_enabled = self.is_enabled();
        match register {
            ID if !(ID_FIRST..=ID_LAST).contains(&value) => return Effect::None,
            VIDEO_MEMORY_64K => return Effect::None,
            _ => self.set(register, value),
        }
        match register {
            VIRT_WIDTH | X_OFFSET if was_enabled => self.stale_since = Some(now),
            // Nobody looks at a base while the display is off.
            VIRT_WIDTH | X_OFFSET | Y_OFFSET | ENABLE => self.latch(),
            _ => {}
        }
        if register == ENABLE && !was_enabled && self.is_enabled() && value & NOCLEARMEM == 0 {
            return Effect::Clear(self.stride().saturating_mul(u64::from(self.get(YRES))));
        }
        Effect::None
    }

    fn is_enabled(&self) -> bool {
        self.get(ENABLE) & ENABLED != 0
    }

    fn latch(&mut self) {
        self.live = Base { virt_width: self.get(VIRT_WIDTH), x: self.get(X_OFFSET), y: self.get(Y_OFFSET) };
        self.stale_since = None;
    }

    /// Bytes from one row to the next, by the base in effect.
    fn stride(&self) -> u64 {
        let pixels = self.live.virt_width.max(self.get(XRES));
        u64::from(pixels).saturating_mul(u64::from(BYTES_PER_PIXEL))
    }

    /// In how much time a base that waits takes effect, if one does and nobody writes again. `now` is asked only then.
    pub fn settles_in(&self, now: impl FnOnce() -> Duration) -> Option<Duration> {
        let since = self.stale_since?;
        Some(LATCH_TIMEOUT.saturating_sub(now().saturating_sub(since)))
    }

    /// The scanout: its geometry and the offset of its first pixel in the video memory, in bytes. `None` while the
    /// display is off, its mode is none (not 32 bits per pixel, a side below 64), or does not fit the video memory.
    /// `now` is asked only while a base waits.
    pub fn scanout(&mut self, now: impl FnOnce() -> Duration) -> Option<(Geometry, u64)> {
        if let Some(since) = self.stale_since
            && now().saturating_sub(since) >= LATCH_TIMEOUT
        {
            self.latch();
        }
        let (width, height) = (u32::from(self.get(XRES)), u32::from(self.get(YRES)));
        if !self.is_enabled() || self.get(BPP) != 32 || width < MIN_DIMENSION || height < MIN_DIMENSION {
            return None;
        }
        let stride = self.stride();
        let geometry = Geometry::new(width, height, u32::try_from(stride).ok()?, BYTES_PER_PIXEL).ok()?;
        let column = u64::from(self.live.x).checked_mul(u64::from(BYTES_PER_PIXEL))?;
        let offset = u64::from(self.live.y).checked_mul(stride)?.checked_add(column)?;
        let end = offset.checked_add(geometry.bytes())?;
        (end <= self.vram_size).then_some((geometry, offset))
    }
}

impl ByteOrder {
    /// The value of the qext byte order register (QEMU docs/specs/standard-vga.rst).
    #[must_use]
    pub const fn raw(self) -> u32 {
        match self {
            Self::Little => 0x1e1e_1e1e,
            Self::Big => 0xbebe_bebe,
        }
    }

    /// The order that this register value selects, if it selects one.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Option<Self> {
        match raw {
            0x1e1e_1e1e => Some(Self::Little),
            0xbebe_bebe => Some(Self::Big),
            _ => None,
        }
    }

    /// The format of 32-bit pixels in this order.
    #[must_use]
    pub const fn format(self) -> Fourcc {
        match self {
            Self::Little => Fourcc::XRGB8888,
            Self::Big => Fourcc::BGRX8888,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VRAM: u64 = 16 << 20;
    const T0: Duration = Duration::ZERO;

    fn at(seconds: u64) -> impl FnOnce() -> Duration {
        move || Duration::from_secs(seconds)
    }

    /// The sequence of Linux's bochs-drm.
    fn set_mode(dispi: &mut Dispi, width: u16, height: u16) -> Effect {
        let writes =
            [(ENABLE, 0), (BPP, 32), (XRES, width), (YRES, height), (5, 0), (VIRT_WIDTH, width), (7, 4000)];
        for (register, value) in writes {
            assert_eq!(dispi.write(register, value, T0), Effect::None);
        }
        let _ = dispi.write(X_OFFSET, 0, T0);
        let _ = dispi.write(Y_OFFSET, 0, T0);
        dispi.write(ENABLE, 0x41, T0)
    }

    fn on(width: u16, height: u16) -> Dispi {
        let mut dispi = Dispi::new(VRAM, (1920, 1440));
        let _ = set_mode(&mut dispi, width, height);
        dispi
    }

    #[test]
    fn drivers_find_the_version_they_probe_for() {
        let mut dispi = Dispi::new(VRAM, (0, 0));
        assert_eq!((dispi.read(ID), dispi.read(VIDEO_MEMORY_64K)), (0xb0c5, 256));
        for version in 0xb0c0..=0xb0c5 {
            let _ = dispi.write(ID, version, T0);
            assert_eq!(dispi.read(ID), version);
        }
        for nonsense in [0, 0xb0c6, 0xb0bf, 0xffff] {
            let _ = dispi.write(ID, nonsense, T0);
            assert_eq!(dispi.read(ID), 0xb0c5);
        }
        let _ = dispi.write(VIDEO_MEMORY_64K, 1, T0);
        assert_eq!(dispi.read(VIDEO_MEMORY_64K), 256);
    }

    #[test]
    fn getcaps_reports_limits_and_leaves_the_mode_alone() {
        let mut dispi = on(1024, 768);
        let _ = dispi.write(ENABLE, 0x41 | GETCAPS, T0);
        assert_eq!((dispi.read(XRES), dispi.read(YRES), dispi.read(BPP)), (1920, 1440, 32));
        assert_eq!(dispi.scanout(at(0)).unwrap().0.width(), 1024);
        let _ = dispi.write(ENABLE, 0x41, T0);
        assert_eq!(dispi.read(XRES), 1024);
        let mut unlimited = Dispi::new(64 << 20, (0, 0));
        let _ = unlimited.write(ENABLE, GETCAPS, T0);
        assert_eq!(unlimited.read(XRES), 8192);
        assert!(unlimited.scanout(at(0)).is_none(), "asking for limits switches nothing on");
    }

    #[test]
    fn a_mode_set_clears_what_it_shows_unless_told_not_to() {
        let mut dispi = Dispi::new(VRAM, (0, 0));
        assert_eq!(set_mode(&mut dispi, 800, 600), Effect::Clear(800 * 600 * 4));
        assert_eq!(dispi.write(ENABLE, 0x41, T0), Effect::None, "it is on already");
        let _ = dispi.write(ENABLE, 0, T0);
        assert_eq!(dispi.write(ENABLE, 0x41 | NOCLEARMEM, T0), Effect::None);
    }

    #[test]
    fn a_base_is_never_seen_half_written() {
        let mut dispi = on(640, 480);
        let before = dispi.scanout(at(0));
        let _ = dispi.write(VIRT_WIDTH, 800, T0);
        assert_eq!(dispi.scanout(at(0)), before);
        let _ = dispi.write(X_OFFSET, 16, T0);
        assert_eq!(dispi.scanout(at(0)), before);
        assert_eq!(dispi.read(X_OFFSET), 16, "the guest reads what it wrote");
        let _ = dispi.write(Y_OFFSET, 480, T0);
        let (geometry, offset) = dispi.scanout(at(0)).unwrap();
        assert_eq!((geometry.stride(), offset), (3200, 480 * 3200 + 16 * 4));
    }

    #[test]
    fn a_base_that_is_never_completed_takes_effect_in_the_end() {
        let mut dispi = on(640, 480);
        let _ = dispi.write(X_OFFSET, 8, Duration::from_secs(10));
        assert_eq!(dispi.scanout(at(10)).unwrap().1, 0);
        assert_eq!(dispi.settles_in(at(10)), Some(LATCH_TIMEOUT));
        assert_eq!(dispi.settles_in(at(12)), Some(Duration::ZERO), "overdue, nobody has looked");
        assert_eq!(dispi.scanout(at(11)).unwrap().1, 32);
        assert_eq!(dispi.settles_in(at(11)), None);
    }

    #[test]
    fn what_is_no_mode_or_does_not_fit_is_off() {
        assert!(on(63, 480).scanout(at(0)).is_none());
        assert!(on(640, 63).scanout(at(0)).is_none());
        assert!(on(2560, 1600).scanout(at(0)).is_some(), "fits, whatever the announced maximum");
        assert!(on(4096, 4096).scanout(at(0)).is_none());
        let mut dispi = on(1024, 768);
        let _ = dispi.write(Y_OFFSET, 4096 - 768, T0);
        assert!(dispi.scanout(at(0)).is_some(), "up to the last byte");
        let _ = dispi.write(Y_OFFSET, 4096 - 767, T0);
        assert!(dispi.scanout(at(0)).is_none());
        let mut sixteen = on(1024, 768);
        let _ = sixteen.write(BPP, 16, T0);
        assert!(sixteen.scanout(at(0)).is_none());
    }

    /// Every combination of the numbers at which the arithmetic turns, against arithmetic that has room.
    #[test]
    fn the_scanout_is_right_at_every_edge() {
        const EDGES: [u16; 12] = [0, 1, 63, 64, 65, 1023, 1024, 4096, 0x7fff, 0x8000, 0xfffe, 0xffff];
        for (width, height) in EDGES.into_iter().flat_map(|w| EDGES.map(|h| (w, h))) {
            let mut dispi = on(width, height);
            for (virt, x) in EDGES.into_iter().flat_map(|v| EDGES.map(|x| (v, x))) {
                for y in EDGES {
                    for (register, value) in [(VIRT_WIDTH, virt), (X_OFFSET, x), (Y_OFFSET, y)] {
                        let _ = dispi.write(register, value, T0);
                    }
                    let [w, h, x, y] = [width, height, x, y].map(u128::from);
                    let stride = u128::from(dispi.stride());
                    let is_mode = w >= 64 && h >= 64 && stride >= w * 4;
                    let start = y * stride + x * 4;
                    let expected = is_mode && start + h * stride <= u128::from(VRAM);
                    let scanout = dispi.scanout(at(0));
                    assert_eq!(scanout.is_some(), expected, "{width}x{height} of {virt} at {x}, {y}");
                    if let Some((geometry, offset)) = scanout {
                        assert_eq!((u128::from(offset), u128::from(geometry.stride())), (start, stride));
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_the_scanout_fits(writes in proptest::collection::vec((0..14usize, any::<u16>()), 0..80)) {
            let mut dispi = on(640, 480);
            for (n, (register, value)) in (0u64..).zip(writes) {
                let _ = dispi.write(register, value, Duration::from_millis(n * 300));
                let _ = dispi.read(register);
                if let Some((geometry, offset)) = dispi.scanout(|| Duration::from_millis(n * 300)) {
                    prop_assert!(offset + geometry.bytes() <= VRAM);
                    prop_assert!(geometry.width() >= 64 && geometry.height() >= 64);
                }
            }
        }
    }
}
