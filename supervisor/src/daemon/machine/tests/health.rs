//! Health checks under the fake clock.

use super::*;
use crate::{
    api::types::Health as Status,
    unit::{Health, HealthAction},
};

const CHECK: [Action; 1] = [Action::Check { attempt: 1 }];

fn checked() -> Health {
    Health {
        command: vec!["/check".to_owned()],
        interval: Some(Duration::from_secs(30)),
        timeout: Duration::from_secs(5),
        retries: 3,
        start_period: Duration::ZERO,
        successes: 1,
        on_failure: HealthAction::None,
        max_log_count: 5,
        max_log_bytes: 500,
        log_events: false,
    }
}

impl Bench {
    fn with_check(health: Health) -> Self {
        let mut unit = Self::new(Policy { health: Some(health), ..Policy::plain() });
        unit.run();
        unit
    }

    /// The next check begins when it is due, and ends so.
    fn check(&mut self, exit_code: i32) -> Vec<Action> {
        self.now.mono = self.record.check_deadline().expect("a check that is due");
        let attempt = self.attempt();
        assert_eq!(self.event(Event::CheckDue), [Action::Check { attempt }]);
        self.pass(Duration::from_secs(1));
        self.event(Event::Checked { attempt, exit_code, output: "so it\nsays".to_owned() })
    }
}

#[test]
fn health_is_what_the_last_checks_say() {
    let mut unit = Bench::with_check(checked());
    assert_eq!(unit.record.health(), Status::Starting);
    assert_eq!(unit.record.check_deadline(), Some(unit.now.mono), "the first one at once");
    unit.check(0);
    assert_eq!(unit.record.health(), Status::Healthy);
    let end = unit.now.mono;
    assert_eq!(unit.record.check_deadline(), Some(end + Duration::from_secs(30)), "after the end of the last");
    for (exit_code, health) in [
        (1, Status::Healthy),
        (1, Status::Healthy),
        (0, Status::Healthy),
        (1, Status::Healthy),
        (2, Status::Healthy),
        (3, Status::Unhealthy),
        (0, Status::Healthy),
    ] {
        assert_eq!(unit.check(exit_code), []);
        assert_eq!(unit.record.health(), health);
    }
    let log: Vec<i32> = unit.record.checks.as_ref().unwrap().log.iter().map(|check| check.exit_code).collect();
    assert_eq!(log, [0, 1, 2, 3, 0], "the last five");
    unit.event(Event::Stop);
    assert_eq!((unit.record.health(), unit.record.check_deadline()), (Status::None, None));
}

#[test]
fn failures_of_the_start_period_do_not_count() {
    let mut unit = Bench::with_check(Health { start_period: Duration::from_secs(60), retries: 1, ..checked() });
    for health in [Status::Starting, Status::Starting, Status::Unhealthy] {
        unit.check(1);
        assert_eq!(unit.record.health(), health);
    }
}

#[test]
fn checks_never_overlap_and_one_that_hangs_is_killed_and_counts() {
    let mut unit = Bench::with_check(Health { retries: 2, ..checked() });
    assert_eq!(unit.event(Event::CheckDue), CHECK);
    assert_eq!(unit.event(Event::CheckDue), []);
    for failures in [1, 2] {
        unit.now.mono = unit.record.check_deadline().unwrap();
        assert_eq!(unit.event(Event::CheckDue), [Action::KillCheck]);
        assert_eq!(unit.record.checks.as_ref().unwrap().failures, failures, "even if it cannot be killed");
    }
    assert_eq!(unit.record.health(), Status::Unhealthy);
    unit.event(Event::Checked { attempt: 1, exit_code: 0, output: String::new() });
    assert_eq!(unit.record.health(), Status::Unhealthy, "what comes late says nothing");
    assert_eq!(unit.record.check_deadline(), Some(unit.now.mono + Duration::from_secs(30)));
    assert_eq!(unit.record.checks.as_ref().unwrap().log[0].output, "did not end within 5 s");
}

