//! Checking a blob that someone else made.

use zerocopy::{transmute, transmute_ref};

use super::error::ParseError;
use super::info::Info;
use super::layout::{
    BLOCK_SIZE, BaseBlock, Block, CtaBlock, DESCRIPTORS_OFFSET, DisplayIdBlock, HEADER, TAG_CTA,
    TAG_DISPLAY_ID, checksum,
};
use super::type_i::TIMING_SIZE;
use super::walk::{self, Located, Overrun};

/// Reads an EDID 1.0 to 1.4 and its extensions: at most 256 blocks, which is what its one byte of extension
/// count allows. Bytes behind the last block are ignored, since windows onto an EDID are larger than it.
/// Extensions of unknown kind only need a right checksum.
///
/// # Errors
///
/// [`ParseError`] names the block and the offset in it, and what was expected there.
pub fn parse(bytes: &[u8]) -> Result<Info<'_>, ParseError> {
    let (blocks, _) = bytes.as_chunks::<BLOCK_SIZE>();
    let truncated = |expected| ParseError::Truncated { expected, found: bytes.len() };
    let (first, _) = blocks.split_first().ok_or(truncated(BLOCK_SIZE))?;
    let base: &BaseBlock = transmute_ref!(first);
    check_base(base, first)?;

    let count = usize::from(base.extensions).saturating_add(1);
    let (blocks, _) = blocks.split_at_checked(count).ok_or(truncated(count.saturating_mul(BLOCK_SIZE)))?;
    let descriptors = base.descriptors.as_flattened();
    for located in walk::descriptor_timings(descriptors, DESCRIPTORS_OFFSET) {
        check_timing(0, located)?;
    }
    for (number, block) in blocks.iter().enumerate().skip(1) {
        check_checksum(number, block)?;
        match block {
            [TAG_CTA, ..] => check_cta(number, block)?,
            [TAG_DISPLAY_ID, ..] => check_display_id(number, block)?,
            _ => {}
        }
        for located in walk::extension_timings(block) {
            check_timing(number, located)?;
        }
    }
    Ok(Info::new(first, blocks))
}

fn check_base(base: &BaseBlock, block: &Block) -> Result<(), ParseError> {
    if base.header != HEADER {
        return Err(ParseError::Header { found: base.header });
    }
    check_checksum(0, block)?;
    let BaseBlock { version, revision, .. } = *base;
    if version != 1 {
        return Err(ParseError::Version { version, revision });
    }
    let found = base.manufacturer.get();
    let letters = [found >> 10 & 0x1f, found >> 5 & 0x1f, found & 0x1f];
    if found >> 15 != 0 || !letters.iter().all(|letter| (1..=26).contains(letter)) {
        return Err(ParseError::Manufacturer { found });
    }
    Ok(())
}

fn check_checksum(number: usize, block: &Block) -> Result<(), ParseError> {
    let [contents @ .., found] = block;
    let expected = checksum(contents);
    if *found == expected {
        Ok(())
    } else {
        Err(ParseError::Checksum { block: number, expected, found: *found })
    }
}

fn check_cta(number: usize, block: &Block) -> Result<(), ParseError> {
    let cta: &CtaBlock = transmute_ref!(block);
    if !matches!(cta.timings, 0 | 4..=127) {
        return Err(ParseError::TimingsOffset { block: number, found: cta.timings });
    }
    for data in walk::cta_data(block) {
        data.map_err(|overrun| data_block(number, &overrun))?;
    }
    Ok(())
}

fn check_display_id(number: usize, block: &Block) -> Result<(), ParseError> {
    let section: DisplayIdBlock = transmute!(*block);
    if section.len > 121 {
        return Err(ParseError::SectionLength { block: number, found: section.len });
    }
    // tag, four bytes of header, the data, and then the checksum of all but the tag
    let offset = usize::from(section.len).saturating_add(5);
    let expected = checksum(block.get(1..offset).unwrap_or_default());
    let found = block.get(offset).copied().unwrap_or_default();
    if found != expected {
        return Err(ParseError::SectionChecksum { block: number, offset, expected, found });
    }
    for data in walk::display_id_data(block) {
        let data = data.map_err(|overrun| data_block(number, &overrun))?;
        let found = data.payload.len();
        if walk::is_timings(&data) && found % TIMING_SIZE != 0 {
            return Err(ParseError::TimingsLength { block: number, offset: data.offset, found });
        }
    }
    Ok(())
}

fn data_block(block: usize, overrun: &Overrun) -> ParseError {
    let &Overrun { offset, available, claimed } = overrun;
    ParseError::DataBlock { block, offset, available, found: claimed }
}

fn check_timing(block: usize, located: Located) -> Result<(), ParseError> {
    let Located { offset, timing, .. } = located;
    let (width, height) = (timing.h_active, timing.v_active);
    if width == 0 || height == 0 {
        return Err(ParseError::EmptyTiming { block, offset, width, height });
    }
    Ok(())
}
