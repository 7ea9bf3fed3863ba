//! Waiting for children, with the raw status: nix's wait calls reap a child that a real-time signal ended and then
//! return EINVAL, the exit lost.

use nix::errno::Errno;

/// A reaped child. The status is as wait(2) encodes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) wait_status: i32,
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
    pub(crate) max_rss_kib: u64,
}

/// A child that ended and is not reaped yet: `Ok(None)` when all run on, ECHILD when there are none at all.
pub(crate) fn peek() -> Result<Option<u32>, Errno> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable memory of the type the call fills.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
    Errno::result(result)?;
    // SAFETY: zeroed above, and all-zero is a valid siginfo_t (it means: nobody).
    let info = unsafe { info.assume_init() };
    // SAFETY: si_pid is set by waitid, or still zero.
    let pid = unsafe { info.si_pid() };
    Ok(u32::try_from(pid).ok().filter(|&pid| pid > 0))
}

/// Reaps one child that [`peek`] saw.
pub(crate) fn reap(pid: u32) -> Result<Option<Ended>, Errno> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    let mut wait_status = 0;
    let pid = i32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: status and usage are writable memory of the types the call fills.
    let got = unsafe { libc::wait4(pid, &raw mut wait_status, libc::WNOHANG, usage.as_mut_ptr()) };
    if Errno::result(got)? == 0 {
        return Ok(None);
    }
    // SAFETY: zeroed above and filled by the call; every bit pattern is valid.
    let usage = unsafe { usage.assume_init() };
    Ok(Some(Ended {
        wait_status,
        user_us: micros(usage.ru_utime),
        system_us: micros(usage.ru_stime),
        max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
    }))
}

fn micros(time: libc::timeval) -> u64 {
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000).saturating_add(u64::try_from(time.tv_usec).unwrap_or(0))
}