#[test]
fn an_unhealthy_container_is_ended_as_the_unit_says() {
    let stops = [Action::Signal { process: WEB, signal: libc::SIGTERM }];
    for (on_failure, restart, actions, after) in [
        (HealthAction::Kill, RestartOn::No, &[Action::KillCgroup][..], "failed"),
        (HealthAction::Kill, RestartOn::OnFailure, &[Action::KillCgroup], "auto-restart"),
        (HealthAction::Stop, RestartOn::No, &stops, "failed"),
        (HealthAction::Stop, RestartOn::Always, &stops, "auto-restart"),
        (HealthAction::Restart, RestartOn::No, &stops, "auto-restart"),
    ] {
        let mut unit = Bench::with_check(Health { on_failure, retries: 2, ..checked() });
        unit.policy.restart = restart;
        assert_eq!(unit.check(1), []);
        assert_eq!(unit.check(1), actions);
        unit.exit(0);
        unit.clean();
        assert_eq!(unit.sub(), after, "{on_failure:?}, {restart:?}");
        let last = unit.record.last.as_ref().unwrap();
        assert_eq!(last.to_string(), "unhealthy: 2 checks in a row failed, the last with status 1: so it");
        assert_eq!(last.result(), "unhealthy");
    }
    let mut unit = Bench::with_check(Health { on_failure: HealthAction::Stop, retries: 1, ..checked() });
    unit.check(1);
    unit.event(Event::Stop);
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.record.state, State::Inactive, "asked for in the meantime");
}

#[test]
fn the_startup_check_comes_first() {
    let startup = Health { interval: Some(Duration::from_secs(1)), retries: 0, successes: 2, ..checked() };
    let policy = Policy { health: Some(checked()), startup_health: Some(startup.clone()), ..Policy::plain() };
    let mut unit = Bench::new(policy);
    unit.run();
    for exit_code in [1, 0, 1, 1, 1, 1] {
        assert_eq!(unit.check(exit_code), []);
        assert_eq!(unit.record.health(), Status::Starting);
        assert_eq!(unit.record.check_deadline(), Some(unit.now.mono + Duration::from_secs(1)));
    }
    unit.check(0);
    assert_eq!(unit.record.health(), Status::Healthy);
    assert_eq!(unit.record.check_deadline(), Some(unit.now.mono), "the usual ones begin");
    unit.check(0);
    assert_eq!(unit.record.check_deadline(), Some(unit.now.mono + Duration::from_secs(30)));

    unit.policy.startup_health = Some(Health { retries: 2, ..startup });
    unit.exit(0);
    unit.clean();
    unit.run();
    assert_eq!(unit.check(1), []);
    unit.check(1);
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.sub(), "auto-restart", "whatever Restart= says");
}

#[test]
fn notify_healthy_is_active_when_it_is_healthy() {
    let policy = Policy { ready_when_healthy: true, health: Some(checked()), ..Policy::plain() };
    let mut unit = Bench::new(policy.clone());
    unit.run();
    assert_eq!((unit.sub(), unit.active()), ("starting", ActiveState::Activating));
    unit.check(1);
    assert_eq!(unit.active(), ActiveState::Activating);
    unit.check(0);
    assert_eq!((unit.sub(), unit.active()), ("running", ActiveState::Active));
    assert_eq!(unit.record.state.deadline(), None);

    let mut unit = Bench::new(policy);
    unit.run();
    unit.wait_out();
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.record.last.as_ref().unwrap().result(), "timeout", "not healthy in its start timeout");
}

#[test]
fn a_check_that_lost_its_supervisor_is_done_again() {
    let mut unit = Bench::with_check(checked());
    unit.check(1);
    unit.pass(Duration::from_secs(30));
    unit.event(Event::CheckDue);
    let text = serde_json::to_vec(&unit.record).unwrap();
    unit.record = serde_json::from_slice(&text).unwrap();
    assert_eq!(unit.event(Event::Interrupted), [Action::KillCheck]);
    assert_eq!(unit.event(Event::CheckDue), CHECK);
    assert_eq!(unit.record.checks.as_ref().unwrap().failures, 1, "kept");
}
