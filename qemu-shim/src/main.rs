//! `qemu-shim`: a console for VFIO display devices.

use std::process::ExitCode;

use qemu_shim::commands;

fn main() -> ExitCode {
    mdev_sample::cli::run("qemu-shim", commands::run)
}
