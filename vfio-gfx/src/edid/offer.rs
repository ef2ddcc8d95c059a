//! Which modes a display offers, given what its [`Config`] allows, and the rates they span.

use super::common_modes::{ESTABLISHED, SPELLED_OUT, STANDARD, STANDARD_UNUSED, encode_standard};
use super::config::{Config, ConfigError};
use super::layout::Descriptor;
use super::mode::{Mode, Timing};
use super::range::RangeLimits;
use super::type_i::TIMING_SIZE;

/// The modes of one display, encoded.
pub(super) struct Offer {
    /// The base block's first descriptor: the preferred timing, or one near it if no descriptor holds it.
    pub(super) first: Descriptor,
    /// The preferred timing for DisplayID, if `first` is not the preferred one.
    pub(super) big: Option<[u8; TIMING_SIZE]>,
    pub(super) established: [u8; 3],
    pub(super) standard: [[u8; 2]; 8],
    /// Timings for the CTA extension; `None` if there is to be no such extension.
    pub(super) cta: Option<[Option<Descriptor>; SPELLED_OUT.len()]>,
    /// The range limits descriptor.
    pub(super) range: Descriptor,
}

impl Offer {
    /// Makes the offer. All spelled out timings fill the display, of which `size_mm` is the size.
    pub(super) fn new(config: &Config<'_>, size_mm: (u32, u32)) -> Result<Self, ConfigError> {
        let mode = config.preferred;
        let preferred = timing(mode, size_mm).ok_or(ConfigError::Refresh { found: mode.refresh_mhz })?;
        let too_fast = ConfigError::TooFast {
            mode,
            clock_khz: preferred.clock_khz,
            line_rate_hz: preferred.line_rate_hz(),
        };
        let mut range = RangeLimits::EMPTY;
        range.include(preferred);

        let (first, first_timing) = first_descriptor(preferred, size_mm).ok_or(too_fast)?;
        range.include(first_timing);
        let big = if first_timing == preferred { None } else { Some(preferred.to_type_i().ok_or(too_fast)?) };

        let mut established = [0; 3];
        for (bits, listed) in ESTABLISHED {
            if config.allows(listed.width, listed.height) {
                for (byte, bit) in established.iter_mut().zip(bits) {
                    *byte |= bit;
                }
                range.include(listed);
            }
        }

        let mut standard = [STANDARD_UNUSED; 8];
        let allowed = STANDARD.into_iter().filter(|listed| config.allows(listed.width, listed.height));
        for (slot, listed) in standard.iter_mut().zip(allowed) {
            *slot = encode_standard(listed.width, listed.height).unwrap_or(STANDARD_UNUSED);
            range.include(listed);
        }

        // CTA-861-G: every display that has the extension shows 640x480
        let cta = (config.cta && config.allows(640, 480)).then(|| {
            SPELLED_OUT.map(|size| {
                let timing = spelled_out(config, size, first_timing)?;
                range.include(timing);
                timing.to_descriptor()
            })
        });
        let range = range.encode().ok_or(too_fast)?;
        Ok(Self { first, big, established, standard, cta, range })
    }
}

/// The timing of a size at 60 Hz, unless it is not allowed or is the size of the first timing already.
fn spelled_out(config: &Config<'_>, (width, height): (u32, u32), first: Timing) -> Option<Timing> {
    let known = (first.h_active, first.v_active) == (width, height);
    if known || !config.allows(width, height) {
        return None;
    }
    timing(Mode::new(width, height), first.size_mm?)
}

/// The preferred timing as a descriptor, or, if none can hold it, the nearest that one can: the same size
/// at 60 Hz, or the size divided by 2, 3 or 4. It is for readers that do not know DisplayID.
fn first_descriptor(preferred: Timing, size_mm: (u32, u32)) -> Option<(Descriptor, Timing)> {
    let mode = preferred.mode();
    let refresh_mhz = mode.refresh_mhz.min(60_000);
    let side = |pixels: u32, divisor: u32| Some(pixels.checked_div(divisor)?.max(64));
    let divided = (1..=4).filter_map(|divisor| {
        let (width, height) = (side(mode.width, divisor)?, side(mode.height, divisor)?);
        timing(Mode { width, height, refresh_mhz }, size_mm)
    });
    std::iter::once(preferred).chain(divided).find_map(|t| Some((t.to_descriptor()?, t)))
}

fn timing(mode: Mode, size_mm: (u32, u32)) -> Option<Timing> {
    Some(Timing { size_mm: Some(size_mm), ..Timing::reduced_blanking(mode)? })
}
