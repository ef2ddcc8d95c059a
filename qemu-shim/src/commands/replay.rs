//! `qemu-shim replay`

use std::error::Error;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::PathBuf;

use clap::Args;
use mdev_sample::cli::Chain;

use crate::compose::recording;

#[derive(Debug, Args)]
pub(super) struct Replay {
    /// Recordings of vkms plane stacks, one JSON object per line.
    #[arg(required = true, value_name = "FILE.jsonl")]
    files: Vec<PathBuf>,
}

impl Replay {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut out = io::stdout().lock();
        let (mut records, mut differ) = (0, 0);
        for path in &self.files {
            let named = |error: &dyn Error| format!("{}: {}", path.display(), Chain(error));
            let file = File::open(path).map_err(|error| named(&error))?;
            records += recording::replay(BufReader::new(file), |difference| {
                differ += 1;
                let recording::Difference { line, kernel, ours } = difference;
                writeln!(out, "{}: line {line}: kernel {kernel}, ours {ours}", path.display())
            })
            .map_err(|error| named(&error))?;
        }
        writeln!(out, "{records} records, {} same, {differ} differ", records - differ)?;
        match differ {
            0 => Ok(()),
            _ => Err(format!("{differ} stacks look otherwise than the kernel's").into()),
        }
    }
}
