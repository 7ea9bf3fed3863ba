use super::*;
use crate::unit::{Calendar, UnitName};

const SECOND: Duration = Duration::from_secs(1);
/// 2027-01-01 00:00:00 UTC, a Friday.
const NEW_YEAR: i64 = 1_798_761_600_000_000;
const HOUR: i64 = 3_600_000_000;

fn spec(triggers: Vec<Trigger>) -> TimerSpec {
    TimerSpec {
        triggers,
        unit: UnitName::parse("job").unwrap(),
        accuracy: Duration::from_secs(60),
        random_delay: Duration::ZERO,
        fixed_delay: false,
        random_offset: Duration::ZERO,
        persistent: false,
        remain_after_elapse: true,
        defer_reactivation: false,
    }
}

fn calendar(text: &str) -> Trigger {
    Trigger::Calendar(Calendar::of(text).unwrap())
}

struct Bench {
    timer: Timer,
    now: Now,
}

impl Bench {
    fn new(spec: TimerSpec) -> Self {
        let now = Now { mono: Duration::from_secs(100), wall_us: NEW_YEAR + HOUR };
        let mut timer = Timer::new(spec, 7, now);
        timer.start(None, now);
        Self { timer, now }
    }

    fn left(&self) -> Option<Duration> {
        self.timer.deadline(self.now).map(|at| at - self.now.mono)
    }

    fn pass(&mut self, time: Duration) -> bool {
        self.now.mono += time;
        self.now.wall_us += micros(time);
        self.timer.tick(self.now)
    }

    /// Its unit starts, and ends after this time.
    fn runs(&mut self, time: Duration) {
        self.timer.unit_changed(ActiveState::Inactive, ActiveState::Activating, self.now);
        self.timer.unit_changed(ActiveState::Activating, ActiveState::Active, self.now);
        assert!(!self.pass(time), "not while it runs");
        self.timer.unit_changed(ActiveState::Deactivating, ActiveState::Inactive, self.now);
    }
}

#[test]
fn a_calendar_comes_again_and_again_and_what_a_long_run_missed_comes_once() {
    let mut bench = Bench::new(spec(vec![calendar("hourly")]));
    assert_eq!(bench.left(), Some(3600 * SECOND), "the very moment of its start does not count");
    assert!(!bench.pass(3599 * SECOND));
    assert!(bench.pass(SECOND));
    assert_eq!((bench.timer.sub_state(), bench.left()), ("running", None));
    bench.runs(10 * SECOND);
    assert_eq!(bench.left(), Some(3590 * SECOND));
    assert!(bench.pass(3590 * SECOND));
    bench.runs(3 * 3600 * SECOND);
    assert!(bench.pass(Duration::ZERO), "at once");
    bench.runs(SECOND);
    assert_eq!(bench.left(), Some(3599 * SECOND));

    let mut bench = Bench::new(TimerSpec { defer_reactivation: true, ..spec(vec![calendar("hourly")]) });
    assert!(bench.pass(3600 * SECOND));
    bench.runs(5400 * SECOND);
    assert_eq!(bench.left(), Some(1800 * SECOND), "the next one only");
}

#[test]
fn a_persistent_timer_makes_up_for_what_the_machine_was_off_for() {
    let mut bench = Bench::new(TimerSpec { persistent: true, ..spec(vec![calendar("daily")]) });
    for (stamp, left) in [
        (NEW_YEAR + 1, Some(23 * 3600 * SECOND)),
        (NEW_YEAR - HOUR, Some(Duration::ZERO)),
        // A clock that was wrong.
        (NEW_YEAR + 9000 * HOUR, Some(23 * 3600 * SECOND)),
    ] {
        bench.timer.stop(bench.now);
        bench.timer.start(Some(stamp), bench.now);
        assert_eq!(bench.left(), left, "{stamp}");
    }
}

#[test]
fn spans_count_from_the_boot_the_activation_and_the_units_own_times() {
    let mut bench = Bench::new(spec(vec![Trigger::Boot(150 * SECOND)]));
    assert_eq!(bench.left(), Some(50 * SECOND));
    assert!(bench.pass(50 * SECOND));
    bench.runs(SECOND);
    assert_eq!((bench.timer.sub_state(), bench.left()), ("elapsed", None), "once a boot");

    let mut late = Bench::new(spec(vec![Trigger::Boot(30 * SECOND)]));
    assert!(late.pass(Duration::ZERO), "its time was before its start");
    late.runs(SECOND);
    assert_eq!(late.timer.sub_state(), "elapsed");

    let mut bench = Bench::new(TimerSpec { remain_after_elapse: false, ..spec(vec![Trigger::Active(5 * SECOND)]) });
    assert!(bench.pass(5 * SECOND));
    bench.runs(SECOND);
    assert_eq!(bench.timer.sub_state(), "dead");

    let mut bench = Bench::new(spec(vec![Trigger::UnitActive(60 * SECOND), Trigger::Active(SECOND)]));
    assert!(bench.pass(SECOND));
    bench.runs(20 * SECOND);
    assert_eq!(bench.left(), Some(40 * SECOND), "from the begin of the run");
    let mut bench = Bench::new(spec(vec![Trigger::UnitInactive(60 * SECOND)]));
    assert_eq!(bench.timer.sub_state(), "elapsed", "its unit never ran");
    bench.runs(20 * SECOND);
    assert_eq!(bench.left(), Some(60 * SECOND), "from its end");
}

