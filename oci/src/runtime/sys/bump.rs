//! Memory for a process that lives for milliseconds: one arena, taken from front to back, given back by the exit.
//!
//! The C library's allocator spends a quarter of the runtime's system calls on mapping and unmapping small groups. Nothing here
//! grows without bound: what is read is bounded (config.json, a page of procfs at a time), and what does not fit into the arena
//! goes to the system's allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Untouched pages cost nothing.
const ARENA_BYTES: usize = 1 << 20;

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA_BYTES]>);

/// The allocator of `orlop-oci`; not for a program that runs for long.
#[repr(C)] // the counter on the page of what is taken first
pub struct Bump {
    used: AtomicUsize,
    arena: Arena,
}

// SAFETY: the arena is only handed out in pieces that do not overlap, by an atomic counter.
unsafe impl Sync for Bump {}

impl Bump {
    /// An empty arena.
    pub const fn new() -> Bump {
        Bump { used: AtomicUsize::new(0), arena: Arena(UnsafeCell::new([0; ARENA_BYTES])) }
    }

    fn owns(&self, pointer: *mut u8) -> bool {
        let start = self.arena.0.get().addr();
        (start..start + ARENA_BYTES).contains(&pointer.addr())
    }

    fn offset(&self, pointer: *mut u8) -> usize {
        pointer.addr() - self.arena.0.get().addr()
    }
}

impl Default for Bump {
    fn default() -> Bump {
        Bump::new()
    }
}

// SAFETY: every pointer is either the system's, or one into the arena that is aligned, in bounds, and handed out once.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut used = self.used.load(Ordering::Relaxed);
        loop {
            let start = used.next_multiple_of(layout.align());
            let end = start.saturating_add(layout.size());
            if end > ARENA_BYTES || layout.align() > align_of::<Arena>() {
                // SAFETY: the caller's layout is passed on as it is.
                return unsafe { System.alloc(layout) };
            }
            match self.used.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return self.arena.0.get().cast::<u8>().wrapping_add(start),
                Err(now) => used = now,
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if !self.owns(pointer) {
            // SAFETY: what is not ours came from the system with this layout.
            return unsafe { System.dealloc(pointer, layout) };
        }
        // The last piece can be taken back; the others go with the process.
        let start = self.offset(pointer);
        let _ = self.used.compare_exchange(start + layout.size(), start, Ordering::Relaxed, Ordering::Relaxed);
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.owns(pointer) {
            let start = self.offset(pointer);
            let end = start.saturating_add(size);
            // A growing vector is mostly the last piece: it grows where it is.
            let (old, new) = (start + layout.size(), end);
            let last = end <= ARENA_BYTES
                && self.used.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if last || size <= layout.size() {
                return pointer;
            }
        } else {
            // SAFETY: what is not ours came from the system with this layout.
            return unsafe { System.realloc(pointer, layout, size) };
        }
        // SAFETY: the size is not zero (the caller's promise) and the alignment is that of a valid layout.
        let layout_new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: the layout is valid and of a size that is not zero.
        let new = unsafe { self.alloc(layout_new) };
        if !new.is_null() {
            // SAFETY: both pieces are at least as large as the old one, and a new piece overlaps no other.
            unsafe { std::ptr::copy_nonoverlapping(pointer, new, layout.size().min(size)) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_aligned_apart_and_kept() {
        let bump = Box::new(Bump::new());
        let layout = Layout::from_size_align(3, 1).unwrap();
        let wide = Layout::from_size_align(64, 16).unwrap();
        // SAFETY: the layout has a size.
        let one = unsafe { bump.alloc(layout) };
        // SAFETY: the layout has a size.
        let two = unsafe { bump.alloc(wide) };
        assert!(two.addr().is_multiple_of(16) && two.addr() >= one.addr() + 3);
        // SAFETY: the piece has three bytes.
        unsafe { one.write_bytes(7, 3) };
        // SAFETY: the piece is this allocator's, with this layout.
        let moved = unsafe { bump.realloc(one, layout, 100) };
        assert_ne!(moved, one);
        // SAFETY: three bytes were copied there.
        assert_eq!(unsafe { std::slice::from_raw_parts(moved, 3) }, [7; 3]);
        let grown = Layout::from_size_align(100, 1).unwrap();
        // SAFETY: the piece is this allocator's, with this layout; it is the last one.
        assert_eq!(unsafe { bump.realloc(moved, grown, 200) }, moved);
        let huge = Layout::from_size_align(ARENA_BYTES * 2, 8).unwrap();
        // SAFETY: the layout has a size.
        let outside = unsafe { bump.alloc(huge) };
        assert!(!outside.is_null() && !bump.owns(outside));
        // SAFETY: the piece is the system's, with this layout.
        unsafe { bump.dealloc(outside, huge) };
    }
}
