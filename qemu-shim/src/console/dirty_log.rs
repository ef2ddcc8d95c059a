//! KVM's dirty log as a source of damage.
//!
//! `KVM_GET_DIRTY_LOG` (Linux Documentation/virt/kvm/api.rst, section 4.8) answers for a whole memory slot, one bit per page,
//! and starts anew; a console asks about the page on screen. What was written elsewhere is therefore kept here until
//! somebody asks about it.
//!
//! The log has the guest's own writes. A VMM that writes to the memory itself has to add them to what it returns.

use std::io;
use std::ops::Range;

use vfio_gfx::memory::PAGE_SIZE;

use super::DamageSource;

/// A dirty log, however it is fetched: this module makes no system call.
#[derive(Debug)]
pub struct DirtyLog<F> {
    fetch: F,
    /// What was fetched and not yet told: bit `n % 64` of word `n / 64` is page `n` of the video memory.
    pending: Vec<u64>,
}

impl<F: FnMut() -> io::Result<Vec<u64>> + Send> DirtyLog<F> {
    /// The log of a slot that holds a device's video memory from its start, `size` bytes of it. `fetch` returns the pages
    /// written since it was last called: bit `n % 64` of word `n / 64` for page `n`, as `KVM_GET_DIRTY_LOG` has them. After
    /// it fails every page counts as written; let it fail once after the slot was removed or moved, which loses the log.
    #[must_use]
    pub fn new(size: u64, fetch: F) -> Self {
        let words = usize::try_from(size.div_ceil(PAGE_SIZE * 64)).unwrap_or(0);
        Self { fetch, pending: vec![u64::MAX; words] }
    }

    fn is_pending(&self, page: u64) -> bool {
        let word = usize::try_from(page / 64).ok().and_then(|n| self.pending.get(n));
        // A page that the log does not know may have been written.
        word.is_none_or(|word| word >> (page % 64) & 1 != 0)
    }

    fn forget(&mut self, page: u64) {
        if let Some(word) = usize::try_from(page / 64).ok().and_then(|n| self.pending.get_mut(n)) {
            *word &= !(1 << (page % 64));
        }
    }
}

impl<F: FnMut() -> io::Result<Vec<u64>> + Send> DamageSource for DirtyLog<F> {
    fn written(&mut self, range: Range<u64>, each: &mut dyn FnMut(Range<u64>)) -> io::Result<()> {
        match (self.fetch)() {
            Ok(log) => self.pending.iter_mut().zip(log).for_each(|(word, new)| *word |= new),
            Err(error) => {
                self.pending.fill(u64::MAX);
                return Err(error);
            }
        }
        let mut page = range.start / PAGE_SIZE;
        while page * PAGE_SIZE < range.end {
            let word = usize::try_from(page / 64).ok().and_then(|n| self.pending.get(n));
            if word == Some(&0) {
                page = (page / 64 + 1) * 64; // most of a screen, most of the time
                continue;
            }
            if self.is_pending(page) {
                let bytes = page * PAGE_SIZE..(page + 1) * PAGE_SIZE;
                each(bytes.start.max(range.start)..bytes.end.min(range.end));
                // Half of a page at the edge is not all of it: who asks about the other half must be told, too.
                if range.start <= bytes.start && bytes.end <= range.end {
                    self.forget(page);
                }
            }
            page += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A log of 130 pages with these answers.
    fn log(answers: Vec<io::Result<Vec<u64>>>) -> DirtyLog<impl FnMut() -> io::Result<Vec<u64>> + Send> {
        let mut answers = VecDeque::from(answers);
        DirtyLog::new(130 * PAGE_SIZE, move || answers.pop_front().unwrap_or_else(|| Ok(vec![0; 3])))
    }

    /// The pages it tells of, by their first bytes.
    fn ask(log: &mut impl DamageSource, range: Range<u64>) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        log.written(range, &mut |bytes| found.push(bytes.start / PAGE_SIZE))?;
        Ok(found)
    }

    fn pages(range: Range<u64>) -> Range<u64> {
        range.start * PAGE_SIZE..range.end * PAGE_SIZE
    }

    #[test]
    fn everything_counts_as_written_at_first_and_after_a_failure() {
        let failure = || Err(io::Error::from(io::ErrorKind::NotFound));
        let mut log = log(vec![Ok(vec![0; 3]), Ok(vec![0; 3]), failure()]);
        assert_eq!(ask(&mut log, pages(0..130)).unwrap().len(), 130);
        assert!(ask(&mut log, pages(0..130)).unwrap().is_empty());
        assert_eq!(ask(&mut log, pages(0..1)).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(ask(&mut log, pages(0..130)).unwrap().len(), 130);
    }

    #[test]
    fn what_was_not_asked_about_waits() {
        let mut log = log(vec![Ok(vec![0; 3]), Ok(vec![1 | 1 << 63, 0, 2]), Ok(vec![1, 1, 0])]);
        ask(&mut log, pages(0..130)).unwrap();
        assert_eq!(ask(&mut log, pages(60..70)).unwrap(), [63]);
        assert_eq!(ask(&mut log, pages(0..130)).unwrap(), [0, 64, 129]);
        assert!(ask(&mut log, pages(0..130)).unwrap().is_empty());
    }

    #[test]
    fn a_page_at_the_edge_is_told_to_both_who_share_it() {
        let mut log = log(vec![Ok(vec![0; 3]), Ok(vec![0b110, 0, 0])]);
        ask(&mut log, pages(0..130)).unwrap();
        let (upper, lower) = (PAGE_SIZE..2 * PAGE_SIZE + 100, 2 * PAGE_SIZE + 100..3 * PAGE_SIZE);
        let mut found = Vec::new();
        log.written(upper.clone(), &mut |bytes| found.push(bytes)).unwrap();
        assert_eq!(found, [PAGE_SIZE..2 * PAGE_SIZE, 2 * PAGE_SIZE..2 * PAGE_SIZE + 100]);
        assert_eq!(ask(&mut log, lower).unwrap(), [2]);
        assert_eq!(ask(&mut log, upper).unwrap(), [2], "not page 1 again");
    }

    #[test]
    fn memory_beyond_the_log_is_always_suspect() {
        let mut log = log(vec![Ok(vec![0; 3]), Ok(Vec::new())]);
        ask(&mut log, pages(0..192)).unwrap();
        assert_eq!(ask(&mut log, pages(190..194)).unwrap(), [192, 193]);
    }
}
