//! The links of systemd.unit(5) beside order and requirement.

use super::*;
use crate::unit::{MachineAction, MachineActions, MachineEnd};

pub(super) fn linked(change: impl FnOnce(&mut Links)) -> Plan {
    let mut plan = plan();
    change(&mut plan.links);
    plan
}

impl World {
    /// Its process ends by itself.
    pub(super) fn ends(&mut self, unit: &str, wait_status: i32) {
        let process = self.live.remove(&name(unit)).expect("it lives");
        self.engine.event(&name(unit), Event::Exited { process, wait_status, out_of_memory: false }, self.now);
        self.run();
    }

    pub(super) fn all_up(&mut self, units: &[&str]) {
        for unit in units {
            self.start(unit);
        }
        self.run();
        self.diary.clear();
    }

    pub(super) fn stop(&mut self, unit: &str) {
        self.engine.stop(&name(unit), self.now);
        self.run();
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now.mono += time;
        self.engine.tick(self.now);
        self.run();
    }
}

pub(super) const FAILED: i32 = 1 << 8;

#[test]
fn binds_to_brings_along_and_goes_down_with_whatever_ends() {
    let bound = linked(|links| {
        links.binds_to = names(&["db"]);
        links.after = names(&["db"]);
    });
    let requires = requires(&["db"]);
    let mut world = World::new(&[("app", bound), ("other", requires), ("db", plan())]);
    world.start("app");
    world.start("other");
    world.run();
    assert_eq!(world.diary[0], "db up");
    world.diary.clear();
    world.ends("db", FAILED);
    assert_eq!(world.diary, ["db failed", "app down"], "Requires= alone follows stops that were asked for only");
    assert_eq!(world.state("other"), "running");
}

#[test]
fn part_of_follows_stops_and_restarts_and_nothing_else() {
    let part = linked(|links| links.part_of = names(&["db"]));
    let mut world = World::new(&[("app", part), ("db", plan())]);
    world.start("app");
    world.run();
    assert_eq!(world.diary, ["app up"], "it brings nothing along");
    world.all_up(&["db"]);
    world.ends("db", FAILED);
    assert_eq!((world.state("db"), world.state("app")), ("failed", "running"));
    world.all_up(&["db"]);
    world.engine.restart(&name("db"), world.now);
    world.run();
    world.diary.sort();
    assert_eq!(world.diary, ["app down", "app up", "db down", "db up"]);
    world.stop("db");
    assert_eq!((world.state("db"), world.state("app")), ("dead", "dead"));
}

#[test]
fn a_unit_that_restarts_by_itself_takes_those_along_that_need_it() {
    let bound = linked(|links| (links.binds_to, links.after) = (names(&["db"]), names(&["db"])));
    let part = linked(|links| links.part_of = names(&["db"]));
    let mut db = plan();
    db.policy.restart = RestartOn::Always;
    let plans =
        [("bound", bound), ("other", requires(&["db"])), ("part", part), ("db", db), ("rests", requires(&["db"]))];
    let mut world = World::new(&plans);
    world.all_up(&["bound", "other", "part"]);
    world.ends("db", FAILED);
    assert_eq!(["db", "bound", "other"].map(|unit| world.state(unit)), ["auto-restart", "waiting", "running"]);
    world.pass(Duration::from_millis(100));
    assert_eq!(["db", "bound", "other", "part", "rests"].map(|unit| world.state(unit)), {
        let up = "running";
        [up, up, up, up, "dead"]
    });
    let at = |line: &str| world.diary.iter().position(|said| said == line).unwrap_or_else(|| panic!("{line}"));
    assert!(at("bound down") < at("other down") && at("other down") < at("db up"), "{:?}", world.diary);
    assert!(at("db up") < at("bound up") && at("db up") < at("other up") && at("part down") < at("part up"));
    // Its next supervisor goes on with that.
    world.ends("db", FAILED);
    let job = world.engine.get(&name("bound")).unwrap().job.clone().map(|job| job.kind);
    assert_eq!(job, Some(JobKind::Start), "it is kept with the unit");
    world.stop("db");
    assert_eq!(["db", "bound", "other"].map(|unit| world.state(unit)), ["dead", "dead", "dead"]);
}

