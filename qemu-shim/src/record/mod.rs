//! Recording what a display shows: lossless, only what changed, and when.
//!
//! A recording is a Matroska file of PNG pictures, one for each change, each shown until the next. A video track has one size.
//! When the guest sets another mode the recording goes on in another file, `NAME.2.mkv`, `NAME.3.mkv` and so on, rather
//! than being scaled, cut or padded: every file is exactly what was on the screen. Times begin at 0 in each; the date in its
//! header says when that was. While the display is off the picture is black.

mod ebml;
mod matroska;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use thiserror::Error;

use crate::frame::{Frame, FrameError};
use crate::image::write_png;
use matroska::Matroska;

/// Most files of one recording: a guest that does nothing but set modes does not fill the directory.
pub const MAX_FILES: usize = 999;

/// Why a recording cannot go on.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file cannot be made or written.
    #[error("{path}: cannot write the recording")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There would be too many files.
    #[error("{path}: the display changed its size more than {MAX_FILES} times")]
    TooManyModes {
        /// The first file.
        path: PathBuf,
    },
    /// There is no memory for a black picture.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// What has been recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Pictures: one for each change.
    pub pictures: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Time from the first picture to the end.
    pub length: Duration,
    /// The files, in order; none when there was no picture.
    pub files: Vec<PathBuf>,
}

/// A recording going on.
#[derive(Debug)]
pub struct Recorder {
    /// The first file, until there is a picture to put into it.
    first: Option<File>,
    path: PathBuf,
    current: Option<Current>,
    /// When the first picture of all was there.
    start: Option<Instant>,
    /// Of the files before the current one.
    done: Summary,
    png: Vec<u8>,
}

/// The file being written.
#[derive(Debug)]
struct Current {
    matroska: Matroska<File>,
    path: PathBuf,
    size: (u32, u32),
    start: Instant,
    black: bool,
}

impl Recorder {
    /// Begins a recording: the file is made, so that what is wrong with the place is known at once. An existing file is
    /// replaced.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let first = Some(File::create(path).map_err(|error| failed(path, error))?);
        let path = path.to_owned();
        Ok(Self { first, path, current: None, start: None, done: Summary::default(), png: Vec::new() })
    }

    /// Records that this was shown from `at` on. Returns the name of the file when it is a new one.
    ///
    /// # Errors
    /// [`RecordError`]; [`Recorder::finish`] still ends the file as far as it got.
    pub fn picture(&mut self, frame: &Frame, at: Instant) -> Result<Option<&Path>, RecordError> {
        let size = (frame.width(), frame.height());
        let is_new = self.current.as_ref().is_none_or(|current| current.size != size);
        if is_new {
            self.next_file(size, at)?;
        }
        let Some(current) = &mut self.current else { return Ok(None) };
        let was_off = std::mem::take(&mut current.black);
        if was_off && frame.pixels().iter().all(|pixel| *pixel == 0) {
            // On again, and still black.
            return Ok(None);
        }
        self.png.clear();
        write_png(frame, &mut self.png).map_err(|error| failed(&current.path, error))?;
        let time = milliseconds(at.saturating_duration_since(current.start));
        current.matroska.picture(time, &self.png).map_err(|error| failed(&current.path, error))?;
        self.done.pictures += 1;
        Ok(is_new.then_some(&current.path))
    }

    /// Records that nothing was shown from `at` on: one black picture, however often this is called.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn off(&mut self, at: Instant) -> Result<(), RecordError> {
        let Some((width, height)) = self.current.as_ref().filter(|it| !it.black).map(|it| it.size) else {
            return Ok(());
        };
        self.picture(&Frame::new(width, height)?, at)?;
        if let Some(current) = &mut self.current {
            current.black = true;
        }
        Ok(())
    }

    /// What there is so far; files that are done and the one being written.
    #[must_use]
    pub fn so_far(&self, now: Instant) -> Summary {
        let mut summary = self.done.clone();
        if let Some(current) = &self.current {
            summary.bytes += current.matroska.size();
            summary.files.push(current.path.clone());
        }
        summary.length = self.start.map(|start| now.saturating_duration_since(start)).unwrap_or_default();
        summary
    }

    /// Ends the recording: the last picture was shown until `at`. Without any picture no file is left.
    ///
    /// # Errors
    /// [`RecordError::Write`].
    pub fn finish(mut self, at: Instant) -> Result<Summary, RecordError> {
        // Ours, empty, and of no use; but a pipe or a device stays.
        if self.first.take().is_some_and(|file| file.metadata().is_ok_and(|file| file.is_file())) {
            let _ = std::fs::remove_file(&self.path);
        }
        self.close(at)?;
        Ok(self.so_far(at))
    }

    fn next_file(&mut self, (width, height): (u32, u32), at: Instant) -> Result<(), RecordError> {
        self.close(at)?;
        let number = self.done.files.len() + 1;
        if number > MAX_FILES {
            return Err(RecordError::TooManyModes { path: self.path.clone() });
        }
        let path = numbered(&self.path, number);
        let file = match self.first.take() {
            Some(file) => Ok(file),
            None => File::create(&path),
        };
        #[expect(clippy::disallowed_methods, reason = "the date that a file says it is of")]
        let date = SystemTime::now();
        let matroska = file.and_then(|file| Matroska::new(file, width, height, date));
        let matroska = matroska.map_err(|error| failed(&path, error))?;
        self.start.get_or_insert(at);
        self.current = Some(Current { matroska, path, size: (width, height), start: at, black: false });
        Ok(())
    }

    fn close(&mut self, at: Instant) -> Result<(), RecordError> {
        let Some(Current { matroska, path, start, .. }) = self.current.take() else { return Ok(()) };
        let end = milliseconds(at.saturating_duration_since(start));
        self.done.bytes += matroska.finish(end).map_err(|error| failed(&path, error))?;
        self.done.files.push(path);
        Ok(())
    }
}

