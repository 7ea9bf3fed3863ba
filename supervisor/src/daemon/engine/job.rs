//! Jobs: what somebody asked for and has not happened yet. At most one per unit, as in systemd; a newer wish replaces an older.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Names a job to those who wait for it.
pub(crate) type JobId = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum JobKind {
    Start,
    Stop,
    /// A stop that becomes a start.
    Restart,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) kind: JobKind,
    /// The unit was told; before, it waits for its turn.
    pub(crate) underway: bool,
    /// Then it is given up, whatever becomes of the unit.
    pub(crate) until: Option<Duration>,
}

impl Job {
    /// Its unit is to be down first.
    pub(crate) fn is_stopping(&self) -> bool {
        matches!(self.kind, JobKind::Stop | JobKind::Restart)
    }
}
