//! What a client was refused: told once per connection and kind of fault, then counted.
//!
//! A client learns by an error reply. Whoever runs the server learns by the log who it was, what was asked and what is wrong with
//! it. A client that asks for ever must not write for ever: it has a few lines per connection. That it cannot have more by coming
//! again is for the program's log to see to; a connection does not know of others.

use std::fmt;

use tracing::{debug, warn};

use super::{Command, Role};
use crate::abi::Errno;

/// Most kinds of fault that a connection's lines tell apart.
const MAX_KINDS: usize = 8;

/// Why a message is answered with an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) errno: Errno,
    why: String,
    is_ordinary: bool,
}

impl Refused {
    /// With a sentence of one's own.
    pub(super) fn because(errno: Errno, why: &str) -> Self {
        Self { errno, why: why.to_owned(), is_ordinary: false }
    }

    /// No fault of anybody: asked to learn what there is, or of what there was a moment ago.
    pub(super) fn ordinary(errno: Errno) -> Self {
        Self { is_ordinary: true, ..Self::from(errno) }
    }
}

/// Every error that has an errno says what is wrong by itself, and so does an errno. What is asked of a device that has no such
/// thing, or is unplugged, is ordinary.
impl<E: fmt::Display> From<E> for Refused
where
    Errno: From<E>,
{
    fn from(error: E) -> Self {
        let why = error.to_string();
        let errno = error.into();
        Self { errno, why, is_ordinary: matches!(errno, Errno::EOPNOTSUPP | Errno::ENODEV) }
    }
}

/// A command by its name, or its number where it has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked(u16);

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Command::from_raw(self.0) {
            Some(command) => write!(f, "{command:?}"),
            None => write!(f, "command {}", self.0),
        }
    }
}

/// Faults of one kind: this command, this errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kind {
    asked: Asked,
    errno: Errno,
    count: u64,
}

/// What one connection was refused so far.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// At most [`MAX_KINDS`].
    kinds: Vec<Kind>,
    /// Of further kinds.
    others: u64,
}

impl Refusals {
    /// Counts, and writes a line when it is the first of its kind.
    pub(super) fn add(&mut self, peer: &str, role: Option<Role>, command: u16, refused: &Refused) {
        let Refused { errno, why, is_ordinary } = refused;
        let asked = Asked(command);
        if *is_ordinary || !self.count(asked, *errno) {
            return debug!(client = peer, command = %asked, %errno, why, "refused");
        }
        warn!(client = peer, ?role, command = %asked, %errno, why, "refused");
    }

    /// Whether it is the first of a kind that gets a line.
    fn count(&mut self, asked: Asked, errno: Errno) -> bool {
        let known = self.kinds.iter_mut().find(|kind| (kind.asked, kind.errno) == (asked, errno));
        if let Some(kind) = known {
            kind.count = kind.count.saturating_add(1);
            return false;
        }
        let has_room = self.kinds.len() < MAX_KINDS;
        if has_room {
            self.kinds.push(Kind { asked, errno, count: 1 });
        } else {
            self.others = self.others.saturating_add(1);
        }
        has_room
    }

    /// At the end of the connection: how many there were, where not each had its line.
    pub(super) fn sum_up(&self, peer: &str, role: Option<Role>) {
        if self.others > 0 || self.kinds.iter().any(|kind| kind.count > 1) {
            warn!(client = peer, ?role, what = %self, "refused in all");
        }
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Kind { asked, errno, count }) in self.kinds.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{count} {asked} ({})", errno.name().unwrap_or("?"))?;
        }
        if self.others > 0 {
            write!(f, ", {} of other kinds", self.others)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::DmaError;

    #[test]
    fn a_line_per_kind_and_not_more_than_a_few() {
        let mut refusals = Refusals::default();
        let map = Asked(Command::DmaMap.raw());
        assert!(refusals.count(map, Errno::EEXIST) && refusals.count(map, Errno::EINVAL));
        assert!(!refusals.count(map, Errno::EEXIST) && !refusals.count(map, Errno::EEXIST));
        assert_eq!(refusals.to_string(), "3 DmaMap (EEXIST), 1 DmaMap (EINVAL)");
        let lines = (0..=u16::MAX).filter(|command| refusals.count(Asked(*command), Errno::EPERM)).count();
        assert_eq!(lines, MAX_KINDS - 2);
        assert!(refusals.to_string().ends_with(", 65530 of other kinds"), "{refusals}");
    }

    #[test]
    fn an_error_brings_its_sentence() {
        let refused = Refused::from(DmaError::Flags(9));
        assert_eq!(refused.errno, Errno::EINVAL);
        assert!(refused.why.contains("flags 0x9"), "{}", refused.why);
        assert_eq!(Refused::from(Errno::EPERM).why, Errno::EPERM.to_string());
        assert_eq!(Asked(99).to_string(), "command 99");
    }
}
