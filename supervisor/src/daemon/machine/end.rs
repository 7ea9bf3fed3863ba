//! From the running program to nothing being left of its container, and what comes then.

use std::time::Duration;

use super::{
    Action, Ending, Event, MAX_PAST, Outcome, Past, Phase, Process, State,
    notified::Run,
    policy::{Fate, STABLE_RUN, part_of},
    step::Machine,
};

/// Between two attempts to kill what is left in the cgroup.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// After so many the processes count as unkillable, and the unit's stop ends all the same.
const KILL_TRIES: u8 = 12;
/// For the runtime to forget a container.
pub(super) const CLEAN_TIMEOUT: Duration = Duration::from_secs(20);

/// `State::Killing`.
pub(super) struct Kill {
    pub(super) process: Option<Process>,
    pub(super) empty: bool,
    pub(super) ending: Ending,
    pub(super) again_at: Duration,
    pub(super) tries: u8,
}

pub(super) fn by_itself(outcome: Outcome) -> Ending {
    Ending { outcome, by_request: false }
}

pub(super) fn by_request(outcome: Outcome) -> Ending {
    Ending { outcome, by_request: true }
}

impl Machine<'_> {
    pub(super) fn running(&mut self, event: Event, run: Run) {
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
            Event::Deadline
                if phase != Phase::Stopping && self.record.run_until.is_some_and(|at| at <= self.now.mono) =>
            {
                let after = self.now.mono.saturating_sub(since);
                self.stop(process, Some(Outcome::RuntimeLimit { after }));
            }
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
        self.stop_by(self.policy.stop_signal, self.policy.stop_timeout, process, timeout);
    }

    pub(super) fn stop_by(
        &mut self,
        signal: i32,
        patience: Option<Duration>,
        process: Process,
        timeout: Option<Outcome>,
    ) {
        let kill_at = patience.map(|t| self.now.mono + t);
        self.goto(State::Stopping { process, kill_at, timeout, unsent: Some(signal) });
        self.ask(process, signal);
    }

    /// The main process, as KillMode=mixed has it.
    fn ask(&mut self, first: Process, signal: i32) {
        self.act(Action::Signal { process: self.record.main.unwrap_or(first), signal });
    }

    pub(super) fn stopping(&mut self, event: Event, process: Process, timeout: Option<Outcome>) {
        let by_request = timeout.is_none();
        match event {
            Event::Exited { process: of, wait_status, out_of_memory } if of.is(&process) => {
                let outcome = timeout.unwrap_or_else(|| Outcome::from_wait_status(wait_status, out_of_memory));
                self.kill(None, Ending { outcome, by_request });
            }
            Event::Lost { process: of } if of.is(&process) => {
                self.kill(None, Ending { outcome: timeout.unwrap_or(Outcome::Lost), by_request });
            }
            Event::Interrupted => {
                if let State::Stopping { unsent: Some(signal), .. } = self.record.state {
                    self.ask(process, signal);
                }
            }
            Event::Signalled => {
                if let State::Stopping { unsent, .. } = &mut self.record.state {
                    *unsent = None;
                }
            }
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

    pub(super) fn killing(&mut self, event: Event, mut kill: Kill) {
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

    pub(super) fn cleaning(&mut self, event: Event, mut ending: Ending, give_up_at: Duration) {
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
    pub(super) fn finish(&mut self, ending: Ending) {
        let (policy, fate) = (self.policy, self.policy.fate(&ending));
        let outcome = ending.outcome;
        self.remark(outcome.to_string());
        let past = Past { began_us: self.record.began_us, ended_us: self.now.wall_us, outcome: outcome.clone() };
        self.record.past.push_back(past);
        if self.record.past.len() > MAX_PAST {
            self.record.past.pop_front();
        }
        if fate == Fate::Anew {
            // Not a start that counts.
            self.record.starts.pop_back();
            return self.goto(State::Waiting);
        }
        self.record.last = Some(outcome);
        let next = match fate {
            Fate::Again => {
                self.record.in_a_row = self.record.in_a_row.saturating_add(1);
                let row = self.record.in_a_row;
                let delay = policy.restart_delay(row) + part_of(policy.restart_spread(row), self.chance());
                State::AutoRestart { at: self.now.mono + delay }
            }
            Fate::Remains => State::Exited,
            Fate::Fails => State::Failed,
            Fate::Rests | Fate::Anew => State::Inactive,
        };
        self.goto(next);
    }

    /// Differs from unit to unit and from start to start.
    pub(super) fn chance(&self) -> u64 {
        let moment = u64::from(self.now.mono.subsec_nanos()) ^ (self.record.attempt << 48);
        moment ^ self.record.began_us.unsigned_abs()
    }
}
