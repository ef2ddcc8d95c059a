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
