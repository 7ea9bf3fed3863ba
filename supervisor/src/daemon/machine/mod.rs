//! The life of one unit as a pure function: no clock, no I/O, no log. Everything that happens to a unit is an event, everything
//! it wants done is an action; the loop performs actions and brings back what came of them as further events.

mod begin;
mod end;
mod event;
mod health;
mod notified;
mod outcome;
mod pod;
mod policy;
mod step;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use handoff::LastEnd;
use serde::{Deserialize, Serialize};

pub(crate) use event::{Action, Event, Found, Notice};
pub(crate) use health::{Checked, Checks};
pub(crate) use outcome::{Outcome, Seconds};
#[cfg(test)]
pub(crate) use policy::RestartOn;
pub(crate) use policy::{Fate, Policy, part_of};
pub(crate) use step::step;

use crate::api::types::{ActiveState, Health};

/// A container that ended with the supervisor and had not run longer than this may be what killed it.
const JUST_STARTED: Duration = Duration::from_secs(10);

/// The moment of an event: CLOCK_MONOTONIC for everything that is measured, the wall clock (µs since 1970) for what people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) mono: Duration,
    pub(crate) wall_us: i64,
}

/// A process that no reused pid can be mistaken for. `start_ticks` 0: not known, any process of this pid is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) start_ticks: u64,
}

impl Process {
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.pid == other.pid
            && (self.start_ticks == other.start_ticks || self.start_ticks == 0 || other.start_ticks == 0)
    }
}

/// Why and at whose wish a container is taken down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) outcome: Outcome,
    /// Somebody asked for the stop: no restart follows.
    pub(crate) by_request: bool,
}

/// ```text
///            Start            Go               Prepared           Created            Started
/// Inactive ────────▶ Waiting ─────▶ Preparing ─────────▶ Creating ────────▶ Starting ────────▶ Running
///   ▲ ▲ ▲              │ ▲   limit      │ failed            │ failed, late     │ failed, exit     │ Exited ╲ Stop
///   │ │ └── Stop ──────┘ │              │                   │                  │                  │         ▼
///   │ │                  │ at           │                   ▼                  ▼                  ▼     Stopping
///   │ │             AutoRestart ◀──┐    │                 Killing ◀────────────┴──────────────────┴────────┤
///   │ │                            │    │                   │ no process left       Exited, stop timeout ──┘
///   │ │                            │    ▼                   ▼
///   │ └─ clean ───────────────────(finish)◀─────────────  Cleaning
///   │                           ╱         ╲      Cleaned, or given up
///   └── Stop ── Exited ◀── oneshot,       unclean ──▶ Failed ── Start ──▶ Waiting
///                          RemainAfterExit
/// ```
/// A condition of the unit that does not hold leads from Preparing to Inactive. A pod goes from there to Held, and from Held over
/// Cleaning to Inactive.
///
/// A supervisor that takes over sends Interrupted: Preparing and Cleaning begin anew, Creating goes over Killing back to Waiting,
/// Starting asks the runtime, Killing kills once more, Stopping sends its signal if nobody noted that it was sent.
///
/// Killing ends when the main process is reaped and the cgroup says `populated 0`; Cleaning when the runtime has forgotten the
/// container and nothing is mounted any more. A container is made only from Waiting, so two never live at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Inactive,
    /// For units it is ordered after, or for a free place among those that start at once.
    Waiting,
    Preparing {
        deadline: Option<Duration>,
    },
    /// The bundle is built and the runtime creates the container. With `abort` it is taken down as soon as that is over.
    Creating {
        deadline: Option<Duration>,
        abort: Option<Ending>,
    },
    /// Created; the runtime was told to start it. With `stop` it is stopped as soon as it runs.
    Starting {
        process: Process,
        deadline: Option<Duration>,
        stop: bool,
        /// It has said so, or need not.
        #[serde(default)]
        ready: bool,
    },
    /// `deadline`: for a oneshot its end, for a unit that notifies its word that it is ready, later its next sign of life.
    Running {
        process: Process,
        since: Duration,
        deadline: Option<Duration>,
        #[serde(default)]
        phase: Phase,
    },
    /// Got its stop signal. `timeout`: what has happened when it is not by request.
    Stopping {
        process: Process,
        kill_at: Option<Duration>,
        timeout: Option<Outcome>,
        /// The signal that is not known to be sent: many programs take a second one as "at once", so that no supervisor repeats it.
        #[serde(default)]
        unsent: Option<i32>,
    },
    Killing {
        process: Option<Process>,
        empty: bool,
        ending: Ending,
        again_at: Duration,
        tries: u8,
    },
    Cleaning {
        ending: Ending,
        give_up_at: Duration,
    },
    AutoRestart {
        at: Duration,
    },
    /// A oneshot that ended well and remains active.
    Exited,
    /// A pod: its namespaces are there, nothing of its own runs in them.
    Held,
    Failed,
}

