//! A virtual machine with a stock Linux kernel whose only purpose is to drive one display.
//!
//! The guest is a kernel of the lab and a root file system made here: busybox, the modules of one driver, the
//! picture to show, and `init.sh`, which speaks with the test over the serial line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    cpio::Archive,
    lab::{Kernel, Lab},
    process::Running,
};

/// How long a guest may take to boot. It takes 10 s under TCG on an idle machine.
const BOOT: Duration = Duration::from_secs(180);
/// How long a booted guest may take to do as it is told.
const REPLY: Duration = Duration::from_secs(60);

/// What kind of guest to boot.
#[derive(Clone, Copy, Debug)]
pub struct Config<'a> {
    /// Its kernel.
    pub kernel: Kernel,
    /// The display driver: a directory of the lab, "bochs" or "mdpy-fb".
    pub driver: &'a str,
    /// QEMU's `-device` argument for the display; empty where whoever runs QEMU adds it.
    pub device: &'a str,
    /// What `picture` writes to the framebuffer.
    pub picture: &'a [u8],
}

/// What a guest said about its display when it had booted.
#[derive(Debug)]
pub struct Display {
    /// Width and height of its framebuffer, in pixels.
    pub size: (u32, u32),
    /// Bytes from line to line.
    pub stride: u32,
    /// Bits of a pixel.
    pub bits: u32,
    /// The EDID its driver found, as hex digits; empty if none.
    pub edid: String,
    /// The modes of its connector, as `1024x768`.
    pub modes: Vec<String>,
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    /// QEMU, to be looked at or killed.
    pub vmm: Running,
    /// What the guest said about its display.
    pub display: Display,
    dir: TempDir,
}

impl Guest {
    /// Boots a guest, until it has its framebuffer.
    ///
    /// # Panics
    /// If it does not get there.
    #[track_caller]
    #[must_use]
    pub fn boot(lab: &Lab, config: Config<'_>) -> Self {
        Self::boot_with(lab, config, lab.qemu())
    }

    /// The same with another QEMU, or one that another program runs.
    ///
    /// # Panics
    /// If it does not get there.
    #[track_caller]
    #[must_use]
    pub fn boot_with(lab: &Lab, config: Config<'_>, mut qemu: Command) -> Self {
        qemu.arg("-no-reboot");
        Self::boot_on(lab, config, "pc", qemu)
    }

    /// The same on a machine of this type, which boots again when it is reset.
    ///
    /// # Panics
    /// If it does not get there.
    #[track_caller]
    #[must_use]
    pub fn boot_on(lab: &Lab, config: Config<'_>, machine: &str, mut qemu: Command) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let initramfs = dir.path().join("initramfs");
        let archive = initramfs_of(lab, config)
            .unwrap_or_else(|e| panic!("the lab is damaged, run `cargo xtask lab`: {e}"));
        fs::write(&initramfs, archive).unwrap_or_else(|e| panic!("{}: {e}", initramfs.display()));

        let monitor = format!("unix:{},server=on,wait=off", monitor_in(&dir).display());
        qemu.args(["-accel", "tcg", "-m", "512", "-machine"])
            // The device reads guest memory: it must be shareable.
            .arg(format!("{machine},memory-backend=mem"))
            .args(["-object", "memory-backend-memfd,id=mem,size=512M,share=on"])
            .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
            .args(["-qmp", &monitor])
            .arg("-kernel")
            .arg(lab.guest(config.kernel).join("vmlinuz"))
            .arg("-initrd")
            .arg(&initramfs)
            .args(["-append", "console=ttyS0 console=tty1 panic=-1"]);
        if !config.device.is_empty() {
            qemu.args(["-device", config.device]);
        }
        let mut vmm = Running::start("qemu", &qemu);
        vmm.expect_line("GUEST: READY", BOOT);
        let display = Display::parse(&vmm.said())
            .unwrap_or_else(|e| panic!("the guest did not describe its display: {e}"));
        Self { vmm, display, dir }
    }

    /// Gives the guest a command, and waits for the answer `GUEST: WORD`.
    ///
    /// # Panics
    /// If it does not answer, or says that it failed.
    #[track_caller]
    fn tell(&mut self, command: &str, answer: &str) {
        self.vmm.send_line(command);
        let line = self.vmm.expect_line("GUEST: ", REPLY);
        assert!(line.contains(answer), "told \"{command}\": {line}");
    }

    /// Has the guest write the picture to its framebuffer. It reaches the screen when the driver flushes it.
    ///
    /// # Panics
    /// If the guest cannot.
    #[track_caller]
    pub fn show_picture(&mut self) {
        self.tell("picture", "GUEST: PICTURE");
    }

    /// Has the guest give the screen back to its text console and write some lines there.
    ///
    /// # Panics
    /// If the guest cannot.
    #[track_caller]
    pub fn show_text(&mut self) {
        self.tell("text", "GUEST: TEXT");
    }

    /// Has the guest start a shell on its screen, for whoever has its keyboard.
    ///
    /// # Panics
    /// If the guest cannot.
    #[track_caller]
    pub fn show_shell(&mut self) {
        self.tell("shell", "GUEST: SHELL");
    }

