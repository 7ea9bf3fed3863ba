//! A copy of PID 1 for work that may hang in the kernel: unmount, detach, sync, a driver. Its end is its answer.
//!
//! It holds nothing of PID 1's but stdio and what the story is told to: the watchdog has one opener, a stored descriptor that is
//! given up must be gone, a client waits for the end of its answer.

use nix::errno::Errno;

/// Runs `work` in a child and returns the child's pid; what `work` returns becomes its exit status. A panic in it
/// is status 101.
pub(crate) fn run(work: impl FnOnce() -> u8) -> Result<u32, Errno> {
    // SAFETY: PID 1 has one thread, so the copy is whole: no lock is held by a thread that is not there.
    let pid = unsafe { libc::fork() };
    match Errno::result(pid)? {
        0 => {
            super::fds::close_all_but(crate::story::fds());
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(101);
            // SAFETY: ends the child; nothing of the parent's is run or flushed.
            unsafe { libc::_exit(i32::from(status)) }
        }
        pid => u32::try_from(pid).map_err(|_| Errno::ESRCH),
    }
}
