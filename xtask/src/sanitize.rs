//! `cargo xtask sanitize`: the tests once more, under tools that see what a test cannot: memory used after it was freed or beyond
//! its end, memory that nobody frees, data races, undefined behaviour.
//!
//! They need a nightly toolchain, and two of them a component of it. What is not there is said and not run, as in `cargo xtask test`.

use std::process::Command;
use std::{env, fmt};

use crate::shell::output;

/// What the sanitizers instrument: the only target that all of them know and that the tests run on.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Everything that runs in the process of its test. The tests of the lab start programs and guests, whose memory they do not see;
/// the preload library cannot be loaded into a QEMU that has no sanitizer.
const PACKAGES: [&str; 5] = ["vfio-gfx", "mdev-sample", "qemu-shim", "qemu-preload", "vfio-gfx-fuzz"];

/// Tests that cannot hold under the address sanitizer, and why.
const NOT_UNDER_ADDRESS: [(&str, &str); 1] =
    [("replies_that_are_never_read", "it measures resident memory, and the sanitizer keeps what is freed")];

/// Miri interprets: the modules that do no I/O, and few cases of each property.
const CORE: [&str; 6] =
    ["abi::", "edid::", "format::", "plane::", "vfio_user::header::", "vfio_user::version::"];
const CASES_UNDER_MIRI: &str = "4";

/// One of the tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
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
    const ALL: [Self; 3] = [Self::Address, Self::Thread, Self::Miri];

    /// Understands the arguments after `sanitize`: none for all; `None` if one of them is unknown.
    pub(crate) fn parse(arguments: &[&str]) -> Option<Vec<Self>> {
        if arguments.is_empty() {
            return Some(Self::ALL.to_vec());
        }
        let known = |argument: &&str| Self::ALL.into_iter().find(|tool| tool.to_string() == **argument);
        arguments.iter().map(known).collect()
    }

    /// Why it cannot run here.
    fn missing(self) -> Option<String> {
        let nightly = |arguments: &[&str]| output(Command::new("rustc").arg("+nightly").args(arguments));
        let Some(sysroot) = nightly(&["--print", "sysroot"]) else {
            return Some("there is no nightly toolchain (rustup toolchain install nightly)".to_owned());
        };
        let has_source = || {
            let library = "lib/rustlib/src/rust/library/std/Cargo.toml";
            std::path::Path::new(&sysroot).join(library).is_file()
        };
        match self {
            Self::Address => None,
            Self::Thread if has_source() => None,
            Self::Thread => Some(
                "it needs the source of the standard library (rustup component add rust-src --toolchain nightly)"
                    .to_owned(),
            ),
            Self::Miri => {
                let version = output(Command::new("cargo").args(["+nightly", "miri", "--version"]));
                version
                    .is_none()
                    .then(|| "there is no miri (rustup component add miri --toolchain nightly)".to_owned())
            }
        }
    }

    /// The cargo command for one package.
    fn command(self, package: &str) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.arg("+nightly");
        // Set by the cargo that runs us: of another toolchain.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            cargo.env_remove(name);
        }
        let flags = match self {
            Self::Miri => {
                cargo.args(["miri", "test", "--package", package, "--lib", "--"]).args(CORE);
                cargo.env("PROPTEST_CASES", CASES_UNDER_MIRI);
                return cargo;
            }
            Self::Address => "-Zsanitizer=address",
            Self::Thread => "-Zsanitizer=thread",
        };
        let target_dir = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        cargo.args(["test", "--package", package, "--no-fail-fast", "--target", TARGET]);
        // Beside the ordinary builds, which it would throw out otherwise.
        cargo.args(["--target-dir", &format!("{target_dir}/sanitize-{self}")]);
        cargo.env("RUSTFLAGS", flags).env("RUSTDOCFLAGS", flags);
        // At its end a program under a sanitizer makes a thread and traces itself (`clone`, `ptrace`), which the sandbox kills.
        cargo.env("VFIO_GFX_SANDBOX", "off");
        if self == Self::Thread {
            cargo.arg("-Zbuild-std");
        }
        cargo.arg("--");
        if self == Self::Address {
            for (test, _) in NOT_UNDER_ADDRESS {
                cargo.args(["--skip", test]);
            }
        }
        cargo
    }

    fn packages(self) -> &'static [&'static str] {
        if self == Self::Miri { &["vfio-gfx"] } else { &PACKAGES }
    }
}

/// Runs the tests under each of these tools that is there; the last line says which were.
pub(crate) fn run(tools: &[Tool]) -> Result<(), String> {
    let (mut ran, mut skipped, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for tool in tools {
        if let Some(why) = tool.missing() {
            skipped.push(format!("{tool}: {why}"));
            continue;
        }
        if *tool != Tool::Miri {
            skipped.push(format!(
                "the sandbox under {tool}: it lets pass none of the calls that the tool makes"
            ));
        }
        if *tool == Tool::Address {
            skipped.extend(NOT_UNDER_ADDRESS.map(|(test, why)| format!("{test} under {tool}: {why}")));
        }
        for package in tool.packages() {
            println!("sanitize: {tool}: {package}");
            let status = tool.command(package).status().map_err(|e| format!("cannot run cargo: {e}"))?;
            let list = if status.success() { &mut ran } else { &mut failed };
            list.push(format!("{package} under {tool}"));
        }
    }
    println!();
    for why in &skipped {
        println!("SKIPPED {why}");
    }
    println!("{} clean, {} failed, {} skipped", ran.len(), failed.len(), skipped.len());
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_named_and_others_refused() {
        assert_eq!(Tool::parse(&[]), Some(Tool::ALL.to_vec()));
        assert_eq!(Tool::parse(&["miri", "address"]), Some(vec![Tool::Miri, Tool::Address]));
        assert_eq!(Tool::parse(&["memory"]), None);
    }

    #[test]
    fn what_is_excused_is_excused_under_address_alone() {
        let arguments = |tool: Tool| {
            let command = tool.command("vfio-gfx");
            command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let (test, _) = NOT_UNDER_ADDRESS[0];
        assert!(arguments(Tool::Address).ends_with(&["--skip".to_owned(), test.to_owned()]));
        assert!(!arguments(Tool::Thread).contains(&"--skip".to_owned()));
        assert!(arguments(Tool::Thread).contains(&"-Zbuild-std".to_owned()));
    }

    #[test]
    fn programs_under_a_sanitizer_are_not_in_the_sandbox() {
        let is_off = |tool: Tool| {
            let command = tool.command("mdev-sample");
            command
                .get_envs()
                .any(|(name, value)| name == "VFIO_GFX_SANDBOX" && value == Some("off".as_ref()))
        };
        assert!(is_off(Tool::Address) && is_off(Tool::Thread));
    }
}
