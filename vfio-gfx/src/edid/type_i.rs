//! Timings as DisplayID stores them, for sizes and clocks that a detailed timing descriptor cannot hold.

use zerocopy::transmute;

use super::layout::BigTiming;
use super::mode::Timing;

/// Flags: this is the preferred timing.
const PREFERRED: u8 = 0x80;
const INTERLACED: u8 = 0x10;
/// In the front porch's field: the sync pulse is positive.
const POSITIVE: u16 = 0x8000;

/// Data block tag of type I timings (DisplayID 1.x), whose clock is in units of 10 kHz.
pub(super) const TAG_TYPE_I: u8 = 0x03;
/// Data block tag of type VII timings (DisplayID 2.0), whose clock is in kHz.
pub(super) const TAG_TYPE_VII: u8 = 0x22;
/// Bytes of one timing of either type.
pub(super) const TIMING_SIZE: usize = 20;

/// Aspect ratios in the order of the lower four bits of the flags; one that is not listed is "undefined".
const ASPECTS: [(u64, u64); 6] = [(1, 1), (5, 4), (4, 3), (15, 9), (16, 9), (16, 10)];
const ASPECT_UNDEFINED: u8 = 8;

impl Timing {
    /// This timing as a preferred type I timing, or `None` if it is interlaced or a field is too small for it:
    /// 65536 for most, 32768 for the front porches, 167.77 GHz.
    pub(super) fn to_type_i(self) -> Option<[u8; TIMING_SIZE]> {
        if self.interlaced {
            return None;
        }
        let [a, b, c, 0] = (self.clock_khz / 10).checked_sub(1)?.to_le_bytes() else {
            return None;
        };
        let front = |value: u32, positive: bool| {
            let value = less_one(value).filter(|value| value & POSITIVE == 0)?;
            Some(if positive { value | POSITIVE } else { value })
        };
        Some(transmute!(BigTiming {
            clock: [a, b, c],
            flags: PREFERRED | aspect(self),
            h_active: less_one(self.h_active)?.into(),
            h_blank: less_one(self.h_blank)?.into(),
            h_front: front(self.h_front, self.h_positive)?.into(),
            h_sync: less_one(self.h_sync)?.into(),
            v_active: less_one(self.v_active)?.into(),
            v_blank: less_one(self.v_blank)?.into(),
            v_front: front(self.v_front, self.v_positive)?.into(),
            v_sync: less_one(self.v_sync)?.into(),
        }))
    }

    /// Reads a timing of type I or VII and whether it is marked as preferred.
    pub(super) fn from_display_id(bytes: [u8; TIMING_SIZE], tag: u8) -> (Self, bool) {
        let raw: BigTiming = transmute!(bytes);
        let [a, b, c] = raw.clock;
        let clock = u32::from_le_bytes([a, b, c, 0]).saturating_add(1);
        let unit_khz = if tag == TAG_TYPE_VII { 1 } else { 10 };
        let plus_one = |value: u16| u32::from(value).saturating_add(1);
        let (h_front, v_front) = (raw.h_front.get(), raw.v_front.get());
        let interlaced = raw.flags & INTERLACED != 0;
        // lines are counted over both fields here, unlike in a detailed timing descriptor
        let field = |lines: u32| if interlaced { lines / 2 } else { lines };
        let timing = Self {
            clock_khz: clock.saturating_mul(unit_khz),
            h_active: plus_one(raw.h_active.get()),
            h_blank: plus_one(raw.h_blank.get()),
            h_front: plus_one(h_front & !POSITIVE),
            h_sync: plus_one(raw.h_sync.get()),
            v_active: field(plus_one(raw.v_active.get())),
            v_blank: field(plus_one(raw.v_blank.get())),
            v_front: plus_one(v_front & !POSITIVE),
            v_sync: plus_one(raw.v_sync.get()),
            h_positive: h_front & POSITIVE != 0,
            v_positive: v_front & POSITIVE != 0,
            interlaced,
            size_mm: None,
        };
        (timing, raw.flags & PREFERRED != 0)
    }
}

fn less_one(value: u32) -> Option<u16> {
    u16::try_from(value.checked_sub(1)?).ok()
}

fn aspect(timing: Timing) -> u8 {
    let (width, height) = (u64::from(timing.h_active), u64::from(timing.v_active));
    let same = |&(_, (w, h)): &(u8, (u64, u64))| width.saturating_mul(h) == height.saturating_mul(w);
    (0..).zip(ASPECTS).find(same).map_or(ASPECT_UNDEFINED, |(code, _)| code)
}

#[cfg(test)]
mod tests {
    use super::super::Mode;
    use super::*;

    #[test]
    fn reads_back_as_preferred() {
        for (width, height) in [(7680, 4320), (5120, 2880), (4097, 64), (65536, 64)] {
            let timing = Timing::reduced_blanking(Mode::new(width, height)).unwrap();
            let stored = timing.to_type_i().unwrap();
            assert_eq!(Timing::from_display_id(stored, TAG_TYPE_I), (timing, true));
        }
    }

    #[test]
    fn flags_are_read_as_they_are() {
        let timing = Timing { h_positive: false, ..Timing::reduced_blanking(Mode::new(5120, 2880)).unwrap() };
        let mut stored = timing.to_type_i().unwrap();
        stored[3] &= !PREFERRED;
        assert_eq!(Timing::from_display_id(stored, TAG_TYPE_I), (timing, false));
    }

    #[test]
    fn the_aspect_ratio_is_told_where_it_has_a_code() {
        for (width, height, code) in
            [(5000, 5000, 0), (5120, 4096, 1), (7680, 4320, 4), (5120, 3200, 5), (5000, 64, 8)]
        {
            let stored = Timing::reduced_blanking(Mode::new(width, height)).unwrap().to_type_i().unwrap();
            assert_eq!(stored[3] & 0x0f, code, "{width}x{height}");
        }
    }

    #[test]
    fn interlaced_lines_are_those_of_both_fields() {
        let mut stored = Timing::reduced_blanking(Mode::new(5120, 2880)).unwrap().to_type_i().unwrap();
        stored[3] |= INTERLACED;
        let mode = Timing::from_display_id(stored, TAG_TYPE_I).0.mode();
        assert_eq!((mode.width, mode.height), (5120, 2880));
        assert!(mode.refresh_mhz.abs_diff(120_000) < 50, "{mode}");
    }

    #[test]
    fn clock_units_differ() {
        let timing = Timing::reduced_blanking(Mode::new(5120, 2880)).unwrap();
        let (seven, _) = Timing::from_display_id(timing.to_type_i().unwrap(), TAG_TYPE_VII);
        assert_eq!(seven.clock_khz * 10, timing.clock_khz);
    }

    #[test]
    fn nothing_stored_where_a_field_is_too_small() {
        let timing = Timing::reduced_blanking(Mode::new(5120, 2880)).unwrap();
        assert!(Timing { h_active: 65537, ..timing }.to_type_i().is_none());
        assert!(Timing { v_front: 32769, ..timing }.to_type_i().is_none());
        assert!(Timing { h_sync: 0, ..timing }.to_type_i().is_none());
        assert!(Timing { clock_khz: 167_772_170, ..timing }.to_type_i().is_none());
    }
}
