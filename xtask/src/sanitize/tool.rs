//! What each tool needs, and the command that runs a package's tests under it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fmt};

use super::reports::Reports;
use crate::shell::output;

/// What the sanitizers instrument: the only target that all of them know and that the tests run on.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Everything that runs in the process of its test, or starts programs of the same package. The tests of the lab start QEMU and guests,
/// whose memory the tools do not see; the preload library cannot be loaded into a QEMU that has no sanitizer.
const PACKAGES: [&str; 5] = ["vfio-gfx", "mdev-sample", "qemu-shim", "qemu-preload", "vfio-gfx-fuzz"];

/// Tests that cannot hold under the address sanitizer, and why.
const NOT_UNDER_ADDRESS: [(&str, &str); 1] =
    [("replies_that_are_never_read", "it measures resident memory, and the sanitizer keeps what is freed")];

/// Has rustix call the C library instead of the kernel. The sanitizers see what a system call writes and orders only there, and the thread
/// sanitizer has a signal wait for such a call: a program that sleeps in a system call of its own would never hear of it.
const CALLS_ARE_SEEN: &str = "--cfg=rustix_use_libc";

/// Miri interprets: the modules that do no I/O, and few cases of each property.
const CORE: [&str; 6] =
    ["abi::", "edid::", "format::", "plane::", "vfio_user::header::", "vfio_user::version::"];
const CASES_UNDER_MIRI: &str = "4";
/// Properties run on one thread, which does not race: few of their cases will do there.
const CASES_UNDER_THREAD: &str = "32";

/// One of the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    /// Address sanitizer, with its leak detector.
    Address,
    /// Thread sanitizer. The standard library has to be instrumented too: what its locks and threads order is a race otherwise.
    Thread,
    /// The interpreter of Rust's own rules, over the core tier.
    Miri,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "address",
            Self::Thread => "thread",
            Self::Miri => "miri",
        })
    }
}

