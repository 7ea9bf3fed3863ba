//! From the first step to the running program.

use std::time::Duration;

use super::{
    Action, Ending, Event, Found, Outcome, Phase, Process, State,
    end::{by_itself, by_request},
    policy::{Policy, part_of},
    step::Machine,
};

/// For a runtime process that was killed to be gone.
const ABORT_TIMEOUT: Duration = Duration::from_secs(10);

/// `State::Starting`.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    pub(super) process: Process,
    pub(super) deadline: Option<Duration>,
    pub(super) stop: bool,
    pub(super) ready: bool,
}

impl Machine<'_> {
    pub(super) fn preparing(&mut self, event: Event, deadline: Option<Duration>) {
        match event {
            Event::Prepared { attempt } => {
                self.goto(State::Creating { deadline, abort: None });
                self.act(Action::Create { attempt });
            }
            Event::Unmet { text, assert, .. } => self.unmet(text, assert),
            Event::PrepareFailed { text, .. } => self.finish(by_itself(Outcome::Image { text })),
            Event::Deadline => self.finish(by_itself(self.start_timeout())),
            Event::Interrupted if self.held_back() => {}
            Event::Interrupted => self.act(Action::Prepare { attempt: self.record.attempt }),
            // The layers being unpacked are the image's, not this container's: nothing to take down.
            Event::Stop | Event::KillNow => self.finish(by_request(Outcome::Cancelled)),
            _ => {}
        }
    }

    pub(super) fn creating(&mut self, event: Event, deadline: Option<Duration>, abort: Option<Ending>) {
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

    pub(super) fn starting(&mut self, event: Event, begun: Begun) {
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
                if phase == Phase::Ready {
                    self.begin_active();
                }
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
                let until = notice.extend.map(|extend| self.now.mono + extend);
                let deadline = deadline.map(|at| until.map_or(at, |until| until.max(at)));
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

    /// No start was made, so none is counted. After an assertion systemd's job fails and the unit is as it was, systemd.unit(5).
    pub(super) fn unmet(&mut self, text: String, assert: bool) {
        self.record.starts.pop_back();
        self.record.in_a_row = 0;
        let outcome = if assert { Outcome::Asserted { text } } else { Outcome::Skipped { text } };
        self.remark(outcome.to_string());
        self.record.last = Some(outcome);
        self.goto(State::Inactive);
    }

    /// It is active from now on. `RuntimeMaxSec=` says nothing of a oneshot, systemd.service(5).
    pub(super) fn begin_active(&mut self) {
        let Policy { oneshot, runtime_max, runtime_extra, .. } = *self.policy;
        let extra = part_of(runtime_extra, self.chance());
        self.record.run_until = runtime_max.filter(|_| !oneshot).map(|most| self.now.mono + most + extra);
    }

    pub(super) fn start_timeout(&self) -> Outcome {
        Outcome::StartTimeout { after: self.policy.start_timeout.unwrap_or_default() }
    }
}
