//! What only its maker can do for a new process, by its number. It may have ended by then, which is no reason of its own: what it said
//! before, or how it ended, is told instead.

use std::os::fd::BorrowedFd;

use super::Machine;
use super::newcomer::{Way, failure, heard};
use super::wait::END_PATIENCE_MS;
use crate::runtime::child::GO;
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::plan::{Limit, Plan, ProcessPlan};
use crate::runtime::sys::process::{self, Memory};
use crate::runtime::sys::{Errno, socket};

/// What only a process outside the container's user namespace can do for it.
pub(super) fn outside_steps(
    machine: &Machine,
    plan: &Plan,
    (pid, pidfd): (i32, BorrowedFd<'_>),
    channel: BorrowedFd<'_>,
    way: Way,
) -> Result<()> {
    if let Some((uids, gids)) = &plan.namespaces.maps {
        let map =
            |file, map: &str, field| machine.proc.write(&format!("{pid}/{file}"), map.as_bytes()).step("set", field);
        let uids = map("uid_map", uids, "linux.uidMappings");
        unless_ended(uids.and_then(|()| map("gid_map", gids, "linux.gidMappings")), channel, pidfd)?;
    }
    if plan.namespaces.maps.is_some() || plan.namespaces.go_between() || way == Way::Moved {
        answer(channel, pidfd)?;
    }
    unless_ended(set_oom_score(machine, pid, plan.process.oom_score_adj), channel, pidfd)
}

/// Of the time namespace that it has made for its children, and that is empty.
pub(super) fn set_offsets(machine: &Machine, pid: i32, plan: &Plan) -> Result<()> {
    let offsets = plan.namespaces.time_offsets.as_bytes();
    machine.proc.write(&format!("{pid}/timens_offsets"), offsets).step("set", "linux.timeOffsets")
}

/// When the process is ready, because its own steps may need more than the program is to have.
pub(super) fn set_limits(pid: i32, plan: &ProcessPlan) -> Result<()> {
    if !plan.limits_from_outside {
        return Ok(());
    }
    plan.early_limits().try_for_each(|limit| set_limit(pid, &limit))
}

pub(super) fn set_limit(pid: i32, limit: &Limit<'_>) -> Result<()> {
    process::set_limit(pid, limit.resource, limit.value).step("set", limit.what.to_string_lossy())
}

/// Whether it is to have another score than this process, which would take that on for itself: with a score go all who work in the same
/// memory (`__set_oom_adj` in the kernel's fs/proc/base.c).
pub(super) fn memory_for(machine: &Machine, score: Option<i32>) -> Memory {
    let own = || machine.proc.read(&format!("{}/oom_score_adj", std::process::id())).ok()?.trim().parse().ok();
    if score.is_none_or(|score| own() == Some(score)) { Memory::Shared } else { Memory::Copied }
}

pub(super) fn set_oom_score(machine: &Machine, pid: i32, score: Option<i32>) -> Result<()> {
    let Some(score) = score else { return Ok(()) };
    let path = format!("{pid}/oom_score_adj");
    match machine.proc.write(&path, score.to_string().as_bytes()) {
        Err(errno @ Errno(libc::EACCES | libc::EPERM)) => {
            let present = machine.proc.read(&path).unwrap_or_default();
            let why = format!("below the present {} it takes CAP_SYS_RESOURCE", present.trim());
            if machine.rootless {
                // Engines ask for what they were given, wherever they run.
                machine.log.warn(&format!("process.oomScoreAdj stays as it is, not {score}: {why}"));
                return Ok(());
            }
            Err(errno).step("set", format!("process.oomScoreAdj to {score} ({why})"))
        }
        other => other.step("set", format!("process.oomScoreAdj to {score}")),
    }
}

/// Lets the process go on.
pub(super) fn answer(channel: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<()> {
    match socket::send(channel, &[GO]) {
        // It has ended, and what it said is still there.
        Err(Errno(libc::EPIPE)) => Err(failure(&last_said(channel, pidfd), pidfd)),
        other => other.step("answer", "the container's process"),
    }
}

/// A step that was done to the process: where it has ended, that is why the step failed.
pub(super) fn unless_ended<T>(step: Result<T>, channel: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<T> {
    step.map_err(|error| {
        let patience = match &error {
            // It loses its namespaces a moment before it is seen to have ended.
            Error::System { errno: Errno(libc::ESRCH), .. } => END_PATIENCE_MS,
            _ => 0,
        };
        match process::wait_readable(pidfd, patience) {
            Ok(true) => failure(&last_said(channel, pidfd), pidfd),
            _ => error,
        }
    })
}

/// Of one that has ended. That it was not answered in time comes first, and once.
pub(super) fn last_said(channel: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Vec<u8> {
    heard(channel, pidfd).or_else(|_| heard(channel, pidfd)).map(|(words, _)| words).unwrap_or_default()
}
