//! What a program that faces a guest gives up once it has started.
//!
//! `mdev-sample serve` and `qemu-shim vnc` read what guests, VMMs, devices and viewers send. Should one of these find a fault in
//! them, it finds a process without privileges (`privileges`), which can open no file for writing and reach none but those that its
//! [`Plan`] names (`files`, by landlock), and whose every system call is on a list, or is its last (`calls` and `filter`, by
//! seccomp).
//!
//! It is done in two steps, because the kernel has two kinds of restrictions. [`Sandbox::restrict`] binds the calling thread and
//! those that it starts from then on; [`Restricted::seal`] binds all threads that there are, and none can be started after it. Who
//! needs a thread starts it in between.
//!
//! By default what this kernel has is put in force, and one line in the log says what that is; see [`Mode`] for the others.

mod calls;
mod files;
mod filter;
mod mode;
mod plan;
mod privileges;
mod report;

use tracing::{info, warn};

pub use mode::{Mode, Sandbox};
pub use plan::Plan;
use report::Report;
pub use report::SandboxError;

/// The first step is done.
#[derive(Debug)]
#[must_use = "system calls are not restricted before `seal`"]
pub struct Restricted<'a> {
    mode: Option<Mode>,
    plan: &'a Plan,
    report: Report,
}

impl Sandbox {
    /// Takes privileges and files away from this thread and those that it starts from now on.
    ///
    /// # Errors
    /// With [`Mode::On`], that something cannot be had.
    pub fn restrict(self, plan: &Plan) -> Result<Restricted<'_>, SandboxError> {
        let mut report = Report::default();
        // `log` refuses nothing, so that all that is missing from the list of calls is found in one run.
        if !matches!(self.mode, Some(Mode::Off | Mode::Log)) {
            report.add("privileges", privileges::drop(plan));
            report.add("landlock", files::restrict(plan));
        }
        if self.mode == Some(Mode::On) {
            report.complete()?;
        }
        Ok(Restricted { mode: self.mode, plan, report })
    }
}

impl Restricted<'_> {
    /// Takes away, from all threads, the system calls that the program does not need, and says in the log what is in force.
    ///
    /// # Errors
    /// With [`Mode::On`] and [`Mode::Log`], that this cannot be had.
    pub fn seal(self) -> Result<(), SandboxError> {
        let Self { mode, plan, mut report } = self;
        if mode == Some(Mode::Off) {
            info!("sandbox: off");
            return Ok(());
        }
        report.add("seccomp", filter::install(plan, mode == Some(Mode::Log)));
        if mode.is_some() {
            report.complete()?;
        }
        if mode == Some(Mode::Log) {
            warn!("sandbox: refuses nothing; what it would refuse is in the kernel's audit log");
        } else if report.is_complete() {
            info!("sandbox: {report}");
        } else {
            warn!("sandbox: {report}");
        }
        Ok(())
    }
}
