//! The first SIGINT or SIGTERM asks to end, the second ends.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// Exit status of the second signal: something may be left unanswered.
const FAILURE: i32 = 1;

/// Something that becomes readable with the first signal.
pub(super) fn first() -> io::Result<OwnedFd> {
    let (reader, writer) = UnixStream::pair()?;
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: what asks whether it was asked before comes first.
        flag::register_conditional_shutdown(signal, FAILURE, Arc::clone(&asked))?;
        flag::register(signal, Arc::clone(&asked))?;
        low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    Ok(reader.into())
}
