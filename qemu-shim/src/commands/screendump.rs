//! `qemu-shim screendump`

use std::error::Error;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use thiserror::Error;
use vfio_gfx::display::DisplayError;

use crate::console::{Console, Refresh};
use crate::image::{Rows, write_png, write_ppm};
use crate::target::Target;

#[derive(Debug, Args)]
pub(super) struct Screendump {
    /// The device.
    pub(super) device: Target,
    /// Where to: .png or .ppm decides the format. An existing file is replaced when the picture is complete.
    #[arg(short, long, value_name = "FILE.png|.ppm")]
    output: Output,
    /// Wait until the plane is on and its picture has not changed for this many milliseconds.
    #[arg(long, value_name = "MS")]
    wait_stable: Option<u64>,
    /// Give up waiting after this many seconds.
    #[arg(long, value_name = "S", default_value_t = 60, requires = "wait_stable")]
    timeout: u64,
}

/// Where a picture goes, in which format.
#[derive(Clone, Debug)]
pub(super) struct Output {
    path: PathBuf,
    write: fn(&mut dyn Rows, &mut dyn Write) -> io::Result<()>,
}

#[derive(Clone, Debug, Error)]
#[error("{0:?} ends in neither .png nor .ppm")]
pub(super) struct UnknownFormat(String);

#[derive(Debug, Error)]
enum ScreendumpError {
    #[error("{0}: the display is off, so there is nothing to save; --wait-stable waits for a picture")]
    Off(Target),
    #[error("{device}: no stable picture within {seconds} seconds")]
    TimedOut { device: Target, seconds: u64 },
    #[error("{path}: cannot save the picture")]
    Save {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl FromStr for Output {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        let path = PathBuf::from(word);
        match path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase).as_deref() {
            Some("png") => Ok(Self { path, write: |picture, out| write_png(picture, out) }),
            Some("ppm") => Ok(Self { path, write: |picture, out| write_ppm(picture, out) }),
            _ => Err(UnknownFormat(word.to_owned())),
        }
    }
}

impl Output {
    /// Writes beside the final place and moves there, so that no one sees half a picture and a failure leaves what was.
    pub(super) fn save(&self, picture: &mut dyn Rows) -> Result<(), Box<dyn Error>> {
        // Where pixels could not be had it is not the file that is to blame.
        let failed = |error: io::Error| match error.downcast::<DisplayError>() {
            Ok(error) => Box::<dyn Error>::from(error),
            Err(source) => ScreendumpError::Save { path: self.path.clone(), source }.into(),
        };
        let temporary =
            temporary_name(&self.path).ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let written = (|| {
            let mut out = BufWriter::new(File::create(&temporary)?);
            (self.write)(picture, &mut out)?;
            out.into_inner().map_err(io::IntoInnerError::into_error)?;
            std::fs::rename(&temporary, &self.path)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written.map_err(failed)
    }
}

fn temporary_name(path: &Path) -> Option<PathBuf> {
    let mut name = OsStr::new(".").to_owned();
    name.push(path.file_name()?);
    name.push(format!(".{}", std::process::id()));
    Some(path.with_file_name(name))
}

impl Screendump {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let mut console = Console::new(self.device.open()?);
        if let Some(stable) = self.wait_stable {
            self.wait(&mut console, Duration::from_millis(stable))?;
            return self.output.save(&mut console.frame());
        }
        if let Some(mut live) = console.live()? {
            return self.output.save(&mut live);
        }
        // Off, or composed of several planes.
        while console.refresh()? == Refresh::Torn {}
        if console.frame().is_empty() {
            return Err(ScreendumpError::Off(self.device.clone()).into());
        }
        self.output.save(&mut console.frame())
    }

    fn wait(&self, console: &mut Console, stable: Duration) -> Result<(), Box<dyn Error>> {
        let timeout = Duration::from_secs(self.timeout);
        let start = Instant::now();
        let mut since = None;
        loop {
            since = match console.refresh()? {
                Refresh::Off => None,
                Refresh::Changed | Refresh::Torn => Some(Instant::now()),
                Refresh::Same => since.or_else(|| Some(Instant::now())),
            };
            if since.is_some_and(|since| since.elapsed() >= stable) {
                return Ok(());
            }
            if start.elapsed() >= timeout {
                return Err(
                    ScreendumpError::TimedOut { device: self.device.clone(), seconds: self.timeout }.into()
                );
            }
            console.rest()?;
        }
    }
}
