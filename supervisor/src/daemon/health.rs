//! Health checks and `ReloadCmd=` at work: `orlop-oci exec` for each, in a cgroup of its own below the container's, so that all it
//! started can be killed and is accounted to the container. What it writes is read as it comes, the begin of it kept.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::fd::AsFd,
    path::PathBuf,
    time::Duration,
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::epoll::{EpollEvent, EpollFlags},
};

use super::{
    cgroup, clock,
    core::{Daemon, class},
    machine::{Event, Outcome},
    process,
};
use crate::{api::server::ConnectionId, unit::UnitName};

/// Below the container's cgroup, with a number: a new one each time, because a kernel since 6.14 may kill at once what is cloned
/// into a cgroup that was killed before.
const CGROUP: &str = "orlop-health-";
const RELOAD_CGROUP: &str = "orlop-reload-";
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// Read at one time, before others get their turn.
const TURN: usize = 16;

#[derive(Debug, Default)]
pub(crate) struct Checkers {
    /// By the pid of the runtime's process.
    running: BTreeMap<u32, Checker>,
}

#[derive(Debug)]
struct Checker {
    unit: UnitName,
    purpose: Purpose,
    pipe: io::PipeReader,
    output: Vec<u8>,
    keep: usize,
    /// When it has to have ended; once it was killed, when it is looked at again.
    due: Option<Duration>,
}

/// What follows from its end, and who waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Health {
        attempt: u64,
    },
    /// Until then at most.
    Reload {
        connection: Option<ConnectionId>,
        deadline: Option<Duration>,
    },
}

impl Purpose {
    fn cgroup(self) -> &'static str {
        if matches!(self, Self::Health { .. }) { CGROUP } else { RELOAD_CGROUP }
    }
}

impl Checkers {
    pub(crate) fn reloads(&self, unit: &UnitName) -> bool {
        self.running.values().any(|one| one.unit == *unit && matches!(one.purpose, Purpose::Reload { .. }))
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.running.values().filter_map(|checker| checker.due).min()
    }

    /// Reloads that took too long. The kernel may need its time to end them, as where a disk does not answer.
    fn take_late(&mut self, now: Duration) -> Vec<(u32, UnitName)> {
        let late = self.running.iter_mut().filter(|(_, checker)| checker.due.is_some_and(|due| due <= now));
        let late = late.map(|(pid, checker)| {
            checker.due = Some(now + KILL_AGAIN);
            (*pid, checker.unit.clone())
        });
        late.collect()
    }
}

impl Checker {
    /// True at the end of the pipe.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        for _ in 0..TURN {
            match self.pipe.read(&mut bytes) {
                Ok(0) => return true,
                Ok(count) => {
                    let room = self.keep.saturating_sub(self.output.len());
                    self.output.extend_from_slice(&bytes[..count.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}

impl Daemon {
    pub(crate) fn check(&mut self, unit: &UnitName, attempt: u64) {
        if let Err(error) = self.begin_check(unit, attempt) {
            let output = format!("run the check: {error}");
            self.follow_ups.push_back((unit.clone(), Event::Checked { attempt, exit_code: -1, output }));
        }
    }

    fn begin_check(&mut self, unit: &UnitName, attempt: u64) -> io::Result<()> {
        let Some(check) = self.engine.get(unit).and_then(|entry| entry.check()) else { return Ok(()) };
        let (command, keep) = (check.command.clone(), check.max_log_bytes);
        self.run_inside(unit, &command, keep, Purpose::Health { attempt })
    }

    /// Keeps so many bytes of what it writes.
    pub(crate) fn run_inside(
        &mut self,
        unit: &UnitName,
        command: &[String],
        keep: usize,
        purpose: Purpose,
    ) -> io::Result<()> {
        for old in self.cgroups_of(unit, purpose.cgroup()) {
            // What was killed may still be dying; then the next one finds it.
            let _ = cgroup::remove(&old);
        }
        let cgroup = format!("{}{}", purpose.cgroup(), clock::monotonic().as_nanos());
        fs::create_dir(self.paths.cgroup(unit).join(&cgroup))?;
        let (pipe, write) = io::pipe()?;
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let pid = self.runtime.check(unit, &cgroup, command, write)?;
        let token = (u64::from(class::CHECKS) << 32) | u64::from(pid);
        self.epoll.add(&pipe, EpollEvent::new(EpollFlags::EPOLLIN, token))?;
        let due = match purpose {
            Purpose::Reload { deadline, .. } => deadline,
            Purpose::Health { .. } => None,
        };
        let checker = Checker { unit: unit.clone(), purpose, pipe, output: Vec::new(), keep, due };
        self.checkers.running.insert(pid, checker);
        Ok(())
    }

    pub(crate) fn on_check_output(&mut self, pid: u32) {
        if let Some(checker) = self.checkers.running.get_mut(&pid)
            && checker.read()
        {
            let _ = self.epoll.delete(checker.pipe.as_fd());
        }
    }

    /// The runtime's process ended; true if it was one of these.
    pub(crate) fn on_check_ended(&mut self, pid: u32, wait_status: i32) -> bool {
        let Some(mut checker) = self.checkers.running.remove(&pid) else { return false };
        let _ = self.epoll.delete(checker.pipe.as_fd());
        checker.read();
        let Checker { unit, purpose, mut output, .. } = checker;
        for cgroup in self.cgroups_of(&unit, purpose.cgroup()) {
            if cgroup::is_populated(&cgroup) {
                let _ = cgroup::kill(&cgroup);
            }
            let _ = cgroup::remove(&cgroup);
        }
        let outcome = Outcome::from_wait_status(wait_status, false);
        let exit_code = outcome.exit_code().unwrap_or(-1);
        if exit_code != 0 && output.is_empty() {
            output = self.runtime.check_error(&unit).unwrap_or_default().into_bytes();
        }
        let output = String::from_utf8_lossy(&output).trim_end().to_owned();
        match purpose {
            Purpose::Health { attempt } => {
                self.engine.event(&unit, Event::Checked { attempt, exit_code, output }, clock::now());
            }
            Purpose::Reload { connection, deadline } => {
                self.on_reloaded(&unit, connection, deadline, &outcome, &output);
            }
        }
        true
    }

    /// What a check started, and the check.
    pub(crate) fn kill_check(&self, unit: &UnitName) {
        let is_check = |checker: &Checker| checker.unit == *unit && matches!(checker.purpose, Purpose::Health { .. });
        let checks = self.checkers.running.iter().filter(|(_, checker)| is_check(checker));
        self.kill_inside(unit, CGROUP, checks.map(|(pid, _)| *pid));
    }

    /// Commands that reload, and had their time.
    pub(crate) fn kill_late_reloads(&mut self, now: Duration) {
        for (pid, unit) in self.checkers.take_late(now) {
            self.kill_inside(&unit, RELOAD_CGROUP, [pid].into_iter());
        }
    }

    fn kill_inside(&self, unit: &UnitName, cgroups: &str, processes: impl Iterator<Item = u32>) {
        for pid in processes {
            if let Some(found) = process::identify(pid) {
                let _ = process::signal(found, libc::SIGKILL);
            }
        }
        for cgroup in self.cgroups_of(unit, cgroups) {
            if let Err(error) = cgroup::kill(&cgroup) {
                log::warn!("{unit}: kill what runs in {}: {error}", cgroup.display());
            }
        }
    }

    fn cgroups_of(&self, unit: &UnitName, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.paths.cgroup(unit)).into_iter().flatten().flatten();
        let paths = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(prefix.as_bytes()));
        paths.map(|entry| entry.path()).collect()
    }
}