#[test]
fn what_remains_after_its_exit_stops_nobody() {
    let bound = linked(|links| (links.binds_to, links.after) = (names(&["db"]), names(&["db"])));
    let mut db = plan();
    db.policy.remain_after_exit = true;
    let mut world = World::new(&[("app", bound), ("db", db)]);
    world.all_up(&["app"]);
    world.ends("db", 0);
    assert_eq!((world.state("db"), world.state("app")), ("exited", "running"));
}

#[test]
fn what_never_ran_ends_no_machine() {
    let end = |end| Some(MachineAction { end, force: false });
    let mut app = requires(&["gone"]);
    app.links.on_failure = names(&["alarm"]);
    let actions = MachineActions {
        failure: end(MachineEnd::Reboot),
        success: end(MachineEnd::PowerOff),
        ..MachineActions::default()
    };
    app.policy.actions = actions;
    let mut late = Plan { after_network: true, ..plan() };
    late.policy.actions = actions;
    late.links.on_success = names(&["report"]);
    let plans = [("app", app), ("gone", plan()), ("late", late), ("alarm", plan()), ("report", plan())];
    let mut world = World::new(&plans);
    world.broken.insert(name("gone"));
    world.start("app");
    world.run();
    assert_eq!(world.diary, ["gone failed", "app failed", "alarm up"]);
    world.start("late");
    world.run();
    world.diary.clear();
    world.stop("late");
    assert_eq!(
        (world.diary, "dead"),
        (vec!["late down".to_owned()], world.engine.get(&name("late")).unwrap().record.state.sub_state())
    );
}

#[test]
fn a_start_limit_holds_for_what_others_start() {
    let mut helper = plan();
    (helper.policy.start_limit_burst, helper.policy.start_limit_interval) = (2, Duration::MAX);
    let mut world = World::new(&[("app", linked(|links| links.upholds = names(&["helper"]))), ("helper", helper)]);
    world.all_up(&["app"]);
    world.ends("helper", FAILED);
    assert_eq!(world.state("helper"), "running");
    world.ends("helper", FAILED);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.state("helper"), "failed");
    let last = world.engine.get(&name("helper")).unwrap().record.last.clone().unwrap().to_string();
    assert!(last.contains("started 2 times"), "{last}");
    world.start("helper");
    world.run();
    assert_eq!(world.state("helper"), "running", "a person may");
}

#[test]
fn a_stop_is_propagated_to_whom_the_unit_names() {
    let plans = [("db", linked(|links| links.propagates_stop_to = names(&["cache"]))), ("cache", plan())];
    let mut world = World::new(&plans);
    world.all_up(&["db", "cache"]);
    world.stop("cache");
    assert_eq!(world.state("db"), "running");
    world.all_up(&["cache"]);
    world.stop("db");
    assert_eq!(world.state("cache"), "dead");
    // An end by itself is a stop as well.
    world.all_up(&["db", "cache"]);
    world.ends("db", 1 << 8);
    assert_eq!((world.state("db"), world.state("cache")), ("failed", "dead"));
}

#[test]
fn of_conflicting_units_the_one_asked_for_last_runs() {
    let mut old_after = linked(|links| links.conflicts = names(&["new"]));
    old_after.links.after = names(&["new"]);
    let mut world = World::new(&[("old", old_after), ("new", plan())]);
    world.all_up(&["old"]);
    world.start("new");
    world.run();
    assert_eq!(world.diary, ["old down", "new up"], "in this order, because there is one between them");
    world.diary.clear();
    world.start("old");
    world.run();
    assert_eq!(world.diary, ["new down", "old up"]);
}

