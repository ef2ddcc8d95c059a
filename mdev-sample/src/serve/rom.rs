//! `--rom FILE`: reading a device's expansion ROM.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;
use vfio_gfx::device::{Device, ROM_MAX, RomError};

/// A ROM that a device cannot have.
#[derive(Debug, Error)]
pub(super) enum RomFileError {
    /// The file cannot be read.
    #[error("--rom {}: cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It is none.
    #[error("--rom {}", .0.display())]
    Rom(PathBuf, #[source] RomError),
}

/// A file that was read, and its name for whoever has to hear about it.
pub(super) struct RomFile {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl RomFile {
    pub(super) fn read(path: &Path) -> Result<Self, RomFileError> {
        let mut bytes = Vec::new();
        // No more of it than what is too much: the name may be that of something endless.
        let read = File::open(path)
            .and_then(|file| file.take(u64::from(ROM_MAX).saturating_add(1)).read_to_end(&mut bytes));
        read.map_err(|error| RomFileError::Read(path.to_owned(), error))?;
        Ok(Self { path: path.to_owned(), bytes })
    }

    /// The device with this ROM.
    pub(super) fn insert(self, device: Device) -> Result<Device, RomFileError> {
        device.with_rom(self.bytes).map_err(|error| RomFileError::Rom(self.path, error))
    }
}
