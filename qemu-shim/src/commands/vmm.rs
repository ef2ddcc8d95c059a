//! A VMM that a command runs beside its device: what QEMU is to be told, a device for it, and its end.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread::JoinHandle;

use mdev_sample::DeviceType;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;
use thiserror::Error;
use vfio_gfx::device::SharedDevice;
use vfio_gfx::vfio_user::{Server, Stopper, Until};

/// A VMM that could not be run.
#[derive(Debug, Error)]
#[error("{program:?} cannot be run")]
struct CannotRun {
    program: OsString,
    #[source]
    source: io::Error,
}

/// A sample device, served from a thread of this process until it is dropped.
#[derive(Debug)]
pub(super) struct Served {
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves a device of this type at `socket`.
    pub(super) fn start(device_type: &DeviceType, socket: &Path) -> Result<Self, Box<dyn Error>> {
        let device = SharedDevice::new(device_type.create(None)?);
        let mut server = Server::bind(device, socket)?;
        let stopper = server.stopper()?;
        let thread = std::thread::spawn(move || {
            if let Err(error) = server.run(Until::Stopped) {
                tracing::error!(%error, "the device is gone");
            }
        });
        Ok(Self { stopper, thread: Some(thread) })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stopper.stop();
        // Its socket goes with it. It does not panic; if it did, that has been said.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// A directory of this command's own, and the name of a socket in it.
pub(super) fn private_socket() -> io::Result<(TempDir, PathBuf)> {
    let dir = tempfile::Builder::new().prefix("vfio-gfx-").tempdir()?;
    let socket = dir.path().join("device.sock");
    Ok((dir, socket))
}

/// Says where other consoles can look at the device.
pub(super) fn announce(what: &str, socket: &Path) {
    // Whoever started it need not listen.
    let _ = writeln!(io::stdout(), "qemu-shim: {what} ready on vfio-user:{}", socket.display());
}

/// Whether one of QEMU's arguments is the option `name`, which QEMU takes with one dash or two.
fn is_option(argument: &OsString, name: &str) -> bool {
    argument.to_str().and_then(|text| text.strip_prefix("--").or(text.strip_prefix('-'))) == Some(name)
}

/// What gives a device in another process access to the guest's memory: as much as `-m` says, in a file. Nothing where the user
/// chose a memory backend himself.
fn memory_arguments(arguments: &[OsString]) -> Vec<OsString> {
    let chosen = |argument: &OsString| {
        argument.to_string_lossy().contains("memory-backend") || is_option(argument, "numa")
    };
    if arguments.iter().any(chosen) {
        return Vec::new();
    }
    // QEMU's own default, and unit.
    let mut size = "128M".to_owned();
    for pair in arguments.windows(2).filter(|pair| is_option(&pair[0], "m")) {
        let text = pair[1].to_string_lossy();
        let words = || text.split(',');
        let word = words()
            .find_map(|word| word.strip_prefix("size="))
            .or_else(|| words().find(|word| !word.contains('=')));
        if let Some(word) = word {
            let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
            size = if is_number { format!("{word}M") } else { word.to_owned() };
        }
    }
    let object = format!("memory-backend-memfd,id=vfio-gfx-memory,size={size},share=on");
    ["-object", &object, "-machine", "memory-backend=vfio-gfx-memory"].map(OsString::from).to_vec()
}

/// What makes our display the guest's only one, where the user has not said which others there are.
fn vga_arguments(arguments: &[OsString]) -> Vec<OsString> {
    let says = |name| arguments.iter().any(|argument| is_option(argument, name));
    let vga = if says("vga") || says("nodefaults") { &[][..] } else { &["-vga", "none"][..] };
    vga.iter().map(OsString::from).collect()
}

/// The VMM that a user wrote behind `--`, with the arguments that our device asks for in addition.
pub(super) fn command(words: &[OsString]) -> Result<Command, &'static str> {
    let (program, arguments) = words.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    command.args(arguments).args(memory_arguments(arguments)).args(vga_arguments(arguments));
    Ok(command)
}

/// Runs a VMM to its end. The signals that would end this process are its to handle.
pub(super) fn run(command: &mut Command) -> Result<ExitStatus, Box<dyn Error>> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM])?;
    let handle = signals.handle();
    let mut child =
        command.spawn().map_err(|source| CannotRun { program: command.get_program().to_owned(), source })?;
    // A process id could be another's by the time of a signal.
    let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    let forward = std::thread::spawn(move || {
        for signal in &mut signals {
            if let (Ok(pidfd), Some(signal)) = (&pidfd, Signal::from_named_raw(signal)) {
                let _ = pidfd_send_signal(pidfd, signal);
            }
        }
    });
    let status = child.wait();
    handle.close();
    let _ = forward.join();
    Ok(status?)
}

/// Ends this process as the VMM ended, when everything else is cleaned up: with its status, or as a shell reports a signal.
pub(super) fn end_as(status: ExitStatus) -> Result<(), Box<dyn Error>> {
    if status.success() {
        return Ok(());
    }
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    std::process::exit(code.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(arguments: &[&str]) -> Option<String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let made = memory_arguments(&arguments);
        assert!(made.is_empty() || made.len() == 4, "{made:?}");
        let size = made.get(1)?.to_str()?.split(',').find_map(|word| word.strip_prefix("size="));
        Some(size?.to_owned())
    }

    #[test]
    fn guest_memory_is_as_large_as_it_was_to_be() {
        assert_eq!(memory(&[]).as_deref(), Some("128M"));
        assert_eq!(memory(&["-m", "512"]).as_deref(), Some("512M"));
        assert_eq!(memory(&["-m", "1", "--m", "4G,slots=2,maxmem=8G"]).as_deref(), Some("4G"));
        assert_eq!(memory(&["-m", "slots=2,size=2048"]).as_deref(), Some("2048M"));
        assert_eq!(memory(&["-m"]).as_deref(), Some("128M"));
    }

    #[test]
    fn memory_that_the_user_set_up_is_his() {
        assert_eq!(memory(&["-object", "memory-backend-file,id=m,share=on", "-m", "1G"]), None);
        assert_eq!(memory(&["-machine", "q35,memory-backend=m"]), None);
        assert_eq!(memory(&["-numa", "node"]), None);
    }

    #[test]
    fn other_displays_are_the_users_to_choose() {
        let vga = |arguments: &[&str]| {
            vga_arguments(&arguments.iter().map(OsString::from).collect::<Vec<_>>()).len()
        };
        assert_eq!(vga(&["-m", "1G"]), 2);
        assert_eq!((vga(&["-vga", "std"]), vga(&["--nodefaults"])), (0, 0));
    }

    #[test]
    fn a_child_ends_as_it_ends() {
        let status = run(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        assert_eq!(status.code(), Some(7));
        let error = run(&mut Command::new("/nonexistent/qemu")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/qemu"), "{error}");
    }
}
