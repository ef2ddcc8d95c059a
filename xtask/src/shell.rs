//! Runs the commands of provisioning, keeping what they say in log files and showing the end of it when they
//! fail.

use std::{
    env,
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Lines of a log shown when its command failed.
const TAIL: usize = 15;

/// Runs what follows in namespaces of its own, so that its mounts and all it started are gone when it ends, and
/// have it end with us: an interrupted step must not go on behind the back of the next run.
#[rustfmt::skip]
const ISOLATION: [&str; 8] = [
    "setpriv", "--pdeathsig", "KILL",
    "unshare", "--mount", "--pid", "--fork", "--kill-child",
];

/// Where commands run and write their log.
pub(crate) struct Shell {
    log: PathBuf,
    private_mounts: bool,
}

impl Shell {
    /// A shell that appends to the file `log`.
    pub(crate) fn new(log: PathBuf) -> Self {
        // Containers may forbid it; what needs it there does with less.
        let mut unshare = Command::new(ISOLATION[0]);
        let private_mounts = unshare
            .args(&ISOLATION[1..])
            .arg("true")
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        Self { log, private_mounts }
    }

    /// Runs `command` to its end.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), String> {
        let failed = |e: std::io::Error| format!("{}: {e}", self.log.display());
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).open(&self.log);
        let log = log.map_err(failed)?;
        let name = command.get_program().to_string_lossy().into_owned();
        let status = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .status()
            .map_err(|e| format!("cannot run {name}: {e}"))?;
        if status.success() {
            return Ok(());
        }
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n  ");
        Err(format!("{name}: {status}; the end of {}:\n  {tail}", self.log.display()))
    }

    /// A command that runs the script in isolation: whatever it mounts or starts is gone with it. The script
    /// sees `arguments` as `$1`...
    pub(crate) fn script(&self, script: &str, arguments: &[&Path]) -> Command {
        let mut command = if self.private_mounts {
            let mut command = Command::new(ISOLATION[0]);
            command.args(&ISOLATION[1..]).arg("sh");
            command
        } else {
            Command::new("sh")
        };
        command.args(["-euc", script, "sh"]).args(arguments);
        command.env("LC_ALL", "C");
        // Maintainer scripts find nothing of the host's set-up there.
        command.env("HOME", "/root");
        command
    }

    /// A command that runs the script inside the Debian tree `root`.
    pub(crate) fn inside(&self, root: &Path, script: &str) -> Command {
        // Without /proc most things work; with it, all.
        let mount = if self.private_mounts { r#"mount -t proc proc "$1/proc"; "# } else { "" };
        let enter = format!(r#"{mount}exec chroot "$1" /bin/sh -euc "$2""#);
        let mut command = self.script(&enter, &[root, Path::new(script)]);
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            // initramfs-tools: the lab makes its own.
            .env("INITRD", "No");
        command
    }
}

/// What `command` writes to stdout; `None` if it cannot be run or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.trim().to_owned())
}

/// Whether there is a program of this name.
pub(crate) fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Administrators' programs are not in every PATH.
    let places = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    places.into_iter().any(|place| place.join(program).is_file())
}

/// Removes a directory, if it is there, and never what may be mounted in it.
pub(crate) fn remove_tree(dir: &Path) -> Result<(), String> {
    let status = Command::new("rm").args(["-rf", "--one-file-system", "--"]).arg(dir).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cannot remove {}: rm: {status}", dir.display())),
        Err(e) => Err(format!("cannot remove {}: {e}", dir.display())),
    }
}
