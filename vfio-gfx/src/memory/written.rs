//! Which pages were written since somebody last asked, told by the kernel's page tables.
//!
//! Whoever owns the mapping through which a guest writes (a VMM that embeds a device) need not compare a screen that did not
//! change, nor even read it. `userfaultfd(2)` can protect pages so that the first write to each is remembered and nobody
//! waits (`UFFD_FEATURE_WP_ASYNC`), and the ioctl `PAGEMAP_SCAN` reports such pages and protects them again in one step;
//! both since Linux 6.7.
//!
//! It is the *mapping* that is watched, not the memory: what another process writes through its own, or this one through
//! another mapping of the same memfd, is not seen. A VMM behind a socket has its own; so this is for devices in one process
//! with their VMM, where the guest and the device's own writes go through one mapping.

mod calls;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use thiserror::Error;
use vm_memory::VolatileSlice;

use super::PAGE_SIZE;
use calls::PageRegion;

/// Regions that one call of the kernel reports.
const REGIONS: usize = 64;

/// Why writes cannot be tracked.
#[derive(Debug, Error)]
pub enum TrackError {
    /// The kernel is older than Linux 6.7, or was built without it, or not for this architecture.
    #[error(
        "this kernel does not remember writes (Linux 6.7 and CONFIG_USERFAULTFD are needed): {call}: {errno}"
    )]
    Unsupported {
        /// What it does not know.
        call: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// This process may not: a sandbox, as a rule.
    #[error("not permitted to have writes remembered: {call}: {errno}")]
    NotPermitted {
        /// What was refused.
        call: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// `/proc/self/pagemap` cannot be opened.
    #[error("cannot open /proc/self/pagemap")]
    Pagemap(#[source] io::Error),
    /// Not memory that starts and ends with a page.
    #[error("{len} bytes at address {address:#x} are not whole pages of {PAGE_SIZE}")]
    Unaligned {
        /// Where they start.
        address: u64,
        /// Bytes.
        len: u64,
    },
    /// The kernel refused these addresses: what is mapped there is tracked already, or is not mapped any more.
    #[error("cannot track {len} bytes at address {address:#x}: {call}: {errno}")]
    Refused {
        /// Where they start.
        address: u64,
        /// Bytes.
        len: u64,
        /// What was refused.
        call: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
}

impl TrackError {
    fn new(call: &'static str, errno: Errno) -> Self {
        match errno {
            Errno::PERM | Errno::ACCESS => Self::NotPermitted { call, errno },
            _ => Self::Unsupported { call, errno },
        }
    }
}

/// Remembers which pages of a mapping were written.
#[derive(Debug)]
pub struct WriteTracker {
    addresses: Range<u64>,
    /// As long as it is open writes are remembered.
    _userfaultfd: OwnedFd,
    pagemap: File,
    /// Written, but not told: what a page had beyond the ranges asked for, in bytes from the start of the mapping.
    /// At most one part of each page.
    untold: Vec<Range<u64>>,
}

impl WriteTracker {
    /// Tracks writes to a mapping, from the start of a page to the end of one. What was written before may count as written.
    ///
    /// The mapping should stay as long as the tracker: nobody writes to one that is gone, and what is mapped in its place makes
    /// [`WriteTracker::take`] fail.
    ///
    /// # Errors
    /// [`TrackError`].
    pub fn new(memory: &VolatileSlice<'_>) -> Result<Self, TrackError> {
        let (address, len) = (memory.ptr_guard().as_ptr() as u64, memory.len() as u64);
        if len == 0 || !address.is_multiple_of(PAGE_SIZE) || !len.is_multiple_of(PAGE_SIZE) {
            return Err(TrackError::Unaligned { address, len });
        }
        // Does not overflow: a mapping ends before the addresses do.
        let addresses = address..address.saturating_add(len);
        let userfaultfd = calls::open().map_err(|errno| TrackError::new("userfaultfd", errno))?;
        calls::negotiate(&userfaultfd).map_err(|errno| TrackError::new("UFFDIO_API", errno))?;
        calls::register(&userfaultfd, &addresses).map_err(|errno| TrackError::Refused {
            address,
            len,
            call: "UFFDIO_REGISTER",
            errno,
        })?;
        let pagemap = File::open("/proc/self/pagemap").map_err(TrackError::Pagemap)?;
        // An empty scan tells whether the kernel knows how.
        calls::scan(&pagemap, &(address..address), &mut [PageRegion::default(); 1])
            .map_err(|errno| TrackError::new("PAGEMAP_SCAN", errno))?;
        Ok(Self { addresses, _userfaultfd: userfaultfd, pagemap, untold: Vec::new() })
    }

    /// Calls `each` with every part of `range` that was written since it was last asked about; bytes are counted from the start
    /// of the mapping. It is told in whole pages, as far as they are in the range. A page that was never touched before counts as
    /// written once it is, be it only by a read.
    ///
    /// # Errors
    /// [`TrackError::Refused`] when something else is mapped there. What was written may then have been told in part.
    pub fn take(&mut self, range: Range<u64>, each: &mut dyn FnMut(Range<u64>)) -> Result<(), TrackError> {
        let len = self.addresses.end.saturating_sub(self.addresses.start);
        let range = range.start.min(len)..range.end.min(len);
        if range.is_empty() {
            return Ok(());
        }
        self.take_untold(&range, each);
        let start = self.addresses.start;
        let mut pages = start + page_of(range.start)..start + page_of(range.end - 1) + PAGE_SIZE;
        let mut regions = [PageRegion::default(); REGIONS];
        while !pages.is_empty() {
            let (found, end) =
                calls::scan(&self.pagemap, &pages, &mut regions).map_err(|errno| TrackError::Refused {
                    address: pages.start,
                    len: pages.end.saturating_sub(pages.start),
                    call: "PAGEMAP_SCAN",
                    errno,
                })?;
            for region in found {
                let written = region.start.saturating_sub(start)..region.end.saturating_sub(start);
                each(written.start.max(range.start)..written.end.min(range.end));
                self.keep(written.start..range.start);
                self.keep(range.end..written.end);
            }
            // What ends before the end ended because there was no more room, and got somewhere.
            pages.start = end.max(pages.start.saturating_add(PAGE_SIZE));
        }
        Ok(())
    }

    /// Remembers a part of a page, if it is one, for whoever asks about it.
    fn keep(&mut self, part: Range<u64>) {
        if part.is_empty() {
            return;
        }
        match self.untold.iter_mut().find(|kept| page_of(kept.start) == page_of(part.start)) {
            Some(kept) => *kept = kept.start.min(part.start)..kept.end.max(part.end),
            None => self.untold.push(part),
        }
    }

    /// Tells what was remembered.
    fn take_untold(&mut self, range: &Range<u64>, each: &mut dyn FnMut(Range<u64>)) {
        for kept in std::mem::take(&mut self.untold) {
            let told = kept.start.max(range.start)..kept.end.min(range.end);
            if told.is_empty() {
                self.keep(kept);
                continue;
            }
            self.keep(kept.start..told.start);
            self.keep(told.end..kept.end);
            each(told);
        }
    }
}

/// Where the page starts that a byte is in.
fn page_of(byte: u64) -> u64 {
    byte - byte % PAGE_SIZE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Vram;

    const PAGE: u64 = PAGE_SIZE;

    /// Memory that is tracked, all of whose pages are there; `None`, and says why, where the kernel does not track.
    fn tracked(pages: u64) -> Option<(Vram, WriteTracker)> {
        let vram = Vram::new("test", pages * PAGE).unwrap();
        vram.fill(0, pages * PAGE, 1);
        match WriteTracker::new(&vram.memory()) {
            Ok(mut tracker) => {
                tracker.take(0..u64::MAX, &mut |_| {}).unwrap();
                Some((vram, tracker))
            }
            Err(error @ (TrackError::Unsupported { .. } | TrackError::NotPermitted { .. })) => {
                println!("SKIPPED: {error}");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn take(tracker: &mut WriteTracker, range: Range<u64>) -> Vec<(u64, u64)> {
        let mut found = Vec::new();
        tracker.take(range, &mut |part| found.push((part.start, part.end))).unwrap();
        found
    }

    #[test]
    fn a_write_is_told_once() {
        let Some((vram, mut tracker)) = tracked(300) else { return };
        assert_eq!(take(&mut tracker, 0..u64::MAX), []);
        vram.write(5 * PAGE + 17, &[2]).unwrap();
        vram.write(7 * PAGE - 1, &[2; 2]).unwrap();
        assert_eq!(take(&mut tracker, 0..u64::MAX), [(5 * PAGE, 8 * PAGE)]);
        assert_eq!(take(&mut tracker, 0..u64::MAX), []);
        vram.read(0, &mut [0; 4096]).unwrap();
        assert_eq!(take(&mut tracker, 0..u64::MAX), [], "reading is not writing");
        vram.write(5 * PAGE, &[2]).unwrap();
        assert_eq!(take(&mut tracker, 0..u64::MAX), [(5 * PAGE, 6 * PAGE)], "protected again");
    }

    #[test]
    fn more_parts_than_one_call_reports() {
        let Some((vram, mut tracker)) = tracked(300) else { return };
        let expected: Vec<_> = (0..150).map(|n| (2 * n * PAGE, (2 * n + 1) * PAGE)).collect();
        expected.iter().for_each(|part| vram.write(part.0 + 9, &[2]).unwrap());
        assert_eq!(take(&mut tracker, 0..u64::MAX), expected);
        assert_eq!(take(&mut tracker, 0..u64::MAX), []);
    }

    #[test]
    fn nothing_is_lost_between_ranges_that_share_a_page() {
        let Some((vram, mut tracker)) = tracked(4) else { return };
        vram.fill(0, 4 * PAGE, 2);
        assert_eq!(take(&mut tracker, 100..PAGE + 100), [(100, PAGE + 100)]);
        assert_eq!(take(&mut tracker, PAGE + 100..PAGE + 200), [(PAGE + 100, PAGE + 200)]);
        let mut rest = take(&mut tracker, 0..u64::MAX);
        rest.sort_unstable();
        assert_eq!(rest, [(0, 100), (PAGE + 200, 2 * PAGE), (2 * PAGE, 4 * PAGE)]);
        assert_eq!(take(&mut tracker, 0..u64::MAX), []);
        assert_eq!(take(&mut tracker, u64::MAX - 1..u64::MAX), []);
    }

    #[test]
    fn every_write_of_another_thread_is_told_sooner_or_later() {
        let Some((vram, mut tracker)) = tracked(64) else { return };
        let vram = std::sync::Arc::new(vram);
        let writer = {
            let vram = std::sync::Arc::clone(&vram);
            std::thread::spawn(move || {
                for n in 0..20_000u32 {
                    vram.write(u64::from(n % 64) * PAGE + 64, &n.to_le_bytes()).unwrap();
                }
            })
        };
        let mut seen = [0; 64];
        let mut look = |seen: &mut [u32; 64]| {
            for (start, end) in take(&mut tracker, 0..u64::MAX) {
                for page in start / PAGE..end / PAGE {
                    let mut bytes = [0; 4];
                    vram.read(page * PAGE + 64, &mut bytes).unwrap();
                    seen[usize::try_from(page).unwrap()] = u32::from_le_bytes(bytes);
                }
            }
        };
        while !writer.is_finished() {
            look(&mut seen);
        }
        writer.join().unwrap();
        look(&mut seen);
        let last: Vec<u32> = (0..64).map(|page| 19_968 + page - if page < 32 { 0 } else { 64 }).collect();
        assert_eq!(seen.as_slice(), last);
    }

    #[test]
    fn pages_that_appear_later_are_told() {
        let vram = Vram::new("test", 8 * PAGE).unwrap();
        let Ok(mut tracker) = WriteTracker::new(&vram.memory()) else { return };
        take(&mut tracker, 0..u64::MAX);
        vram.write(3 * PAGE, &[1]).unwrap();
        assert_eq!(take(&mut tracker, 0..u64::MAX), [(3 * PAGE, 4 * PAGE)]);
    }

    #[test]
    fn what_cannot_be_tracked_is_an_error() {
        let Some((vram, _tracker)) = tracked(4) else { return };
        let part = vram.memory().offset(1).unwrap();
        assert!(matches!(WriteTracker::new(&part), Err(TrackError::Unaligned { .. })));
        assert!(matches!(
            WriteTracker::new(&vram.memory()),
            Err(TrackError::Refused { errno: Errno::BUSY, .. })
        ));
    }
}
