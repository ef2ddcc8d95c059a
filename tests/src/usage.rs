//! What a process holds: descriptors, threads, mappings, memory and CPU time, as `/proc` has them.
//!
//! A leak is a difference that stays, so [`Usage::is_back`] waits: a peer that was just killed is gone for the other side
//! only when that has looked.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a process may take to let go of what it held. Generous: the machine may be running several guests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that uses less CPU time than this while nobody asks anything is asleep.
const ASLEEP: Duration = Duration::from_millis(2);
/// The time over which that is measured.
const NAP: Duration = Duration::from_millis(25);

/// What a process holds at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Descriptors, counted by what they are: `socket`, `anon_inode:[eventfd]`, a path.
    pub descriptors: BTreeMap<String, usize>,
    /// Mappings, counted by what they are of: a path, `[heap]`, `anonymous`.
    pub mappings: BTreeMap<String, usize>,
    /// Threads.
    pub threads: usize,
    /// Resident memory of its own and shared memory, in KiB. Pages of program files are the kernel's to drop and are not in it.
    pub resident_kib: u64,
}

impl Usage {
    /// What process `pid` holds now.
    ///
    /// # Panics
    /// If there is no such process, or it is another user's.
    #[track_caller]
    #[must_use]
    pub fn of(pid: u32) -> Self {
        let file = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
        };
        let mut mappings = BTreeMap::new();
        for line in file("maps").lines() {
            // address perms offset dev inode path
            let name = line.splitn(6, ' ').nth(5).map_or("", str::trim);
            *mappings.entry(if name.is_empty() { "anonymous" } else { name }.to_owned()).or_default() += 1;
        }
        let status = file("status");
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        let threads = usize::try_from(number("Threads:")).unwrap_or(usize::MAX);
        let resident_kib = number("RssAnon:") + number("RssShmem:");
        Self { descriptors: descriptors(pid), mappings, threads, resident_kib }
    }

    /// What this process holds now.
    #[must_use]
    pub fn own() -> Self {
        Self::of(std::process::id())
    }

    /// How many descriptors.
    #[must_use]
    pub fn descriptor_count(&self) -> usize {
        self.descriptors.values().sum()
    }

    /// Waits until `pid` holds what this says and no more: descriptors and mappings of each kind and threads to the last
    /// one, memory within `slack_kib`. Returns what it then holds.
    ///
    /// # Panics
    /// With the difference, if that does not come.
    #[track_caller]
    pub fn is_back(&self, pid: u32, slack_kib: u64, after: &str) -> Self {
        let start = Instant::now();
        loop {
            let now = Self::of(pid);
            let more = self.more_in(&now, slack_kib);
            if more.is_empty() {
                return now;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "process {pid} does not let go of what it took, {after}: {more}"
            );
            sleep(Duration::from_millis(2));
        }
    }

    /// What another moment has more, in words; nothing if it has not.
    fn more_in(&self, now: &Self, slack_kib: u64) -> String {
        let mut words = Vec::new();
        for (what, old, new) in [
            ("descriptors", &self.descriptors, &now.descriptors),
            ("mappings", &self.mappings, &now.mappings),
        ] {
            for (name, count) in new {
                let before = old.get(name).copied().unwrap_or(0);
                if *count > before {
                    words.push(format!("{count} instead of {before} {what} of {name}"));
                }
            }
        }
        if now.threads > self.threads {
            words.push(format!("{} instead of {} threads", now.threads, self.threads));
        }
        if now.resident_kib > self.resident_kib + slack_kib {
            words.push(format!("{} instead of {} KiB", now.resident_kib, self.resident_kib));
        }
        words.join(", ")
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mappings: usize = self.mappings.values().sum();
        let (fds, threads, kib) = (self.descriptor_count(), self.threads, self.resident_kib);
        write!(f, "{fds} descriptors, {threads} threads, {mappings} mappings, {kib} KiB")
    }
}

fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let dir = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{dir}: {e}"));
    let mut descriptors = BTreeMap::new();
    for entry in entries.flatten() {
        // Closed since; or, where it is our own, the listing itself.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let name = target.to_string_lossy();
        if name == dir {
            continue;
        }
        // socket:[4711] and pipe:[4711] are numbered.
        let kind = name.split(":[").next().filter(|kind| !kind.contains('/')).unwrap_or(&name);
        let kind = if kind == "anon_inode" { &name } else { kind };
        *descriptors.entry(kind.to_owned()).or_default() += 1;
    }
    descriptors
}

/// The CPU time that the first thread of a process has used.
///
/// # Panics
/// If there is no such process.
#[track_caller]
#[must_use]
pub fn cpu_time(pid: u32) -> Duration {
    let path = format!("/proc/{pid}/schedstat");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_else(|| panic!("{path}: {text:?}")))
}

/// Waits until a process sleeps, while nobody asks it anything.
///
/// # Panics
/// If it does not: it spins.
#[track_caller]
pub fn falls_asleep(pid: u32, after: &str) {
    let start = Instant::now();
    loop {
        let before = cpu_time(pid);
        sleep(NAP);
        if cpu_time(pid).saturating_sub(before) < ASLEEP {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "process {pid} does not come to rest, {after}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_seen_and_what_is_let_go_too() {
        let before = Usage::own();
        let pipe = rustix::pipe::pipe().unwrap();
        let now = Usage::own();
        // Tests run beside each other: others may hold some too.
        assert!(now.descriptors["pipe"] >= 2);
        assert!(now.mappings.keys().any(|name| name.ends_with("/libc.so.6")), "{:?}", now.mappings);
        assert!(now.threads >= 1 && now.resident_kib > 100);
        let fewer = Usage { descriptors: BTreeMap::new(), ..before };
        assert!(fewer.more_in(&now, u64::MAX / 2).contains("instead of 0 descriptors of pipe"));
        assert!(Usage { threads: 0, ..Usage::own() }.more_in(&now, 0).contains("instead of 0 threads"));
        drop(pipe);
    }
}
