//! What a unit's file says about its life, taken out of the unit so that a record on disk can carry it: a container whose file
//! is gone is still stopped the way its file said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::outcome::{Class, Outcome};
use crate::unit::{Restart, ServiceType, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// Active, or finished, only when its process ended well.
    pub(crate) oneshot: bool,
    pub(crate) remain_after_exit: bool,
    pub(crate) restart: RestartOn,
    pub(crate) restart_delay: Duration,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) stop_timeout: Option<Duration>,
    pub(crate) stop_signal: i32,
    pub(crate) start_limit_burst: u32,
    /// Zero: no limit.
    pub(crate) start_limit_interval: Duration,
}

/// The rows of systemd.service(5)'s table as the record on disk keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum RestartOn {
    No,
    OnSuccess,
    OnFailure,
    OnAbnormal,
    OnAbort,
    Always,
}

/// No restart waits longer than this for the back-off's sake.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// Restarts that come at the pace the file says, before the back-off begins.
const FREE_RESTARTS: u32 = 5;
/// A container that ran this long is stable: the back-off falls back to the start.
pub(crate) const STABLE_RUN: Duration = Duration::from_secs(60);

impl Policy {
    pub(crate) fn of(unit: &Unit) -> Self {
        let service = &unit.service;
        Self {
            oneshot: service.kind == ServiceType::Oneshot,
            remain_after_exit: service.remain_after_exit,
            restart: match service.restart {
                // There is no watchdog that could have ended it.
                Restart::No | Restart::OnWatchdog => RestartOn::No,
                Restart::OnSuccess => RestartOn::OnSuccess,
                Restart::OnFailure => RestartOn::OnFailure,
                Restart::OnAbnormal => RestartOn::OnAbnormal,
                Restart::OnAbort => RestartOn::OnAbort,
                Restart::Always => RestartOn::Always,
            },
            restart_delay: service.restart_delay,
            start_timeout: service.start_timeout,
            stop_timeout: service.stop_timeout,
            stop_signal: unit.container.stop_signal.unwrap_or(libc::SIGTERM),
            start_limit_burst: unit.start_limit_burst,
            start_limit_interval: unit.start_limit_interval,
        }
    }

    /// Whether a container that ended like this, not by request, is started again.
    pub(crate) fn restarts_after(&self, outcome: &Outcome) -> bool {
        let class = outcome.class();
        if class == Class::Final {
            return false;
        }
        match self.restart {
            RestartOn::No => false,
            RestartOn::Always => true,
            RestartOn::OnSuccess => class == Class::Clean,
            RestartOn::OnFailure => class != Class::Clean,
            RestartOn::OnAbnormal => matches!(class, Class::UncleanSignal | Class::Timeout),
            RestartOn::OnAbort => class == Class::UncleanSignal,
        }
    }

    /// `RestartSec=` for the first restarts, then doubled each time up to a minute: the start limit is what ends a quick
    /// loop, the back-off is for the slow one that the limit never sees (and for units without a limit).
    pub(crate) fn restart_delay(&self, restarts_in_a_row: u32) -> Duration {
        let doublings = restarts_in_a_row.saturating_sub(FREE_RESTARTS).min(16);
        let delay = self.restart_delay.max(Duration::from_millis(if doublings > 0 { 100 } else { 0 }));
        (delay * 2u32.pow(doublings)).min(MAX_BACK_OFF.max(self.restart_delay))
    }
}

#[cfg(test)]
impl Policy {
    pub(crate) fn plain() -> Self {
        Self {
            oneshot: false,
            remain_after_exit: false,
            restart: RestartOn::No,
            restart_delay: Duration::from_millis(100),
            start_timeout: Some(Duration::from_secs(90)),
            stop_timeout: Some(Duration::from_secs(10)),
            stop_signal: libc::SIGTERM,
            start_limit_burst: 5,
            start_limit_interval: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_follows_the_manuals_table() {
        use RestartOn::{Always, No, OnAbnormal, OnAbort, OnFailure, OnSuccess};
        let clean = Outcome::Exit { code: 0 };
        let term = Outcome::Signal { number: libc::SIGTERM, core: false };
        let code = Outcome::Exit { code: 1 };
        let abort = Outcome::Signal { number: libc::SIGABRT, core: true };
        let oom = Outcome::OutOfMemory;
        let timeout = Outcome::StartTimeout { after: Duration::from_secs(1) };
        let limit = Outcome::StartLimit { burst: 5, interval: Duration::from_secs(10), last: None };
        let table: [(RestartOn, [bool; 6]); 6] = [
            (No, [false, false, false, false, false, false]),
            (Always, [true, true, true, true, true, true]),
            (OnSuccess, [true, true, false, false, false, false]),
            (OnFailure, [false, false, true, true, true, true]),
            (OnAbnormal, [false, false, false, true, true, true]),
            (OnAbort, [false, false, false, true, true, false]),
        ];
        for (restart, expected) in table {
            let policy = Policy { restart, ..Policy::plain() };
            for (outcome, expected) in [&clean, &term, &code, &abort, &oom, &timeout].into_iter().zip(expected) {
                assert_eq!(policy.restarts_after(outcome), expected, "{restart:?} after {outcome}");
            }
            assert!(!policy.restarts_after(&limit), "{restart:?}: the start limit is the end");
        }
    }

    #[test]
    fn the_back_off_starts_after_a_few_restarts_and_has_an_end() {
        let policy = Policy::plain();
        assert_eq!(policy.restart_delay(1), Duration::from_millis(100));
        assert_eq!(policy.restart_delay(5), Duration::from_millis(100));
        assert_eq!(policy.restart_delay(6), Duration::from_millis(200));
        assert_eq!(policy.restart_delay(u32::MAX), MAX_BACK_OFF);
        let slow = Policy { restart_delay: Duration::from_secs(300), ..Policy::plain() };
        assert_eq!(slow.restart_delay(20), Duration::from_secs(300), "what the file says is never cut");
        let eager = Policy { restart_delay: Duration::ZERO, ..Policy::plain() };
        assert_eq!(eager.restart_delay(1), Duration::ZERO);
        assert!(eager.restart_delay(9) > Duration::ZERO);
    }
}
