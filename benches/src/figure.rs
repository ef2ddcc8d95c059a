//! One line of the `ratios` program.

use serde::Serialize;

use crate::compare::Medians;

/// A measured figure beside its limit, as one line of JSON.
#[derive(Debug, Serialize)]
pub struct Figure {
    /// What was measured.
    pub figure: &'static str,
    /// Our number.
    pub ours: f64,
    /// What both numbers count.
    pub unit: &'static str,
    /// The number it is compared with.
    pub limit: f64,
    /// Where that comes from.
    pub limit_is: &'static str,
    /// `ours / limit`; null where the limit is 0.
    pub ratio: Option<f64>,
    /// The largest ratio that is accepted; where the limit is 0, only 0 is.
    pub at_most: f64,
    /// Whether it was.
    pub ok: bool,
}

impl Figure {
    /// A count or size, of which more than `limit` is too much.
    #[must_use]
    pub fn counted(figure: &'static str, ours: f64, unit: &'static str, limit: f64) -> Self {
        Self::new(figure, ours, unit, limit, "fixed", 1.0)
    }

    /// A time, in nanoseconds, of which more than `at_most` times the limit is too much.
    #[must_use]
    pub fn timed(figure: &'static str, medians: Medians, limit_is: &'static str, at_most: f64) -> Self {
        Self::new(figure, medians.ours, "ns", medians.limit, limit_is, at_most)
    }

    /// A number beside one that was measured in the same way, of which more than `at_most` times as much is too much.
    #[must_use]
    pub fn new(
        figure: &'static str,
        ours: f64,
        unit: &'static str,
        limit: f64,
        limit_is: &'static str,
        at_most: f64,
    ) -> Self {
        let ratio = (limit > 0.0).then(|| round(ours / limit, 1000.0));
        let ok = ours <= limit * at_most;
        Self {
            figure,
            ours: round(ours, 10.0),
            unit,
            limit: round(limit, 10.0),
            limit_is,
            ratio,
            at_most,
            ok,
        }
    }
}

/// Digits beyond these are noise.
fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_everything() {
        let figure = Figure::timed("query", Medians { ours: 50.0, limit: 200.04 }, "getppid syscall", 1.0);
        let line = concat!(
            r#"{"figure":"query","ours":50.0,"unit":"ns","limit":200.0,"limit_is":"getppid syscall","#,
            r#""ratio":0.25,"at_most":1.0,"ok":true}"#
        );
        assert_eq!(serde_json::to_string(&figure).unwrap(), line);
        assert!(!Figure::timed("query", Medians { ours: 201.0, limit: 200.0 }, "", 1.0).ok);
    }

    #[test]
    fn a_limit_of_zero_is_judged_without_a_ratio() {
        let none = Figure::counted("allocations", 0.0, "allocations", 0.0);
        assert!(none.ok && none.ratio.is_none());
        assert!(!Figure::counted("allocations", 1.0, "allocations", 0.0).ok);
    }

    #[test]
    fn rounding_hides_no_excess() {
        assert!(Figure::counted("memory", 8192.0, "KiB", 8192.0).ok);
        let over = Figure::counted("memory", 8193.0, "KiB", 8192.0);
        assert!(!over.ok && over.ratio == Some(1.0), "the ratio is rounded for display only");
    }
}
