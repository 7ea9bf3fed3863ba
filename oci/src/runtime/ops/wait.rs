//! Waiting for a foreground process: its signals are passed on, its end is told as an exit status.

use std::os::fd::BorrowedFd;

use crate::runtime::error::{Result, Step};
use crate::runtime::sys::process;
pub(super) use crate::runtime::sys::process::Ended;
use crate::runtime::sys::signal::Signals;

/// Passes on every signal we get until the process ends; 128 + n for one killed by signal n, as shells say it.
pub(super) fn foreground(pidfd: BorrowedFd<'_>, signals: &Signals) -> Result<u8> {
    let ended = loop {
        match signals.next_before(pidfd).step("wait for", "the container's process")? {
            None => break process::wait(pidfd).step("wait for", "the container's process")?,
            // SIGCHLD is the kernel's word to us; SIGURG the Go runtime's to itself.
            Some(libc::SIGCHLD | libc::SIGURG) => {}
            Some(signal) => {
                // A process that has just ended is found by the next turn.
                let _ = process::send_signal(pidfd, signal);
            }
        }
    };
    let status = match ended {
        Ended::Exited(status) => status,
        Ended::Killed(signal) => 128 + signal,
    };
    Ok(u8::try_from(status & 0xff).unwrap_or(255))
}

/// For a child that ended too early.
pub(super) fn how_it_ended(pidfd: BorrowedFd<'_>) -> String {
    match process::wait(pidfd) {
        Ok(Ended::Exited(status)) => format!("ended with {status}"),
        Ok(Ended::Killed(libc::SIGKILL)) => "was killed (is its memory limit too low?)".to_owned(),
        Ok(Ended::Killed(signal)) => format!("was killed by signal {signal}"),
        // Not our child: PID 1 waits for it.
        Err(_) => "ended".to_owned(),
    }
}
