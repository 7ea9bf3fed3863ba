//! Conditions before the start, and how long a unit may be active.

use super::*;

fn limited(most: u64) -> Bench {
    Bench::new(Policy { runtime_max: Some(Duration::from_secs(most)), ..Policy::plain() })
}

fn unmet(unit: &mut Bench, assert: bool) -> Vec<Action> {
    unit.event(Event::Unmet { attempt: unit.attempt(), text: "ConditionHost=x".into(), assert })
}

#[test]
fn a_unit_whose_condition_does_not_hold_is_not_started_and_has_not_failed() {
    let mut unit = Bench::new(Policy { restart: RestartOn::Always, ..Policy::plain() });
    for round in 0..20 {
        unit.event(Event::Start);
        unit.event(Event::Go);
        assert_eq!(unit.sub(), "preparing", "round {round}: a start that was none counts for no limit");
        assert_eq!(unmet(&mut unit, false), []);
        assert_eq!(unit.record.state, State::Inactive);
    }
    assert!(unit.record.skipped() && unit.record.past.is_empty());
    let last = unit.record.last.clone().unwrap();
    assert_eq!(
        (last.to_string().as_str(), last.result()),
        ("was not started: ConditionHost=x does not hold", "condition")
    );
    unit.run();
    assert!(unit.sub() == "running" && unit.record.last.is_none(), "the next time it may hold");
}

#[test]
fn an_assertion_leaves_the_unit_as_it_was_and_says_so() {
    let mut unit = Bench::new(Policy { restart: RestartOn::Always, ..Policy::plain() });
    unit.event(Event::Start);
    unit.event(Event::Go);
    unmet(&mut unit, true);
    assert!(unit.record.state == State::Inactive && !unit.record.skipped());
    assert_eq!(unit.record.last.unwrap().to_string(), "cannot start: ConditionHost=x does not hold");
}

#[test]
fn what_was_asked_for_an_earlier_start_says_nothing_of_this_one() {
    let mut unit = Bench::new(Policy::plain());
    for _ in 0..2 {
        unit.event(Event::Start);
        unit.event(Event::Go);
        if unit.attempt() == 1 {
            unit.event(Event::Stop);
        }
    }
    unit.event(Event::Unmet { attempt: 1, text: String::new(), assert: true });
    assert_eq!(unit.sub(), "preparing");
    assert!(unit.record.is_preparing(2) && !unit.record.is_preparing(1));
}

#[test]
fn after_its_time_a_unit_is_stopped_and_has_failed() {
    let mut unit = limited(60);
    unit.run();
    assert_eq!(unit.wait_out(), [Action::Signal { process: WEB, signal: libc::SIGTERM }]);
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.sub(), "failed");
    let last = unit.record.last.clone().unwrap();
    assert_eq!(last.to_string(), "was active for 60 s, as long as RuntimeMaxSec= allows");
    assert_eq!((last.result(), last.class()), ("timeout", outcome::Class::Timeout));
    // Another start, another time.
    unit.pass(Duration::from_secs(1000));
    unit.run();
    assert_eq!(unit.record.deadline(), Some(unit.now.mono + Duration::from_secs(60)));
    // A stop that somebody asks for is none for the limit's sake.
    unit.event(Event::Stop);
    unit.exit(0);
    unit.clean();
    assert_eq!(unit.record.state, State::Inactive);
}

#[test]
fn the_time_counts_from_ready_and_the_container_may_have_more_of_it() {
    let mut unit = limited(60);
    unit.policy.notify = true;
    unit.policy.watchdog = Some(Duration::from_secs(40));
    unit.run();
    unit.pass(Duration::from_secs(70));
    let says = |unit: &mut Bench, notice: Notice| unit.event(Event::Notified { attempt: 1, notice });
    says(&mut unit, Notice { ready: true, ..Notice::default() });
    assert_eq!(unit.record.deadline(), Some(unit.now.mono + Duration::from_secs(40)), "the watchdog's is earlier");
    unit.pass(Duration::from_secs(30));
    says(&mut unit, Notice { alive: true, ..Notice::default() });
    assert_eq!(unit.record.deadline(), Some(unit.now.mono + Duration::from_secs(30)));
    says(&mut unit, Notice { extend: Some(Duration::from_secs(35)), ..Notice::default() });
    says(&mut unit, Notice { extend: Some(Duration::from_secs(1)), ..Notice::default() });
    unit.pass(Duration::from_secs(35));
    assert_eq!(unit.event(Event::Deadline), [Action::Signal { process: WEB, signal: libc::SIGTERM }]);
}

#[test]
fn a_oneshot_has_no_such_time_and_chance_adds_to_that_of_others() {
    let mut unit = limited(60);
    (unit.policy.oneshot, unit.policy.start_timeout) = (true, None);
    unit.run();
    assert_eq!(unit.record.deadline(), None);
    let mut unit = limited(60);
    unit.policy.runtime_extra = Duration::from_secs(10);
    unit.now.mono += Duration::from_nanos(12_345);
    unit.run();
    let extra = unit.record.deadline().unwrap() - unit.now.mono - Duration::from_secs(60);
    assert!(extra > Duration::ZERO && extra <= Duration::from_secs(10), "{extra:?}");
}

#[test]
fn the_main_process_is_asked_to_end_and_the_first_ones_end_counts() {
    let mut unit = Bench::new(Policy { notify: true, ..Policy::plain() });
    unit.run();
    let main = Process { pid: 200, start_ticks: 9 };
    let notice = Notice { ready: true, main: Some(main), ..Notice::default() };
    unit.event(Event::Notified { attempt: 1, notice });
    assert_eq!(unit.record.main_process(), Some(main));
    assert_eq!(unit.event(Event::Stop), [Action::Signal { process: main, signal: libc::SIGTERM }]);
    assert_eq!(unit.event(Event::Interrupted), [Action::Signal { process: main, signal: libc::SIGTERM }]);
    // A second one would mean "at once" to many a program.
    unit.event(Event::Signalled);
    assert_eq!(unit.event(Event::Interrupted), []);
    assert_eq!(unit.event(Event::Exited { process: main, wait_status: 0, out_of_memory: false }), []);
    assert_eq!(unit.exit(0), [Action::KillCgroup]);
    unit.clean();
    assert_eq!((unit.sub(), unit.record.main_process()), ("dead", None));
    unit.run();
    assert_eq!(unit.record.main_process(), Some(WEB), "another container, another word");
}

#[test]
fn what_hangs_has_a_time_of_its_own_to_leave_a_core() {
    let abort_timeout = Some(Duration::from_secs(30));
    let mut unit = Bench::new(Policy { notify: true, abort_timeout, ..Policy::plain() });
    unit.run();
    let notice = Notice { ready: true, hangs: true, ..Notice::default() };
    unit.event(Event::Notified { attempt: 1, notice });
    assert_eq!(unit.record.deadline(), Some(unit.now.mono + Duration::from_secs(30)));
    assert_eq!(unit.wait_out(), [Action::KillCgroup]);
}

#[test]
fn who_takes_over_before_the_signal_was_sent_sends_the_same_one() {
    let mut unit = Bench::new(Policy { notify: true, ..Policy::plain() });
    unit.run();
    let notice = Notice { ready: true, hangs: true, ..Notice::default() };
    let abort = [Action::Signal { process: WEB, signal: libc::SIGABRT }];
    assert!(unit.event(Event::Notified { attempt: 1, notice }).ends_with(&abort));
    assert_eq!(unit.event(Event::Interrupted), abort);
}
