//! `kill`, `pause`, `resume`.

use std::os::fd::{AsFd, OwnedFd};

use super::Machine;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::config::NamespaceKind;
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::procfs::Procfs;
use crate::runtime::state::{START_SOCKET, State, Status};
use crate::runtime::sys::{Errno, process};

/// A descriptor of the container's process, if it is still that process and has not ended.
pub(super) fn open_process(state: &State, proc: &Procfs) -> Result<Option<OwnedFd>> {
    if state.pid == 0 {
        return Ok(None);
    }
    let pidfd = match process::pidfd_open(state.pid) {
        // Nobody, or by now a thread of another process.
        Err(Errno(libc::ESRCH | libc::EINVAL | libc::ENOENT)) => return Ok(None),
        other => other.step("open", format!("process {}", state.pid))?,
    };
    // Checked after the descriptor is there: from then on the number cannot come to mean another process for us.
    Ok(state.lives(proc)?.then_some(pidfd))
}

pub(crate) fn kill(machine: &Machine, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
    let folder = machine.store.open(id)?;
    let state = State::load(&folder)?.ok_or_else(|| Error::NotFound { id: id.to_string() })?;
    let process = open_process(&state, &machine.proc)?;
    // Without a pid namespace of its own, the end of its first process ends nothing else.
    let everyone = all || (signal == libc::SIGKILL && state.namespaces & NamespaceKind::Pid.flag() == 0);
    // Without a cgroup there is the first process, whose end is that of its pid namespace.
    if everyone
        && let Some(cgroup) = Cgroup::open(&state.cgroup)?
        && (process.is_some() || cgroup.populated())
    {
        return kill_all(&cgroup, signal);
    }
    let Some(process) = process else {
        let status = if state.pid == 0 { Status::Creating } else { Status::Stopped };
        // Engines ask to be sure; there is nothing left to be done.
        return if all && status == Status::Stopped { Ok(()) } else { Err(state.refuse("kill", status)) };
    };
    match process::send_signal(process.as_fd(), signal) {
        Err(Errno(libc::ESRCH)) => Err(state.refuse("kill", Status::Stopped)),
        other => other.step("kill", format!("container {id}")),
    }
}

fn kill_all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    if signal == libc::SIGKILL {
        return cgroup.kill();
    }
    for pid in cgroup.pids()? {
        match process::kill(pid, signal) {
            Ok(()) | Err(Errno(libc::ESRCH)) => {}
            Err(errno) => return Err(errno).step("kill", format!("process {pid}")),
        }
    }
    Ok(())
}

pub(crate) fn freeze(machine: &Machine, id: &ContainerId, frozen: bool) -> Result<()> {
    let operation = if frozen { "pause" } else { "resume" };
    let folder = machine.store.open(id)?;
    let state = State::load(&folder)?.ok_or_else(|| Error::NotFound { id: id.to_string() })?;
    let status = state.status(&machine.proc, folder.exists(START_SOCKET)?)?;
    state.needs_cgroup(operation)?;
    let allowed = if frozen { matches!(status, Status::Running | Status::Created) } else { status == Status::Paused };
    let cgroup = Cgroup::open(&state.cgroup)?;
    match cgroup.filter(|_| allowed) {
        Some(cgroup) => cgroup.freeze(frozen),
        None => Err(state.refuse(operation, status)),
    }
}

/// `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
pub(crate) fn parse_signal(text: &str) -> Result<i32> {
    const NAMES: [(&str, i32); 34] = [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("ILL", libc::SIGILL),
        ("TRAP", libc::SIGTRAP),
        ("ABRT", libc::SIGABRT),
        ("IOT", libc::SIGABRT),
        ("BUS", libc::SIGBUS),
        ("FPE", libc::SIGFPE),
        ("KILL", libc::SIGKILL),
        ("USR1", libc::SIGUSR1),
        ("SEGV", libc::SIGSEGV),
        ("USR2", libc::SIGUSR2),
        ("PIPE", libc::SIGPIPE),
        ("ALRM", libc::SIGALRM),
        ("TERM", libc::SIGTERM),
        ("STKFLT", libc::SIGSTKFLT),
        ("CHLD", libc::SIGCHLD),
        ("CLD", libc::SIGCHLD),
        ("CONT", libc::SIGCONT),
        ("STOP", libc::SIGSTOP),
        ("TSTP", libc::SIGTSTP),
        ("TTIN", libc::SIGTTIN),
        ("TTOU", libc::SIGTTOU),
        ("URG", libc::SIGURG),
        ("XCPU", libc::SIGXCPU),
        ("XFSZ", libc::SIGXFSZ),
        ("VTALRM", libc::SIGVTALRM),
        ("PROF", libc::SIGPROF),
        ("WINCH", libc::SIGWINCH),
        ("IO", libc::SIGIO),
        ("POLL", libc::SIGIO),
        ("PWR", libc::SIGPWR),
        ("SYS", libc::SIGSYS),
    ];
    // The C library keeps the first real-time signals for itself: 34 is what everybody calls RTMIN.
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |rest: &str| if rest.is_empty() { Some(0) } else { rest.get(1..)?.parse::<i32>().ok() };
    let number = if let Some(rest) = name.strip_prefix("RTMIN") {
        offset(rest).map(|n| RTMIN + n)
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        offset(rest).map(|n| RTMAX - n)
    } else {
        NAMES.iter().find(|(one, _)| *one == name).map(|(_, n)| *n).or_else(|| upper.parse().ok())
    };
    match number.filter(|n| (0..=RTMAX).contains(n)) {
        Some(number) => Ok(number),
        None => Err(Error::Usage(format!("{text:?} is not a signal"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        let good = [("TERM", 15), ("sigkill", 9), ("9", 9), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("0", 0), ("SYS", 31)];
        for (text, number) in good {
            assert_eq!(parse_signal(text).unwrap(), number, "{text}");
        }
        for bad in ["", "SIG", "65", "-1", "TERMS", "RTMIN+99", "1.5", "é"] {
            assert!(parse_signal(bad).is_err(), "{bad}");
        }
    }
}
