//! The programs of this project, as a user runs them.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;
use vfio_gfx::vfio_user::{Client, ClientError, Role};

/// Where a program of the workspace is, built in the profile of this one. The first call has cargo build them all.
pub(crate) fn program(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let dir = BUILT.get_or_init(|| build().map_err(|error| error.to_string()));
    Ok(dir.as_ref().map_err(String::clone)?.join(name))
}

/// Returns the directory they are in: this program's own, `TARGET/PROFILE`.
fn build() -> Result<PathBuf, Box<dyn Error>> {
    let us = env::current_exe()?;
    let not_cargos = || format!("{}: expected to run from a cargo target directory", us.display());
    let dir = us.parent().ok_or_else(not_cargos)?;
    let profile = dir.file_name().and_then(|name| name.to_str()).ok_or_else(not_cargos)?;
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--quiet",
            "--package",
            "mdev-sample",
            "--package",
            "qemu-shim",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(dir.parent().ok_or_else(not_cargos)?)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // Ours is for figures.
        .stdout(Stdio::null())
        .status()?;
    if !status.success() {
        return Err(format!("the programs do not build: cargo ended with {status}").into());
    }
    Ok(dir.to_owned())
}

/// A process that is killed when dropped.
#[derive(Debug)]
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A device served by `mdev-sample`, with the connection of its VMM.
#[derive(Debug)]
pub(crate) struct Served {
    /// The VMM's connection.
    pub(crate) vmm: Client,
    process: Running,
    socket: PathBuf,
    /// Removed after the process that uses it.
    dir: TempDir,
}

impl Served {
    /// Serves a device that offers both interfaces. The server ends with its VMM, so it does not outlive this process.
    pub(crate) fn start(device_type: &str) -> Result<Self, Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let socket = dir.path().join("device.sock");
        let mut child = Command::new(program("mdev-sample")?)
            .args(["serve", "--once", "--interfaces", "both", "--type", device_type, "--socket"])
            .arg(&socket)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .env("RUST_LOG", "error")
            .spawn()?;
        let stdout = child.stdout.take();
        let process = Running(child);
        let mut ready = String::new();
        BufReader::new(stdout.ok_or("stdout was piped")?).read_line(&mut ready)?;
        if !ready.contains("ready") {
            return Err("mdev-sample ended before it was ready".into());
        }
        let vmm = Client::connect(&socket, Role::Vmm)?;
        Ok(Self { vmm, process, socket, dir })
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A directory that goes with it.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Another console on it.
    pub(crate) fn console(&self) -> Result<Client, ClientError> {
        Client::connect(&self.socket, Role::Console)
    }
}

/// Devices of one type in one server, each with its VMM.
#[derive(Debug)]
pub(crate) struct Many {
    process: Running,
    _vmms: Vec<Client>,
    _dir: TempDir,
}

impl Many {
    pub(crate) fn start(device_type: &str, count: usize) -> Result<Self, Box<dyn Error>> {
        let dir = tempfile::tempdir()?;
        let sockets: Vec<PathBuf> = (0..count).map(|n| dir.path().join(format!("{n}.sock"))).collect();
        let mut command = Command::new(program("mdev-sample")?);
        command.arg("serve");
        for socket in &sockets {
            command.args(["--type", device_type, "--socket"]).arg(socket);
        }
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).env("RUST_LOG", "error").spawn()?;
        let stdout = child.stdout.take();
        let process = Running(child);
        let mut lines = BufReader::new(stdout.ok_or("stdout was piped")?).lines();
        for _ in &sockets {
            if !lines.next().ok_or("mdev-sample ended before it was ready")??.contains("ready") {
                return Err("mdev-sample said something else than that it is ready".into());
            }
        }
        let vmms =
            sockets.iter().map(|socket| Client::connect(socket, Role::Vmm)).collect::<Result<_, _>>()?;
        Ok(Self { process, _vmms: vmms, _dir: dir })
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.0.id()
    }
}
