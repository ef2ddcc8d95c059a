//! What is in force and what is not, in a line.

use std::error::Error;
use std::fmt;

use thiserror::Error as ThisError;

/// Why there is no sandbox.
#[derive(Debug, ThisError)]
#[error("sandbox: cannot have {missing}; leave --sandbox out to run with what this system has")]
pub struct SandboxError {
    missing: String,
}

/// What is in force and what is not.
#[derive(Debug, Default)]
pub(crate) struct Report {
    in_force: Vec<String>,
    missing: Vec<String>,
}

impl Report {
    /// Takes down what a part came to: the words for what is in force, or why it is not.
    pub(crate) fn add(&mut self, part: &str, outcome: Result<String, impl Error>) {
        match outcome {
            Ok(words) => self.in_force.push(words),
            Err(error) => self.missing.push(format!("{part} ({})", chain(&error))),
        }
    }

    /// Whether all is in force.
    pub(crate) fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// That all is in force, or what is not.
    pub(crate) fn complete(&self) -> Result<(), SandboxError> {
        if self.is_complete() { Ok(()) } else { Err(SandboxError { missing: self.missing.join(", ") }) }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.in_force.as_slice() {
            [] => write!(f, "nothing in force")?,
            in_force => write!(f, "{}", in_force.join(", "))?,
        }
        match self.missing.as_slice() {
            [] => Ok(()),
            missing => write!(f, "; not in force: {}", missing.join(", ")),
        }
    }
}

/// An error with everything that caused it, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_in_force_and_what_is_not_and_why() {
        let mut report = Report::default();
        assert_eq!(report.to_string(), "nothing in force");
        report.add("privileges", Ok::<_, fmt::Error>("no capabilities".to_owned()));
        report.add("seccomp", Ok::<_, fmt::Error>("seccomp".to_owned()));
        assert_eq!(report.to_string(), "no capabilities, seccomp");
        assert!(report.complete().is_ok());
        report.add("landlock", Err(fmt::Error));
        assert_eq!(
            report.to_string(),
            format!("no capabilities, seccomp; not in force: landlock ({})", fmt::Error)
        );
        assert!(report.complete().unwrap_err().to_string().contains("cannot have landlock ("));
    }
}
