mod health;
mod limits;

use std::time::Duration;

use super::{policy::RestartOn, *};

const WEB: Process = Process { pid: 100, start_ticks: 7 };

/// One unit under a clock that only moves when told to.
struct Bench {
    policy: Policy,
    record: Record,
    now: Now,
}

impl Bench {
    fn new(policy: Policy) -> Self {
        let now = Now { mono: Duration::from_secs(100), wall_us: 0 };
        Self { policy, record: Record::new(now), now }
    }

    fn event(&mut self, event: Event) -> Vec<Action> {
        let (record, actions) = step(&self.policy, self.record.clone(), event, self.now);
        self.record = record;
        actions.into_iter().filter(|action| !matches!(action, Action::Remark(_))).collect()
    }

    fn attempt(&self) -> u64 {
        self.record.attempt
    }

    fn pass(&mut self, time: Duration) {
        self.now.mono += time;
    }

    /// To the deadline, and over it.
    fn wait_out(&mut self) -> Vec<Action> {
        self.now.mono = self.record.deadline().expect("a deadline");
        self.event(Event::Deadline)
    }

    fn run(&mut self) {
        if self.record.state != State::Waiting {
            self.event(Event::Forgive);
            self.event(Event::Start);
        }
        self.event(Event::Go);
        self.event(Event::Prepared { attempt: self.attempt() });
        self.event(Event::Created { attempt: self.attempt(), process: WEB });
        self.event(Event::Started { attempt: self.attempt() });
    }

    fn exit(&mut self, wait_status: i32) -> Vec<Action> {
        self.event(Event::Exited { process: WEB, wait_status, out_of_memory: false })
    }

    /// All that happens once the process is gone.
    fn clean(&mut self) {
        self.event(Event::CgroupEmpty);
        self.event(Event::Cleaned { attempt: self.attempt() });
    }

    fn sub(&self) -> &'static str {
        self.record.state.sub_state()
    }
}

#[test]
fn from_start_to_running_and_back() {
    let mut unit = Bench::new(Policy::plain());
    assert_eq!(unit.event(Event::Start), []);
    assert_eq!(unit.sub(), "waiting");
    assert_eq!(unit.event(Event::Go), [Action::Prepare { attempt: 1 }]);
    assert_eq!(unit.event(Event::Prepared { attempt: 1 }), [Action::Create { attempt: 1 }]);
    assert_eq!(unit.event(Event::Created { attempt: 1, process: WEB }), [Action::Start { attempt: 1 }]);
    assert_eq!(unit.event(Event::Started { attempt: 1 }), []);
    assert_eq!(unit.record.state.active(&unit.policy), ActiveState::Active);
    assert_eq!(unit.event(Event::Stop), [Action::Signal { process: WEB, signal: libc::SIGTERM }]);
    assert_eq!(unit.exit(libc::SIGTERM), [Action::KillCgroup]);
    assert_eq!(unit.event(Event::CgroupEmpty), [Action::Clean { attempt: 1 }]);
    unit.event(Event::Cleaned { attempt: 1 });
    assert_eq!(unit.record.state, State::Inactive);
}

#[test]
fn a_container_that_ignores_its_stop_signal_is_killed_and_says_so() {
    let mut unit = Bench::new(Policy::plain());
    unit.run();
    unit.event(Event::Stop);
    assert_eq!(unit.wait_out(), [Action::KillCgroup]);
    unit.exit(libc::SIGKILL);
    unit.clean();
    assert_eq!(unit.sub(), "failed");
    assert_eq!(unit.record.last.unwrap().to_string(), "did not end within 10 s of SIGTERM, killed");
}

#[test]
fn the_exit_status_is_waited_for_when_the_cgroup_is_empty_first() {
    let mut unit = Bench::new(Policy { restart: RestartOn::OnFailure, ..Policy::plain() });
    unit.run();
    unit.event(Event::Stop);
    unit.wait_out();
    assert_eq!(unit.event(Event::CgroupEmpty), [], "PID 1 has not told the end yet");
    assert_eq!(unit.exit(9), [Action::Clean { attempt: 1 }]);
}

