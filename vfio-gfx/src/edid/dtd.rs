//! Timings as the base block and CTA extensions store them: 18 byte detailed timing descriptors.

use zerocopy::transmute;

use super::layout::{Descriptor, DetailedTiming};
use super::mode::Timing;

/// Flags: the sync signals are digital and separate (bits 4 and 3).
const SEPARATE_SYNC: u8 = 0x18;
const V_POSITIVE: u8 = 0x04;
const H_POSITIVE: u8 = 0x02;
const INTERLACED: u8 = 0x80;

impl Timing {
    /// The descriptor of this timing, or `None` if a field is too small for it: 4095 for sizes and
    /// blanking, 1023 and 63 for horizontal and vertical porch and pulse, 655.35 MHz.
    pub(super) fn to_descriptor(self) -> Option<Descriptor> {
        let [h_active, h_active_hi] = split(self.h_active, 12)?;
        let [h_blank, h_blank_hi] = split(self.h_blank, 12)?;
        let [v_active, v_active_hi] = split(self.v_active, 12)?;
        let [v_blank, v_blank_hi] = split(self.v_blank, 12)?;
        let [h_front, h_front_hi] = split(self.h_front, 10)?;
        let [h_sync, h_sync_hi] = split(self.h_sync, 10)?;
        let [v_front, _] = split(self.v_front, 6)?;
        let [v_sync, _] = split(self.v_sync, 6)?;
        let (width_mm, height_mm) = self.size_mm.unwrap_or((0, 0));
        let [width_mm, width_hi] = split(width_mm, 12)?;
        let [height_mm, height_hi] = split(height_mm, 12)?;
        let clock = u16::try_from(self.clock_khz / 10).ok().filter(|&clock| clock != 0)?;

        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        Some(transmute!(DetailedTiming {
            clock: clock.into(),
            h_active,
            h_blank,
            h_upper: h_active_hi << 4 | h_blank_hi,
            v_active,
            v_blank,
            v_upper: v_active_hi << 4 | v_blank_hi,
            h_front,
            h_sync,
            v_front_sync: v_front << 4 | v_sync & 0x0f,
            front_sync_upper: h_front_hi << 6 | h_sync_hi << 4 | (v_front >> 4) << 2 | v_sync >> 4,
            width_mm,
            height_mm,
            size_upper: width_hi << 4 | height_hi,
            border: [0, 0],
            flags: SEPARATE_SYNC
                | flag(self.v_positive, V_POSITIVE)
                | flag(self.h_positive, H_POSITIVE)
                | flag(self.interlaced, INTERLACED),
        }))
    }

    /// Reads a descriptor, or `None` if it is not a timing (its clock is zero).
    pub(super) fn from_descriptor(descriptor: Descriptor) -> Option<Self> {
        let raw: DetailedTiming = transmute!(descriptor);
        if raw.clock == 0 {
            return None;
        }
        let separate = raw.flags & SEPARATE_SYNC == SEPARATE_SYNC;
        let width_mm = join(raw.width_mm, raw.size_upper >> 4);
        let height_mm = join(raw.height_mm, raw.size_upper & 0x0f);
        Some(Self {
            clock_khz: u32::from(raw.clock).saturating_mul(10),
            h_active: join(raw.h_active, raw.h_upper >> 4),
            h_blank: join(raw.h_blank, raw.h_upper & 0x0f),
            h_front: join(raw.h_front, raw.front_sync_upper >> 6),
            h_sync: join(raw.h_sync, raw.front_sync_upper >> 4 & 3),
            v_active: join(raw.v_active, raw.v_upper >> 4),
            v_blank: join(raw.v_blank, raw.v_upper & 0x0f),
            v_front: u32::from(raw.v_front_sync >> 4 | (raw.front_sync_upper >> 2 & 3) << 4),
            v_sync: u32::from(raw.v_front_sync & 0x0f | (raw.front_sync_upper & 3) << 4),
            h_positive: separate && raw.flags & H_POSITIVE != 0,
            v_positive: separate && raw.flags & V_POSITIVE != 0,
            interlaced: raw.flags & INTERLACED != 0,
            size_mm: (width_mm != 0 && height_mm != 0).then_some((width_mm, height_mm)),
        })
    }
}

/// Lower eight bits and the rest of a value of so many bits, or `None` if it has more.
fn split(value: u32, bits: u32) -> Option<[u8; 2]> {
    let [low, high, 0, 0] = value.to_le_bytes() else {
        return None;
    };
    (value.checked_shr(bits)? == 0).then_some([low, high])
}

fn join(low: u8, high: u8) -> u32 {
    u32::from(u16::from_le_bytes([low, high]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reads_back(
            clock in 1..=65535_u32,
            h_active in 0..=4095_u32, h_blank in 0..=4095_u32, h_front in 0..=1023_u32, h_sync in 0..=1023_u32,
            v_active in 0..=4095_u32, v_blank in 0..=4095_u32, v_front in 0..=63_u32, v_sync in 0..=63_u32,
            flags in any::<[bool; 3]>(),
            size in (1..=4095_u32, 1..=4095_u32),
        ) {
            let [h_positive, v_positive, interlaced] = flags;
            let timing = Timing {
                clock_khz: clock * 10, h_active, h_blank, h_front, h_sync, v_active, v_blank, v_front, v_sync,
                h_positive, v_positive, interlaced, size_mm: Some(size),
            };
            prop_assert_eq!(Timing::from_descriptor(timing.to_descriptor().unwrap()), Some(timing));
        }
    }

    #[test]
    fn too_big_has_no_descriptor() {
        let timing = Timing::reduced_blanking(super::super::Mode::new(1024, 768)).unwrap();
        assert!(timing.to_descriptor().is_some());
        assert!(Timing { h_active: 4096, ..timing }.to_descriptor().is_none());
        assert!(Timing { v_sync: 64, ..timing }.to_descriptor().is_none());
        assert!(Timing { clock_khz: 655_360, ..timing }.to_descriptor().is_none());
        assert!(Timing { clock_khz: 9, ..timing }.to_descriptor().is_none());
    }
}
