//! Capabilities, core dumps, and what a program executed from here could gain.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, geteuid, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_no_new_privs};
use thiserror::Error;

use crate::plan::{Plan, directory};

/// A system call that was refused.
#[derive(Debug, Error)]
#[error("{call} failed: {errno}")]
pub(crate) struct PrivilegesError {
    call: &'static str,
    errno: Errno,
}

/// Drops what root has and nobody here needs. The bounding set may stay: without new privileges it bounds nothing.
pub(crate) fn drop(plan: &Plan) -> Result<String, PrivilegesError> {
    let failed = |call| move |errno| PrivilegesError { call, errno };
    set_no_new_privs(true).map_err(failed("prctl(PR_SET_NO_NEW_PRIVS)"))?;
    // A dump has the guest's screen, and the console's password and key.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })
        .map_err(failed("setrlimit(RLIMIT_CORE)"))?;
    let held = capabilities(None).map_err(failed("capget"))?.permitted;
    let kept = if reaches_what_others_own(plan) {
        held & CapabilitySet::DAC_OVERRIDE
    } else {
        CapabilitySet::empty()
    };
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    // The kernel takes from the ambient set what is no longer permitted.
    set_capabilities(None, sets).map_err(failed("capset"))?;
    let words = if kept.is_empty() { "no capabilities" } else { "no capability but CAP_DAC_OVERRIDE" };
    Ok(format!("no new privileges, {words}, no core dumps"))
}

/// Whether the plan names what root can reach by its capabilities only: the monitor of a QEMU that runs as another user, which may
/// not be there yet, or a socket in a directory of another user.
fn reaches_what_others_own(plan: &Plan) -> bool {
    let places = plan.removes_in.iter().chain(&plan.makes_sockets_in).chain(&plan.reads).cloned();
    let mut places = places.chain(plan.connects.iter().map(|socket| directory(socket)));
    let me = geteuid().as_raw();
    !plan.connects.is_empty() || places.any(|place| fs::metadata(place).is_ok_and(|place| place.uid() != me))
}
