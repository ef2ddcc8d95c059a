//! What people must know goes to QEMU's stderr, a line each.

use std::error::Error;
use std::fmt::Display;
use std::io::Write;

use mdev_sample::cli::Chain;

/// Writes `what: error: its causes`. Nobody to read it is no reason to fail.
pub(crate) fn error(what: impl Display, error: &dyn Error) {
    line(format_args!("{what}: {}", Chain(error)));
}

/// Writes a line.
pub(crate) fn line(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "vfio-gfx: {text}");
}
