//! Enters the sandbox and tries one thing: for the tests, and for people who want to see what it does.
//!
//! `sandbox-probe serve|devices|connect DIR ACTION [PATH] [--sandbox MODE]`: the plan of a program whose socket is in DIR, or which
//! makes devices there, or which connects to a socket there; then the action. Prints `done` and exits with 0, or prints
//! `refused: why` and exits with 1, or is killed.
#![expect(unsafe_code, reason = "asks for executable memory, which no safe wrapper offers")]

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use vfio_gfx_sandbox::{Plan, Sandbox};

/// Enters the sandbox and tries one thing.
#[derive(Parser)]
struct Cli {
    kind: Kind,
    dir: PathBuf,
    action: Action,
    path: Option<PathBuf>,
    #[command(flatten)]
    sandbox: Sandbox,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    Serve,
    Devices,
    Connect,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    /// How long it took to enter.
    Time,
    Exec,
    Spawn,
    Thread,
    ExecutableMemory,
    Inet,
    /// Connect to a Unix socket.
    Unix,
    /// Whether our parent is there, by `kill(2)`.
    Kill,
    WindowSize,
    Read,
    /// Open for writing.
    Write,
    /// The same, by a thread that is older than the filter.
    WriteInThread,
    ReadInThread,
    Create,
    Remove,
    /// Make a socket and rename it.
    Socket,
    Rename,
    Abort,
    Panic,
    /// Make memory private, as new video memory is.
    MakePrivate,
    /// Let others read it.
    MakePublic,
    /// Show what privileges are left.
    Privileges,
    /// A descriptor of ours through `/proc`, as consoles get theirs.
    Reopen,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => {
            println!("done");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("refused: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let socket = cli.dir.join("s.sock");
    let plan = match cli.kind {
        Kind::Serve => Plan::new().removes_socket(&socket),
        Kind::Devices => Plan::new().makes_devices_in(&cli.dir).reads(&cli.dir),
        Kind::Connect => Plan::new().connects_to(&socket),
    };
    let path = cli.path.clone().unwrap_or_default();
    let held = File::from(rustix::fs::memfd_create("held", rustix::fs::MemfdFlags::CLOEXEC)?);
    let start = Instant::now();
    let restricted = cli.sandbox.restrict(&plan)?;
    let (go, wait) = mpsc::channel();
    let older = std::thread::spawn({
        let (path, action) = (path.clone(), cli.action);
        move || -> std::io::Result<()> {
            match (wait.recv(), action) {
                (Ok(()), Action::WriteInThread) => open_for_writing(&path),
                (Ok(()), Action::ReadInThread) => File::open(&path).map(drop),
                _ => Ok(()),
            }
        }
    });
    restricted.seal()?;
    if matches!(cli.action, Action::Time) {
        println!("{} us", start.elapsed().as_micros());
    }
    go.send(())?;
    match older.join() {
        Ok(result) => result?,
        Err(_) => return Err("the older thread panicked".into()),
    }
    act(cli.action, &path, &held)
}

fn act(action: Action, path: &Path, held: &File) -> Result<(), Box<dyn Error>> {
    match action {
        Action::Time | Action::WriteInThread | Action::ReadInThread => {}
        Action::Exec => return Err(Command::new("/bin/true").exec().into()),
        Action::Spawn => drop(Command::new("/bin/true").status()?),
        Action::Thread => std::thread::Builder::new().spawn(|| {})?.join().map_err(|_| "it panicked")?,
        Action::ExecutableMemory => {
            let (protection, flags) = (ProtFlags::READ | ProtFlags::EXEC, MapFlags::PRIVATE);
            // SAFETY: memory of its own at an address of the kernel's choice, which nobody uses.
            unsafe { mmap_anonymous(std::ptr::null_mut(), 4096, protection, flags)? };
        }
        Action::Inet => drop(TcpListener::bind("127.0.0.1:0")?),
        Action::Unix => drop(UnixStream::connect(path)?),
        Action::Kill => {
            let parent = rustix::process::getppid().ok_or("there is no parent")?;
            rustix::process::test_kill_process(parent)?;
        }
        Action::WindowSize => drop(rustix::termios::tcgetwinsize(held)),
        Action::Read => drop(File::open(path)?),
        Action::Write => open_for_writing(path)?,
        Action::Create => drop(File::create(path)?),
        Action::Remove => fs::remove_file(path)?,
        Action::Socket => {
            let temporary = path.with_extension("new");
            drop(std::os::unix::net::UnixListener::bind(&temporary)?);
            rustix::fs::renameat_with(
                rustix::fs::CWD,
                &temporary,
                rustix::fs::CWD,
                path,
                rustix::fs::RenameFlags::NOREPLACE,
            )?;
        }
        Action::Rename => fs::rename(path, path.with_extension("moved"))?,
        Action::Abort => std::process::abort(),
        Action::Panic => panic!("as asked"),
        Action::MakePrivate => held.set_permissions(fs::Permissions::from_mode(0o600))?,
        Action::MakePublic => held.set_permissions(fs::Permissions::from_mode(0o644))?,
        Action::Privileges => {
            let status = fs::read_to_string("/proc/self/status")?;
            status.lines().filter(|line| line.starts_with("Cap")).for_each(|line| println!("{line}"));
        }
        Action::Reopen => {
            use std::os::fd::AsRawFd;
            drop(File::open(format!("/proc/self/fd/{}", held.as_raw_fd()))?);
            fs::read_to_string(format!("/proc/self/fdinfo/{}", held.as_raw_fd()))?;
        }
    }
    Ok(())
}

fn open_for_writing(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}
