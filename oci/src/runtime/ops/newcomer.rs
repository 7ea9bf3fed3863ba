//! A further process on its way into a container: from its clone to its program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Machine;
use super::create::{answer, failure, set_limits, set_oom_score};
use super::listener::last_words;
use super::rdt;
use crate::runtime::child::{CLONED, READY};
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::plan::ProcessPlan;
use crate::runtime::state::{State, Status};
use crate::runtime::sys::signal::Signals;
use crate::runtime::sys::{process, schedule, socket};

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
        self.state.resctrl.iter().try_for_each(|group| rdt::enter(group.as_ref(), self.pid))?;
        set_oom_score(machine, self.pid, self.plan.oom_score_adj)?;
        self.says(READY)?;
        set_limits(self.pid, self.plan)
    }

    /// From now on it is the program's process, which waits; the one that made it is gone.
    pub(super) fn goes_inside(&mut self) -> Result<()> {
        if !self.plan.made_outside {
            return Ok(());
        }
        answer(self.channel.as_fd(), self.pidfd.as_fd())?;
        self.until_ready(self.channel.as_fd())?;
        self.until_ready(self.pidfd.as_fd())?;
        (self.pid, self.pidfd) = beside(self.channel.as_fd(), self.pidfd.as_fd())?;
        set_from_outside(self.pid, self.plan)
    }

    /// Silence, which is the channel closing by the exec.
    pub(super) fn runs(&self) -> Result<()> {
        self.says(&[])
    }

    pub(super) fn end(&self) {
        let _ = process::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(self.pidfd.as_fd());
    }

    fn says(&self, expected: &[u8]) -> Result<()> {
        answer(self.channel.as_fd(), self.pidfd.as_fd())?;
        self.until_ready(self.channel.as_fd())?;
        let message = last_words(self.channel.as_fd(), self.state, self.status, self.pid)?;
        if message == expected { Ok(()) } else { Err(failure(&message, self.pidfd.as_fd())) }
    }

    /// Until it has spoken, or ended; or somebody wants us to end.
    fn until_ready(&self, fd: BorrowedFd<'_>) -> Result<()> {
        let Some(ends) = &self.ends else { return Ok(()) };
        let ready = process::wait_readable_either(fd, ends.fd());
        if ready.step("listen to", "the container's process")? {
            return Ok(());
        }
        let signal = ends.next().step("wait for", "a signal")?;
        Err(Error::ChildGone(format!("signal {signal} came before the process was ready")))
    }
}

/// What the process that made it ready has not handed on (see `ProcessPlan::made_outside`).
pub(super) fn set_from_outside(pid: i32, plan: &ProcessPlan) -> Result<()> {
    plan.limit_of_processes()
        .try_for_each(|(resource, limit)| process::set_limit(pid, resource, limit))
        .step("set", "process.rlimits")?;
    match plan.scheduler.as_ref().filter(|_| plan.made_outside) {
        Some(scheduler) => schedule::set_scheduler(pid, scheduler).step("set", "process.scheduler"),
        None => Ok(()),
    }
}

/// Whose process it is that another one has cloned for us, as it says now.
pub(super) fn beside(channel: BorrowedFd<'_>, between: BorrowedFd<'_>) -> Result<(i32, OwnedFd)> {
    // That it ended before it read our word is told first, and once.
    let message = socket::message(channel).or_else(|_| socket::message(channel));
    cloned(&message.step("listen to", "the process in between")?, between)
}

/// The same, of a message that has come.
pub(super) fn cloned(message: &[u8], between: BorrowedFd<'_>) -> Result<(i32, OwnedFd)> {
    let Some(pid) = message.strip_prefix(CLONED).and_then(|rest| rest.first_chunk()) else {
        return Err(failure(message, between));
    };
    process::wait(between).step("wait for", "the process in between")?;
    let pid = i32::from_le_bytes(*pid);
    // A child of ours: the number is its own until we have waited for it.
    Ok((pid, process::pidfd_open(pid).step("open", "the container's process")?))
}
