//! How the programs of this project talk to their caller: exit status 0, 1 with one line, 2 with one line for a bad
//! command line, logs on stderr.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use clap::Parser;

/// An error with everything that caused it, on one line.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// The body of `main`: parses the command line, starts logging (`RUST_LOG`, default `info`), runs, and reports.
pub fn run<C: Parser>(program: &str, body: impl FnOnce(C) -> Result<(), Box<dyn Error>>) -> ExitCode {
    let arguments = match C::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(program, &error),
    };
    crate::log::start();
    match body(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(error.as_ref()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Whether our reader has seen enough (`| head`), which is no failure.
fn is_closed_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Help goes out whole; a bad command line is one line and status 2.
fn usage(program: &str, error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return if error.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        eprintln!("{program}: no command given (see {program} --help)");
        return ExitCode::from(2);
    }
    let text = error.to_string();
    // clap lists what is missing on the lines that follow, indented.
    let mut lines = text.lines();
    let mut line = lines.next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    for detail in lines.take_while(|line| line.starts_with("  ")) {
        line.push(' ');
        line.push_str(detail.trim());
    }
    eprintln!("{program}: {line} (see {program} --help)");
    ExitCode::from(2)
}