#[test]
fn an_exit_status_that_never_comes_does_not_hold_the_stop() {
    let mut unit = Bench::new(Policy::plain());
    unit.run();
    unit.event(Event::Stop);
    unit.wait_out();
    unit.event(Event::CgroupEmpty);
    assert_eq!(unit.wait_out(), [Action::Clean { attempt: 1 }]);
}

#[test]
fn the_exit_of_a_reused_pid_is_not_ours() {
    let mut unit = Bench::new(Policy::plain());
    unit.run();
    let stranger = Process { pid: WEB.pid, start_ticks: 8 };
    assert_eq!(unit.event(Event::Exited { process: stranger, wait_status: 0, out_of_memory: false }), []);
    assert_eq!(unit.sub(), "running");
}

#[test]
fn results_of_an_earlier_attempt_mean_nothing() {
    let mut unit = Bench::new(Policy::plain());
    unit.event(Event::Start);
    unit.event(Event::Go);
    unit.event(Event::Stop);
    unit.event(Event::Start);
    unit.event(Event::Go);
    assert_eq!(unit.attempt(), 2);
    assert_eq!(unit.event(Event::Prepared { attempt: 1 }), []);
    assert_eq!(unit.sub(), "preparing");
}

#[test]
fn a_stop_while_the_container_is_created_waits_for_the_runtime_and_takes_it_down() {
    let mut unit = Bench::new(Policy { restart: RestartOn::Always, ..Policy::plain() });
    unit.event(Event::Start);
    unit.event(Event::Go);
    unit.event(Event::Prepared { attempt: 1 });
    assert_eq!(unit.event(Event::Stop), []);
    assert_eq!(unit.event(Event::Created { attempt: 1, process: WEB }), [Action::KillCgroup]);
    unit.exit(9);
    unit.clean();
    assert_eq!(unit.record.state, State::Inactive, "no restart after a stop");
}

#[test]
fn a_runtime_that_hangs_is_killed_and_counts_as_a_timeout() {
    let mut unit = Bench::new(Policy::plain());
    unit.event(Event::Start);
    unit.event(Event::Go);
    unit.event(Event::Prepared { attempt: 1 });
    assert_eq!(unit.wait_out(), [Action::KillOperation]);
    assert_eq!(
        unit.event(Event::CreateFailed { attempt: 1, text: "killed".into() }),
        [Action::KillCgroup],
        "a half-made container leaves processes"
    );
    unit.clean();
    assert_eq!(unit.record.last.unwrap().to_string(), "did not start within 90 s");
}

#[test]
fn a_quick_loop_ends_at_the_start_limit_and_a_person_may_try_again() {
    let mut unit = Bench::new(Policy { restart: RestartOn::Always, ..Policy::plain() });
    for round in 0..5 {
        unit.run();
        assert_eq!(unit.sub(), "running", "round {round}");
        unit.exit(1 << 8);
        unit.clean();
        assert_eq!(unit.sub(), "auto-restart");
        unit.wait_out();
    }
    assert_eq!(unit.event(Event::Go), []);
    assert_eq!(unit.sub(), "failed");
    let reason = unit.record.last.clone().unwrap().to_string();
    assert_eq!(reason, "exited with status 1; started 5 times within 10 s, not started again");
    // Who only needs it has seen nothing.
    unit.event(Event::Start);
    unit.event(Event::Go);
    assert_eq!(unit.sub(), "failed");
    unit.run();
    assert_eq!((unit.sub(), unit.record.restarts), ("running", 0));
    unit.exit(1 << 8);
    unit.clean();
    unit.event(Event::Start);
    assert_eq!(unit.sub(), "auto-restart", "it comes when its pause is over");
    unit.event(Event::Forgive);
    assert_eq!(unit.sub(), "waiting");
}

