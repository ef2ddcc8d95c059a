//! `qemu-shim record`

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use thiserror::Error;

use super::looking::{Look, Looking, seconds};
use crate::console::Console;
use crate::record::{Recorder, Summary};
use crate::target::Target;

/// How long a signal may wait to be seen.
const NAP: Duration = Duration::from_millis(50);
/// How often the progress line is renewed.
const PROGRESS: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Record {
    /// The device.
    pub(super) device: Target,
    /// The file; replaced if it exists. When the guest sets another mode the recording goes on in FILE.2.mkv and so on.
    #[arg(short, long, value_name = "FILE.mkv")]
    output: Recording,
    /// How long to record; without it until SIGINT or SIGTERM.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
    /// At most this many pictures per second; what changes in between is not seen.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max_fps: Option<u32>,
}

/// The name of a recording.
#[derive(Clone, Debug)]
struct Recording(PathBuf);

#[derive(Clone, Debug, Error)]
#[error("{0:?} does not end in .mkv: recordings are Matroska files")]
struct UnknownFormat(String);

#[derive(Debug, Error)]
#[error("{0}: the display showed nothing, so there is nothing to record")]
struct Nothing(Target);

impl FromStr for Recording {
    type Err = UnknownFormat;

    fn from_str(word: &str) -> Result<Self, UnknownFormat> {
        let path = PathBuf::from(word);
        match path.extension() {
            Some(extension) if extension.eq_ignore_ascii_case("mkv") => Ok(Self(path)),
            _ => Err(UnknownFormat(word.to_owned())),
        }
    }
}

impl Record {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let stop = stop_on_signals()?;
        let mut looking = Looking::new(Console::new(self.device.open()?));
        let mut recorder = Recorder::create(&self.output.0)?;
        writeln!(io::stdout(), "recording {} to {}", self.device, self.output.0.display())?;
        let recorded = self.record(&mut looking, &mut recorder, &stop);
        // Whatever ended it: what there is is made whole, and told.
        let summary = recorder.finish(Instant::now())?;
        if summary.pictures > 0 {
            writeln!(io::stdout(), "{}", told(&summary))?;
        }
        recorded?;
        if summary.pictures == 0 { Err(Nothing(self.device.clone()).into()) } else { Ok(()) }
    }

    fn record(
        &self,
        looking: &mut Looking,
        recorder: &mut Recorder,
        stop: &AtomicBool,
    ) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        let end = self.seconds.map(Duration::from_secs);
        let over = || stop.load(Ordering::Relaxed) || end.is_some_and(|end| start.elapsed() >= end);
        let gap = self.max_fps.map_or(Duration::ZERO, |fps| Duration::from_secs(1) / fps);
        let mut progress = Progress::new(start);
        while !over() {
            let look = looking.look()?;
            let now = Instant::now();
            match look {
                Look::Off => recorder.off(now)?,
                Look::Same => {}
                Look::Changed => {
                    if let Some(file) = recorder.picture(looking.console.frame(), now)?
                        && file != self.output.0
                    {
                        progress.clear();
                        // Who has stopped reading still wants the recording.
                        let _ =
                            writeln!(io::stdout(), "another mode: recording goes on in {}", file.display());
                    }
                    while !over() && now.elapsed() < gap {
                        sleep((gap - now.elapsed().min(gap)).min(NAP));
                    }
                }
            }
            progress.tell(recorder, now);
            looking.rest()?;
        }
        progress.clear();
        Ok(())
    }
}

/// A flag that the first SIGINT or SIGTERM sets; the second one ends the program.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 1, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn told(summary: &Summary) -> String {
    let Summary { pictures, bytes, length, files } = summary;
    let files = match files.len() {
        0 | 1 => String::new(),
        number => format!(" in {number} files"),
    };
    let s = if *pictures == 1 { "" } else { "s" };
    format!("{pictures} picture{s}, {}, {bytes} bytes{files}", seconds(*length))
}

/// The line on a terminal that says that something goes on; nothing where stderr is none.
#[derive(Debug)]
struct Progress {
    last: Option<Instant>,
}

impl Progress {
    fn new(start: Instant) -> Self {
        Self { last: io::stderr().is_terminal().then_some(start) }
    }

    fn tell(&mut self, recorder: &Recorder, now: Instant) {
        if let Some(last) = &mut self.last
            && now.saturating_duration_since(*last) >= PROGRESS
        {
            *last = now;
            // Who closed stderr does not want to know.
            let _ = write!(io::stderr(), "\r{}\x1b[K", told(&recorder.so_far(now)));
        }
    }

    fn clear(&self) {
        if self.last.is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
