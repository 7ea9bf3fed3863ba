//! The transitions. One function per state, so that each can be held against its row of the diagram: here those without a
//! container, in `begin` up to the running program, in `end` from there.

use std::time::Duration;

use super::begin::Begun;
use super::end::Kill;
use super::notified::Run;
use super::policy::Policy;
use super::{Action, Event, Now, Outcome, Record, State};

/// After so many deaths of the supervisor around its start a unit is held back; kills from outside, a person's as a rule, count only
/// when one more of them would be the fifth, after which PID 1 gives up on supervisors.
const DEATHS_ALLOWED: u32 = 3;
const KILLS_ALLOWED: u32 = 4;
/// After so long a life of a supervisor PID 1 counts its deaths anew (`stable_run` of init/src/settings.rs), and kills from outside say
/// nothing about a unit.
const KILLS_FORGOTTEN: Duration = Duration::from_secs(60);

/// One event, one step.
pub(crate) fn step(policy: &Policy, record: Record, event: Event, now: Now) -> (Record, Vec<Action>) {
    let before = record.state.active(policy);
    let mut machine = Machine { policy, record, now, actions: Vec::new() };
    machine.dispatch(event);
    let Machine { mut record, actions, .. } = machine;
    if record.state.active(policy) != before {
        record.since_us = now.wall_us;
    }
    (record, actions)
}

pub(super) struct Machine<'a> {
    pub(super) policy: &'a Policy,
    pub(super) record: Record,
    pub(super) now: Now,
    actions: Vec<Action>,
}

impl Machine<'_> {
    fn dispatch(&mut self, event: Event) {
        let attempt = self.record.attempt;
        match &event {
            // Late: the container it speaks of is gone.
            Event::Prepared { attempt: of }
            | Event::PrepareFailed { attempt: of, .. }
            | Event::Unmet { attempt: of, .. }
            | Event::Created { attempt: of, .. }
            | Event::CreateFailed { attempt: of, .. }
            | Event::Started { attempt: of }
            | Event::StartFailed { attempt: of, .. }
            | Event::Found { attempt: of, .. }
            | Event::Notified { attempt: of, .. }
            | Event::Checked { attempt: of, .. }
            | Event::Cleaned { attempt: of }
                if *of != attempt => {}
            Event::Forgive => self.forgive(),
            _ => match self.record.state.clone() {
                State::Inactive | State::Failed => self.at_rest(&event),
                State::Exited => self.exited(&event),
                State::Waiting => self.waiting(event),
                State::AutoRestart { .. } => self.auto_restart(&event),
                State::Preparing { .. } if self.policy.pod => self.preparing_pod(event),
                State::Held => self.held(&event),
                State::Preparing { deadline } => self.preparing(event, deadline),
                State::Creating { deadline, abort } => self.creating(event, deadline, abort),
                State::Starting { process, deadline, stop, ready } => {
                    self.starting(event, Begun { process, deadline, stop, ready });
                }
                State::Running { process, since, deadline, phase } => {
                    self.running(event, Run { process, since, deadline, phase });
                }
                State::Stopping { process, timeout, .. } => self.stopping(event, process, timeout),
                State::Killing { process, empty, ending, again_at, tries } => {
                    self.killing(event, Kill { process, empty, ending, again_at, tries });
                }
                State::Cleaning { ending, give_up_at } => self.cleaning(event, ending, give_up_at),
            },
        }
    }

    pub(super) fn goto(&mut self, state: State) {
        self.record.state = state;
    }

    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.actions.push(Action::Remark(text.into()));
    }

    /// systemd wants `reset-failed` for that. Who only needs the unit has seen nothing: the start limit, the pause before a restart
    /// and the suspicion of killing supervisors hold for it.
    fn forgive(&mut self) {
        self.record.restarts = 0;
        self.record.in_a_row = 0;
        (self.record.deaths, self.record.kills) = (0, 0);
        self.record.starts.clear();
        if matches!(self.record.state, State::AutoRestart { .. }) {
            self.record.last = None;
            self.goto(State::Waiting);
        }
    }

    fn at_rest(&mut self, event: &Event) {
        match event {
            Event::Start => {
                (self.record.restarts, self.record.in_a_row) = (0, 0);
                self.record.last = None;
                self.goto(State::Waiting);
            }
            Event::Refuse(outcome) => self.fail(outcome.clone()),
            _ => {}
        }
    }

    fn exited(&mut self, event: &Event) {
        if matches!(event, Event::Stop | Event::KillNow) {
            self.goto(State::Inactive);
        }
    }

    fn waiting(&mut self, event: Event) {
        match event {
            Event::Go => self.go(),
            Event::Refuse(outcome) => self.fail(outcome),
            Event::Stop | Event::KillNow => self.goto(State::Inactive),
            _ => {}
        }
    }

    fn auto_restart(&mut self, event: &Event) {
        match event {
            Event::Deadline => {
                self.record.restarts = self.record.restarts.saturating_add(1);
                self.goto(State::Waiting);
            }
            Event::Stop | Event::KillNow => self.goto(State::Inactive),
            Event::Refuse(outcome) => self.fail(outcome.clone()),
            _ => {}
        }
    }

    fn go(&mut self) {
        if self.record.blamed != self.record.attempt {
            (self.record.deaths, self.record.kills) = (0, 0);
        }
        if self.now.mono.saturating_sub(self.record.blamed_at) >= KILLS_FORGOTTEN {
            self.record.deaths -= self.record.kills;
            self.record.kills = 0;
        }
        if self.held_back() {
            return;
        }
        let Policy { start_limit_burst: burst, start_limit_interval: interval, .. } = *self.policy;
        let now = self.now.mono;
        let starts = &mut self.record.starts;
        starts.retain(|at| now.saturating_sub(*at) < interval);
        if !interval.is_zero() && burst > 0 && starts.len() >= burst as usize {
            let last = self.record.last.as_ref().map(ToString::to_string);
            if let Some(action) = self.policy.actions.start_limit {
                self.act(Action::EndMachine(action));
            }
            return self.fail(Outcome::StartLimit { burst, interval, last });
        }
        if !interval.is_zero() && burst > 0 {
            starts.push_back(now);
        }
        self.record.attempt += 1;
        self.record.began_us = self.now.wall_us;
        self.record.status = None;
        self.record.errno = None;
        self.record.watchdog = self.policy.watchdog;
        self.record.run_until = None;
        self.record.main = None;
        self.goto(State::Preparing { deadline: self.policy.start_timeout.map(|t| now + t) });
        self.act(Action::Prepare { attempt: self.record.attempt });
    }

    /// Or the machine would end in the rescue screen for this one unit.
    pub(super) fn held_back(&mut self) -> bool {
        let Record { deaths, kills, .. } = self.record;
        let held_back = deaths >= KILLS_ALLOWED || deaths - kills >= DEATHS_ALLOWED;
        if held_back {
            self.fail(Outcome::Refused { text: format!("the supervisor died {deaths} times while starting it") });
        }
        held_back
    }

    pub(super) fn fail(&mut self, outcome: Outcome) {
        self.remark(outcome.to_string());
        self.record.last = Some(outcome);
        self.goto(State::Failed);
    }
}
