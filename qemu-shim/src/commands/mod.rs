//! The program's commands, one per file.

mod crc;
mod demo;
mod diff;
mod info;
mod looking;
mod monitor;
mod qemu;
mod record;
mod replay;
mod run_qemu;
mod screendump;
mod vmm;
mod vnc;
mod wait;
mod watch;

use std::error::Error;

use clap::{Parser, Subcommand};
use vfio_gfx::display::DisplayError;

use crate::console::ConsoleError;
use crate::target::Target;

/// A console for VFIO display devices.
///
/// DEVICE is sample:TYPE (a fresh sample device in this process), vfio-user:PATH (one behind a socket) or vfio:PATH (one
/// of the kernel, by its directory in /sys or its /dev/vfio/devices/vfioN).
#[derive(Debug, Parser)]
#[command(name = "qemu-shim", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The whole path on this machine: a device, a guest that draws, a console that looks.
    Demo(demo::Demo),
    /// What a device is and shows: regions, interrupts, planes, EDID.
    Info(info::Info),
    /// Saves what a device shows as PNG or PPM.
    Screendump(screendump::Screendump),
    /// Checksums of what a device shows, one line per distinct frame.
    Crc(crc::Crc),
    /// Plugs in a monitor that prefers another size.
    Resize(monitor::Resize),
    /// Plugs the monitor in or out.
    Link(monitor::Link),
    /// Shows what a device shows, live, in the terminal.
    Watch(watch::Watch),
    /// Waits until a device shows a picture.
    Wait(wait::Wait),
    /// Records what a device shows as a video file, without loss.
    Record(record::Record),
    /// Compares two pictures.
    Diff(diff::Diff),
    /// Runs an unmodified QEMU (7.2 or later) that shows a device itself: in its window, over its VNC, in its screendumps.
    Qemu(qemu::Qemu),
    /// Runs a stock QEMU (10.1 or later) with a sample device beside it, for consoles to look at.
    RunQemu(run_qemu::RunQemu),
    /// Shows a device to VNC viewers and browsers.
    Vnc(vnc::Vnc),
    /// Composes recorded stacks of planes and compares the checksums with the kernel's.
    Replay(replay::Replay),
}

/// Runs a command line.
///
/// # Errors
/// What the command failed with; the program prints it as one line.
pub fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    match cli.command {
        Command::Demo(command) => command.run(),
        Command::Info(command) => of(&command.device, command.run()),
        Command::Screendump(command) => of(&command.device, command.run()),
        Command::Crc(command) => of(&command.device, command.run()),
        Command::Resize(command) => command.run(),
        Command::Link(command) => command.run(),
        Command::Watch(command) => of(&command.device, command.run()),
        Command::Wait(command) => of(&command.device, command.run()),
        Command::Record(command) => of(&command.device, command.run()),
        Command::Diff(command) => command.run(),
        Command::Qemu(command) => command.run(),
        Command::RunQemu(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Vnc(command) => command.run(),
    }
}

/// A device that failed while it was looked at.
#[derive(Debug, thiserror::Error)]
#[error("{device}")]
struct Failed {
    device: Target,
    #[source]
    source: Box<dyn Error>,
}

/// Says which device it was: what the library fails with does not.
fn of(device: &Target, result: Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    result.map_err(|source| {
        if source.is::<ConsoleError>() || source.is::<DisplayError>() {
            Failed { device: device.clone(), source }.into()
        } else {
            source
        }
    })
}
