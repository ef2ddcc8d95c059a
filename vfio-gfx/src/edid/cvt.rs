//! Timings from a mode: VESA CVT 1.2, "reduced blanking" version 1.
//!
//! Of the CVT variants this one suits descriptors best: its porches and pulses are fixed and small (the
//! slack goes to the vertical back porch, which no descriptor stores), and it accepts every width to the
//! pixel. It differs from the formula in two points: the clock is rounded to the descriptor's 10 kHz, not
//! down to 250 kHz, so that the rate is the one that was asked for (1366x768 would be 59.7 Hz otherwise);
//! and tiny modes are blanked for longer, so that their clock is one that readers believe.

use super::mode::{Mode, Timing};

/// Shortest vertical blanking, in nanoseconds (CVT 1.2, `RB_MIN_V_BLANK`).
const MIN_V_BLANK_NS: u64 = 460_000;
/// Vertical front porch, in lines.
const V_FRONT: u32 = 3;
/// Least vertical back porch, in lines.
const MIN_V_BACK: u32 = 6;
/// Lowest pixel clock, in mHz: 10 MHz, below which `edid-decode` takes a timing for garbage.
const MIN_CLOCK_MHZ: u64 = 10_000_000_000;
/// Horizontal blanking, in pixels.
const H_BLANK: u32 = 160;
/// Horizontal sync pulse, in pixels; the rest of the blanking is 48 before it and 80 after it.
const H_SYNC: u32 = 32;
/// Horizontal front porch, in pixels.
const H_FRONT: u32 = 48;

impl Timing {
    /// The reduced-blanking timing for a progressive mode, or `None` if there is none: the rate leaves no
    /// time for a picture besides the blanking (2173 Hz), is zero, or the clock is beyond 32 bits of kHz.
    #[must_use]
    pub fn reduced_blanking(mode: Mode) -> Option<Self> {
        let rate = u64::from(mode.refresh_mhz);
        let period_ns = 1_000_000_000_000_u64.checked_div(rate)?;
        let visible_ns = period_ns.checked_sub(MIN_V_BLANK_NS)?;
        let lines =
            MIN_V_BLANK_NS.checked_mul(u64::from(mode.height))?.checked_div(visible_ns)?.checked_add(1)?;

        let v_sync = sync_lines(mode);
        let least = V_FRONT.saturating_add(v_sync).saturating_add(MIN_V_BACK);
        let v_blank = u32::try_from(lines).ok()?.max(least);
        let h_total = u64::from(mode.width.checked_add(H_BLANK)?);
        let slowest = MIN_CLOCK_MHZ.div_ceil(h_total.checked_mul(rate)?);
        let v_total = u64::from(mode.height.checked_add(v_blank)?).max(slowest);
        let v_blank = u32::try_from(v_total).ok()?.checked_sub(mode.height)?;

        // totals x millihertz, in steps of 10 kHz = 10_000_000 mHz, to nearest
        let exact = h_total.checked_mul(v_total)?.checked_mul(rate)?;
        let steps = exact.checked_add(5_000_000)? / 10_000_000;
        Some(Self {
            clock_khz: u32::try_from(steps.checked_mul(10)?).ok()?,
            h_active: mode.width,
            h_blank: H_BLANK,
            h_front: H_FRONT,
            h_sync: H_SYNC,
            v_active: mode.height,
            v_blank,
            v_front: V_FRONT,
            v_sync,
            h_positive: true,
            v_positive: false,
            interlaced: false,
            size_mm: None,
        })
    }
}

/// CVT encodes the picture's shape in the length of the vertical sync pulse (CVT 1.2): a shape
/// it knows is one whose width, from the height and rounded down to 8 pixels, is this mode's.
fn sync_lines(mode: Mode) -> u32 {
    let shapes = [(4, 3, 4), (16, 9, 5), (16, 10, 6), (5, 4, 7), (15, 9, 7)];
    let matches = |horizontal: u64, vertical: u64| {
        let width = u64::from(mode.height).saturating_mul(horizontal).checked_div(vertical);
        width.map(|width| width & !7) == Some(u64::from(mode.width))
    };
    shapes.into_iter().find(|&(h, v, _)| matches(h, v)).map_or(10, |(_, _, lines)| lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CVT's own answers, except for the clock (see the module text).
    #[test]
    fn blanking_is_cvts() {
        for (width, height, v_blank, v_sync) in [
            (1366, 768, 22, 10),
            (1920, 1080, 31, 5),
            (2560, 1600, 46, 6),
            (1280, 1024, 30, 7),
            (7680, 4320, 123, 5),
        ] {
            let timing = Timing::reduced_blanking(Mode::new(width, height)).unwrap();
            assert_eq!((timing.v_blank, timing.v_sync), (v_blank, v_sync), "{width}x{height}");
        }
    }

    #[test]
    fn rate_is_the_one_asked_for() {
        for refresh_mhz in [24_000, 59_940, 60_000, 75_000, 144_000, 240_000] {
            let mode = Mode { refresh_mhz, ..Mode::new(1366, 768) };
            let timing = Timing::reduced_blanking(mode).unwrap();
            assert!(timing.refresh_mhz().abs_diff(refresh_mhz) <= 5, "{}", timing.mode());
        }
    }

    #[test]
    fn slow_modes_have_a_clock_to_be_believed() {
        for mode in [Mode::new(64, 64), Mode::new(320, 200)] {
            let timing = Timing::reduced_blanking(mode).unwrap();
            assert!((10_000..10_050).contains(&timing.clock_khz), "{timing:?}");
            assert!(timing.refresh_mhz().abs_diff(60_000) <= 30, "{timing:?}");
        }
    }

    #[test]
    fn impossible_rates_have_no_timing() {
        for refresh_mhz in [0, 2_174_000, u32::MAX] {
            assert_eq!(Timing::reduced_blanking(Mode { refresh_mhz, ..Mode::new(640, 480) }), None);
        }
        let huge = Mode { width: u32::MAX, height: u32::MAX, refresh_mhz: 60_000 };
        assert_eq!(Timing::reduced_blanking(huge), None);
    }
}
