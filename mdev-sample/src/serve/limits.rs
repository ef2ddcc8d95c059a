//! How many descriptors this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Raises the limit of descriptors to what it may be raised to. The usual 1024 are for programs that use `select(2)`; a device
/// takes three, a console on it one and five more where it waits for changes.
pub(super) fn take_all_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        warn!(%error, "cannot raise the limit of descriptors");
    }
}
