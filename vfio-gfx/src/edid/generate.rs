//! The base block, and with it the whole EDID.

use zerocopy::transmute;

use super::blob::Edid;
use super::config::{Config, ConfigError};
use super::layout::{
    BaseBlock, DESCRIPTOR_DUMMY, DESCRIPTOR_NAME, DESCRIPTOR_SERIAL, Descriptor, DisplayDescriptor, GAMMA,
    HEADER,
};
use super::offer::Offer;
use super::text::TEXT_MAX;
use super::{cta, display_id};

/// Digital, 8 bits per colour, DisplayPort (E-EDID table 3.11).
const VIDEO_INPUT: u8 = 0x80 | 0b010 << 4 | 0b0101;
/// Features (E-EDID table 3.14): sRGB is the default colour space. No power states are claimed, and the
/// frequency is not continuous, so that a guest does not make up modes.
const FEATURE_SRGB: u8 = 0x04;
/// Features: the first timing is the native one.
const FEATURE_NATIVE: u8 = 0x02;

/// Primaries and white of sRGB (IEC 61966-2-1) in 1/1024: x and y of red, green, blue, white.
const SRGB: [[u16; 2]; 4] = [
    [655, 338], // 0.640, 0.330
    [307, 614], // 0.300, 0.600
    [154, 61],  // 0.150, 0.060
    [320, 337], // 0.3127, 0.3290
];

/// Makes the EDID of a display: EDID 1.4, one to three blocks.
///
/// The preferred mode is the base block's first detailed timing, to the pixel. If that cannot hold it (more
/// than 4095 pixels a side, or 655.35 MHz) it is in a DisplayID extension, marked as preferred, and the first
/// detailed timing is one near it for readers that do not know DisplayID.
///
/// # Errors
///
/// [`ConfigError`] names the part of `config` that an EDID cannot express.
pub fn generate(config: &Config<'_>) -> Result<Edid, ConfigError> {
    let identity = config.check()?;
    let offer = Offer::new(config, identity.size_mm)?;
    let native = offer.big.is_none();
    let [week, year] = identity.date;
    let base = BaseBlock {
        header: HEADER,
        manufacturer: identity.manufacturer.into(),
        product: config.product.into(),
        serial: identity.serial.into(),
        week,
        year,
        version: 1,
        revision: 4,
        video_input: VIDEO_INPUT,
        width_cm: centimetres(identity.size_mm.0),
        height_cm: centimetres(identity.size_mm.1),
        gamma: GAMMA,
        features: FEATURE_SRGB | if native { FEATURE_NATIVE } else { 0 },
        chromaticity: chromaticity(),
        established: offer.established,
        standard: offer.standard,
        descriptors: [
            offer.first,
            offer.range,
            text_descriptor(DESCRIPTOR_NAME, Some(identity.name)),
            text_descriptor(DESCRIPTOR_SERIAL, identity.serial_text),
        ],
        extensions: 0,
        checksum: 0,
    };
    let cta = offer.cta.map(|timings| cta::extension(&timings, native));
    let display_id = offer.big.map(|timing| display_id::extension(config, &identity, timing));
    Ok(Edid::assemble(transmute!(base), [cta, display_id]))
}

/// To nearest; a size that was checked gives 1 to 255.
fn centimetres(mm: u32) -> u8 {
    u8::try_from(mm.saturating_add(5) / 10).unwrap_or(u8::MAX)
}

/// A descriptor with this text, or one that says nothing.
fn text_descriptor(tag: u8, text: Option<[u8; TEXT_MAX]>) -> Descriptor {
    let (tag, data) = text.map_or((DESCRIPTOR_DUMMY, [0; TEXT_MAX]), |text| (tag, text));
    transmute!(DisplayDescriptor { zero: [0; 3], tag, flags: 0, data })
}

/// [`SRGB`] as stored: the lower two bits of all eight numbers, then the upper eight of each.
fn chromaticity() -> [u8; 10] {
    let numbers = SRGB.as_flattened();
    let low = numbers.iter().fold(0_u16, |low, number| low << 2 | number & 3);
    let high = numbers.iter().map(|number| u8::try_from(number >> 2).unwrap_or(u8::MAX));
    let mut out = [0; 10];
    for (slot, byte) in out.iter_mut().zip(low.to_be_bytes().into_iter().chain(high)) {
        *slot = byte;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ten bytes that sRGB displays have.
    #[test]
    fn srgb_chromaticity() {
        let expected = [0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54];
        assert_eq!(chromaticity(), expected);
    }
}
