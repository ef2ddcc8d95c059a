//! The programs under test: built once, then started as a user would start them.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::process::{Running, run};
use crate::screen::Screen;

/// How long a server may take from start to its ready line.
const START: Duration = Duration::from_secs(20);
/// How long one command of the console may take. Generous: the machine may be running several guests.
const CONSOLE: Duration = Duration::from_secs(60);

/// How long cargo may take.
const BUILD: Duration = Duration::from_secs(900);

/// The target directory and the profile's directory in it, from where this test program is:
/// `TARGET/PROFILE/deps/NAME`.
fn target() -> &'static (PathBuf, PathBuf) {
    static TARGET: OnceLock<(PathBuf, PathBuf)> = OnceLock::new();
    TARGET.get_or_init(|| {
        let program = env::current_exe().expect("a program knows where it is");
        let ancestor = |n| program.ancestors().nth(n).map(Path::to_path_buf);
        match (ancestor(3), ancestor(2)) {
            (Some(target), Some(profile)) => (target, profile),
            _ => panic!("expected to run from TARGET/PROFILE/deps, found {}", program.display()),
        }
    })
}

/// A directory for what people want to look at after a test: `guest-screens` in the target directory.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn artifacts() -> PathBuf {
    let dir = target().0.join("guest-screens");
    std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    dir
}

/// Where a program of the workspace is, or the preload library. The first call has cargo build them all, which is quick if nothing
/// changed; the others wait for it.
///
/// # Panics
/// If they do not build.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let (target, profile) = target();
    let built = BUILT.get_or_init(|| {
        let mut cargo = cargo_build(target);
        cargo.args(["--package", "qemu-preload"]);
        match profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") => {}
            Some(profile) => drop(cargo.args(["--profile", profile])),
            None => return Err(format!("{} is no profile", profile.display())),
        }
        run("cargo build", &cargo, "", BUILD).success().map(drop)
    });
    if let Err(error) = built {
        panic!("the programs do not build: {error}");
    }
    let path = profile.join(name);
    assert!(path.is_file(), "cargo build left no {}", path.display());
    path
}

/// The same program without libraries, small and a little optimised: for guests, which have no libraries and little
/// time. Built in a directory of its own (`static` in the target directory), so that nothing else is built again.
///
/// # Panics
/// If they do not build.
#[must_use]
pub fn static_program(name: &str) -> PathBuf {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let dir = target().0.join("static");
    let built = BUILT.get_or_init(|| {
        let mut cargo = cargo_build(&dir);
        cargo
            .args(["--package", env!("CARGO_PKG_NAME"), "--bins", "--target", TARGET])
            .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
            .env("CARGO_PROFILE_DEV_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env("CARGO_PROFILE_DEV_STRIP", "true");
        run("cargo build", &cargo, "", BUILD).success().map(drop)
    });
    if let Err(error) = built {
        panic!("the static programs do not build: {error}");
    }
    let path = dir.join(TARGET).join("debug").join(name);
    assert!(path.is_file(), "cargo build left no {}", path.display());
    path
}

/// `cargo build` of the two programs into `target`.
fn cargo_build(target: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", "mdev-sample"])
        .args(["--package", "qemu-shim", "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    cargo
}

/// A device being served by `mdev-sample`.
#[derive(Debug)]
pub struct Server {
    /// The program, to be looked at or killed.
    pub process: Running,
    command: Command,
    socket: PathBuf,
    // Dropped after the program that uses it.
    _dir: TempDir,
}

#[track_caller]
fn serve(command: &Command, socket: &Path) -> Running {
    let mut process = Running::start("mdev-sample", command);
    let path = socket.to_str().expect("a temporary path is UTF-8");
    // The ready line says where to connect.
    process.expect_line(path, START);
    assert!(socket.exists(), "mdev-sample is ready without {path}");
    process
}

impl Server {
    /// Serves a device of `device_type` on a socket of its own, and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready, or is without its socket then.
    #[track_caller]
    #[must_use]
    pub fn start(device_type: &str) -> Self {
        Self::launch::<&OsStr>(device_type, &[], None)
    }

    /// The same with further options of `serve`.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[track_caller]
    #[must_use]
    pub fn start_with(device_type: &str, options: &[impl AsRef<OsStr>]) -> Self {
        Self::launch(device_type, options, None)
    }

    /// The same, and it logs nothing but errors: what it says is kept by this process, and counts as its memory.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[track_caller]
    #[must_use]
    pub fn start_quietly(device_type: &str, options: &[impl AsRef<OsStr>]) -> Self {
        Self::launch(device_type, options, Some("error"))
    }

    #[track_caller]
    fn launch<S: AsRef<OsStr>>(device_type: &str, options: &[S], log: Option<&str>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let socket = dir.path().join("device.sock");
        let mut command = Command::new(program("mdev-sample"));
        command.args(["serve", "--type", device_type, "--socket"]).arg(&socket).args(options);
        if let Some(log) = log {
            command.env("RUST_LOG", log);
        }
        let process = serve(&command, &socket);
        Self { process, command, socket, _dir: dir }
    }

    /// Ends the program with `signal`, and starts it again on the same socket.
    ///
    /// # Panics
    /// If it does not end, or not start.
    #[track_caller]
    pub fn restart(&mut self, signal: Signal) {
        self.process.signal(signal);
        self.process.wait(START);
        self.process = serve(&self.command, &self.socket);
    }

    /// QEMU's `-device` argument for this device; see [`vfio_user_pci`].
    #[must_use]
    pub fn qemu_device(&self, rest: &str) -> String {
        vfio_user_pci(&self.socket, rest)
    }

    /// Where it is served.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A command of the console on this device: `qemu-shim COMMAND vfio-user:SOCKET ARGS...`.
    #[must_use]
    pub fn console(&self, command: &str, args: &[&str]) -> Command {
        let mut console = Command::new(program("qemu-shim"));
        console.arg(command).arg(format!("vfio-user:{}", self.socket.display())).args(args);
        console
    }

    /// Runs a command of the console, and returns what it wrote to stdout.
    ///
    /// # Errors
    /// How it failed.
    pub fn ask(&self, command: &str, args: &[&str]) -> Result<String, String> {
        let name = format!("qemu-shim {command}");
        run(&name, &self.console(command, args), "", CONSOLE).success().map_err(|e| format!("{name}: {e}"))
    }

    /// Takes a screenshot, left as `NAME.png` among the [`artifacts`].
    ///
    /// # Errors
    /// How the console failed, or why its file is no picture.
    pub fn screenshot(&self, name: &str) -> Result<Screen, String> {
        let path = artifacts().join(format!("{name}.png"));
        let file = path.to_str().ok_or("the target directory is not UTF-8")?;
        // A file of an earlier run must not pass for this one's.
        let _ = std::fs::remove_file(&path);
        self.ask("screendump", &["-o", file])?;
        Screen::read_png(&path)
    }
}

/// QEMU's `-device` argument, and its monitor's for `device_add`, for the device that is served at `socket`. `rest` are
/// further properties, such as `,"id":"gpu","bus":"slot1"`.
#[must_use]
pub fn vfio_user_pci(socket: &Path, rest: &str) -> String {
    let path = socket.display();
    format!(r#"{{"driver":"vfio-user-pci","socket":{{"type":"unix","path":"{path}"}}{rest}}}"#)
}
