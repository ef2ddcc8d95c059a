//! `list`, `create`, `remove`: what `mdevctl list --defined`, `define` and `undefine` are to the kernel's devices.

use std::error::Error;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use clap::Args;
use mdev_sample::{DeviceType, cli};
use serde::Serialize;
use uuid::Uuid;

use super::definition::{Attributes, Definition, Start, parent};
use super::{Directory, Room};
use crate::commands::parse_type;
use crate::serve::socket_path;

/// Lists the defined devices.
#[derive(Args)]
pub(crate) struct List {
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
    /// Where the sockets of served devices are; by default the directory of definitions.
    #[arg(long, value_name = "DIR")]
    socket_dir: Option<PathBuf>,
}

/// Defines a device, which a running `serve --definitions` then serves.
#[derive(Args)]
pub(crate) struct Create {
    /// Device type; see `mdev-sample types`.
    #[arg(long = "type", short, value_name = "TYPE", value_parser = parse_type)]
    device_type: DeviceType,
    /// The device's UUID; without it a random one, which is printed.
    #[arg(long, short)]
    uuid: Option<Uuid>,
    /// Whoever serves the directory serves it (the default).
    #[arg(long, conflicts_with = "define")]
    start: bool,
    /// Only define it: nobody serves it until its file says "start": "auto".
    #[arg(long)]
    define: bool,
    #[command(flatten)]
    place: Place,
}

/// Removes a defined device. Whoever serves it takes it away from its VMM.
#[derive(Args)]
pub(crate) struct Remove {
    /// Its UUID.
    uuid: Uuid,
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Place {
    /// The directory of definitions, in mdevctl's format; by default $XDG_CONFIG_HOME/vfio-gfx/mdev, for root
    /// /etc/vfio-gfx/mdev.
    #[arg(long = "definitions", value_name = "DIR")]
    definitions: Option<PathBuf>,
}

impl Place {
    fn directory(&self) -> Directory {
        Directory::new(self.definitions.as_deref())
    }
}

/// A line of `list --json`.
#[derive(Serialize)]
struct Line<'a> {
    uuid: String,
    parent: &'a str,
    mdev_type: &'a str,
    start: Start,
    attrs: &'a Attributes,
    socket: &'a Path,
    active: bool,
}

impl List {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let directory = self.place.directory();
        let (definitions, faults) = directory.scan()?;
        let mut out = io::stdout().lock();
        for definition in &definitions {
            let Definition { uuid, device_type, start, attrs, .. } = definition;
            let socket = socket_path(self.socket_dir.as_deref().unwrap_or(directory.path()), *uuid);
            let active = UnixStream::connect(&socket).is_ok();
            let (uuid, parent, mdev_type) =
                (uuid.hyphenated().to_string(), parent(device_type), device_type.name());
            if self.json {
                let line = Line { uuid, parent, mdev_type, start: *start, attrs, socket: &socket, active };
                writeln!(out, "{}", serde_json::to_string(&line)?)?;
            } else {
                // mdevctl's line for a defined device.
                let active = if active { " (active)" } else { "" };
                writeln!(out, "{uuid} {parent} {mdev_type} {}{active}", start.name())?;
            }
        }
        for fault in faults {
            tracing::warn!(uuid = %fault.uuid, "no definition: {}", cli::Chain(&fault));
        }
        Ok(())
    }
}

impl Create {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let directory = self.place.directory();
        let _lock = directory.lock()?;
        let (definitions, _) = directory.scan()?;
        let uuid = self.uuid.unwrap_or_else(Uuid::new_v4);
        let (name, parent) = (self.device_type.name(), parent(&self.device_type));
        if let Some(other) = definitions.iter().find(|other| other.uuid == uuid) {
            let other = super::definition::parent(&other.device_type);
            return Err(format!("device {uuid} on {other} already defined").into());
        }
        if Room::beside(&definitions).available(&self.device_type) == 0 {
            return Err(format!(
                "{parent} has no room for another {name} in {}: remove one (see mdev-sample list)",
                directory.path().display()
            )
            .into());
        }
        let start = if self.define { Start::Manual } else { Start::Auto };
        directory.add(&Definition::new(uuid, self.device_type, start))?;
        if self.uuid.is_none() {
            writeln!(io::stdout(), "{uuid}")?;
        }
        Ok(())
    }
}

impl Remove {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        let directory = self.place.directory();
        let missing = || {
            let path = directory.path().display();
            format!("no device {} is defined in {path} (see mdev-sample list)", self.uuid)
        };
        if !directory.path().is_dir() {
            return Err(missing().into());
        }
        let _lock = directory.lock()?;
        let (definitions, _) = directory.scan()?;
        let definition = definitions.iter().find(|other| other.uuid == self.uuid).ok_or_else(missing)?;
        Ok(directory.remove(definition)?)
    }
}
