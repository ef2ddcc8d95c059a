//! `cargo xtask test`: every test of the workspace, and a sum at the end that hides nothing.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use vfio_gfx_tests::{SKIP_LOG, lab::LAB_DIR, lab::Lab};

use crate::lab;

/// What the user asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Leave the lab as it is.
    pub(crate) no_lab: bool,
    /// Test optimised programs.
    pub(crate) release: bool,
}

impl Options {
    /// Understands the arguments after `test`; `None` if one of them is unknown.
    pub(crate) fn parse(arguments: &[&str]) -> Option<Self> {
        let mut options = Self::default();
        for argument in arguments {
            match *argument {
                "--no-lab" => options.no_lab = true,
                "--release" => options.release = true,
                _ => return None,
            }
        }
        Some(options)
    }
}

/// Runs all tests. The last line is `N passed, N failed, N skipped`; before it come the reasons for skipping.
pub(crate) fn run(options: Options) -> Result<(), String> {
    if !options.no_lab
        && let Err(error) = lab::provision()
    {
        if env::var_os("CI").is_some_and(|ci| ci == "true") {
            return Err(error);
        }
        eprintln!("xtask: {error}");
        eprintln!("xtask: NO LAB: the guest tests will be SKIPPED");
    }
    let skip_log = env::temp_dir().join(format!("vfio-gfx-skipped-{}", std::process::id()));
    fs::write(&skip_log, "").map_err(|e| format!("{}: {e}", skip_log.display()))?;

    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // One failure must not hide others.
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    if options.release {
        cargo.arg("--release");
    }
    cargo.env(SKIP_LOG, &skip_log).stdout(Stdio::piped());
    if let Ok(lab) = Lab::locate() {
        cargo.env(LAB_DIR, lab.dir());
    }
    let mut child = cargo.spawn().map_err(|e| format!("cannot run cargo: {e}"))?;
    let mut sum = Sum::default();
    let stdout = child.stdout.take().ok_or("cargo has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|e| format!("cannot read what cargo test says: {e}"))?;
        println!("{line}");
        sum.add(&line);
    }
    let status = child.wait().map_err(|e| format!("cargo test: {e}"))?;
    let reasons = fs::read_to_string(&skip_log).unwrap_or_default();
    let _ = fs::remove_file(&skip_log);

    sum.skip(&reasons);
    if !status.success() && sum.failed == 0 {
        // It did not build, or a test program died before it could say how it did.
        eprintln!("xtask: cargo test: {status}, with no test reported as failed");
        sum.failed = 1;
    }
    println!();
    for reason in reasons.lines() {
        println!("SKIPPED {reason}");
    }
    println!("{sum}");
    if status.success() { Ok(()) } else { Err("tests failed".into()) }
}

/// How many tests did what.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Sum {
    /// Adds what libtest says of one test program: `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        for part in result.split(['.', ';']) {
            let words: Vec<_> = part.split_whitespace().collect();
            let [number, what] = words[..] else { continue };
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// Takes the skip log into account, a line a test: libtest knows no skipping and counted these as passed.
    fn skip(&mut self, reasons: &str) {
        let skipped = reasons.lines().count();
        self.passed = self.passed.saturating_sub(skipped);
        self.skipped += skipped;
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_and_skipped_tests_did_not_pass() {
        let mut sum = Sum::default();
        sum.add("running 4 tests");
        sum.add(
            "test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        sum.add("test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s");
        sum.skip("one: no lab\ntwo: no lab\n");
        assert_eq!(sum.to_string(), "12 passed, 2 failed, 3 skipped");
    }

    #[test]
    fn unknown_options_are_refused() {
        let both = Options { no_lab: true, release: true };
        assert_eq!(Options::parse(&["--no-lab", "--release"]), Some(both));
        assert_eq!(Options::parse(&["--fast"]), None);
    }
}
