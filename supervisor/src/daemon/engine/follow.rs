//! What the fate of one unit means for others, as systemd.unit(5) has it: `BindsTo=`, `Upholds=`, `OnFailure=`, `OnSuccess=`, and for
//! the machine `FailureAction=` and `SuccessAction=`. A unit that is to be restarted has not failed: all this comes when it rests.

use std::time::Duration;

use super::{Effect, Engine, Entry, JobKind};
use crate::{
    api::types::ActiveState,
    daemon::machine::{Action, Fate, Now, Outcome, State},
    unit::UnitName,
};

/// Between two starts of a unit by another's fate: those that fail at once would otherwise start each other without an end.
const AGAIN: Duration = Duration::from_secs(2);

/// To be started, not before `at`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) at: Duration,
    /// As long as a unit that is up upholds it.
    upheld: bool,
}

impl Engine {
    /// After every change of an active state. `waited`: it waited for its turn before.
    pub(super) fn follow(&mut self, name: &UnitName, (from, to): (ActiveState, ActiveState), waited: bool, now: Now) {
        use ActiveState::{Active, Deactivating, Failed, Inactive};
        let Some(entry) = self.units.get(name) else { return };
        let rests = matches!(to, Inactive | Failed);
        let asked = entry.job.as_ref().is_some_and(super::Job::is_stopping);
        let (fate, direct) = (entry.record.state.fate(&entry.plan.policy), entry.plan.policy.restart_direct);
        let ends = rests || (from == Active && to == Deactivating && fate != Some(Fate::Remains));
        if !asked && !entry.finished_well() && ends {
            for bound in self.graph.bound_by(name).clone() {
                if fate == Some(Fate::Again) {
                    if !direct {
                        self.restart_those_up(&bound, name);
                    }
                } else if self.units.get(&bound).is_some_and(is_up) {
                    self.stop_with_all(&bound);
                }
            }
        }
        // Also of an end by itself (UNIT_ATOM_RETROACTIVE_STOP_ON_STOP in systemd's src/core/unit-dependency-atom.c).
        if !asked && rests && !waited {
            for other in self.graph.propagates_stop(name).clone() {
                if self.units.get(&other).is_some_and(is_up) {
                    self.stop_with_all(&other);
                }
            }
        }
        let Some(entry) = self.units.get(name) else { return };
        // It never began, so nothing of it has ended.
        let skipped = matches!(entry.record.last, Some(Outcome::Skipped { .. } | Outcome::Asserted { .. }));
        if (skipped || waited) && to == Inactive {
            return;
        }
        if !waited && entry.record.state.at_rest() {
            self.end_pod_of(name);
        }
        let Some(entry) = self.units.get(name) else { return };
        let (links, mut actions) = (&entry.plan.links, entry.plan.policy.actions);
        // systemd starts OnFailure= for a job that failed for a dependency, and ends no machine for it.
        if matches!(entry.record.last, Some(Outcome::Refused { .. })) {
            actions.failure = None;
        }
        let (then, action) = match (from, to) {
            (Inactive | Failed, _) => (None, None),
            (_, Failed) => (Some(links.on_failure.clone()), actions.failure),
            (_, Inactive) => (Some(links.on_success.clone()), actions.success),
            _ => (None, None),
        };
        if let Some(action) = action {
            self.effects.push(Effect::Act { unit: name.clone(), action: Action::EndMachine(action) });
        }
        for other in then.into_iter().flatten() {
            self.want(&other, false, now);
        }
        if rests && self.is_upheld(name) {
            self.want(name, true, now);
        }
        if to == Active {
            self.uphold(name, now);
        }
    }

    /// `ExitPolicy=stop` of podman-systemd.unit(5): this container has ended, and no other of its pod runs or is about to.
    fn end_pod_of(&mut self, name: &UnitName) {
        let Some(pod) = self.units.get(name).and_then(|entry| entry.plan.ends_pod.clone()) else { return };
        let up = self.units.get(&pod).is_some_and(|entry| is_up(entry) && entry.job.is_none());
        let ended = |entry: &Entry| {
            entry.record.state.at_rest() && entry.job.as_ref().is_none_or(|job| job.kind == JobKind::Stop)
        };
        if up && self.units.values().filter(|entry| entry.plan.ends_pod.as_ref() == Some(&pod)).all(ended) {
            self.stop_with_all(&pod);
        }
    }

