//! Health checks of a running container, with the meanings of podman-run(1): when the next one is due, what a result says, and
//! what follows. One at a time: the next is due an interval after the end of the last.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Action, Ending, Outcome, Phase, Seconds, notified::Run, step::Machine};
use crate::{api::types::Health as Status, unit::HealthAction};

/// What is known of the present container's health; kept over the supervisor's death.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checks {
    pub(crate) status: Status,
    /// The checks before the usual ones have not succeeded yet.
    pub(crate) startup: bool,
    pub(crate) successes: u32,
    /// Failures in a row.
    pub(crate) failures: u32,
    pub(crate) due: Option<Duration>,
    pub(crate) running: Option<Running>,
    pub(crate) log: VecDeque<Checked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    began: Duration,
    began_us: i64,
    until: Duration,
    /// Its time is over, its failure counted, its end awaited.
    late: bool,
}

/// One result. `exit_code` -1: not in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checked {
    pub(crate) began_us: i64,
    pub(crate) ended_us: i64,
    pub(crate) exit_code: i32,
    pub(crate) output: String,
}

impl Checks {
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.running.as_ref().map_or(self.due, |running| Some(running.until))
    }
}

impl Machine<'_> {
    /// Its container has just begun to run: the first check comes at once, as podman does it.
    pub(super) fn begin_checks(&mut self) {
        let interval = self.policy.health.as_ref().and_then(|health| health.interval);
        self.record.checks = self.policy.health.as_ref().map(|_| Checks {
            status: Status::Starting,
            startup: self.policy.startup_health.is_some(),
            due: interval.map(|_| self.now.mono),
            ..Checks::default()
        });
    }

    /// A check is to begin, or has not ended in its time.
    pub(super) fn check_due(&mut self, run: Run) {
        let now = self.now;
        let Some(timeout) = self.policy.check(self.record.checks.as_ref()).map(|check| check.timeout) else { return };
        let Some(checks) = &mut self.record.checks else { return };
        match &mut checks.running {
            None if checks.due.is_some_and(|at| at <= now.mono) => {
                // Who says that it is on its way out is not asked any more.
                if run.phase == Phase::Stopping {
                    return checks.due = None;
                }
                let until = now.mono + timeout;
                checks.running = Some(Running { began: now.mono, began_us: now.wall_us, until, late: false });
                self.act(Action::Check { attempt: self.record.attempt });
            }
            // Even one that cannot be killed fails anew every time.
            Some(running) if running.until <= now.mono => {
                let began = (running.began, running.began_us);
                *running = Running { began: now.mono, began_us: now.wall_us, until: now.mono + timeout, late: true };
                self.act(Action::KillCheck);
                self.count(began, -1, format!("did not end within {}", Seconds(timeout)), run);
            }
            _ => {}
        }
    }

    /// A check ended, and whatever it had left running was killed.
    pub(super) fn check_ended(&mut self, exit_code: i32, output: String, run: Run) {
        let interval = self.policy.check(self.record.checks.as_ref()).and_then(|check| check.interval);
        let Some(checks) = &mut self.record.checks else { return };
        let Some(running) = checks.running.take() else { return };
        checks.due = interval.map(|interval| self.now.mono + interval);
        if !running.late {
            self.count((running.began, running.began_us), exit_code, output, run);
        }
    }

    /// The supervisor that waited for it is gone: what it says will never be known.
    pub(super) fn check_interrupted(&mut self) {
        if let Some(checks) = &mut self.record.checks
            && checks.running.take().is_some()
        {
            checks.due = Some(self.now.mono);
            self.act(Action::KillCheck);
        }
    }

    /// One more result, and what follows from it.
    fn count(&mut self, (began, began_us): (Duration, i64), exit_code: i32, output: String, run: Run) {
        let policy = self.policy;
        let (Some(health), Some(checks)) = (&policy.health, &mut self.record.checks) else { return };
        let startup = policy.startup_health.as_ref().filter(|_| checks.startup);
        let first_line = output.lines().next().unwrap_or_default().to_owned();
        checks.log.push_back(Checked { began_us, ended_us: self.now.wall_us, exit_code, output });
        while checks.log.len() > health.max_log_count {
            checks.log.pop_front();
        }
        let mut healthy = false;
        let mut failed = None;
        match (exit_code, startup) {
            (0, Some(startup)) => {
                checks.successes += 1;
                if checks.successes >= startup.successes {
                    healthy = true;
                    (checks.startup, checks.failures) = (false, 0);
                    checks.due = health.interval.map(|_| self.now.mono);
                }
            }
            (0, None) => {
                healthy = true;
                checks.failures = 0;
            }
            (_, Some(startup)) => {
                checks.failures += 1;
                // Zero: it may fail for as long as it likes.
                failed = (startup.retries > 0 && checks.failures >= startup.retries).then_some(HealthAction::Restart);
            }
            (_, None) if began < run.since + health.start_period => {}
            (_, None) => {
                checks.failures += 1;
                failed = (checks.failures >= health.retries).then_some(health.on_failure);
            }
        }
        let failures = checks.failures;
        if health.log_events {
            self.remark(format!("health check: status {exit_code}: {first_line}"));
        }
        if healthy {
            self.healthy(run);
        } else if let Some(action) = failed {
            let restart = action == HealthAction::Restart;
            self.unhealthy(action, Outcome::Unhealthy { failures, exit_code, output: first_line, restart }, run);
        }
    }

    fn healthy(&mut self, mut run: Run) {
        self.turn(Status::Healthy, "healthy");
        if self.policy.ready_when_healthy && run.phase == Phase::Starting {
            run.phase = Phase::Ready;
            run.deadline = self.next_sign_of_life();
            self.begin_active();
            self.goto(run.into());
        }
    }

    fn unhealthy(&mut self, action: HealthAction, outcome: Outcome, run: Run) {
        self.turn(Status::Unhealthy, &outcome.to_string());
        match action {
            HealthAction::None => {}
            HealthAction::Kill => self.kill(Some(run.process), Ending { outcome, by_request: false }),
            HealthAction::Restart | HealthAction::Stop => self.stop(run.process, Some(outcome)),
        }
    }

    fn turn(&mut self, to: Status, why: &str) {
        if let Some(checks) = &mut self.record.checks
            && checks.status != to
        {
            checks.status = to;
            self.remark(why);
        }
    }
}
