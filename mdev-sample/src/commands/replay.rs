//! `replay`: recorded answers of the kernel against ours.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;

use clap::Args;
use mdev_sample::replay::{self, Tally};
use mdev_sample::{DeviceType, cli};

use super::parse_type;

/// Makes recorded calls to our devices and compares the answers with the kernel's.
#[derive(Args)]
pub(crate) struct Replay {
    /// Replay on a device of this type, instead of the one that each recording names.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse_type)]
    device_type: Option<DeviceType>,
    /// Recordings, one JSON object per line.
    #[arg(required = true, value_name = "FILE.jsonl")]
    files: Vec<PathBuf>,
}

impl Replay {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut out = io::stdout().lock();
        let mut total = Tally::default();
        for path in &self.files {
            let named = |error: &dyn Error| format!("{}: {}", path.display(), cli::Chain(error));
            let file = File::open(path).map_err(|error| named(&error))?;
            let tally = replay::replay(BufReader::new(file), self.device_type, |mismatch| {
                let record = &mismatch.record;
                writeln!(
                    out,
                    "{}: record {} ({}): {}",
                    path.display(),
                    record.seq,
                    record.op,
                    mismatch.line
                )?;
                for (field, kernel, ours) in &mismatch.fields {
                    writeln!(out, "  {field}: kernel {kernel:?}, ours {ours:?}")?;
                }
                Ok(())
            })
            .map_err(|error| named(&error))?;
            writeln!(out, "{}: {}", path.display(), summary(&tally))?;
            total.add(&tally);
        }
        for deviation in replay::DEVIATIONS {
            if let Some(count) = total.deviations.get(deviation.id) {
                writeln!(out, "deviation {}: {count} fields", deviation.id)?;
            }
        }
        writeln!(out, "total: {}", summary(&total))?;
        match total.mismatching {
            0 => Ok(()),
            count => Err(format!("{count} records do not match the kernel's answers").into()),
        }
    }
}

fn summary(tally: &Tally) -> String {
    let Tally { records, same, deviating, mismatching, .. } = tally;
    format!("{records} records, {same} same, {deviating} deviations, {mismatching} mismatches")
}
