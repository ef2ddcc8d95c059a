//! Counting what a piece of code allocates.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

/// Allocations and reallocations since the program started, by all threads.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counted.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every method hands its arguments to the system's allocator unchanged and returns what that does; the counter
// neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is this one's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from the methods here, so from the system's allocator with this layout.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as `dealloc`, and the caller vouches for `size`.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// How many allocations happen while `code` runs, in all threads.
pub(crate) fn during<T>(code: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.load(Ordering::Relaxed);
    let result = code();
    (result, COUNT.load(Ordering::Relaxed) - before)
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    #[test]
    fn an_allocation_is_seen() {
        // Other tests may allocate meanwhile: at least.
        assert!(super::during(|| black_box(Box::new(1))).1 >= 1);
        assert!(super::during(|| black_box(vec![0u8; 100])).1 >= 1);
    }
}