fn failed(path: &Path, source: io::Error) -> RecordError {
    RecordError::Write { path: path.to_owned(), source }
}

/// More than anybody records.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `NAME.mkv`, and then `NAME.2.mkv`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".{number}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn solid(width: u32, height: u32, pixel: u32) -> Frame {
        let mut frame = Frame::new(width, height).unwrap();
        frame.pixels_mut().fill(pixel);
        frame
    }

    #[test]
    fn a_file_for_each_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.b.mkv");
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut recorder = Recorder::create(&path).unwrap();
        recorder.off(at(0)).unwrap();
        assert_eq!(recorder.picture(&solid(4, 3, 1), at(10)).unwrap(), Some(path.as_path()));
        assert_eq!(recorder.picture(&solid(4, 3, 2), at(20)).unwrap(), None);
        recorder.off(at(25)).unwrap();
        recorder.off(at(26)).unwrap();
        assert_eq!(recorder.picture(&solid(4, 3, 0), at(28)).unwrap(), None, "on, and as black as off");
        let second = dir.path().join("a.b.2.mkv");
        assert_eq!(recorder.picture(&solid(5, 3, 2), at(30)).unwrap(), Some(second.as_path()));
        let summary = recorder.finish(at(1010)).unwrap();
        let bytes = [&path, &second].map(|path| std::fs::metadata(path).unwrap().len());
        let expected = Summary {
            pictures: 4,
            bytes: bytes.iter().sum(),
            length: Duration::from_secs(1),
            files: vec![path, second],
        };
        assert_eq!(summary, expected, "going black counts once");
    }

    #[test]
    fn nothing_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.mkv");
        let recorder = Recorder::create(&path).unwrap();
        assert!(path.exists());
        assert_eq!(recorder.finish(Instant::now()).unwrap(), Summary::default());
        assert!(!path.exists());
    }

    #[test]
    fn a_guest_that_only_sets_modes_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = Recorder::create(&dir.path().join("x.mkv")).unwrap();
        let now = Instant::now();
        for n in 0..MAX_FILES {
            recorder.picture(&solid(1 + u32::try_from(n % 2).unwrap(), 1, 0), now).unwrap();
        }
        let error = recorder.picture(&solid(3, 1, 0), now).unwrap_err();
        assert!(matches!(error, RecordError::TooManyModes { .. }), "{error}");
        assert_eq!(recorder.finish(now).unwrap().files.len(), MAX_FILES);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("missing/x.mkv");
        assert!(Recorder::create(&path).unwrap_err().to_string().contains("missing/x.mkv"));
        let mut recorder = Recorder::create(Path::new("/dev/full")).unwrap();
        let error = recorder.picture(&solid(1, 1, 0), Instant::now()).unwrap_err();
        assert!(error.to_string().contains("/dev/full"), "{error}");
    }
}
