//! What a unit asks of its supervision: health, readiness, conditions, exit statuses.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Place;

/// Who may ask for a unit, and that somebody has to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requests {
    /// `RefuseManualStart=`, `RefuseManualStop=`: other units may, and no person.
    pub refuse_start: bool,
    pub refuse_stop: bool,
    /// `StopWhenUnneeded=`: it ends when no unit that is up needs it.
    pub stop_when_unneeded: bool,
    /// `JobTimeoutSec=`: whoever asked is told by then that it has not happened.
    pub job_timeout: Option<Duration>,
}

/// `Notify=`: when the unit counts as started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notify {
    /// As soon as its program runs.
    #[default]
    Runtime,
    /// When the container says READY=1.
    Container,
    /// When its health check has succeeded.
    Healthy,
}

/// `HealthCmd=` and what belongs to it; `HealthStartup…=` alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Run inside the container. Empty without `HealthCmd=`: what the image says.
    pub command: Vec<String>,
    /// `None`: never by itself (`disable`).
    pub interval: Option<Duration>,
    pub timeout: Duration,
    pub retries: u32,
    pub start_period: Duration,
    /// `HealthStartupSuccess=`
    pub successes: u32,
    pub on_failure: HealthAction,
    /// Results that are kept, and the bytes kept of what each wrote.
    pub max_log_count: usize,
    pub max_log_bytes: usize,
    /// `HealthLogDestination=events_logger`: each result is also a line of the unit's log.
    pub log_events: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthAction {
    #[default]
    None,
    Kill,
    Restart,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reload {
    Command(Vec<String>),
    Signal(i32),
}

/// One `Condition…=` or `Assert…=`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Without `Condition` or `Assert`: `PathExists`.
    pub check: &'static str,
    /// One that fails is a failure, not a start that was skipped.
    pub assert: bool,
    /// `|`: of all these, one has to hold.
    pub trigger: bool,
    /// `!`
    pub negated: bool,
    pub argument: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ExitStatuses {
    pub codes: BTreeSet<u8>,
    pub signals: BTreeSet<i32>,
}

/// What becomes of the machine: `StartLimitAction=`, `FailureAction=`, `SuccessAction=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MachineActions {
    pub start_limit: Option<MachineAction>,
    pub failure: Option<MachineAction>,
    pub success: Option<MachineAction>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineAction {
    pub end: MachineEnd,
    /// `-force`: units are killed, not stopped.
    pub force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MachineEnd {
    Reboot,
    PowerOff,
    Halt,
}

/// Where a key was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub section: &'static str,
    pub key: &'static str,
    pub file: Arc<Path>,
    pub place: Place,
}
