//! Announced ranges by address; they never overlap.

use std::collections::BTreeMap;

use thiserror::Error;
use vm_memory::FileOffset;

use super::{DmaAccess, GuestMemoryError, GuestPiece};
use crate::memory::PAGE_SIZE;

/// Most ranges a VMM may announce; what QEMU proposes for vfio-user.
pub const MAX_GUEST_RANGES: usize = 65535;

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
    #[error("more than {MAX_GUEST_RANGES} dma ranges")]
    TooMany,
}

/// One range.
#[derive(Debug)]
pub(super) struct Range {
    /// Its last byte, so that a range can end with the address space.
    pub(super) last: u64,
    pub(super) access: DmaAccess,
    /// Where its first byte is; `None` where it cannot be reached.
    pub(super) memory: Option<FileOffset>,
}

/// All of them, by their first byte.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<u64, Range>);

fn last_byte(address: u64, size: u64) -> Option<u64> {
    let aligned = address.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE) && size > 0;
    aligned.then(|| address.checked_add(size.checked_sub(1)?)).flatten()
}

fn bytes(first: u64, last: u64) -> u64 {
    last.saturating_sub(first).saturating_add(1)
}

impl Table {
    /// The last byte of a range that could be inserted.
    pub(super) fn free(&self, address: u64, size: u64) -> Result<u64, DmaError> {
        let last = last_byte(address, size).ok_or(DmaError::Range { address, size })?;
        // Ranges do not overlap, so the nearest one that starts at or before our end is the only candidate.
        if let Some((&other, range)) = self.0.range(..=last).next_back()
            && range.last >= address
        {
            return Err(DmaError::Overlap { address, size, other });
        }
        if self.0.len() >= MAX_GUEST_RANGES {
            return Err(DmaError::TooMany);
        }
        Ok(last)
    }

    /// Puts a range where [`Table::free`] found room.
    pub(super) fn insert(&mut self, address: u64, range: Range) {
        self.0.insert(address, range);
    }

    /// Takes out all ranges within, none of which may reach outside; returns how many bytes they had.
    pub(super) fn remove(&mut self, address: u64, size: u64) -> Result<u64, DmaError> {
        let end = last_byte(address, size).ok_or(DmaError::Range { address, size })?;
        let not_mapped = DmaError::NotMapped { address, size };
        let before = self.0.range(..address).next_back();
        if before.is_some_and(|(_, range)| range.last >= address) {
            return Err(not_mapped);
        }
        let inside: Vec<(u64, u64)> =
            self.0.range(address..=end).map(|(&first, range)| (first, range.last)).collect();
        if inside.is_empty() || inside.iter().any(|(_, last)| *last > end) {
            return Err(not_mapped);
        }
        let mut unmapped = 0u64;
        for (first, last) in inside {
            self.0.remove(&first);
            unmapped = unmapped.saturating_add(bytes(first, last));
        }
        Ok(unmapped)
    }

    /// Takes out all; returns how many bytes they had.
    pub(super) fn clear(&mut self) -> u64 {
        let all = std::mem::take(&mut self.0);
        all.into_iter().map(|(first, range)| bytes(first, range.last)).fold(0, u64::saturating_add)
    }