impl Tool {
    pub(super) const ALL: [Self; 3] = [Self::Address, Self::Thread, Self::Miri];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.to_string() == name)
    }

    /// Why it cannot run here.
    pub(super) fn missing(self, toolchain: &str) -> Option<String> {
        let rustc =
            |arguments: &[&str]| output(Command::new("rustc").arg(format!("+{toolchain}")).args(arguments));
        let Some(sysroot) = rustc(&["--print", "sysroot"]) else {
            return Some(format!("there is no toolchain {toolchain} (rustup toolchain install {toolchain})"));
        };
        let has_source = || {
            let library = "lib/rustlib/src/rust/library/std/Cargo.toml";
            Path::new(&sysroot).join(library).is_file()
        };
        match self {
            Self::Address => None,
            Self::Thread if has_source() => None,
            Self::Thread => Some(format!(
                "it needs the source of the standard library (rustup component add rust-src --toolchain {toolchain}, or a toolchain \
                 that has it: --toolchain NAME, see docs/src/testing.md)"
            )),
            Self::Miri => {
                let version =
                    output(Command::new("cargo").args([&format!("+{toolchain}"), "miri", "--version"]));
                version
                    .is_none()
                    .then(|| format!("there is no miri (rustup component add miri --toolchain {toolchain})"))
            }
        }
    }

    /// What is not run under it though it is there, and why.
    pub(super) fn excused(self) -> Vec<String> {
        let mut excused = Vec::new();
        if self != Self::Miri {
            excused.push(format!(
                "the sandbox under {self}: it lets pass none of the calls that the tool makes"
            ));
        }
        if self == Self::Address {
            excused.extend(NOT_UNDER_ADDRESS.map(|(test, why)| format!("{test} under {self}: {why}")));
        }
        excused
    }

    /// Beside the ordinary builds, which it would throw out otherwise. Absolute.
    pub(super) fn target_dir(self) -> Result<PathBuf, String> {
        let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        std::path::absolute(Path::new(&target).join(format!("sanitize-{self}")))
            .map_err(|e| format!("{}: {e}", Path::new(&target).display()))
    }

    /// The cargo command for one package.
    pub(super) fn command(self, package: &str, toolchain: &str, dir: &Path, reports: &Reports) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.arg(format!("+{toolchain}"));
        // Set by the cargo that runs us: of another toolchain.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            cargo.env_remove(name);
        }
        let (sanitizer, variable) = match self {
            Self::Miri => {
                cargo.args(["miri", "test", "--package", package, "--lib", "--"]).args(CORE);
                cargo.env("PROPTEST_CASES", CASES_UNDER_MIRI);
                return cargo;
            }
            Self::Address => ("-Zsanitizer=address", "ASAN_OPTIONS"),
            Self::Thread => ("-Zsanitizer=thread", "TSAN_OPTIONS"),
        };
        cargo.args(["test", "--package", package, "--no-fail-fast", "--target", TARGET, "--target-dir"]);
        cargo.arg(dir);
        let flags = format!("{sanitizer} {CALLS_ARE_SEEN}");
        cargo.env("RUSTFLAGS", &flags).env("RUSTDOCFLAGS", &flags);
        // Enough for a report to name lines, and half of the disk.
        cargo.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        // The user's own come last and win.
        let theirs = env::var(variable).unwrap_or_default();
        cargo.env(variable, format!("{}:{theirs}", reports.option()));
        // At its end a program under a sanitizer makes a thread and traces itself (`clone`, `ptrace`), which the sandbox kills.
        cargo.env("VFIO_GFX_SANDBOX", "off");
        if self == Self::Thread {
            cargo.arg("-Zbuild-std").env("PROPTEST_CASES", CASES_UNDER_THREAD);
        }
        cargo.arg("--");
        if self == Self::Address {
            for (test, _) in NOT_UNDER_ADDRESS {
                cargo.args(["--skip", test]);
            }
        }
        cargo
    }

    pub(super) fn packages(self) -> &'static [&'static str] {
        if self == Self::Miri { &["vfio-gfx"] } else { &PACKAGES }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(tool: Tool) -> Command {
        let dir = env::temp_dir().join(format!("vfio-gfx-command-{tool}-{}", std::process::id()));
        let reports = Reports::begin(dir.clone()).unwrap();
        let command = tool.command("vfio-gfx", "mine", &dir, &reports);
        let _ = std::fs::remove_dir_all(dir);
        command
    }

    fn arguments(tool: Tool) -> Vec<String> {
        command(tool).get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    fn variable(tool: Tool, wanted: &str) -> Option<String> {
        let command = command(tool);
        let found = command.get_envs().find(|(name, _)| *name == wanted)?;
        found.1.map(|value| value.to_string_lossy().into_owned())
    }

    #[test]
    fn what_is_excused_is_excused_under_address_alone() {
        let (test, _) = NOT_UNDER_ADDRESS[0];
        assert!(arguments(Tool::Address).ends_with(&["--skip".to_owned(), test.to_owned()]));
        assert!(!arguments(Tool::Thread).contains(&"--skip".to_owned()));
        assert!(arguments(Tool::Thread).contains(&"-Zbuild-std".to_owned()));
    }

    #[test]
    fn every_tool_runs_on_the_toolchain_that_was_asked_for() {
        for tool in Tool::ALL {
            assert_eq!(arguments(tool)[0], "+mine");
        }
    }

    #[test]
    fn programs_under_a_sanitizer_are_seen_calling_report_to_files_and_are_not_in_the_sandbox() {
        for (tool, options) in [(Tool::Address, "ASAN_OPTIONS"), (Tool::Thread, "TSAN_OPTIONS")] {
            assert_eq!(variable(tool, "VFIO_GFX_SANDBOX").as_deref(), Some("off"));
            assert!(variable(tool, "RUSTFLAGS").unwrap().ends_with(CALLS_ARE_SEEN));
            let options = variable(tool, options).unwrap();
            assert!(options.starts_with("log_path=\"/") && options.contains("/report\":"), "{options}");
        }
    }
}
