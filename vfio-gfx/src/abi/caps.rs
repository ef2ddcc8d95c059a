//! Capability chains behind region info (`struct vfio_info_cap_header`).
//!
//! A chain is a linked list inside the caller's buffer: each header names its id, its version and the offset of
//! the next header from the start of the *info struct*. Building lays the capabilities out one after another;
//! parsing accepts only chains that walk forward, so that no chain can loop.

use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `struct vfio_info_cap_header`, 8 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CapHeader {
    /// Capability id.
    pub id: u16,
    /// Version of the capability's layout.
    pub version: u16,
    /// Offset of the next header from the start of the info struct, 0 = last.
    pub next: u32,
}

/// `VFIO_REGION_INFO_CAP_SPARSE_MMAP`
pub const CAP_SPARSE_MMAP: u16 = 1;
/// `VFIO_REGION_INFO_CAP_TYPE`
pub const CAP_TYPE: u16 = 2;
/// `VFIO_REGION_TYPE_GFX`
pub const TYPE_GFX: u32 = 1;
/// `VFIO_REGION_SUBTYPE_GFX_EDID`
pub const SUBTYPE_GFX_EDID: u32 = 1;

/// Size of the region info struct that a chain follows.
const BASE: usize = 32;
const HEADER: usize = 8;

/// Type capability of interrupt info, as once proposed upstream (see the book's "The display extension").
pub const IRQ_CAP_TYPE: u16 = 1;
/// `VFIO_IRQ_TYPE_GFX`, as proposed.
pub const IRQ_TYPE_GFX: u32 = 1;
/// The display interrupt of this project: one interrupt per kind of change. (The proposal's is subtype 1, with one
/// interrupt for all.)
pub const IRQ_SUBTYPE_DISPLAY_EVENTS: u32 = 2;

/// What follows the 16 bytes of the display interrupt's info: `cap_offset`, padding, and the type capability.
#[must_use]
pub fn display_irq() -> [u8; 24] {
    let mut bytes = [0; 24];
    let header = CapHeader { id: IRQ_CAP_TYPE, version: 1, next: 0 };
    let parts = [
        24u32.as_bytes(),
        &[0; 4],
        header.as_bytes(),
        IRQ_TYPE_GFX.as_bytes(),
        IRQ_SUBTYPE_DISPLAY_EVENTS.as_bytes(),
    ];
    for (slot, byte) in bytes.iter_mut().zip(parts.into_iter().flatten()) {
        *slot = *byte;
    }
    bytes
}

/// Whether an interrupt info (the whole reply) is that of a display interrupt.
#[must_use]
pub fn is_display_irq(reply: &[u8]) -> bool {
    reply.get(16..).is_some_and(|caps| caps.starts_with(&display_irq()))
}

/// A mappable piece of a region (`struct vfio_region_sparse_mmap_area`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SparseArea {
    /// Offset from the start of the region, in bytes.
    pub offset: u64,
    /// Size in bytes.
    pub size: u64,
}

/// One capability of a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionCap {
    /// Only these areas can be mapped.
    SparseMmap(Vec<SparseArea>),
    /// What a device-specific region is for.
    Type {
        /// `VFIO_REGION_TYPE_*`, or bit 31 and a PCI vendor id.
        ty: u32,
        /// Meaning depends on `ty`.
        subtype: u32,
    },
    /// One this crate does not know.
    Other {
        /// Capability id.
        id: u16,
        /// Version of its layout.
        version: u16,
    },
}

impl RegionCap {
    /// The type capability of an EDID region.
    pub const GFX_EDID: Self = Self::Type { ty: TYPE_GFX, subtype: SUBTYPE_GFX_EDID };

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::SparseMmap(areas) => {
                let count = u32::try_from(areas.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&count.to_ne_bytes());
                out.extend_from_slice(&0u32.to_ne_bytes());
                for area in areas {
                    out.extend_from_slice(area.as_bytes());
                }
            }
            Self::Type { ty, subtype } => {
                out.extend_from_slice(&ty.to_ne_bytes());
                out.extend_from_slice(&subtype.to_ne_bytes());
            }
            Self::Other { .. } => {}
        }
    }

    const fn id_and_version(&self) -> (u16, u16) {
        match self {
            Self::SparseMmap(_) => (CAP_SPARSE_MMAP, 1),
            Self::Type { .. } => (CAP_TYPE, 1),
            Self::Other { id, version } => (*id, *version),
        }
    }
}

