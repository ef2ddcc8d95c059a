//! What a server costs while nobody asks it anything: no wake-up, and little memory beside what the guest drew.

use std::error::Error;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use qemu_shim::{Console, Refresh};
use vfio_gfx::abi::pci_region;
use vfio_gfx::display::{Display, Remote};
use vfio_gfx_benches::desktop::{desktop, xrgb8888};
use vfio_gfx_benches::device::{HD, TYPE, set_mode, write};
use vfio_gfx_benches::figure::Figure;

use crate::Report;
use crate::programs::Served;

/// How long nobody asks anything.
pub(crate) const IDLE: Duration = Duration::from_secs(3);
/// How long the server may take to go to sleep after its last reply.
pub(crate) const SETTLE: Duration = Duration::from_millis(200);
/// Accepted beside the video memory that the guest touched, in KiB.
const MEMORY: f64 = 8.0 * 1024.0;

pub(crate) fn measure(report: Report<'_>) -> Result<(), Box<dyn Error>> {
    let mut served = Served::start(TYPE)?;
    set_mode(&mut served.vmm, HD)?;
    // Messages of a megabyte each, whose memory is to be given back.
    let picture = xrgb8888(&desktop(HD.0.into(), HD.1.into())?);
    write(&mut served.vmm, pci_region::BAR0, 0, &picture)?;
    let mut console = Console::new(Display::open(Box::new(Remote::connect(served.socket())?))?);
    if console.refresh()? != Refresh::Changed {
        return Err("the served device shows nothing".into());
    }
    sleep(SETTLE);
    let before = context_switches(served.pid())?;
    sleep(IDLE);
    let wake_ups = context_switches(served.pid())? - before;
    report(Figure::counted("idle server, 3 s: wake-ups", wake_ups as f64, "context switches", 0.0))?;

    let memory = memory(served.pid())?.saturating_sub(picture.len() as u64 / 1024);
    report(Figure::counted("idle server: memory beside the picture", memory as f64, "KiB", MEMORY))?;
    // Still attached, all the while.
    if console.refresh()? != Refresh::Same {
        return Err("the served device changed by itself".into());
    }
    Ok(())
}

/// Memory that a process has touched, its own and what it shares, in KiB.
pub(crate) fn memory(pid: u32) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(field(&status, "RssAnon")? + field(&status, "RssShmem")?)
}

/// Of all threads, voluntary or not.
pub(crate) fn context_switches(pid: u32) -> Result<u64, Box<dyn Error>> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        sum += field(&status, "voluntary_ctxt_switches")? + field(&status, "nonvoluntary_ctxt_switches")?;
    }
    Ok(sum)
}

/// The number behind a name in a `status` file (proc_pid_status(5)); sizes are in KiB.
fn field(status: &str, name: &str) -> Result<u64, Box<dyn Error>> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|value| value.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("/proc/PID/status has no {name}"))?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Instant;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "RssAnon:\t     100 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(field(status, "RssAnon").unwrap(), 100);
        assert_eq!(field(status, "voluntary_ctxt_switches").unwrap(), 7);
        assert_eq!(field(status, "nonvoluntary_ctxt_switches").unwrap(), 2);
        assert!(field(status, "Rss").is_err());
    }

    /// Of a process of one thread: the threads of the test runner come and go.
    #[test]
    fn a_process_that_sleeps_is_seen_waking_up() {
        let mut child = Command::new("sh").args(["-c", "while :; do sleep 0.01; done"]).spawn().unwrap();
        let before = context_switches(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let woke = loop {
            sleep(Duration::from_millis(5));
            let woke = context_switches(child.id()).unwrap() > before;
            if woke || Instant::now() > deadline {
                break woke;
            }
        };
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(woke);
    }
}
