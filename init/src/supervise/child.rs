//! The supervisor's process: its program, environment, cgroup, and what is known when it ends.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, pipe2};

use crate::sys;
use crate::sys::fds::own;
use crate::text::Text;

const PROGRAM: &str = "/usr/bin/orlop";
pub(crate) const CGROUP: &str = "/sys/fs/cgroup/orlop";
const PROCS: &str = "/sys/fs/cgroup/orlop/cgroup.procs";
const THAW: &str = "/sys/fs/cgroup/orlop/cgroup.freeze";
/// Descriptors the child finds below this number are its stdio and the handoff.
const SAFE_FD: i32 = 10;

/// Program, arguments and environment, built once: a start allocates nothing.
pub(crate) struct Command {
    program: CString,
    argv: Vec<CString>,
    envp: Vec<CString>,
}

/// A running supervisor.
pub(crate) struct Child {
    pub(crate) pid: u32,
    /// Why it is not in its cgroup, if it is not.
    pub(crate) misplaced: Option<Errno>,
    failure: OwnedFd,
}

impl Command {
    pub(crate) fn new() -> Self {
        let other = cfg!(debug_assertions).then(|| std::env::var_os("ORLOP_SUPERVISOR")).flatten();
        let program = other.unwrap_or_else(|| PROGRAM.into());
        let text = |bytes: &[u8]| CString::new(bytes).unwrap_or_default();
        let mut envp = vec![
            text(b"PATH=/usr/bin:/usr/sbin:/bin:/sbin"),
            text(format!("ORLOP_HANDOFF={}", handoff::SUPERVISOR_FD).as_bytes()),
        ];
        for (name, value) in std::env::vars_os() {
            if passes(&name) {
                envp.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat()));
            }
        }
        Self { program: text(program.as_bytes()), argv: vec![text(b"orlop"), text(b"supervise")], envp }
    }

    pub(crate) fn program(&self) -> &str {
        self.program.to_str().unwrap_or_default()
    }

    /// Starts it; returns the process and PID 1's end of its handoff socket.
    pub(crate) fn start(&self) -> Result<(Child, OwnedFd), Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let theirs = above_safe(&theirs)?;
        // The supervisor's end blocks unless it says otherwise: the flag belongs to each end alone.
        fcntl(&theirs, FcntlArg::F_SETFL(OFlag::empty()))?;
        let (failure, report) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let report = above_safe(&report)?;
        // A cgroup that somebody froze would start it frozen; without the file there is nothing to thaw.
        let _ = std::fs::write(THAW, "0");
        let procs = open(PROCS, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());

        let pointers = |list: &[CString]| -> Vec<_> {
            list.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
        };
        let pid = sys::spawn::spawn(&sys::spawn::Plan {
            program: &self.program,
            argv: &pointers(&self.argv),
            envp: &pointers(&self.envp),
            handoff: theirs.as_fd(),
            failure: report.as_fd(),
            procs: procs.as_ref().ok().map(OwnedFd::as_fd),
        })?;
        sys::crash::remember_supervisor(pid);
        Ok((Child { pid, misplaced: procs.err(), failure }, ours))
    }
}

/// What of PID 1's environment is the supervisor's business.
fn passes(name: &OsStr) -> bool {
    name == "ORLOP_STATE" || (cfg!(debug_assertions) && name.as_bytes().starts_with(b"ORLOP_TEST_"))
}

fn above_safe(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(SAFE_FD)).map(own)
}

impl Child {
    pub(crate) fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.pid) {
            // It is our child and not reaped yet, so the pid is its own; ESRCH cannot happen.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Why it ended, in words: a start that failed, an exit status, a signal.
    pub(crate) fn obituary(&self, program: &str, wait_status: i32) -> Text<120> {
        let mut report = [0; 2];
        if let Ok(2) = nix::unistd::read(&self.failure, &mut report) {
            let step = sys::spawn::Step::name(report[0]);
            let errno = Errno::from_raw(i32::from(report[1]));
            return Text::of(format_args!("{step} {program}: {}", errno.desc()));
        }
        describe(wait_status)
    }
}

/// `exit status 1`, `killed by signal 9`.
pub(crate) fn describe(wait_status: i32) -> Text<120> {
    let signal = wait_status & 0x7f;
    if signal == 0 {
        Text::of(format_args!("exit status {}", wait_status >> 8 & 0xff))
    } else {
        let name = Signal::try_from(signal).map_or("", Signal::as_str);
        let core = if wait_status & 0x80 == 0 { "" } else { ", core dumped" };
        Text::of(format_args!("killed by signal {signal} {name}{core}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_in_words() {
        assert_eq!(describe(0x0300).as_str(), "exit status 3");
        assert_eq!(describe(9).as_str(), "killed by signal 9 SIGKILL");
        assert_eq!(describe(11 | 0x80).as_str(), "killed by signal 11 SIGSEGV, core dumped");
        assert_eq!(describe(64).as_str(), "killed by signal 64 ");
    }
}
