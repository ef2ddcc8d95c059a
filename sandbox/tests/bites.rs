//! What the sandbox refuses, and what it lets pass, seen from outside: by what becomes of a process in it.

use std::fs;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// `SIGSYS` (asm-generic/signal.h), of x86, Arm and RISC-V.
const SIGSYS: i32 = 31;

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Done,
    /// With an error.
    Refused,
    /// By the kernel, for a system call.
    Killed,
    Other(String),
}

struct Place {
    dir: TempDir,
    outside: TempDir,
}

impl Place {
    /// Two directories, one in the plan and one not, a file in each.
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap(), outside: tempfile::tempdir().unwrap() };
        fs::write(place.dir.path().join("file"), "x").unwrap();
        fs::write(place.outside.path().join("file"), "x").unwrap();
        place
    }

    fn inside(&self) -> String {
        self.dir.path().join("file").to_str().unwrap().to_owned()
    }

    fn outside(&self) -> String {
        self.outside.path().join("file").to_str().unwrap().to_owned()
    }

    fn output(&self, kind: &str, mode: Option<&str>, action: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-probe"));
        command.arg(kind).arg(self.dir.path()).args(action).env_remove("VFIO_GFX_SANDBOX");
        command.args(mode.map(|mode| format!("--sandbox={mode}"))).output().unwrap()
    }

    #[track_caller]
    fn end(&self, kind: &str, mode: Option<&str>, action: &[&str]) -> End {
        let output = self.output(kind, mode, action);
        match (output.status.code(), output.status.signal()) {
            (Some(0), _) => End::Done,
            (Some(1), _) => End::Refused,
            (None, Some(SIGSYS)) => End::Killed,
            _ => End::Other(format!("{output:?}")),
        }
    }
}

/// Whether this kernel has landlock; says so if not.
fn has_landlock() -> bool {
    let output = Place::new().output("serve", Some("on"), &["time"]);
    let text = String::from_utf8(output.stdout).unwrap();
    match output.status.success() {
        true => true,
        false => {
            assert!(text.contains("landlock"), "{text}");
            println!("SKIPPED: {text}");
            false
        }
    }
}

#[test]
fn a_call_that_is_not_on_the_list_is_the_last_one() {
    let place = Place::new();
    let (inside, outside) = (place.inside(), place.outside());
    for action in [
        &["exec"][..],
        &["spawn"],
        &["thread"],
        &["executable-memory"],
        &["inet"],
        &["unix", "/nonexistent"],
        &["kill"],
        &["window-size"],
        &["make-public"],
        &["write", &inside],
        &["write", &outside],
        &["write-in-thread", &inside],
        &["create", &inside],
        &["rename", &inside],
        &["socket", &inside],
    ] {
        assert_eq!(place.end("serve", None, action), End::Killed, "{action:?}");
    }
    assert_eq!(fs::read(place.inside()).unwrap(), b"x");
}

#[test]
fn without_it_and_when_it_only_logs_all_passes() {
    for mode in ["off", "log"] {
        let place = Place::new();
        let outside = place.outside();
        for action in [
            &["spawn"][..],
            &["thread"],
            &["executable-memory"],
            &["inet"],
            &["kill"],
            &["window-size"],
            &["read", &outside],
            &["write", &outside],
            &["write-in-thread", &outside],
            &["create", &outside],
            &["remove", &outside],
        ] {
            assert_eq!(place.end("serve", Some(mode), action), End::Done, "{mode} {action:?}");
        }
    }
}

