//! `qemu-shim crc`

use std::error::Error;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use thiserror::Error;

use crate::console::{Console, Refresh};
use crate::crc;
use crate::target::Target;

#[derive(Debug, Args)]
pub(super) struct Crc {
    /// The device.
    pub(super) device: Target,
    /// Wait for this many distinct frames: each differs from the one before it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    frames: u64,
    /// vkms: what the kernel's vkms reports for the composed picture. raw: CRC-32 (as in zlib) of the plane's visible
    /// bytes as they are in memory.
    #[arg(long, value_enum, default_value_t = Algorithm::Vkms)]
    algorithm: Algorithm,
    /// One JSON object per frame: seq counts from 0, `time_ns` is `CLOCK_MONOTONIC`.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Algorithm {
    Vkms,
    Raw,
}

#[derive(Debug, Error)]
#[error(
    "{0}: the display is off, so there is nothing to sum; --frames with a number above 1 waits for pictures"
)]
struct Off(Target);

/// A line of `--json`; the order of the fields is part of the contract.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    time_ns: i64,
    width: u32,
    height: u32,
    crc: &'a str,
}

/// What a line tells of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sum {
    width: u32,
    height: u32,
    crc: u32,
}

impl Crc {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut console = Console::new(self.device.open()?);
        if self.frames > 1 && matches!(self.algorithm, Algorithm::Vkms) {
            // No frame of a guest that waits for its flips is missed.
            console.pace_flips();
        }
        let mut out = io::stdout().lock();
        let mut last = None;
        let mut seq = 0;
        let mut idle = 0;
        while seq < self.frames {
            match self.look(&mut console, last)? {
                Look::Off if self.frames == 1 => return Err(Off(self.device.clone()).into()),
                Look::Off => last = None,
                Look::Same => {}
                Look::New(sum) => {
                    last = Some(sum);
                    self.print(&mut out, seq, sum)?;
                    seq += 1;
                    idle = 0;
                    continue;
                }
            }
            console.wait(idle)?;
            idle = idle.saturating_add(1);
        }
        Ok(())
    }

    fn look(&self, console: &mut Console, last: Option<Sum>) -> Result<Look, Box<dyn Error>> {
        let sum = match self.algorithm {
            Algorithm::Vkms => match console.refresh()? {
                Refresh::Off => return Ok(Look::Off),
                Refresh::Torn => return Ok(Look::Same),
                Refresh::Same if last.is_some() => return Ok(Look::Same),
                Refresh::Same | Refresh::Changed => {
                    let frame = console.frame();
                    Sum { width: frame.width(), height: frame.height(), crc: crc::vkms(frame) }
                }
            },
            Algorithm::Raw => match console.raw_crc()? {
                None => return Ok(Look::Off),
                Some((plane, crc)) => {
                    Sum { width: plane.geometry.width(), height: plane.geometry.height(), crc }
                }
            },
        };
        Ok(if last == Some(sum) { Look::Same } else { Look::New(sum) })
    }

    fn print(&self, out: &mut impl Write, seq: u64, sum: Sum) -> io::Result<()> {
        let Sum { width, height, crc } = sum;
        let crc = format!("{crc:08x}");
        if self.json {
            let now = clock_gettime(ClockId::Monotonic);
            let time_ns = now.tv_sec * 1_000_000_000 + now.tv_nsec;
            let line = Line { seq, time_ns, width, height, crc: &crc };
            writeln!(out, "{}", serde_json::to_string(&line)?)?;
        } else {
            writeln!(out, "{crc}")?;
        }
        out.flush()
    }
}

/// What a look at the device found.
enum Look {
    Off,
    Same,
    New(Sum),
}
