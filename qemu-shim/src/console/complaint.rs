//! Saying what is wrong with a device once, not at every frame.

use std::error::Error;
use std::time::{Duration, Instant};

use mdev_sample::cli::Chain;

/// The same complaint is repeated after this time.
const AGAIN: Duration = Duration::from_secs(60);
/// Different complaints come no faster than this: a device that thinks of a new fault at every frame is one fault.
const BETWEEN: Duration = Duration::from_secs(1);

/// What was said last, and when.
#[derive(Debug, Default)]
pub(super) struct Complaint {
    last: Option<(String, Instant)>,
    unsaid: u64,
}

impl Complaint {
    /// Writes a warning to the log, unless it was written a moment ago.
    pub(super) fn say(&mut self, what: &str, error: &dyn Error) {
        let text = format!("{what}: {}", Chain(error));
        let now = Instant::now();
        if self.is_due(&text, now) {
            tracing::warn!(suppressed = self.unsaid, "{text}");
            self.unsaid = 0;
            self.last = Some((text, now));
        } else {
            self.unsaid += 1;
        }
    }

    fn is_due(&self, text: &str, now: Instant) -> bool {
        self.last.as_ref().is_none_or(|(last, said)| {
            now.duration_since(*said) >= if last == text { AGAIN } else { BETWEEN }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fault_is_told_once_a_minute_and_any_once_a_second() {
        let now = Instant::now();
        let complaint = Complaint { last: Some(("a".into(), now)), unsaid: 0 };
        let due = |text, after: u64| complaint.is_due(text, now + Duration::from_millis(after));
        assert!(!due("a", 0) && !due("a", 59_999) && due("a", 60_000));
        assert!(!due("b", 999) && due("b", 1000));
        assert!(Complaint::default().is_due("a", now));
    }
}
