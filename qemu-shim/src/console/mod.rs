//! The refresh engine: what a device shows, kept up to date, and what of it changed.
//!
//! A [`Console`] looks at a device's planes, brings its picture up to date where it differs, and says which tiles do.
//! Whoever embeds it gives it a [`Display`] and either looks at [`Console::update`] after every [`Console::refresh`], or adds
//! [`Listener`]s and lets [`Console::run`] do that.
//!
//! The picture that a guest draws is composed of up to three planes. The primary one is opaque and fills the screen;
//! overlay and cursor lie on it, their colours multiplied by their alpha, as the kernel's drivers have them. Viewers that draw a
//! pointer themselves ask for the picture without it.
//!
//! A guest that draws into the memory it shows is read while it draws, as a monitor would. One that flips is not: a frame
//! that was flipped away while it was read is read again, and not shown before it was whole. Nothing that was read is shown
//! before the device has said once more that it is there: memory of a device that was unplugged reads as zeros.

mod complaint;
mod composed;
mod dirty_log;
mod error;
mod listener;
mod live;
mod pace;
#[cfg(test)]
mod pacing_tests;
mod placeholder;
mod plug;
mod primary;
mod sprite;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use vfio_gfx::abi::PlaneKind;
use vfio_gfx::display::Display;
use vfio_gfx::plane::Plane;

pub use dirty_log::DirtyLog;
pub use error::ConsoleError;
pub use listener::{Listener, ListenerId};
pub use live::Live;
pub use pace::{LONGEST_PAUSE, SHORTEST_PAUSE, pause};
pub use plug::State;
pub use primary::DamageSource;

use complaint::Complaint;
use composed::Composed;
use listener::Listeners;
use pace::Pace;
use placeholder::{Placeholder, Reason};
use plug::Plug;
use primary::{Primary, is_same_picture};
use sprite::Sprite;

use crate::cursor::Cursor;
use crate::damage::Damage;
use crate::frame::Frame;

/// What a refresh found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// The plane is off; the frame is empty.
    Off,
    /// The picture is what it was.
    Same,
    /// The picture is another, or its cursor.
    Changed,
    /// The guest flipped while its picture was read, every time: what is in the frame may be half of one picture and half
    /// of another. Look again; the damage adds up until then.
    Torn,
}

/// How often a picture is read again when the guest flipped meanwhile.
const ATTEMPTS: u32 = 3;
/// A device that only *seems* to flip, at every look, is shown after this time as it is.
const TORN_FOR: Duration = Duration::from_millis(250);

/// What changed with the last refresh.
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    /// The picture: what the guest shows, or a placeholder that says why there is nothing to see. Never empty.
    pub frame: &'a Frame,
    /// What of it changed; its size is the frame's.
    pub damage: &'a Damage,
    /// Whether the frame has another size than before the refresh.
    pub resized: bool,
    /// Whether the picture is the guest's: false for a placeholder.
    pub live: bool,
    /// The pointer, for those who draw it themselves: `frame` has none then. `None` = there is none, or it is in the frame.
    pub cursor: Option<&'a Cursor>,
    /// Whether the cursor looks different, or came, or went.
    pub cursor_changed: bool,
    /// Whether the cursor is elsewhere.
    pub cursor_moved: bool,
}

impl Update<'_> {
    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.damage.is_empty() && !self.resized && !self.cursor_changed && !self.cursor_moved
    }
}

/// A console on a device.
#[derive(Debug)]
pub struct Console {
    display: Display,
    primary: Primary,
    overlay: Sprite,
    cursor: Sprite,
    /// Primary and overlay; and these with the cursor. Without such planes nothing is kept twice.
    scene: Composed,
    whole: Composed,
    /// What the last refresh changed in each; what a torn one changed waits in them for the next.
    scene_damage: Damage,
    whole_damage: Damage,
    /// Of one look; kept for its memory.
    looked: Damage,
    resized: bool,
    cursor_changed: bool,
    cursor_moved: bool,
    torn_since: Option<Instant>,
    placeholder: Placeholder,
    plug: Plug,
    pace: Pace,
    listeners: Listeners,
    complaint: Complaint,
}