#[test]
fn a_slow_loop_backs_off_until_a_stable_run() {
    let mut unit = Bench::new(Policy { restart: RestartOn::Always, ..Policy::plain() });
    let delay_after = |unit: &mut Bench, run: Duration| {
        unit.run();
        unit.pass(run);
        unit.exit(1 << 8);
        unit.clean();
        let delay = unit.record.state.deadline().unwrap() - unit.now.mono;
        unit.wait_out();
        delay
    };
    let delays: Vec<_> = (0..8).map(|_| delay_after(&mut unit, Duration::from_secs(11)).as_millis()).collect();
    for (delay, expected) in delays.iter().zip([100, 100, 100, 100, 100, 200, 400, 800]) {
        let most = if expected > 100 { expected * 5 / 4 } else { expected };
        assert!((expected..=most).contains(delay), "{delays:?}");
    }
    assert_eq!(delay_after(&mut unit, Duration::from_secs(60)).as_millis(), 100);
    assert_eq!(unit.record.restarts, 9);
}

#[test]
fn a_oneshot_is_active_only_when_it_ended_well() {
    let mut unit = Bench::new(Policy { oneshot: true, remain_after_exit: true, ..Policy::plain() });
    unit.run();
    assert_eq!(unit.record.state.active(&unit.policy), ActiveState::Activating);
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.record.state, State::Exited);
    unit.event(Event::Stop);
    assert_eq!(unit.record.state, State::Inactive);
    unit.run();
    unit.exit(2 << 8);
    unit.clean();
    assert_eq!(unit.sub(), "failed");
}

#[test]
fn with_remain_after_exit_a_good_end_leaves_any_unit_active() {
    let policy = Policy { remain_after_exit: true, restart: RestartOn::Always, ..Policy::plain() };
    let mut unit = Bench::new(policy);
    unit.run();
    unit.exit(0);
    unit.clean();
    assert_eq!((unit.sub(), unit.record.state.active(&unit.policy)), ("exited", ActiveState::Active));
    unit.event(Event::Stop);
    unit.run();
    unit.exit(1 << 8);
    unit.clean();
    assert_eq!(unit.sub(), "auto-restart");
    unit.run();
    unit.event(Event::Stop);
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.sub(), "dead");
}

#[test]
fn a_oneshot_that_does_not_end_is_stopped_at_its_start_timeout() {
    let mut unit = Bench::new(Policy { oneshot: true, ..Policy::plain() });
    unit.run();
    assert_eq!(unit.wait_out(), [Action::Signal { process: WEB, signal: libc::SIGTERM }]);
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.record.last.unwrap().to_string(), "did not start within 90 s");
}

#[test]
fn the_runtimes_word_replaces_a_bare_exit_status() {
    let mut unit = Bench::new(Policy::plain());
    unit.event(Event::Start);
    unit.event(Event::Go);
    unit.event(Event::Prepared { attempt: 1 });
    unit.event(Event::Created { attempt: 1, process: WEB });
    unit.exit(1 << 8);
    unit.event(Event::StartFailed { attempt: 1, text: "exec /bin/nope: No such file or directory".into() });
    unit.clean();
    assert_eq!(unit.record.last.unwrap().to_string(), "exec /bin/nope: No such file or directory");
}

#[test]
fn processes_that_do_not_die_end_the_stop_with_their_own_word() {
    let mut unit = Bench::new(Policy { restart: RestartOn::Always, ..Policy::plain() });
    unit.run();
    unit.event(Event::Stop);
    unit.wait_out();
    let mut kills = 0;
    while unit.sub() == "killing" {
        unit.wait_out();
        kills += 1;
        assert!(kills < 100);
    }
    assert_eq!((unit.sub(), unit.record.last.unwrap()), ("failed", Outcome::Unkillable));
}

#[test]
fn the_last_ends_are_kept_with_their_reasons() {
    let mut unit = Bench::new(Policy { restart: RestartOn::Always, start_limit_burst: 0, ..Policy::plain() });
    let ends = [0, 3 << 8, 9, 11 | 0x80, 37];
    for wait_status in ends.into_iter().cycle().take(3 * ends.len()) {
        unit.run();
        unit.now.wall_us += 5;
        unit.exit(wait_status);
        unit.clean();
        unit.wait_out();
    }
    let past: Vec<_> = unit.record.past.iter().map(|past| past.outcome.result()).collect();
    assert_eq!(past.len(), MAX_PAST);
    assert_eq!(past[MAX_PAST - 5..], ["success", "exit-code", "signal", "core-dump", "signal"]);
    assert!(unit.record.past.iter().all(|past| past.ended_us == past.began_us + 5));
    assert_eq!(unit.record.past.back().unwrap().outcome.to_string(), "killed by SIGRTMIN+3");
    assert!(unit.record.starts.is_empty(), "nothing is counted that nothing bounds");
}

