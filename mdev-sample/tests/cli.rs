//! `mdev-sample` as its users meet it: a program with a command line, a socket, signals and an exit status.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use vfio_gfx::abi::Interface;
use vfio_gfx::display::{Display, Remote};
use vfio_gfx::vfio_user::{Client, Role};

/// The kernel's types in sysfs' words, as recorded from its modules.
const KERNEL_TYPES: &str = r#"{"type":"mdpy-vga","name":"mdpy-vga","description":"virtual display, 640x480 framebuffer","device_api":"vfio-pci","available_instances":"4"}
{"type":"mdpy-xga","name":"mdpy-xga","description":"virtual display, 1024x768 framebuffer","device_api":"vfio-pci","available_instances":"4"}
{"type":"mdpy-hd","name":"mdpy-hd","description":"virtual display, 1920x1080 framebuffer","device_api":"vfio-pci","available_instances":"4"}
{"type":"mbochs-small","name":"mbochs-small","description":"virtual display, 4 MB video memory","device_api":"vfio-pci","available_instances":"64"}
{"type":"mbochs-medium","name":"mbochs-medium","description":"virtual display, 16 MB video memory","device_api":"vfio-pci","available_instances":"16"}
{"type":"mbochs-large","name":"mbochs-large","description":"virtual display, 64 MB video memory","device_api":"vfio-pci","available_instances":"4"}
"#;

/// What takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mdev-sample"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    program().args(args).output().unwrap()
}

