//! Processes by pid and start time: what is signalled is what was started, never who got its pid afterwards.

use std::{fs, io, os::fd::AsFd, str::FromStr};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use super::{machine::Process, sys};

/// Field 22 of /proc/<pid>/stat, in clock ticks since boot. The command, field 2, may hold anything: count from its end.
pub(crate) fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid, 19)
}

/// A number of proc_pid_stat(5), counted from behind the program's name.
fn stat<T: FromStr>(pid: u32, index: usize) -> Option<T> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(index)?.parse().ok()
}

/// The process has this name (prctl(2), PR_SET_NAME), or its parent has.
pub(crate) fn is_of(pid: u32, name: &str) -> bool {
    let is_called =
        |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name);
    is_called(pid) || stat(pid, 1).is_some_and(is_called)
}

/// The process that has this pid now, dead but not reaped included.
pub(crate) fn identify(pid: u32) -> Option<Process> {
    start_ticks(pid).map(|start_ticks| Process { pid, start_ticks })
}

/// It is the same process, and it has not ended.
pub(crate) fn is_alive(process: Process) -> bool {
    let Ok(stat) = fs::read(format!("/proc/{}/stat", process.pid)) else { return false };
    let state = stat.iter().rposition(|byte| *byte == b')').and_then(|end| stat.get(end + 2));
    identify(process.pid).is_some_and(|found| found.is(&process)) && !matches!(state, Some(b'Z' | b'X') | None)
}

/// Sends a signal to this very process: the descriptor is opened first, then its identity checked.
pub(crate) fn signal(process: Process, signal: i32) -> io::Result<()> {
    let pidfd = sys::pidfd_open(process.pid)?;
    if !identify(process.pid).is_some_and(|found| found.is(&process)) {
        return Err(nix::errno::Errno::ESRCH.into());
    }
    sys::pidfd_send_signal(pidfd.as_fd(), signal)
}

/// Which CPUs its one thread, and all that come of it, run on. There is no such call for a pidfd: who has taken its pid is told by a
/// look at it before.
pub(crate) fn bind(process: Process, cpus: impl Iterator<Item = usize>) -> nix::Result<()> {
    let mut set = CpuSet::new();
    // Greater numbers than a set has room for are no CPUs of this machine: the kernel takes those away that are not there, too.
    for cpu in cpus {
        let _ = set.set(cpu);
    }
    if !identify(process.pid).is_some_and(|found| found.is(&process)) {
        return Err(nix::errno::Errno::ESRCH);
    }
    sched_setaffinity(Pid::from_raw(process.pid.cast_signed()), &set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start() {
        let own = identify(std::process::id()).unwrap();
        assert!(own.start_ticks > 0 && is_alive(own));
        let other = Process { start_ticks: own.start_ticks + 1, ..own };
        assert!(!is_alive(other));
        assert_eq!(bind(other, 0..1), Err(nix::errno::Errno::ESRCH));
        assert!(signal(other, libc::SIGKILL).is_err(), "or this test would have ended here");
        assert!(signal(own, 0).is_ok());
    }
}
