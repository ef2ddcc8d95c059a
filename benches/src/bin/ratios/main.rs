//! How far from its limit each figure of this project is.
//!
//! Prints one line of JSON per figure ([`Figure`]) and nothing else on stdout; exit status 1 if one is above what is
//! accepted. A figure is a ratio to something measured beside it in the same run, so that it means the same on a slow
//! machine, or a busy one:
//!
//! * Times are medians of many short batches of ours and of the limit in turn ([`compare`]): what disturbs the machine
//!   disturbs both alike, and a single interruption not at all. So does clock frequency.
//! * What is compared is alike in everything but the work: the same two processes' kinds, the same message sizes, the
//!   same frame, the same compiler settings.
//! * Counts (allocations, wake-ups, bytes) are exact, and have a fixed limit.
//!
//! It is a program and not a test: a test that fails because the machine is busy teaches people to ignore it.

mod allocations;
mod idle;
mod in_process;
mod programs;
mod screendump;
mod socket;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use vfio_gfx_benches::figure::Figure;

#[cfg(doc)]
use vfio_gfx_benches::compare;

/// A measurement hands each figure on as soon as it has it.
type Report<'a> = &'a mut dyn FnMut(Figure) -> Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure(),
        [socket::PEER] => socket::peer().map(|()| true).map_err(Into::into),
        _ => {
            eprintln!("ratios: takes no arguments");
            return ExitCode::from(2);
        }
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

/// Whether all figures are accepted.
fn measure() -> Result<bool, Box<dyn Error>> {
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
    in_process::measure(&mut report)?;
    socket::measure(&mut report)?;
    idle::measure(&mut report)?;
    screendump::measure(&mut report)?;
    Ok(accepted)
}
