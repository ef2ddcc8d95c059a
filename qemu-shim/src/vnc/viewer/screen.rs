//! What of the screen a viewer has, and what it is to be sent.

use crate::console::Update;
use crate::damage::{Damage, Rect, TILE};
use crate::rfb::encodings::Encoding;

use super::super::scroll::Move;
use super::{Viewer, wire_size};

impl Viewer {
    /// Whether rows that moved may be told to it as such.
    #[must_use]
    pub fn takes_copies(&self) -> bool {
        self.is_ready() && self.encodings.order.contains(&Encoding::CopyRect)
    }

    /// The screen changed. `moved`: some of it is only elsewhere.
    pub fn damage(&mut self, update: &Update<'_>, moved: Option<Move>) {
        if !self.is_ready() {
            return;
        }
        let size = wire_size(update.frame.width(), update.frame.height());
        if self.size != size && self.can_resize() {
            self.size = size;
            self.news.size = true;
            self.dirty = Damage::new(size.0.into(), size.1.into());
            self.dirty.add_all();
            self.moved = None;
        } else if self.dirty.size() == update.damage.size() {
            self.add(update.damage, moved);
        } else if update.resized || !update.damage.is_empty() {
            // It cannot be told of the other size: it is shown the corner that fits.
            self.dirty.add_all();
        }
        self.news.cursor |= update.cursor_changed && self.draws_cursor();
    }

    /// The desktop has another name.
    pub fn rename(&mut self) {
        self.news.name |= self.encodings.desktop_name;
    }

    fn add(&mut self, damage: &Damage, moved: Option<Move>) {
        if damage.is_empty() {
            return;
        }
        if let Some(earlier) = self.moved.take() {
            // Not sent yet, and the screen has gone on.
            self.dirty.add(earlier.to);
        }
        // Rows can be copied only by a viewer that has all of them as they were, and only if all of them are asked for.
        let Some(moved) = moved.filter(|_| self.dirty.is_empty() && self.takes_copies() && self.wants_all())
        else {
            self.dirty.merge(damage);
            return;
        };
        self.dirty.merge(damage);
        for row in moved.to.y.div_ceil(TILE)..(moved.to.y + moved.to.height) / TILE {
            self.dirty.row_mut(row).fill(0);
        }
        self.moved = Some(moved);
    }

    fn wants_all(&self) -> bool {
        let all = Rect::new(0, 0, self.size.0.into(), self.size.1.into());
        self.wanted().is_some_and(|wanted| wanted.clipped(all.width, all.height) == all)
    }

    /// Which part of the screen it is to be sent.
    pub(in crate::vnc) fn wanted(&self) -> Option<Rect> {
        match (self.request, self.continuous) {
            (Some(asked), Some(always)) => Some(union(asked, always)),
            (asked, always) => asked.or(always),
        }
    }

    fn can_resize(&self) -> bool {
        self.encodings.desktop_size || self.encodings.extended_desktop_size
    }
}

/// The smallest rectangle that holds both.
pub(super) fn union(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let right = a.x.saturating_add(a.width).max(b.x.saturating_add(b.width));
    let bottom = a.y.saturating_add(a.height).max(b.y.saturating_add(b.height));
    Rect { x, y, width: right - x, height: bottom - y }
}
