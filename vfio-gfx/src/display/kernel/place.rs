//! Which device a path means, and by which of the kernel's two ways it is opened.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// How a device is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Through its group and a container: the device's directory in sysfs, no symbolic links in it.
    Group(PathBuf),
    /// Through its character device and iommufd: `/dev/vfio/devices/vfioN`.
    Cdev(PathBuf),
}

/// Why a path means no device.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// Nothing is there, or it may not be looked at.
    #[error("{path}", path = path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// Why it cannot be looked at.
        #[source]
        source: io::Error,
    },
    /// A directory, but not of a device that a VFIO driver has.
    #[error("{path}: expected a device's directory with \"iommu_group\" or \"vfio-dev\" in it, found neither", path = .0.display())]
    NoVfioDevice(PathBuf),
    /// A file that is no device of its own; a group (`/dev/vfio/N`) for one.
    #[error("{path}: expected a device's directory in /sys or /dev/vfio/devices/vfioN", path = .0.display())]
    NoDevice(PathBuf),
}

impl Place {
    /// Finds out what `path` is. `root` is where `dev` is: `/`, but in tests. The newer way, the character device, is
    /// taken where the kernel has all of it.
    pub(super) fn find(path: &Path, root: &Path) -> Result<Self, PlaceError> {
        let missing = |source| PlaceError::Missing { path: path.to_owned(), source };
        // The kernel knows the device by its directory's name, so links (/sys/bus/mdev/devices/UUID) are followed.
        let device = path.canonicalize().map_err(missing)?;
        if !device.is_dir() {
            return if is_cdev_name(&device) {
                Ok(Self::Cdev(device))
            } else {
                Err(PlaceError::NoDevice(path.to_owned()))
            };
        }
        if let Some(cdev) = cdev_of(&device, root).filter(|_| root.join("dev/iommu").exists()) {
            return Ok(Self::Cdev(cdev));
        }
        if device.join("iommu_group").exists() {
            return Ok(Self::Group(device));
        }
        Err(PlaceError::NoVfioDevice(path.to_owned()))
    }
}

/// The character device of a sysfs directory: it has exactly one `vfio-dev/vfioN` (Linux 6.6 and later).
fn cdev_of(device: &Path, root: &Path) -> Option<PathBuf> {
    let mut entries = device.join("vfio-dev").read_dir().ok()?;
    let cdev = root.join("dev/vfio/devices").join(entries.next()?.ok()?.file_name());
    (is_cdev_name(&cdev) && cdev.exists()).then_some(cdev)
}

/// `vfio` and a number.
fn is_cdev_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = name.strip_prefix("vfio").unwrap_or_default();
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    const UUID: &str = "a1b2c3d4-0000-4000-8000-000000000001";

    /// A machine with one mediated device, as the kernel shows it.
    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new(files: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            for file in files {
                let path = root.path().join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, "").unwrap();
            }
            let device = root.path().join("sys/devices/virtual/mdpy/mdpy").join(UUID);
            fs::create_dir_all(&device).unwrap();
            fs::create_dir_all(root.path().join("sys/bus/mdev/devices")).unwrap();
            symlink(&device, root.path().join("sys/bus/mdev/devices").join(UUID)).unwrap();
            Self(root)
        }

        fn device(&self) -> PathBuf {
            self.0.path().canonicalize().unwrap().join("sys/devices/virtual/mdpy/mdpy").join(UUID)
        }

        fn find(&self, path: &str) -> Result<Place, PlaceError> {
            Place::find(&self.0.path().join(path), self.0.path())
        }
    }

    #[test]
    fn the_group_where_the_kernel_has_no_iommufd() {
        for files in [&[][..], &["dev/vfio/devices/vfio0"]] {
            let machine = Machine::new(files);
            fs::create_dir_all(machine.device().join("vfio-dev/vfio0")).unwrap();
            fs::create_dir(machine.device().join("iommu_group")).unwrap();
            let found = machine.find(&format!("sys/bus/mdev/devices/{UUID}")).unwrap();
            assert_eq!(found, Place::Group(machine.device()));
            let found = machine.find(&format!("sys/devices/virtual/mdpy/mdpy/{UUID}")).unwrap();
            assert_eq!(found, Place::Group(machine.device()));
        }
    }

    #[test]
    fn the_character_device_where_it_has() {
        let machine = Machine::new(&["dev/vfio/devices/vfio12", "dev/iommu"]);
        fs::create_dir_all(machine.device().join("vfio-dev/vfio12")).unwrap();
        fs::create_dir(machine.device().join("iommu_group")).unwrap();
        for path in [&format!("sys/bus/mdev/devices/{UUID}"), "dev/vfio/devices/vfio12"] {
            let Place::Cdev(cdev) = machine.find(path).unwrap() else { panic!("{path}: not the cdev") };
            assert!(cdev.ends_with("dev/vfio/devices/vfio12"), "{cdev:?}");
        }
    }

    #[test]
    fn what_is_no_device_is_named() {
        let machine = Machine::new(&["dev/vfio/7", "dev/vfio/devices/vfio"]);
        assert!(matches!(machine.find("sys/nowhere"), Err(PlaceError::Missing { .. })));
        assert!(matches!(machine.find("sys/bus"), Err(PlaceError::NoVfioDevice(_))));
        for file in ["dev/vfio/7", "dev/vfio/devices/vfio"] {
            assert!(matches!(machine.find(file), Err(PlaceError::NoDevice(_))), "{file}");
        }
    }
}
