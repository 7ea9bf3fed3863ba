//! What follows from a container's own words.

use std::time::Duration;

use super::{Notice, Outcome, Phase, Process, State, step::Machine};

/// `State::Running`.
#[derive(Clone, Copy)]
pub(super) struct Run {
    pub(super) process: Process,
    pub(super) since: Duration,
    pub(super) deadline: Option<Duration>,
    pub(super) phase: Phase,
}

impl From<Run> for State {
    fn from(Run { process, since, deadline, phase }: Run) -> Self {
        Self::Running { process, since, deadline, phase }
    }
}

impl Machine<'_> {
    /// What it says of itself, as systemd takes it (sd_notify(3)).
    pub(super) fn notified(&mut self, notice: Notice, mut run: Run) {
        let (now, before) = (self.now.mono, run.phase);
        let Notice { ready, reloading, stopping, hangs, extend, .. } = notice;
        // Another span counts from now on, sd_notify(3).
        let alive = notice.alive || notice.watchdog.is_some();
        self.note(notice);
        if self.policy.oneshot {
            run.deadline = later(run.deadline, now, extend);
            return self.goto(run.into());
        }
        if reloading && before != Phase::Starting {
            run.phase = Phase::Reloading;
        }
        if ready {
            run.phase = Phase::Ready;
        }
        if stopping {
            run.phase = Phase::Stopping;
        }
        match (before, run.phase) {
            (Phase::Stopping, Phase::Stopping) | (_, Phase::Starting) => {}
            (_, Phase::Stopping) => run.deadline = self.policy.stop_timeout.map(|t| now + t),
            (Phase::Starting | Phase::Stopping, _) => run.deadline = self.next_sign_of_life(),
            (_, _) if alive => run.deadline = self.next_sign_of_life(),
            _ => {}
        }
        // Of the start, of the stop, or until the next sign of life, as systemd's service_extend_timeout() has it.
        run.deadline = later(run.deadline, now, extend);
        if before == Phase::Starting && run.phase == Phase::Ready {
            self.remark("ready");
            self.begin_active();
        }
        if let Phase::Ready | Phase::Reloading = run.phase {
            self.record.run_until = later(self.record.run_until, now, extend);
        }
        self.goto(run.into());
        if hangs && matches!(run.phase, Phase::Ready | Phase::Reloading) {
            self.abort(run.process);
        }
    }

    pub(super) fn note(&mut self, notice: Notice) {
        if let Some(text) = notice.status {
            self.record.status = (!text.is_empty()).then_some(text);
        }
        self.record.main = notice.main.or(self.record.main);
        self.record.errno = notice.errno.or(self.record.errno);
        self.record.watchdog = notice.watchdog.or(self.record.watchdog);
    }

    /// Zero: it is not watched any more.
    pub(super) fn next_sign_of_life(&self) -> Option<Duration> {
        self.record.watchdog.filter(|every| self.policy.notify && !every.is_zero()).map(|every| self.now.mono + every)
    }

    /// It hangs. SIGABRT, as systemd has it, so that it may leave a core.
    pub(super) fn abort(&mut self, process: Process) {
        let outcome = Outcome::Watchdog { after: self.record.watchdog.unwrap_or_default() };
        self.stop_by(libc::SIGABRT, self.policy.abort_timeout, process, Some(outcome));
    }
}

/// A deadline is never sooner for it, and none stays none.
fn later(deadline: Option<Duration>, now: Duration, extend: Option<Duration>) -> Option<Duration> {
    deadline.map(|at| extend.map_or(at, |extend| at.max(now + extend)))
}
