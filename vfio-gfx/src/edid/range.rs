//! Display range limits: between which rates everything on offer lies (E-EDID 3.10.3.3).

use zerocopy::transmute;

use super::common_modes::Listed;
use super::layout::{DESCRIPTOR_RANGE, Descriptor, DisplayDescriptor};

/// Added to a limit whose flag says so.
const OFFSET: u32 = 255;
/// Byte 10: limits only, no formula (GTF, CVT) by which a guest might make timings of its own. With one,
/// the modes offered could not be bounded.
const LIMITS_ONLY: u8 = 0x01;

/// Lowest and highest rates, rounded outwards to what the descriptor stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeLimits {
    /// Lowest refresh rate in Hz.
    pub min_v_hz: u32,
    /// Highest refresh rate in Hz.
    pub max_v_hz: u32,
    /// Lowest line rate in kHz.
    pub min_h_khz: u32,
    /// Highest line rate in kHz.
    pub max_h_khz: u32,
    /// Highest pixel clock in MHz, a multiple of 10.
    pub max_clock_mhz: u32,
}

impl RangeLimits {
    /// Limits that nothing is within, to [`include`](Self::include) rasters in.
    pub(super) const EMPTY: Self =
        Self { min_v_hz: u32::MAX, max_v_hz: 0, min_h_khz: u32::MAX, max_h_khz: 0, max_clock_mhz: 0 };

    /// Widens the limits to cover this one.
    pub(super) fn include(&mut self, raster: impl Into<Listed>) {
        let raster = raster.into();
        let total = u64::from(raster.h_total).saturating_mul(u64::from(raster.v_total));
        let (v_floor, v_ceil) = divide(u64::from(raster.clock_khz).saturating_mul(1000), total);
        let (h_floor, h_ceil) = divide(raster.clock_khz.into(), raster.h_total.into());
        self.min_v_hz = self.min_v_hz.min(v_floor);
        self.max_v_hz = self.max_v_hz.max(v_ceil);
        self.min_h_khz = self.min_h_khz.min(h_floor);
        self.max_h_khz = self.max_h_khz.max(h_ceil);
        let tens = raster.clock_khz.div_ceil(10_000);
        self.max_clock_mhz = self.max_clock_mhz.max(tens.saturating_mul(10));
    }

    /// The descriptor, or `None` if a limit is beyond it: 1 to 510 Hz and kHz, 2550 MHz.
    pub(super) fn encode(self) -> Option<Descriptor> {
        let (v_flags, min_v, max_v) = encode_pair(self.min_v_hz, self.max_v_hz)?;
        let (h_flags, min_h, max_h) = encode_pair(self.min_h_khz, self.max_h_khz)?;
        let clock = u8::try_from(self.max_clock_mhz / 10).ok().filter(|&clock| clock != 0)?;
        Some(transmute!(DisplayDescriptor {
            zero: [0; 3],
            tag: DESCRIPTOR_RANGE,
            flags: h_flags << 2 | v_flags,
            data: [min_v, max_v, min_h, max_h, clock, LIMITS_ONLY, b'\n', b' ', b' ', b' ', b' ', b' ', b' ',],
        }))
    }

    /// Reads a range limits descriptor.
    pub(super) fn decode(descriptor: DisplayDescriptor) -> Self {
        let [min_v, max_v, min_h, max_h, clock, ..] = descriptor.data;
        let limit = |value: u8, flags: u8, both: u8| {
            let offset = if flags & both == both { OFFSET } else { 0 };
            u32::from(value).saturating_add(offset)
        };
        Self {
            min_v_hz: limit(min_v, descriptor.flags, 0b0011),
            max_v_hz: limit(max_v, descriptor.flags, 0b0010),
            min_h_khz: limit(min_h, descriptor.flags, 0b1100),
            max_h_khz: limit(max_h, descriptor.flags, 0b1000),
            max_clock_mhz: u32::from(clock).saturating_mul(10),
        }
    }
}

/// Flags (bit 1: the upper limit has an offset, bit 0: the lower one too) and the two limits.
fn encode_pair(min: u32, max: u32) -> Option<(u8, u8, u8)> {
    let (flags, min, max) = if min > OFFSET {
        (0b11, min.checked_sub(OFFSET)?, max.checked_sub(OFFSET)?)
    } else if max > OFFSET {
        (0b10, min, max.checked_sub(OFFSET)?)
    } else {
        (0b00, min, max)
    };
    if min == 0 || max == 0 {
        return None;
    }
    Some((flags, u8::try_from(min).ok()?, u8::try_from(max).ok()?))
}

/// The quotient rounded down and up.
fn divide(a: u64, b: u64) -> (u32, u32) {
    let down = a.checked_div(b).unwrap_or(0);
    let up = if b == 0 { 0 } else { a.div_ceil(b) };
    let clamp = |value| u32::try_from(value).unwrap_or(u32::MAX);
    (clamp(down), clamp(up))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn covers_what_it_includes() {
        let mut limits = RangeLimits::EMPTY;
        // 1024x768: 60.004 Hz, 48.363 kHz
        limits.include(Listed { width: 1024, height: 768, clock_khz: 65_000, h_total: 1344, v_total: 806 });
        let expected =
            RangeLimits { min_v_hz: 60, max_v_hz: 61, min_h_khz: 48, max_h_khz: 49, max_clock_mhz: 70 };
        assert_eq!(limits, expected);
        assert_eq!(RangeLimits::EMPTY.encode(), None);
    }

    proptest! {
        #[test]
        fn reads_back(a in 1..=510_u32, b in 1..=510_u32, c in 1..=510_u32, d in 1..=510_u32, clock in 1..=255_u32) {
            let limits = RangeLimits {
                min_v_hz: a.min(b), max_v_hz: a.max(b), min_h_khz: c.min(d), max_h_khz: c.max(d),
                max_clock_mhz: clock * 10,
            };
            let descriptor = limits.encode().unwrap();
            prop_assert_eq!(RangeLimits::decode(transmute!(descriptor)), limits);
        }

        #[test]
        fn beyond_the_descriptor_is_refused(v in 511..u32::MAX) {
            let limits = RangeLimits { min_v_hz: 1, max_v_hz: 60, min_h_khz: 1, max_h_khz: v, max_clock_mhz: 10 };
            prop_assert_eq!(limits.encode(), None);
        }
    }
}
