//! What a checked EDID says.

use zerocopy::{transmute, transmute_ref};

use super::common_modes;
use super::date::Date;
use super::layout::{
    BLOCK_SIZE, BaseBlock, Block, DESCRIPTOR_NAME, DESCRIPTOR_RANGE, DESCRIPTOR_SERIAL, DESCRIPTORS_OFFSET,
    DisplayDescriptor,
};
use super::mode::{Mode, Timing};
use super::range::RangeLimits;
use super::text::Text;
use super::walk;

/// An EDID that [`parse`](super::parse) has accepted. It borrows the blob and reads from it when asked.
#[derive(Clone, Copy)]
pub struct Info<'a> {
    base: &'a BaseBlock,
    blocks: &'a [Block],
}

impl<'a> Info<'a> {
    pub(super) fn new(first: &'a Block, blocks: &'a [Block]) -> Self {
        Self { base: transmute_ref!(first), blocks }
    }

    /// The EDID itself: the blob without what follows its last block.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.blocks.as_flattened()
    }

    /// Blocks, the base block included: 1 to 256 of [`BLOCK_SIZE`] bytes.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.as_bytes().len() / BLOCK_SIZE
    }

    /// The tags of the extension blocks, in order: 0x02 for CTA-861, 0x70 for DisplayID.
    pub fn extensions(&self) -> impl Iterator<Item = u8> + 'a {
        self.blocks.iter().skip(1).map(|[tag, ..]| *tag)
    }

    /// Version and revision, such as (1, 4).
    #[must_use]
    pub fn version(&self) -> (u8, u8) {
        (self.base.version, self.base.revision)
    }

    /// The manufacturer's three letters.
    #[must_use]
    pub fn manufacturer(&self) -> [char; 3] {
        let code = self.base.manufacturer.get();
        [code >> 10, code >> 5, code].map(|bits| {
            let [letter, _] = (bits & 0x1f).to_le_bytes();
            char::from(letter | 0x40)
        })
    }

    /// Product code.
    #[must_use]
    pub fn product(&self) -> u16 {
        self.base.product.get()
    }

    /// Serial number; 0 is none.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.base.serial.get()
    }

    /// When it was made.
    #[must_use]
    pub fn date(&self) -> Date {
        Date::decode(self.base.week, self.base.year)
    }

    /// Whether its input is digital.
    #[must_use]
    pub fn is_digital(&self) -> bool {
        self.base.video_input & 0x80 != 0
    }

    /// Whether sRGB is its default colour space.
    #[must_use]
    pub fn is_srgb(&self) -> bool {
        self.base.features & 0x04 != 0
    }

    /// Gamma in hundredths (220 for 2.2), if told.
    #[must_use]
    pub fn gamma(&self) -> Option<u16> {
        (self.base.gamma != 0xff).then(|| u16::from(self.base.gamma).saturating_add(100))
    }

    /// Width and height of the picture in mm: from the first timing that tells, or else from the base block,
    /// which has whole centimetres. `None` if neither does, as with projectors.
    #[must_use]
    pub fn size_mm(&self) -> Option<(u32, u32)> {
        let (width, height) = (u32::from(self.base.width_cm), u32::from(self.base.height_cm));
        let coarse =
            (width != 0 && height != 0).then(|| (width.saturating_mul(10), height.saturating_mul(10)));
        self.timings().find_map(|timing| timing.size_mm).or(coarse)
    }

    /// The display's name.
    #[must_use]
    pub fn name(&self) -> Option<Text> {
        self.descriptor(DESCRIPTOR_NAME).map(|descriptor| Text::decode(descriptor.data))
    }

    /// The serial number as text.
    #[must_use]
    pub fn serial_text(&self) -> Option<Text> {
        self.descriptor(DESCRIPTOR_SERIAL).map(|descriptor| Text::decode(descriptor.data))
    }

    /// The range limits.
    #[must_use]
    pub fn range_limits(&self) -> Option<RangeLimits> {
        self.descriptor(DESCRIPTOR_RANGE).map(RangeLimits::decode)
    }

    /// All detailed timings: those of the base block, then those of CTA and DisplayID extensions (types I and
    /// VII).
    pub fn timings(&self) -> impl Iterator<Item = Timing> + 'a {
        let extensions = self.blocks.iter().skip(1).flat_map(walk::extension_timings);
        self.base_timings().chain(extensions.map(|located| located.timing))
    }

    /// The timing the display wants: one that a DisplayID extension marks as preferred, or else the base
    /// block's first descriptor if that is a timing and the preferred one (always, from EDID 1.4 on).
    #[must_use]
    pub fn preferred_timing(&self) -> Option<Timing> {
        let marked = self
            .blocks
            .iter()
            .skip(1)
            .flat_map(walk::extension_timings)
            .find_map(|located| located.preferred.then_some(located.timing));
        let first_is_preferred = self.version() >= (1, 4) || self.base.features & 0x02 != 0;
        let [first, ..] = self.base.descriptors;
        marked.or_else(|| first_is_preferred.then(|| Timing::from_descriptor(first))?)
    }

    /// The mode of [`preferred_timing`](Self::preferred_timing).
    #[must_use]
    pub fn preferred(&self) -> Option<Mode> {
        self.preferred_timing().map(|timing| timing.mode())
    }

    /// The codes (CTA-861-G section 4) of all CTA video modes, native or not. Generated EDIDs have none.
    pub fn vics(&self) -> impl Iterator<Item = u8> + 'a {
        self.blocks.iter().skip(1).flat_map(walk::vics)
    }

    /// All modes that an EDID spells out or that its base block has a code for: detailed, established and
    /// standard timings. A mode may come up several times. CTA modes are not among them, see
    /// [`vics`](Self::vics).
    pub fn modes(&self) -> impl Iterator<Item = Mode> + 'a {
        let standard = self.base.standard.into_iter().filter_map(common_modes::decode_standard);
        self.timings()
            .map(|timing| timing.mode())
            .chain(common_modes::established(self.base.established))
            .chain(standard)
    }

    fn base_timings(&self) -> impl Iterator<Item = Timing> + 'a {
        walk::descriptor_timings(self.base.descriptors.as_flattened(), DESCRIPTORS_OFFSET)
            .map(|located| located.timing)
    }

    /// The first display descriptor with this tag.
    fn descriptor(&self, tag: u8) -> Option<DisplayDescriptor> {
        let descriptors = self.base.descriptors.iter().map(|&bytes| transmute!(bytes));
        descriptors.into_iter().find(|d: &DisplayDescriptor| d.zero == [0; 3] && d.tag == tag)
    }
}

impl std::fmt::Debug for Info<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Info")
            .field("manufacturer", &self.manufacturer())
            .field("product", &self.product())
            .field("name", &self.name())
            .field("preferred", &self.preferred())
            .field("blocks", &self.blocks())
            .finish_non_exhaustive()
    }
}
