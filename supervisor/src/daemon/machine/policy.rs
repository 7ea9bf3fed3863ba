//! What a unit's file says about its life, taken out of the unit so that a record on disk can carry it: a container whose file
//! is gone is still stopped the way its file said.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Checks, Ending,
    outcome::{Class, Outcome},
};
use crate::unit::{ExitStatuses, Health, MachineActions, Notify, PodSpec, Restart, ServiceType, Unit};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Policy {
    /// Namespaces, and no container.
    #[serde(default)]
    pub(crate) pod: bool,
    /// Active, or finished, only when its process ended well.
    pub(crate) oneshot: bool,
    pub(crate) remain_after_exit: bool,
    /// Ready when it says so.
    #[serde(default)]
    pub(crate) notify: bool,
    /// Its health check, known when its image is; and the one before it.
    #[serde(default)]
    pub(crate) health: Option<Health>,
    #[serde(default)]
    pub(crate) startup_health: Option<Health>,
    /// Ready when it is healthy.
    #[serde(default)]
    pub(crate) ready_when_healthy: bool,
    /// Between two signs of life.
    #[serde(default)]
    pub(crate) watchdog: Option<Duration>,
    /// For so long it may be active; up to so much is added, as chance will have it.
    #[serde(default)]
    pub(crate) runtime_max: Option<Duration>,
    #[serde(default)]
    pub(crate) runtime_extra: Duration,
    pub(crate) restart: RestartOn,
    pub(crate) restart_delay: Duration,
    /// Who depends on it is not told of a restart.
    #[serde(default)]
    pub(crate) restart_direct: bool,
    /// In so many steps the delay grows to this one.
    #[serde(default)]
    pub(crate) restart_growth: Option<(u32, Duration)>,
    /// Up to so much is added, as chance will have it.
    #[serde(default)]
    pub(crate) restart_spread: Duration,
    /// Ends that are clean beside the usual ones; that forbid a restart; that force one.
    #[serde(default)]
    pub(crate) success: ExitStatuses,
    #[serde(default)]
    pub(crate) restart_prevent: ExitStatuses,
    #[serde(default)]
    pub(crate) restart_force: ExitStatuses,
    pub(crate) start_timeout: Option<Duration>,
    pub(crate) stop_timeout: Option<Duration>,
    /// The same where it hangs, and may take its time to leave a core.
    #[serde(default = "usual_stop_timeout")]
    pub(crate) abort_timeout: Option<Duration>,
    pub(crate) stop_signal: i32,
    pub(crate) start_limit_burst: u32,
    /// Zero: no limit.
    pub(crate) start_limit_interval: Duration,
    #[serde(default)]
    pub(crate) actions: MachineActions,
}

/// Podman's.
fn usual_stop_timeout() -> Option<Duration> {
    Some(Duration::from_secs(10))
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
    OnWatchdog,
    Always,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing of the unit's doing ended it: it is made once more.
    Anew,
    /// Restarted, after a pause.
    Again,
    Remains,
    Rests,
    Fails,
}

/// No restart waits longer than this for the back-off's sake.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// Restarts that come at the pace the file says, before the back-off begins.
const FREE_RESTARTS: u32 = 5;
/// A container that ran this long is stable: the back-off falls back to the start.
pub(crate) const STABLE_RUN: Duration = Duration::from_secs(60);

impl Policy {
    pub(crate) fn of_pod(pod: &PodSpec) -> Self {
        Self {
            pod: true,
            start_limit_burst: pod.start_limit_burst,
            start_limit_interval: pod.start_limit_interval,
            actions: pod.actions,
            ..Self::plain()
        }
    }

    /// What holds where no file says otherwise.
    pub(crate) fn plain() -> Self {
        Self {
            pod: false,
            oneshot: false,
            remain_after_exit: false,
            notify: false,
            health: None,
            startup_health: None,
            ready_when_healthy: false,
            watchdog: None,
            runtime_max: None,
            runtime_extra: Duration::ZERO,
            restart: RestartOn::No,
            restart_delay: Duration::from_millis(100),
            restart_direct: false,
            restart_growth: None,
            restart_spread: Duration::ZERO,
            success: ExitStatuses::default(),
            restart_prevent: ExitStatuses::default(),
            restart_force: ExitStatuses::default(),
            start_timeout: Some(Duration::from_secs(90)),
            stop_timeout: usual_stop_timeout(),
            abort_timeout: usual_stop_timeout(),
            stop_signal: libc::SIGTERM,
            start_limit_burst: 5,
            start_limit_interval: Duration::from_secs(10),
            actions: MachineActions::default(),
        }
    }