    /// The piece of memory from `address` on, of at most `len` bytes (at least 1): as much of them as its range has.
    pub(super) fn piece(
        &self,
        address: u64,
        len: u64,
        wanted: DmaAccess,
    ) -> Result<GuestPiece, GuestMemoryError> {
        let found = self.0.range(..=address).next_back().filter(|(_, range)| range.last >= address);
        let (first, range) = found.ok_or(GuestMemoryError::NotMapped(address))?;
        if !range.access.contains(wanted) {
            return Err(GuestMemoryError::NotGranted { address, wanted, granted: range.access });
        }
        let memory = range.memory.as_ref().ok_or(GuestMemoryError::NotShared(address))?;
        // Within the file: its size was checked when the range came.
        let start = memory.start().saturating_add(address.saturating_sub(*first));
        let len = len.min(bytes(address, range.last));
        Ok(GuestPiece { address, place: FileOffset::from_arc(memory.arc().clone(), start), len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::edges;
    use proptest::prelude::*;

    fn map(table: &mut Table, address: u64, size: u64) -> Result<(), DmaError> {
        let last = table.free(address, size)?;
        table.insert(address, Range { last, access: DmaAccess::READ, memory: None });
        Ok(())
    }

    #[test]
    fn ranges_are_whole_pages_and_do_not_overlap() {
        let mut table = Table::default();
        map(&mut table, 0x10000, 0x10000).unwrap();
        for (address, size) in [(0x1f000, 0x1000), (0x8000, 0x9000), (0, 0x100_0000), (0x10000, 0x10000)] {
            assert!(matches!(map(&mut table, address, size), Err(DmaError::Overlap { other: 0x10000, .. })));
        }
        for (address, size) in [(1, 0x1000), (0, 1), (0, 0), (u64::MAX - 0xfff, 0x2000), (0, u64::MAX)] {
            assert!(
                matches!(map(&mut table, address, size), Err(DmaError::Range { .. })),
                "{address:#x}+{size:#x}"
            );
        }
        map(&mut table, 0x20000, 0x1000).unwrap();
        map(&mut table, u64::MAX - 0xfff, 0x1000).unwrap();
    }

    #[test]
    fn unmapping_takes_whole_ranges() {
        let mut table = Table::default();
        map(&mut table, 0x1000, 0x2000).unwrap();
        map(&mut table, 0x4000, 0x1000).unwrap();
        for (address, size) in [(0x1000, 0x1000), (0x2000, 0x1000), (0x2000, 0x3000), (0x8000, 0x1000)] {
            assert!(matches!(table.remove(address, size), Err(DmaError::NotMapped { .. })));
        }
        assert_eq!(table.remove(0, 0x10000), Ok(0x3000));
        map(&mut table, 0x1000, 0x1000).unwrap();
        assert_eq!(table.clear(), 0x1000);
    }

    #[test]
    fn ranges_are_right_at_every_edge_of_the_address_space() {
        let edges = edges::u64();
        for (address, size) in edges.iter().flat_map(|a| edges.iter().map(move |s| (*a, *s))) {
            let end = u128::from(address) + u128::from(size);
            let is_range = address % PAGE_SIZE == 0 && size % PAGE_SIZE == 0 && size > 0 && end <= 1 << 64;
            let mut table = Table::default();
            assert_eq!(map(&mut table, address, size).is_ok(), is_range, "{address:#x}+{size:#x}");
            if !is_range {
                assert_eq!(table.remove(address, size), Err(DmaError::Range { address, size }));
                continue;
            }
            let last = u64::try_from(end - 1).unwrap();
            let piece = |at, len| table.piece(at, len, DmaAccess::READ);
            for at in edges.iter().copied() {
                // There is no memory behind it, but the range is found where it is and nowhere else.
                let found = !matches!(piece(at, 1), Err(GuestMemoryError::NotMapped(_)));
                assert_eq!(found, (address..=last).contains(&at), "{at:#x} in {address:#x}+{size:#x}");
            }
            assert_eq!(table.remove(address, size), Ok(size));
            assert_eq!(table.clear(), 0);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_page_by_page_model(ops in proptest::collection::vec((any::<bool>(), 0..24usize, 1..8usize), 0..60)) {
            let mut table = Table::default();
            // Which range each page belongs to.
            let mut pages = [None::<u64>; 40];
            for (n, (is_map, page, count)) in (0u64..).zip(ops) {
                let span = page..page + count;
                if is_map {
                    let free = pages[span.clone()].iter().all(Option::is_none);
                    prop_assert_eq!(map(&mut table, (page as u64) << 12, (count as u64) << 12).is_ok(), free);
                    if free { pages[span].fill(Some(n)); }
                } else {
                    let inside: Vec<_> = pages[span.clone()].iter().flatten().copied().collect();
                    let outside = pages.iter().enumerate().any(|(i, p)| !span.contains(&i) && p.is_some_and(|p| inside.contains(&p)));
                    let ok = !inside.is_empty() && !outside;
                    let expected = if ok { Some((inside.len() as u64) << 12) } else { None };
                    prop_assert_eq!(table.remove((page as u64) << 12, (count as u64) << 12).ok(), expected);
                    if ok { pages[span].fill(None); }
                }
            }
        }
    }
}
