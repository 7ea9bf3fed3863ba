//! A further process on its way into a container: from its clone to its program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::Machine;
use super::listener::{last_words, next_words};
use super::outside::{answer, set_limit, set_limits, set_oom_score, unless_ended};
use super::rdt;
use super::wait::ended_early;
use crate::runtime::cgroup;
use crate::runtime::child::{ADMIN, CLONED, FAILED, FULL, READY};
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::plan::ProcessPlan;
use crate::runtime::state::{State, Status};
use crate::runtime::sys::signal::Signals;
use crate::runtime::sys::{self, Errno, process, schedule, socket};

/// How a process comes into its cgroup.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// By clone3: CLONE_INTO_CGROUP.
    Born,
    /// By a write to cgroup.procs, before it does anything. For a caller in a cgroup that was killed as a whole, by `cgroup.kill`, at some
    /// time: since Linux 6.14 (and 6.12.14) a kill that comes while a process is cloned is noticed by how often the cgroup was killed,
    /// which is asked of the parent's and compared with the child's (`cgroup_css_set_fork`, `cgroup_post_fork`). Where the
    /// two differ, whoever is born is killed before its first instruction.
    Moved,
}

pub(super) struct Newcomer<'a> {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) channel: OwnedFd,
    pub(super) plan: &'a ProcessPlan,
    pub(super) state: &'a State,
    pub(super) status: Status,
    /// Signals are for the program, and stay where they are until there is one; these, which ask for an end, are for us before.
    pub(super) ends: Option<Signals>,
}

impl Newcomer<'_> {
    /// All that can be done before the program's process is seen in the container.
    pub(super) fn made_ready(&self, machine: &Machine) -> Result<()> {
        let entered = self.state.resctrl.iter().try_for_each(|group| rdt::enter(group.as_ref(), self.pid));
        self.unless_ended(entered.and_then(|()| set_oom_score(machine, self.pid, self.plan.oom_score_adj)))?;
        self.says(READY)?;
        self.unless_ended(set_limits(self.pid, self.plan))
    }

    /// From now on it is the program's process, which waits; the one that made it is gone.
    pub(super) fn goes_inside(&mut self, machine: &Machine) -> Result<()> {
        if !self.plan.made_outside {
            return Ok(());
        }
        answer(self.channel.as_fd(), self.pidfd.as_fd())?;
        self.until_ready()?;
        let (channel, between) = (self.channel.as_fd(), self.pidfd.as_fd());
        let (mut message, mut place) = (next(channel, between)?, None);
        if message == FULL {
            place = Some(self.unless_ended(leaves(machine, self.pid))?);
            answer(channel, between)?;
            self.until_ready()?;
            message = next(channel, between)?;
        }
        (self.pid, self.pidfd) = cloned(machine, &message, between, place.as_deref())?;
        self.unless_ended(set_from_outside(self.pid, self.plan))
    }

    fn unless_ended<T>(&self, step: Result<T>) -> Result<T> {
        unless_ended(step, self.channel.as_fd(), self.pidfd.as_fd())
    }

    /// Silence, which is the channel closing by the exec.
    pub(super) fn runs(&self) -> Result<()> {
        self.says(&[])
    }

    fn says(&self, expected: &[u8]) -> Result<()> {
        answer(self.channel.as_fd(), self.pidfd.as_fd())?;
        self.until_ready()?;
        let listen = if expected.is_empty() { last_words } else { next_words };
        let message = listen(self.channel.as_fd(), self.state, self.status, self.pid)?;
        if message == expected { Ok(()) } else { Err(failure(&message, self.pidfd.as_fd())) }
    }

    /// Until it has spoken, or ended (its channel may be another one's, too); or somebody wants us to end.
    fn until_ready(&self) -> Result<()> {
        let Some(ends) = &self.ends else { return Ok(()) };
        let ready = process::wait_readable_any([self.channel.as_fd(), self.pidfd.as_fd(), ends.fd()]);
        if ready.step("listen to", "the container's process")? < 2 {
            return Ok(());
        }
        let signal = ends.next().step("wait for", "a signal")?;
        Err(Error::ChildGone(format!("signal {signal} came before the process was ready")))
    }
}