#[test]
fn of_two_in_one_transaction_that_conflict_the_one_that_is_only_wanted_does_not_start() {
    let wants = |wanted: &[&str], required: &[&str]| {
        linked(|links| (links.wants, links.requires) = (names(wanted), names(required)))
    };
    let rival = || linked(|links| links.conflicts = names(&["db"]));
    let mut world = World::new(&[
        ("app", wants(&["rival", "friend"], &["db"])),
        ("all", wants(&["db", "rival"], &[])),
        ("torn", wants(&["helper"], &["db", "rival"])),
        ("boot", wants(&["torn", "helper"], &[])),
        ("friend", requires(&["rival"])),
        ("rival", rival()),
        ("db", plan()),
        ("helper", plan()),
    ]);
    let states = |world: &World, units: [&str; 3]| units.map(|unit| world.state(unit));
    world.start("app");
    world.run();
    assert_eq!(states(&world, ["app", "db", "rival"]), ["running", "running", "dead"]);
    assert_eq!(world.state("friend"), "dead", "it needs who does not start");
    // Those that are equal: always the same one.
    world.stop("db");
    world.start("all");
    world.run();
    assert_eq!(states(&world, ["all", "db", "rival"]), ["running", "running", "dead"]);
    // Both required: refused, nothing else is touched.
    let id = world.start("torn");
    world.run();
    let why = "torn: needs db and rival at once, which conflict";
    assert!(world.done[&id].as_ref().is_err_and(|text| text.contains(why)), "{:?}", world.done[&id]);
    assert_eq!(states(&world, ["db", "rival", "helper"]), ["running", "dead", "dead"]);
    world.start("boot");
    world.run();
    assert_eq!(states(&world, ["boot", "torn", "helper"]), ["running", "failed", "running"]);
}

#[test]
fn of_enabled_units_that_conflict_one_is_not_started_at_all() {
    let rival = linked(|links| links.conflicts = names(&["db"]));
    let mut off = plan();
    off.enabled = false;
    let more = requires(&["rival"]);
    let mut world =
        World::new(&[("db", plan()), ("rival", rival), ("more", more), ("off", off), ("other", after(&["db"]))]);
    world.engine.start_enabled(world.now);
    world.run();
    assert_eq!(world.diary, ["db up", "other up"]);
    for unit in ["rival", "more"] {
        assert_eq!((world.state(unit), world.engine.get(&name(unit)).unwrap().record.attempt), ("dead", 0));
    }
}

#[test]
fn who_has_to_be_active_is_not_when_it_has_ended_well() {
    let mut done = plan();
    done.policy.oneshot = true;
    let requisite = linked(|links| (links.requisite, links.after) = (names(&["done"]), names(&["done"])));
    let bound = linked(|links| (links.binds_to, links.after) = (names(&["done"]), names(&["done"])));
    let mut world = World::new(&[("done", done), ("app", requisite), ("bound", bound), ("other", requires(&["done"]))]);
    world.start("done");
    world.run();
    world.ends("done", 0);
    let id = world.start("app");
    world.run();
    assert!(world.done[&id].is_err(), "systemd.unit(5), Requisite=");
    let id = world.start("bound");
    world.run();
    world.ends("done", 0);
    assert!(world.done[&id].is_err(), "the same, BindsTo=");
    world.start("other");
    world.run();
    world.ends("done", 0);
    assert_eq!(world.state("other"), "running");
}

