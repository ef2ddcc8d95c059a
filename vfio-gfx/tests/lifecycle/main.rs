//! The life of a device: plugged, asked for, unplugged, replaced. What each holder sees, and what no order of events may bring about.

mod holders;
mod party;
mod random;
mod subject;
