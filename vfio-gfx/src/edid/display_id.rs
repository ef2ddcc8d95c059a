//! The DisplayID extension of a generated EDID: the preferred timing, where a descriptor is too small for it.
//!
//! The standard wants such a section to introduce the display as completely as a base block does, so most of
//! it repeats what is said there.

use zerocopy::transmute;

use super::config::{Config, Identity};
use super::layout::{Block, DisplayIdBlock, GAMMA, TAG_DISPLAY_ID, fill};
use super::type_i::{TAG_TYPE_I, TIMING_SIZE};

/// DisplayID 1.2, the version that Linux and firmware have known the longest.
const VERSION: u8 = 0x12;
/// Product type: a stand-alone desktop display (DisplayID 1.3).
const PRODUCT_MONITOR: u8 = 0x03;

/// Data block: product identification (DisplayID 1.3), 12 bytes and the name.
const TAG_PRODUCT: u8 = 0x00;
const PRODUCT_LEN: u8 = 12;
/// Data block: display parameters.
const TAG_PARAMETERS: u8 = 0x01;
const PARAMETERS_LEN: u8 = 12;
/// Data block: display interface.
const TAG_INTERFACE: u8 = 0x0f;
const INTERFACE_LEN: u8 = 10;
/// DisplayPort with four lanes, version 1.4, 8 bits per colour in RGB, and no copy protection.
const INTERFACE: [u8; 10] = [0xa4, 0x14, 0x02, 0, 0, 0, 0, 0, 0, 0];
/// 8 bits per colour, stored less one, overall and native.
const DEPTH: u8 = 0x77;
/// Bytes of [`TAG_TYPE_I`]'s one timing.
const TIMING_LEN: u8 = 20;
/// A data block's header: tag, revision 0, length.
const HEADERS_LEN: u8 = 4 * 3;

/// The extension with one preferred timing; its last byte is left to [`Edid::assemble`](super::Edid).
pub(super) fn extension(config: &Config<'_>, identity: &Identity, timing: [u8; TIMING_SIZE]) -> Block {
    // the name was checked to be at most 13 bytes
    let name_len = u8::try_from(config.name.len()).unwrap_or(0);
    let product_len = PRODUCT_LEN.saturating_add(name_len);
    let len = product_len.saturating_add(PARAMETERS_LEN + INTERFACE_LEN + TIMING_LEN + HEADERS_LEN);

    let product = [TAG_PRODUCT, 0, product_len]
        .into_iter()
        .chain(config.manufacturer)
        .chain(config.product.to_le_bytes())
        .chain(identity.serial.to_le_bytes())
        .chain(identity.display_id_date)
        .chain([name_len])
        .chain(config.name.bytes());
    let parameters = [TAG_PARAMETERS, 0, PARAMETERS_LEN].into_iter().chain(parameters(config, identity));
    let interface = [TAG_INTERFACE, 0, INTERFACE_LEN].into_iter().chain(INTERFACE);
    let timing = [TAG_TYPE_I, 0, TIMING_LEN].into_iter().chain(timing);
    let data = product.chain(parameters).chain(interface).chain(timing);

    let header = [VERSION, len, PRODUCT_MONITOR, 0];
    // the section has a checksum of its own, right behind its data
    let own = header.into_iter().chain(data.clone()).fold(0, u8::wrapping_sub);
    let [version, len, product_type, extensions] = header;
    transmute!(DisplayIdBlock {
        tag: TAG_DISPLAY_ID,
        version,
        len,
        product_type,
        extensions,
        body: fill(data.chain([own])),
        checksum: 0,
    })
}

/// Size in tenths of millimetres and in pixels, no features, gamma, aspect ratio x 100 - 100, depth.
fn parameters(config: &Config<'_>, identity: &Identity) -> impl Iterator<Item = u8> + Clone {
    let (width_mm, height_mm) = identity.size_mm;
    let (width, height) = (config.preferred.width, config.preferred.height);
    let numbers = [width_mm.saturating_mul(10), height_mm.saturating_mul(10), width, height];
    let long = width.max(height).saturating_mul(100);
    let aspect = long.checked_div(width.min(height)).unwrap_or(0).saturating_sub(100);
    let aspect = u8::try_from(aspect).unwrap_or(u8::MAX);
    numbers
        .into_iter()
        .flat_map(|number| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes())
        .chain([0, GAMMA, aspect, DEPTH])
}
