//! Buffers of guest memory that a guest flips between.
//!
//! A buffer is a name that consoles fetch and map once. One that is shown again is therefore the same as before, as long as its
//! memory is.

use vfio_gfx::memory::{GuestBufferId, GuestMemory};

/// Most buffers that are kept: two for each plane, and two more.
const KEPT: usize = 8;

/// Most recently shown first.
#[derive(Debug, Default)]
pub(super) struct GuestBuffers(Vec<(u64, u64, GuestBufferId)>);

impl GuestBuffers {
    /// The buffer of these whole pages, if all of them are granted. One that was not asked for in a long time is given up.
    pub(super) fn get(&mut self, guest: &GuestMemory, start: u64, len: u64) -> Option<GuestBufferId> {
        self.0.retain(|(_, _, id)| guest.buffer_size(*id).is_some());
        let known = self.0.iter().position(|(s, l, _)| (*s, *l) == (start, len));
        let entry = match known {
            Some(at) => self.0.remove(at),
            None => (start, len, guest.buffer(&[(start, len)]).ok()?),
        };
        self.0.insert(0, entry);
        for (_, _, old) in self.0.drain(KEPT.min(self.0.len())..) {
            guest.release(old);
        }
        Some(entry.2)
    }

    /// Gives all of them up.
    pub(super) fn clear(&mut self, guest: &GuestMemory) {
        for (_, _, id) in self.0.drain(..) {
            guest.release(id);
        }
    }
}
