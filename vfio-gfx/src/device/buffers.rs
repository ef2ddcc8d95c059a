//! The table behind `dmabuf_id`.
//!
//! A query names the buffer it would hand out by a number; `GET_GFX_DMABUF` with that number returns a descriptor. A
//! new number is issued whenever anything about the plane's memory changes (a client that caches by id must never find
//! another plane behind it), numbers only grow, 0 means "no buffer", and the table is bounded: a guest that flips
//! through ever new modes pushes the least recently queried entry out, and its number is then unknown for good.

use std::os::fd::OwnedFd;

use crate::format::{Fourcc, Modifier};
use crate::memory::Vram;
use crate::plane::Geometry;

use super::ScanoutMemory;

/// How many buffers a device remembers. A guest flips between a handful; a client asks for a buffer right after the
/// query that named it.
pub const BUFFER_TABLE_SIZE: usize = 64;

/// What makes two planes the same memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BufferKey {
    pub(super) format: Fourcc,
    pub(super) modifier: Modifier,
    pub(super) geometry: Geometry,
    pub(super) memory: ScanoutMemory,
    pub(super) offset: u64,
    pub(super) size: u64,
    /// The flip that it is a copy of; 0 for the memory itself.
    pub(super) copy_of: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: u32,
    pub(super) key: BufferKey,
    /// The dma-buf, once somebody asked for it. Each GET returns a new descriptor of it.
    pub(super) dmabuf: Option<OwnedFd>,
    /// The copy, once somebody asked for it.
    pub(super) copy: Option<Vram>,
}

/// Most recently queried first.
#[derive(Debug)]
pub(super) struct BufferTable {
    entries: Vec<Entry>,
    /// The number to issue next; 0 when all have been.
    next: u32,
    have_dmabufs: bool,
}

impl BufferTable {
    pub(super) fn new() -> Self {
        Self { entries: Vec::with_capacity(BUFFER_TABLE_SIZE), next: 1, have_dmabufs: false }
    }

    /// The number of this buffer, issued now if it has none. `None` when all 2^32 - 1 numbers are used up. Allocates
    /// nothing.
    pub(super) fn id(&mut self, key: &BufferKey) -> Option<u32> {
        if let Some(at) = self.entries.iter().position(|entry| entry.key == *key) {
            if let Some(newer) = self.entries.get_mut(..=at) {
                newer.rotate_right(1);
            }
            return self.entries.first().map(|entry| entry.id);
        }
        if self.next == 0 {
            return None;
        }
        let id = self.next;
        self.next = id.checked_add(1).unwrap_or(0);
        if self.entries.len() == BUFFER_TABLE_SIZE {
            self.entries.pop();
        }
        self.entries.insert(0, Entry { id, key: *key, dmabuf: None, copy: None });
        Some(id)
    }

    /// Forgets every entry whose key is not `wanted`, with its dma-buf or copy. Returns whether there was one that somebody had
    /// asked for.
    pub(super) fn retain(&mut self, wanted: impl Fn(&BufferKey) -> bool) -> bool {
        let mut was_held = false;
        self.entries.retain(|entry| {
            let is_wanted = wanted(&entry.key);
            was_held |= !is_wanted && (entry.dmabuf.is_some() || entry.copy.is_some());
            is_wanted
        });
        was_held
    }

    /// The copies that somebody has asked for.
    pub(super) fn copies(&self) -> impl Iterator<Item = &Vram> {
        self.entries.iter().filter_map(|entry| entry.copy.as_ref())
    }

    /// Whether a dma-buf was ever made, of whatever entry.
    pub(super) fn have_dmabufs(&self) -> bool {
        self.have_dmabufs
    }

    /// A dma-buf is made.
    pub(super) fn note_dmabuf(&mut self) {
        self.have_dmabufs = true;
    }

    /// The entry with this number, while it is remembered.
    pub(super) fn get(&mut self, id: u32) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(offset: u64) -> BufferKey {
        BufferKey {
            format: Fourcc::XRGB8888,
            modifier: Modifier::LINEAR,
            geometry: Geometry::new(64, 64, 256, 4).unwrap(),
            memory: ScanoutMemory::Vram,
            offset,
            size: 16384,
            copy_of: 0,
        }
    }

    #[test]
    fn ids_are_stable_monotonic_and_never_zero() {
        let mut table = BufferTable::new();
        let first = table.id(&key(0)).unwrap();
        let second = table.id(&key(4096)).unwrap();
        assert!(first != 0 && second > first);
        assert_eq!(table.id(&key(0)), Some(first));
        assert!(table.get(0).is_none());
        assert!(table.get(second).is_some());
    }

    #[test]
    fn the_table_is_bounded_and_ids_do_not_come_back() {
        let mut table = BufferTable::new();
        let kept = table.id(&key(1 << 40)).unwrap();
        let mut last = kept;
        for n in 0..1000 {
            let id = table.id(&key(n * 4096)).unwrap();
            assert!(id > last);
            last = id;
            assert_eq!(table.id(&key(1 << 40)), Some(kept), "what is in use stays");
        }
        assert_eq!(table.entries.len(), BUFFER_TABLE_SIZE);
        assert!(table.get(kept + 1).is_none(), "forgotten");
        assert!(table.id(&key(0)).unwrap() > last, "a new number, not the old one");
    }

    #[test]
    fn what_is_taken_back_is_forgotten_and_the_rest_is_not() {
        let mut table = BufferTable::new();
        let [kept, gone] = [0, 4096].map(|offset| table.id(&key(offset)).unwrap());
        table.retain(|key| key.offset == 0);
        assert!(table.get(kept).is_some() && table.get(gone).is_none());
        assert!(table.id(&key(4096)).unwrap() > gone, "a new number, not the old one");
    }

    #[test]
    fn when_all_numbers_are_used_none_is_reused() {
        let mut table = BufferTable::new();
        table.next = u32::MAX;
        assert_eq!(table.id(&key(0)), Some(u32::MAX));
        assert_eq!(table.id(&key(4096)), None);
        assert_eq!(table.id(&key(0)), Some(u32::MAX));
    }
}
