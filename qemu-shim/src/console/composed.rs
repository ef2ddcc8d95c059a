//! A picture with one more plane on it.

use crate::compose::sprite;
use crate::damage::Damage;
use crate::frame::{Frame, FrameError};

use super::sprite::Sprite;

/// What is below, with a sprite on it. Keeps no picture while there is no sprite.
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
        sprite: &Sprite,
        damage: &Damage,
    ) -> Result<(), FrameError> {
        let Some(layer) = sprite.layer() else {
            self.clear();
            return Ok(());
        };
        let is_new =
            !self.is_used || (self.frame.width(), self.frame.height()) != (below.width(), below.height());
        self.frame.resize(below.width(), below.height())?;
        self.is_used = true;
        if is_new {
            self.frame.pixels_mut().copy_from_slice(below.pixels());
            let all = crate::Rect::new(0, 0, below.width(), below.height());
            sprite::blend(&mut self.frame, &layer, all);
            return Ok(());
        }
        for rect in damage.rects() {
            let columns = rect.x as usize..(rect.x + rect.width) as usize;
            let rows = self.frame.rows_mut().zip(below.rows());
            for (row, below) in rows.skip(rect.y as usize).take(rect.height as usize) {
                row[columns.clone()].copy_from_slice(&below[columns.clone()]);
            }
            sprite::blend(&mut self.frame, &layer, rect);
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
