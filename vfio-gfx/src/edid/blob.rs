//! A finished EDID blob, in a fixed array so that making one needs no allocation.

use super::layout::{BLOCK_SIZE, Block, checksum};

/// Blocks a generated blob has at most: base, CTA extension, DisplayID extension.
const MAX_BLOCKS: usize = 3;

/// A complete EDID as [`generate`](super::generate) makes it: the base block and its extensions, with
/// right checksums. Never longer than 384 bytes, so it fits the 1024 byte window of a Bochs display.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Edid {
    blocks: [Block; MAX_BLOCKS],
    len: usize,
}

impl Edid {
    /// Joins the blocks there are, counts the extensions into the base block and closes each block with
    /// its checksum.
    pub(super) fn assemble(base: Block, extensions: [Option<Block>; MAX_BLOCKS - 1]) -> Self {
        let mut blocks = [[0; BLOCK_SIZE]; MAX_BLOCKS];
        let mut count: u8 = 0;
        let mut len = 0;
        let present = extensions.into_iter().flatten();
        for (slot, block) in blocks.iter_mut().zip(std::iter::once(base).chain(present)) {
            *slot = block;
            count = count.saturating_add(1);
            len = BLOCK_SIZE.saturating_add(len);
        }
        let [first, ..] = &mut blocks;
        first[126] = count.saturating_sub(1);
        for block in &mut blocks {
            block[127] = checksum(block.get(..127).unwrap_or_default());
        }
        Self { blocks, len }
    }

    /// The blob's bytes; their number is a multiple of [`BLOCK_SIZE`].
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.blocks.as_flattened().get(..self.len).unwrap_or_default()
    }

    /// Length in bytes: 128, 256 or 384.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a blob has at least its base block")]
    pub fn len(&self) -> usize {
        self.len
    }
}

impl AsRef<[u8]> for Edid {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl std::fmt::Debug for Edid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Edid").field(&self.as_bytes()).finish()
    }
}
