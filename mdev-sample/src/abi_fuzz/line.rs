//! A line of a recording (`docs/src/replay.md` has the format), and the file that lines go to.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use vfio_gfx::abi::Errno;

/// One call and its answer, in the words of the format. [`crate::replay::Record`] reads it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Line {
    /// The device's type.
    pub device: String,
    /// Place in the recording.
    pub seq: u64,
    /// What was called.
    pub op: &'static str,
    /// ioctl number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<u32>,
    /// Buffer id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Place in the device's descriptor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes to read or map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<usize>,
    /// mmap protection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prot: Option<u32>,
    /// mmap flags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<u32>,
    /// The argument's memory before the call, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none", rename = "in")]
    pub arg: Option<String>,
    /// Return value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ret: Option<i64>,
    /// Name of the error, "0" for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// Bytes of a dma-buf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Error of a shared read-only mapping of a dma-buf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mmap_shared: Option<String>,
    /// Error of a private read-only mapping of a dma-buf.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mmap_private: Option<String>,
    /// Bytes read or written, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// What the mapping shows first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first16: Option<String>,
    /// The argument's memory after the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub out: Option<String>,
}

/// Hexadecimal digits of bytes.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The word for how a call ended.
pub(super) fn word<T>(result: &Result<T, Errno>) -> String {
    match result {
        Ok(_) => "0".to_owned(),
        Err(errno) => errno.name().map_or_else(|| errno.raw().to_string(), str::to_owned),
    }
}

/// A file that appears, complete, when the recording is. What is there before stays until then.
#[derive(Debug)]
pub struct Recording {
    path: PathBuf,
    temporary: PathBuf,
    out: Option<BufWriter<File>>,
}

impl Recording {
    /// Starts one that is to be `path`.
    ///
    /// # Errors
    /// When a file beside it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let temporary = path.with_file_name(name);
        let out = Some(BufWriter::new(File::create(&temporary)?));
        Ok(Self { path: path.to_owned(), temporary, out })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&mut self, line: &Line) -> io::Result<()> {
        let Some(out) = &mut self.out else { return Ok(()) };
        serde_json::to_writer(&mut *out, line)?;
        out.write_all(b"\n")
    }

    /// Writes out what is left and gives the file its name.
    ///
    /// # Errors
    /// When that fails; the unfinished file is removed.
    pub fn finish(mut self) -> io::Result<()> {
        if let Some(mut out) = self.out.take() {
            let done = out.flush().and_then(|()| fs::rename(&self.temporary, &self.path));
            if let Err(error) = done {
                // Best effort: the error that matters is the first.
                let _ = fs::remove_file(&self.temporary);
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        if self.out.take().is_some() {
            // Not finished, so there is none.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::{Hex, Record};

    #[test]
    fn a_line_is_a_record() {
        let line = Line {
            device: "mdpy-vga".to_owned(),
            seq: 7,
            op: "get_info",
            cmd: Some(15211),
            arg: Some(hex(&[0x10, 0xaa])),
            ret: Some(-1),
            errno: Some(word::<()>(&Err(Errno::EFAULT))),
            out: Some(hex(&[0x14])),
            ..Line::default()
        };
        let record = Record::parse(&serde_json::to_string(&line).unwrap()).unwrap();
        assert_eq!((record.device.as_str(), record.seq, record.op.as_str()), ("mdpy-vga", 7, "get_info"));
        assert_eq!(
            (record.cmd, record.ret, record.errno.as_deref()),
            (Some(15211), Some(-1), Some("EFAULT"))
        );
        assert_eq!((record.arg, record.out), (Some(Hex(vec![0x10, 0xaa])), Some(Hex(vec![0x14]))));
        assert_eq!((record.data, record.id, record.size), (None, None, None));
    }

    #[test]
    fn a_recording_appears_at_the_end_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let count = || fs::read_dir(dir.path()).unwrap().count();
        let mut recording = Recording::create(&path).unwrap();
        recording.write(&Line::default()).unwrap();
        assert!(!path.exists());
        drop(recording);
        assert_eq!(count(), 0);
        let mut recording = Recording::create(&path).unwrap();
        recording.write(&Line::default()).unwrap();
        recording.finish().unwrap();
        assert_eq!((count(), fs::read_to_string(&path).unwrap().lines().count()), (1, 1));
        assert!(Recording::create(Path::new("/")).is_err());
    }
}
