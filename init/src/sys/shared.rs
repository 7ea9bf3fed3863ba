//! One number in memory that PID 1 and its forked children see together.

use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct Shared(&'static AtomicU32);

impl Shared {
    /// Maps a page for it; lives as long as the process.
    pub(crate) fn new() -> Option<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping wherever the kernel likes.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<AtomicU32>(), access, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: page-aligned, zeroed, never unmapped, and only ever used as this atomic.
        Some(Self(unsafe { &*page.cast::<AtomicU32>() }))
    }

    pub(crate) fn set(&self, value: u32) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
