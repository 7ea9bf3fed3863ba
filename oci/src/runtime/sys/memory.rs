//! Room for who may not allocate.

use std::ptr;

use super::{Errno, Result, check};

/// Pages of their own, zero, given back when dropped.
pub(crate) struct Pages {
    start: ptr::NonNull<u8>,
    bytes: usize,
}

impl Pages {
    pub(crate) fn new(bytes: usize) -> Result<Pages> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, of no file, wherever there is room.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let start = ptr::NonNull::new(start.cast()).ok_or(Errno(libc::ENOMEM))?;
        Ok(Pages { start, bytes })
    }

    /// A process that is cloned with a memory of its own has not got them.
    pub(crate) fn keep_from_copies(&mut self) -> Result<()> {
        // SAFETY: the mapping is ours, and that long.
        check(unsafe { libc::madvise(self.start.as_ptr().cast(), self.bytes, libc::MADV_DONTFORK) }).map(drop)
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is that long, initialised by the kernel, and borrowed as this is.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrows it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