#[test]
fn what_a_server_needs_is_left_to_it() {
    let place = Place::new();
    assert_eq!(place.end("serve", None, &["reopen"]), End::Done);
    assert_eq!(place.end("serve", None, &["make-private"]), End::Done);
    assert_eq!(place.end("serve", None, &["remove", &place.inside()]), End::Done);
    assert!(!Path::new(&place.inside()).exists());
    let socket = place.dir.path().join("d.sock");
    assert_eq!(place.end("devices", None, &["socket", socket.to_str().unwrap()]), End::Done);
    assert!(socket.exists());
    let _listener = UnixListener::bind(place.dir.path().join("s.sock")).unwrap();
    let listening = place.dir.path().join("s.sock");
    assert_eq!(place.end("connect", None, &["unix", listening.to_str().unwrap()]), End::Done);
    assert_eq!(place.end("connect", None, &["inet"]), End::Killed, "only those of this machine");
    assert_eq!(place.end("devices", None, &["inet"]), End::Killed);
}

#[test]
fn files_that_are_not_in_the_plan_are_refused() {
    if !has_landlock() {
        return;
    }
    let place = Place::new();
    let (inside, outside) = (place.inside(), place.outside());
    for (kind, action) in [
        ("serve", &["read", &outside][..]),
        ("serve", &["read", &inside]),
        ("serve", &["read-in-thread", &outside]),
        ("serve", &["remove", &outside]),
        ("devices", &["read", &outside]),
        ("devices", &["remove", &outside]),
        ("devices", &["socket", &outside]),
        ("connect", &["remove", &inside]),
    ] {
        assert_eq!(place.end(kind, None, action), End::Refused, "{kind} {action:?}");
    }
    assert!(Path::new(&outside).exists() && Path::new(&inside).exists());
    assert_eq!(place.end("devices", None, &["read", &inside]), End::Done);
}

#[test]
fn root_keeps_at_most_the_right_to_reach_what_others_own() {
    let place = Place::new();
    let sets = |kind, mode| {
        let output = place.output(kind, mode, &["privileges"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let set = |name: &str| {
            let line =
                text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
            u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap()
        };
        ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"].map(set)
    };
    // CAP_DAC_OVERRIDE (capability.h), as far as we have it.
    let [kept, ..] = sets("serve", Some("off")).map(|set| set & 1 << 1);
    assert_eq!(sets("connect", None), [kept, kept, 0, 0]);
    assert_eq!(sets("serve", None), [0; 4]);
}

#[test]
fn a_crash_in_it_still_tells_where() {
    let place = Place::new();
    let output = place.output("serve", None, &["abort"]);
    assert_eq!(output.status.signal(), Some(6), "SIGABRT: {output:?}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-probe"));
    command.arg("serve").arg(place.dir.path()).arg("panic");
    let output = command.env("RUST_BACKTRACE", "1").env_remove("VFIO_GFX_SANDBOX").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(101), "{text}");
    assert!(text.contains("sandbox_probe::act"), "{text}");
}

#[test]
fn who_insists_on_it_does_not_start_without() {
    if !has_landlock() {
        return;
    }
    // Of layers a kernel has a number (16, LANDLOCK_MAX_NUM_LAYERS in security/landlock/limits.h). They bind this thread, and the
    // programs that it starts, which have no room for another then.
    let place = Place::new();
    std::thread::spawn(move || {
        use landlock::{AccessFs, Ruleset, RulesetAttr};
        let layer = || Ruleset::default().handle_access(AccessFs::MakeBlock).unwrap().create().unwrap();
        let layers = (0..100).take_while(|_| layer().restrict_self().is_ok()).count();
        assert!(layers < 100, "this kernel has room for more");
        let output = place.output("serve", Some("on"), &["time"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("cannot have landlock (") && text.contains("leave --sandbox out"), "{text}");
        assert_eq!(place.end("serve", None, &["time"]), End::Done, "by default what there is");
        assert_eq!(place.end("serve", None, &["exec"]), End::Killed, "which are the system calls");
    })
    .join()
    .unwrap();
}

#[test]
fn the_environment_chooses_where_the_command_line_does_not() {
    let place = Place::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-probe"));
    command.arg("serve").arg(place.dir.path()).arg("inet").env("VFIO_GFX_SANDBOX", "off");
    assert!(command.output().unwrap().status.success());
    assert!(!command.arg("--sandbox=on").output().unwrap().status.success());
}
