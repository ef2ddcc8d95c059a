//! Recorded kernel behaviour against ours.
//!
//! A recording is what the kernel's own mdpy and mbochs answered, call by call (`docs/src/replay.md` has the format).
//! Each call is made to a fresh device of ours, through the same dispatch that serves everyone, and every field of the
//! answer is compared. What differs is either one of the [`DEVIATIONS`], each narrow and with its reason, or a mismatch.

mod deviations;
mod fields;
mod record;
mod run;

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use vfio_gfx::device::Device;

use crate::{CreateError, DeviceType, UnknownType};
use deviations::Difference;

pub use deviations::{DEVIATIONS, Deviation};
pub use record::{Hex, Record, RecordError};
pub use run::RunError;

/// How much time passes between two calls. The recording has no times; its calls were made one by one, so what waits for
/// a time-out had it.
const STEP: Duration = Duration::from_secs(10);

/// Why a recording cannot be replayed.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("line {line}: cannot read")]
    Read {
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line is no record.
    #[error("line {line}")]
    Record {
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// A call cannot be made.
    #[error("line {line}")]
    Run {
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: RunError,
    },
    /// The recording is of a device that is none of ours.
    #[error("line {line}")]
    Type {
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: UnknownType,
    },
    /// The device cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// What became of the records.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many there were.
    pub records: usize,
    /// How many agreed in every field.
    pub same: usize,
    /// How many differed only as meant.
    pub deviating: usize,
    /// How many differed otherwise.
    pub mismatching: usize,
    /// How often each deviation was met, by id.
    pub deviations: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.same += other.same;
        self.deviating += other.deviating;
        self.mismatching += other.mismatching;
        for (id, count) in &other.deviations {
            *self.deviations.entry(id).or_default() += count;
        }
    }
}

/// A record that differs and should not.
#[derive(Debug)]
pub struct Mismatch {
    /// What was called.
    pub record: Record,
    /// The line as it stands in the recording: what was sent.
    pub line: String,
    /// Field, the kernel's value, ours.
    pub fields: Vec<(&'static str, String, String)>,
}

/// Replays a recording on a fresh device: of type `device_type`, or of the type that its first record names. Each
/// mismatch is handed to `report`.
///
/// # Errors
/// [`ReplayError`] at the first line that cannot be replayed.
pub fn replay(
    recording: impl BufRead,
    device_type: Option<DeviceType>,
    mut report: impl FnMut(&Mismatch) -> io::Result<()>,
) -> Result<Tally, ReplayError> {
    let clock = Arc::new(AtomicU64::new(0));
    let mut device: Option<Device> = None;
    let mut tally = Tally::default();
    for (line, text) in (1..).zip(recording.lines()) {
        let text = text.map_err(|source| ReplayError::Read { line, source })?;
        let record = Record::parse(&text).map_err(|source| ReplayError::Record { line, source })?;
        let device = match &mut device {
            Some(device) => device,
            none => {
                let named = || DeviceType::find(&record.device);
                let device_type = device_type.map_or_else(named, Ok);
                let device_type = device_type.map_err(|source| ReplayError::Type { line, source })?;
                let clock = Arc::clone(&clock);
                let now = Box::new(move || STEP.saturating_mul(u32::try_from(clock.load(Ordering::Relaxed)).unwrap_or(u32::MAX)));
                none.insert(device_type.create_with_clock(None, now)?)
            }
        };
        clock.fetch_add(1, Ordering::Relaxed);
        let ours = run::run(device, &record).map_err(|source| ReplayError::Run { line, source })?;
        let fields = judge(&record, &ours, &mut tally);
        if !fields.is_empty() {
            report(&Mismatch { record, line: text, fields }).map_err(|source| ReplayError::Read { line, source })?;
        }
    }
    Ok(tally)
}

/// Counts one record, and returns the fields that differ and should not.
fn judge(record: &Record, ours: &fields::Fields, tally: &mut Tally) -> Vec<(&'static str, String, String)> {
    let kernel = record.kernel_fields();
    let value = |fields: &fields::Fields, name: &str| {
        fields.iter().find(|(field, _)| *field == name).map_or_else(String::new, |(_, value)| value.clone())
    };
    let mut names: Vec<&'static str> = kernel.iter().map(|(name, _)| *name).collect();
    names.extend(ours.iter().map(|(name, _)| *name).filter(|name| kernel.iter().all(|(other, _)| other != name)));
    let mut mismatches = Vec::new();
    let mut deviated = false;
    for field in names {
        let (kernel, ours) = (value(&kernel, field), value(ours, field));
        if kernel == ours {
            continue;
        }
        match deviations::find(&Difference { record, field, kernel: &kernel, ours: &ours }) {
            Some(deviation) => {
                deviated = true;
                *tally.deviations.entry(deviation.id).or_default() += 1;
            }
            None => mismatches.push((field, kernel, ours)),
        }
    }
    tally.records += 1;
    match (mismatches.is_empty(), deviated) {
        (false, _) => tally.mismatching += 1,
        (true, true) => tally.deviating += 1,
        (true, false) => tally.same += 1,
    }
    mismatches
}
