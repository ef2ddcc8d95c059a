//! `--sandbox`.

use clap::{Args, ValueEnum};

/// How much of a sandbox a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// None.
    Off,
    /// All of it, or do not start.
    On,
    /// Refuse nothing; have the kernel log the system calls that would have ended the program.
    Log,
}

/// The option, to be flattened into a command's. Without it what this kernel has is put in force.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Sandbox {
    /// What the program gives up once it has started: on refuses to start where that cannot be had, log only has the kernel log
    /// what would be refused; by default what this kernel has.
    // The variable is for whoever starts programs that start ours, such as tests under a sanitizer, which needs more calls.
    #[arg(long = "sandbox", value_name = "MODE", value_enum, env = "VFIO_GFX_SANDBOX")]
    pub(crate) mode: Option<Mode>,
}

impl Sandbox {
    /// As if this had been on the command line.
    #[must_use]
    pub fn new(mode: Option<Mode>) -> Self {
        Self { mode }
    }
}
