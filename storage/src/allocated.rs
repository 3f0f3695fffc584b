//! An allocator that counts, for tests of what is held in memory: by thread, so that tests do not see each other.

#![expect(unsafe_code, reason = "an allocator is unsafe to write")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that ends frees what it no longer counts.
    let now = BYTES.try_with(|count| {
        count.set(count.get() + bytes);
        count.get()
    });
    if let Ok(now) = now {
        let _ended = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    }
}

// SAFETY: all calls go to the allocator of the system as they came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the rules of this call.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the rules of this call.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the rules of this call.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// What this thread allocated and did not free.
pub(crate) fn allocated() -> u64 {
    BYTES.get() as u64
}

/// How much more than before this thread had at most while it ran `work`.
pub(crate) fn peak_of<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = BYTES.get();
    PEAK.set(before);
    let done = work();
    (done, (PEAK.get() - before) as u64)
}
