//! Comparing two operations so that a busy machine does not decide.
//!
//! Both run in the same loop, in short batches in turn: A B, B A, A B, … Whatever the machine does meanwhile (another
//! tenant, a slower clock, a warm or cold cache) meets both alike, and neither always goes first. A batch that was
//! interrupted is an outlier among many, and the median of the batches does not see it. What is left is steady where a
//! mean, or one operation measured after the other, is not. (The minimum was tried for operations of milliseconds, and
//! its ratios scattered more on a busy machine.)
//!
//! An operation of milliseconds hardly ever runs to its end on a busy machine without another process in between. Work
//! that is done in the calling thread alone is therefore measured by that thread's own [`Clock`], which stands still meanwhile.

use std::error::Error;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// What time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// What passes on the wall: for whoever waits for others.
    Wall,
    /// What the calling thread is on a CPU.
    Thread,
}

impl Clock {
    /// Does something, and how long it took.
    pub fn time<T>(self, work: impl FnOnce() -> T) -> (T, Duration) {
        let start = self.now();
        let result = work();
        (result, self.now().saturating_sub(start))
    }

    fn now(self) -> Duration {
        let now = clock_gettime(match self {
            Self::Wall => ClockId::Monotonic,
            Self::Thread => ClockId::ThreadCPUTime,
        });
        // Neither clock has ever been before its start.
        Duration::try_from(now).unwrap_or_default()
    }
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Batches of each operation. The first tenth warms up and is not counted.
    pub rounds: usize,
    /// Operations in a batch: enough that reading the clock twice (some 50 ns on the wall, 500 ns of a thread) is nothing
    /// beside them.
    pub batch: u32,
    /// What they are measured by.
    pub clock: Clock,
}

/// Median time of one operation, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Medians {
    /// The first operation.
    pub ours: f64,
    /// The one it is compared with.
    pub limit: f64,
}

/// Runs both operations as the plan says.
///
/// # Errors
/// What an operation failed with.
pub fn compare(
    plan: Plan,
    mut ours: impl FnMut() -> Result<(), Box<dyn Error>>,
    mut limit: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Medians, Box<dyn Error>> {
    let warm_up = plan.rounds / 10;
    let (mut of_ours, mut of_limit) = (Vec::new(), Vec::new());
    for round in 0..warm_up + plan.rounds {
        let times = if round % 2 == 0 {
            let first = batch(plan, &mut ours)?;
            (first, batch(plan, &mut limit)?)
        } else {
            let first = batch(plan, &mut limit)?;
            (batch(plan, &mut ours)?, first)
        };
        if round >= warm_up {
            of_ours.push(times.0);
            of_limit.push(times.1);
        }
    }
    let each = |batches: &mut [Duration]| median(batches) / f64::from(plan.batch);
    Ok(Medians { ours: each(&mut of_ours), limit: each(&mut of_limit) })
}

fn batch(
    plan: Plan,
    operation: &mut impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    let (result, time) = plan.clock.time(|| (0..plan.batch).try_for_each(|_| operation()));
    result.map(|()| time)
}

/// The middle one, in nanoseconds; of an even number the mean of the two in the middle; of none, 0.
#[must_use]
pub fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let middle = times.len() / 2;
    let upper = times.get(middle).copied().unwrap_or_default();
    let lower = if times.len().is_multiple_of(2) { middle.saturating_sub(1) } else { middle };
    let lower = times.get(lower).copied().unwrap_or_default();
    (lower + upper).as_secs_f64() * 1e9 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outliers_do_not_move_the_median() {
        let mut times = [3, 1, 1_000_000, 2, 2].map(Duration::from_nanos);
        assert!((median(&mut times) - 2.0).abs() < 1e-6);
        let mut even = [1, 4, 2, 1_000_000].map(Duration::from_nanos);
        assert!((median(&mut even) - 3.0).abs() < 1e-6);
        assert!(median(&mut []).abs() < 1e-6);
    }

    #[test]
    fn both_run_equally_often_and_neither_always_first() {
        let order = std::cell::RefCell::new(String::new());
        let log = |name| {
            order.borrow_mut().push(name);
            Ok(())
        };
        compare(Plan { rounds: 10, batch: 2, clock: Clock::Wall }, || log('o'), || log('l')).unwrap();
        assert_eq!(order.into_inner(), "oolllloo".repeat(5) + "ooll");
    }

    #[test]
    fn a_threads_clock_stands_still_while_it_sleeps() {
        let plan = Plan { rounds: 3, batch: 1, clock: Clock::Thread };
        let sleep = || {
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        };
        let medians = compare(plan, sleep, || Ok(())).unwrap();
        assert!(medians.ours < 50e6 / 2.0, "{medians:?}");
        let plan = Plan { clock: Clock::Wall, ..plan };
        assert!(compare(plan, sleep, || Ok(())).unwrap().ours >= 50e6);
    }

    #[test]
    fn a_failure_ends_the_comparison() {
        let plan = Plan { rounds: 10, batch: 1, clock: Clock::Wall };
        let error = compare(plan, || Ok(()), || Err("gone".into())).unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }
}