/// Lays out a chain as it follows a [`super::RegionInfo`]: the bytes after the struct's 32.
#[must_use]
pub fn encode(caps: &[RegionCap]) -> Vec<u8> {
    let mut out = Vec::new();
    for (n, cap) in caps.iter().enumerate() {
        let mut body = Vec::new();
        cap.encode(&mut body);
        let end = BASE.saturating_add(out.len()).saturating_add(HEADER).saturating_add(body.len());
        let last = n.saturating_add(1) == caps.len();
        let (id, version) = cap.id_and_version();
        let next = if last { 0 } else { u32::try_from(end).unwrap_or(0) };
        out.extend_from_slice(CapHeader { id, version, next }.as_bytes());
        out.append(&mut body);
    }
    out
}

/// Why a chain cannot be walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CapError {
    /// A header or its body lies outside the reply.
    #[error("capability at offset {offset} leaves the {len}-byte region info")]
    OutOfBounds {
        /// Where the capability starts.
        offset: u32,
        /// Size of the reply.
        len: usize,
    },
    /// The next capability does not lie behind this one: a loop, or one inside another.
    #[error("capability at offset {offset} names {next} as its successor, which is not behind it")]
    NotForward {
        /// Where the capability starts.
        offset: u32,
        /// Its `next`.
        next: u32,
    },
}

/// Walks the chain in a whole region info reply (`reply` starts with the struct), from `cap_offset`; 0 = no chain.
///
/// # Errors
/// [`CapError`] when a capability lies outside the reply or the chain does not move forward.
pub fn parse(reply: &[u8], cap_offset: u32) -> Result<Vec<RegionCap>, CapError> {
    let mut caps = Vec::new();
    let mut offset = cap_offset;
    while offset != 0 {
        let out_of_bounds = CapError::OutOfBounds { offset, len: reply.len() };
        let start = usize::try_from(offset).map_err(|_| out_of_bounds)?;
        if start < BASE {
            return Err(out_of_bounds);
        }
        let tail = reply.get(start..).ok_or(out_of_bounds)?;
        let (header, body) = CapHeader::read_from_prefix(tail).map_err(|_| out_of_bounds)?;
        let (cap, body_len) = parse_body(header, body).ok_or(out_of_bounds)?;
        caps.push(cap);
        // The next one starts behind this one, so the walk ends, and no byte is counted (or allocated for) twice.
        let len = u32::try_from(HEADER.saturating_add(body_len)).unwrap_or(u32::MAX);
        let successor = offset.saturating_add(len);
        if header.next != 0 && header.next < successor {
            return Err(CapError::NotForward { offset, next: header.next });
        }
        offset = header.next;
    }
    Ok(caps)
}

