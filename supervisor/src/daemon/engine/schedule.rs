//! Who may go now. Stops before starts where both touch; starts in the order, stops in its reverse.

use std::{collections::BTreeSet, time::Duration};

use super::{Effect, Engine, Entry, Job, JobId, JobKind, follow::is_active, graph::Transaction};
use crate::{
    api::types::ActiveState,
    daemon::machine::{Action, Event, Now, Outcome, Seconds, State},
    unit::UnitName,
};

impl Engine {
    /// Starts a unit with all it needs. The job's end comes as `Effect::JobDone`. `None`: no such unit, or the machine goes down.
    pub(crate) fn start(&mut self, name: &UnitName, now: Now) -> Option<JobId> {
        if self.shutting_down || !self.units.contains_key(name) {
            return None;
        }
        let id = self.start_with_all(name);
        self.schedule(now);
        id
    }

    /// At the boot: all enabled units at once, so that of two that conflict one is not started, and not started and stopped.
    pub(crate) fn start_enabled(&mut self, now: Now) {
        let enabled = self.units.iter().filter(|(_, entry)| entry.plan.enabled).map(|(name, _)| name.clone()).collect();
        let transaction = self.graph.transaction_of(&enabled);
        for each in self.agreed(transaction, "at the boot") {
            self.start_job(&each);
        }
        self.schedule(now);
    }

    /// Stops a unit and those that go down with it.
    pub(crate) fn stop(&mut self, name: &UnitName, now: Now) -> Option<JobId> {
        let id = self.stop_with_all(name);
        self.schedule(now);
        id
    }

    pub(super) fn start_with_all(&mut self, name: &UnitName) -> Option<JobId> {
        let mut id = None;
        let all = self.transaction(name);
        for each in &all {
            let given = self.start_job(each);
            if each == name {
                id = given;
            }
        }
        id
    }

    /// What starts with it.
    fn transaction(&mut self, name: &UnitName) -> BTreeSet<UnitName> {
        self.agreed(self.graph.transaction(name), &format!("with {name}"))
    }

    /// What starts; what may not run beside these is stopped.
    fn agreed(&mut self, Transaction { all, dropped }: Transaction, how: &str) -> BTreeSet<UnitName> {
        for (unit, winner) in dropped.into_iter().filter(|(unit, _)| !self.units.get(unit).is_none_or(is_active)) {
            let text = format!("not started {how}: {winner} is, and they conflict");
            self.effects.push(Effect::Act { unit, action: Action::Remark(text) });
        }
        self.stop_conflicts(&all);
        all
    }

    fn stop_conflicts(&mut self, all: &BTreeSet<UnitName>) {
        for each in all {
            for other in self.graph.conflicts(each).clone() {
                let idle = |entry: &Entry| !is_active(entry) && entry.job.is_none();
                if !all.contains(&other) && !self.units.get(&other).is_none_or(idle) {
                    self.stop_with_all(&other);
                }
            }
        }
    }

    pub(super) fn stop_with_all(&mut self, name: &UnitName) -> Option<JobId> {
        let mut id = None;
        for each in self.graph.depending(name) {
            let given = self.stop_job(&each);
            if each == *name {
                id = given;
            }
        }
        id
    }

    /// Stops and starts a unit, and those that require it as far as they are up.
    pub(crate) fn restart(&mut self, name: &UnitName, now: Now) -> Option<JobId> {
        if self.shutting_down {
            return None;
        }
        for each in self.graph.depending(name) {
            if each != *name && self.units.get(&each).is_some_and(is_active) {
                self.put_job(&each, JobKind::Restart);
            }
        }
        let all = self.transaction(name);
        for each in all.iter().filter(|each| *each != name) {
            self.start_job(each);
        }
        let id = self.put_job(name, JobKind::Restart);
        self.schedule(now);
        id
    }

    fn start_job(&mut self, name: &UnitName) -> Option<JobId> {
        match self.units.get(name)?.job.as_ref() {
            // A stop that has begun cannot be taken back: the start follows it.
            Some(job) if job.is_stopping() => self.put_job(name, JobKind::Restart),
            _ => self.put_job(name, JobKind::Start),
        }
    }

    pub(super) fn stop_job(&mut self, name: &UnitName) -> Option<JobId> {
        self.put_job(name, JobKind::Stop)
    }

    pub(super) fn put_job(&mut self, name: &UnitName, kind: JobKind) -> Option<JobId> {
        let next = self.next_job;
        let entry = self.units.get_mut(name)?;
        self.pending.insert(name.clone());
        if let Some(job) = &entry.job {
            if job.kind == kind {
                return Some(job.id);
            }
            let result = Err(format!("{name}: replaced by another request"));
            self.effects.push(Effect::JobDone { id: job.id, unit: name.clone(), result });
        }
        // A stop already under way serves the restart that replaces it; a restart's stop serves a stop.
        let underway = matches!(
            (&entry.job, kind),
            (
                Some(Job { kind: JobKind::Stop | JobKind::Restart, underway: true, .. }),
                JobKind::Stop | JobKind::Restart
            )
        );
        entry.job = Some(Job { id: next, kind, underway, until: None });
        entry.changed = true;
        self.next_job += 1;
        Some(next)
    }

    /// Lets every unit go that may, until nothing moves any more.
    pub(super) fn schedule(&mut self, now: Now) {
        loop {
            let mut moved = false;
            let names = std::mem::take(&mut self.pending);
            for name in &names {
                moved |= self.advance(name, now);
            }
            let added = std::mem::replace(&mut self.pending, names);
            self.pending.extend(added);
            if !moved && !self.start_wanted(now) && !self.stop_unneeded() {
                break;
            }
        }
        self.pending.retain(|name| {
            self.units.get(name).is_some_and(|entry| entry.job.is_some() || entry.record.state == State::Waiting)
        });
        self.let_unloaded_go();
    }

