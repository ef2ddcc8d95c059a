//! CPU time that other processes use.

use std::error::Error;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// After a reply its sender still has to go to sleep, and what a thread has used is complete only then.
const SETTLE: Duration = Duration::from_millis(3);

/// CPU time that all threads of a process have used (`/proc/PID/task/TID/schedstat`, first field).
pub(crate) fn cpu_time(pid: u32) -> Result<Duration, Box<dyn Error>> {
    sleep(SETTLE);
    let mut sum = 0u64;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = task?.path().join("schedstat");
        let stat = fs::read_to_string(&path)?;
        let nanoseconds = stat.split(' ').next().and_then(|first| first.parse::<u64>().ok());
        sum += nanoseconds.ok_or_else(|| format!("{}: expected numbers, found {stat:?}", path.display()))?;
    }
    Ok(Duration::from_nanos(sum))
}

/// CPU time that a process uses while `work` asks something of it.
pub(crate) fn during(
    pid: u32,
    work: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<Duration, Box<dyn Error>> {
    let before = cpu_time(pid)?;
    work()?;
    let used = cpu_time(pid)?.checked_sub(before);
    used.ok_or_else(|| format!("process {pid}: a thread ended, and took its CPU time with it").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    /// Whether a child's use of the CPU comes to be more than nothing, or nothing.
    fn uses(program: &str, arguments: &[&str], wanted: bool) -> bool {
        let mut child = Command::new(program).args(arguments).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let found = loop {
            let used = during(child.id(), || {
                sleep(Duration::from_millis(20));
                Ok(())
            });
            if used.unwrap().is_zero() != wanted {
                break true;
            }
            if Instant::now() > deadline {
                break false;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        found
    }

    #[test]
    fn work_is_seen_and_sleep_is_not() {
        assert!(uses("sh", &["-c", "while :; do :; done"], true));
        assert!(uses("sleep", &["600"], false));
    }
}