/// The capability, and how many bytes behind its header are known to be its own.
fn parse_body(header: CapHeader, body: &[u8]) -> Option<(RegionCap, usize)> {
    match header.id {
        CAP_SPARSE_MMAP => {
            let (count, rest) = u32::read_from_prefix(body).ok()?;
            let bytes = usize::try_from(count).ok()?.checked_mul(size_of::<SparseArea>())?;
            // The areas are there before anything is allocated for them.
            let areas = rest.get(4..)?.get(..bytes)?;
            let areas = areas.chunks_exact(size_of::<SparseArea>());
            let areas = areas.filter_map(|a| SparseArea::read_from_bytes(a).ok()).collect();
            Some((RegionCap::SparseMmap(areas), bytes.checked_add(8)?))
        }
        CAP_TYPE => {
            let (ty, rest) = u32::read_from_prefix(body).ok()?;
            let (subtype, _) = u32::read_from_prefix(rest).ok()?;
            Some((RegionCap::Type { ty, subtype }, 8))
        }
        id => Some((RegionCap::Other { id, version: header.version }, 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number;
    use proptest::prelude::*;

    fn reply(caps: &[RegionCap]) -> Vec<u8> {
        let mut reply = vec![0; BASE];
        reply.extend(encode(caps));
        reply
    }

    #[test]
    fn edid_type_capability_is_the_kernels_bytes() {
        // {id 2, version 1, next 0}, {type 1, subtype 1}
        assert_eq!(encode(&[RegionCap::GFX_EDID]), [2, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn a_chain_that_loops_is_refused() {
        let mut bytes = reply(&[RegionCap::GFX_EDID, RegionCap::GFX_EDID]);
        bytes[52..56].copy_from_slice(&32u32.to_ne_bytes());
        assert_eq!(parse(&bytes, 32), Err(CapError::NotForward { offset: 48, next: 32 }));
        bytes[52..56].copy_from_slice(&48u32.to_ne_bytes());
        assert_eq!(parse(&bytes, 32), Err(CapError::NotForward { offset: 48, next: 48 }));
    }

    #[test]
    fn capabilities_that_overlap_are_refused() {
        let area = SparseArea { offset: 0, size: 4096 };
        let mut bytes = reply(&[RegionCap::SparseMmap(vec![area; 4]), RegionCap::GFX_EDID]);
        // The successor inside the areas, where a header could be read.
        bytes[36..40].copy_from_slice(&64u32.to_ne_bytes());
        assert_eq!(parse(&bytes, 32), Err(CapError::NotForward { offset: 32, next: 64 }));
    }

    #[test]
    fn absurd_counts_allocate_nothing() {
        let mut bytes = reply(&[RegionCap::SparseMmap(vec![])]);
        bytes[40..44].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(matches!(parse(&bytes, 32), Err(CapError::OutOfBounds { offset: 32, .. })));
        assert!(parse(&bytes, 8).is_err(), "inside the struct");
        assert!(parse(&bytes, u32::MAX).is_err());
    }

    #[test]
    fn the_display_irq_says_what_it_is() {
        // cap_offset 24, padding, {id 1, version 1, next 0}, {type 1, subtype 2}
        let expected = [[24u32, 0, 1 << 16 | 1, 0], [1, 2, 0, 0]].concat();
        assert_eq!(display_irq(), expected[..6].as_bytes());
        let info = [[0; 16].as_slice(), &display_irq()].concat();
        assert!(is_display_irq(&info) && !is_display_irq(&info[..39]) && !is_display_irq(&[]));
        for at in 16..40 {
            let mut other = info.clone();
            other[at] ^= 0x40;
            assert!(!is_display_irq(&other), "byte {at}");
        }
    }

    /// Where a chain may begin and go on: all offsets of a small reply, and those far outside, against arithmetic that has
    /// room.
    #[test]
    fn chains_are_followed_at_every_edge() {
        let whole = reply(&[RegionCap::GFX_EDID, RegionCap::Other { id: 9, version: 3 }]);
        let places = || (0..80).chain(number::edges::U32);
        for len in 0..=whole.len() {
            for start in places() {
                for next in places() {
                    let mut bytes = whole.clone();
                    bytes[36..40].copy_from_slice(&next.to_ne_bytes());
                    bytes.truncate(len);
                    assert_eq!(
                        parse(&bytes, start).ok(),
                        walk(&bytes, start),
                        "{start}, then {next}, of {len}"
                    );
                }
            }
        }
    }

    /// A walk in the widest arithmetic, without the areas.
    fn walk(reply: &[u8], start: u32) -> Option<Vec<RegionCap>> {
        let byte = |at: u128| reply.get(usize::try_from(at).ok()?).copied();
        let word = |at: u128, len: u128| {
            (0..len).rev().try_fold(0u32, |word, n| Some(word << 8 | u32::from(byte(at + n)?)))
        };
        let (mut caps, mut at) = (Vec::new(), u128::from(start));
        while at != 0 {
            if at < 32 {
                return None;
            }
            let (id, version, next) = (word(at, 2)?, word(at + 2, 2)?, word(at + 4, 4)?);
            let (id, version) = (u16::try_from(id).unwrap(), u16::try_from(version).unwrap());
            let (cap, end) = match id {
                1 => {
                    let count = u128::from(word(at + 8, 4)?);
                    if count > 0 || word(at + 12, 4).is_none() {
                        return None;
                    }
                    (RegionCap::SparseMmap(Vec::new()), at + 16)
                }
                2 => (RegionCap::Type { ty: word(at + 8, 4)?, subtype: word(at + 12, 4)? }, at + 16),
                _ => (RegionCap::Other { id, version }, at + 8),
            };
            caps.push(cap);
            if next != 0 && u128::from(next) < end {
                return None;
            }
            at = u128::from(next);
        }
        Some(caps)
    }

    proptest! {
        #[test]
        fn any_bytes_parse_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..256), at in 0u32..300) {
            let _ = parse(&bytes, at);
        }

        #[test]
        fn chains_survive_a_round_trip(areas in proptest::collection::vec((any::<u64>(), any::<u64>()), 0..8), n in 0u32..9) {
            let areas = areas.into_iter().map(|(offset, size)| SparseArea { offset, size }).collect();
            let caps = [RegionCap::SparseMmap(areas), RegionCap::Type { ty: n, subtype: 7 }, RegionCap::Other { id: 9, version: 3 }];
            prop_assert_eq!(parse(&reply(&caps), 32).unwrap(), caps);
        }
    }
}
