//! What happens to a unit, and what it wants done.

use std::time::Duration;

use super::{Outcome, Process};
use crate::unit::MachineAction;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Somebody, the boot, a timer, or a unit that needs this one asks for it.
    Start,
    /// A person asks for it, who has seen what went wrong before: that counts no more.
    Forgive,
    /// Everything it is ordered after has started, and there is a free place.
    Go,
    /// It cannot start.
    Refuse(Outcome),
    /// Somebody asks for the end.
    Stop,
    /// No more patience: the machine goes down.
    KillNow,
    Prepared {
        attempt: u64,
    },
    PrepareFailed {
        attempt: u64,
        text: String,
    },
    /// A `Condition…=`, or with `assert` an `Assert…=`, does not hold.
    Unmet {
        attempt: u64,
        text: String,
        assert: bool,
    },
    Created {
        attempt: u64,
        process: Process,
    },
    CreateFailed {
        attempt: u64,
        text: String,
    },
    Started {
        attempt: u64,
    },
    StartFailed {
        attempt: u64,
        text: String,
    },
    Exited {
        process: Process,
        wait_status: i32,
        out_of_memory: bool,
    },
    /// The process is gone and no exit status will come.
    Lost {
        process: Process,
    },
    Notified {
        attempt: u64,
        notice: Notice,
    },
    /// A health check is to begin, or has had its time.
    CheckDue,
    /// A health check ended, with the begin of what it wrote.
    Checked {
        attempt: u64,
        exit_code: i32,
        output: String,
    },
    /// What `Action::Signal` wants was done.
    Signalled,
    CgroupEmpty,
    Cleaned {
        attempt: u64,
    },
    /// `State::deadline` has passed.
    Deadline,
    /// A new supervisor took over: what was under way in the old one is done again, or asked about.
    Interrupted,
    /// The runtime's answer to `Action::Query`.
    Found {
        attempt: u64,
        status: Found,
    },
}

/// What the runtime knows of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Created,
    Running,
    /// Ended, or the runtime knows nothing of it.
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Prepare {
        attempt: u64,
    },
    Create {
        attempt: u64,
    },
    Start {
        attempt: u64,
    },
    Signal {
        process: Process,
        signal: i32,
    },
    /// Ask the runtime what became of a start.
    Query {
        attempt: u64,
    },
    /// Kill the runtime's process that works for this unit.
    KillOperation,
    /// Run the health check whose turn it is.
    Check {
        attempt: u64,
    },
    /// Kill every process of the health check that runs.
    KillCheck,
    /// Kill every process of the cgroup and report when it is empty (at once, if there is none).
    KillCgroup,
    /// Let the runtime forget the container, unmount its file systems.
    Clean {
        attempt: u64,
    },
    EndMachine(MachineAction),
    /// For the unit's log.
    Remark(String),
}

/// One message of a container, sd_notify(3).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) ready: bool,
    pub(crate) reloading: bool,
    pub(crate) stopping: bool,
    /// A sign of life for the watchdog, or that there will be none.
    pub(crate) alive: bool,
    pub(crate) hangs: bool,
    /// Its main process, where that is not its first.
    pub(crate) main: Option<Process>,
    pub(crate) status: Option<String>,
    pub(crate) errno: Option<i32>,
    /// For start, run or stop: from now on.
    pub(crate) extend: Option<Duration>,
    /// Another watchdog time than the unit's.
    pub(crate) watchdog: Option<Duration>,
}
