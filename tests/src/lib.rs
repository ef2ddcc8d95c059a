//! The harness of the tests that drive the real programs against real peers.
//!
//! The tests of this crate start what a user would start (`mdev-sample`, `qemu-shim`, QEMU with a stock Linux
//! guest) and look at what a user would see. Everything they need beyond the programs themselves lives in a
//! *lab* that `cargo xtask lab` builds outside the repository; [`lab`] is the only place that knows how a lab
//! is laid out, and `xtask` uses it too.
//!
//! A harness may panic: every function here that waits, waits with a limit, and panics with what it waited
//! for and what it saw. Processes are guarded ([`process::Running`]): whatever way a test ends, nothing it
//! started survives it.

pub mod checksum;
pub mod cpio;
pub mod guest;
pub mod inject;
pub mod lab;
pub mod machine;
pub mod picture;
pub mod process;
pub mod programs;
pub mod qmp;
pub mod relay;
pub mod screen;
pub mod usage;
pub mod viewer;
pub mod vmm;
pub mod xserver;
pub mod xwd;

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

/// How long a guest or a program may take to do what was asked of it: drivers and compositors work when they find the time.
pub const SOON: Duration = Duration::from_secs(180);

/// What `check` found, tried again and again until it finds it.
///
/// # Panics
/// With `what` and the last error, after [`SOON`].
#[track_caller]
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match check() {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "{what}: {error}"),
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Environment variable naming the file to which skipped tests append one line each.
pub const SKIP_LOG: &str = "VFIO_GFX_SKIP_LOG";

/// Says that `test` could not run and why: on stdout as `SKIPPED: why`, and as a line `test: why` in the file
/// named by [`SKIP_LOG`], if that is set. The test then returns and counts as passed for libtest; `cargo
/// xtask test` subtracts it.
pub fn skip(test: &str, why: &str) {
    println!("SKIPPED: {why}");
    let Some(path) = std::env::var_os(SKIP_LOG) else {
        return;
    };
    let line = format!("{test}: {}\n", why.replace('\n', " "));
    // One write to a file opened for appending: lines of tests that run at the same time do not mix.
    let written = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut log| log.write_all(line.as_bytes()));
    if let Err(error) = written {
        println!("cannot append to {}: {error}", path.display());
    }
}
