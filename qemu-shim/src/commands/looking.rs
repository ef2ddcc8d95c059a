//! What the commands that look again and again have in common: how they take what a look at the device gave.

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use mdev_sample::cli::Chain;

use crate::console::{Console, ConsoleError, Refresh};
use crate::frame::Frame;
use crate::image::read_png;

/// What a look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// There is nothing to see.
    Off,
    /// The picture is what it was, or it is not whole yet.
    Same,
    /// The picture is another.
    Changed,
}

/// A console, and what it was last heard to complain about.
#[derive(Debug)]
pub(super) struct Looking {
    pub(super) console: Console,
    /// A device that is gone may come back.
    is_waiting: bool,
    complaint: Option<String>,
}

impl Looking {
    pub(super) fn new(mut console: Console) -> Self {
        console.pace_flips();
        Self { console, is_waiting: false, complaint: None }
    }

    /// One that waits for a device that is gone.
    pub(super) fn waiting(console: Console) -> Self {
        Self { is_waiting: true, ..Self::new(console) }
    }

    /// Looks at the device. A plane that cannot be shown is as good as off: it may be another with the next mode. The log
    /// gets the reason. Only a device that is gone is an error, unless it is waited for.
    pub(super) fn look(&mut self) -> Result<Look, ConsoleError> {
        let refreshed = self.console.refresh();
        self.complaint = None;
        match refreshed {
            Ok(Refresh::Off) => Ok(Look::Off),
            Ok(Refresh::Changed) => Ok(Look::Changed),
            Ok(Refresh::Same | Refresh::Torn) => Ok(Look::Same),
            Err(error) if error.is_gone() && !self.is_waiting => Err(error),
            Err(error) => {
                self.console.complain(&error);
                self.complaint = Some(Chain(&error).to_string());
                Ok(Look::Off)
            }
        }
    }

    /// Why there is nothing to see, if the plane is not simply off.
    pub(super) fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    /// Sleeps until it is worth looking again; not longer than a tenth of a second.
    pub(super) fn rest(&mut self) -> Result<(), ConsoleError> {
        self.console.rest()
    }
}

/// Seconds as people read them.
pub(super) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Reads a PNG file; the error names it.
pub(super) fn read_picture(path: &Path) -> Result<Frame, String> {
    let named = |error: &dyn Error| format!("{}: {}", path.display(), Chain(error));
    let file = File::open(path).map_err(|error| named(&error))?;
    read_png(BufReader::new(file)).map_err(|error| named(&error))
}
