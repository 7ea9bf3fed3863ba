//! Numbers in memory that PID 1 sees together with others: its forked children, or, through a memory file, the self
//! it becomes when it executes itself anew ([`super::crash`]).

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

/// Zeroed numbers that children made by fork(2) share. Mapped for as long as the process lives.
pub(crate) fn with_children(count: usize) -> Result<&'static [AtomicU64], Errno> {
    map(None, count)
}

/// Zeroed numbers, and the file that carries them over an exec.
pub(crate) fn with_the_next_self(count: usize) -> Result<(&'static [AtomicU64], OwnedFd), Errno> {
    let file = memfd_create(c"exits", MFdFlags::MFD_CLOEXEC)?;
    nix::unistd::ftruncate(&file, i64::try_from(count * size_of::<AtomicU64>()).unwrap_or(0))?;
    Ok((map(Some(file.as_fd()), count)?, file))
}

/// The numbers of a former self.
pub(crate) fn of_the_former_self(file: BorrowedFd<'_>, count: usize) -> Result<&'static [AtomicU64], Errno> {
    let size = nix::sys::stat::fstat(file)?.st_size;
    // Beyond the end of a file its mapping faults.
    if usize::try_from(size) != Ok(count * size_of::<AtomicU64>()) {
        return Err(Errno::EINVAL);
    }
    map(Some(file), count)
}

fn map(file: Option<BorrowedFd<'_>>, count: usize) -> Result<&'static [AtomicU64], Errno> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_SHARED | if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
    let fd = file.map_or(-1, |file| file.as_raw_fd());
    // SAFETY: a new mapping wherever the kernel likes.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), count * size_of::<AtomicU64>(), access, kind, fd, 0) };
    if memory == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: page-aligned, as long as asked for, never unmapped; any bytes are valid numbers, and whoever else has the
    // memory uses them as these atomics too.
    Ok(unsafe { std::slice::from_raw_parts(memory.cast::<AtomicU64>(), count) })
}