impl Console {
    /// A console that has seen nothing yet.
    #[must_use]
    pub fn new(display: Display) -> Self {
        Self {
            display,
            primary: Primary::default(),
            overlay: Sprite::new(PlaneKind::Overlay),
            cursor: Sprite::new(PlaneKind::Cursor),
            scene: Composed::default(),
            whole: Composed::default(),
            scene_damage: Damage::default(),
            whole_damage: Damage::default(),
            looked: Damage::default(),
            resized: false,
            cursor_changed: false,
            cursor_moved: false,
            torn_since: None,
            placeholder: Placeholder::default(),
            plug: Plug::default(),
            pace: Pace::default(),
            listeners: Listeners::default(),
            complaint: Complaint::default(),
        }
    }

    /// The device.
    pub fn display(&mut self) -> &mut Display {
        &mut self.display
    }

    /// Lets somebody who knows what was written to the device's memory say so, instead of comparing all of it.
    pub fn set_damage_source(&mut self, source: Box<dyn DamageSource>) {
        self.primary.set_source(source);
    }

    /// The picture of the last refresh, cursor and all; empty while the plane is off.
    #[must_use]
    pub fn frame(&self) -> &Frame {
        self.whole.over(self.scene.over(self.primary.frame()))
    }

    /// What the last refresh changed in [`Console::frame`].
    #[must_use]
    pub fn damage(&self) -> &Damage {
        &self.whole_damage
    }

    /// What a viewer should see: the frame, or while there is none a picture that says why.
    #[must_use]
    pub fn screen(&self) -> &Frame {
        if self.frame().is_empty() { self.placeholder.frame() } else { self.frame() }
    }

    /// The primary plane of the last refresh, if it was on.
    #[must_use]
    pub fn plane(&self) -> Option<&Plane> {
        self.primary.plane()
    }

