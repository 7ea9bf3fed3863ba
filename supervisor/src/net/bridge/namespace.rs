//! Work inside another network namespace, without this thread ever leaving its own.

use std::{io, os::fd::BorrowedFd, thread};

use nix::sched::{CloneFlags, setns};

/// Runs `work` on a thread of its own that has entered the namespace; sockets it opens and what it reads below /proc/sys/net are
/// that namespace's. The thread is gone afterwards: there is no way back that could fail.
pub(super) fn inside<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let enter = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            work()
        };
        let thread =
            thread::Builder::new().name("namespace".into()).stack_size(256 << 10).spawn_scoped(scope, enter)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the namespace panicked")))
    })
}