/// What the process that made it ready has not handed on (see `ProcessPlan::made_outside`).
pub(super) fn set_from_outside(pid: i32, plan: &ProcessPlan) -> Result<()> {
    plan.limit_of_processes().try_for_each(|limit| set_limit(pid, &limit))?;
    match plan.scheduler.as_ref().filter(|_| plan.made_outside) {
        Some(scheduler) => schedule::set_scheduler(pid, scheduler).step("set", "process.scheduler"),
        None => Ok(()),
    }
}

/// What the one in between says now.
pub(super) fn next(channel: BorrowedFd<'_>, between: BorrowedFd<'_>) -> Result<Vec<u8>> {
    // That it ended before it read our word is told first, and once.
    let message = heard(channel, between).or_else(|_| heard(channel, between));
    message.step("listen to", "the process in between").map(|(message, _)| message)
}

/// The container's cgroup has room for one process, which the one in between takes: it goes where we are. Comes back with the cgroup,
/// for the one that it clones.
pub(super) fn leaves(machine: &Machine, between: i32) -> Result<String> {
    let place = cgroup::path_of(between.unsigned_abs(), &machine.proc)?;
    let ours = cgroup::path_of(std::process::id(), &machine.proc)?;
    cgroup::put(&ours, between.unsigned_abs()).map(|()| place)
}

/// The next message; none when the one in between has ended without another: whom it has cloned keeps the channel open.
pub(super) fn heard(channel: BorrowedFd<'_>, between: BorrowedFd<'_>) -> sys::Result<(Vec<u8>, Option<OwnedFd>)> {
    if process::wait_readable_any([channel, between])? == 0 {
        socket::message_and_fd(channel)
    } else {
        Ok((Vec::new(), None))
    }
}

/// Whose process it is that another one has cloned for us, as it says; it is put into that cgroup. Not only the one in between can have
/// sent it: whoever traces in the pid namespace may take the channel from the one that is seen there, and would name any process of the
/// host. None of those is a child of ours.
pub(super) fn cloned(
    machine: &Machine,
    message: &[u8],
    between: BorrowedFd<'_>,
    place: Option<&str>,
) -> Result<(i32, OwnedFd)> {
    let Some(pid) = message.strip_prefix(CLONED).and_then(|rest| rest.first_chunk()) else {
        return Err(failure(message, between));
    };
    let pid = i32::from_le_bytes(*pid);
    // Of a child of ours the number is its own until we have waited for it.
    let pidfd = process::pidfd_open(pid).step("open", "the container's process")?;
    if !process::is_child(pidfd.as_fd()).step("look for", "the container's process")? {
        return Err(Error::ChildGone(format!(
            "process {pid} was named as the container's, and is none of this runtime's"
        )));
    }
    process::wait(between).step("wait for", "the process in between")?;
    if message.ends_with(ADMIN) && message.len() > CLONED.len() + size_of::<i32>() {
        machine.log.warn(
            "linux.seccomp: it has SCMP_ACT_NOTIFY, or forbids what a process does before its program: until that runs, others in its \
             pid namespace may see it with CAP_SYS_ADMIN (process.noNewPrivileges: true avoids this)",
        );
    }
    place.map_or(Ok(()), |place| cgroup::put(place, pid.unsigned_abs()))?;
    Ok((pid, pidfd))
}

/// The process as a descriptor, for an engine that listens for it; the word beside it is runc's.
pub(super) fn hand_over(path: &Path, word: &[u8], pidfd: BorrowedFd<'_>) -> Result<()> {
    let socket = socket::connect_stream(path.as_os_str().as_encoded_bytes());
    let sent = socket.and_then(|socket| socket::send_fd(socket.as_fd(), word, pidfd));
    sent.step("send the process's descriptor to", path.display()).map(drop)
}

/// The child's own words, or how it ended if it had none.
pub(super) fn failure(message: &[u8], pidfd: BorrowedFd<'_>) -> Error {
    match message.strip_prefix(FAILED).and_then(|rest| rest.split_first_chunk::<4>()) {
        Some((errno, words)) => {
            let errno = Errno(i32::from_le_bytes(*errno));
            Error::Child(format!("{}: {errno}", String::from_utf8_lossy(words)))
        }
        None => {
            // Words out of their order are somebody else's, and the process has not ended.
            if !message.is_empty() {
                let _ = process::send_signal(pidfd, libc::SIGKILL);
            }
            ended_early(pidfd)
        }
    }
}
