//! The blocks byte for byte, so that the rest of the module speaks of fields and not of offsets.
//!
//! Every type has alignment 1 and no padding, and converts to and from bytes at no cost; their sizes are
//! checked wherever one is transmuted to or from an array.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, big_endian};

/// Bytes in one EDID block, base or extension.
pub const BLOCK_SIZE: usize = 128;

/// One block.
pub(super) type Block = [u8; BLOCK_SIZE];
/// One of the base block's 18 byte descriptors.
pub(super) type Descriptor = [u8; 18];

/// What every base block begins with (E-EDID 3.3).
pub(super) const HEADER: [u8; 8] = [0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];

/// Gamma 2.2 as all EDID structures store it, x 100 - 100.
pub(super) const GAMMA: u8 = 220 - 100;

/// First byte of an extension block (E-EDID 2.2.1): CTA-861.
pub(super) const TAG_CTA: u8 = 0x02;
/// First byte of an extension block: DisplayID.
pub(super) const TAG_DISPLAY_ID: u8 = 0x70;

/// Base block (E-EDID table 3.1).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct BaseBlock {
    pub(super) header: [u8; 8],
    /// Three letters of five bits, A = 1.
    pub(super) manufacturer: big_endian::U16,
    pub(super) product: U16,
    pub(super) serial: U32,
    pub(super) week: u8,
    pub(super) year: u8,
    pub(super) version: u8,
    pub(super) revision: u8,
    pub(super) video_input: u8,
    pub(super) width_cm: u8,
    pub(super) height_cm: u8,
    /// Gamma x 100 - 100.
    pub(super) gamma: u8,
    pub(super) features: u8,
    pub(super) chromaticity: [u8; 10],
    pub(super) established: [u8; 3],
    pub(super) standard: [[u8; 2]; 8],
    pub(super) descriptors: [Descriptor; 4],
    pub(super) extensions: u8,
    pub(super) checksum: u8,
}

/// Where [`BaseBlock::descriptors`] begins.
pub(super) const DESCRIPTORS_OFFSET: usize = 54;

/// A descriptor that is not a timing: its first two bytes are zero (E-EDID table 3.23).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct DisplayDescriptor {
    pub(super) zero: [u8; 3],
    pub(super) tag: u8,
    /// Zero, but for the flags of range limits.
    pub(super) flags: u8,
    pub(super) data: [u8; 13],
}

/// [`DisplayDescriptor::tag`]: serial number as text.
pub(super) const DESCRIPTOR_SERIAL: u8 = 0xff;
/// [`DisplayDescriptor::tag`]: display range limits.
pub(super) const DESCRIPTOR_RANGE: u8 = 0xfd;
/// [`DisplayDescriptor::tag`]: the display's name.
pub(super) const DESCRIPTOR_NAME: u8 = 0xfc;
/// [`DisplayDescriptor::tag`]: nothing.
pub(super) const DESCRIPTOR_DUMMY: u8 = 0x10;

/// Detailed timing descriptor (E-EDID table 3.21).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct DetailedTiming {
    /// In units of 10 kHz; zero marks a [`DisplayDescriptor`].
    pub(super) clock: U16,
    pub(super) h_active: u8,
    pub(super) h_blank: u8,
    /// Upper four bits of active, then of blank.
    pub(super) h_upper: u8,
    pub(super) v_active: u8,
    pub(super) v_blank: u8,
    pub(super) v_upper: u8,
    pub(super) h_front: u8,
    pub(super) h_sync: u8,
    /// Lower four bits of the vertical front porch, then of the sync pulse.
    pub(super) v_front_sync: u8,
    /// Upper two bits of h front, h sync, v front, v sync, from the top.
    pub(super) front_sync_upper: u8,
    pub(super) width_mm: u8,
    pub(super) height_mm: u8,
    pub(super) size_upper: u8,
    pub(super) border: [u8; 2],
    pub(super) flags: u8,
}

/// CTA extension (CTA-861-G section 7.5): four bytes, then data blocks, timings, padding, checksum.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct CtaBlock {
    pub(super) tag: u8,
    pub(super) revision: u8,
    /// Where the timings begin, from the start of the block; 0 if there is neither data nor timing.
    pub(super) timings: u8,
    pub(super) flags: u8,
    pub(super) body: [u8; 123],
    pub(super) checksum: u8,
}

/// DisplayID extension (DisplayID 1.3): a section inside an EDID block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct DisplayIdBlock {
    pub(super) tag: u8,
    /// Version in the upper four bits, revision in the lower.
    pub(super) version: u8,
    /// Bytes of `body` that are data blocks, at most 121; the section's own checksum follows them.
    pub(super) len: u8,
    pub(super) product_type: u8,
    pub(super) extensions: u8,
    pub(super) body: [u8; 122],
    pub(super) checksum: u8,
}

/// DisplayID type I timing (DisplayID 1.3); type VII of DisplayID 2.0 differs only in the
/// clock's unit. All numbers are stored less one.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct BigTiming {
    /// In units of 10 kHz (type VII: 1 kHz), little endian.
    pub(super) clock: [u8; 3],
    pub(super) flags: u8,
    pub(super) h_active: U16,
    pub(super) h_blank: U16,
    /// Bit 15: the sync pulse is positive.
    pub(super) h_front: U16,
    pub(super) h_sync: U16,
    pub(super) v_active: U16,
    pub(super) v_blank: U16,
    /// Bit 15: the sync pulse is positive.
    pub(super) v_front: U16,
    pub(super) v_sync: U16,
}

/// The byte that makes a sum over `bytes` and itself 0 modulo 256.
pub(super) fn checksum(bytes: &[u8]) -> u8 {
    sum(bytes).wrapping_neg()
}

/// Sum modulo 256.
pub(super) fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, &byte| sum.wrapping_add(byte))
}

/// Bytes in the order they come, then zeros; what does not fit is left out.
pub(super) fn fill<const N: usize>(bytes: impl Iterator<Item = u8>) -> [u8; N] {
    let mut filled = [0; N];
    for (slot, byte) in filled.iter_mut().zip(bytes) {
        *slot = byte;
    }
    filled
}