/// Its complaint: one line on stderr and nothing on stdout.
#[track_caller]
fn complaint(output: &Output, status: i32) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(output.stdout.is_empty());
    assert!(stderr.starts_with("mdev-sample: ") && stderr.ends_with('\n'), "{stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

/// A serving process and the place of its socket.
struct Serving {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: ChildStderr,
    ready: String,
}

impl Serving {
    /// Started, and ready as it says.
    fn start(path: &Path, args: &[&str]) -> Self {
        let mut command = program();
        command.args(["serve", "--socket"]).arg(path).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = child.stderr.take().unwrap();
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        assert!(ready.ends_with('\n'), "not ready: {ready:?}");
        Self { child, stdout, stderr, ready }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Its end, soon, and that it had nothing to say but that it was ready.
    fn wait(mut self) -> ExitStatus {
        let start = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if start.elapsed() > PATIENCE => panic!("it does not end"),
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let (mut more, mut logs) = (String::new(), String::new());
        self.stdout.read_to_string(&mut more).unwrap();
        self.stderr.read_to_string(&mut logs).unwrap();
        assert_eq!(more, "", "one line on stdout");
        assert!(!logs.contains("panicked"), "{logs}");
        status
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gpu.sock");
    (dir, path)
}

fn attach(path: &Path, role: Role) -> Client {
    Client::connect(path, role).unwrap()
}

#[test]
fn bad_command_lines_are_status_2_and_one_line() {
    let serve =
        |args: &[&str]| [&["serve"], args].concat().iter().map(ToString::to_string).collect::<Vec<_>>();
    let cases: [(Vec<String>, &str); 17] = [
        (vec![], "no command"),
        (vec!["frobnicate".into()], "frobnicate"),
        (vec!["types".into(), "--yaml".into()], "--yaml"),
        (vec!["types".into(), "mdpy-vga".into()], "mdpy-vga"),
        (vec!["replay".into()], "FILE"),
        (serve(&[]), "--type"),
        (serve(&["--type", "mdpy-vga"]), "--socket"),
        (serve(&["--socket", "/tmp/x"]), "--type"),
        (serve(&["--type", "mdpy", "--socket", "/tmp/x"]), "mdpy-vga, mdpy-xga, mdpy-hd, mbochs-small"),
        (serve(&["--type", "mdpy-vga", "--socket", "/tmp/x", "--uuid", "7"]), "--uuid"),
        (serve(&["--type", "mdpy-vga", "--socket", "/tmp/x", "--interfaces", "all"]), "region, dmabuf, both"),
        (serve(&["--type", "mdpy-vga", "--socket", "/tmp/x", "--socket", "/tmp/y"]), "--socket"),
        (serve(&["--type", "mdpy-vga", "--socket"]), "--socket"),
        (serve(&["--type", "mdpy-vga", "--socket", "/tmp/x", "--definitions", "/tmp"]), "--definitions"),
        (serve(&["--type", "mdpy-vga", "--socket", "/tmp/x", "--socket-dir", "/tmp"]), "--socket-dir"),
        (vec!["create".into()], "--type"),
        (vec!["remove".into(), "7".into()], "<UUID>"),
    ];
    for (args, culprit) in cases {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let line = complaint(&run(&args), 2);
        assert!(line.contains(culprit), "{args:?}: {line}");
        assert!(line.contains("--help"), "{args:?}: {line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [&["--help"][..], &["help"], &["--version"], &["serve", "--help"], &["types", "--help"]] {
        let output = run(args);
        assert!(output.status.success() && output.stderr.is_empty() && !output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn the_kernels_types_are_listed_first_and_exactly() {
    let output = run(&["types", "--json"]);
    assert!(output.status.success() && output.stderr.is_empty());
    let json = String::from_utf8(output.stdout).unwrap();
    let ours = json.strip_prefix(KERNEL_TYPES).unwrap_or_else(|| panic!("{json}"));
    assert!(ours.lines().all(|line| !line.contains("mdpy") && !line.contains("mbochs")), "{ours}");
    let names = |text: &str| text.split_whitespace().next().unwrap().to_owned();
    let text = String::from_utf8(run(&["types"]).stdout).unwrap();
    assert_eq!(text.lines().count(), json.lines().count());
    for (line, object) in text.lines().zip(json.lines()) {
        let object: serde_json::Value = serde_json::from_str(object).unwrap();
        assert_eq!((object["type"].as_str(), object["type"] == object["name"]), (Some(&*names(line)), true));
        assert!(line.ends_with(object["description"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn the_socket_is_there_and_private_when_it_says_so() {
    let (_dir, path) = place();
    let uuid = "0b5ff4ea-5c1f-4d0c-8c0a-8a5bb2a7d3e9";
    let serving = Serving::start(&path, &["--type", "mdpy-vga", "--uuid", uuid]);
    assert!(serving.ready.contains("mdpy-vga") && serving.ready.contains(uuid), "{}", serving.ready);
    assert!(serving.ready.contains(path.to_str().unwrap()), "{}", serving.ready);
    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    attach(&path, Role::Vmm);
}

#[test]
fn signals_end_it_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let (dir, path) = place();
        let serving = Serving::start(&path, &["--type", "mbochs-small"]);
        // Attached clients do not keep it.
        let _clients = (attach(&path, Role::Vmm), attach(&path, Role::Console));
        serving.signal(signal);
        assert_eq!(serving.wait().code(), Some(0), "{signal:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left");
    }
}

#[test]
fn a_socket_that_is_served_is_left_alone() {
    let (_dir, path) = place();
    let _first = Serving::start(&path, &["--type", "mdpy-vga"]);
    let line = complaint(&run(&["serve", "--type", "mdpy-xga", "--socket", path.to_str().unwrap()]), 1);
    assert!(line.contains(path.to_str().unwrap()) && line.contains("listening"), "{line}");
    let mut display = Display::open(Box::new(Remote::connect(&path).unwrap())).unwrap();
    assert_eq!(
        display.pixels(vfio_gfx::abi::PlaneKind::Primary).unwrap().unwrap().plane().geometry.width(),
        640
    );
}

#[test]
fn files_are_left_alone() {
    let (dir, path) = place();
    let file = dir.path().join("file");
    fs::write(&file, "mine").unwrap();
    let link = dir.path().join("link");
    symlink(&file, &link).unwrap();
    let serve = |path: &Path| run(&["serve", "--type", "mdpy-vga", "--socket", path.to_str().unwrap()]);
    for taken in [&file, &link, &dir.path().to_owned()] {
        let line = complaint(&serve(taken), 1);
        assert!(line.contains(taken.to_str().unwrap()) && line.contains("not a socket"), "{line}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let nowhere = dir.path().join("no/such/place.sock");
    let too_long = dir.path().join("x".repeat(120));
    for refused in [&nowhere, &too_long] {
        let line = complaint(&serve(refused), 1);
        assert!(line.contains(refused.to_str().unwrap()), "{line}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing new");
    drop(path);
}

#[test]
fn a_stale_socket_is_replaced() {
    let (dir, path) = place();
    let serving = Serving::start(&path, &["--type", "mdpy-vga"]);
    serving.signal(Signal::KILL);
    serving.wait();
    assert!(path.exists(), "a killed process leaves its socket");
    let again = Serving::start(&path, &["--type", "mdpy-vga"]);
    attach(&path, Role::Vmm);
    again.signal(Signal::TERM);
    assert!(again.wait().success());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    // Not its own any more: somebody else's socket at the same place stays.
    let serving = Serving::start(&path, &["--type", "mdpy-vga"]);
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    serving.signal(Signal::TERM);
    assert!(serving.wait().success());
    assert!(path.exists());
}

#[test]
fn once_ends_with_the_vmm_and_with_nobody_else() {
    let (_dir, path) = place();
    let mut serving = Serving::start(&path, &["--type", "mbochs-medium", "--once"]);
    drop(UnixStream::connect(&path).unwrap());
    drop(attach(&path, Role::Console));
    let console = attach(&path, Role::Console);
    let vmm = attach(&path, Role::Vmm);
    drop(console);
    // A second VMM that was refused is none.
    assert!(Client::connect(&path, Role::Vmm).is_err());
    drop(attach(&path, Role::Console));
    assert!(serving.is_running());
    drop(vmm);
    assert_eq!(serving.wait().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn without_once_vmms_come_and_go() {
    let (_dir, path) = place();
    let mut serving = Serving::start(&path, &["--type", "mbochs-medium"]);
    for _ in 0..20 {
        attach(&path, Role::Vmm);
    }
    assert!(serving.is_running());
}

/// The client that [`killed_clients_do_no_harm`] starts as a process of its own; nothing to be run alone.
#[test]
#[ignore = "part of another test"]
fn client_process() {
    let (Ok(path), Ok(role)) = (std::env::var("CLI_TEST_SOCKET"), std::env::var("CLI_TEST_ROLE")) else {
        return;
    };
    let _client = attach(Path::new(&path), if role == "vmm" { Role::Vmm } else { Role::Console });
    fs::write(format!("{path}.attached"), "").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn killed_clients_do_no_harm() {
    let (_dir, path) = place();
    let attached = PathBuf::from(format!("{}.attached", path.display()));
    let mut serving = Serving::start(&path, &["--type", "mbochs-medium"]);
    for role in ["console", "vmm", "vmm", "console"] {
        let mut client = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "client_process", "--ignored"])
            .env("CLI_TEST_SOCKET", &path)
            .env("CLI_TEST_ROLE", role)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !attached.exists() {
            assert!(start.elapsed() < PATIENCE, "{role} does not attach");
            std::thread::sleep(Duration::from_millis(2));
        }
        client.kill().unwrap();
        client.wait().unwrap();
        fs::remove_file(&attached).unwrap();
        attach(&path, Role::Vmm);
        attach(&path, Role::Console);
        assert!(serving.is_running());
    }
}

#[test]
fn interfaces_are_the_kernels_or_what_is_asked_for() {
    use Interface::{Dmabuf, Region};
    for (args, offered) in [
        (&["--type", "mdpy-vga"][..], &[Region][..]),
        (&["--type", "mbochs-small"], &[Dmabuf]),
        (&["--type", "mdpy-vga", "--interfaces", "dmabuf"], &[Dmabuf]),
        (&["--type", "mbochs-small", "--interfaces", "region"], &[Region]),
        (&["--type", "mdpy-vga", "--interfaces", "both"], &[Region, Dmabuf]),
        (&["--type", "mbochs-small", "--interfaces=both"], &[Region, Dmabuf]),
    ] {
        let (_dir, path) = place();
        let _serving = Serving::start(&path, args);
        let display = Display::open(Box::new(Remote::connect(&path).unwrap())).unwrap();
        assert_eq!(display.offered(), offered, "{args:?}");
    }
}

/// Whoever started it may have stopped listening.
#[test]
fn a_closed_stdout_is_no_panic() {
    for args in [&["types"][..], &["types", "--json"], &["serve", "--type", "mdpy-vga"]] {
        let (_dir, path) = place();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = program();
        command.args(args);
        if args[0] == "serve" {
            command.arg("--socket").arg(&path);
        }
        let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        // It either ends, as `types` does, or goes on serving.
        while child.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_millis(500) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = child.kill();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked") && output.status.code() != Some(101), "{args:?}: {stderr}");
    }
}
