//! Recorded kernel behaviour against ours.
//!
//! A recording is what the kernel's own mdpy and mbochs answered, call by call (`docs/src/replay.md` describes the format).
//! Each call is made to a fresh device of ours, through the same dispatch that serves everyone, and every field of the
//! answer is compared. What differs is either one of the [`DEVIATIONS`], each narrow and with its reason, or a mismatch.

mod context;
mod deviations;
mod fields;
mod history;
mod originals;
mod ours;
mod record;
mod run;

use std::collections::BTreeMap;
use std::io::{self, BufRead};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error;
use vfio_gfx::abi::pci_region;
use vfio_gfx::device::Device;

use crate::mbochs::{Clock, EDID_REGION};
use crate::{CreateError, DeviceType, UnknownType};
use context::{Call, Context};
use fields::{Fields, value};
use history::History;
use originals::PowerOn;

pub use deviations::{DEVIATIONS, Deviation, render};
pub use record::{Hex, Record, RecordError};
pub use run::RunError;

/// How much time passes between two calls. The recording has no times; its calls were made one by one, so what waits for
/// a time-out had it.
const STEP: Duration = Duration::from_secs(10);

/// The command register, and its bit that has memory accesses decoded (`linux/pci_regs.h`).
const COMMAND: u64 = 4;
const COMMAND_MEMORY: u8 = 2;

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
    let mut running: Option<(Device, History)> = None;
    let mut tally = Tally::default();
    for (line, text) in (1..).zip(recording.lines()) {
        let text = text.map_err(|source| ReplayError::Read { line, source })?;
        let record = Record::parse(&text).map_err(|source| ReplayError::Record { line, source })?;
        let (device, history) = match &mut running {
            Some(running) => running,
            none => {
                let device_type = device_type.map_or_else(|| DeviceType::find(&record.device), Ok);
                let device_type = device_type.map_err(|source| ReplayError::Type { line, source })?;
                let mut device = device_type.create_with_clock(None, stepping(&clock))?;
                let (mut config, mut edid) = ([0; 256], [0; 24]);
                // Every sample device has a configuration space of this size; those without an EDID region need none.
                let _ = device.read(pci_region::CONFIG, 0, &mut config);
                let _ = device.read(EDID_REGION, 0, &mut edid);
                let power_on = PowerOn { config: &config, edid: &edid, vram_size: device.vram().size() };
                let history = History::new(&record.device, power_on);
                none.insert((device, history))
            }
        };
        clock.fetch_add(1, Ordering::Relaxed);
        let id = record.id.map(|id| history.our_id(id));
        let ours = run::run(device, &record, id).map_err(|source| ReplayError::Run { line, source })?;
        let fields = judge(device, history, &record, &ours, &mut tally);
        if !fields.is_empty() {
            report(&Mismatch { record, line: text, fields })
                .map_err(|source| ReplayError::Read { line, source })?;
        }
    }
    Ok(tally)
}

/// A clock that goes one [`STEP`] further at each call.
fn stepping(calls: &Arc<AtomicU64>) -> Clock {
    let calls = Arc::clone(calls);
    Box::new(move || STEP.saturating_mul(u32::try_from(calls.load(Ordering::Relaxed)).unwrap_or(u32::MAX)))
}

/// Counts one record, and returns the fields that differ and should not: name, the kernel's value, ours.
fn judge(
    device: &mut Device,
    history: &mut History,
    record: &Record,
    ours: &Fields,
    tally: &mut Tally,
) -> Vec<(&'static str, String, String)> {
    let kernel = record.kernel_fields();
    let mut names: Vec<&'static str> = kernel.iter().map(|(name, _)| *name).collect();
    names.extend(
        ours.iter().map(|(name, _)| *name).filter(|name| kernel.iter().all(|(other, _)| other != name)),
    );
    names.retain(|name| value(&kernel, name) != value(ours, name));
    let mut mismatches = Vec::new();
    if !names.is_empty() {
        let primary = run::primary(device);
        let id = record.id.map(|id| history.our_id(id));
        let buffer = id.and_then(|id| device.buffer(id, false).ok()).map(|b| (b.kind, b.offset));
        let vram_size = device.vram().size();
        let call = Call::new(record, (&kernel, ours), &primary, buffer, vram_size, history);
        for field in &names {
            let context = Context::new(&call, field);
            let found: Option<Vec<_>> = context.split().iter().map(deviations::find).collect();
            match found {
                Some(found) => {
                    found.iter().for_each(|found| *tally.deviations.entry(found.id).or_default() += 1);
                }
                None => mismatches.push((*field, context.kernel.to_owned(), context.ours.to_owned())),
            }
        }
    }
    history.observe(record, &kernel, ours, decodes(device));
    tally.records += 1;
    match (mismatches.is_empty(), names.is_empty()) {
        (false, _) => tally.mismatching += 1,
        (true, false) => tally.deviating += 1,
        (true, true) => tally.same += 1,
    }
    mismatches
}

/// Whether COMMAND says that memory is decoded.
fn decodes(device: &mut Device) -> bool {
    let mut command = [0];
    device.read(pci_region::CONFIG, COMMAND, &mut command).is_ok() && command[0] & COMMAND_MEMORY != 0
}
