//! All units together: jobs, order, requirement, and how many start at once. Pure as the machine of one unit is: requests and
//! events go in, effects come out, and the loop performs them.

mod follow;
mod graph;
mod job;
mod rest;
mod schedule;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(crate) use graph::Graph;
pub(crate) use job::{Job, JobId, JobKind};
pub(crate) use rest::KEPT;

use follow::Wanted;

use super::machine::{Action, Event, Now, Outcome, Policy, Process, Record, State, step};
use crate::{
    api::types::{ActiveState, Health},
    unit::{self, Links, UnitName},
};

/// Units that prepare, create and start at the same time; more only fight for the disk.
const STARTING_AT_ONCE: usize = 8;
/// A unit that was restarted so often without a stable run in between is not waited for, nor one whose next try is far away.
const FAIR_RESTARTS: u32 = 3;
const LONG_RESTART: Duration = Duration::from_secs(10);

/// A unit as the unit files describe it, as far as the engine cares.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) policy: Policy,
    pub(crate) links: Links,
    pub(crate) enabled: bool,
    /// Ordered after network-online.target.
    pub(crate) after_network: bool,
    /// A rule of the machine forbids the start: the sentence says which.
    pub(crate) forbidden: Option<String>,
    /// The pod that it is in, if that ends with its last container.
    pub(crate) ends_pod: Option<UnitName>,
    /// It ends when nobody needs it.
    pub(crate) stop_when_unneeded: bool,
    /// So long somebody waits for a job of its.
    pub(crate) job_timeout: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) plan: Plan,
    pub(crate) record: Record,
    pub(crate) job: Option<Job>,
    /// Its unit file is there. Without one it stays until it is at rest.
    pub(crate) loaded: bool,
    /// The record differs from what lies on disk.
    pub(crate) changed: bool,
}

