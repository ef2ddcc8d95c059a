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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;
    use std::path::Path;

    use super::*;

    #[test]
    fn the_right_to_reach_what_others_own_is_kept_only_for_that() {
        let mine = tempfile::tempdir().unwrap();
        let others = if geteuid().is_root() {
            let others = tempfile::tempdir().unwrap();
            chown(others.path(), Some(12345), None).unwrap();
            others.keep()
        } else {
            Path::new("/").to_owned()
        };
        let plans = |at: &Path| {
            let plan = Plan::new;
            [plan().removes_socket(&at.join("s.sock")), plan().makes_devices_in(at), plan().reads(at)]
        };
        assert!(!reaches_what_others_own(&Plan::new()));
        assert_eq!(plans(mine.path()).map(|plan| reaches_what_others_own(&plan)), [false; 3]);
        assert_eq!(plans(&others).map(|plan| reaches_what_others_own(&plan)), [true; 3]);
        let monitor = Plan::new().connects_to(&mine.path().join("qmp.sock"));
        assert!(reaches_what_others_own(&monitor), "another user's, as long as it is not there");
        if geteuid().is_root() {
            fs::remove_dir(others).unwrap();
        }
    }
}
