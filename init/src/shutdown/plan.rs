//! The order of a shutdown and the deadline of each of its steps. Pure.
//!
//! ```text
//!  Up ── signal ──► Asking ── Stopping{within} ──► Stopping ─┐
//!   │                 │ 10 s, or no supervisor               │ Shutdown, deadline, or no supervisor
//!   │ Shutdown        ▼                                      ▼
//!   └──────────► Terminating (TERM, 5 s) ──► Killing (cgroup.kill, KILL, 5 s) ──► Cleaning ──► Done: reboot(2)
//!
//!  Cleaning: (Unmount ─► Detach)* ─► ReadOnly ─► Sync     each with its own deadline
//! ```
//! A file system on a device over a file on a file system takes a round for each storey: a round goes on to the next as
//! long as it got somewhere and something is left.
//!
//! A supervisor that ends meanwhile is followed by another, which is asked again; none is when it was given up.
//!
//! Every arrow is taken at the latest when the deadline of its state passes, so the sum is bounded.

use std::time::Duration;

use handoff::ShutdownKind;

use crate::settings::Timing;

/// Rounds of unmounts and detaching; each must have got somewhere.
const MAX_ROUNDS: u8 = 8;
/// As systemd: this many Ctrl-Alt-Del within [`IMPATIENCE`] skip what is left of asking.
const IMPATIENT_REQUESTS: u8 = 7;
const IMPATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Up,
    Asking { until: Duration },
    Stopping { until: Duration },
    Terminating { until: Duration },
    Killing { until: Duration },
    Cleaning { step: Step, until: Duration },
    Done,
}

/// What happens to file systems and devices, each in a child that may hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// In reverse.
    Unmount {
        round: u8,
    },
    /// Device mapper and loop devices, with what the unmounts of this round reached.
    Detach {
        round: u8,
        moved: bool,
        left: bool,
    },
    /// Whatever is still mounted writable, read-only.
    ReadOnly,
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Tick,
    /// A signal, or a person at the rescue screen: ask the supervisor first.
    Requested(ShutdownKind),
    /// A signal that says: now.
    Forced(ShutdownKind),
    /// The supervisor is about to stop its units.
    Stopping {
        within: Duration,
    },
    /// The supervisor is done.
    Shutdown(ShutdownKind),
    /// And no other will come.
    SupervisorGone,
    /// No process is left but PID 1.
    Alone,
    /// The child of the step ended. `progress`: another round may get further; `left`: something remains.
    StepDone {
        progress: bool,
        left: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send `ShutdownRequest`; answer at once with [`Event::SupervisorGone`] when nobody is there to be asked, nor will be.
    Ask(ShutdownKind),
    /// TERM (and CONT) to all but PID 1.
    Terminate,
    /// cgroup.kill and KILL to all but PID 1.
    Kill,
    Start(Step),
    /// The step's deadline passed: leave its child to itself.
    Abandon(Step),
    Reboot(ShutdownKind),
}

/// What one event leads to: at most two actions (an abandoned step and the next one).
pub(crate) type Actions = [Option<Action>; 2];

#[derive(Debug, Clone)]
pub(crate) struct Plan {
    phase: Phase,
    kind: ShutdownKind,
    impatience: (u8, Duration),
}

/// No shutdown takes longer.
pub(crate) fn longest(timing: &Timing) -> Duration {
    let processes = timing.answer_timeout + timing.stopping_max + timing.grace + timing.kill_grace;
    processes + timing.step * (2 * u32::from(MAX_ROUNDS) + 1) + timing.sync
}

