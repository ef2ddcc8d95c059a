//! Comparing two operations so that a busy machine does not decide.
//!
//! Both run in the same loop, in short batches in turn: A B, B A, A B, … Whatever the machine does meanwhile (another
//! tenant, a slower clock, a warm or cold cache) meets both alike, and neither always goes first. A batch that was
//! interrupted is an outlier among many, and the median of the batches does not see it. What is left is steady where a
//! mean, or one operation measured after the other, is not. (The minimum was tried for operations of milliseconds, and
//! its ratios scattered more on a busy machine.)

use std::error::Error;
use std::time::{Duration, Instant};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Batches of each operation. The first tenth warms up and is not counted.
    pub rounds: usize,
    /// Operations in a batch: enough that reading the clock twice (some 50 ns) is nothing beside them.
    pub batch: u32,
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
            let first = batch(plan.batch, &mut ours)?;
            (first, batch(plan.batch, &mut limit)?)
        } else {
            let first = batch(plan.batch, &mut limit)?;
            (batch(plan.batch, &mut ours)?, first)
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
    count: u32,
    operation: &mut impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    for _ in 0..count {
        operation()?;
    }
    Ok(start.elapsed())
}

/// The middle one, in nanoseconds; of an even number the mean of the two in the middle; of none, 0.
fn median(times: &mut [Duration]) -> f64 {
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
        compare(Plan { rounds: 10, batch: 2 }, || log('o'), || log('l')).unwrap();
        assert_eq!(order.into_inner(), "oolllloo".repeat(5) + "ooll");
    }

    #[test]
    fn a_failure_ends_the_comparison() {
        let plan = Plan { rounds: 10, batch: 1 };
        let error = compare(plan, || Ok(()), || Err("gone".into())).unwrap_err();
        assert_eq!(error.to_string(), "gone");
    }
}