fn notifies() -> Bench {
    Bench::new(Policy { notify: true, watchdog: Some(Duration::from_secs(30)), ..Policy::plain() })
}

impl Bench {
    fn says(&mut self, notice: Notice) -> Vec<Action> {
        self.event(Event::Notified { attempt: self.attempt(), notice })
    }

    fn active(&self) -> ActiveState {
        self.record.state.active(&self.policy)
    }
}

#[test]
fn a_unit_that_notifies_is_active_when_it_says_so() {
    let mut unit = notifies();
    unit.run();
    assert_eq!((unit.sub(), unit.active()), ("starting", ActiveState::Activating));
    // More time, said before the old one is over.
    unit.pass(Duration::from_secs(80));
    unit.says(Notice { extend: Some(Duration::from_secs(60)), status: Some("reading".into()), ..Notice::default() });
    assert_eq!(unit.record.status.as_deref(), Some("reading"));
    unit.pass(Duration::from_secs(50));
    unit.says(Notice { ready: true, ..Notice::default() });
    assert_eq!((unit.sub(), unit.active()), ("running", ActiveState::Active));
    unit.says(Notice { reloading: true, ..Notice::default() });
    assert_eq!((unit.sub(), unit.active()), ("reloading", ActiveState::Active));
    unit.says(Notice { ready: true, ..Notice::default() });
    unit.says(Notice { stopping: true, ..Notice::default() });
    assert_eq!((unit.sub(), unit.active()), ("stopping", ActiveState::Deactivating));
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.sub(), "dead");

    // Its word may come before the runtime's.
    unit.event(Event::Start);
    unit.event(Event::Go);
    assert_eq!(unit.record.status, None, "a new container has said nothing");
    unit.event(Event::Prepared { attempt: unit.attempt() });
    unit.event(Event::Created { attempt: unit.attempt(), process: WEB });
    let more = Some(Duration::from_secs(600));
    unit.says(Notice { extend: more, ..Notice::default() });
    assert_eq!(unit.record.deadline(), more.map(|more| unit.now.mono + more));
    unit.says(Notice { ready: true, ..Notice::default() });
    unit.event(Event::Started { attempt: unit.attempt() });
    assert_eq!(unit.active(), ActiveState::Active);

    // Another span for its signs of life counts from now on, and none is none.
    for (span, deadline) in [(600, more), (1, Some(Duration::from_secs(1))), (0, None)] {
        unit.says(Notice { watchdog: Some(Duration::from_secs(span)), ..Notice::default() });
        assert_eq!(unit.record.deadline(), deadline.map(|span| unit.now.mono + span));
    }
}

#[test]
fn silence_is_a_failure_at_the_start_and_later() {
    let mut unit = notifies();
    unit.run();
    unit.exit(0);
    unit.clean();
    assert_eq!((unit.sub(), unit.record.last.clone()), ("failed", Some(Outcome::NotReady)));

    unit.run();
    let actions = unit.wait_out();
    assert!(matches!(actions[..], [Action::Signal { signal: libc::SIGTERM, .. }]), "{actions:?}");
    unit.exit(15);
    unit.clean();
    assert_eq!(unit.record.last.clone().unwrap().to_string(), "did not start within 90 s");

    unit.run();
    unit.says(Notice { ready: true, ..Notice::default() });
    for _ in 0..3 {
        unit.pass(Duration::from_secs(20));
        unit.says(Notice { alive: true, ..Notice::default() });
    }
    let actions = unit.wait_out();
    assert!(matches!(actions[..], [Action::Signal { signal: libc::SIGABRT, .. }]), "{actions:?}");
    unit.exit(6 | 0x80);
    unit.clean();
    assert_eq!(unit.record.last.clone().unwrap().to_string(), "gave no sign of life for 30 s, killed");
    assert_eq!(unit.sub(), "failed");
}