impl Plan {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Up, kind: ShutdownKind::Reboot, impatience: (0, Duration::ZERO) }
    }

    pub(crate) fn kind(&self) -> ShutdownKind {
        self.kind
    }

    pub(crate) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// What a supervisor is to be asked for that comes now.
    pub(crate) fn asks(&self) -> Option<ShutdownKind> {
        matches!(self.phase, Phase::Asking { .. } | Phase::Stopping { .. }).then_some(self.kind)
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Up | Phase::Done => None,
            Phase::Asking { until }
            | Phase::Stopping { until }
            | Phase::Terminating { until }
            | Phase::Killing { until }
            | Phase::Cleaning { until, .. } => Some(until),
        }
    }

    pub(crate) fn step(&mut self, event: Event, now: Duration, timing: &Timing) -> Actions {
        use Event as E;
        use Phase as P;
        match (self.phase, event) {
            (P::Up, E::Requested(kind)) => {
                self.kind = kind;
                self.impatience = (1, now);
                self.phase = P::Asking { until: now + timing.answer_timeout };
                [Some(Action::Ask(kind)), None]
            }
            // A person who presses on is heard; one who changes his mind too, as long as units are being stopped.
            (P::Asking { .. } | P::Stopping { .. }, E::Requested(kind)) => {
                self.kind = kind;
                if self.is_impatient(now) { self.terminate(now, timing) } else { [None; 2] }
            }
            (P::Asking { .. }, E::Stopping { within }) => {
                self.phase = P::Stopping { until: now + within.min(timing.stopping_max) };
                [None; 2]
            }
            (P::Up | P::Asking { .. } | P::Stopping { .. }, E::Shutdown(kind)) => {
                // The supervisor repeats what it was asked; one who asked later is in `self.kind`.
                if self.is_up() {
                    self.kind = kind;
                }
                self.terminate(now, timing)
            }
            (P::Asking { .. } | P::Stopping { .. }, E::SupervisorGone) => self.terminate(now, timing),
            (P::Asking { until } | P::Stopping { until }, E::Tick) if now >= until => self.terminate(now, timing),
            (P::Up | P::Asking { .. } | P::Stopping { .. } | P::Terminating { .. }, E::Forced(kind)) => {
                self.kind = kind;
                self.kill(now, timing)
            }
            (P::Terminating { .. } | P::Killing { .. }, E::Alone) => {
                self.start(Step::Unmount { round: 1 }, now, timing)
            }
            (P::Terminating { until }, E::Tick) if now >= until => self.kill(now, timing),
            (P::Killing { until }, E::Tick) if now >= until => self.start(Step::Unmount { round: 1 }, now, timing),
            (P::Cleaning { step, .. }, E::StepDone { progress, left }) => self.after(step, progress, left, now, timing),
            (P::Cleaning { step, until }, E::Tick) if now >= until => {
                // What hung may let others go: the next round leaves it out, so it counts as progress.
                let next = self.after(step, true, true, now, timing);
                [Some(Action::Abandon(step)), next[0]]
            }
            _ => [None; 2],
        }
    }

    fn is_impatient(&mut self, now: Duration) -> bool {
        let (count, since) = self.impatience;
        self.impatience = if now.saturating_sub(since) <= IMPATIENCE { (count + 1, since) } else { (1, now) };
        self.impatience.0 >= IMPATIENT_REQUESTS
    }

    fn terminate(&mut self, now: Duration, timing: &Timing) -> Actions {
        self.phase = Phase::Terminating { until: now + timing.grace };
        [Some(Action::Terminate), None]
    }

    fn kill(&mut self, now: Duration, timing: &Timing) -> Actions {
        self.phase = Phase::Killing { until: now + timing.kill_grace };
        [Some(Action::Kill), None]
    }

    fn start(&mut self, step: Step, now: Duration, timing: &Timing) -> Actions {
        let limit = if step == Step::Sync { timing.sync } else { timing.step };
        self.phase = Phase::Cleaning { step, until: now + limit };
        [Some(Action::Start(step)), None]
    }

    fn after(&mut self, step: Step, progress: bool, left: bool, now: Duration, timing: &Timing) -> Actions {
        let next = match step {
            Step::Unmount { round } => Step::Detach { round, moved: progress, left },
            Step::Detach { round, moved, left: mounts_left }
                if (progress || moved) && (left || mounts_left) && round < MAX_ROUNDS =>
            {
                Step::Unmount { round: round + 1 }
            }
            Step::Detach { .. } => Step::ReadOnly,
            Step::ReadOnly => Step::Sync,
            Step::Sync => {
                self.phase = Phase::Done;
                return [Some(Action::Reboot(self.kind)), None];
            }
        };
        self.start(next, now, timing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timing = Timing::NORMAL;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    fn first(actions: Actions) -> Option<Action> {
        assert_eq!(actions[1], None);
        actions[0]
    }

    const REBOOT: Event = Event::Requested(ShutdownKind::Reboot);
    const DONE: Event = Event::StepDone { progress: false, left: false };

    #[test]
    fn an_orderly_shutdown_in_all_its_steps() {
        let mut plan = Plan::new();
        assert_eq!(first(plan.step(REBOOT, at(0), &T)), Some(Action::Ask(ShutdownKind::Reboot)));
        assert_eq!(first(plan.step(Event::Stopping { within: at(90) }, at(1), &T)), None);
        assert_eq!(plan.deadline(), Some(at(91)));
        let shutdown = Event::Shutdown(ShutdownKind::Reboot);
        assert_eq!(first(plan.step(shutdown, at(20), &T)), Some(Action::Terminate));
        let steps: Vec<_> = std::iter::once(Event::Alone)
            .chain(std::iter::repeat(DONE))
            .map_while(|event| first(plan.step(event, at(21), &T)))
            .collect();
        assert_eq!(
            steps,
            [
                Action::Start(Step::Unmount { round: 1 }),
                Action::Start(Step::Detach { round: 1, moved: false, left: false }),
                Action::Start(Step::ReadOnly),
                Action::Start(Step::Sync),
                Action::Reboot(ShutdownKind::Reboot),
            ]
        );
    }

    /// Nothing answers, nothing dies, nothing unmounts: every step is left by its deadline.
    #[test]
    fn whatever_hangs_the_end_comes_within_a_bounded_time() {
        let mut plan = Plan::new();
        plan.step(REBOOT, at(0), &T);
        plan.step(Event::Stopping { within: Duration::MAX }, at(1), &T);
        let mut now = at(1);
        let mut steps = 0;
        while let Some(until) = plan.deadline() {
            now = until;
            plan.step(Event::Tick, now, &T);
            steps += 1;
            assert!(steps < 100, "no end in sight at {:?}", plan.phase);
        }
        assert_eq!(plan.phase, Phase::Done);
        assert!(now <= longest(&T), "took {now:?}");
    }

    #[test]
    fn rounds_go_on_while_they_get_somewhere_and_devices_free_more() {
        let mut plan = Plan::new();
        plan.step(Event::Forced(ShutdownKind::PowerOff), at(0), &T);
        plan.step(Event::Alone, at(0), &T);
        let stuck = Event::StepDone { progress: false, left: true };
        let moved = Event::StepDone { progress: true, left: true };
        let mut next = |event| match first(plan.step(event, at(0), &T)) {
            Some(Action::Start(step)) => step,
            other => panic!("{other:?}"),
        };
        // The mount on a loop device goes, then the device, then the file system that held its file.
        assert_eq!(next(moved), Step::Detach { round: 1, moved: true, left: true });
        assert_eq!(next(DONE), Step::Unmount { round: 2 });
        assert_eq!(next(stuck), Step::Detach { round: 2, moved: false, left: true });
        assert_eq!(next(moved), Step::Unmount { round: 3 });
        assert_eq!(next(stuck), Step::Detach { round: 3, moved: false, left: true });
        assert_eq!(next(stuck), Step::ReadOnly);
    }

    #[test]
    fn no_answer_for_ten_seconds_and_a_supervisor_that_was_given_up_both_go_on_without_it() {
        for event in [Event::Tick, Event::SupervisorGone] {
            let mut plan = Plan::new();
            assert_eq!(plan.asks(), None);
            plan.step(REBOOT, at(0), &T);
            assert_eq!(plan.asks(), Some(ShutdownKind::Reboot));
            assert_eq!(first(plan.step(event, at(10), &T)), Some(Action::Terminate));
            assert_eq!(plan.asks(), None);
        }
    }

    /// Who comes after a death in the middle of the stopping is asked again, and has what is left of the first one's time.
    #[test]
    fn a_second_answer_does_not_lengthen_the_stopping() {
        let mut plan = Plan::new();
        plan.step(REBOOT, at(0), &T);
        plan.step(Event::Stopping { within: at(90) }, at(1), &T);
        assert_eq!(plan.asks(), Some(ShutdownKind::Reboot));
        plan.step(Event::Stopping { within: at(90) }, at(50), &T);
        assert_eq!(plan.deadline(), Some(at(91)));
    }

    #[test]
    fn seven_requests_in_two_seconds_skip_the_units() {
        let mut plan = Plan::new();
        plan.step(REBOOT, at(0), &T);
        plan.step(Event::Stopping { within: at(90) }, at(0), &T);
        let actions: Vec<_> = (0..6).map(|_| first(plan.step(REBOOT, at(1), &T))).collect();
        assert_eq!(actions, [None, None, None, None, None, Some(Action::Terminate)]);
    }

    #[test]
    fn what_a_person_asked_last_counts() {
        let mut plan = Plan::new();
        plan.step(REBOOT, at(0), &T);
        plan.step(Event::Requested(ShutdownKind::PowerOff), at(3), &T);
        plan.step(Event::Shutdown(ShutdownKind::Reboot), at(4), &T);
        assert_eq!(plan.kind(), ShutdownKind::PowerOff);
    }

    #[test]
    fn a_late_event_changes_nothing() {
        let mut plan = Plan::new();
        plan.step(Event::Forced(ShutdownKind::Halt), at(0), &T);
        plan.step(Event::Alone, at(0), &T);
        let before = plan.phase;
        for event in [REBOOT, Event::Stopping { within: at(1) }, Event::Alone, Event::SupervisorGone] {
            assert_eq!(plan.step(event, at(1), &T), [None; 2]);
        }
        assert_eq!((plan.phase, plan.kind()), (before, ShutdownKind::Halt));
    }
}
