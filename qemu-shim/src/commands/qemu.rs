//! `qemu-shim qemu`: an unmodified QEMU that shows a vfio-user display itself.

use std::env;
use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use clap::Args;
use thiserror::Error;
use vfio_gfx::vfio_user::{Client, Role};

use super::vmm;
use crate::preload;
use crate::target::Target;

/// The number of the device's group. It is only a name between QEMU and the preloaded library; groups of the kernel count from 0.
const GROUP: u32 = 1_000_000;

#[derive(Debug, Args)]
pub(super) struct Qemu {
    /// The device: sample:TYPE or vfio-user:PATH.
    device: Target,
    /// The preload library; by default the one beside this program.
    #[arg(long, value_name = "FILE.so")]
    preload: Option<PathBuf>,
    /// The device's expansion ROM, by QEMU's name for it: vgabios-bochs-display.bin gives mbochs-* and vgfx-* a screen in SeaBIOS.
    #[arg(long, value_name = "FILE")]
    romfile: Option<String>,
    /// What QEMU is to look at: region for every display of QEMU's; dmabuf, which needs one with OpenGL (gtk,gl=on), and whose window's
    /// size then reaches the guest as that of its monitor.
    #[arg(long, value_name = "INTERFACE", default_value = "region", value_parser = ["region", "dmabuf"])]
    interface: String,
    /// QEMU (7.2 or later) and its arguments.
    #[arg(last = true, required = true, value_name = "qemu-system-x86_64 ARGS")]
    command: Vec<OsString>,
}

#[derive(Debug, Error)]
enum QemuError {
    #[error(
        "{0}: only sample:TYPE and vfio-user:PATH can be shown; QEMU takes a device of the kernel by itself"
    )]
    Device(Target),
    #[error("no preload library at {}: build it with `cargo build -p qemu-preload`, or name it with --preload", .0.display())]
    NoLibrary(PathBuf),
    #[error("no directory for the device")]
    Directory(#[source] io::Error),
}

impl Qemu {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let library = self.library()?;
        let (dir, private) = vmm::private_socket().map_err(QemuError::Directory)?;
        let (socket, served) = match &self.device {
            Target::Sample(device_type) => {
                let served = vmm::Served::start(device_type, &private)?;
                (private, Some(served))
            }
            Target::VfioUser(path) => {
                // Better said here than by a library in QEMU.
                Client::connect(path, Role::Console)?;
                (std::path::absolute(path)?, None)
            }
            Target::Vfio(_) => return Err(QemuError::Device(self.device.clone()).into()),
        };
        let sysfs = device_directory(dir.path()).map_err(QemuError::Directory)?;
        vmm::announce(&self.device.to_string(), &socket);
        let status = vmm::run(
            vmm::command(&self.command)?
                .args([OsStr::new("-device"), &self.device_argument(&sysfs)])
                .env("LD_PRELOAD", with_others(&library))
                .env(preload::SOCKET, &socket)
                .env(preload::GROUP, GROUP.to_string())
                .env(preload::INTERFACE, &self.interface),
        );
        drop((served, dir));
        vmm::end_as(status?)
    }

    fn library(&self) -> Result<PathBuf, Box<dyn Error>> {
        let library = match &self.preload {
            Some(path) => path.clone(),
            None => env::current_exe()?.with_file_name(preload::LIBRARY),
        };
        if !library.is_file() {
            return Err(QemuError::NoLibrary(library).into());
        }
        // The loader searches for a name without a slash elsewhere.
        Ok(std::path::absolute(library)?)
    }

    fn device_argument(&self, sysfs: &Path) -> OsString {
        let mut argument = OsString::from("vfio-pci,id=vfio-gfx,display=on,sysfsdev=");
        argument.push(sysfs);
        if let Some(romfile) = &self.romfile {
            // QEMU's way to write a comma in a value.
            argument.push(format!(",romfile={}", romfile.replace(',', ",,")));
        }
        argument
    }
}

/// What QEMU looks for in a device's sysfs directory: the number of its group, at the end of a link that need lead nowhere.
fn device_directory(dir: &Path) -> io::Result<PathBuf> {
    let device = dir.join("display");
    std::fs::create_dir(&device)?;
    symlink(format!("/sys/kernel/iommu_groups/{GROUP}"), device.join("iommu_group"))?;
    Ok(device)
}

/// The library before whatever else is to be preloaded: it passes on what is not its own.
fn with_others(library: &Path) -> OsString {
    let mut list = library.as_os_str().to_owned();
    if let Some(others) = env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        list.push(":");
        list.push(others);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_finds_a_group_number_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let device = device_directory(dir.path()).unwrap();
        let link = std::fs::read_link(device.join("iommu_group")).unwrap();
        assert_eq!(link.file_name().unwrap().to_str().unwrap().parse(), Ok(GROUP));
    }
}