/// What a running container says of itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Not ready yet.
    Starting,
    /// The only one for those that say nothing.
    #[default]
    Ready,
    Reloading,
    /// On its way out, by its own will.
    Stopping,
}

/// A container that was. Times in µs since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    pub(crate) began_us: i64,
    pub(crate) ended_us: i64,
    pub(crate) outcome: Outcome,
}

/// So many of them are kept.
const MAX_PAST: usize = 10;

/// All that is known of a unit's life, and all that must survive the supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) state: State,
    /// Counts the containers made for this unit in this boot; results of an earlier one are late and mean nothing.
    pub(crate) attempt: u64,
    /// When the last ones were made, for the start limit.
    pub(crate) starts: VecDeque<Duration>,
    /// Restarts since somebody (or the boot) asked for the unit.
    pub(crate) restarts: u32,
    /// Restarts without a stable run in between, for the back-off.
    pub(crate) in_a_row: u32,
    /// In how many attempts in a row the supervisor died, the last of them being `blamed`.
    #[serde(default)]
    pub(crate) deaths: u32,
    /// How many of these were kills from outside.
    #[serde(default)]
    pub(crate) kills: u32,
    #[serde(default)]
    pub(crate) blamed: u64,
    /// When the last of them was counted.
    #[serde(default)]
    pub(crate) blamed_at: Duration,
    pub(crate) last: Option<Outcome>,
    /// The last containers, the newest at the end; and when the present one was begun, in µs since 1970.
    #[serde(default)]
    pub(crate) past: VecDeque<Past>,
    #[serde(default)]
    pub(crate) began_us: i64,
    /// The container's own words, and its last error.
    #[serde(default)]
    pub(crate) status: Option<String>,
    #[serde(default)]
    pub(crate) errno: Option<i32>,
    /// The one it named with `MAINPID=`: shown, and asked to end. That its first process ends is the container's end all the same.
    #[serde(default)]
    pub(crate) main: Option<Process>,
    /// Between two signs of life; as the unit says, or the container.
    #[serde(default)]
    pub(crate) watchdog: Option<Duration>,
    /// When `RuntimeMaxSec=` ends it.
    #[serde(default)]
    pub(crate) run_until: Option<Duration>,
    /// Of its present container, or its last.
    #[serde(default)]
    pub(crate) checks: Option<Checks>,
    /// Wall clock at the last change of the active state.
    pub(crate) since_us: i64,
}

impl Record {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            state: State::Inactive,
            attempt: 0,
            starts: VecDeque::new(),
            restarts: 0,
            in_a_row: 0,
            deaths: 0,
            kills: 0,
            blamed: 0,
            blamed_at: Duration::ZERO,
            last: None,
            past: VecDeque::new(),
            began_us: 0,
            status: None,
            errno: None,
            main: None,
            watchdog: None,
            run_until: None,
            checks: None,
            since_us: now.wall_us,
        }
    }
}

impl Record {
    /// When `Event::Deadline` is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let limited = matches!(self.state, State::Running { phase: Phase::Ready | Phase::Reloading, .. });
        [self.state.deadline(), self.run_until.filter(|_| limited)].into_iter().flatten().min()
    }

    /// As long as it may live.
    pub(crate) fn main_process(&self) -> Option<Process> {
        let first = self.state.process()?;
        Some(self.main.unwrap_or(first))
    }

    /// What was found out for this attempt is still wanted.
    pub(crate) fn is_preparing(&self, attempt: u64) -> bool {
        self.attempt == attempt && matches!(self.state, State::Preparing { .. })
    }

    /// Not started for its conditions' sake: what waited for it, or requires it, goes on.
    pub(crate) fn skipped(&self) -> bool {
        self.state == State::Inactive && matches!(self.last, Some(Outcome::Skipped { .. }))
    }

    /// When `Event::CheckDue` is due.
    pub(crate) fn check_deadline(&self) -> Option<Duration> {
        let runs = matches!(self.state, State::Running { .. });
        self.checks.as_ref().filter(|_| runs).and_then(Checks::deadline)
    }

    pub(crate) fn health(&self) -> Health {
        let runs = matches!(self.state, State::Running { .. });
        self.checks.as_ref().filter(|_| runs).map_or(Health::None, |checks| checks.status)
    }

    /// The supervisor that wrote this record is dead: it may be this unit's start that killed it. `survived`: its container lives.
    pub(crate) fn count_death(&mut self, survived: bool, end: LastEnd, now: Now) {
        let blame = match self.state {
            State::Preparing { .. } | State::Creating { .. } | State::Starting { .. } => true,
            State::Running { since, .. } => !survived && now.mono.saturating_sub(since) < JUST_STARTED,
            _ => false,
        };
        if blame {
            self.deaths += 1;
            self.kills += u32::from(end == LastEnd::FromOutside);
            (self.blamed, self.blamed_at) = (self.attempt, now.mono);
        }
    }
}

