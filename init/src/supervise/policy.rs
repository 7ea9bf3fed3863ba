//! When the supervisor is started, pinged, killed and given up. Pure: the clock and the process are outside.
//!
//! ```text
//!             due: Spawn                    died (deaths < 5)
//!   Waiting ─────────────► Running ─────────────────────────────► Waiting (back-off)
//!      ▲                    │   ▲ │ ping due: Ping
//!      │ retry              │   └─┘ pong
//!      │                    │ no pong, or its socket closed (Closing) and it did not end: Kill
//!      │                    ▼                      died (deaths < 5)
//!   GivenUp ◄──────────── Ending ───────────────────────────────► Waiting (back-off)
//!      ▲     5th death in a row, or it cannot be killed
//!      └────── any death that is the 5th: GiveUp                  retire: any state ──► Retired
//! ```
//! One that could not be killed and ends after all is started again.
//! A run of `stable_run` wipes the count of deaths. A start that fails is a death.

use std::time::Duration;

use handoff::LastEnd;

use crate::settings::Timing;

const MAX_DEATHS: usize = 5;
/// Starts for which there was no room, one second apart, before a person is asked.
const MAX_NO_ROOM: usize = 60;
const CLOSING: Duration = Duration::from_millis(200);
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Waiting {
        until: Duration,
    },
    Running {
        since: Duration,
        ping: Ping,
    },
    /// Its socket is closed. A process that ends closes its fds first: it gets a moment to be seen dead.
    Closing {
        until: Duration,
    },
    /// Told to go; `asked` means it was asked for (no failure of the supervisor).
    Ending {
        until: Duration,
        asked: bool,
    },
    GivenUp,
    /// The machine goes down: no more starts.
    Retired,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ping {
    Due { at: Duration },
    Sent { nonce: u64, until: Duration },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Tick,
    Spawned,
    SpawnFailed,
    /// It could not be started because the machine has no process, memory or fd left, or because those who were killed with
    /// the last one have not ended: that passes.
    NoRoom,
    /// Its process was reaped.
    Died,
    /// Its end of the socket is closed, or the socket broke.
    SocketClosed,
    Pong {
        nonce: u64,
    },
    /// SIGTERM to PID 1: a new supervisor, please (an update of the program, a wedged one).
    Renew,
    /// A person chose "retry" on the rescue screen.
    Retry,
    /// A shutdown began.
    Retire,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Spawn,
    Ping {
        nonce: u64,
    },
    /// SIGTERM: it may put its affairs in order.
    Terminate,
    /// SIGKILL, and why.
    Kill(&'static str),
    /// The rescue screen, and why.
    GiveUp(&'static str),
}

#[derive(Debug, Clone)]
pub(crate) struct Policy {
    state: State,
    deaths: usize,
    no_room: usize,
    nonce: u64,
}

impl Policy {
    pub(crate) fn new() -> Self {
        Self { state: State::Waiting { until: Duration::ZERO }, deaths: 0, no_room: 0, nonce: 0 }
    }

    /// Nobody is there, or nobody who does anything, and the clock does not change that.
    pub(crate) fn is_given_up(&self) -> bool {
        self.state == State::GivenUp
    }

    /// When [`Event::Tick`] is due next.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match self.state {
            State::Waiting { until } | State::Closing { until } | State::Ending { until, .. } => Some(until),
            State::Running { ping: Ping::Due { at: until } | Ping::Sent { until, .. }, .. } => Some(until),
            State::GivenUp | State::Retired => None,
        }
    }

    /// Whose doing its death is, which is yet to be told to [`Self::step`]. A kill for want of memory is not told apart from one by
    /// a person: the supervisor is the last that the kernel takes.
    pub(crate) fn who_ended_it(&self, wait_status: i32) -> LastEnd {
        match (self.state, wait_status) {
            (State::Ending { asked, .. }, _) if !asked => LastEnd::ByItself,
            // Its own end without an error is its answer to SIGTERM.
            (_, 0) => LastEnd::FromOutside,
            (_, status) => match status & 0x7f {
                libc::SIGHUP | libc::SIGINT | libc::SIGKILL | libc::SIGTERM => LastEnd::FromOutside,
                _ => LastEnd::ByItself,
            },
        }
    }

    pub(crate) fn step(&mut self, event: Event, now: Duration, timing: &Timing) -> Option<Action> {
        let (state, action) = match (self.state, event) {
            (_, Event::Retire) => (State::Retired, None),

            (State::Waiting { until }, Event::Tick) if now >= until => (self.state, Some(Action::Spawn)),
            (State::Waiting { .. }, Event::Spawned) => {
                self.no_room = 0;
                (State::Running { since: now, ping: Ping::Due { at: now + timing.ping_interval } }, None)
            }
            (State::Waiting { .. }, Event::SpawnFailed) => self.after_death(now, timing),
            (State::Waiting { .. }, Event::NoRoom) => {
                self.no_room += 1;
                if self.no_room < MAX_NO_ROOM {
                    (State::Waiting { until: now + NO_ROOM_PAUSE }, None)
                } else {
                    (State::GivenUp, Some(Action::GiveUp("the machine has no room for the supervisor")))
                }
            }

            (State::Running { since, ping: Ping::Due { at } }, Event::Tick) if now >= at => {
                self.nonce += 1;
                let ping = Ping::Sent { nonce: self.nonce, until: now + timing.ping_timeout };
                (State::Running { since, ping }, Some(Action::Ping { nonce: self.nonce }))
            }
            (State::Running { since, ping: Ping::Sent { nonce, .. } }, Event::Pong { nonce: got }) if got == nonce => {
                (State::Running { since, ping: Ping::Due { at: now + timing.ping_interval } }, None)
            }
            (State::Running { since, ping: Ping::Sent { until, .. } }, Event::Tick) if now >= until => {
                self.forgive(since, now, timing);
                self.end(now, timing, false, Action::Kill("it does not answer its ping"))
            }
            (State::Running { since, .. }, Event::SocketClosed) => {
                self.forgive(since, now, timing);
                (State::Closing { until: now + CLOSING }, None)
            }
            (State::Closing { until }, Event::Tick) if now >= until => {
                self.end(now, timing, false, Action::Kill("it closed its handoff socket"))
            }
            (State::Running { since, .. }, Event::Renew) => {
                self.forgive(since, now, timing);
                self.end(now, timing, true, Action::Terminate)
            }
            (State::Running { since, .. }, Event::Died) => {
                self.forgive(since, now, timing);
                self.after_death(now, timing)
            }

            (State::Ending { asked: true, .. }, Event::Died) => (State::Waiting { until: now }, None),
            (State::Closing { .. } | State::Ending { .. }, Event::Died) => self.after_death(now, timing),
            (State::Ending { until, asked: true }, Event::Tick) if now >= until => {
                self.end(now, timing, false, Action::Kill("it did not end when asked to"))
            }
            (State::Ending { until, .. }, Event::Tick) if now >= until => {
                (State::GivenUp, Some(Action::GiveUp("the supervisor hangs in the kernel and cannot be killed")))
            }

            // Died: it could not be killed, and has ended after all.
            (State::GivenUp, Event::Retry | Event::Renew | Event::Died) => {
                (self.deaths, self.no_room) = (0, 0);
                (State::Waiting { until: now }, None)
            }
            _ => return None,
        };
        self.state = state;
        action
    }

    fn end(&self, now: Duration, timing: &Timing, asked: bool, action: Action) -> (State, Option<Action>) {
        (State::Ending { until: now + timing.kill_timeout, asked }, Some(action))
    }

    fn forgive(&mut self, since: Duration, now: Duration, timing: &Timing) {
        if now.saturating_sub(since) >= timing.stable_run {
            self.deaths = 0;
        }
    }

    fn after_death(&mut self, now: Duration, timing: &Timing) -> (State, Option<Action>) {
        self.deaths += 1;
        if self.deaths >= MAX_DEATHS {
            return (State::GivenUp, Some(Action::GiveUp("the supervisor ended 5 times in a row")));
        }
        (State::Waiting { until: now + timing.backoff[self.deaths] }, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Timing = Timing::NORMAL;

    fn at(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    fn running(now: Duration) -> Policy {
        let mut policy = Policy::new();
        assert_eq!(policy.step(Event::Tick, now, &T), Some(Action::Spawn));
        assert_eq!(policy.step(Event::Spawned, now, &T), None);
        policy
    }

    /// Runs one life of `lived` seconds; returns the pause before the next start, or `None` when given up.
    fn one_life(policy: &mut Policy, now: &mut Duration, lived: f64) -> Option<Duration> {
        *now += at(lived);
        if let Some(Action::GiveUp(_)) = policy.step(Event::Died, *now, &T) {
            return None;
        }
        let until = policy.deadline().unwrap();
        let pause = until - *now;
        assert_eq!(policy.step(Event::Tick, until, &T), Some(Action::Spawn));
        policy.step(Event::Spawned, until, &T);
        *now = until;
        Some(pause)
    }

    #[test]
    fn five_deaths_in_a_row_end_in_the_rescue_screen_with_growing_pauses() {
        let mut now = at(0.0);
        let mut policy = running(now);
        let pauses: Vec<_> = std::iter::from_fn(|| one_life(&mut policy, &mut now, 1.0)).collect();
        assert_eq!(pauses, [at(0.1), at(0.5), at(2.0), at(5.0)]);
        assert_eq!(policy.state, State::GivenUp);
        assert_eq!(policy.deadline(), None, "a given up supervisor is not started by the clock");
        policy.step(Event::Retry, now, &T);
        assert_eq!(policy.step(Event::Tick, now, &T), Some(Action::Spawn));
    }

    #[test]
    fn a_stable_run_wipes_the_count() {
        let mut now = at(0.0);
        let mut policy = running(now);
        for _ in 0..20 {
            for _ in 0..4 {
                assert!(one_life(&mut policy, &mut now, 60.0).is_some());
            }
        }
    }

    #[test]
    fn failed_starts_count_as_deaths() {
        let mut policy = Policy::new();
        let mut now = at(0.0);
        for left in (0..5).rev() {
            assert_eq!(policy.step(Event::Tick, now, &T), Some(Action::Spawn));
            let action = policy.step(Event::SpawnFailed, now, &T);
            assert_eq!(matches!(action, Some(Action::GiveUp(_))), left == 0);
            now = policy.deadline().unwrap_or(now);
        }
    }

    #[test]
    fn want_of_room_is_waited_for_but_not_for_ever() {
        let mut policy = Policy::new();
        let mut now = at(0.0);
        let mut starts = 0;
        while policy.step(Event::Tick, now, &T) == Some(Action::Spawn) {
            starts += 1;
            policy.step(Event::NoRoom, now, &T);
            now = policy.deadline().unwrap_or(now);
        }
        assert_eq!((starts, policy.state), (MAX_NO_ROOM, State::GivenUp));
        assert_eq!(now, at(59.0));
    }

    #[test]
    fn an_answered_ping_is_repeated_and_an_unanswered_one_kills() {
        let mut policy = running(at(0.0));
        assert_eq!(policy.step(Event::Tick, at(9.9), &T), None);
        assert_eq!(policy.step(Event::Tick, at(10.0), &T), Some(Action::Ping { nonce: 1 }));
        assert_eq!(policy.step(Event::Pong { nonce: 7 }, at(11.0), &T), None);
        assert_eq!(policy.deadline(), Some(at(40.0)), "another ping's answer does not count");
        policy.step(Event::Pong { nonce: 1 }, at(12.0), &T);
        assert_eq!(policy.step(Event::Tick, at(22.0), &T), Some(Action::Ping { nonce: 2 }));
        assert!(matches!(policy.step(Event::Tick, at(52.0), &T), Some(Action::Kill(_))));
        assert_eq!(policy.step(Event::Died, at(52.1), &T), None);
        assert_eq!(policy.deadline(), Some(at(52.2)), "52 s were no stable run");
    }

    #[test]
    fn one_that_cannot_be_killed_leads_to_the_rescue_screen() {
        let mut policy = running(at(0.0));
        assert_eq!(policy.step(Event::SocketClosed, at(0.8), &T), None, "it may just be ending");
        assert!(matches!(policy.step(Event::Tick, at(1.0), &T), Some(Action::Kill(_))));
        assert!(matches!(policy.step(Event::Tick, at(31.0), &T), Some(Action::GiveUp(_))));
        assert!(policy.is_given_up());
        assert_eq!(policy.step(Event::Died, at(32.0), &T), None);
        assert_eq!(policy.step(Event::Tick, at(32.0), &T), Some(Action::Spawn), "what held it has let go");
    }

    #[test]
    fn a_crash_and_a_hang_are_its_own_doing_and_a_kill_is_somebodys() {
        use LastEnd::{ByItself, FromOutside};
        let mut policy = running(at(0.0));
        let statuses = [libc::SIGKILL, libc::SIGTERM, 0, libc::SIGABRT | 0x80, libc::SIGSEGV, 1 << 8];
        let ends = [FromOutside, FromOutside, FromOutside, ByItself, ByItself, ByItself];
        assert_eq!(statuses.map(|status| policy.who_ended_it(status)), ends);
        policy.step(Event::SocketClosed, at(1.0), &T);
        assert_eq!(policy.who_ended_it(libc::SIGKILL), FromOutside, "its descriptors go before it does");
        policy.step(Event::Tick, at(2.0), &T);
        assert_eq!(policy.who_ended_it(libc::SIGKILL), ByItself, "PID 1 had to");
        let mut policy = running(at(0.0));
        policy.step(Event::Renew, at(1.0), &T);
        assert_eq!(policy.who_ended_it(0), FromOutside);
    }

    #[test]
    fn a_renewal_is_no_failure() {
        let mut policy = running(at(0.0));
        for i in 1..20 {
            let now = at(f64::from(i));
            assert_eq!(policy.step(Event::Renew, now, &T), Some(Action::Terminate));
            policy.step(Event::Died, now, &T);
            assert_eq!(policy.step(Event::Tick, now, &T), Some(Action::Spawn));
            policy.step(Event::Spawned, now, &T);
        }
    }

    #[test]
    fn a_retired_supervisor_stays_away() {
        let mut policy = running(at(0.0));
        policy.step(Event::Retire, at(1.0), &T);
        assert_eq!(policy.step(Event::Died, at(2.0), &T), None);
        assert_eq!(policy.step(Event::Tick, at(99.0), &T), None);
        assert_eq!(policy.step(Event::Retry, at(99.0), &T), None);
    }
}
