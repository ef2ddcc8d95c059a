//! The CTA-861 extension of a generated EDID: timings of which the base block has no room or code.

use zerocopy::transmute;

use super::layout::{Block, CtaBlock, Descriptor, TAG_CTA, fill};

/// The CTA revision that has data blocks (CTA-861-G 7.5).
const REVISION: u8 = 3;
/// Flags: computer modes are shown whole, without overscan.
const UNDERSCAN: u8 = 0x80;
/// Video capability data block (CTA-861-G 7.5.6): two bytes, extended tag 0; RGB quantisation range
/// selectable, computer and consumer modes always underscanned. It says that all 256 levels mean something.
const VIDEO_CAPABILITY: [u8; 3] = [7 << 5 | 2, 0x00, 0x40 | 0b10 << 2 | 0b10];
/// Where the timings begin: after four bytes of header and the data block.
const TIMINGS: u8 = 4 + 3;

/// The extension with these timings in it; its checksum is left to [`Edid::assemble`](super::Edid).
pub(super) fn extension(timings: &[Option<Descriptor>], preferred_in_base: bool) -> Block {
    let timings = timings.iter().flatten().flatten().copied();
    transmute!(CtaBlock {
        tag: TAG_CTA,
        revision: REVISION,
        timings: TIMINGS,
        // lower bits: how many timings, from the base block's first on, are native
        flags: UNDERSCAN | u8::from(preferred_in_base),
        body: fill(VIDEO_CAPABILITY.into_iter().chain(timings)),
        checksum: 0,
    })
}
