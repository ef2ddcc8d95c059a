//! The DMA ranges that a VMM has announced.
//!
//! The sample devices never touch guest memory, so ranges are checked and remembered but not mapped, and the
//! descriptors that came with them are closed.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::abi::Errno;
use crate::memory::PAGE_SIZE;

use super::{DmaMap, DmaUnmap};

/// Most ranges a VMM may announce; what QEMU proposes.
pub const MAX_DMA_MAPS: usize = 65535;

const FLAGS_READ_WRITE: u32 = 3;
const FLAG_UNMAP_ALL: u32 = 2;

/// Why a range is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DmaError {
    /// Undefined flags, or none.
    #[error("dma range: flags {0:#x} are not defined")]
    Flags(u32),
    /// Not whole pages, empty, or beyond the end of the address space.
    #[error("dma range {address:#x}+{size:#x}: must be whole pages within the address space")]
    Range {
        /// Device address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// It overlaps one that is mapped.
    #[error("dma range {address:#x}+{size:#x} overlaps {other:#x}, which is mapped")]
    Overlap {
        /// Device address.
        address: u64,
        /// Bytes.
        size: u64,
        /// Start of the range that is there.
        other: u64,
    },
    /// Unmapping what is not mapped, or a part of a range.
    #[error("dma range {address:#x}+{size:#x} is not mapped as a whole")]
    NotMapped {
        /// Device address.
        address: u64,
        /// Bytes.
        size: u64,
    },
    /// Too many ranges.
    #[error("more than {MAX_DMA_MAPS} dma ranges")]
    TooMany,
}

impl From<DmaError> for Errno {
    fn from(error: DmaError) -> Self {
        match error {
            DmaError::Flags(_) | DmaError::Range { .. } => Self::EINVAL,
            DmaError::Overlap { .. } => Self::EEXIST,
            DmaError::NotMapped { .. } => Self::ENOENT,
            DmaError::TooMany => Self::ENOSPC,
        }
    }
}

/// Ranges by address; they never overlap.
#[derive(Debug, Default)]
pub struct DmaTable {
    /// Start to last byte, inclusive.
    ranges: BTreeMap<u64, u64>,
}

fn last_byte(address: u64, size: u64) -> Option<u64> {
    let aligned = address.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE) && size > 0;
    aligned.then(|| address.checked_add(size.checked_sub(1)?)).flatten()
}

impl DmaTable {
    /// Announces a range.
    ///
    /// # Errors
    /// [`DmaError`]; nothing has changed then.
    pub fn map(&mut self, map: &DmaMap) -> Result<(), DmaError> {
        let DmaMap { address, size, flags, offset, .. } = *map;
        if flags & !FLAGS_READ_WRITE != 0 || flags == 0 {
            return Err(DmaError::Flags(flags));
        }
        let last = last_byte(address, size).ok_or(DmaError::Range { address, size })?;
        if offset.checked_add(size).is_none() {
            return Err(DmaError::Range { address: offset, size });
        }
        // Ranges do not overlap, so the nearest one that starts at or before our end is the only candidate.
        if let Some((&other, &other_last)) = self.ranges.range(..=last).next_back()
            && other_last >= address
        {
            return Err(DmaError::Overlap { address, size, other });
        }
        if self.ranges.len() >= MAX_DMA_MAPS {
            return Err(DmaError::TooMany);
        }
        self.ranges.insert(address, last);
        Ok(())
    }

