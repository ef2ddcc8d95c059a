//! A picture with more planes on it.

use crate::compose::fast::{Layer, compose};
use crate::damage::{Damage, Rect};
use crate::frame::{Frame, FrameError};

/// What is below, with layers on it. Keeps no picture while there are none.
#[derive(Debug, Default)]
pub(super) struct Composed {
    frame: Frame,
    is_used: bool,
}

impl Composed {
    /// The picture, given the one below.
    pub(super) fn over<'a>(&'a self, below: &'a Frame) -> &'a Frame {
        if self.is_used { &self.frame } else { below }
    }

    /// Brings the picture up to date where `damage` says that something changed.
    pub(super) fn compose(
        &mut self,
        below: &Frame,
        layers: &[Layer<'_>],
        damage: &Damage,
    ) -> Result<(), FrameError> {
        if layers.is_empty() {
            self.clear();
            return Ok(());
        }
        let size = (below.width(), below.height());
        let is_new = !self.is_used || (self.frame.width(), self.frame.height()) != size;
        self.frame.resize(below.width(), below.height())?;
        self.is_used = true;
        if is_new {
            compose(&mut self.frame, below, layers, &[Rect::new(0, 0, size.0, size.1)]);
        } else {
            compose(&mut self.frame, below, layers, &damage.rects());
        }
        Ok(())
    }

    /// Forgets the picture, and its memory.
    pub(super) fn clear(&mut self) {
        if self.is_used {
            *self = Self::default();
        }
    }
}