#[test]
fn a_stop_takes_longer_when_the_container_asks_for_it() {
    let mut unit = notifies();
    unit.run();
    unit.event(Event::Stop);
    let before = unit.record.state.deadline().unwrap();
    unit.says(Notice { extend: Some(Duration::from_secs(60)), ..Notice::default() });
    assert_eq!(unit.record.state.deadline().unwrap(), before + Duration::from_secs(50));
}

#[test]
fn a_sign_of_life_and_a_oneshot_take_longer_when_the_container_asks_for_it() {
    let says = |unit: &mut Bench, seconds| {
        unit.says(Notice { extend: Some(Duration::from_secs(seconds)), ..Notice::default() });
        unit.record.deadline().map(|at| at - unit.now.mono)
    };
    let mut unit = notifies();
    unit.run();
    unit.says(Notice { ready: true, watchdog: Some(Duration::from_secs(10)), ..Notice::default() });
    for (seconds, then) in [(60, 60), (5, 60)] {
        assert_eq!(says(&mut unit, seconds), Some(Duration::from_secs(then)));
    }
    let mut unit = Bench::new(Policy { oneshot: true, start_timeout: Some(Duration::from_secs(5)), ..Policy::plain() });
    unit.run();
    assert_eq!(says(&mut unit, 60), Some(Duration::from_secs(60)));
    assert_eq!(unit.active(), ActiveState::Activating);
}

/// Any events in any order: no panic, and from wherever that leads, a stop ends at rest once the machine answers.
#[test]
fn every_stop_ends_from_every_state() {
    let mut random = crate::daemon::testing::Random::new(0x5eed);
    for round in 0..2000 {
        let mut policy = Policy::plain();
        policy.oneshot = random.below(3) == 0;
        policy.remain_after_exit = random.below(2) == 0;
        policy.runtime_max = [None, Some(Duration::from_secs(1))][random.below(2)];
        policy.restart = [RestartOn::No, RestartOn::Always, RestartOn::OnFailure][random.below(3)];
        let mut unit = Bench::new(policy);
        for _ in 0..random.below(30) {
            let attempt = unit.attempt().saturating_sub(u64::from(random.below(5) == 0));
            let process = Process { pid: 100, start_ticks: random.below(2) as u64 + 7 };
            let event = match random.below(17) {
                0 => Event::Start,
                1 | 2 => Event::Go,
                3 => Event::Stop,
                4 | 5 => Event::Prepared { attempt },
                6 => Event::PrepareFailed { attempt, text: "no image".into() },
                7 | 8 => Event::Created { attempt, process },
                9 => Event::CreateFailed { attempt, text: "no".into() },
                10 => Event::Started { attempt },
                11 => Event::StartFailed { attempt, text: "no".into() },
                12 => Event::Exited { process, wait_status: 256, out_of_memory: false },
                13 => Event::CgroupEmpty,
                14 => Event::Cleaned { attempt },
                15 => Event::Unmet { attempt, text: "no".into(), assert: random.below(2) == 0 },
                _ => Event::Deadline,
            };
            unit.event(event);
        }
        unit.event(Event::Stop);
        for _ in 0..40 {
            if unit.record.state.at_rest() {
                break;
            }
            let attempt = unit.attempt();
            match unit.record.state.clone() {
                State::Creating { .. } => unit.event(Event::CreateFailed { attempt, text: String::new() }),
                State::Starting { .. } => unit.event(Event::Started { attempt }),
                State::Killing { process: Some(process), .. } => {
                    unit.event(Event::Exited { process, wait_status: 9, out_of_memory: false })
                }
                State::Killing { .. } => unit.event(Event::CgroupEmpty),
                State::Cleaning { .. } => unit.event(Event::Cleaned { attempt }),
                _ => unit.wait_out(),
            };
        }
        assert!(unit.record.state.at_rest(), "round {round}: {:?}", unit.record.state);
    }
}

#[test]
fn a_record_reads_back_from_disk() {
    let mut unit = Bench::new(Policy::plain());
    unit.run();
    unit.event(Event::Stop);
    let text = serde_json::to_string(&unit.record).unwrap();
    assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), unit.record);
}
