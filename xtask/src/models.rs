//! `cargo xtask models`: the library on a model checker's locks.

use std::{env, process::Command};

/// Builds with `--cfg shuttle`, in a directory of its own: everything is compiled anew for another `RUSTFLAGS`.
pub(crate) fn run() -> Result<(), String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    cargo.args(["test", "--package", "vfio-gfx-models", "--target-dir"]);
    cargo.arg(std::path::Path::new(&target).join("models"));
    cargo.env("RUSTFLAGS", format!("{flags} --cfg shuttle"));
    let status = cargo.status().map_err(|e| format!("cannot run cargo: {e}"))?;
    if status.success() { Ok(()) } else { Err("a model does not hold".into()) }
}
