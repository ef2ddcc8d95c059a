//! Input that waits for a VMM to take it: bounded, and what goes down comes up.

use std::collections::VecDeque;

use super::keyboard::Stroke;
use super::mouse::Motion;

/// Events that wait, at most; only what lets go of something that is held may be more.
pub(super) const LIMIT: usize = 256;

/// Something that the guest's hardware does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Stroke(Stroke),
    Motion(Motion),
}

impl Event {
    fn is_move(&self) -> bool {
        matches!(self, Self::Motion(motion) if motion.is_move())
    }

    fn is_release(&self) -> bool {
        match self {
            Self::Stroke(stroke) => !stroke.down,
            Self::Motion(motion) => motion.is_release(),
        }
    }
}

/// Events, in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    events: VecDeque<Event>,
}

impl Queue {
    /// Adds events that belong together, all of them or none, and says which. A move takes the place of one right before
    /// it; moves go where there is no room; releases are always taken, since there are no more of them than keys and buttons.
    pub(super) fn push(&mut self, events: &[Event]) -> bool {
        if let ([event], Some(last)) = (events, self.events.back_mut())
            && event.is_move()
            && last.is_move()
        {
            *last = *event;
            return true;
        }
        if !events.iter().all(Event::is_release) {
            while self.events.len().saturating_add(events.len()) > LIMIT {
                let Some(oldest) = self.events.iter().position(Event::is_move) else { return false };
                self.events.remove(oldest);
            }
        }
        self.events.extend(events);
        true
    }

    /// Takes the next event.
    pub(super) fn pop(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.events.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stroke(code: u8, down: bool) -> Event {
        Event::Stroke(Stroke { code, down })
    }

    fn motion(x: u16, down: u16, changed: u16) -> Event {
        Event::Motion(Motion { position: (x, 0), down, changed })
    }

    #[test]
    fn moves_collapse_but_not_around_clicks() {
        let mut queue = Queue::default();
        let events = [
            motion(1, 0, 0),
            motion(2, 0, 0),
            motion(3, 1, 1),
            motion(4, 1, 0),
            motion(5, 1, 0),
            motion(6, 0, 1),
        ];
        for event in events {
            assert!(queue.push(&[event]));
        }
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(left, [events[1], events[2], events[4], events[5]]);
    }

    #[test]
    fn a_full_queue_loses_moves_then_presses_never_releases() {
        let mut queue = Queue::default();
        assert!(queue.push(&[motion(1, 0, 0)]));
        for _ in 0..LIMIT {
            assert!(queue.push(&[stroke(1, true)]));
        }
        assert_eq!(queue.len(), LIMIT);
        assert!(queue.events.iter().all(|event| *event == stroke(1, true)), "the move went");
        assert!(!queue.push(&[stroke(2, true)]));
        assert!(!queue.push(&[motion(1, 0, 0)]));
        assert!(!queue.push(&[stroke(0x2a, true), stroke(2, true), stroke(0x2a, false)]), "all or none");
        assert_eq!(queue.len(), LIMIT);
        assert!(queue.push(&[stroke(1, false)]));
        assert!(queue.push(&[motion(1, 0, 1)]));
        assert_eq!(queue.len(), LIMIT + 2);
    }
}
