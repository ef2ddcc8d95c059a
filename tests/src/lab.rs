//! Where the lab is, what is in it, and how to run its programs.
//!
//! A lab is a directory outside the repository, made by `cargo xtask lab`:
//!
//! ```text
//! root/                         a Debian tree with QEMU, OVMF, busybox, edid-decode, kernels and a compiler
//! root-12/                      Debian 12 with its QEMU, 7.2
//! viewers/                      a Debian tree with VNC viewers and an X server
//! guest/KERNEL/vmlinuz          a kernel, KERNEL being "linux-6.12" or "linux-newest"
//! guest/KERNEL/release          its release, as `uname -r` prints it
//! guest/KERNEL/drivers/DRIVER/  the modules a driver needs, decompressed, named NN-MODULE.ko in load order
//! stamps/STEP                   one file per finished step; stamps/ready comes last
//! ```
//!
//! Programs of the tree run through *its* dynamic loader with *its* libraries, and not through `chroot`: that
//! needs no root, and sockets and files have the same names inside and outside.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Environment variable that overrides where the lab is.
pub const LAB_DIR: &str = "VFIO_GFX_LAB";

/// The stamp written when every step of provisioning is done.
pub const READY_STAMP: &str = "ready";

/// What [`READY_STAMP`] must hold. Raise it when the layout above changes: an older lab is then provisioned
/// again.
pub const LAYOUT: &str = "1";

/// The guest kernels of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Linux 6.12, whose bochs-drm keeps framebuffers in video memory and flips between them.
    Linux612,
    /// The newest Debian has, 7.0 or later, whose bochs-drm copies damage from a shadow buffer.
    Newest,
}

impl Kernel {
    /// The name of the kernel's directory in the lab.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux612 => "linux-6.12",
            Self::Newest => "linux-newest",
        }
    }
}

