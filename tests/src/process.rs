//! Processes that cannot outlive the test that started them, and whose output can be waited for.
//!
//! Each runs in a process group of its own, killed as a whole when the guard is dropped; should the test
//! program itself be killed, the kernel kills the process (`setpriv --pdeathsig`, of util-linux). If the test
//! panics, what the process said is printed.

use std::{
    io::{Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process_group};

/// How long a killed process may take to be gone.
const GONE: Duration = Duration::from_secs(20);

/// A program that has been started; killed when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Arc<Output>,
    /// How much of the output [`Running::expect_line`] has looked at, in bytes.
    read: usize,
    /// How the program ended, once known: its process group may belong to others after that.
    status: Option<ExitStatus>,
}

/// What a program said so far: stdout and stderr in order of arrival.
#[derive(Debug, Default)]
struct Output {
    state: Mutex<OutputState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct OutputState {
    bytes: Vec<u8>,
    /// Streams still open.
    open: usize,
}

impl Running {
    /// Starts `command`; `name` is what messages call it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    #[must_use]
    pub fn start(name: &str, command: &Command) -> Self {
        let mut child = die_with_parent(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}, with setpriv): {e}"));
        let output = Arc::new(Output::default());
        output.collect(child.stdout.take().expect("stdout was piped"));
        output.collect(child.stderr.take().expect("stderr was piped"));
        Self { name: name.to_owned(), stdin: child.stdin.take(), child, output, read: 0, status: None }
    }

    /// Waits for a line of output that contains `needle`, after the line that was found last, and returns it.
    ///
    /// # Panics
    /// If it does not come within `limit`, or the program ends before.
    #[track_caller]
    pub fn expect_line(&mut self, needle: &str, limit: Duration) -> String {
        let deadline = Instant::now() + limit;
        let mut state = self.output.state.lock().expect("no reader panics");
        loop {
            while let Some(length) = state.bytes[self.read..].iter().position(|&b| b == b'\n') {
                let line = &state.bytes[self.read..self.read + length];
                let line = String::from_utf8_lossy(line).trim_end().to_owned();
                self.read += length + 1;
                if line.contains(needle) {
                    return line;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let name = &self.name;
            if state.open == 0 {
                drop(state);
                panic!("{name} ended before it said \"{needle}\"");
            }
            if left.is_zero() {
                drop(state);
                panic!("{name} did not say \"{needle}\" within {limit:?}");
            }
            let waited = self.output.changed.wait_timeout(state, left);
            state = waited.expect("no reader panics").0;
        }
    }

    /// Writes a line to the program's stdin.
    ///
    /// # Panics
    /// If the program does not read.
    #[track_caller]
    pub fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin was piped");
        let written = stdin.write_all(format!("{line}\n").as_bytes());
        written.unwrap_or_else(|e| panic!("{} does not take \"{line}\": {e}", self.name));
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Sends `signal` to the program and everything it started.
    pub fn signal(&mut self, signal: Signal) {
        if self.poll().is_none() {
            // The group is gone only if the program ended since: what was wanted.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    /// Waits for the program to end by itself.
    ///
    /// # Panics
    /// If it does not within `limit`.
    #[track_caller]
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.poll() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end within {limit:?}", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the program as a crash would: SIGKILL, nothing cleaned up.
    ///
    /// # Panics
    /// If it had ended by itself, or does not go away.
    #[track_caller]
    pub fn crash(&mut self) {
        assert!(self.is_running(), "{} had ended before the kill", self.name);
        self.signal(Signal::KILL);
        let status = self.wait(GONE);
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{} ended by itself: {status}", self.name);
    }

    /// All that the program said so far.
    ///
    /// # Panics
    /// Never: readers do not panic.
    #[must_use]
    pub fn said(&self) -> String {
        let state = self.output.state.lock().expect("no reader panics");
        String::from_utf8_lossy(&state.bytes).into_owned()
    }

    /// All that a program said that has ended: what it wrote last may not have been read when its end is known.
    ///
    /// # Panics
    /// If what it started keeps its streams open beyond `limit`.
    #[track_caller]
    #[must_use]
    pub fn last_words(&self, limit: Duration) -> String {
        let state = self.output.state.lock().expect("no reader panics");
        let waited = self.output.changed.wait_timeout_while(state, limit, |state| state.open > 0);
        let (state, timed_out) = waited.expect("no reader panics");
        assert!(!timed_out.timed_out(), "{}'s streams stay open", self.name);
        String::from_utf8_lossy(&state.bytes).into_owned()
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().unwrap_or(None);
        }
        self.status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if self.status.is_none() {
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let (name, said) = (&self.name, self.said());
            eprintln!("---- {name} said:\n{said}---- end of what {name} said");
        }
    }
}

impl Output {
    /// Reads `stream` to its end, in a thread of its own.
    fn collect(self: &Arc<Self>, mut stream: impl Read + Send + 'static) {
        self.state.lock().expect("no reader panics").open += 1;
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let read = stream.read(&mut buffer).unwrap_or(0);
                let mut state = output.state.lock().expect("no reader panics");
                state.bytes.extend_from_slice(&buffer[..read]);
                if read == 0 {
                    state.open -= 1;
                }
                output.changed.notify_all();
                if read == 0 {
                    return;
                }
            }
        });
    }
}

