//! Everything beyond plain cargo.
//!
//! `cargo xtask lab` builds the lab that the guest tests need, `cargo xtask test` runs every test and says
//! what was skipped, `cargo xtask sanitize` runs those that need no lab under sanitizers, `cargo xtask soak` runs a day's
//! worth of events and looks for leaks.

mod debian;
mod drivers;
mod lab;
mod models;
mod sanitize;
mod shell;
mod soak;
mod test;

use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask lab | test [--no-lab] [--release] | models | soak | sanitize [--toolchain NAME] [address] [thread] [miri] | help";

const HELP: &str = "\
lab   build the test lab: a Debian tree with QEMU, and guest kernels with their display drivers (needs root; idempotent)
test  build the lab if it is missing, run all tests, sum up what passed, failed and was skipped
        --no-lab   leave the lab as it is: without one, the guest tests are skipped
        --release  test optimised programs
models  run what is concurrent about a device under every interleaving that a model checker tries
sanitize  run the tests that need no lab under sanitizers, and the core tier under miri; all of them without arguments
        --toolchain NAME   another toolchain than nightly, as `rustup toolchain list` names it
soak  a day's worth of events in some minutes, optimised: a million queries, 100000 mode sets, 10000 connections, 1000 devices;
      then descriptors, threads, mappings and memory must be as before

VFIO_GFX_LAB            where the lab is (default: vfio-gfx-lab in $XDG_CACHE_HOME or ~/.cache)
VFIO_GFX_DEBIAN_MIRROR  Debian mirror to build it from (default: the host's, if it is Debian, else debootstrap's)
VFIO_GFX_DEBIAN_UNSIGNED=1  do not verify the mirror's signatures (for hosts whose archive keyring is too old)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}\n\n{HELP}");
            Ok(())
        }
        ["lab"] => lab::provision(),
        ["test", ref options @ ..] => match test::Options::parse(options) {
            Some(options) => test::run(options),
            None => return bad_usage(),
        },
        ["models"] => models::run(),
        ["sanitize", ref tools @ ..] => match sanitize::Options::parse(tools) {
            Some(options) => sanitize::run(&options),
            None => return bad_usage(),
        },
        ["soak"] => soak::run(),
        _ => return bad_usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bad_usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}
