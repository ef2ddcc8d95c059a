//! A virtual machine without a display, whose shell does as it is told: for programs of ours that need a kernel with
//! drivers that this one lacks.
//!
//! The machine is a kernel of the lab and a root file system made here: busybox, modules of the lab's drivers, programs
//! of ours built as static ones, and `machine.sh`, which runs what the test sends over the serial line.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    cpio::Archive,
    lab::{Kernel, Lab},
    process::{Finished, Running, run},
    programs::static_program,
};

/// How long a machine may take to boot. It takes 10 s under TCG on an idle computer.
const BOOT: Duration = Duration::from_secs(180);
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(120);
/// How long unpacking a module may take.
const UNPACK: Duration = Duration::from_secs(20);

/// What kind of machine to boot.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// Its kernel.
    pub kernel: Kernel,
    /// Drivers of the lab, loaded in this order with all that they need.
    pub drivers: &'a [&'a str],
    /// Modules of the kernel that are loaded after all that the drivers need and before the drivers themselves, by their
    /// path in the directory of the kernel's modules, without `.xz`.
    pub modules: &'a [&'a str],
    /// Programs of ours, put in `/bin`.
    pub programs: &'a [&'a str],
    /// Other files, by the path they get, without a leading slash.
    pub files: &'a [(String, Vec<u8>)],
    /// Memory, in megabytes.
    pub megabytes: u32,
}

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    vmm: Running,
    /// How much of what it said has been looked at, in bytes.
    read: usize,
    // Dropped after the program that uses it.
    _dir: TempDir,
}

/// How a command ended, and what it said on stdout and stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub status: u32,
    /// What it said.
    pub said: String,
}

impl Machine {
    /// Boots a machine, until it takes commands.
    ///
    /// # Panics
    /// If it does not get there.
    #[track_caller]
    #[must_use]
    pub fn boot(lab: &Lab, config: Config<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let initramfs = dir.path().join("initramfs");
        let archive = initramfs_of(lab, config)
            .unwrap_or_else(|e| panic!("the lab is damaged, run `cargo xtask lab`: {e}"));
        fs::write(&initramfs, archive).unwrap_or_else(|e| panic!("{}: {e}", initramfs.display()));
        let mut qemu = lab.qemu();
        qemu.args(["-accel", "tcg", "-no-reboot", "-machine", "pc", "-m", &config.megabytes.to_string()])
            // Without rdrand a machine in which nothing happens has no random numbers for minutes. The rest is for machines in
            // the machine: AMD's virtualization, and what it cannot do without or only slowly.
            .args(["-cpu", "qemu64,+rdrand,+x2apic,+tsc-deadline,+svm,+npt,+nrip-save"])
            .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
            .arg("-kernel")
            .arg(lab.guest(config.kernel).join("vmlinuz"))
            .arg("-initrd")
            .arg(&initramfs)
            .args(["-append", "console=ttyS0 panic=-1"]);
        let mut vmm = Running::start("qemu", &qemu);
        vmm.expect_line("MACHINE: READY", BOOT);
        let said = vmm.said();
        assert!(!said.contains("MACHINE: FAILED"), "the machine did not load its modules");
        Self { vmm, read: said.len(), _dir: dir }
    }

    /// Runs a command of the machine's shell.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> Ended {
        assert!(!command.contains('\n'), "one line is one command: {command}");
        self.vmm.send_line(command);
        let line = self.vmm.expect_line("MACHINE: ENDED", COMMAND);
        let said = self.vmm.said();
        let new = &said[self.read..];
        let end = new.find("MACHINE: ENDED").map_or(new.len(), |at| at);
        self.read += end + new[end..].find('\n').map_or(0, |length| length + 1);
        let status = line.rsplit(' ').next().and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("\"{command}\": expected a status, found \"{line}\""));
        Ended { status, said: new[..end].replace('\r', "") }
    }

    /// Runs a command that must succeed, and returns what it said.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn success(&mut self, command: &str) -> String {
        let Ended { status, said } = self.run(command);
        assert_eq!(status, 0, "\"{command}\" failed: {said}");
        said
    }

    /// The bytes of a file.
    ///
    /// # Panics
    /// If it cannot be read.
    #[track_caller]
    pub fn file(&mut self, path: &str) -> Vec<u8> {
        let hex = self.success(&format!("hexdump -v -e '32/1 \"%02x\" \"\\n\"' {path}"));
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes = digits.as_chunks::<2>().0.iter().map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits are ASCII");
            u8::from_str_radix(pair, 16).expect("these are hex digits")
        });
        bytes.collect()
    }
}

fn initramfs_of(lab: &Lab, config: Config<'_>) -> Result<Vec<u8>, String> {
    let mut archive = Archive::new();
    let mut dirs = BTreeSet::from(["bin", "dev", "modules", "proc", "sys", "tmp"].map(str::to_owned));
    for dir in &dirs {
        archive.directory(dir);
    }
    archive
        .file("bin/busybox", &read(&lab.root().join("usr/bin/busybox"))?)
        .file("init", include_bytes!("machine.sh"));
    for program in config.programs {
        archive.file(&format!("bin/{program}"), &read(&static_program(program))?);
    }
    for (path, bytes) in config.files {
        archive.parents(path, &mut dirs).file(path, bytes);
    }
    for (number, (name, module)) in modules(lab, config)?.iter().enumerate() {
        archive.file(&format!("modules/{number:02}-{name}"), module);
    }
    Ok(archive.finish())
}

/// The modules, in the order in which to load them, each once.
fn modules(lab: &Lab, config: Config<'_>) -> Result<Vec<(String, Vec<u8>)>, String> {
    let (mut needed, mut drivers): (Vec<PathBuf>, Vec<PathBuf>) = (Vec::new(), Vec::new());
    for driver in config.drivers {
        let mut all = lab.modules(config.kernel, driver)?;
        drivers.extend(all.pop());
        needed.extend(all);
    }
    let release = lab.release(config.kernel)?;
    let kernel = lab.root().join("usr/lib/modules").join(release);
    let own = config.modules.iter().map(|module| kernel.join(module));
    let mut known = BTreeSet::new();
    let mut modules = Vec::new();
    for path in needed.into_iter().chain(own).chain(drivers) {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        // The lab numbers its files.
        let name = file.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-').to_owned();
        if known.insert(name.clone()) {
            let module = if path.exists() { read(&path)? } else { unpack(lab, &path)? };
            modules.push((name, module));
        }
    }
    Ok(modules)
}

/// A module that is there as `PATH.xz`.
fn unpack(lab: &Lab, path: &Path) -> Result<Vec<u8>, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let packed = dir.path().join("module.xz");
    let from = PathBuf::from(format!("{}.xz", path.display()));
    fs::copy(&from, &packed).map_err(|e| format!("{}: {e}", from.display()))?;
    // The host may have no xz; the tree has.
    let mut xz = lab.program("xz");
    xz.arg("-d").arg(&packed);
    let Finished { status, stderr, .. } = run("xz", &xz, "", UNPACK);
    if !status.success() {
        return Err(format!("xz: {}: {}", from.display(), stderr.trim()));
    }
    read(&dir.path().join("module"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()))
}
