//! The runtime's processes: `orlop-oci`, one per operation, at most one at a time per unit, never waited for by the loop. Their ends
//! come through SIGCHLD like every child's.
//!
//! This is the only way to a container: nothing else here makes one, enters it or changes its limits. Signals and cgroup.kill are the
//! supervisor's own (process.rs, cgroup.rs): a unit has to stop where no memory and no pid is left for a process of the runtime, and the
//! process of `MAINPID=` is none the runtime knows of. What they end the runtime then deletes.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{
    bundle::{CONFIG, container_id},
    paths::Paths,
};
use crate::unit::UnitName;

/// Overrides the runtime's program, for development: runc and crun have the same command line.
const PROGRAM_VARIABLE: &str = "ORLOP_OCI";
const PROGRAM: &str = "/usr/bin/orlop-oci";
const LOG: &str = "runtime.log";
const PID: &str = "pid";

#[derive(Debug)]
pub(crate) enum Operation {
    /// With the write ends of the container's stdout and stderr, and the sockets and stored descriptors it is handed.
    Create {
        out: OwnedFd,
        err: OwnedFd,
        fds: Vec<OwnedFd>,
    },
    Start,
    Delete,
    /// Asks the runtime what it knows; the answer lies in `Runtime::answer`.
    Query,
}

/// Which operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Start,
    Delete,
    Query,
}