    pub(crate) fn of(unit: &Unit) -> Self {
        let service = &unit.service;
        Self {
            pod: false,
            oneshot: service.kind == ServiceType::Oneshot,
            remain_after_exit: service.remain_after_exit,
            notify: unit.container.notify == Notify::Container,
            health: unit.container.health.clone(),
            startup_health: unit.container.startup_health.clone(),
            ready_when_healthy: unit.container.notify == Notify::Healthy,
            watchdog: service.watchdog,
            runtime_max: service.runtime_max,
            runtime_extra: service.runtime_extra,
            restart: match service.restart {
                Restart::No => RestartOn::No,
                Restart::OnWatchdog => RestartOn::OnWatchdog,
                Restart::OnSuccess => RestartOn::OnSuccess,
                Restart::OnFailure => RestartOn::OnFailure,
                Restart::OnAbnormal => RestartOn::OnAbnormal,
                Restart::OnAbort => RestartOn::OnAbort,
                Restart::Always => RestartOn::Always,
            },
            restart_delay: service.restart_delay,
            restart_direct: service.restart_direct,
            restart_growth: service.restart_growth,
            restart_spread: service.restart_spread,
            success: service.success.clone(),
            restart_prevent: service.restart_prevent.clone(),
            restart_force: service.restart_force.clone(),
            start_timeout: service.start_timeout,
            stop_timeout: service.stop_timeout,
            abort_timeout: service.abort_timeout.unwrap_or(service.stop_timeout),
            stop_signal: unit.container.stop_signal.or(service.kill_signal).unwrap_or(libc::SIGTERM),
            start_limit_burst: unit.start_limit_burst,
            start_limit_interval: unit.start_limit_interval,
            actions: unit.actions,
        }
    }

    /// What lives is checked and stopped as it was started: the image's own words were learnt then.
    pub(crate) fn keep_learnt(&mut self, old: &Self) {
        self.pod = old.pod;
        self.stop_signal = old.stop_signal;
        self.health.clone_from(&old.health);
        self.startup_health.clone_from(&old.startup_health);
    }

    /// The health check whose turn it is.
    pub(crate) fn check(&self, checks: Option<&Checks>) -> Option<&Health> {
        let startup = checks.is_some_and(|checks| checks.startup);
        self.startup_health.as_ref().filter(|_| startup).or(self.health.as_ref())
    }

    /// Running is not enough to be active.
    pub(crate) fn says_when_ready(&self) -> bool {
        self.notify || self.ready_when_healthy
    }

    /// A oneshot that a signal ended has not done what it was to do (systemd.service(5), `SuccessExitStatus=`).
    fn class(&self, outcome: &Outcome) -> Class {
        match (outcome, outcome.class()) {
            _ if lists(&self.success, outcome) => Class::Clean,
            (Outcome::Signal { .. }, Class::Clean) if self.oneshot => Class::UncleanSignal,
            (_, class) => class,
        }
    }

    /// Whether this is a good end: after a stop, its signal's traces are too.
    pub(crate) fn is_clean(&self, outcome: &Outcome, by_request: bool) -> bool {
        self.class(outcome) == Class::Clean || (by_request && outcome.clean_after_stop(self.stop_signal))
    }

    /// Whether a container that ended like this, not by request, is started again.
    pub(crate) fn restarts_after(&self, outcome: &Outcome) -> bool {
        let class = self.class(outcome);
        if class == Class::Final || lists(&self.restart_prevent, outcome) {
            return false;
        }
        if lists(&self.restart_force, outcome) || matches!(outcome, Outcome::Unhealthy { restart: true, .. }) {
            return true;
        }
        match self.restart {
            RestartOn::No => false,
            RestartOn::Always => true,
            RestartOn::OnSuccess => class == Class::Clean,
            RestartOn::OnFailure => class != Class::Clean,
            RestartOn::OnAbnormal => matches!(class, Class::UncleanSignal | Class::Timeout | Class::Watchdog),
            RestartOn::OnWatchdog => class == Class::Watchdog,
            RestartOn::OnAbort => class == Class::UncleanSignal,
        }
    }