    /// What changed with the last refresh. `draws_cursor`: for somebody who draws the cursor himself.
    #[must_use]
    pub fn update(&self, draws_cursor: bool) -> Update<'_> {
        let scene = self.scene.over(self.primary.frame());
        let (frame, damage) = match (scene.is_empty(), draws_cursor) {
            (true, _) => (self.placeholder.frame(), self.placeholder.damage()),
            (false, true) => (scene, &self.scene_damage),
            (false, false) => (self.frame(), &self.whole_damage),
        };
        Update {
            frame,
            damage,
            resized: self.resized,
            live: !scene.is_empty(),
            cursor: self.cursor.cursor().filter(|_| draws_cursor && !scene.is_empty()),
            cursor_changed: draws_cursor && self.cursor_changed,
            cursor_moved: draws_cursor && self.cursor_moved,
        }
    }

    /// Looks at the device, and brings the picture up to date: tiles that changed are written, others only compared.
    ///
    /// # Errors
    /// [`ConsoleError`]; the frame is then empty, so that nothing stale is taken for live.
    pub fn refresh(&mut self) -> Result<Refresh, ConsoleError> {
        let size = self.shown_size();
        let was_torn = self.torn_since.is_some();
        if !was_torn {
            self.scene_damage.clear();
            self.whole_damage.clear();
            (self.cursor_changed, self.cursor_moved) = (false, false);
        }
        let mut result = self.find_device().and_then(|()| self.try_refresh());
        if let Err(error) = self.pace.end_read(&mut self.display, &result) {
            result = result.and(Err(error.into()));
        }
        match &result {
            Ok(Refresh::Off) => self.blank(Reason::Off),
            Err(error) => self.blank(Reason::of(error)),
            Ok(_) => self.placeholder.leave(),
        }
        self.resized = self.shown_size() != size || (was_torn && self.resized);
        self.pace.saw(&result);
        if self.plug.saw(result.as_ref().err()) {
            self.pace.unplug();
        }
        result
    }

    /// Writes to the log what is wrong with the device: once, not at every look.
    pub fn complain(&mut self, error: &ConsoleError) {
        self.complaint.say("no picture", error);
    }

    fn shown_size(&self) -> (u32, u32) {
        let screen = self.screen();
        (screen.width(), screen.height())
    }

    /// Shows why there is nothing to see; forgets the picture.
    fn blank(&mut self, reason: Reason) {
        let last = (self.primary.frame().width(), self.primary.frame().height());
        self.torn_since = None;
        self.primary.clear();
        self.overlay.clear();
        self.cursor_changed = self.cursor.clear();
        self.cursor_moved = false;
        self.scene.clear();
        self.whole.clear();
        self.scene_damage.resize(0, 0);
        self.whole_damage.resize(0, 0);
        match reason {
            Reason::Gone => self.display.release_memory(),
            _ => self.display.release_buffers(),
        }
        self.placeholder.show(reason, last);
    }

    fn try_refresh(&mut self) -> Result<Refresh, ConsoleError> {
        self.pace.start(&mut self.display)?;
        let mut attempt = 0;
        loop {
            let is_quiet = self.pace.begin_read(&mut self.display)?;
            let Some(plane) = self.look(is_quiet)? else {
                return Ok(Refresh::Off);
            };
            if self.scene_damage.is_empty() && self.whole_damage.is_empty() && !self.cursor_changed {
                self.torn_since = None;
                return Ok(if self.cursor_moved { Refresh::Changed } else { Refresh::Same });
            }
            // Also whether the device is still there: memory of one that is gone reads as zeros, which are no picture.
            let now = self.display.plane(PlaneKind::Primary)?;
            let flipped = !now.is_some_and(|now| now.format == plane.format && is_same_picture(&plane, &now))
                || self.pace.flipped()?;
            if !flipped || self.torn_since.is_some_and(|since| self.may_show_torn(since)) {
                self.torn_since = None;
                return Ok(Refresh::Changed);
            }
            attempt += 1;
            if attempt == ATTEMPTS {
                self.torn_since.get_or_insert_with(Instant::now);
                return Ok(Refresh::Torn);
            }
        }
    }

    /// A device that tells of flips has a guest that waits for them; any other may set the same picture again and again
    /// (bochs-drm pans at every damage), and a picture with a seam is better than none.
    fn may_show_torn(&self, since: Instant) -> bool {
        !self.pace.is_told() && since.elapsed() >= TORN_FOR
    }

    /// One look at every plane. Returns the primary one as it was read; `None` = the screen is off. It is asked for even of a
    /// device that is quiet: that is how one that is gone shows.
    fn look(&mut self, is_quiet: bool) -> Result<Option<Plane>, ConsoleError> {
        let Some(pixels) = self.display.pixels(PlaneKind::Primary)? else {
            return Ok(None);
        };
        let plane = *pixels.plane();
        self.primary.update(&pixels)?;
        drop(pixels);
        let (width, height) = (plane.geometry.width(), plane.geometry.height());
        if self.scene_damage.size() != (width, height) {
            self.scene_damage.resize(width, height);
            self.whole_damage.resize(width, height);
        }
        let mut damage = std::mem::take(&mut self.looked);
        damage.resize(width, height);
        damage.merge(self.primary.damage());

        let overlay = self.look_at_sprite(PlaneKind::Overlay, &plane, is_quiet)?;
        overlay.add_to(&mut damage);
        self.scene.compose(self.primary.frame(), self.overlay.layer().as_slice(), &damage)?;
        self.scene_damage.merge(&damage);

        let cursor = self.look_at_sprite(PlaneKind::Cursor, &plane, is_quiet)?;
        cursor.add_to(&mut damage);
        // All layers at once: composed one after the other they would be rounded twice.
        match (self.overlay.layer(), self.cursor.layer()) {
            (Some(overlay), Some(cursor)) => {
                self.whole.compose(self.primary.frame(), &[overlay, cursor], &damage)?;
            }
            (_, cursor) => self.whole.compose(self.primary.frame(), cursor.as_slice(), &damage)?,
        }
        self.whole_damage.merge(&damage);
        self.cursor_changed |= cursor.shape;
        self.cursor_moved |= cursor.moved;
        self.looked = damage;
        Ok(Some(plane))
    }

    /// Looks at the overlay or the cursor. One that cannot be shown does not take the screen with it: it is left out, and
    /// the log says why. Only a device that is gone is an error.
    fn look_at_sprite(
        &mut self,
        kind: PlaneKind,
        primary: &Plane,
        is_quiet: bool,
    ) -> Result<sprite::Change, ConsoleError> {
        let sprite = if kind == PlaneKind::Cursor { &mut self.cursor } else { &mut self.overlay };
        sprite.look(&mut self.display, primary, is_quiet).or_else(|error| {
            if error.is_gone() {
                return Err(error);
            }
            self.complaint.say(&format!("the {kind:?} plane is not shown"), &error);
            Ok(sprite.clear_change())
        })
    }
}
