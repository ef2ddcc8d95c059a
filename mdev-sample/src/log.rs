//! The log of the programs: lines on stderr, and not as many as a client would have them.
//!
//! Who may connect to a device may make the server write about him, by connecting again if by nothing else. So lines about a device
//! (within its span) are limited: of those that one place in the program writes about one device a few come at once, then one at a
//! time; the next says how many were not written. What concerns no device, or is for those who look for a fault (debug), is not
//! limited.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber, span};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, format};
use tracing_subscriber::registry::LookupSpan;

/// Lines that come at once.
const BURST: u32 = 20;
/// After them, one comes in this time.
const EVERY: Duration = Duration::from_secs(10);
/// Places and devices that are kept apart before those that were quiet are forgotten.
const MANY: usize = 1024;

/// Starts logging to stderr: what `RUST_LOG` says, `info` by default.
pub(crate) fn start() {
    // vfio-ioctls logs as errors what is ordinary of a console's devices; what matters it returns too.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,vfio_ioctls=off"));
    let format = Limited { inner: format::Format::default(), buckets: Mutex::default() };
    let logs = tracing_subscriber::fmt();
    // A file or a journal is to have words and no colours.
    let logs = if io::stderr().is_terminal() { logs } else { logs.with_ansi(false) };
    logs.event_format(format).with_env_filter(filter).with_writer(io::stderr).init();
}

/// Lines that one place may still write about one device.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    lines: u32,
    filled: Instant,
    unsaid: u64,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { lines: BURST, filled: now, unsaid: 0 }
    }

    fn refill(&mut self, now: Instant) {
        let spans = now.duration_since(self.filled).as_secs() / EVERY.as_secs();
        let spans = u32::try_from(spans).unwrap_or(u32::MAX);
        self.lines = self.lines.saturating_add(spans).min(BURST);
        // What is left of the time counts for the next line.
        self.filled += EVERY.checked_mul(spans).unwrap_or_default();
    }

    /// How many lines were not written before this one; `None` if this is not to be written either.
    fn take(&mut self, now: Instant) -> Option<u64> {
        self.refill(now);
        match self.lines.checked_sub(1) {
            Some(left) => {
                self.lines = left;
                Some(std::mem::take(&mut self.unsaid))
            }
            None => {
                self.unsaid = self.unsaid.saturating_add(1);
                None
            }
        }
    }

    fn is_quiet(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.lines == BURST
    }
}

type Buckets = HashMap<(Identifier, span::Id), Bucket>;

/// As [`Bucket::take`], of the bucket of this place and device.
fn take(buckets: &mut Buckets, key: (Identifier, span::Id), now: Instant) -> Option<u64> {
    if buckets.len() >= MANY {
        buckets.retain(|_, bucket| !bucket.is_quiet(now));
    }
    buckets.entry(key).or_insert_with(|| Bucket::new(now)).take(now)
}

/// A format that leaves out the lines that are too many.
struct Limited<F> {
    inner: F,
    buckets: Mutex<Buckets>,
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let device = context.lookup_current().filter(|_| *metadata.level() <= Level::INFO);
        let unsaid = match device {
            Some(device) => {
                let key = (metadata.callsite(), device.id());
                let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
                match take(&mut buckets, key, Instant::now()) {
                    Some(unsaid) => unsaid,
                    // Nothing is written for an empty line.
                    None => return Ok(()),
                }
            }
            None => 0,
        };
        if unsaid == 0 {
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{} unsaid={unsaid}", line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_burst_then_a_line_at_a_time_that_counts_the_others() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let said = (0..1000).filter(|_| bucket.take(start).is_some()).count();
        assert_eq!(said, BURST as usize);
        assert_eq!(bucket.take(start + EVERY - Duration::from_millis(1)), None);
        assert_eq!(bucket.take(start + EVERY), Some(1000 - u64::from(BURST) + 1));
        assert_eq!(bucket.take(start + EVERY), None);
        assert_eq!(bucket.take(start + 2 * EVERY + EVERY / 2), Some(1));
        assert_eq!(bucket.take(start + 3 * EVERY), Some(0), "the half counts");
    }

    #[test]
    fn quiet_buckets_are_forgotten_when_there_are_many_and_others_are_not() {
        let start = Instant::now();
        let place = tracing::callsite!(name: "place", kind: tracing::metadata::Kind::EVENT, fields: x);
        let place = tracing::callsite::Callsite::metadata(place).callsite();
        let key = |id| (place.clone(), span::Id::from_u64(id));
        let mut buckets = Buckets::new();
        for id in 1..=MANY as u64 {
            assert_eq!(take(&mut buckets, key(id), start), Some(0));
        }
        for _ in 0..2 * BURST {
            let _ = take(&mut buckets, key(7), start);
        }
        assert_eq!(take(&mut buckets, key(5000), start + 2 * EVERY), Some(0));
        assert_eq!(buckets.len(), 2, "the one that is still refilling, and the new one");
        assert_eq!(take(&mut buckets, key(7), start + 2 * EVERY), Some(u64::from(BURST) + 1));
    }
}