    /// What follows when nothing of a container is left. systemd.service(5): with `RemainAfterExit=` a unit whose processes ended well is
    /// active all the same.
    pub(crate) fn fate(&self, Ending { outcome, by_request }: &Ending) -> Fate {
        match self.is_clean(outcome, *by_request) {
            _ if *outcome == Outcome::Interrupted && !by_request => Fate::Anew,
            true if self.remain_after_exit && !by_request => Fate::Remains,
            _ if !by_request && self.restarts_after(outcome) => Fate::Again,
            true => Fate::Rests,
            false => Fate::Fails,
        }
    }

    /// As `RestartSteps=` and `RestartMaxDelaySec=` say, in steps of one ratio (systemd.service(5)). Without them `RestartSec=` for
    /// the first restarts, then doubled each time up to a minute: the start limit is what ends a quick loop, the back-off is for
    /// the slow one that the limit never sees (and for units without a limit).
    pub(crate) fn restart_delay(&self, restarts_in_a_row: u32) -> Duration {
        let first = self.restart_delay;
        if let Some((steps, longest)) = self.restart_growth {
            let step = restarts_in_a_row.saturating_sub(1);
            if step == 0 || steps == 0 || first.is_zero() || first >= longest {
                return first;
            }
            if step >= steps {
                return longest;
            }
            let ratio = longest.as_secs_f64() / first.as_secs_f64();
            return first.mul_f64(ratio.powf(f64::from(step) / f64::from(steps)));
        }
        let doublings = doublings(restarts_in_a_row);
        let delay = first.max(Duration::from_millis(if doublings > 0 { 100 } else { 0 }));
        (delay * 2u32.pow(doublings)).min(MAX_BACK_OFF.max(first))
    }
}

impl Policy {
    /// How much longer at most a restart may wait, so that units which failed together do not come back together:
    /// `RestartRandomizedDelaySec=`, and a quarter of the back-off that is ours.
    pub(crate) fn restart_spread(&self, restarts_in_a_row: u32) -> Duration {
        let own = self.restart_growth.is_none() && doublings(restarts_in_a_row) > 0;
        self.restart_spread + if own { self.restart_delay(restarts_in_a_row) / 4 } else { Duration::ZERO }
    }
}

fn doublings(restarts_in_a_row: u32) -> u32 {
    restarts_in_a_row.saturating_sub(FREE_RESTARTS).min(16)
}

