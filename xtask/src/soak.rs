//! `cargo xtask soak`: all of what the tests run a hundredth of.

use std::env;
use std::process::Command;

/// Runs it, with optimised programs.
pub(crate) fn run() -> Result<(), String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--release", "--package", "vfio-gfx-tests", "--test", "soak"]);
    // Its figures are what one wants to see.
    cargo.args(["--", "--nocapture", "--test-threads", "1"]).env("VFIO_GFX_SOAK", "1");
    let status = cargo.status().map_err(|e| format!("cannot run cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err("something leaks, or fails: see above".into()) }
}
