//! Signals as PID 1 takes them: all blocked and read from a signalfd.

use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Blocks every signal but those of faults and returns the fd they are read from. A blocked signal is kept even for
/// PID 1, whose default dispositions the kernel otherwise ignores.
pub(crate) fn take_all() -> Result<SignalFd, Errno> {
    let mut set = SigSet::all();
    super::crash::faults().iter().for_each(|fault| set.remove(fault));
    set.thread_set_mask()?;
    // A stopped or continued child is none of our business: only ends wake us.
    let ends_only = SigAction::new(SigHandler::SigDfl, SaFlags::SA_NOCLDSTOP, SigSet::empty());
    // SAFETY: no handler is installed.
    unsafe { sigaction(Signal::SIGCHLD, &ends_only) }?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
}

/// The next pending signal's number (nix's type knows none above 31), and the sender's pid.
pub(crate) fn next(fd: &SignalFd) -> Option<(i32, u32)> {
    let info = fd.read_signal().ok()??;
    Some((i32::try_from(info.ssi_signo).ok()?, info.ssi_pid))
}

/// The first real-time signal free for programs: musl and glibc keep the ones below for themselves.
pub(crate) fn rt_min() -> i32 {
    libc::SIGRTMIN()
}
