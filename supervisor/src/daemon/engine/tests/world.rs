//! A machine for the engine, without one.

use super::*;

/// The runtime does them, one at a time for each unit.
fn is_operation(action: &Action) -> bool {
    matches!(action, Action::Create { .. } | Action::Start { .. } | Action::Query { .. })
}

/// A machine that does what actions say, at once or in an order of its own, and keeps a diary.
pub(super) struct World {
    pub(super) engine: Engine,
    pub(super) now: Now,
    /// Actions not yet answered.
    pub(super) open: Vec<(UnitName, Action)>,
    pub(super) live: BTreeMap<UnitName, Process>,
    /// Units whose conditions do not hold; true: their assertions.
    pub(super) unmet: BTreeMap<UnitName, bool>,
    /// Units whose image is missing.
    pub(super) broken: BTreeSet<UnitName>,
    /// Units whose health checks fail.
    pub(super) ill: BTreeSet<UnitName>,
    pub(super) diary: Vec<String>,
    /// Units whose stop was not under way when the shutdown began: they go down in order.
    pub(super) ordered: BTreeSet<UnitName>,
    /// The number of the first job that the turn may have brought.
    pub(super) jobs_before: JobId,
    pub(super) done: BTreeMap<JobId, Result<(), String>>,
    pub(super) next_pid: u32,
}

impl World {
    pub(super) fn new(plans: &[(&str, Plan)]) -> Self {
        let now = Now { mono: Duration::from_secs(1), wall_us: 0 };
        let mut engine = Engine::default();
        engine.load(plans.iter().map(|(unit, plan)| (name(unit), plan.clone())).collect(), now);
        Self {
            engine,
            now,
            open: Vec::new(),
            live: BTreeMap::new(),
            unmet: BTreeMap::new(),
            broken: BTreeSet::new(),
            ill: BTreeSet::new(),
            diary: Vec::new(),
            ordered: BTreeSet::new(),
            jobs_before: 0,
            done: BTreeMap::new(),
            next_pid: 100,
        }
    }

    pub(super) fn take(&mut self) {
        let mut killed = Vec::new();
        for effect in self.engine.take_effects() {
            match effect {
                Effect::Act { action: Action::Remark(_), .. } => {}
                Effect::Act { unit, action } => {
                    if let (Action::Signal { .. }, true) = (&action, self.ordered.contains(&unit)) {
                        let rests = |other: &&UnitName| self.engine.get(other).is_none_or(|e| e.record.state.at_rest());
                        let first = self.engine.graph.before(&unit).iter().find(|other| !rests(other));
                        assert_eq!(first, None, "{unit} stops before it");
                    }
                    if let Action::Prepare { .. } = action {
                        // Those that came in the same turn came after it.
                        let earlier = |job: &Job| job.id < self.jobs_before;
                        let has_job = |other: &&UnitName| {
                            self.engine.get(other).is_some_and(|e| e.job.as_ref().is_some_and(earlier))
                        };
                        let first = self.engine.graph.after(&unit).iter().find(has_job);
                        assert_eq!(first, None, "{unit} starts before it");
                    }
                    if action == Action::KillOperation {
                        killed.extend(self.kill_operation(&unit));
                    } else {
                        self.open.push((unit, action));
                    }
                }
                Effect::JobDone { id, result, .. } => {
                    assert!(self.done.insert(id, result).is_none(), "job {id} ended twice");
                }
                Effect::Health { unit, health } => self.diary.push(format!("{unit} {health:?}").to_lowercase()),
                Effect::Changed { unit, from, to, reason } => match to {
                    ActiveState::Active => self.diary.push(format!("{unit} up")),
                    ActiveState::Inactive => self.diary.push(format!("{unit} down")),
                    ActiveState::Failed => self.diary.push(format!("{unit} failed")),
                    ActiveState::Activating if from == to => self.diary.push(format!("{unit} again, {reason}")),
                    _ => {}
                },
            }
        }
        self.jobs_before = self.engine.next_job;
        if !killed.is_empty() {
            killed.into_iter().for_each(|(unit, event)| self.engine.event(&unit, event, self.now));
            self.take();
        }
    }

    /// As `Runtime::kill`: what waits for the runtime is never begun, and what it was at fails.
    pub(super) fn kill_operation(&mut self, unit: &UnitName) -> Option<(UnitName, Event)> {
        let is_its = |(of, action): &mut (UnitName, Action)| of == unit && is_operation(action);
        let (of, action) = self.open.extract_if(.., is_its).next()?;
        self.open.retain(|(of, action)| of != unit || !is_operation(action));
        let text = "killed".to_owned();
        Some((
            of,
            match action {
                Action::Create { attempt } => Event::CreateFailed { attempt, text },
                Action::Start { attempt } => Event::StartFailed { attempt, text },
                _ => return None,
            },
        ))
    }

    pub(super) fn answer(&mut self, index: usize) {
        let (unit, action) = &self.open[index];
        let first = |(of, earlier): &(UnitName, Action)| of == unit && is_operation(earlier);
        let index = if is_operation(action) { self.open.iter().position(first).unwrap_or(index) } else { index };
        let (unit, action) = self.open.remove(index);
        let event = match action {
            Action::Prepare { attempt } if self.broken.contains(&unit) => {
                Event::PrepareFailed { attempt, text: "no such image".into() }
            }
            Action::Prepare { attempt } => match self.unmet.get(&unit) {
                Some(assert) => Event::Unmet { attempt, text: "ConditionHost=x".into(), assert: *assert },
                None => Event::Prepared { attempt },
            },
            Action::Create { attempt } => {
                self.next_pid += 1;
                let process = Process { pid: self.next_pid, start_ticks: 1 };
                assert!(self.live.insert(unit.clone(), process).is_none(), "{unit} lives twice");
                Event::Created { attempt, process }
            }
            Action::Start { attempt } | Action::Query { attempt } => Event::Started { attempt },
            Action::Signal { process, .. } => {
                if self.live.get(&unit) == Some(&process) {
                    self.live.remove(&unit);
                }
                Event::Exited { process, wait_status: 15, out_of_memory: false }
            }
            Action::KillCgroup => {
                if let Some(process) = self.live.remove(&unit) {
                    self.engine.event(&unit, Event::Exited { process, wait_status: 9, out_of_memory: false }, self.now);
                }
                Event::CgroupEmpty
            }
            Action::Clean { attempt } => Event::Cleaned { attempt },
            Action::Check { attempt } => {
                Event::Checked { attempt, exit_code: i32::from(self.ill.contains(&unit)), output: String::new() }
            }
            Action::EndMachine(action) => return self.diary.push(format!("{:?}", action.end).to_lowercase()),
            Action::KillOperation | Action::KillCheck | Action::Remark(_) => return,
        };
        self.engine.event(&unit, event, self.now);
    }

    /// First come, first served, until nothing is left to do.
    pub(super) fn run(&mut self) {
        self.take();
        while !self.open.is_empty() {
            self.answer(0);
            self.take();
        }
    }

    pub(super) fn start(&mut self, unit: &str) -> JobId {
        self.engine.forgive(&name(unit), self.now);
        self.engine.start(&name(unit), self.now).unwrap()
    }

    pub(super) fn state(&self, unit: &str) -> &'static str {
        self.engine.get(&name(unit)).unwrap().record.state.sub_state()
    }
}