/// A part of `most` that differs as seeds do, evenly spread (splitmix64's last step).
pub(crate) fn part_of(most: Duration, seed: u64) -> Duration {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let nanos = (u128::from(mixed) * most.as_nanos()) >> 64;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn lists(statuses: &ExitStatuses, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Exit { code } => u8::try_from(*code).is_ok_and(|code| statuses.codes.contains(&code)),
        Outcome::Signal { number, .. } => statuses.signals.contains(number),
        Outcome::OutOfMemory => statuses.signals.contains(&libc::SIGKILL),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_follows_the_manuals_table() {
        use RestartOn::{Always, No, OnAbnormal, OnAbort, OnFailure, OnSuccess, OnWatchdog};
        let clean = Outcome::Exit { code: 0 };
        let term = Outcome::Signal { number: libc::SIGTERM, core: false };
        let code = Outcome::Exit { code: 1 };
        let abort = Outcome::Signal { number: libc::SIGABRT, core: true };
        let oom = Outcome::OutOfMemory;
        let timeout = Outcome::StartTimeout { after: Duration::from_secs(1) };
        let limit = Outcome::StartLimit { burst: 5, interval: Duration::from_secs(10), last: None };
        let watchdog = Outcome::Watchdog { after: Duration::from_secs(1) };
        let table: [(RestartOn, [bool; 7]); 7] = [
            (No, [false, false, false, false, false, false, false]),
            (Always, [true, true, true, true, true, true, true]),
            (OnSuccess, [true, true, false, false, false, false, false]),
            (OnFailure, [false, false, true, true, true, true, true]),
            (OnAbnormal, [false, false, false, true, true, true, true]),
            (OnAbort, [false, false, false, true, false, false, false]),
            (OnWatchdog, [false, false, false, false, false, false, true]),
        ];
        for (restart, expected) in table {
            let policy = Policy { restart, ..Policy::plain() };
            for (outcome, expected) in
                [&clean, &term, &code, &abort, &oom, &timeout, &watchdog].into_iter().zip(expected)
            {
                assert_eq!(policy.restarts_after(outcome), expected, "{restart:?} after {outcome}");
            }
            assert!(!policy.restarts_after(&limit), "{restart:?}: the start limit is the end");
            let as_timeout = policy.restarts_after(&timeout);
            assert_eq!(policy.restarts_after(&Outcome::NotReady), as_timeout, "{restart:?} after result protocol");
        }
        let oneshot = Policy { oneshot: true, restart: OnFailure, ..Policy::plain() };
        assert!(oneshot.restarts_after(&term) && !oneshot.is_clean(&term, false), "shot down is not done");
        assert!(oneshot.is_clean(&term, true) && oneshot.is_clean(&clean, false));
    }

    #[test]
    fn listed_ends_are_clean_final_or_a_reason_to_go_on() {
        let list = |codes: &[u8], signals: &[i32]| ExitStatuses {
            codes: codes.iter().copied().collect(),
            signals: signals.iter().copied().collect(),
        };
        let policy = Policy {
            restart: RestartOn::OnFailure,
            success: list(&[75], &[libc::SIGUSR1]),
            restart_prevent: list(&[2], &[libc::SIGKILL]),
            restart_force: list(&[0, 2], &[]),
            ..Policy::plain()
        };
        let exit = |code| Outcome::Exit { code };
        let signal = |number| Outcome::Signal { number, core: false };
        let restarts = [exit(0), exit(1), exit(2), exit(75), signal(libc::SIGUSR1), signal(libc::SIGKILL), signal(6)]
            .map(|outcome| policy.restarts_after(&outcome));
        assert_eq!(restarts, [true, true, false, false, false, false, true]);
        assert!(policy.is_clean(&exit(75), false) && !policy.is_clean(&exit(1), false));
        assert!(policy.is_clean(&exit(143), true) && !policy.is_clean(&exit(143), false));
    }

    #[test]
    fn chance_adds_what_the_file_allows_and_no_more() {
        let policy = Policy { restart_spread: Duration::from_secs(8), ..Policy::plain() };
        assert_eq!(policy.restart_spread(1), Duration::from_secs(8));
        let parts: Vec<u64> = (0..4000).map(|seed| part_of(policy.restart_spread, seed).as_secs()).collect();
        for second in 0..8 {
            let count = parts.iter().filter(|part| **part == second).count();
            assert!((400..600).contains(&count), "{second}: {count}");
        }
        assert_eq!(part_of(Duration::ZERO, 7), Duration::ZERO);
        assert_eq!(Policy::plain().restart_spread(5), Duration::ZERO);
        assert_eq!(Policy::plain().restart_spread(6), Duration::from_millis(50), "of the back-off that is ours");
    }

    #[test]
    fn the_delay_grows_in_the_files_steps() {
        let growth = Some((4, Duration::from_secs(160)));
        let policy = Policy { restart_delay: Duration::from_secs(10), restart_growth: growth, ..Policy::plain() };
        let seconds = [1, 2, 3, 4, 5, 6, 1000].map(|restart| policy.restart_delay(restart).as_secs_f64().round());
        assert_eq!(seconds, [10.0, 20.0, 40.0, 80.0, 160.0, 160.0, 160.0]);
        let smaller = Policy { restart_growth: Some((4, Duration::from_secs(1))), ..policy };
        assert_eq!(smaller.restart_delay(9), Duration::from_secs(10), "what the file says first is the least");
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
