//! Walking over extension blocks: their data blocks and their timings.
//!
//! The parser walks once to check; what it has accepted is walked again each time someone asks. Nothing
//! here trusts that the check took place.

use zerocopy::transmute_ref;

use super::layout::{Block, CtaBlock, DisplayIdBlock, TAG_CTA, TAG_DISPLAY_ID};
use super::mode::Timing;
use super::type_i::{TAG_TYPE_I, TAG_TYPE_VII, TIMING_SIZE};

/// Where the body of a CTA block begins.
const CTA_BODY: usize = 4;
/// Where the body of a DisplayID block begins.
const DISPLAY_ID_BODY: usize = 5;
/// CTA data block tag: video, a list of VICs.
const CTA_VIDEO: u8 = 2;

/// A data block inside an extension.
#[derive(Clone, Copy)]
pub(super) struct DataBlock<'a> {
    /// Where its header begins in the EDID block.
    pub(super) offset: usize,
    pub(super) tag: u8,
    pub(super) payload: &'a [u8],
}

/// A data block that does not fit.
pub(super) struct Overrun {
    pub(super) offset: usize,
    pub(super) available: usize,
    pub(super) claimed: usize,
}

/// Reads a data block's tag, header length and payload length; `None` if only padding is left.
type ReadHeader = fn(&[u8]) -> Option<(u8, usize, usize)>;

/// Iterator over data blocks; ends after the first that does not fit.
#[derive(Clone)]
pub(super) struct DataBlocks<'a> {
    rest: &'a [u8],
    offset: usize,
    header: ReadHeader,
}

impl<'a> Iterator for DataBlocks<'a> {
    type Item = Result<DataBlock<'a>, Overrun>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = std::mem::take(&mut self.rest);
        let (tag, header, payload) = (self.header)(rest)?;
        let offset = self.offset;
        let claimed = header.saturating_add(payload);
        let Some((data_block, rest)) = rest.split_at_checked(claimed) else {
            return Some(Err(Overrun { offset, available: rest.len(), claimed }));
        };
        self.rest = rest;
        self.offset = offset.saturating_add(claimed);
        Some(Ok(DataBlock { offset, tag, payload: data_block.get(header..).unwrap_or_default() }))
    }
}

/// The data blocks of a CTA extension; none if `block` is no such extension.
pub(super) fn cta_data(block: &Block) -> DataBlocks<'_> {
    let cta: &CtaBlock = transmute_ref!(block);
    // data blocks came with revision 3
    let present = cta.tag == TAG_CTA && cta.revision >= 3;
    let end = if present { usize::from(cta.timings) } else { 0 };
    let rest = block.get(CTA_BODY..end.min(127)).unwrap_or_default();
    let header = |rest: &[u8]| rest.first().map(|&byte| (byte >> 5, 1, usize::from(byte & 0x1f)));
    DataBlocks { rest, offset: CTA_BODY, header }
}

/// The data blocks of a DisplayID extension; none if `block` is no such extension.
pub(super) fn display_id_data(block: &Block) -> DataBlocks<'_> {
    let section: &DisplayIdBlock = transmute_ref!(block);
    let len = if section.tag == TAG_DISPLAY_ID { usize::from(section.len) } else { 0 };
    let rest = section.body.get(..len.min(121)).unwrap_or_default();
    let header = |rest: &[u8]| match *rest {
        // zeros fill what is left of a section
        [0, 0, 0, ..] | [0, 0] | [0] | [] => None,
        [tag, _, len, ..] => Some((tag, 3, usize::from(len))),
        [tag, ..] => Some((tag, 3, 0)),
    };
    DataBlocks { rest, offset: DISPLAY_ID_BODY, header }
}

/// A timing and where it is.
#[derive(Clone, Copy)]
pub(super) struct Located {
    pub(super) offset: usize,
    pub(super) timing: Timing,
    /// Marked as preferred; only DisplayID has such a mark.
    pub(super) preferred: bool,
}

/// Descriptors that are timings, from `area`, which begins at `offset`.
pub(super) fn descriptor_timings(area: &[u8], offset: usize) -> impl Iterator<Item = Located> {
    let (descriptors, _) = area.as_chunks();
    (0..).map(move |n: usize| n.saturating_mul(18).saturating_add(offset)).zip(descriptors).filter_map(
        |(offset, &descriptor)| {
            let timing = Timing::from_descriptor(descriptor)?;
            Some(Located { offset, timing, preferred: false })
        },
    )
}

/// All timings of an extension block of whatever kind.
pub(super) fn extension_timings(block: &Block) -> impl Iterator<Item = Located> {
    let cta: &CtaBlock = transmute_ref!(block);
    let begin = usize::from(cta.timings);
    let area = if cta.tag == TAG_CTA && begin >= CTA_BODY { block.get(begin..127) } else { None };
    let display_id = display_id_data(block).map_while(Result::ok).filter(is_timings).flat_map(|data| {
        let (timings, _) = data.payload.as_chunks::<TIMING_SIZE>();
        timings.iter().map(move |&bytes| {
            let (timing, preferred) = Timing::from_display_id(bytes, data.tag);
            Located { offset: data.offset, timing, preferred }
        })
    });
    descriptor_timings(area.unwrap_or_default(), begin).chain(display_id)
}

/// Whether a DisplayID data block is made of timings we read.
pub(super) fn is_timings(data: &DataBlock<'_>) -> bool {
    matches!(data.tag, TAG_TYPE_I | TAG_TYPE_VII)
}

/// The VICs of a CTA extension (CTA-861-G section 7.5.1).
pub(super) fn vics(block: &Block) -> impl Iterator<Item = u8> {
    let video = cta_data(block).map_while(Result::ok).filter(|data| data.tag == CTA_VIDEO);
    video.flat_map(|data| data.payload.iter().copied()).filter_map(|code| match code {
        1..=127 | 193..=253 => Some(code),
        // the top bit marks the first 64 as native
        129..=192 => Some(code & 0x7f),
        _ => None,
    })
}