#[test]
fn what_is_upheld_comes_back_and_not_without_a_pause() {
    let mut world = World::new(&[("app", linked(|links| links.upholds = names(&["helper"]))), ("helper", plan())]);
    world.all_up(&["app"]);
    assert_eq!(world.state("helper"), "running", "it comes along");
    world.ends("helper", FAILED);
    assert_eq!(world.state("helper"), "running");
    world.ends("helper", 0);
    assert_eq!(world.state("helper"), "dead", "not twice in a moment");
    let at = world.engine.next_deadline().unwrap();
    world.pass(at - world.now.mono);
    assert_eq!(world.state("helper"), "running");
    world.stop("helper");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.state("helper"), "running", "a stop by request is no exception, as with systemd");
    // A supervisor that takes over looks again.
    world.ends("helper", 0);
    take_over(&mut world, LastEnd::ByItself);
    world.engine.resume(world.now);
    world.run();
    assert_eq!(world.state("helper"), "running");
    world.stop("app");
    world.ends("helper", 0);
    world.pass(Duration::from_secs(9));
    assert_eq!(world.state("helper"), "dead", "nobody upholds it any more");
}

#[test]
fn what_cannot_start_is_upheld_without_an_end_and_without_a_storm() {
    let mut world = World::new(&[("app", linked(|links| links.upholds = names(&["helper"]))), ("helper", plan())]);
    world.broken.insert(name("helper"));
    world.all_up(&["app"]);
    for _ in 0..5 {
        world.diary.clear();
        world.pass(Duration::from_secs(2));
        assert_eq!(world.diary, ["helper failed"]);
    }
}

#[test]
fn requisite_starts_nothing() {
    let mut world = World::new(&[("app", linked(|links| links.requisite = names(&["db"]))), ("db", plan())]);
    let job = world.start("app");
    world.run();
    assert_eq!(world.done[&job], Err("app: db has to be active already, and is not".into()));
    world.all_up(&["db", "app"]);
    assert_eq!(world.state("app"), "running");
    world.stop("db");
    assert_eq!(world.state("app"), "dead");
}

#[test]
fn the_end_of_a_unit_starts_others_when_no_restart_follows() {
    let mut job = linked(|links| {
        links.on_failure = names(&["alarm"]);
        links.on_success = names(&["report"]);
    });
    job.policy.restart = RestartOn::OnFailure;
    job.policy.start_limit_burst = 2;
    let mut world = World::new(&[("job", job), ("alarm", plan()), ("report", plan())]);
    world.all_up(&["job"]);
    world.ends("job", FAILED);
    assert_eq!((world.state("job"), world.state("alarm")), ("auto-restart", "dead"));
    world.pass(Duration::from_millis(100));
    world.ends("job", FAILED);
    world.pass(Duration::from_millis(100));
    assert_eq!((world.state("job"), world.state("alarm")), ("failed", "running"));
    world.all_up(&["job"]);
    world.ends("job", 0);
    assert_eq!((world.state("job"), world.state("report")), ("dead", "running"));
}

#[test]
fn units_that_fail_into_each_other_do_not_stop_the_world() {
    let fails_into = |other: &str| {
        let mut plan = linked(|links| links.on_failure = names(&[other]));
        plan.links.requires = names(&["gone"]);
        plan.links.after = names(&["gone"]);
        plan
    };
    let mut world = World::new(&[("a", fails_into("b")), ("b", fails_into("a")), ("gone", plan())]);
    world.broken.insert(name("gone"));
    world.start("a");
    world.run();
    assert!(world.diary.len() < 10, "{:?}", world.diary);
    world.engine.shut_down(world.now);
    world.run();
    assert!(world.engine.quiet());
}

#[test]
fn the_machine_ends_when_the_unit_says_so() {
    let reboot = Some(MachineAction { end: MachineEnd::Reboot, force: false });
    let mut fragile = plan();
    fragile.policy.actions = MachineActions { failure: reboot, ..MachineActions::default() };
    let mut limited = plan();
    limited.policy.restart = RestartOn::Always;
    limited.policy.start_limit_burst = 1;
    limited.policy.actions = MachineActions { start_limit: reboot, ..MachineActions::default() };
    let mut world = World::new(&[("fragile", fragile), ("limited", limited)]);
    world.all_up(&["fragile", "limited"]);
    world.ends("fragile", FAILED);
    assert_eq!(world.diary, ["reboot", "fragile failed"].map(str::to_owned).into_iter().rev().collect::<Vec<_>>());
    world.diary.clear();
    world.ends("limited", 0);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.diary, ["limited failed", "reboot"]);
}

