//! Timers, systemd.timer(5): one pure machine for each, that is told the time and what its unit does, and says when to start it.
//!
//! ```text
//! Inactive ── start ──▶ Waiting ── its time ──▶ Running (its unit does) ── the unit rests ──▶ Waiting
//!     ▲                    │ no time will come                                                 │
//!     └──── stop ───── Elapsed ◀──────────────────────────────────────────────────────────────┘
//! ```

mod run;
mod stamps;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use run::Timers;

use super::machine::{Now, part_of};
use crate::{
    api::types::ActiveState,
    unit::{TimerSpec, Trigger},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Inactive,
    Waiting(Elapse),
    /// Its unit was started and is not at rest.
    Running,
    /// No time will come.
    Elapsed,
}

/// When it is time: by the clock of the wall, or by the one that only runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Elapse {
    pub(crate) wall_us: Option<i64>,
    pub(crate) mono: Option<Duration>,
}

/// All that must outlive the supervisor. Times of CLOCK_MONOTONIC, but for `…_us`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) state: State,
    pub(crate) since_us: i64,
    /// Of its activation.
    began: Duration,
    began_us: i64,
    triggered: Option<Duration>,
    /// Kept over reboots with `Persistent=`.
    pub(crate) triggered_us: Option<i64>,
    /// When it triggered in an earlier boot, by a clock that is ahead of this one's.
    #[serde(default)]
    ahead_us: Option<i64>,
    /// When its unit left its rest last, and came to it.
    unit_began: Option<Duration>,
    unit_ended: Option<Duration>,
}

pub(crate) struct Timer {
    pub(crate) spec: TimerSpec,
    /// The same in every run, different for each timer and machine.
    pub(crate) fixed: u64,
    pub(crate) record: Record,
}

/// A month. A clock that is set forward by more was wrong before, as that of a machine without a battery is until it learns the time; what was
/// written by it is as long ago as it is. By less, it has passed over times at which something was due.
const WRONG_US: i64 = 30 * 86_400_000_000;

fn corrected(at_us: i64, at: Duration, now: Now) -> i64 {
    let by_this_clock = now.wall_us - micros(now.mono.saturating_sub(at));
    if by_this_clock - at_us > WRONG_US { by_this_clock } else { at_us.min(now.wall_us) }
}

impl Timer {
    pub(crate) fn new(spec: TimerSpec, fixed: u64, now: Now) -> Self {
        let record = Record {
            state: State::Inactive,
            since_us: now.wall_us,
            began: now.mono,
            began_us: now.wall_us,
            triggered: None,
            triggered_us: None,
            ahead_us: None,
            unit_began: None,
            unit_ended: None,
        };
        Self { spec, fixed, record }
    }

    /// `stamp`: when it triggered last, in an earlier boot perhaps.
    pub(crate) fn start(&mut self, stamp: Option<i64>, now: Now) {
        if self.record.state != State::Inactive {
            return;
        }
        (self.record.began, self.record.began_us) = (now.mono, now.wall_us);
        self.record.triggered = None;
        // A time to come is that of a clock that was wrong, or this one is.
        self.record.triggered_us = stamp.filter(|at| *at <= now.wall_us);
        self.record.ahead_us = stamp.filter(|at| *at > now.wall_us);
        self.wait(now);
    }

    pub(crate) fn stop(&mut self, now: Now) {
        self.goto(State::Inactive, now);
    }

    /// The clock of the wall may have been set: what was triggered in its future may be triggered again. Or its file was changed.
    pub(crate) fn look_again(&mut self, now: Now) {
        let record = &mut self.record;
        record.began_us = corrected(record.began_us, record.began, now);
        record.triggered_us = match (record.triggered_us, record.triggered) {
            (Some(at), Some(mono)) => Some(corrected(at, mono, now)),
            // In an earlier boot.
            (at, _) => record.ahead_us.take_if(|at| *at <= now.wall_us).or(at).map(|at| at.min(now.wall_us)),
        };
        if matches!(self.record.state, State::Waiting(_)) {
            self.wait(now);
        }
    }

    pub(crate) fn unit_changed(&mut self, from: ActiveState, to: ActiveState, now: Now) {
        let rests = |state| matches!(state, ActiveState::Inactive | ActiveState::Failed);
        if rests(from) && !rests(to) {
            self.record.unit_began = Some(now.mono);
        }
        if rests(to) {
            self.record.unit_ended = Some(now.mono);
        }
        match self.record.state {
            State::Running if rests(to) => self.wait(now),
            // OnUnitActiveSec= and OnUnitInactiveSec= count anew.
            State::Waiting(_) | State::Elapsed => self.wait(now),
            _ => {}
        }
    }

