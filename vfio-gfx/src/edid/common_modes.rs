//! Modes that the base block names by a code instead of spelling them out (established and standard
//! timings), and the sizes that are spelled out because they have no code.
//!
//! A code stands for a fixed timing. The few numbers of it given here are what the display range limits
//! have to cover; they are from VESA DMT 1.13.

use super::mode::{Mode, Timing};

/// A size and the raster it is shown with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) clock_khz: u32,
    pub(super) h_total: u32,
    pub(super) v_total: u32,
}

impl Listed {
    const fn new((width, height): (u32, u32), clock_khz: u32, h_total: u32, v_total: u32) -> Self {
        Self { width, height, clock_khz, h_total, v_total }
    }
}

impl From<Timing> for Listed {
    fn from(timing: Timing) -> Self {
        let size = (timing.h_active, timing.v_active);
        Self::new(size, timing.clock_khz, timing.h_total(), timing.v_total())
    }
}

/// Established timings that are offered, as their bits in the three bytes. Only those of 60 Hz: a virtual
/// display has one rate, and others would list each size several times.
pub(super) const ESTABLISHED: [([u8; 3], Listed); 3] = [
    ([0x20, 0, 0], Listed::new((640, 480), 25_175, 800, 525)),
    ([0x01, 0, 0], Listed::new((800, 600), 40_000, 1056, 628)),
    ([0, 0x08, 0], Listed::new((1024, 768), 65_000, 1344, 806)),
];

/// Standard timings that are offered, all at 60 Hz; a base block takes the first eight that are allowed.
pub(super) const STANDARD: [Listed; 13] = [
    Listed::new((1920, 1080), 148_500, 2200, 1125),
    Listed::new((1280, 1024), 108_000, 1688, 1066),
    Listed::new((1280, 720), 74_250, 1650, 750),
    Listed::new((1600, 1200), 162_000, 2160, 1250),
    Listed::new((1680, 1050), 146_250, 2240, 1089),
    Listed::new((1440, 900), 106_500, 1904, 934),
    Listed::new((1280, 800), 83_500, 1680, 831),
    Listed::new((1920, 1200), 193_250, 2592, 1245),
    Listed::new((1600, 900), 108_000, 1800, 1000),
    Listed::new((2048, 1152), 162_000, 2250, 1200),
    Listed::new((1920, 1440), 234_000, 2600, 1500),
    Listed::new((1400, 1050), 121_750, 1864, 1089),
    Listed::new((1280, 960), 108_000, 1800, 1000),
];

/// Sizes offered at 60 Hz as timings of the CTA extension. It could name 3840x2160 by a code, but the first
/// code would compete with the preferred timing (CTA-861-G 7.5.1), and its timing is a television's.
pub(super) const SPELLED_OUT: [(u32, u32); 5] =
    [(1366, 768), (2560, 1440), (2560, 1600), (3440, 1440), (3840, 2160)];

/// What an unused standard timing is filled with (E-EDID 3.9).
pub(super) const STANDARD_UNUSED: [u8; 2] = [0x01, 0x01];

/// Every established timing of E-EDID table 3.18, from the first byte's top bit on, at its nominal rate.
const ESTABLISHED_ALL: [(u32, u32, u32); 17] = [
    (720, 400, 70),
    (720, 400, 88),
    (640, 480, 60),
    (640, 480, 67),
    (640, 480, 72),
    (640, 480, 75),
    (800, 600, 56),
    (800, 600, 60),
    (800, 600, 72),
    (800, 600, 75),
    (832, 624, 75),
    (1024, 768, 87), // interlaced
    (1024, 768, 60),
    (1024, 768, 70),
    (1024, 768, 75),
    (1280, 1024, 75),
    (1152, 870, 75),
];

/// The modes whose bits are set in the three bytes of established timings.
pub(super) fn established([a, b, c]: [u8; 3]) -> impl Iterator<Item = Mode> {
    let bits = u32::from_be_bytes([a, b, c, 0]);
    let masks = (0..32).map(|n| 0x8000_0000_u32 >> n);
    ESTABLISHED_ALL
        .into_iter()
        .zip(masks)
        .filter(move |(_, mask)| bits & mask != 0)
        .map(|((width, height, hz), _)| Mode { width, height, refresh_mhz: u32::saturating_mul(hz, 1000) })
}

/// The bytes of a standard timing of 60 Hz, or `None` if there is none of this size.
pub(super) fn encode_standard(width: u32, height: u32) -> Option<[u8; 2]> {
    if !width.is_multiple_of(8) {
        return None;
    }
    let first = u8::try_from((width / 8).checked_sub(31)?).ok().filter(|&first| first != 0)?;
    (0..4).map(|aspect| [first, aspect << 6]).find(|&bytes| {
        decode_standard(bytes).is_some_and(|mode| (mode.width, mode.height) == (width, height))
    })
}

/// What a standard timing stands for, or `None` if it is unused (E-EDID table 3.19).
pub(super) fn decode_standard(bytes: [u8; 2]) -> Option<Mode> {
    let [first, second] = bytes;
    if bytes == STANDARD_UNUSED || first == 0 {
        return None;
    }
    let width = u32::from(first).saturating_add(31).saturating_mul(8);
    let (horizontal, vertical) = match second >> 6 {
        0 => (16, 10),
        1 => (4, 3),
        2 => (5, 4),
        _ => (16, 9),
    };
    let height = width.saturating_mul(vertical).checked_div(horizontal)?;
    let hz = u32::from(second & 0x3f).saturating_add(60);
    Some(Mode { width, height, refresh_mhz: hz.saturating_mul(1000) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_codes() {
        // codes as VESA DMT 1.13 lists them
        for ((width, height), code) in [
            ((1280, 720), [0x81, 0xc0]),
            ((1280, 800), [0x81, 0x00]),
            ((1280, 1024), [0x81, 0x80]),
            ((1600, 1200), [0xa9, 0x40]),
            ((2048, 1152), [0xe1, 0xc0]),
        ] {
            assert_eq!(encode_standard(width, height), Some(code));
            assert_eq!(decode_standard(code), Some(Mode::new(width, height)));
        }
        assert_eq!(encode_standard(1366, 768), None);
        assert_eq!(encode_standard(2560, 1440), None);
        assert_eq!(decode_standard(STANDARD_UNUSED), None);
    }

    #[test]
    fn every_offered_standard_timing_has_a_code() {
        for listed in STANDARD {
            assert!(encode_standard(listed.width, listed.height).is_some(), "{listed:?}");
        }
    }

    #[test]
    fn established_bits_are_what_they_say() {
        for (bits, listed) in ESTABLISHED {
            let modes: Vec<_> = established(bits).collect();
            assert_eq!(modes, [Mode::new(listed.width, listed.height)]);
        }
        assert_eq!(established([0xff; 3]).count(), 17);
    }

    #[test]
    fn every_listed_raster_runs_at_60_hz() {
        let listed = ESTABLISHED.map(|(_, l)| l).into_iter().chain(STANDARD);
        for l in listed {
            let rate = f64::from(l.clock_khz) * 1000.0 / f64::from(l.h_total) / f64::from(l.v_total);
            assert!((59.8..60.4).contains(&rate), "{l:?} {rate}");
            assert!(l.h_total > l.width && l.v_total > l.height, "{l:?}");
        }
    }
}