/// How a program that ran to its end did.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Runs `command` to its end, with `input` as its stdin.
///
/// # Panics
/// If it cannot be started, or does not end within `limit` (it is killed then).
#[track_caller]
#[must_use]
pub fn run(name: &str, command: &Command, input: &str, limit: Duration) -> Finished {
    let mut child = die_with_parent(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {name} ({command:?}, with setpriv): {e}"));
    let group = Pid::from_child(&child);
    // A program may end without reading its input; what it says then is the better message.
    let _ = child.stdin.take().expect("stdin was piped").write_all(input.as_bytes());
    let (done, finished) = std::sync::mpsc::channel();
    thread::spawn(move || done.send(child.wait_with_output()));
    let Ok(output) = finished.recv_timeout(limit) else {
        let _ = kill_process_group(group, Signal::KILL);
        panic!("{name} did not end within {limit:?}: {command:?}");
    };
    let output = output.unwrap_or_else(|e| panic!("cannot wait for {name}: {e}"));
    Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Finished {
    /// What the program wrote to stdout, if it succeeded.
    ///
    /// # Errors
    /// How it ended and what it wrote to stderr, if not.
    pub fn success(self) -> Result<String, String> {
        if self.status.success() {
            Ok(self.stdout)
        } else {
            Err(format!("{}: {}", self.status, self.stderr.trim_end()))
        }
    }
}

/// The same command, killed by the kernel when the thread that starts it ends.
fn die_with_parent(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(key, value),
            None => wrapped.env_remove(key),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        wrapped.current_dir(dir);
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn lines_are_waited_for_in_order() {
        let mut cat = Running::start("cat", &shell("echo ready; exec cat"));
        assert_eq!(cat.expect_line("ready", LIMIT), "ready");
        cat.send_line("one");
        cat.send_line("two");
        assert_eq!(cat.expect_line("two", LIMIT), "two");
        cat.crash();
        assert!(!cat.is_running());
    }

    #[test]
    #[should_panic(expected = "sh ended before it said \"never\"")]
    fn a_program_that_ends_is_noticed() {
        let _ = Running::start("sh", &shell("echo other")).expect_line("never", LIMIT);
    }

    #[test]
    #[should_panic(expected = "sleep did not say \"never\" within 50ms")]
    fn a_silent_program_is_noticed() {
        let limit = Duration::from_millis(50);
        let _ = Running::start("sleep", &shell("exec sleep 60")).expect_line("never", limit);
    }

    #[test]
    fn what_a_program_started_dies_with_its_guard() {
        let mut parent = Running::start("sh", &shell("sleep 60 & echo pid $!; wait"));
        let line = parent.expect_line("pid", LIMIT);
        let pid = line.trim_start_matches("pid ").to_owned();
        drop(parent);
        let stat = format!("/proc/{pid}/stat");
        let deadline = Instant::now() + LIMIT;
        // Gone, or a zombie that whoever adopted it has not collected yet.
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(Instant::now() < deadline, "{pid} lives on");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_run_gives_both_streams_and_the_status() {
        let script = shell("cat; echo oops >&2; exit 3");
        let finished = run("sh", &script, "in", LIMIT);
        assert_eq!(finished.status.code(), Some(3));
        assert_eq!(finished.stdout, "in");
        assert_eq!(finished.success(), Err("exit status: 3: oops".to_owned()));
    }
}
