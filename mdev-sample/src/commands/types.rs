//! `types`: what there is, and how many more of it fit.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use mdev_sample::TYPES;

use crate::manage::{Directory, Room};

/// Lists the device types.
#[derive(Args)]
pub(crate) struct Types {
    /// One JSON object per line, with the kernel's attribute names.
    #[arg(long)]
    json: bool,
    /// Count available_instances beside the devices defined here; by default the user's definitions (see `list`).
    #[arg(long, value_name = "DIR")]
    definitions: Option<PathBuf>,
}

impl Types {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut out = io::stdout().lock();
        if !self.json {
            for t in TYPES {
                writeln!(out, "{:<14} {}", t.name(), t.description())?;
            }
            return Ok(());
        }
        let room = Room::beside(&Directory::new(self.definitions.as_deref()).scan()?.0);
        for t in TYPES {
            writeln!(out, "{}", t.to_json(room.available(&t)))?;
        }
        Ok(())
    }
}