impl State {
    /// When this state has lasted long enough.
    fn deadline(&self) -> Option<Duration> {
        match self {
            Self::Preparing { deadline }
            | Self::Creating { deadline, .. }
            | Self::Starting { deadline, .. }
            | Self::Running { deadline, .. }
            | Self::Stopping { kill_at: deadline, .. } => *deadline,
            Self::Killing { again_at: at, .. } | Self::Cleaning { give_up_at: at, .. } | Self::AutoRestart { at } => {
                Some(*at)
            }
            Self::Inactive | Self::Waiting | Self::Exited | Self::Held | Self::Failed => None,
        }
    }

    pub(crate) fn active(&self, policy: &Policy) -> ActiveState {
        match self {
            Self::Inactive => ActiveState::Inactive,
            Self::Running { .. } if policy.oneshot => ActiveState::Activating,
            Self::Running { phase: Phase::Starting, .. } => ActiveState::Activating,
            Self::Running { phase: Phase::Stopping, .. } => ActiveState::Deactivating,
            Self::Running { .. } | Self::Exited | Self::Held => ActiveState::Active,
            Self::Waiting
            | Self::Preparing { .. }
            | Self::Creating { .. }
            | Self::Starting { .. }
            | Self::AutoRestart { .. } => ActiveState::Activating,
            Self::Stopping { .. } | Self::Killing { .. } | Self::Cleaning { .. } => ActiveState::Deactivating,
            Self::Failed => ActiveState::Failed,
        }
    }

    /// What will come of it, as far as that is known: it ends.
    pub(crate) fn fate(&self, policy: &Policy) -> Option<Fate> {
        match self {
            Self::Killing { ending, .. } | Self::Cleaning { ending, .. } => Some(policy.fate(ending)),
            Self::Stopping { timeout: Some(outcome), .. } => {
                Some(policy.fate(&Ending { outcome: outcome.clone(), by_request: false }))
            }
            _ => None,
        }
    }

    pub(crate) fn sub_state(&self) -> &'static str {
        match self {
            Self::Inactive => "dead",
            Self::Waiting => "waiting",
            Self::Preparing { .. } => "preparing",
            Self::Creating { .. } => "creating",
            Self::Starting { .. } => "starting",
            Self::Running { phase: Phase::Starting, .. } => "starting",
            Self::Running { phase: Phase::Ready, .. } => "running",
            Self::Running { phase: Phase::Reloading, .. } => "reloading",
            Self::Running { phase: Phase::Stopping, .. } => "stopping",
            Self::Stopping { .. } => "stopping",
            Self::Killing { .. } => "killing",
            Self::Cleaning { .. } => "cleaning",
            Self::AutoRestart { .. } => "auto-restart",
            Self::Exited => "exited",
            Self::Held => "running",
            Self::Failed => "failed",
        }
    }

    /// The container's first process, as long as it may live.
    pub(crate) fn process(&self) -> Option<Process> {
        match self {
            Self::Starting { process, .. } | Self::Running { process, .. } | Self::Stopping { process, .. } => {
                Some(*process)
            }
            Self::Killing { process, .. } => *process,
            _ => None,
        }
    }

    /// Nothing of it lives, nothing is under way, nothing comes by itself.
    pub(crate) fn at_rest(&self) -> bool {
        matches!(self, Self::Inactive | Self::Exited | Self::Failed)
    }

    /// Takes one of the places for units that start at the same time.
    pub(crate) fn is_starting(&self) -> bool {
        matches!(self, Self::Preparing { .. } | Self::Creating { .. } | Self::Starting { .. })
    }
}