    /// Has the guest's bochs-drm begin again, with the display off for a second, and waits for a framebuffer of `size`: what
    /// the monitor prefers.
    ///
    /// # Panics
    /// If the guest cannot, or makes it another size.
    #[track_caller]
    pub fn restart_driver(&mut self, size: (u32, u32)) {
        self.tell("driver", &format!("GUEST: DRIVER {}x{}", size.0, size.1));
    }

    /// Has the guest's shell run a command, and returns its status.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn shell(&mut self, command: &str) -> u32 {
        self.vmm.send_line(command);
        let line = self.vmm.expect_line("GUEST: ENDED", REPLY);
        let status = line.rsplit(' ').next().and_then(|status| status.parse().ok());
        status.unwrap_or_else(|| panic!("\"{command}\": expected a status, found \"{line}\""))
    }

    /// Has the guest write the part of the picture that fills so many pixels to each framebuffer of this size; whether there
    /// is one.
    ///
    /// # Panics
    /// If it does not answer.
    #[track_caller]
    pub fn draw(&mut self, (width, height): (u32, u32)) -> bool {
        self.shell(&format!("draw {width},{height}")) == 0
    }

    /// Waits until the guest has booted once more.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn expect_ready(&mut self) {
        self.vmm.expect_line("GUEST: READY", BOOT);
    }

    /// Has the guest reboot.
    pub fn reboot(&mut self) {
        self.vmm.send_line("reboot");
    }

    /// Has the guest power off, and waits until QEMU has ended.
    ///
    /// # Panics
    /// If it does not, or QEMU fails.
    #[track_caller]
    pub fn power_off(&mut self) {
        self.vmm.send_line("poweroff");
        let status = self.vmm.wait(REPLY);
        assert!(status.success(), "qemu: {status}");
    }

    /// The socket of QEMU's monitor (QMP).
    #[must_use]
    pub fn monitor(&self) -> PathBuf {
        monitor_in(&self.dir)
    }
}

fn monitor_in(dir: &TempDir) -> PathBuf {
    dir.path().join("qmp.sock")
}

/// The root file system of a guest, packed as its kernel unpacks it.
///
/// # Errors
/// A sentence, if the lab lacks a part of it.
pub fn initramfs_of(lab: &Lab, config: Config<'_>) -> Result<Vec<u8>, String> {
    let read = |path: &Path| fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
    let mut archive = Archive::new();
    for dir in ["bin", "dev", "modules", "proc", "sys"] {
        archive.directory(dir);
    }
    archive
        .file("bin/busybox", &read(&lab.root().join("usr/bin/busybox"))?)
        .file("init", include_bytes!("init.sh"))
        .file("picture.raw", config.picture);
    for module in lab.modules(config.kernel, config.driver)? {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        archive.file(&format!("modules/{name}"), &read(&module)?);
    }
    Ok(archive.finish())
}

impl Display {
    /// Reads what `init.sh` wrote to the serial line up to its READY.
    fn parse(said: &str) -> Result<Self, String> {
        let find = |key: &str| {
            let mut lines = said.lines().filter_map(|line| line.split_once(key));
            lines.next().map(|(_, rest)| rest.trim())
        };
        if let Some(failure) = find("GUEST: FAILED") {
            return Err(format!("it failed: {failure}"));
        }
        let ready = find("GUEST: READY ").ok_or("no READY line")?;
        let wrong = || format!("expected \"WxH STRIDE BITS\", found \"{ready}\"");
        let numbers = ready
            .split([' ', 'x'])
            .map(|word| word.parse().map_err(|_| wrong()))
            .collect::<Result<Vec<u32>, _>>()?;
        let [width, height, stride, bits] = numbers[..] else {
            return Err(wrong());
        };
        Ok(Self {
            size: (width, height),
            stride,
            bits,
            edid: find("GUEST: EDID ").unwrap_or_default().to_owned(),
            modes: find("GUEST: MODES ")
                .map(|modes| modes.split(' ').map(str::to_owned).collect())
                .unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_display_is_read_from_the_serial_log() {
        let said = "[ 1.0] noise\r\nGUEST: EDID 00ff\r\nGUEST: MODES 1024x768 800x600 \r\nGUEST: READY 1024x768 4096 32\r\n";
        let display = Display::parse(said).unwrap();
        assert_eq!(display.size, (1024, 768));
        assert_eq!((display.stride, display.bits), (4096, 32));
        assert_eq!(display.edid, "00ff");
        assert_eq!(display.modes, ["1024x768", "800x600"]);
    }

    #[test]
    fn a_guest_that_failed_is_not_ready() {
        let failed = "GUEST: FAILED no /dev/fb0\r\nGUEST: READY  \r\n";
        assert!(Display::parse(failed).unwrap_err().contains("/dev/fb0"));
        let cut = "GUEST: READY 1024x768 4096\r\n";
        assert!(Display::parse(cut).unwrap_err().contains("WxH STRIDE BITS"));
    }
}