/// What the engine wants done or known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Act {
        unit: UnitName,
        action: Action,
    },
    JobDone {
        id: JobId,
        unit: UnitName,
        result: Result<(), String>,
    },
    Health {
        unit: UnitName,
        health: Health,
    },
    /// `reason` is why it ended or failed: by the time of the telling the next start may have begun. From activating to activating:
    /// the first start of a row has failed and there will be another.
    Changed {
        unit: UnitName,
        from: ActiveState,
        to: ActiveState,
        reason: String,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Engine {
    units: BTreeMap<UnitName, Entry>,
    graph: Graph,
    /// Units with a job, and waiting ones.
    pending: BTreeSet<UnitName>,
    effects: Vec<Effect>,
    next_job: JobId,
    /// To be started because of what became of others, and when that was done last.
    wanted: BTreeMap<UnitName, Wanted>,
    fated: BTreeMap<UnitName, Duration>,
    /// Those with `stop_when_unneeded`.
    modest: BTreeSet<UnitName>,
    /// How many are starting, and how many of these are suspected to kill supervisors.
    starting: usize,
    suspects: usize,
    /// network-online.target is reached, and stays so whatever the cable does.
    network_online: bool,
    shutting_down: bool,
    gone: Vec<UnitName>,
}

impl Engine {
    pub(crate) fn units(&self) -> impl Iterator<Item = (&UnitName, &Entry)> {
        self.units.iter()
    }

    pub(crate) fn get(&self, name: &UnitName) -> Option<&Entry> {
        self.units.get(name)
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// The unit files as they are now. What runs goes on as it is; a unit whose file is gone stays until it is at rest.
    pub(crate) fn load(&mut self, plans: BTreeMap<UnitName, Plan>, now: Now) {
        for (name, entry) in &mut self.units {
            entry.loaded = plans.contains_key(name);
            if !entry.loaded {
                entry.plan.enabled = false;
            }
        }
        for (name, mut plan) in plans {
            match self.units.get_mut(&name) {
                Some(entry) => {
                    if !entry.record.state.at_rest() {
                        plan.policy.keep_learnt(&entry.plan.policy);
                    }
                    entry.changed |= entry.plan.policy != plan.policy;
                    entry.plan = plan;
                }
                None => {
                    let record = Record::new(now);
                    self.units.insert(name, Entry { plan, record, job: None, loaded: true, changed: false });
                }
            }
        }
        self.let_unloaded_go();
        self.regraph();
    }

    /// A unit as an earlier supervisor of this boot left it.
    pub(crate) fn restore(&mut self, name: UnitName, policy: Policy, record: Record, job: Option<(JobKind, bool)>) {
        match self.units.get_mut(&name) {
            Some(entry) => {
                entry.record = record;
                if !entry.record.state.at_rest() {
                    entry.plan.policy.keep_learnt(&policy);
                }
            }
            None => {
                let plan = Plan {
                    policy,
                    links: Links::default(),
                    enabled: false,
                    after_network: false,
                    forbidden: None,
                    ends_pod: None,
                    stop_when_unneeded: false,
                    job_timeout: None,
                };
                self.units.insert(name.clone(), Entry { plan, record, job: None, loaded: false, changed: false });
                self.regraph();
            }
        }
        if let Some(entry) = self.units.get_mut(&name) {
            entry.changed = true;
        }
        let counts = self.units.values().map(Entry::places);
        (self.starting, self.suspects) = counts.fold((0, 0), |sum, (place, suspect)| (sum.0 + place, sum.1 + suspect));
        if let Some((kind, underway)) = job {
            self.put_job(&name, kind);
            // Told again, a unit that ended while there was no supervisor would start a second time.
            if underway {
                self.underway(&name);
            }
        }
        self.pending.insert(name);
    }

    /// After the restores: what waited goes on.
    pub(crate) fn resume(&mut self, now: Now) {
        let is_up = |entry: &Entry| entry.record.state.active(&entry.plan.policy) == ActiveState::Active;
        let up: Vec<UnitName> = self.units.iter().filter(|(_, e)| is_up(e)).map(|(name, _)| name.clone()).collect();
        up.iter().for_each(|name| self.uphold(name, now));
        self.schedule(now);
    }

    pub(crate) fn waits_for_network(&self) -> bool {
        self.units.values().any(|entry| entry.plan.after_network && entry.record.state == State::Waiting)
    }

    /// Units that waited for the machine's network wait for it no longer.
    pub(crate) fn network_is_online(&mut self, now: Now) {
        if !self.network_online {
            self.network_online = true;
            self.schedule(now);
        }
    }

    fn regraph(&mut self) {
        let links = self.units.iter().map(|(name, entry)| (name.clone(), entry.plan.links.clone())).collect();
        self.graph = Graph::new(&links);
        let modest = self.units.iter().filter(|(_, entry)| entry.plan.stop_when_unneeded);
        self.modest = modest.map(|(name, _)| name.clone()).collect();
        self.pending.retain(|name| self.units.contains_key(name));
    }

    /// The image's stop signal and health check count where the unit names none; known when the image is.
    pub(crate) fn learn(&mut self, name: &UnitName, stop_signal: i32, health: Option<unit::Health>) {
        if let Some(entry) = self.units.get_mut(name) {
            entry.plan.policy.stop_signal = stop_signal;
            entry.plan.policy.health = health;
            entry.changed = true;
        }
    }

    /// Something happened to a unit.
    pub(crate) fn event(&mut self, name: &UnitName, event: Event, now: Now) {
        self.step(name, event, now);
        self.schedule(now);
    }

    /// What went wrong before counts no more: a person asks for it.
    pub(crate) fn forgive(&mut self, name: &UnitName, now: Now) {
        self.step(name, Event::Forgive, now);
    }

    fn step(&mut self, name: &UnitName, event: Event, now: Now) {
        let Some(entry) = self.units.get_mut(name) else { return };
        let policy = &entry.plan.policy;
        let from = entry.record.state.active(policy);
        let waited = entry.record.state == State::Waiting;
        let direct = policy.restart_direct;
        let restarts = event == Event::Deadline && matches!(entry.record.state, State::AutoRestart { .. });
        let said = |record: &Record| record.checks.as_ref().map_or(Health::None, |checks| checks.status);
        let health = said(&entry.record);
        let (record, actions) = step(policy, entry.record.clone(), event, now);
        let failed_first = from == ActiveState::Activating && record.in_a_row == 1 && entry.record.in_a_row == 0;
        entry.changed |= record != entry.record;
        let before = entry.places();
        entry.record = record;
        let after = entry.places();
        self.starting = self.starting + after.0 - before.0;
        self.suspects = self.suspects + after.1 - before.1;
        let to = entry.record.state.active(policy);
        if entry.record.state == State::Waiting {
            self.pending.insert(name.clone());
        }
        let now_health = said(&entry.record);
        if health != now_health && matches!(now_health, Health::Healthy | Health::Unhealthy) {
            self.effects.push(Effect::Health { unit: name.clone(), health: now_health });
        }
        for action in actions {
            self.effects.push(Effect::Act { unit: name.clone(), action });
        }
        if from != to || failed_first {
            let reason = entry.record.last.as_ref().map(ToString::to_string).unwrap_or_default();
            self.effects.push(Effect::Changed { unit: name.clone(), from, to, reason });
            self.follow(name, (from, to), waited, now);
        }
        if restarts && !direct {
            self.restart_with(name);
        }
    }

    /// The earliest deadline of any unit.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let deadlines = |entry: &Entry| [entry.record.deadline(), entry.record.check_deadline()];
        let wanted = self.wanted.values().map(|wanted| wanted.at);
        let jobs = self.units.values().filter_map(|entry| self.job_until(entry));
        self.units.values().flat_map(deadlines).flatten().chain(wanted).chain(jobs).min()
    }

    /// Deadlines that have passed by now.
    pub(crate) fn tick(&mut self, now: Now) {
        let past = |at: Option<Duration>| at.is_some_and(|at| at <= now.mono);
        let mut due: Vec<(UnitName, Event)> = Vec::new();
        for (name, entry) in &self.units {
            due.extend(past(entry.record.deadline()).then(|| (name.clone(), Event::Deadline)));
            due.extend(past(entry.record.check_deadline()).then(|| (name.clone(), Event::CheckDue)));
        }
        if due.is_empty() && !self.is_wanted_by(now) && !self.units.values().any(|entry| past(self.job_until(entry))) {
            return;
        }
        for (name, event) in due {
            self.step(&name, event, now);
        }
        self.schedule(now);
    }

    /// What is to be done, in order; empty afterwards.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Units whose record changed since the last call.
    pub(crate) fn take_changed(&mut self) -> Vec<UnitName> {
        let mut changed = Vec::new();
        for (name, entry) in &mut self.units {
            if std::mem::take(&mut entry.changed) {
                changed.push(name.clone());
            }
        }
        changed
    }

    /// Its record could not be written: it is tried again.
    pub(crate) fn mark_changed(&mut self, name: &UnitName) {
        if let Some(entry) = self.units.get_mut(name) {
            entry.changed = true;
        }
    }

    /// The unit whose container has this first process.
    pub(crate) fn unit_of(&self, process: Process) -> Option<UnitName> {
        let is_its = |entry: &Entry| entry.record.state.process().is_some_and(|its| its.is(&process));
        self.units.iter().find(|(_, entry)| is_its(entry)).map(|(name, _)| name.clone())
    }

    /// Every enabled unit is active, finished or failed. systemd's `is-system-running --wait` counts a unit that is to be
    /// restarted as settled at once; here it has some restarts first, because many programs come up at the second try.
    pub(crate) fn settled(&self) -> bool {
        self.units.values().filter(|entry| entry.plan.enabled).all(|entry| {
            entry.job.is_none()
                && (entry.record.state.at_rest()
                    || entry.record.state.active(&entry.plan.policy) == ActiveState::Active
                    || entry.keeps_restarting())
        })
    }

    /// Nothing runs any more and nothing is about to.
    pub(crate) fn quiet(&self) -> bool {
        self.units.values().all(|entry| entry.record.state.at_rest() && entry.job.is_none())
    }

    /// Stop everything, in the reverse of the order; nothing starts any more.
    pub(crate) fn shut_down(&mut self, now: Now) {
        self.shutting_down = true;
        let names: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in names {
            self.stop_job(&name);
        }
        self.schedule(now);
    }

    /// The shutdown's patience is over.
    pub(crate) fn kill_all(&mut self, now: Now) {
        let names: Vec<UnitName> = self.units.keys().cloned().collect();
        for name in names {
            self.step(&name, Event::KillNow, now);
        }
        self.schedule(now);
    }

    /// `None`: free to start. `Some(Ok)`: wait. `Some(Err)`: never.
    fn obstacle(&self, name: &UnitName, by_job: bool) -> Option<Result<(), Outcome>> {
        let stopping =
            |other: &UnitName| self.units.get(other).and_then(|entry| entry.job.as_ref()).is_some_and(Job::is_stopping);
        if self.graph.before(name).iter().any(stopping) {
            return Some(Ok(()));
        }
        let mut wait = !self.network_online && self.units.get(name).is_some_and(|entry| entry.plan.after_network);
        for other in self.graph.after(name) {
            let Some(entry) = self.units.get(other) else { continue };
            if entry.job.is_some() {
                wait = true;
            } else if by_job && self.graph.requires(name).contains(other) {
                let bound = || self.graph.bound_by(other).contains(name);
                match &entry.record.state {
                    // BindsTo= beside After= wants it active (unit_verify_deps() in systemd's src/core/unit.c).
                    state if entry.is_up(state) && !(entry.finished_well() && bound()) => {}
                    // systemd.unit(5): only BindsTo= wants more than that its start job was no failure.
                    _ if entry.record.skipped() && !bound() => {}
                    state if state.at_rest() => {
                        let text = match &entry.record.last {
                            Some(outcome) => format!("requires {other}, which {outcome}"),
                            None => format!("requires {other}, which is not active"),
                        };
                        return Some(Err(Outcome::Refused { text }));
                    }
                    _ if entry.keeps_restarting() => {
                        let text = format!("requires {other}, which keeps restarting: {}", entry.reason());
                        return Some(Err(Outcome::Refused { text }));
                    }
                    // It failed once and is about to try again: a requirement waits for the verdict.
                    _ => wait = true,
                }
            }
        }
        let requisite = self.units.get(name).into_iter().flat_map(|entry| &entry.plan.links.requisite);
        for other in requisite.filter(|_| by_job) {
            // A oneshot that has done its work is not.
            let is_active = |entry: &Entry| entry.record.state.active(&entry.plan.policy) == ActiveState::Active;
            if self.units.get(other).is_none_or(|entry| entry.job.is_none() && !is_active(entry)) {
                let text = format!("{other} has to be active already, and is not");
                return Some(Err(Outcome::Refused { text }));
            }
        }
        // What may have killed a supervisor starts alone, so that no other is blamed for it, or held back with it.
        let suspect = self.units.get(name).is_some_and(|entry| entry.record.deaths > 0);
        let places = if suspect || self.suspects > 0 { 1 } else { STARTING_AT_ONCE };
        (wait || self.starting >= places).then_some(Ok(()))
    }
}

impl Entry {
    /// Whether it takes one of the places for those that start, and whether it is a suspect that does: 0 or 1.
    fn places(&self) -> (usize, usize) {
        let starting = self.record.state.is_starting();
        (usize::from(starting), usize::from(starting && self.record.deaths > 0))
    }

    /// The health check whose turn it is.
    pub(crate) fn check(&self) -> Option<&unit::Health> {
        self.plan.policy.check(self.record.checks.as_ref())
    }

    /// Active, or a oneshot that has done its work.
    fn is_up(&self, state: &State) -> bool {
        let policy = &self.plan.policy;
        state.active(policy) == ActiveState::Active || self.finished_well()
    }

    fn finished_well(&self) -> bool {
        self.plan.policy.oneshot
            && self.record.state == State::Inactive
            && self.record.last.as_ref().is_some_and(|outcome| self.plan.policy.is_clean(outcome, true))
    }

    /// Nobody should wait for it any longer.
    pub(crate) fn keeps_restarting(&self) -> bool {
        let Record { state, in_a_row, .. } = &self.record;
        let waits_long = || self.plan.policy.restart_delay(*in_a_row) >= LONG_RESTART;
        *in_a_row >= FAIR_RESTARTS || (matches!(state, State::AutoRestart { .. }) && waits_long())
    }

    /// Why a start did not come to anything.
    fn reason(&self) -> String {
        self.record.last.as_ref().map_or_else(|| "did not start".to_owned(), ToString::to_string)
    }
}
