//! `cargo xtask sanitize`: the tests once more, under tools that see what a test cannot: memory used after it was freed or beyond
//! its end, memory that nobody frees, data races, undefined behaviour.
//!
//! They need a nightly toolchain, and two of them a component of it. What is not there is said and not run, as in `cargo xtask test`.

mod reports;
mod tool;

use std::fs;
use std::path::Path;
use std::process::Command;

use vfio_gfx_tests::SKIP_LOG;

use reports::Reports;
use tool::Tool;

/// What the user asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    tools: Vec<Tool>,
    /// As `rustup toolchain list` names it.
    toolchain: String,
}

impl Options {
    /// Understands the arguments after `sanitize`: without a tool, all of them; `None` if an argument is unknown.
    pub(crate) fn parse(mut arguments: &[&str]) -> Option<Self> {
        let mut options = Self { tools: Vec::new(), toolchain: "nightly".to_owned() };
        while let [first, rest @ ..] = arguments {
            arguments = match (*first, rest) {
                ("--toolchain", [name, rest @ ..]) if !name.starts_with('-') => {
                    options.toolchain = (*name).to_owned();
                    rest
                }
                (name, rest) => {
                    options.tools.push(Tool::named(name)?);
                    rest
                }
            };
        }
        if options.tools.is_empty() {
            options.tools = Tool::ALL.to_vec();
        }
        Some(options)
    }
}

/// Runs the tests under each of these tools that is there. Before the last line, which says how many packages were clean, comes what
/// was not run.
///
/// # Errors
/// Names each package that failed a test, or of which a tool had something to report.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let mut sum = Sum::default();
    for tool in &options.tools {
        if let Some(why) = tool.missing(&options.toolchain) {
            sum.skipped.push(format!("{tool}: {why}"));
            continue;
        }
        sum.skipped.extend(tool.excused());
        let dir = tool.target_dir()?;
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        for package in tool.packages() {
            println!("sanitize: {tool}: {package}");
            let reports = Reports::begin(dir.join("reports").join(package))?;
            let command = tool.command(package, &options.toolchain, &dir, &reports);
            run_one(command, &reports, &dir, &format!("{package} under {tool}"), &mut sum)?;
        }
    }
    sum.end()
}

fn run_one(
    mut cargo: Command,
    reports: &Reports,
    dir: &Path,
    name: &str,
    sum: &mut Sum,
) -> Result<(), String> {
    let skip_log = dir.join("skipped");
    fs::write(&skip_log, "").map_err(|e| format!("{}: {e}", skip_log.display()))?;
    let status =
        cargo.env(SKIP_LOG, &skip_log).status().map_err(|e| format!("{name}: cannot run cargo: {e}"))?;
    let reported = reports.show()?;
    let skipped = fs::read_to_string(&skip_log).map_err(|e| format!("{}: {e}", skip_log.display()))?;
    sum.skipped.extend(skipped.lines().map(|line| format!("{name}: {line}")));
    sum.add(name, status.success(), reported);
    Ok(())
}

/// How the packages did.
#[derive(Debug, Default)]
struct Sum {
    clean: usize,
    failed: Vec<String>,
    skipped: Vec<String>,
}

impl Sum {
    fn add(&mut self, name: &str, has_passed: bool, reported: usize) {
        match (has_passed, reported) {
            (true, 0) => self.clean += 1,
            (false, 0) => self.failed.push(format!("{name} (its tests failed)")),
            // Whatever the tests said: who is not waited for, or expected to fail, is not in their result.
            (_, reported) => self.failed.push(format!("{name} ({reported} processes with reports)")),
        }
    }

    fn end(self) -> Result<(), String> {
        let Self { clean, failed, skipped } = self;
        println!();
        for why in &skipped {
            println!("SKIPPED {why}");
        }
        println!("{clean} clean, {} failed, {} skipped", failed.len(), skipped.len());
        if failed.is_empty() { Ok(()) } else { Err(format!("not clean: {}", failed.join(", "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_and_a_toolchain_are_named_and_others_refused() {
        let options = |tools: &[Tool], toolchain: &str| {
            Some(Options { tools: tools.to_vec(), toolchain: toolchain.to_owned() })
        };
        assert_eq!(Options::parse(&[]), options(&Tool::ALL, "nightly"));
        assert_eq!(Options::parse(&["miri", "address"]), options(&[Tool::Miri, Tool::Address], "nightly"));
        assert_eq!(Options::parse(&["--toolchain", "mine"]), options(&Tool::ALL, "mine"));
        assert_eq!(Options::parse(&["thread", "--toolchain", "mine"]), options(&[Tool::Thread], "mine"));
        for wrong in [&["memory"][..], &["--toolchain"], &["--toolchain", "--thread"], &["--fast"]] {
            assert_eq!(Options::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_report_fails_a_package_whose_tests_passed() {
        let end = |has_passed, reported| {
            let mut sum = Sum::default();
            sum.add("mdev-sample under thread", has_passed, reported);
            sum.end()
        };
        assert_eq!(end(true, 0), Ok(()));
        for (has_passed, reported) in [(true, 1), (false, 0), (false, 1)] {
            let error = end(has_passed, reported).unwrap_err();
            assert!(error.contains("mdev-sample under thread"), "{error}");
        }
    }

    #[test]
    fn what_was_skipped_does_not_make_up_for_a_failure() {
        let mut sum = Sum::default();
        sum.skipped.push("miri: it is not there".to_owned());
        sum.add("one", true, 0);
        sum.add("two", false, 0);
        assert_eq!(sum.end(), Err("not clean: two (its tests failed)".to_owned()));
    }
}