impl Operation {
    fn kind(&self) -> Kind {
        match self {
            Self::Create { .. } => Kind::Create,
            Self::Start => Kind::Start,
            Self::Delete => Kind::Delete,
            Self::Query => Kind::Query,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) unit: UnitName,
    pub(crate) attempt: u64,
    pub(crate) kind: Kind,
    pub(crate) result: Result<(), String>,
}

#[derive(Debug)]
struct Running {
    unit: UnitName,
    attempt: u64,
    kind: Kind,
}

#[derive(Debug)]
pub(crate) struct Runtime {
    paths: Paths,
    program: PathBuf,
    running: BTreeMap<u32, Running>,
    queued: BTreeMap<UnitName, VecDeque<(u64, Operation)>>,
    /// Could not even be started: reported with the next ends.
    failed: Vec<Ended>,
}

impl Runtime {
    pub(crate) fn new(paths: Paths) -> Self {
        let program = std::env::var_os(PROGRAM_VARIABLE).map_or_else(|| PROGRAM.into(), PathBuf::from);
        Self { paths, program, running: BTreeMap::new(), queued: BTreeMap::new(), failed: Vec::new() }
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Starts the operation, or queues it behind the one at work for this unit.
    pub(crate) fn run(&mut self, unit: &UnitName, attempt: u64, operation: Operation) {
        if self.running.values().any(|running| running.unit == *unit) {
            self.queued.entry(unit.clone()).or_default().push_back((attempt, operation));
        } else {
            self.spawn(unit, attempt, operation);
        }
    }

    /// Kills what works for the unit; its end is reported as a failure.
    pub(crate) fn kill(&mut self, unit: &UnitName) {
        self.queued.remove(unit);
        for (pid, running) in &self.running {
            if running.unit == *unit
                && let Some(process) = super::process::identify(*pid)
                && let Err(error) = super::process::signal(process, libc::SIGKILL)
            {
                log::warn!("{unit}: kill the runtime's process {pid}: {error}");
            }
        }
    }

    fn spawn(&mut self, unit: &UnitName, attempt: u64, operation: Operation) {
        let kind = operation.kind();
        match self.command(unit, operation) {
            Ok(pid) => {
                self.running.insert(pid, Running { unit: unit.clone(), attempt, kind });
            }
            Err(error) => {
                let result = Err(format!("{}: {error}", self.program.display()));
                self.failed.push(Ended { unit: unit.clone(), attempt, kind, result });
            }
        }
    }

    fn base(&self, log: &Path) -> io::Result<Command> {
        fs::write(log, "")?;
        let mut command = Command::new(&self.program);
        command.env_clear().arg("--root").arg(self.paths.runtime_root());
        command.arg("--log").arg(log).args(["--log-format", "json"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    fn command(&self, unit: &UnitName, operation: Operation) -> io::Result<u32> {
        let folder = self.paths.unit(unit);
        let mut command = self.base(&folder.join(LOG))?;
        match operation {
            Operation::Create { out, err, fds } => {
                command.arg("create").arg("--bundle").arg(&folder).arg("--pid-file").arg(folder.join(PID));
                command.stdout(out).stderr(err);
                if !fds.is_empty() {
                    // sd_listen_fds(3); the runtime hands them on, as runc does.
                    command.env("LISTEN_FDS", fds.len().to_string());
                    super::sys::pass_fds(&mut command, &fds)?;
                }
            }
            Operation::Start => drop(command.arg("start")),
            Operation::Delete => drop(command.args(["delete", "--force"])),
            Operation::Query => drop(command.arg("state").stdout(fs::File::create(folder.join("query.json"))?)),
        }
        // Dropped without a wait: the loop reaps all children alike.
        Ok(command.arg(container_id(unit)).spawn()?.id())
    }

    /// A health check in the container; the pid of the runtime's process, whose end is not ours to report.
    pub(crate) fn check(
        &self,
        unit: &UnitName,
        cgroup: &str,
        check: &[String],
        out: io::PipeWriter,
    ) -> io::Result<u32> {
        let mut command = self.base(&self.check_log(unit))?;
        command.args(["exec", "--cgroup", cgroup]).arg(container_id(unit)).arg("--").args(check);
        command.stderr(out.try_clone()?).stdout(out);
        Ok(command.spawn()?.id())
    }

    /// Why a check could not be run.
    pub(crate) fn check_error(&self, unit: &UnitName) -> Option<String> {
        last_message(&self.check_log(unit))
    }

    fn check_log(&self, unit: &UnitName) -> PathBuf {
        self.paths.unit(unit).join("check.log")
    }

    /// A child ended. `None`: it was not the runtime's.
    pub(crate) fn ended(&mut self, pid: u32, wait_status: i32) -> Option<Ended> {
        let Running { unit, attempt, kind } = self.running.remove(&pid)?;
        let result = if wait_status == 0 {
            Ok(())
        } else {
            let text = last_message(&self.paths.unit(&unit).join(LOG)).unwrap_or_else(|| {
                let outcome = super::machine::Outcome::from_wait_status(wait_status, false);
                format!("the runtime {outcome} and did not say why")
            });
            Err(text)
        };
        if let Some(queue) = self.queued.get_mut(&unit) {
            let next = queue.pop_front();
            if queue.is_empty() {
                self.queued.remove(&unit);
            }
            if let Some((attempt, operation)) = next {
                self.spawn(&unit, attempt, operation);
            }
        }
        Some(Ended { unit, attempt, kind, result })
    }

    /// Operations that never came to run.
    pub(crate) fn take_failed(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.failed)
    }

    /// The runtime has something under this unit's id.
    pub(crate) fn knows(&self, unit: &UnitName) -> bool {
        self.paths.runtime_root().join(container_id(unit)).exists()
    }

    /// The pid of the container that was just created.
    pub(crate) fn container_pid(&self, unit: &UnitName) -> Option<u32> {
        fs::read_to_string(self.paths.unit(unit).join(PID)).ok()?.trim().parse().ok()
    }

    /// The pid of a container that was created some time ago, asked of the runtime and waited for: not in the loop.
    pub(crate) fn asked_pid(&self, unit: &UnitName) -> Option<u32> {
        let mut command = self.base(&self.paths.unit(unit).join(LOG)).ok()?;
        let output = command.arg("state").arg(container_id(unit)).stdout(Stdio::piped()).output().ok()?;
        let state: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        state.get("pid")?.as_u64()?.try_into().ok()
    }

    /// Once the container runs nobody reads these, and /run is memory.
    pub(crate) fn forget_start(&self, unit: &UnitName) {
        let folder = self.paths.unit(unit);
        for name in [CONFIG, LOG, PID] {
            let _ = fs::remove_file(folder.join(name));
        }
    }

    /// What the last query said: `created`, `running`, `stopped`.
    pub(crate) fn answer(&self, unit: &UnitName) -> Option<String> {
        let text = fs::read(self.paths.unit(unit).join("query.json")).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&text).ok()?;
        Some(state.get("status")?.as_str()?.to_owned())
    }
}

/// The last error of a runtime's log, which is JSON lines or plain text.
pub(crate) fn last_message(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    let message = serde_json::from_str::<serde_json::Value>(line)
        .ok()
        .and_then(|value| value.get("msg")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| line.to_owned());
    Some(message.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_runtime_is_found_in_both_formats() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("runtime.log");
        fs::write(&log, "{\"level\":\"warning\",\"msg\":\"x\"}\n{\"level\":\"error\",\"msg\":\"no such file\"}\n")
            .unwrap();
        assert_eq!(last_message(&log).as_deref(), Some("no such file"));
        fs::write(&log, "error: plain words\n\n").unwrap();
        assert_eq!(last_message(&log).as_deref(), Some("error: plain words"));
        fs::write(&log, "").unwrap();
        assert_eq!(last_message(&log), None);
    }
}
