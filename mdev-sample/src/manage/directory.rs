//! A directory of definitions, laid out as mdevctl lays out `/etc/mdevctl.d`: `PARENT/UUID`.

use std::env;
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use thiserror::Error;
use uuid::Uuid;

use super::definition::{Definition, DefinitionError, parent};

/// Longest definition that is read; real ones have a few hundred bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Definitions, and where they are.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

/// A file that should be a definition and is none.
#[derive(Debug, Error)]
#[error("{path}", path = path.display())]
pub(crate) struct Fault {
    pub(crate) uuid: Uuid,
    path: PathBuf,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// A directory or file that cannot be used.
#[derive(Debug, Error)]
#[error("{path}: cannot {step}", path = path.display())]
pub(crate) struct DirectoryError {
    path: PathBuf,
    step: &'static str,
    #[source]
    source: io::Error,
}

/// Why there is no such UUID twice.
#[derive(Debug, Error)]
#[error("defined a second time, also in {0}")]
struct Twice(&'static str);

impl Directory {
    /// This one, or the user's: `$XDG_CONFIG_HOME/vfio-gfx/mdev` (`~/.config`), and `/etc/vfio-gfx/mdev` for root.
    pub(crate) fn new(path: Option<&Path>) -> Self {
        let path = path.map_or_else(default_path, Path::to_owned);
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn failed(&self, step: &'static str) -> impl Fn(io::Error) -> DirectoryError {
        let path = self.path.clone();
        move |source| DirectoryError { path: path.clone(), step, source }
    }

    /// The parents' folders.
    pub(crate) fn parents(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            if path.is_dir() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// All definitions in the order of their paths, and the files that should be some. What has no UUID for a name is
    /// nobody's business; a directory that is not there defines nothing.
    pub(crate) fn scan(&self) -> Result<(Vec<Definition>, Vec<Fault>), DirectoryError> {
        let failed = self.failed("read it");
        let parents = match self.parents() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            parents => parents.map_err(&failed)?,
        };
        let (mut definitions, mut faults) = (Vec::<Definition>::new(), Vec::new());
        for folder in parents {
            let Some(parent_name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            let mut files: Vec<_> = match fs::read_dir(&folder) {
                // Somebody removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => {
                    entries.map_err(&failed)?.filter_map(Result::ok).map(|entry| entry.path()).collect()
                }
            };
            files.sort();
            for path in files {
                let name = path.file_name().and_then(|name| name.to_str());
                let Some(uuid) = name.and_then(|name| Uuid::try_parse(name).ok()) else { continue };
                let read = read(&path, uuid, parent_name).and_then(|definition| {
                    match definitions.iter().find(|other| other.uuid == uuid) {
                        Some(other) => Err(Twice(parent(&other.device_type)).into()),
                        None => Ok(definition),
                    }
                });
                match read {
                    Ok(definition) => definitions.push(definition),
                    Err(source) => faults.push(Fault { uuid, path, source }),
                }
            }
        }
        Ok((definitions, faults))
    }

    fn file(&self, definition: &Definition) -> PathBuf {
        self.path.join(parent(&definition.device_type)).join(definition.uuid.hyphenated().to_string())
    }

    /// Keeps other processes from changing the directory until the result is dropped. Makes it if need be.
    pub(crate) fn lock(&self) -> Result<File, DirectoryError> {
        let failed = self.failed("lock it");
        fs::create_dir_all(&self.path).map_err(self.failed("create it"))?;
        let lock = File::open(&self.path).map_err(&failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(lock)
    }

    /// Adds a definition; the file appears whole. One that is there already stays and is an error.
    pub(crate) fn add(&self, definition: &Definition) -> Result<(), DirectoryError> {
        let file = self.file(definition);
        let failed = |source| DirectoryError { path: file.clone(), step: "write it", source };
        let mut temporary = file.as_os_str().to_owned();
        temporary.push(".new");
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        let write = || {
            let mut new = File::create(&temporary)?;
            writeln!(new, "{}", definition.to_json())?;
            new.sync_all()?;
            renameat_with(CWD, &temporary, CWD, &file, RenameFlags::NOREPLACE).map_err(io::Error::from)
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&temporary);
            failed(error)
        })
    }

    /// Removes a definition.
    pub(crate) fn remove(&self, definition: &Definition) -> Result<(), DirectoryError> {
        let path = self.file(definition);
        fs::remove_file(&path).map_err(|source| DirectoryError { path, step: "remove it", source })
    }
}

fn read(path: &Path, uuid: Uuid, parent: &str) -> Result<Definition, Box<dyn Error + Send + Sync>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        return Err(format!("expected a file of at most {MAX_BYTES} bytes").into());
    }
    Definition::parse(uuid, parent, &fs::read(path)?).map_err(|error: DefinitionError| error.into())
}

fn default_path() -> PathBuf {
    let config = if rustix::process::geteuid().is_root() {
        PathBuf::from("/etc")
    } else {
        let home = || env::home_dir().unwrap_or_default().join(".config");
        // The XDG base directory specification: relative paths are to be ignored.
        env::var_os("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .unwrap_or_else(home)
    };
    config.join("vfio-gfx/mdev")
}

#[cfg(test)]
mod tests {
    use super::super::definition::Start;
    use super::*;
    use mdev_sample::DeviceType;

    fn define(name: &str) -> Definition {
        Definition::new(Uuid::new_v4(), DeviceType::find(name).unwrap(), Start::Auto)
    }

    #[test]
    fn what_is_added_is_found_until_it_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(Some(&dir.path().join("made/on/demand")));
        assert!(directory.scan().unwrap().0.is_empty(), "not there, nothing defined");
        let (a, b) = (define("mdpy-vga"), define("mbochs-small"));
        let _lock = directory.lock().unwrap();
        directory.add(&a).unwrap();
        directory.add(&b).unwrap();
        assert!(directory.add(&a).is_err(), "not twice");
        let (found, faults) = directory.scan().unwrap();
        assert_eq!((found, faults.len()), (vec![b.clone(), a.clone()], 0));
        directory.remove(&a).unwrap();
        assert!(directory.remove(&a).is_err());
        assert_eq!(directory.scan().unwrap().0, [b]);
    }

    #[test]
    fn bad_files_are_reported_and_the_others_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::new(Some(dir.path()));
        let good = define("mdpy-vga");
        directory.add(&good).unwrap();
        let bad = Uuid::new_v4();
        fs::write(dir.path().join("mdpy").join(bad.to_string()), "{").unwrap();
        fs::write(dir.path().join("mdpy").join("README"), "no definition").unwrap();
        fs::create_dir_all(dir.path().join("vgfx")).unwrap();
        fs::write(dir.path().join("vgfx").join(good.uuid.to_string()), define("vgfx-hd").to_json()).unwrap();
        let (found, faults) = directory.scan().unwrap();
        assert_eq!(found, std::slice::from_ref(&good));
        assert_eq!(faults.iter().map(|fault| fault.uuid).collect::<Vec<_>>(), [bad, good.uuid]);
        assert!(faults[1].source().unwrap().to_string().contains("second time, also in mdpy"));
    }
}