/// A lab, provisioned or being provisioned.
#[derive(Clone, Debug)]
pub struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// The lab's place: `VFIO_GFX_LAB`, else `$XDG_CACHE_HOME/vfio-gfx-lab`, else `~/.cache/vfio-gfx-lab`.
    ///
    /// # Errors
    /// A sentence, if no variable says where the lab could be.
    pub fn locate() -> Result<Self, String> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::locate_with(var)
    }

    fn locate_with(var: impl Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        let dir = if let Some(dir) = var(LAB_DIR) {
            PathBuf::from(dir)
        } else if let Some(cache) = var("XDG_CACHE_HOME") {
            Path::new(&cache).join("vfio-gfx-lab")
        } else if let Some(home) = var("HOME") {
            Path::new(&home).join(".cache/vfio-gfx-lab")
        } else {
            return Err(format!(
                "no place for the lab: expected {LAB_DIR}, XDG_CACHE_HOME or HOME to be set"
            ));
        };
        // The loader and chroot are given names inside the lab from other working directories.
        let dir = std::path::absolute(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The lab, if it is complete and this machine can run its programs.
    ///
    /// # Errors
    /// A sentence that says what is missing and what to do.
    pub fn open() -> Result<Self, String> {
        let lab = Self::locate()?;
        if !lab.is_ready() {
            return Err(format!("no lab at {}: run `cargo xtask lab` (as root)", lab.dir.display()));
        }
        Ok(lab)
    }

    /// The lab, or nothing if `test` is to be [skipped](crate::skip).
    #[must_use]
    pub fn for_test(test: &str) -> Option<Self> {
        Self::open().inspect_err(|why| crate::skip(test, why)).ok()
    }

    /// Whether every step of provisioning is done, for this [`LAYOUT`].
    #[must_use]
    pub fn is_ready(&self) -> bool {
        fs::read_to_string(self.stamp(READY_STAMP)).is_ok_and(|stamp| stamp.trim() == LAYOUT)
    }

    /// The lab's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The Debian tree.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// The tree of Debian 12.
    #[must_use]
    pub fn root_12(&self) -> PathBuf {
        self.dir.join("root-12")
    }

    /// The Debian tree with VNC viewers.
    #[must_use]
    pub fn viewers(&self) -> PathBuf {
        self.dir.join("viewers")
    }

    /// The file that says that `step` is done.
    #[must_use]
    pub fn stamp(&self, step: &str) -> PathBuf {
        self.dir.join("stamps").join(step)
    }

    /// The directory of `kernel`.
    #[must_use]
    pub fn guest(&self, kernel: Kernel) -> PathBuf {
        self.dir.join("guest").join(kernel.name())
    }

    /// What `uname -r` prints in a guest of this kernel.
    ///
    /// # Errors
    /// A sentence, if the lab does not say.
    pub fn release(&self, kernel: Kernel) -> Result<String, String> {
        let path = self.guest(kernel).join("release");
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// The modules that `driver` needs, itself last, in the order in which to load them.
    ///
    /// # Errors
    /// A sentence, if the lab has no such driver for this kernel.
    pub fn modules(&self, kernel: Kernel, driver: &str) -> Result<Vec<PathBuf>, String> {
        let dir = self.guest(kernel).join("drivers").join(driver);
        let failed = |e| format!("{}: {e}", dir.display());
        let mut modules = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            modules.push(entry.map_err(failed)?.path());
        }
        modules.sort();
        Ok(modules)
    }

    /// A program of the Debian tree, as `usr/bin/NAME`, to be run with the tree's own loader and libraries.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        program_of(&self.root(), name)
    }

    /// QEMU for a PC with its firmware found; machine, devices and the rest are the caller's.
    #[must_use]
    pub fn qemu(&self) -> Command {
        qemu_of(&self.root())
    }

    /// The same of Debian 12: QEMU 7.2.
    ///
    /// # Errors
    /// A sentence, if the lab was built before there was one in it.
    pub fn qemu_7_2(&self) -> Result<Command, String> {
        let root = self.root_12();
        if !root.is_dir() {
            return Err(format!("no {}: run `cargo xtask lab` (as root)", root.display()));
        }
        let mut qemu = qemu_of(&root);
        // TCG is a module there.
        qemu.env("QEMU_MODULE_DIR", root.join(LIBRARIES).join("qemu"));
        Ok(qemu)
    }

    /// A file of SeaBIOS, such as a ROM.
    #[must_use]
    pub fn seabios(&self, name: &str) -> PathBuf {
        self.root().join(SEABIOS).join(name)
    }

    /// OVMF's code and an empty store for its variables, which QEMU changes: copy it.
    ///
    /// # Errors
    /// A sentence, if the lab was built before there was one in it, or without.
    pub fn ovmf(&self) -> Result<(PathBuf, PathBuf), String> {
        let dir = self.root().join("usr/share/OVMF");
        let files = (dir.join("OVMF_CODE_4M.fd"), dir.join("OVMF_VARS_4M.fd"));
        if files.0.is_file() && files.1.is_file() {
            Ok(files)
        } else {
            Err(format!("no OVMF at {}: run `cargo xtask lab` (as root)", dir.display()))
        }
    }

    /// A program in the tree of viewers, run with `dir` as its `/tmp`, for sockets and pictures.
    ///
    /// Unlike the others it runs in a `chroot`: an X server looks for its keyboards, and viewers for their fonts, under names
    /// that are compiled in. What it takes besides is a namespace, which needs no root either.
    #[must_use]
    pub fn viewer(&self, dir: &Path, name: &str) -> Command {
        const ENTER: &str = r#"root="$1" tmp="$2"; shift 2
            for dir in proc dev; do mount --rbind "/$dir" "$root/$dir"; done
            mount --bind "$tmp" "$root/tmp"
            cd /tmp 2> /dev/null || cd /
            exec chroot "$root" "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-euc", ENTER, "sh"]);
        command.arg(self.viewers()).arg(dir).arg("/usr/bin/env").arg("--chdir=/tmp").arg(name);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/tmp").env("LC_ALL", "C.UTF-8");
        command
    }
}

/// Where a tree's libraries are.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Where its SeaBIOS is.
const SEABIOS: &str = "usr/share/seabios";

fn program_of(root: &Path, name: &str) -> Command {
    let libraries = root.join(LIBRARIES);
    let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
    command
        // The host's cache would name the host's libraries.
        .arg("--inhibit-cache")
        .arg("--library-path")
        .arg(libraries)
        .arg(root.join("usr/bin").join(name));
    command
}

fn qemu_of(root: &Path) -> Command {
    let mut command = program_of(root, "qemu-system-x86_64");
    command.arg("-L").arg(root.join("usr/share/qemu")).arg("-L").arg(root.join(SEABIOS));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(vars: &[(&str, &str)]) -> Result<Lab, String> {
        Lab::locate_with(|name| {
            let found = vars.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_most_specific_variable_decides() {
        let all = [("HOME", "/home/u"), ("XDG_CACHE_HOME", "/cache"), (LAB_DIR, "/lab")];
        assert_eq!(locate(&all[..1]).unwrap().dir(), Path::new("/home/u/.cache/vfio-gfx-lab"));
        assert_eq!(locate(&all[..2]).unwrap().dir(), Path::new("/cache/vfio-gfx-lab"));
        assert_eq!(locate(&all).unwrap().dir(), Path::new("/lab"));
        assert!(locate(&[]).unwrap_err().contains(LAB_DIR));
    }

    #[test]
    fn a_relative_place_becomes_absolute() {
        assert!(locate(&[(LAB_DIR, "some/lab")]).unwrap().dir().is_absolute());
    }
}
