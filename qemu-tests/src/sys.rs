//! The one call here that the standard library has no safe word for.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Has the kernel kill the child when the *thread* that spawns it ends (`PR_SET_PDEATHSIG`, prctl(2)).
///
/// Spawn from a thread that lives as long as the process: [`crate::process`] has one.
pub(crate) fn die_with_spawner(command: &mut Command) {
    // SAFETY: the closure makes one async-signal-safe system call and allocates nothing; it runs in the child
    // between fork and exec.
    unsafe { command.pre_exec(set_death_signal) };
}

fn set_death_signal() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes a signal number by value and touches no memory of ours.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
