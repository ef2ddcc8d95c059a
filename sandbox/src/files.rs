//! Which files can be reached: landlock.
//!
//! Landlock judges by the file or directory itself, not by its name: a directory that is removed and made again is another one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, PathFdError, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use thiserror::Error;

use crate::plan::{Plan, directory};

/// All that is refused if it is not allowed. What a kernel does not know yet the crate leaves out.
const KNOWN: ABI = ABI::V9;

/// Why landlock is not in force.
#[derive(Debug, Error)]
pub(crate) enum FilesError {
    /// The kernel is older than 5.13, or was built without.
    #[error("this kernel has none")]
    Absent,
    /// It is not among the security modules of the kernel's command line.
    #[error("off in this kernel, see lsm= of its command line")]
    Off,
    /// A path of the plan cannot be opened.
    #[error(transparent)]
    Path(#[from] PathFdError),
    /// The kernel refuses.
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    /// Without it nothing about descriptors can be asked.
    #[error("cannot open /proc/self")]
    Proc(#[source] io::Error),
}

/// Restricts this thread, and those that it starts, to what the plan names.
pub(crate) fn restrict(plan: &Plan) -> Result<String, FilesError> {
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for (path, access) in allowed(plan)? {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
    }
    let status = ruleset.restrict_self()?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => Err(FilesError::Off),
        (RulesetStatus::NotEnforced, _) => Err(FilesError::Absent),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(format!("landlock ABI {}", effective_abi as i32))
        }
        _ => Err(FilesError::Absent),
    }
}

/// What may be reached, and how.
fn allowed(plan: &Plan) -> Result<Vec<(PathBuf, BitFlags<AccessFs>)>, FilesError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut allowed = Vec::new();
    // What a descriptor is (fdinfo), another description of a memfd (fd), the addresses of a backtrace (maps).
    let proc_self = Path::new("/proc/self");
    // An inode of proc lives as long as somebody holds it, and with it the rule: this one is held to the end.
    std::mem::forget(File::open(proc_self).map_err(FilesError::Proc)?);
    allowed.push((proc_self.to_owned(), read));
    // The names in a backtrace.
    allowed.extend(std::env::current_exe().into_iter().map(|program| (program, AccessFs::ReadFile.into())));
    allowed.extend(plan.removes_in.iter().map(|path| (path.clone(), AccessFs::RemoveFile.into())));
    for path in &plan.makes_sockets_in {
        let access = AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ResolveUnix;
        allowed.push((path.clone(), access));
    }
    allowed.extend(plan.reads.iter().map(|path| (path.clone(), read)));
    let udmabuf = Path::new("/dev/udmabuf");
    if plan.makes_devices && udmabuf.exists() {
        allowed.push((udmabuf.to_owned(), AccessFs::ReadFile | AccessFs::IoctlDev));
    }
    for path in plan.connects.iter().map(|socket| directory(socket)) {
        // A place that is not there cannot be allowed; older kernels do not ask.
        if path.exists() {
            allowed.push((path, AccessFs::ResolveUnix.into()));
        }
    }
    Ok(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a plan may do in a directory, beside what all may.
    fn access(plan: &Plan, path: &str) -> BitFlags<AccessFs> {
        let allowed = allowed(plan).unwrap();
        allowed
            .iter()
            .filter(|(at, _)| at == Path::new(path))
            .fold(BitFlags::EMPTY, |all, (_, more)| all | *more)
    }

    #[test]
    fn a_plan_may_do_what_it_names_and_where() {
        let (read, makes) =
            (AccessFs::ReadFile | AccessFs::ReadDir, AccessFs::MakeSock | AccessFs::ResolveUnix);
        let plan = Plan::new().removes_socket(Path::new("/a/s.sock")).reads(Path::new("/b"));
        assert_eq!(access(&plan, "/a"), AccessFs::RemoveFile);
        assert_eq!(access(&plan, "/b"), read);
        let plan = Plan::new().makes_devices_in(Path::new("/c")).connects_to(Path::new("/tmp/s.sock"));
        assert_eq!(access(&plan, "/c"), makes | AccessFs::RemoveFile);
        assert_eq!(access(&plan, "/tmp"), AccessFs::ResolveUnix);
        assert_eq!(access(&plan, "/proc/self"), read);
        assert_eq!(access(&plan, "/b"), BitFlags::EMPTY);
    }

    #[test]
    fn only_who_makes_devices_may_make_dma_bufs() {
        if !Path::new("/dev/udmabuf").exists() {
            println!("SKIPPED: no /dev/udmabuf here");
            return;
        }
        let makes = Plan::new().makes_devices_in(Path::new("/c"));
        assert_eq!(access(&makes, "/dev/udmabuf"), AccessFs::ReadFile | AccessFs::IoctlDev);
        assert_eq!(access(&Plan::new(), "/dev/udmabuf"), BitFlags::EMPTY);
    }
}
