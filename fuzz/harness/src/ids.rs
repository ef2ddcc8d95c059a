//! What is promised of `dmabuf_id`, as a model.

use vfio_gfx::device::BUFFER_TABLE_SIZE;

/// The ids that a device has issued, told of every query.
#[derive(Default)]
pub(crate) struct Ids {
    last: u32,
    /// Most recently queried first, as many as the device promises to remember.
    recent: Vec<u32>,
}

impl Ids {
    /// A query named this buffer: one that is remembered, or one with a number larger than all before. Returns whether it
    /// is a new one.
    pub(crate) fn queried(&mut self, id: u32) -> bool {
        match self.recent.iter().position(|known| *known == id) {
            Some(at) => {
                self.recent[..=at].rotate_right(1);
                false
            }
            None => {
                assert!(id > self.last, "buffer id {id} after {}", self.last);
                self.last = id;
                self.recent.insert(0, id);
                self.recent.truncate(BUFFER_TABLE_SIZE);
                true
            }
        }
    }

    /// Whether a client may fetch this buffer.
    pub(crate) fn knows(&self, id: u32) -> bool {
        self.recent.contains(&id)
    }
}
