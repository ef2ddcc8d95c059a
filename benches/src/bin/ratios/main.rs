//! How far from its limit each figure of this project is.
//!
//! Prints one line of JSON per figure ([`Figure`]) and nothing else on stdout; exit status 1 if one is above what is
//! accepted. Names on the command line select measurements. A figure is a ratio to something measured beside it in the
//! same run, so that it means the same on a slow machine, or a busy one:
//!
//! * Times are medians of many short batches of ours and of the limit in turn ([`compare`](mod@compare)): a slow clock
//!   or a busy neighbour slows both alike, and a single interruption does not move a median.
//! * What is compared is alike in everything but the work: the same kinds of processes on the same CPUs
//!   ([`placement`]), the same message sizes, the same frame, the same compiler settings.
//! * Counts (allocations, wake-ups, bytes) are exact, and have a fixed limit.
//!
//! It is a program and not a test: a test that fails because the machine is busy teaches people to ignore it.

mod allocations;
mod compose;
mod cpu;
mod damage;
mod dma;
mod encodings;
mod idle;
mod in_process;
mod kvm;
mod many;
mod pixman;
mod placement;
mod programs;
mod qemu;
mod registers;
mod rfb;
mod screendump;
mod socket;
mod vnc;
mod written;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use vfio_gfx_benches::figure::Figure;

#[cfg(doc)]
use vfio_gfx_benches::compare;

/// A measurement hands each figure on as soon as it has it.
type Report<'a> = &'a mut dyn FnMut(Figure) -> Result<(), Box<dyn Error>>;

/// What measures.
type Measure = fn(Report<'_>) -> Result<(), Box<dyn Error>>;

/// The measurements by their names on the command line; all of them where none is named.
const PARTS: [(&str, Measure); 12] = [
    ("in-process", in_process::measure),
    ("socket", socket::measure),
    ("registers", registers::measure),
    ("dma", dma::measure),
    ("idle", idle::measure),
    ("many", many::measure),
    ("screendump", screendump::measure),
    ("damage", damage::measure),
    ("written", written::measure),
    ("compose", compose::measure),
    ("vnc", vnc::measure),
    ("encodings", encodings::measure),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = if arguments.iter().any(|word| word == socket::PEER) {
        socket::peer().map(|()| true).map_err(Into::into)
    } else if let Some(unknown) = arguments.iter().find(|word| PARTS.iter().all(|(name, _)| name != word)) {
        let names = PARTS.map(|(name, _)| name).join(", ");
        eprintln!("ratios: {unknown:?} is not measured; there are {names}");
        return ExitCode::from(2);
    } else {
        measure(&arguments)
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ratios: {}", mdev_sample::cli::Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Measures what is named. Returns whether all figures are accepted.
fn measure(named: &[String]) -> Result<bool, Box<dyn Error>> {
    if cfg!(debug_assertions) {
        return Err("numbers of a debug build mean nothing: run with --release".into());
    }
    let mut accepted = true;
    let mut report = |figure: Figure| {
        accepted &= figure.ok;
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &figure)?;
        writeln!(out)?;
        Ok(())
    };
    for (name, measure) in PARTS {
        if named.is_empty() || named.iter().any(|word| word == name) {
            measure(&mut report)?;
        }
    }
    Ok(accepted)
}