    /// Its unit never moved: nothing to wait for.
    pub(crate) fn unit_rests(&mut self, now: Now) {
        if self.record.state == State::Running {
            self.wait(now);
        }
    }

    /// A supervisor takes over, and the unit rests, whose last container was begun at this time (µs since 1970): if that was before the
    /// timer triggered, it is due still.
    pub(crate) fn try_again(&mut self, unit_began_us: i64, now: Now) {
        if self.record.state == State::Running && self.record.triggered_us.is_some_and(|at| unit_began_us < at) {
            self.goto(State::Waiting(Elapse { wall_us: None, mono: Some(now.mono) }), now);
        }
    }

    /// True: its unit is to be started now.
    pub(crate) fn tick(&mut self, now: Now) -> bool {
        let State::Waiting(Elapse { wall_us, mono }) = self.record.state else { return false };
        let due = wall_us.is_some_and(|at| at <= now.wall_us) || mono.is_some_and(|at| at <= now.mono);
        if due {
            (self.record.triggered, self.record.triggered_us) = (Some(now.mono), Some(now.wall_us));
            self.goto(State::Running, now);
        }
        due
    }

    /// When `tick` is due, as CLOCK_MONOTONIC counts as long as nobody sets the other clock.
    pub(crate) fn deadline(&self, now: Now) -> Option<Duration> {
        let State::Waiting(elapse) = self.record.state else { return None };
        elapse.left(now).map(|left| now.mono + left)
    }

    fn wait(&mut self, now: Now) {
        let state = match self.next(now) {
            Elapse { wall_us: None, mono: None } if self.spec.remain_after_elapse => State::Elapsed,
            Elapse { wall_us: None, mono: None } => State::Inactive,
            elapse => State::Waiting(elapse),
        };
        self.goto(state, now);
    }

    fn next(&self, now: Now) -> Elapse {
        let record = &self.record;
        let chance = if self.spec.fixed_delay { self.fixed } else { self.fixed ^ u64::from(now.mono.subsec_nanos()) };
        let delay = part_of(self.spec.random_delay, chance);
        let offset = part_of(self.spec.random_offset, self.fixed);
        let mut elapse = Elapse { wall_us: None, mono: None };
        for trigger in &self.spec.triggers {
            let (base, span, once) = match trigger {
                Trigger::Calendar(calendar) => {
                    let last =
                        record.triggered_us.filter(|_| !self.spec.defer_reactivation || record.triggered.is_none());
                    let last =
                        if record.triggered_us.is_some() { last.unwrap_or(now.wall_us) } else { record.began_us };
                    // The offset shifts the whole calendar.
                    let base = last - micros(offset);
                    let next = u64::try_from(base.max(0)).ok().and_then(|base| calendar.next_after(base));
                    let next = next.and_then(|at| i64::try_from(at).ok()).map(|at| at + micros(offset) + micros(delay));
                    elapse.wall_us = next.into_iter().chain(elapse.wall_us).min();
                    continue;
                }
                Trigger::Active(span) => (Some(record.began), span, true),
                // PID 1 begins with the machine.
                Trigger::Boot(span) | Trigger::Startup(span) => (Some(Duration::ZERO), span, true),
                Trigger::UnitActive(span) => (record.unit_began.max(record.triggered), span, false),
                Trigger::UnitInactive(span) => {
                    (record.unit_ended.map(|ended| ended.max(record.triggered.unwrap_or_default())), span, false)
                }
            };
            let Some(at) = base.map(|base| base + *span) else { continue };
            // Such a one comes once.
            if once && record.triggered.is_some_and(|triggered| triggered >= at) {
                continue;
            }
            elapse.mono = Some(elapse.mono.map_or(at + delay, |other| other.min(at + delay)));
        }
        elapse
    }

    fn goto(&mut self, state: State, now: Now) {
        let active = |state: &State| *state != State::Inactive;
        if active(&self.record.state) != active(&state) {
            self.record.since_us = now.wall_us;
        }
        self.record.state = state;
    }

    pub(crate) fn sub_state(&self) -> &'static str {
        match self.record.state {
            State::Inactive => "dead",
            State::Waiting(_) => "waiting",
            State::Running => "running",
            State::Elapsed => "elapsed",
        }
    }
}

impl Elapse {
    /// How long from now; zero when it has passed.
    pub(crate) fn left(&self, now: Now) -> Option<Duration> {
        let wall = self.wall_us.map(|at| Duration::from_micros(u64::try_from(at - now.wall_us).unwrap_or(0)));
        let mono = self.mono.map(|at| at.saturating_sub(now.mono));
        wall.into_iter().chain(mono).min()
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 4)
}