    /// Takes ranges back and returns how many bytes they had. A range goes as a whole or not at all; several go at
    /// once when they lie inside.
    ///
    /// # Errors
    /// [`DmaError`]; nothing has changed then.
    pub fn unmap(&mut self, unmap: &DmaUnmap) -> Result<u64, DmaError> {
        let DmaUnmap { address, size, flags, .. } = *unmap;
        if flags & !FLAG_UNMAP_ALL != 0 {
            return Err(DmaError::Flags(flags));
        }
        let bytes = |start: u64, last: u64| last.saturating_sub(start).saturating_add(1);
        if flags & FLAG_UNMAP_ALL != 0 {
            let all = std::mem::take(&mut self.ranges);
            return Ok(all.into_iter().map(|(start, last)| bytes(start, last)).fold(0, u64::saturating_add));
        }
        let end = last_byte(address, size).ok_or(DmaError::Range { address, size })?;
        let not_mapped = DmaError::NotMapped { address, size };
        let before = self.ranges.range(..address).next_back();
        if before.is_some_and(|(_, &last)| last >= address) {
            return Err(not_mapped);
        }
        let inside: Vec<(u64, u64)> =
            self.ranges.range(address..=end).map(|(&start, &last)| (start, last)).collect();
        if inside.is_empty() || inside.iter().any(|(_, last)| *last > end) {
            return Err(not_mapped);
        }
        let mut unmapped = 0u64;
        for (start, last) in inside {
            self.ranges.remove(&start);
            unmapped = unmapped.saturating_add(bytes(start, last));
        }
        Ok(unmapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(address: u64, size: u64) -> DmaMap {
        DmaMap { argsz: 32, flags: 3, offset: 0, address, size }
    }

    fn unmap(address: u64, size: u64) -> DmaUnmap {
        DmaUnmap { argsz: 24, flags: 0, address, size }
    }

    #[test]
    fn ranges_are_whole_pages_and_do_not_overlap() {
        let mut table = DmaTable::default();
        table.map(&map(0x10000, 0x10000)).unwrap();
        for (address, size) in [(0x1f000, 0x1000), (0x8000, 0x9000), (0, 0x100_0000), (0x10000, 0x10000)] {
            assert!(matches!(table.map(&map(address, size)), Err(DmaError::Overlap { other: 0x10000, .. })));
        }
        for (address, size) in [(1, 0x1000), (0, 1), (0, 0), (u64::MAX - 0xfff, 0x2000), (0, u64::MAX)] {
            assert!(
                matches!(table.map(&map(address, size)), Err(DmaError::Range { .. })),
                "{address:#x}+{size:#x}"
            );
        }
        table.map(&map(0x20000, 0x1000)).unwrap();
        table.map(&map(u64::MAX - 0xfff, 0x1000)).unwrap();
    }

    #[test]
    fn unmapping_takes_whole_ranges() {
        let mut table = DmaTable::default();
        table.map(&map(0x1000, 0x2000)).unwrap();
        table.map(&map(0x4000, 0x1000)).unwrap();
        for (address, size) in [(0x1000, 0x1000), (0x2000, 0x1000), (0x2000, 0x3000), (0x8000, 0x1000)] {
            assert!(matches!(table.unmap(&unmap(address, size)), Err(DmaError::NotMapped { .. })));
        }
        assert_eq!(table.unmap(&unmap(0, 0x10000)), Ok(0x3000));
        table.map(&map(0x1000, 0x1000)).unwrap();
        assert_eq!(table.unmap(&DmaUnmap { flags: 2, ..unmap(0, 0) }), Ok(0x1000));
    }

    proptest! {
        #[test]
        fn agrees_with_a_page_by_page_model(ops in proptest::collection::vec((any::<bool>(), 0..24usize, 1..8usize), 0..60)) {
            let mut table = DmaTable::default();
            // Which range each page belongs to.
            let mut pages = [None::<u64>; 40];
            for (n, (is_map, page, count)) in (0u64..).zip(ops) {
                let span = page..page + count;
                if is_map {
                    let free = pages[span.clone()].iter().all(Option::is_none);
                    prop_assert_eq!(table.map(&map((page as u64) << 12, (count as u64) << 12)).is_ok(), free);
                    if free { pages[span].fill(Some(n)); }
                } else {
                    let inside: Vec<_> = pages[span.clone()].iter().flatten().copied().collect();
                    let outside = pages.iter().enumerate().any(|(i, p)| !span.contains(&i) && p.is_some_and(|p| inside.contains(&p)));
                    let ok = !inside.is_empty() && !outside;
                    let expected = if ok { Some((inside.len() as u64) << 12) } else { None };
                    prop_assert_eq!(table.unmap(&unmap((page as u64) << 12, (count as u64) << 12)).ok(), expected);
                    if ok { pages[span].fill(None); }
                }
            }
        }
    }
}
