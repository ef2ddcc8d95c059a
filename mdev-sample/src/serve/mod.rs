//! `serve`: devices on sockets, all in one process and one thread, until a signal.

mod activation;
mod follow;
mod groups;
mod limits;
mod rom;
mod signals;
mod sockets;

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use mdev_sample::{CreateError, DeviceType};
use tracing::info;
use uuid::Uuid;
use vfio_gfx::device::{Interfaces, SharedDevice};
use vfio_gfx::vfio_user::{EndpointId, Server, ServerEvent};
use vfio_gfx_sandbox::{Plan, Sandbox};

use crate::manage::Directory;
use activation::Supervisor;
use follow::Follower;
use groups::Groups;
use rom::RomFile;
use sockets::Sockets;

/// How long a peer may take to read answers after the first signal.
const PATIENCE: Duration = Duration::from_secs(5);
/// Seconds that a VMM has by default: a guest that is asked over PCI Express blinks a lamp for five of them first.
const GRACE: u32 = 10;

/// Serves devices on Unix sockets until SIGINT or SIGTERM.
#[derive(Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    groups: Groups,
    /// Instead, serve the devices that this directory defines, in mdevctl's format, and follow its changes.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["type", "socket", "uuid", "rom"])]
    definitions: Option<PathBuf>,
    /// Where the sockets of defined devices are to be, each UUID.sock; by default in the directory of definitions.
    // clap does not miss what conflicts with something that is there, so `requires` alone is not enough.
    #[arg(long, value_name = "DIR", requires = "definitions", conflicts_with_all = ["type", "socket", "uuid", "rom"])]
    socket_dir: Option<PathBuf>,
    /// How planes are handed over; by default as the kernel's driver of the type does.
    #[arg(long, value_enum)]
    interfaces: Option<Offer>,
    /// A device ends when the VMM that attached to it has gone, and the program with the last.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    sandbox: Sandbox,
    /// How long a VMM that can be asked has to let a device go that is taken away, by `remove` or by a signal; 0 = at once.
    #[arg(long, value_name = "SECONDS", default_value_t = GRACE)]
    grace: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Offer {
    Region,
    Dmabuf,
    Both,
}

impl Offer {
    fn interfaces(self) -> Interfaces {
        match self {
            Self::Region => Interfaces::REGION,
            Self::Dmabuf => Interfaces::DMABUF,
            Self::Both => Interfaces::all(),
        }
    }
}

/// The socket of a defined device.
pub(crate) fn socket_path(dir: &Path, uuid: Uuid) -> PathBuf {
    dir.join(format!("{}.sock", uuid.hyphenated()))
}

/// What all devices of a server have in common.
struct Workshop {
    server: Server,
    sockets: Sockets,
    interfaces: Option<Interfaces>,
    /// What is served and not told yet, a line for each.
    ready: Vec<String>,
    grace: Duration,
}

impl Workshop {
    /// Takes a device away: asks its VMM for it, if that is possible.
    fn take_away(&mut self, id: EndpointId) {
        if !self.server.request_release(id, self.grace) {
            self.server.remove(id);
        }
    }

    /// Makes a device and serves it.
    fn serve(
        &mut self,
        uuid: Uuid,
        device_type: DeviceType,
        interfaces: Option<Interfaces>,
        rom: Option<RomFile>,
        path: &Path,
    ) -> Result<EndpointId, Box<dyn Error>> {
        let mut device =
            device_type.create(interfaces.or(self.interfaces)).map_err(|error: CreateError| error)?;
        device.offer_release_request();
        if let Some(rom) = rom {
            device = rom.insert(device)?;
        }
        let socket = self.sockets.open(path)?;
        let id = self.server.add(SharedDevice::new(device), socket, &uuid.hyphenated().to_string())?;
        self.ready.push(format!("mdev-sample: {} {uuid} ready on {}", device_type.name(), path.display()));
        Ok(id)
    }

    /// Says what is served.
    fn announce(&mut self) {
        for line in self.ready.drain(..) {
            // Whoever started it need not listen.
            let _ = writeln!(io::stdout(), "{line}");
        }
    }
}

fn passed(error: io::Error) -> String {
    format!("cannot take the sockets that were passed: {error}")
}

impl Serve {
    pub(crate) fn run(&self) -> Result<(), Box<dyn Error>> {
        // Read before anything else is done: a sandbox has no files.
        let roms = self.groups.0.iter().map(|group| group.rom.as_deref().map(RomFile::read).transpose());
        let roms = roms.collect::<Result<Vec<_>, _>>()?;
        // From here on a signal ends the server, not the process.
        let signal = signals::first().map_err(|error| format!("cannot prepare for signals: {error}"))?;
        limits::take_all_descriptors();
        let mut server = Server::new()?;
        let signal = server.watch(signal).map_err(|error| format!("cannot wait for signals: {error}"))?;
        let interfaces = self.interfaces.map(Offer::interfaces);
        let supervisor = Supervisor::find();
        let grace = Duration::from_secs(self.grace.into());
        let mut workshop = Workshop {
            server,
            sockets: Sockets::passed().map_err(passed)?,
            interfaces,
            ready: Vec::new(),
            grace,
        };
        for (group, rom) in self.groups.0.iter().zip(roms) {
            let uuid = group.uuid.unwrap_or_else(Uuid::new_v4);
            workshop.serve(uuid, group.device_type, None, rom, &group.socket)?;
        }
        let mut follower = None;
        if let Some(dir) = &self.definitions {
            let sockets = self.socket_dir.as_deref().unwrap_or(dir);
            follower = Some(Follower::new(Directory::new(Some(dir)), sockets, &mut workshop)?);
        } else {
            workshop.sockets.none_left()?;
        }
        // Nobody was served yet, and nobody is before the sandbox is closed.
        self.sandbox.restrict(&self.plan())?.seal()?;
        workshop.announce();
        supervisor.tell("READY=1");
        loop {
            match workshop.server.next_event()? {
                ServerEvent::VmmGone(id) if self.once => {
                    workshop.server.remove(id);
                    if workshop.server.is_empty() {
                        break;
                    }
                }
                ServerEvent::VmmGone(_) | ServerEvent::Removed(_) => {}
                ServerEvent::Readable(watch) if watch != signal => {
                    if let Some(follower) = &mut follower {
                        follower.update(&mut workshop);
                        workshop.announce();
                    }
                }
                ServerEvent::Readable(_) | ServerEvent::Stopped => break,
            }
        }
        supervisor.tell("STOPPING=1");
        info!(devices = workshop.server.len(), "ending: a second signal ends at once");
        let mut server = workshop.server;
        for watch in follower.iter().map(Follower::watch_id).chain([signal]) {
            server.unwatch_fd(watch)?;
        }
        for id in server.ids().collect::<Vec<_>>() {
            server.request_release(id, grace);
        }
        while server.awaits_release() {
            server.next_event()?;
        }
        Ok(server.drain(PATIENCE)?)
    }

    /// What is needed from here on.
    fn plan(&self) -> Plan {
        let plan = Plan::new();
        match &self.definitions {
            Some(dir) => plan.makes_devices_in(self.socket_dir.as_deref().unwrap_or(dir)).reads(dir),
            None => self.groups.0.iter().fold(plan, |plan, group| plan.removes_socket(&group.socket)),
        }
    }
}
