//! Which system calls pass: seccomp.

use thiserror::Error;

use crate::plan::Plan;

/// Why system calls are not filtered.
#[derive(Debug, Error)]
pub(crate) enum FilterError {
    /// No filter can be written for this machine.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
    #[error("there is a filter for x86_64, aarch64 and riscv64, not for {}", std::env::consts::ARCH)]
    Machine,
    /// It cannot be put into the kernel's form.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    #[error("the list of calls makes no filter")]
    Compile(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
    #[error("the kernel refuses the filter")]
    Install(#[source] seccompiler::Error),
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
pub(crate) use of_machine::install;

/// There is none.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
pub(crate) fn install(_: &Plan, _: bool) -> Result<String, FilterError> {
    Err(FilterError::Machine)
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64"))]
mod of_machine {
    use std::collections::BTreeMap;

    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
        SeccompFilter, SeccompRule, TargetArch,
    };

    use super::{FilterError, Plan};
    use crate::calls::{ALWAYS, ALWAYS_OLD, CHECKED, CONNECTS, Call, Check, MAKES_DEVICES, VFIO_REQUEST};

    /// Binds all threads of the process. A call that is not on the list ends the process; with `only_log` it passes, and the
    /// kernel logs it.
    pub(crate) fn install(plan: &Plan, only_log: bool) -> Result<String, FilterError> {
        seccompiler::apply_filter_all_threads(&compile(plan, only_log)?).map_err(FilterError::Install)?;
        Ok("seccomp".to_owned())
    }

    fn compile(plan: &Plan, only_log: bool) -> Result<BpfProgram, BackendError> {
        let refused = if only_log { SeccompAction::Log } else { SeccompAction::KillProcess };
        let machine = TargetArch::try_from(std::env::consts::ARCH)?;
        SeccompFilter::new(rules(plan)?, refused, SeccompAction::Allow, machine)?.try_into()
    }

    /// What passes: calls without rules always, others if one of their rules holds.
    fn rules(plan: &Plan) -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
        let mut rules = BTreeMap::new();
        for call in ALWAYS.iter().chain(ALWAYS_OLD) {
            rules.insert(*call, Vec::new());
        }
        let mut add = |calls: &[Call]| -> Result<(), BackendError> {
            for (call, check) in calls {
                rules.insert(*call, check.rules()?);
            }
            Ok(())
        };
        add(CHECKED)?;
        if !plan.connects.is_empty() {
            add(CONNECTS)?;
        }
        if plan.makes_devices {
            add(MAKES_DEVICES)?;
        }
        if plan.uses_vfio {
            let (mask, value) = VFIO_REQUEST;
            let requests = rule(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask.into()), value)?;
            rules.entry(libc::SYS_ioctl).or_default().push(requests);
        }
        Ok(rules)
    }

    impl Check {
        /// Of which one must hold; none is needed for what is free.
        fn rules(self) -> Result<Vec<SeccompRule>, BackendError> {
            use SeccompCmpArgLen::{Dword, Qword};
            match self {
                Self::Free => Ok(Vec::new()),
                Self::Without(arg, bits) => {
                    Ok(vec![rule(arg, Dword, SeccompCmpOp::MaskedEq(bits.into()), 0)?])
                }
                Self::OneOf(arg, values) => {
                    values.iter().map(|value| rule(arg, Dword, SeccompCmpOp::Eq, *value)).collect()
                }
                Self::Null(arg) => Ok(vec![rule(arg, Qword, SeccompCmpOp::Eq, 0)?]),
                Self::Ourselves(arg) => Ok(vec![rule(arg, Dword, SeccompCmpOp::Eq, std::process::id())?]),
            }
        }
    }

    fn rule(
        arg: u8,
        len: SeccompCmpArgLen,
        operator: SeccompCmpOp,
        value: u32,
    ) -> Result<SeccompRule, BackendError> {
        SeccompRule::new(vec![SeccompCondition::new(arg, len, operator, value.into())?])
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        /// All that may be asked for.
        fn everything() -> Plan {
            let here = std::path::Path::new(".");
            Plan::new().removes_socket(here).makes_devices_in(here).reads(here).connects_to(here).uses_vfio()
        }

        #[test]
        fn every_plan_makes_a_filter_that_the_kernel_has_room_for() {
            for plan in [Plan::new(), everything()] {
                for only_log in [false, true] {
                    let program = compile(&plan, only_log).unwrap();
                    // BPF_MAXINSNS (linux/bpf_common.h)
                    assert!(program.len() < 4096, "{}", program.len());
                }
            }
        }

        #[test]
        fn a_call_is_listed_once() {
            let mut seen = std::collections::BTreeSet::new();
            let checked = CHECKED.iter().map(|(call, _)| call);
            for call in ALWAYS.iter().chain(ALWAYS_OLD).chain(checked) {
                assert!(seen.insert(call), "{call}");
            }
            for (call, _) in MAKES_DEVICES.iter().chain(CONNECTS) {
                assert!(!seen.contains(call), "{call} passes for all");
            }
        }

        #[test]
        fn what_was_asked_for_passes_and_the_rest_does_not() {
            let passes =
                |plan: &Plan, call: i64| rules(plan).unwrap().get(&call).map_or(0, |rules| rules.len() + 1);
            for call in [libc::SYS_connect, libc::SYS_bind, libc::SYS_renameat2] {
                assert_eq!((passes(&Plan::new(), call), passes(&everything(), call)), (0, 1), "{call}");
            }
            let (none, all) = (passes(&Plan::new(), libc::SYS_ioctl), passes(&everything(), libc::SYS_ioctl));
            assert_eq!(all, none + 1, "VFIO's requests");
        }

        #[test]
        fn nothing_that_starts_programs_or_leaves_this_machine_passes() {
            let rules = rules(&everything()).unwrap();
            for call in [
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_clone,
                libc::SYS_clone3,
                libc::SYS_ptrace,
                libc::SYS_process_vm_writev,
                libc::SYS_kill,
                libc::SYS_openat2,
                libc::SYS_io_uring_setup,
                libc::SYS_userfaultfd,
                libc::SYS_bpf,
                libc::SYS_mount,
                libc::SYS_unshare,
                libc::SYS_setns,
            ] {
                assert!(!rules.contains_key(&call), "{call}");
            }
        }
    }
}
