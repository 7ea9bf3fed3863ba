//! Waiting for a foreground process: its signals are passed on, its end is told as an exit status.

use std::os::fd::BorrowedFd;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::terminal::Terminal;
use crate::runtime::error::{Error, Result, Step};
pub(super) use crate::runtime::sys::process::Ended;
use crate::runtime::sys::signal::{Signals, words};
use crate::runtime::sys::{Errno, process};

/// Passes on every signal we get, and what goes through the terminal, until the process ends; 128 + n for one killed by signal n,
/// as shells say it. What failed on the way is told when it has ended.
pub(super) fn foreground(pidfd: BorrowedFd<'_>, signals: &Signals, mut terminal: Option<Terminal>) -> Result<u8> {
    let ended = loop {
        let mut all = vec![PollFd::new(pidfd, PollFlags::POLLIN), PollFd::new(signals.fd(), PollFlags::POLLIN)];
        all.extend(terminal.iter().flat_map(Terminal::interests));
        match nix::poll::poll(&mut all, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Errno(errno as i32)).step("wait for", "the container's process"),
        }
        let is_ready = |at: usize| all.get(at).is_some_and(|one| one.any() == Some(true));
        let (ended, signalled) = (is_ready(0), is_ready(1));
        drop(all);
        if let Some(terminal) = &mut terminal {
            terminal.pump();
        }
        if ended {
            break process::wait(pidfd).step("wait for", "the container's process")?;
        }
        if !signalled {
            continue;
        }
        match signals.next().step("wait for", "a signal")? {
            // SIGCHLD is the kernel's word to us; SIGURG the Go runtime's to itself.
            libc::SIGCHLD | libc::SIGURG => {}
            libc::SIGWINCH if terminal.is_some() => terminal.iter().for_each(Terminal::resize),
            signal => {
                // A process that has just ended is found by the next turn.
                let _ = process::send_signal(pidfd, signal);
            }
        }
    };
    terminal.map_or(Ok(()), Terminal::close)?;
    let status = match ended {
        Ended::Exited(status) => status,
        Ended::Killed(signal) => 128 + signal,
    };
    Ok(u8::try_from(status & 0xff).unwrap_or(255))
}

/// Of a process that is ending: what takes longer is held by somebody.
pub(super) const END_PATIENCE_MS: i32 = 10_000;

/// Ends it, and takes it away unless somebody traces it.
pub(super) fn end(pidfd: BorrowedFd<'_>) {
    // It may have ended, and been waited for, already: both calls then have nothing to do.
    let _ = process::send_signal(pidfd, libc::SIGKILL);
    let _ = process::wait_for(pidfd, END_PATIENCE_MS);
}

/// For a child that ended too early.
pub(super) fn ended_early(pidfd: BorrowedFd<'_>) -> Error {
    let ended = process::wait_to_tell(pidfd, END_PATIENCE_MS);
    let how = match ended.map(|ended| ended.map(|(how, _)| how)) {
        Ok(Some(Ended::Exited(status))) => format!("ended with {status}"),
        Ok(Some(Ended::Killed(libc::SIGKILL))) => "was killed (is its memory limit too low?)".to_owned(),
        Ok(Some(Ended::Killed(signal))) => format!("was killed by signal {signal} ({})", words(signal)),
        Ok(None) => "is held by who traces it and was given up".to_owned(),
        // Not our child: PID 1 waits for it.
        Err(_) => "ended".to_owned(),
    };
    let words = format!("the container's process {how} before it was ready");
    match ended {
        Ok(Some((Ended::Killed(libc::SIGKILL), false))) => Error::NeverRan(words),
        _ => Error::ChildGone(words),
    }
}