    /// It restarts by itself: those that require it, or are a part of it, do so too (JOB_RESTART_DEPENDENCIES in systemd's
    /// src/core/service.c).
    pub(super) fn restart_with(&mut self, name: &UnitName) {
        self.restart_those_up(name, name);
    }

    /// This unit and those that go down with it, without the one whose restart this is for. One that has a job has other plans.
    fn restart_those_up(&mut self, first: &UnitName, but: &UnitName) {
        for each in self.graph.depending(first) {
            if each != *but && self.units.get(&each).is_some_and(|entry| is_up(entry) && entry.job.is_none()) {
                self.put_job(&each, JobKind::Restart);
            }
        }
    }

    /// What this unit, which is up, upholds.
    pub(super) fn uphold(&mut self, name: &UnitName, now: Now) {
        let Some(entry) = self.units.get(name) else { return };
        for other in entry.plan.links.upholds.clone() {
            if self.units.get(&other).is_some_and(|entry| entry.record.state.at_rest() && entry.job.is_none()) {
                self.want(&other, true, now);
            }
        }
    }

    fn is_upheld(&self, name: &UnitName) -> bool {
        self.graph.upheld_by(name).iter().any(|upholder| {
            self.units
                .get(upholder)
                .is_some_and(|entry| entry.record.state.active(&entry.plan.policy) == ActiveState::Active)
        })
    }

    /// `StopWhenUnneeded=`, as unit_is_unneeded() in systemd's src/core/unit.c has it: up, and nobody who needs it is up or is about
    /// to be. The boot needs what is enabled. True if something is stopped for it.
    pub(super) fn stop_unneeded(&mut self) -> bool {
        let needs =
            |other: &UnitName| self.units.get(other).is_some_and(|entry| entry.job.is_some() || is_active(entry));
        let is_unneeded = |name: &&UnitName| {
            self.units.get(*name).is_some_and(|entry| {
                entry.job.is_none()
                    && !entry.plan.enabled
                    && entry.record.state.active(&entry.plan.policy) == ActiveState::Active
            }) && !self.graph.needed_by(name).iter().any(needs)
        };
        let unneeded: Vec<UnitName> = self.modest.iter().filter(is_unneeded).cloned().collect();
        for name in &unneeded {
            let text = "no unit that needs it is active: it ends, as StopWhenUnneeded= has it".to_owned();
            self.effects.push(Effect::Act { unit: name.clone(), action: Action::Remark(text) });
            self.stop_with_all(name);
        }
        !unneeded.is_empty()
    }

    pub(super) fn want(&mut self, name: &UnitName, upheld: bool, now: Now) {
        if self.shutting_down || !self.units.contains_key(name) {
            return;
        }
        let at = self.fated.get(name).map_or(now.mono, |last| now.mono.max(*last + AGAIN));
        self.wanted.entry(name.clone()).or_insert(Wanted { at, upheld });
    }

    pub(super) fn is_wanted_by(&self, now: Now) -> bool {
        self.wanted.values().any(|wanted| wanted.at <= now.mono)
    }

    /// Jobs for what is wanted by now; true if there were any.
    pub(super) fn start_wanted(&mut self, now: Now) -> bool {
        let due: Vec<(UnitName, Wanted)> =
            self.wanted.extract_if(.., |_, wanted| wanted.at <= now.mono || self.shutting_down).collect();
        for (name, Wanted { upheld, .. }) in &due {
            let job = self.units.get(name).is_none_or(|entry| entry.job.is_some());
            if !self.shutting_down && !job && (!upheld || self.is_upheld(name)) {
                self.fated.insert(name.clone(), now.mono);
                self.start_with_all(name);
            }
        }
        !due.is_empty()
    }
}

/// Made, or about to be, or what remains after it.
fn is_up(entry: &Entry) -> bool {
    is_active(entry) && !matches!(entry.record.state, State::Waiting | State::AutoRestart { .. })
}

/// Anything but inactive or failed. One that has ended can be active (`RemainAfterExit=`).
pub(super) fn is_active(entry: &Entry) -> bool {
    let state = &entry.record.state;
    !state.at_rest() || state.active(&entry.plan.policy) == ActiveState::Active
}