#[test]
fn a_condition_that_does_not_hold_holds_up_nobody() {
    let bound = linked(|links| {
        links.binds_to = names(&["db"]);
        links.after = names(&["db"]);
    });
    let mut db = linked(|links| {
        links.on_failure = names(&["alarm"]);
        links.on_success = names(&["alarm"]);
    });
    db.policy.actions.success = Some(MachineAction { end: MachineEnd::Reboot, force: false });
    let upholds = linked(|links| links.upholds = names(&["db"]));
    let plans = [("db", db), ("app", requires(&["db"])), ("bound", bound), ("keeper", upholds), ("alarm", plan())];
    let mut world = World::new(&plans);
    world.unmet.insert(name("db"), false);
    let jobs: Vec<JobId> = ["db", "app", "bound", "keeper"].iter().map(|unit| world.start(unit)).collect();
    world.run();
    assert_eq!((&world.done[&jobs[0]], &world.done[&jobs[1]]), (&Ok(()), &Ok(())));
    assert_eq!(["db", "app", "keeper", "alarm"].map(|unit| world.state(unit)), ["dead", "running", "running", "dead"]);
    let text = "requires db, which was not started: ConditionHost=x does not hold";
    assert_eq!(world.done[&jobs[2]], Err(format!("bound: {text}")), "BindsTo= wants it active");
    assert!(world.engine.settled());
    // Nobody upholds what is not to be there, or the question would never end.
    world.diary.clear();
    world.pass(Duration::from_secs(60));
    assert_eq!(world.diary, [""; 0]);
    // It holds now.
    world.unmet.clear();
    world.start("db");
    world.run();
    assert_eq!(world.state("db"), "running");
}

#[test]
fn an_assertion_fails_the_job_and_what_requires_it() {
    let db = linked(|links| links.on_failure = names(&["alarm"]));
    let mut world = World::new(&[("db", db), ("app", requires(&["db"])), ("alarm", plan())]);
    world.unmet.insert(name("db"), true);
    let (db, app) = (world.start("db"), world.start("app"));
    world.run();
    assert_eq!(world.done[&db], Err("db: cannot start: ConditionHost=x does not hold".into()));
    assert!(world.done[&app].is_err());
    assert_eq!(["db", "app", "alarm"].map(|unit| world.state(unit)), ["dead", "failed", "dead"]);
}

#[test]
fn a_restart_of_what_rests_stops_what_may_not_run_beside_it() {
    let b = linked(|links| links.conflicts = names(&["a"]));
    let mut world = World::new(&[("a", plan()), ("b", b)]);
    world.all_up(&["a"]);
    world.engine.restart(&name("b"), world.now);
    world.run();
    assert_eq!((world.state("a"), world.state("b")), ("dead", "running"));
}

/// What has ended and remains is as active as what runs.
#[test]
fn what_remains_after_its_exit_goes_the_way_of_what_it_requires() {
    let remains = |mut plan: Plan| {
        (plan.policy.oneshot, plan.policy.remain_after_exit) = (true, true);
        plan
    };
    let bound = linked(|links| (links.binds_to, links.after) = (names(&["db"]), names(&["db"])));
    for (setup, end) in [(requires(&["db"]), "restart"), (bound, "failure")] {
        let mut world = World::new(&[("setup", remains(setup)), ("db", plan())]);
        world.all_up(&["setup"]);
        world.ends("setup", 0);
        assert_eq!((world.state("setup"), world.state("db")), ("exited", "running"));
        world.diary.clear();
        if end == "failure" {
            world.ends("db", FAILED);
            assert_eq!(world.state("setup"), "dead");
        } else {
            world.engine.restart(&name("db"), world.now);
            world.run();
            assert!(world.diary.iter().any(|line| line == "setup down"), "{:?}", world.diary);
        }
    }
}