#[test]
fn what_was_due_when_the_supervisor_died_is_done_by_the_next() {
    let mut bench = Bench::new(spec(vec![calendar("*-*-* 02:00:00")]));
    assert!(bench.pass(Duration::from_secs(3600)));
    let triggered = bench.now.wall_us;
    // It came to a start: not once more.
    bench.timer.try_again(triggered, bench.now);
    assert_eq!(bench.timer.record.state, State::Running);
    bench.timer.try_again(triggered - 1, bench.now);
    assert!(bench.pass(Duration::ZERO));
    bench.runs(SECOND);
    assert_eq!(bench.left(), Some(Duration::from_secs(24 * 3600 - 1)));
    bench.timer.try_again(0, bench.now);
    assert!(!bench.pass(Duration::ZERO), "it waits for its time");
}

#[test]
fn a_unit_that_refuses_does_not_end_its_timer() {
    let mut bench = Bench::new(spec(vec![calendar("hourly")]));
    assert!(bench.pass(3600 * SECOND));
    bench.timer.unit_rests(bench.now);
    assert_eq!(bench.left(), Some(3600 * SECOND));
}

#[test]
fn a_clock_that_is_set_moves_the_calendar_and_nothing_else() {
    let mut bench = Bench::new(spec(vec![calendar("daily"), Trigger::Active(7200 * SECOND)]));
    assert_eq!(bench.left(), Some(7200 * SECOND));
    // Forward, over midnight.
    bench.now.wall_us += 30 * HOUR;
    bench.timer.look_again(bench.now);
    assert_eq!(bench.left(), Some(Duration::ZERO), "the day has begun");
    assert!(bench.pass(Duration::ZERO));
    bench.runs(SECOND);
    // And back: the same day comes once more.
    bench.now.wall_us -= 30 * HOUR;
    bench.timer.look_again(bench.now);
    assert_eq!(bench.left(), Some(7199 * SECOND));
    assert!(bench.pass(7199 * SECOND));
    bench.runs(SECOND);
    assert!(bench.left().unwrap() <= 24 * 3600 * SECOND);
}

#[test]
fn chance_delays_as_far_as_the_file_allows() {
    let random = TimerSpec { random_delay: 600 * SECOND, ..spec(vec![calendar("hourly")]) };
    let left = |spec: &TimerSpec, nanos: u64| {
        let mut bench = Bench::new(spec.clone());
        bench.now.mono += Duration::from_nanos(nanos);
        bench.timer.stop(bench.now);
        bench.timer.start(None, bench.now);
        bench.left().unwrap()
    };
    let all: std::collections::BTreeSet<Duration> = (0..50).map(|nanos| left(&random, nanos)).collect();
    assert!(all.len() > 40 && all.iter().all(|left| (3600 * SECOND..4200 * SECOND).contains(left)), "{all:?}");
    let fixed = TimerSpec { fixed_delay: true, ..random };
    assert_eq!(left(&fixed, 1), left(&fixed, 2));
}

#[test]
fn a_record_reads_back() {
    let bench = Bench::new(spec(vec![calendar("hourly"), Trigger::Active(SECOND)]));
    let text = serde_json::to_vec(&bench.timer.record).unwrap();
    assert_eq!(serde_json::from_slice::<Record>(&text).unwrap(), bench.timer.record);
}

/// What is on the disk is what an earlier supervisor thought before the clock was right.
#[test]
fn a_clock_that_was_set_while_nobody_looked_counts_for_the_next_supervisor() {
    let mut bench = Bench::new(spec(vec![calendar("daily")]));
    bench.now.wall_us += 3 * 365 * 24 * HOUR;
    bench.timer.stop(bench.now);
    bench.timer.start(None, bench.now);
    bench.now.wall_us -= 3 * 365 * 24 * HOUR;
    bench.timer.look_again(bench.now);
    assert!(bench.left().unwrap() <= 24 * 3600 * SECOND);
}

#[test]
fn a_machine_that_learns_the_time_triggers_only_what_is_due() {
    let boot = Now { mono: Duration::from_secs(5), wall_us: HOUR };
    let now = Now { mono: Duration::from_secs(10), wall_us: NEW_YEAR + HOUR };
    // On time yesterday; or not persistent at all; or triggered by the wrong clock.
    for (stamp, triggered) in [(Some(NEW_YEAR - 23 * HOUR), false), (None, false), (None, true)] {
        let spec = TimerSpec { persistent: stamp.is_some(), ..spec(vec![calendar("weekly")]) };
        let mut timer = Timer::new(spec, 7, boot);
        timer.start(stamp, boot);
        if triggered {
            (timer.record.triggered, timer.record.triggered_us) = (Some(boot.mono), Some(boot.wall_us));
        }
        timer.look_again(now);
        assert!(!timer.tick(now), "{stamp:?} {triggered}");
        assert!(timer.deadline(now).is_some());
    }
    // Missed while the machine was off.
    let mut timer = Timer::new(TimerSpec { persistent: true, ..spec(vec![calendar("weekly")]) }, 7, boot);
    timer.start(Some(NEW_YEAR - 20 * 24 * HOUR), boot);
    timer.look_again(now);
    assert!(timer.tick(now));
}
