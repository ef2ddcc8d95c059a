//! What is promised of `dmabuf_id`, as a model.

use vfio_gfx::device::BUFFER_TABLE_SIZE;
use vfio_gfx::format::{Fourcc, Modifier};
use vfio_gfx::plane::{Geometry, Plane, Source};

/// What a buffer keeps for as long as its number is known.
type Shape = (Fourcc, Modifier, Geometry, u32);

/// The ids that a device has issued, told of every query.
#[derive(Default)]
pub(crate) struct Ids {
    last: u32,
    /// Most recently queried first, as many as the device promises to remember.
    recent: Vec<(u32, Shape)>,
}

impl Ids {
    /// A query answered with this plane. Its buffer is one that is remembered, and then still has the same shape, or one
    /// with a number larger than all before. Returns whether it is a new one.
    pub(crate) fn queried(&mut self, plane: &Plane) -> bool {
        let Source::Buffer { id, .. } = plane.source else {
            return false;
        };
        let shape = (plane.format, plane.modifier, plane.geometry, plane.size);
        match self.recent.iter().position(|(known, _)| *known == id) {
            Some(at) => {
                assert_eq!(self.recent[at].1, shape, "buffer {id} was another before");
                self.recent[..=at].rotate_right(1);
                false
            }
            None => {
                assert!(id > self.last, "buffer id {id} after {}", self.last);
                self.last = id;
                self.recent.insert(0, (id, shape));
                self.recent.truncate(BUFFER_TABLE_SIZE);
                true
            }
        }
    }

    /// Whether a client may fetch this buffer.
    pub(crate) fn knows(&self, id: u32) -> bool {
        self.recent.iter().any(|(known, _)| *known == id)
    }
}
