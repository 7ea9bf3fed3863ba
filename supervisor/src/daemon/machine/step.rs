//! The transitions. One function per state, so that each can be held against its row of the diagram.

use std::time::Duration;

use super::notified::Run;
use super::policy::{Policy, STABLE_RUN, part_of};
use super::{Action, Ending, Event, Found, MAX_PAST, Now, Outcome, Past, Phase, Process, Record, State};

/// Between two attempts to kill what is left in the cgroup.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// After so many the processes count as unkillable, and the unit's stop ends all the same.
const KILL_TRIES: u8 = 12;
/// After so many deaths of the supervisor around its start a unit is held back. PID 1 gives up on supervisors after five.
const DEATHS_ALLOWED: u32 = 3;
/// For the runtime to forget a container.
const CLEAN_TIMEOUT: Duration = Duration::from_secs(20);
/// For a runtime process that was killed to be gone.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

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
            | Event::Created { attempt: of, .. }
            | Event::CreateFailed { attempt: of, .. }
            | Event::Started { attempt: of }
            | Event::StartFailed { attempt: of, .. }
            | Event::Found { attempt: of, .. }
            | Event::Notified { attempt: of, .. }
            | Event::Checked { attempt: of, .. }
            | Event::Cleaned { attempt: of }
                if *of != attempt => {}
            _ => match self.record.state.clone() {
                State::Inactive | State::Failed => self.at_rest(&event),
                State::Exited => self.exited(&event),
                State::Waiting => self.waiting(event),
                State::AutoRestart { .. } => self.auto_restart(&event),
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

    /// Asked for anew: what went wrong before counts no more. (systemd wants `reset-failed` first; a person who asks for a
    /// start has seen the failure.)
    fn asked_for(&mut self) {
        self.record.restarts = 0;
        self.record.in_a_row = 0;
        self.record.deaths = 0;
        self.record.starts.clear();
        self.record.last = None;
        self.goto(State::Waiting);
    }

    fn at_rest(&mut self, event: &Event) {
        match event {
            Event::Start => self.asked_for(),
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
            Event::Start => self.asked_for(),
            Event::Stop | Event::KillNow => self.goto(State::Inactive),
            Event::Refuse(outcome) => self.fail(outcome.clone()),
            _ => {}
        }
    }

    fn go(&mut self) {
        if self.record.blamed != self.record.attempt {
            self.record.deaths = 0;
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
        if !interval.is_zero() {
            starts.push_back(now);
        }
        self.record.attempt += 1;
        self.record.began_us = self.now.wall_us;
        self.record.status = None;
        self.record.errno = None;
        self.record.watchdog = self.policy.watchdog;
        self.goto(State::Preparing { deadline: self.policy.start_timeout.map(|t| now + t) });
        self.act(Action::Prepare { attempt: self.record.attempt });
    }

    /// Or the machine would end in the rescue screen for this one unit.
    fn held_back(&mut self) -> bool {
        let deaths = self.record.deaths;
        if deaths >= DEATHS_ALLOWED {
            self.fail(Outcome::Refused { text: format!("the supervisor died {deaths} times while starting it") });
        }
        deaths >= DEATHS_ALLOWED
    }

    fn preparing(&mut self, event: Event, deadline: Option<Duration>) {
        match event {
            Event::Prepared { attempt } => {
                self.goto(State::Creating { deadline, abort: None });
                self.act(Action::Create { attempt });
            }
            Event::PrepareFailed { text, .. } => self.finish(by_itself(Outcome::Image { text })),
            Event::Deadline => self.finish(by_itself(self.start_timeout())),
            Event::Interrupted if self.held_back() => {}
            Event::Interrupted => self.act(Action::Prepare { attempt: self.record.attempt }),
            // The layers being unpacked are the image's, not this container's: nothing to take down.
            Event::Stop | Event::KillNow => self.finish(by_request(Outcome::Cancelled)),
            _ => {}
        }
    }

    fn creating(&mut self, event: Event, deadline: Option<Duration>, abort: Option<Ending>) {
        let patience = self.now.mono + ABORT_TIMEOUT;
        match event {
            Event::Created { attempt, process } => match abort {
                Some(ending) => self.kill(Some(process), ending),
                None => {
                    self.goto(State::Starting {
                        process,
                        deadline,
                        stop: false,
                        ready: !self.policy.says_when_ready(),
                    });
                    self.act(Action::Start { attempt });
                }
            },
            Event::Interrupted => self.kill(None, abort.unwrap_or_else(|| by_itself(Outcome::Interrupted))),
            Event::CreateFailed { text, .. } => {
                self.kill(None, abort.unwrap_or_else(|| by_itself(Outcome::Runtime { text })));
            }
            Event::Stop => {
                let deadline = Some(deadline.map_or(patience, |d| d.min(patience)));
                self.goto(State::Creating { deadline, abort: Some(by_request(Outcome::Cancelled)) });
            }
            Event::KillNow => {
                self.act(Action::KillOperation);
                self.kill(None, by_request(Outcome::Cancelled));
            }
            Event::Deadline => {
                self.act(Action::KillOperation);
                match abort {
                    None => {
                        let abort = Some(by_itself(self.start_timeout()));
                        self.goto(State::Creating { deadline: Some(patience), abort });
                    }
                    Some(ending) => self.kill(None, ending),
                }
            }
            _ => {}
        }
    }

    fn starting(&mut self, event: Event, begun: Begun) {
        let Begun { process, deadline, stop, ready } = begun;
        match event {
            Event::Interrupted => self.act(Action::Query { attempt: self.record.attempt }),
            Event::Found { attempt, status: Found::Created } => self.act(Action::Start { attempt }),
            // Its exit status is on its way, if it ran.
            Event::Found { status: Found::Nothing, .. } => {
                self.kill(Some(process), Ending { outcome: Outcome::Interrupted, by_request: stop });
            }
            Event::Started { .. } | Event::Found { status: Found::Running, .. } => {
                let phase = if ready || self.policy.oneshot { Phase::Ready } else { Phase::Starting };
                let waits = self.policy.oneshot || phase == Phase::Starting;
                let deadline = if waits { deadline } else { self.next_sign_of_life() };
                self.goto(State::Running { process, since: self.now.mono, deadline, phase });
                self.begin_checks();
                self.remark(if self.record.restarts > 0 {
                    format!("restarted, pid {}, restart {}", process.pid, self.record.restarts)
                } else {
                    format!("started, pid {}", process.pid)
                });
                if stop {
                    self.stop(process, None);
                }
            }
            Event::StartFailed { text, .. } => {
                let outcome = Outcome::Runtime { text };
                self.kill(Some(process), Ending { outcome, by_request: stop });
            }
            Event::Exited { process: of, wait_status, out_of_memory } if of.is(&process) => {
                let outcome = Outcome::from_wait_status(wait_status, out_of_memory);
                self.kill(None, Ending { outcome, by_request: stop });
            }
            Event::Lost { process: of } if of.is(&process) => self.kill(None, by_itself(Outcome::Lost)),
            // It runs already; the runtime has not said so yet.
            Event::Notified { notice, .. } => {
                let ready = ready || notice.ready;
                self.note(notice);
                self.goto(State::Starting { process, deadline, stop, ready });
            }
            Event::Stop => self.goto(State::Starting { process, deadline, stop: true, ready }),
            Event::Deadline => {
                self.act(Action::KillOperation);
                let outcome = self.start_timeout();
                self.kill(Some(process), Ending { outcome, by_request: stop });
            }
            Event::KillNow => {
                self.act(Action::KillOperation);
                self.kill(Some(process), by_request(Outcome::Cancelled));
            }
            _ => {}
        }
    }

    fn running(&mut self, event: Event, run: Run) {
        let Run { process, since, phase, .. } = run;
        if self.now.mono.saturating_sub(since) >= STABLE_RUN {
            self.record.in_a_row = 0;
        }
        match event {
            Event::Exited { process: of, wait_status, out_of_memory } if of.is(&process) => {
                let outcome = Outcome::from_wait_status(wait_status, out_of_memory);
                let silent = phase == Phase::Starting && outcome == Outcome::Exit { code: 0 };
                self.kill(None, by_itself(if silent { Outcome::NotReady } else { outcome }));
            }
            Event::Lost { process: of } if of.is(&process) => self.kill(None, by_itself(Outcome::Lost)),
            Event::Notified { notice, .. } => self.notified(notice, run),
            Event::CheckDue => self.check_due(run),
            Event::Checked { exit_code, output, .. } => self.check_ended(exit_code, output, run),
            Event::Interrupted => self.check_interrupted(),
            Event::Stop => self.stop(process, None),
            Event::Deadline => match phase {
                Phase::Stopping => {
                    let after = self.policy.stop_timeout.unwrap_or_default();
                    let outcome = Outcome::StopTimeout { after, signal: self.policy.stop_signal };
                    self.kill(Some(process), by_itself(outcome));
                }
                Phase::Ready | Phase::Reloading if !self.policy.oneshot => self.abort(process),
                _ => self.stop(process, Some(self.start_timeout())),
            },
            Event::KillNow => self.kill(Some(process), by_request(Outcome::Cancelled)),
            _ => {}
        }
    }

    pub(super) fn stop(&mut self, process: Process, timeout: Option<Outcome>) {
        let signal = self.policy.stop_signal;
        let kill_at = self.policy.stop_timeout.map(|t| self.now.mono + t);
        self.goto(State::Stopping { process, kill_at, timeout });
        self.act(Action::Signal { process, signal });
    }

    fn stopping(&mut self, event: Event, process: Process, timeout: Option<Outcome>) {
        let by_request = timeout.is_none();
        match event {
            Event::Exited { process: of, wait_status, out_of_memory } if of.is(&process) => {
                let outcome = timeout.unwrap_or_else(|| Outcome::from_wait_status(wait_status, out_of_memory));
                self.kill(None, Ending { outcome, by_request });
            }
            Event::Lost { process: of } if of.is(&process) => {
                self.kill(None, Ending { outcome: timeout.unwrap_or(Outcome::Lost), by_request });
            }
            Event::Interrupted => self.act(Action::Signal { process, signal: self.policy.stop_signal }),
            Event::Notified { notice, .. } => {
                let until = notice.extend.map(|extend| self.now.mono + extend);
                self.note(notice);
                if let State::Stopping { kill_at: Some(at), .. } = &mut self.record.state {
                    *at = until.map_or(*at, |until| until.max(*at));
                }
            }
            // What began as a timeout of the start is now wanted.
            Event::Stop => {
                if let State::Stopping { timeout, .. } = &mut self.record.state {
                    *timeout = None;
                }
            }
            Event::Deadline | Event::KillNow => {
                let after = self.policy.stop_timeout.unwrap_or_default();
                let outcome = timeout.unwrap_or(Outcome::StopTimeout { after, signal: self.policy.stop_signal });
                self.kill(Some(process), Ending { outcome, by_request });
            }
            _ => {}
        }
    }

    pub(super) fn kill(&mut self, process: Option<Process>, ending: Ending) {
        let again_at = self.now.mono + KILL_AGAIN;
        self.goto(State::Killing { process, empty: false, ending, again_at, tries: 1 });
        self.act(Action::KillCgroup);
    }

    fn killing(&mut self, event: Event, mut kill: Kill) {
        let by_request = kill.ending.by_request;
        match event {
            Event::Exited { process: of, wait_status, out_of_memory }
                if kill.process.is_some_and(|process| process.is(&of)) =>
            {
                kill.process = None;
                let outcome = Outcome::from_wait_status(wait_status, out_of_memory);
                // It ran and ended while nobody looked; SIGKILL was ours.
                if kill.ending.outcome == Outcome::Interrupted && outcome.signal() != Some(libc::SIGKILL) {
                    kill.ending.outcome = outcome;
                }
            }
            Event::Lost { process: of } if kill.process.is_some_and(|process| process.is(&of)) => kill.process = None,
            Event::Interrupted => self.act(Action::KillCgroup),
            // The runtime knows better than an exit status why the program never ran.
            Event::StartFailed { text, .. } if matches!(kill.ending.outcome, Outcome::Exit { .. }) => {
                kill.ending = Ending { outcome: Outcome::Runtime { text }, by_request };
            }
            // A create that was given up on came through after all.
            Event::Created { process, .. } => {
                kill.process = Some(process);
                kill.empty = false;
                self.act(Action::KillCgroup);
            }
            Event::CgroupEmpty => kill.empty = true,
            Event::Stop | Event::KillNow => kill.ending.by_request = true,
            Event::Deadline if kill.empty => kill.process = None,
            Event::Deadline if kill.tries >= KILL_TRIES => {
                return self.finish(Ending { outcome: Outcome::Unkillable, by_request });
            }
            Event::Deadline => {
                kill.tries += 1;
                kill.again_at = self.now.mono + KILL_AGAIN;
                self.act(Action::KillCgroup);
            }
            _ => {}
        }
        if kill.empty && kill.process.is_none() {
            self.goto(State::Cleaning { ending: kill.ending, give_up_at: self.now.mono + CLEAN_TIMEOUT });
            self.act(Action::Clean { attempt: self.record.attempt });
        } else {
            let Kill { process, empty, ending, again_at, tries } = kill;
            self.goto(State::Killing { process, empty, ending, again_at, tries });
        }
    }

    fn cleaning(&mut self, event: Event, mut ending: Ending, give_up_at: Duration) {
        match event {
            Event::Cleaned { .. } => self.finish(ending),
            Event::Interrupted => self.act(Action::Clean { attempt: self.record.attempt }),
            Event::Deadline => {
                self.act(Action::KillOperation);
                self.finish(ending);
            }
            Event::StartFailed { text, .. } if matches!(ending.outcome, Outcome::Exit { .. }) => {
                ending.outcome = Outcome::Runtime { text };
                self.goto(State::Cleaning { ending, give_up_at });
            }
            Event::Stop | Event::KillNow => {
                ending.by_request = true;
                self.goto(State::Cleaning { ending, give_up_at });
            }
            _ => {}
        }
    }

    /// Nothing of the container is left: what now?
    fn finish(&mut self, Ending { outcome, by_request }: Ending) {
        let policy = self.policy;
        self.remark(outcome.to_string());
        let past = Past { began_us: self.record.began_us, ended_us: self.now.wall_us, outcome: outcome.clone() };
        self.record.past.push_back(past);
        if self.record.past.len() > MAX_PAST {
            self.record.past.pop_front();
        }
        if outcome == Outcome::Interrupted && !by_request {
            // Not a start that counts: nothing of the unit's doing ended it.
            self.record.starts.pop_back();
            return self.goto(State::Waiting);
        }
        let clean = policy.is_clean(&outcome, by_request);
        let again = !by_request && policy.restarts_after(&outcome);
        self.record.last = Some(outcome);
        if again {
            self.record.in_a_row = self.record.in_a_row.saturating_add(1);
            let (row, now) = (self.record.in_a_row, self.now);
            let chance = u64::from(now.mono.subsec_nanos()) ^ (self.record.attempt << 48);
            let seed = chance ^ self.record.began_us.unsigned_abs();
            let delay = policy.restart_delay(row) + part_of(policy.restart_spread(row), seed);
            self.goto(State::AutoRestart { at: now.mono + delay });
        } else if !clean {
            self.goto(State::Failed);
        } else if policy.oneshot && policy.remain_after_exit && !by_request {
            self.goto(State::Exited);
        } else {
            self.goto(State::Inactive);
        }
    }

    fn fail(&mut self, outcome: Outcome) {
        self.remark(outcome.to_string());
        self.record.last = Some(outcome);
        self.goto(State::Failed);
    }

    fn start_timeout(&self) -> Outcome {
        Outcome::StartTimeout { after: self.policy.start_timeout.unwrap_or_default() }
    }
}

#[derive(Clone, Copy)]
struct Begun {
    process: Process,
    deadline: Option<Duration>,
    stop: bool,
    ready: bool,
}

struct Kill {
    process: Option<Process>,
    empty: bool,
    ending: Ending,
    again_at: Duration,
    tries: u8,
}

fn by_itself(outcome: Outcome) -> Ending {
    Ending { outcome, by_request: false }
}

fn by_request(outcome: Outcome) -> Ending {
    Ending { outcome, by_request: true }
}
