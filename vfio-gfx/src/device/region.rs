//! The region table: what a device has, where it is, and what is behind it.

use crate::abi::caps::{self, RegionCap};
use crate::abi::{RegionFlags, pci_region};

/// Regions begin at a page of the descriptor, so that they can be told apart by a mapping's offset.
const PAGE: u64 = 4096;

/// What is behind a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// The device model answers every access.
    Trapped,
    /// Configuration space.
    Config,
    /// The video memory, from its start; mappable.
    Vram,
    /// The EDID region.
    Edid,
    /// The expansion ROM, which is read only.
    Rom,
}

/// One region of a device.
#[derive(Clone, Debug)]
pub struct Region {
    /// Region index.
    pub index: u32,
    /// Size in bytes.
    pub size: u64,
    /// Where it starts in the device's file descriptor, in bytes.
    pub fd_offset: u64,
    /// What is behind it.
    pub backing: Backing,
    caps: Vec<u8>,
}

impl Region {
    /// A region without capabilities.
    #[must_use]
    pub fn new(index: u32, size: u64, fd_offset: u64, backing: Backing) -> Self {
        Self { index, size, fd_offset, backing, caps: Vec::new() }
    }

    /// The same with a capability chain.
    #[must_use]
    pub fn with_caps(mut self, caps: &[RegionCap]) -> Self {
        self.caps = caps::encode(caps);
        self
    }

    /// What may be done with it.
    #[must_use]
    pub fn flags(&self) -> RegionFlags {
        let mut flags = RegionFlags::READ;
        flags.set(RegionFlags::WRITE, self.backing != Backing::Rom);
        flags.set(RegionFlags::MMAP, self.backing == Backing::Vram);
        flags.set(RegionFlags::CAPS, !self.caps.is_empty());
        flags
    }

    /// Its capability chain as bytes, as it follows the info struct.
    #[must_use]
    pub fn caps(&self) -> &[u8] {
        &self.caps
    }

    /// Whether it is a BAR, and thus inert while memory decoding is off.
    #[must_use]
    pub fn is_bar(&self) -> bool {
        self.index <= pci_region::BAR5
    }

    /// Whether an access lies inside.
    #[must_use]
    pub fn contains(&self, offset: u64, len: usize) -> bool {
        u64::try_from(len).ok().and_then(|len| offset.checked_add(len)).is_some_and(|end| end <= self.size)
    }
}

/// All regions of a device.
#[derive(Clone, Debug)]
pub struct RegionTable {
    regions: Vec<Region>,
    num_regions: u32,
}

impl RegionTable {
    /// `num_regions` is what `GET_INFO` says: at least the nine PCI regions. A region may lie beyond it (the kernel's
    /// mdpy has its display region there); it is found by who knows its index.
    #[must_use]
    pub fn new(num_regions: u32, regions: Vec<Region>) -> Self {
        Self { regions, num_regions: num_regions.max(pci_region::COUNT) }
    }

    /// The same with an expansion ROM of `size` bytes, behind everything else in the device's file descriptor.
    pub(super) fn with_rom(mut self, size: u64) -> Self {
        let end = self.regions.iter().map(|region| region.fd_offset.saturating_add(region.size)).max();
        // Beyond every offset a descriptor can have, nothing is found.
        let fd_offset = end.unwrap_or(0).checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        self.regions.retain(|region| region.index != pci_region::ROM);
        self.regions.push(Region::new(pci_region::ROM, size, fd_offset, Backing::Rom));
        self
    }

    /// What `GET_INFO` says.
    #[must_use]
    pub fn num_regions(&self) -> u32 {
        self.num_regions
    }

    /// The region with this index, if the device has it.
    #[must_use]
    pub fn get(&self, index: u32) -> Option<&Region> {
        self.regions.iter().find(|region| region.index == index)
    }

    /// Whether `GET_REGION_INFO` succeeds: also for an index below `num_regions` that the device leaves empty.
    #[must_use]
    pub fn answers(&self, index: u32) -> bool {
        index < self.num_regions || self.get(index).is_some()
    }

    /// The region at this place of the file descriptor, and the offset in it.
    #[must_use]
    pub fn at_fd_offset(&self, offset: u64) -> Option<(&Region, u64)> {
        self.regions.iter().find_map(|region| {
            let inside = offset.checked_sub(region.fd_offset)?;
            (inside < region.size).then_some((region, inside))
        })
    }

    /// Every region the device has.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::{edges, to_u64};

    #[test]
    fn an_access_is_inside_or_not_at_every_edge() {
        for (size, offset) in
            edges::u64().into_iter().flat_map(|s| edges::u64().into_iter().map(move |o| (s, o)))
        {
            let region = Region::new(0, size, 0, Backing::Trapped);
            for len in edges::u64().into_iter().filter_map(|len| usize::try_from(len).ok()) {
                let end = u128::from(offset) + u128::from(to_u64(len));
                assert_eq!(
                    region.contains(offset, len),
                    end <= u128::from(size),
                    "{offset:#x}+{len:#x} of {size:#x}"
                );
            }
        }
    }

    #[test]
    fn a_place_of_the_descriptor_is_in_one_region() {
        let regions = [(0, 4096, 8192), (3, 0, 4096), (7, 256, 12288), (9, 4096, u64::MAX - 4095)];
        let regions = regions.map(|(index, size, start)| Region::new(index, size, start, Backing::Trapped));
        let table = RegionTable::new(0, regions.to_vec());
        for offset in edges::u64().into_iter().chain([8191, 8192, 12287, 12288, 12543, 12544]) {
            let found = table.at_fd_offset(offset).map(|(region, inside)| (region.index, inside));
            let expected = regions.iter().find(|region| {
                let start = u128::from(region.fd_offset);
                (start..start + u128::from(region.size)).contains(&u128::from(offset))
            });
            assert_eq!(
                found,
                expected.map(|region| (region.index, offset - region.fd_offset)),
                "{offset:#x}"
            );
        }
    }

    #[test]
    fn empty_indices_answer_below_the_number_of_regions_and_others_where_there_is_one() {
        let table = RegionTable::new(0, vec![Region::new(11, 4096, 0, Backing::Edid)]);
        let answering: Vec<u32> = (0..20).chain(edges::U32).filter(|index| table.answers(*index)).collect();
        assert_eq!(answering[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 11]);
        assert!(answering[10..].iter().all(|index| *index < 9), "again, of the edges");
        assert_eq!(table.num_regions(), 9);
        assert_eq!(RegionTable::new(12, Vec::new()).num_regions(), 12);
    }

    #[test]
    fn flags_say_what_can_be_done() {
        let vram = Region::new(0, 4096, 0, Backing::Vram);
        assert_eq!(vram.flags(), RegionFlags::READ | RegionFlags::WRITE | RegionFlags::MMAP);
        let edid = Region::new(9, 4096, 0, Backing::Edid).with_caps(&[RegionCap::GFX_EDID]);
        assert_eq!(edid.flags(), RegionFlags::READ | RegionFlags::WRITE | RegionFlags::CAPS);
        assert!(vram.is_bar() && !edid.is_bar());
        assert!(
            Region::new(5, 1, 0, Backing::Trapped).is_bar()
                && !Region::new(6, 1, 0, Backing::Trapped).is_bar()
        );
    }
}