    /// One move of one unit, if it has one.
    fn advance(&mut self, name: &UnitName, now: Now) -> bool {
        let Some(entry) = self.units.get(name) else { return false };
        let Some(Job { kind, underway, until, .. }) = entry.job.clone() else {
            return entry.record.state == State::Waiting && self.try_go(name, false, now);
        };
        if self.job_has_timed_out(name, kind, until, now) {
            return true;
        }
        let Some(entry) = self.units.get(name) else { return false };
        let state = &entry.record.state;
        match (kind, underway) {
            (JobKind::Start, false) => {
                if entry.is_up(state) && !entry.finished_well() {
                    return self.done(name, Ok(()));
                }
                if let Some(why) = self.graph.refused(name).or(entry.plan.forbidden.as_deref()) {
                    let outcome = Outcome::Refused { text: why.to_owned() };
                    let result = Err(format!("{name}: {outcome}"));
                    self.step(name, Event::Refuse(outcome), now);
                    return self.done(name, result);
                }
                match state.active(&entry.plan.policy) {
                    // Something else takes it down: its turn comes when that is over.
                    ActiveState::Deactivating => false,
                    _ => {
                        self.step(name, Event::Start, now);
                        self.underway(name)
                    }
                }
            }
            (JobKind::Start, true) => match state {
                State::Waiting => self.try_go(name, true, now),
                State::Failed | State::AutoRestart { .. } => {
                    let result = Err(format!("{name}: {}", entry.reason()));
                    self.done(name, result)
                }
                State::Inactive if entry.finished_well() || entry.record.skipped() => self.done(name, Ok(())),
                // It ended well before anybody saw it run.
                State::Inactive if entry.record.last.as_ref().is_some_and(|o| o.exit_code() == Some(0)) => {
                    self.done(name, Ok(()))
                }
                State::Inactive => {
                    let result = Err(format!("{name}: {}", entry.reason()));
                    self.done(name, result)
                }
                _ if entry.is_up(state) => self.done(name, Ok(())),
                _ => false,
            },
            (JobKind::Stop | JobKind::Restart, false) => {
                let held = self.graph.before(name).iter().any(|later| {
                    self.units.get(later).is_some_and(|entry| {
                        entry.job.as_ref().is_some_and(Job::is_stopping) && !entry.record.state.at_rest()
                    })
                });
                // On a cycle everybody would wait for everybody.
                if held && self.graph.cycle(name).is_none() {
                    return false;
                }
                self.step(name, Event::Stop, now);
                self.underway(name)
            }
            (JobKind::Stop, true) => state.at_rest() && self.done(name, Ok(())),
            (JobKind::Restart, true) => {
                let rest = state.at_rest();
                if rest
                    && let Some(entry) = self.units.get_mut(name)
                    && let Some(job) = entry.job.as_mut()
                {
                    job.kind = JobKind::Start;
                    job.underway = false;
                    entry.changed = true;
                }
                rest
            }
        }
    }

    /// When its job is given up. The machine's end is waited for in another way.
    pub(super) fn job_until(&self, entry: &Entry) -> Option<Duration> {
        let given_up = entry.plan.job_timeout.is_some() && !self.shutting_down;
        entry.job.as_ref().and_then(|job| job.until).filter(|_| given_up)
    }

    /// `JobTimeoutSec=`: "the job will be cancelled, the unit however will not change state", systemd.unit(5). A start that has not begun
    /// does not begin. `OnFailure=` follows (job_finish_and_invalidate() in systemd's src/core/job.c).
    fn job_has_timed_out(&mut self, name: &UnitName, kind: JobKind, until: Option<Duration>, now: Now) -> bool {
        let shutting_down = self.shutting_down;
        let Some(entry) = self.units.get_mut(name) else { return false };
        let Some(patience) = entry.plan.job_timeout.filter(|_| !shutting_down) else { return false };
        let Some(until) = until else {
            if let Some(job) = &mut entry.job {
                job.until = Some(now.mono + patience);
            }
            return false;
        };
        if until > now.mono {
            return false;
        }
        let what = if kind == JobKind::Stop { "stop" } else { "start" };
        let text = format!("{name}: did not {what} within {}, as JobTimeoutSec= allows", Seconds(patience));
        let on_failure = entry.plan.links.on_failure.clone();
        if entry.record.state == State::Waiting {
            self.step(name, Event::Stop, now);
        }
        for other in &on_failure {
            self.want(other, false, now);
        }
        self.done(name, Err(text))
    }

    fn try_go(&mut self, name: &UnitName, by_job: bool, now: Now) -> bool {
        match self.obstacle(name, by_job) {
            None => self.step(name, Event::Go, now),
            Some(Err(outcome)) => self.step(name, Event::Refuse(outcome), now),
            Some(Ok(())) => return false,
        }
        true
    }

    pub(super) fn underway(&mut self, name: &UnitName) -> bool {
        if let Some(job) = self.units.get_mut(name).and_then(|entry| entry.job.as_mut()) {
            job.underway = true;
        }
        true
    }

    fn done(&mut self, name: &UnitName, result: Result<(), String>) -> bool {
        if let Some(entry) = self.units.get_mut(name)
            && let Some(job) = entry.job.take()
        {
            entry.changed = true;
            self.effects.push(Effect::JobDone { id: job.id, unit: name.clone(), result });
        }
        true
    }
}
