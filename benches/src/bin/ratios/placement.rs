//! Which CPU a process runs on.
//!
//! Between two processes that talk in turn, where the scheduler puts them decides more than what they do: on one CPU a
//! message costs a context switch, on two a wake-up of another CPU, which in a virtual machine was measured to be four
//! times as dear and more. Left alone it decides differently for each pair and run, so what is compared is placed alike.

use std::error::Error;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Two CPUs that we may use.
#[derive(Debug)]
pub(crate) struct Cpus {
    all: CpuSet,
    first: usize,
    /// The same where there is only one.
    second: usize,
}

impl Cpus {
    /// What this process may use.
    pub(crate) fn of_this_process() -> Result<Self, Box<dyn Error>> {
        let all = sched_getaffinity(None)?;
        let mut usable = (0..CpuSet::MAX_CPU).filter(|cpu| all.is_set(*cpu));
        let first = usable.next().ok_or("a process runs on some CPU")?;
        Ok(Self { all, first, second: usable.next().unwrap_or(first) })
    }

    /// This process on one CPU, the others on the same or on another. Each is one thread, its first.
    pub(crate) fn place(&self, others: &[u32], apart: bool) -> Result<(), Box<dyn Error>> {
        let only = |cpu| {
            let mut set = CpuSet::new();
            set.set(cpu);
            set
        };
        sched_setaffinity(None, &only(self.first))?;
        for id in others {
            let pid = Pid::from_raw(i32::try_from(*id)?).ok_or("0 is no process")?;
            sched_setaffinity(Some(pid), &only(if apart { self.second } else { self.first }))?;
        }
        Ok(())
    }
}

/// This process may run anywhere again.
impl Drop for Cpus {
    fn drop(&mut self) {
        // It could before, so it can; if not, the rest is measured where we are.
        let _ = sched_setaffinity(None, &self.all);
    }
}
