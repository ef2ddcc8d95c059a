//! The program in a process, and what its clients see.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vfio_gfx::abi::PlaneKind;
use vfio_gfx::display::{Display, Remote};
use vfio_gfx::vfio_user::{Client, Role};

/// What takes longer hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const A: &str = "11111111-1111-4111-8111-111111111111";
pub(crate) const B: &str = "22222222-2222-4222-8222-222222222222";

pub(crate) fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mdev-sample"));
    command.env_remove("RUST_LOG").env("XDG_CONFIG_HOME", home).stdin(Stdio::null());
    command
}

pub(crate) fn run(dir: &Path, args: &[&str]) -> Output {
    program(dir).args(args).arg("--definitions").arg(dir).output().unwrap()
}

#[track_caller]
pub(crate) fn output(dir: &Path, args: &[&str]) -> String {
    let output = run(dir, args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub(crate) fn complaint(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    stderr
}

/// A serving process, which ends with its test.
pub(crate) struct Serving {
    pub(crate) child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Serving {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    pub(crate) fn ready(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(line.contains(" ready on "), "{line:?}");
        line
    }

    /// Whether it says that it is, rather than end.
    pub(crate) fn is_ready(&mut self) -> bool {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.contains(" ready on ")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Its status and its logs.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        until("it ends", || self.child.try_wait().unwrap().is_some());
        let mut logs = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut logs).unwrap();
        assert!(!logs.contains("panicked"), "{logs}");
        assert!(!logs.contains('\x1b'), "colours for nobody: {logs:?}");
        (self.child.wait().unwrap().code(), logs)
    }

    /// A line of /proc/PID/status, in kB or a count.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not so: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn width(socket: &Path) -> u32 {
    let mut display = Display::open(Box::new(Remote::connect(socket).unwrap())).unwrap();
    display.pixels(PlaneKind::Primary).unwrap().unwrap().plane().geometry.width()
}

pub(crate) fn attach(socket: &Path, role: Role) -> Client {
    Client::connect(socket, role).unwrap()
}

pub(crate) fn socket(dir: &TempDir, uuid: &str) -> PathBuf {
    dir.path().join(format!("{uuid}.sock"))
}

pub(crate) fn define(dir: &TempDir, parent: &str, uuid: &str, text: &str) {
    fs::create_dir_all(dir.path().join(parent)).unwrap();
    fs::write(dir.path().join(parent).join(uuid), text).unwrap();
}

pub(crate) fn serve_definitions(dir: &TempDir) -> Serving {
    Serving::start(program(dir.path()).args(["serve", "--definitions"]).arg(dir.path()))
}
