//! What can be wrong with an EDID that someone else made.

/// Why a blob is not an EDID. Blocks are counted from 0 (the base block), offsets from the start of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// The blob ends before the base block or the extensions it announces do.
    #[error("expected {expected} bytes, found {found}")]
    Truncated {
        /// Bytes there should be.
        expected: usize,
        /// Bytes there are.
        found: usize,
    },
    /// Block 0 does not begin as every EDID does.
    #[error("block 0, offset 0: expected header 00 ff ff ff ff ff ff 00, found {found:02x?}")]
    Header {
        /// The first eight bytes.
        found: [u8; 8],
    },
    /// The bytes of a block do not add up to 0 modulo 256.
    #[error("block {block}, offset 127: expected checksum {expected:#04x}, found {found:#04x}")]
    Checksum {
        /// The block.
        block: usize,
        /// What would have been right.
        expected: u8,
        /// What is there.
        found: u8,
    },
    /// Not EDID 1.x.
    #[error("block 0, offset 18: expected version 1, found {version}.{revision}")]
    Version {
        /// Major version.
        version: u8,
        /// Minor version.
        revision: u8,
    },
    /// The manufacturer is not three letters.
    #[error("block 0, offset 8: expected three letters of five bits, found {found:#06x}")]
    Manufacturer {
        /// The two bytes, the first being the upper.
        found: u16,
    },
    /// A timing with no visible pixels.
    #[error("block {block}, offset {offset}: expected a timing with visible pixels, found {width}x{height}")]
    EmptyTiming {
        /// The block.
        block: usize,
        /// Where the timing begins.
        offset: usize,
        /// Visible pixels per line.
        width: u32,
        /// Visible lines.
        height: u32,
    },
    /// A CTA extension's timings would begin inside its header or behind its end.
    #[error("block {block}, offset 2: expected timings to begin at 0 or 4 to 127, found {found}")]
    TimingsOffset {
        /// The block.
        block: usize,
        /// The offset given.
        found: u8,
    },
    /// A data block is longer than what contains it.
    #[error("block {block}, offset {offset}: expected a data block within {available} bytes, found {found}")]
    DataBlock {
        /// The block.
        block: usize,
        /// Where the data block begins.
        offset: usize,
        /// Bytes from there to the end of what contains it.
        available: usize,
        /// Bytes it claims, header included.
        found: usize,
    },
    /// A DisplayID section is longer than its block.
    #[error("block {block}, offset 2: expected a section of at most 121 bytes, found {found}")]
    SectionLength {
        /// The block.
        block: usize,
        /// The length given.
        found: u8,
    },
    /// The bytes of a DisplayID section do not add up to 0 modulo 256.
    #[error("block {block}, offset {offset}: expected section checksum {expected:#04x}, found {found:#04x}")]
    SectionChecksum {
        /// The block.
        block: usize,
        /// Where the section's checksum is.
        offset: usize,
        /// What would have been right.
        expected: u8,
        /// What is there.
        found: u8,
    },
    /// A data block of 20 byte timings whose length is not a multiple of that.
    #[error("block {block}, offset {offset}: expected timings of 20 bytes, found {found} bytes")]
    TimingsLength {
        /// The block.
        block: usize,
        /// Where the data block begins.
        offset: usize,
        /// Bytes it has, header excluded.
        found: usize,
    },
}
