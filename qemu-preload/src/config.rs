//! What the library is told by its environment.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;

use qemu_shim::preload::{GROUP, INTERFACE, SOCKET};
use vfio_gfx::abi::Interface;

/// Which device to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    /// Its vfio-user socket.
    pub(crate) socket: PathBuf,
    /// The number of its group: `/dev/vfio/GROUP` is ours.
    pub(crate) group: u32,
    /// What QEMU is offered.
    pub(crate) interface: Interface,
}

impl Config {
    /// The environment's; `None` in a process that is not meant to have a device. It is read once.
    pub(crate) fn get() -> Option<&'static Self> {
        static CONFIG: OnceLock<Option<Config>> = OnceLock::new();
        CONFIG.get_or_init(|| Self::read(std::env::var_os)).as_ref()
    }

    fn read(variable: impl Fn(&'static str) -> Option<OsString>) -> Option<Self> {
        let socket = variable(SOCKET).filter(|socket| !socket.is_empty())?;
        let group = variable(GROUP)?.to_str()?.parse().ok()?;
        let interface = match variable(INTERFACE) {
            None => Interface::Region,
            Some(name) if name == "region" => Interface::Region,
            Some(name) if name == "dmabuf" => Interface::Dmabuf,
            Some(_) => return None,
        };
        Some(Self { socket: socket.into(), group, interface })
    }

    /// Which of our files a path names.
    pub(crate) fn file(&self, path: &[u8]) -> Option<Path> {
        match path.strip_prefix(b"/dev/vfio/")? {
            b"vfio" => Some(Path::Container),
            name if name == self.group.to_string().as_bytes() => Some(Path::Group),
            _ => None,
        }
    }
}

/// A path that is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// `/dev/vfio/vfio`
    Container,
    /// `/dev/vfio/GROUP`
    Group,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(socket: &str, group: &str) -> Option<Config> {
        let value = |name| match name {
            SOCKET => Some(socket.into()),
            GROUP => Some(group.into()),
            _ => None,
        };
        Config::read(value)
    }

    #[test]
    fn what_is_offered_is_regions_unless_dma_bufs_are_asked_for() {
        let read = |interface: Option<&str>| {
            Config::read(|name| if name == INTERFACE { interface.map(Into::into) } else { Some("1".into()) })
        };
        let interface = |name| read(name).map(|config| config.interface);
        assert_eq!(interface(None), Some(Interface::Region));
        assert_eq!(interface(Some("region")), Some(Interface::Region));
        assert_eq!(interface(Some("dmabuf")), Some(Interface::Dmabuf));
        assert_eq!(interface(Some("both")), None);
    }

    #[test]
    fn both_variables_are_needed_and_must_make_sense() {
        assert!(read("/s", "42").is_some());
        assert!(read("", "42").is_none() && read("/s", "").is_none() && read("/s", "-1").is_none());
        assert_eq!(Config::read(|name| (name == SOCKET).then(|| "/s".into())), None);
    }

    #[test]
    fn only_the_two_files_are_ours() {
        let config = read("/s", "42").unwrap();
        assert_eq!(config.file(b"/dev/vfio/vfio"), Some(Path::Container));
        assert_eq!(config.file(b"/dev/vfio/42"), Some(Path::Group));
        for path in ["/dev/vfio/4", "/dev/vfio/421", "/dev/vfio/", "/dev/vfio", "/dev/kvm", "", "42"] {
            assert_eq!(config.file(path.as_bytes()), None, "{path}");
        }
    }
}
