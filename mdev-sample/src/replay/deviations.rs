//! Where we answer otherwise than the kernel's drivers, on purpose.

use super::record::Record;

/// A field that differs.
pub(super) struct Difference<'a> {
    pub(super) record: &'a Record,
    pub(super) field: &'static str,
    /// What the kernel said; empty where it said nothing.
    pub(super) kernel: &'a str,
    /// What we say.
    pub(super) ours: &'a str,
}

/// A difference that is meant.
#[derive(Clone, Copy)]
pub struct Deviation {
    /// Short name.
    pub id: &'static str,
    /// Why we answer otherwise.
    pub reason: &'static str,
    /// The rule of the uapi, or the kernel's defect, that it answers.
    pub answers: &'static str,
    pub(super) matches: fn(&Difference<'_>) -> bool,
}

/// All of them.
pub const DEVIATIONS: &[Deviation] = &[];

/// The deviation that a difference is, if it is one.
pub(super) fn find(difference: &Difference<'_>) -> Option<&'static Deviation> {
    DEVIATIONS.iter().find(|deviation| (deviation.matches)(difference))
}
