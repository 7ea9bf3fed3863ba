mod links;
mod needed;
mod random;
mod world;

use std::time::Duration;

use handoff::LastEnd;

use super::*;
use crate::daemon::machine::{Process, RestartOn};
use world::World;

fn name(text: &str) -> UnitName {
    UnitName::parse(text).unwrap()
}

fn plan() -> Plan {
    Plan {
        policy: Policy::plain(),
        links: Links::default(),
        enabled: true,
        after_network: false,
        forbidden: None,
        ends_pod: None,
        stop_when_unneeded: false,
        job_timeout: None,
    }
}

fn names(list: &[&str]) -> BTreeSet<UnitName> {
    list.iter().map(|each| name(each)).collect()
}

fn after(list: &[&str]) -> Plan {
    Plan { links: Links { after: names(list), ..Links::default() }, ..plan() }
}

fn requires(list: &[&str]) -> Plan {
    Plan { links: Links { after: names(list), requires: names(list), ..Links::default() }, ..plan() }
}

#[test]
fn starts_follow_the_order_and_stops_reverse_it() {
    let mut world = World::new(&[("web", requires(&["app"])), ("app", requires(&["db"])), ("db", plan())]);
    let job = world.start("web");
    world.run();
    assert_eq!(world.diary, ["db up", "app up", "web up"]);
    assert_eq!(world.done[&job], Ok(()));
    assert!(world.engine.settled());
    world.diary.clear();
    world.engine.shut_down(world.now);
    world.run();
    assert_eq!(world.diary, ["web down", "app down", "db down"]);
    assert!(world.engine.quiet());
    assert_eq!(world.engine.start(&name("web"), world.now), None, "nothing starts while the machine goes down");
}

#[test]
fn a_bad_unit_fails_what_requires_it_and_nothing_else() {
    let wants = Plan { links: Links { after: names(&["db"]), wants: names(&["db"]), ..Links::default() }, ..plan() };
    let mut world = World::new(&[("db", plan()), ("app", requires(&["db"])), ("cron", wants), ("other", plan())]);
    world.broken.insert(name("db"));
    let app = world.start("app");
    world.start("cron");
    world.start("other");
    world.run();
    assert_eq!(world.state("app"), "failed");
    assert_eq!(world.done[&app], Err("app: requires db, which no such image".into()));
    assert_eq!((world.state("cron"), world.state("other")), ("running", "running"));
    assert!(world.engine.settled());
}

#[test]
fn a_start_that_fails_is_told_once_though_it_is_tried_for_ever() {
    let policy = Policy { restart: RestartOn::Always, ..Policy::plain() };
    let mut world = World::new(&[("web", Plan { policy, ..plan() })]);
    world.broken.insert(name("web"));
    world.start("web");
    for _ in 0..3 {
        world.run();
        assert_eq!(world.state("web"), "auto-restart");
        world.now.mono += Duration::from_secs(60);
        world.engine.tick(world.now);
    }
    assert_eq!(world.diary, ["web again, no such image"]);
    world.broken.clear();
    world.run();
    assert_eq!(world.diary, ["web again, no such image", "web up"]);
}

#[test]
fn a_cycle_is_refused_and_everything_else_starts() {
    let mut world = World::new(&[("a", after(&["b"])), ("b", after(&["a"])), ("c", after(&["a"]))]);
    let jobs: Vec<_> = ["a", "b", "c"].iter().map(|unit| world.start(unit)).collect();
    world.run();
    assert_eq!(world.done[&jobs[0]], Err("a: ordering cycle: a after b after a".into()));
    assert_eq!((world.state("a"), world.state("b"), world.state("c")), ("failed", "failed", "running"));
}

#[test]
fn stop_and_restart_reach_those_that_require_the_unit() {
    let mut world = World::new(&[("db", plan()), ("app", requires(&["db"])), ("other", after(&["db"]))]);
    world.start("app");
    world.start("other");
    world.run();
    world.diary.clear();
    let job = world.engine.restart(&name("db"), world.now).unwrap();
    world.run();
    assert_eq!(world.diary, ["app down", "db down", "db up", "app up"]);
    assert_eq!(world.done[&job], Ok(()));
    world.diary.clear();
    world.engine.stop(&name("db"), world.now);
    world.run();
    assert_eq!(world.diary, ["app down", "db down"]);
    assert_eq!(world.state("other"), "running");
}

#[test]
fn a_start_during_a_stop_follows_it() {
    let mut world = World::new(&[("web", plan())]);
    world.start("web");
    world.run();
    let stop = world.engine.stop(&name("web"), world.now).unwrap();
    let start = world.start("web");
    world.run();
    assert!(world.done[&stop].is_err(), "the stop was replaced");
    assert_eq!((world.done[&start].clone(), world.state("web")), (Ok(()), "running"));
    assert_eq!(world.diary, ["web up", "web down", "web up"]);
}

#[test]
fn a_oneshot_holds_back_what_comes_after_it_until_it_is_done() {
    let mut policy = Policy::plain();
    policy.oneshot = true;
    let mut world = World::new(&[("migrate", Plan { policy, ..plan() }), ("app", requires(&["migrate"]))]);
    let job = world.start("app");
    world.run();
    assert_eq!((world.state("migrate"), world.state("app")), ("running", "waiting"));
    let process = world.live.remove(&name("migrate")).unwrap();
    world.engine.event(&name("migrate"), Event::Exited { process, wait_status: 0, out_of_memory: false }, world.now);
    world.run();
    assert_eq!((world.state("migrate"), world.state("app")), ("dead", "running"));
    assert_eq!(world.done[&job], Ok(()));
}

#[test]
fn five_hundred_start_a_few_at_a_time_and_can_be_looked_at_meanwhile() {
    let plans: Vec<(String, Plan)> = (0..500).map(|i| (format!("u{i}"), plan())).collect();
    let plans: Vec<(&str, Plan)> = plans.iter().map(|(name, plan)| (name.as_str(), plan.clone())).collect();
    let mut world = World::new(&plans);
    for (unit, _) in &plans {
        world.start(unit);
    }
    world.take();
    let mut turns = 0;
    while !world.open.is_empty() {
        // Between any two turns the interface gets its word, and sees how far things are.
        let sub_states: Vec<&str> = world.engine.units().map(|(_, entry)| entry.record.state.sub_state()).collect();
        let starting = sub_states.iter().filter(|state| !matches!(**state, "waiting" | "running")).count();
        assert!(sub_states.len() == 500 && starting <= STARTING_AT_ONCE && world.open.len() <= STARTING_AT_ONCE);
        world.answer(0);
        world.take();
        turns += 1;
    }
    assert_eq!(turns, 3 * 500, "prepare, create, start: no turn does more for having more units");
    assert!(world.engine.settled() && world.live.len() == 500);
}

#[test]
fn a_unit_whose_file_is_gone_stays_until_it_is_at_rest() {
    let mut world = World::new(&[("web", plan())]);
    world.start("web");
    world.run();
    world.engine.load(BTreeMap::new(), world.now);
    assert_eq!(world.state("web"), "running");
    world.engine.stop(&name("web"), world.now);
    world.run();
    assert!(world.engine.get(&name("web")).is_none() && world.live.is_empty());
}

#[test]
fn a_unit_that_keeps_restarting_is_waited_for_a_few_times_and_not_for_ever() {
    let restarting = |delay| Policy {
        restart: RestartOn::Always,
        restart_delay: Duration::from_secs(delay),
        start_limit_interval: Duration::ZERO,
        ..Policy::plain()
    };
    let loops = Plan { policy: restarting(1), ..plan() };
    let mut world = World::new(&[("db", loops), ("app", requires(&["db"]))]);
    world.broken.insert(name("db"));
    let app = world.start("app");
    for _ in 0..FAIR_RESTARTS {
        assert!(!world.engine.settled() && world.state("app") != "failed");
        world.now.mono += Duration::from_secs(1);
        world.engine.tick(world.now);
        world.run();
    }
    assert_eq!(world.done[&app], Err("app: requires db, which keeps restarting: no such image".into()));
    assert_eq!(world.state("db"), "auto-restart");
    assert!(world.engine.settled());

    let mut world = World::new(&[("slow", Plan { policy: restarting(3600), ..plan() })]);
    world.broken.insert(name("slow"));
    world.start("slow");
    assert!(!world.engine.settled());
    world.run();
    assert!(world.engine.settled(), "in an hour");
}

/// A new supervisor, after the death of one, with the records as they were.
fn take_over(world: &mut World, end: LastEnd) {
    let records: Vec<_> = world.engine.units().map(|(name, entry)| (name.clone(), entry.record.clone())).collect();
    let plans = world.engine.units().map(|(name, entry)| (name.clone(), entry.plan.clone())).collect();
    world.engine = Engine::default();
    world.engine.load(plans, world.now);
    world.open.clear();
    (world.done, world.jobs_before) = (BTreeMap::new(), 0);
    for (name, mut record) in records.clone() {
        record.count_death(world.live.contains_key(&name), end, world.now);
        world.engine.restore(name, Policy::plain(), record, None);
    }
    for (name, _) in records {
        world.engine.event(&name, Event::Interrupted, world.now);
    }
}

#[test]
fn what_ended_while_there_was_no_supervisor_is_not_started_again_for_the_job_that_started_it() {
    for status in [0, 3 << 8] {
        let mut policy = Policy::plain();
        policy.oneshot = true;
        let oneshot = Plan { policy, ..plan() };
        let mut world = World::new(&[("migrate", oneshot.clone())]);
        world.start("migrate");
        world.run();
        let entry = world.engine.get(&name("migrate")).unwrap();
        let (record, job) = (entry.record.clone(), entry.job.clone().unwrap());
        assert!(job.underway, "it waits for the end");
        let process = world.live.remove(&name("migrate")).unwrap();
        world.engine = Engine::default();
        world.engine.load(BTreeMap::from([(name("migrate"), oneshot.clone())]), world.now);
        world.engine.restore(name("migrate"), oneshot.policy, record, Some((job.kind, job.underway)));
        let exited = Event::Exited { process, wait_status: status, out_of_memory: false };
        world.engine.event(&name("migrate"), exited, world.now);
        world.engine.event(&name("migrate"), Event::Interrupted, world.now);
        world.run();
        assert_eq!(world.state("migrate"), if status == 0 { "dead" } else { "failed" });
        assert!(world.live.is_empty() && world.engine.get(&name("migrate")).unwrap().job.is_none());
    }
}

#[test]
fn a_unit_whose_start_kills_the_supervisor_is_found_out_and_held_back() {
    let mut world = World::new(&[("a", plan()), ("bad", plan()), ("c", plan()), ("d", plan())]);
    for unit in ["a", "bad", "c", "d"] {
        world.start(unit);
    }
    let mut deaths = 0;
    loop {
        world.take();
        if world.open.is_empty() {
            break;
        }
        // The supervisor dies of making this container.
        if world.open.iter().any(|(unit, action)| unit.as_str() == "bad" && matches!(action, Action::Create { .. })) {
            deaths += 1;
            take_over(&mut world, LastEnd::ByItself);
        } else {
            world.answer(0);
        }
    }
    assert_eq!(deaths, 3, "fewer than PID 1 bears");
    let last = world.engine.get(&name("bad")).unwrap().record.last.clone().unwrap();
    assert_eq!(last.to_string(), "the supervisor died 3 times while starting it");
    for unit in ["a", "c", "d"] {
        assert_eq!(world.state(unit), "running");
        assert!(world.engine.get(&name(unit)).unwrap().record.deaths <= 1, "{unit} is blamed as well");
    }
    // Asked for by a person it is tried again.
    world.start("bad");
    world.run();
    assert_eq!(world.state("bad"), "running");
}

/// A timer goes on when the kills are over.
#[test]
fn kills_from_outside_hold_a_unit_back_for_a_while() {
    for (end, allowed, later) in [(LastEnd::FromOutside, 4, "running"), (LastEnd::ByItself, 3, "failed")] {
        let mut world = World::new(&[("tick", plan())]);
        world.start("tick");
        for _ in 0..allowed {
            world.take();
            assert_eq!(world.state("tick"), "preparing");
            take_over(&mut world, end);
        }
        // Who triggers it is no person.
        let again = |world: &mut World| {
            world.engine.start(&name("tick"), world.now);
            world.run();
            world.state("tick")
        };
        assert_eq!(again(&mut world), "failed");
        world.now.mono += Duration::from_secs(60);
        assert_eq!(again(&mut world), later);
    }
}

#[test]
fn what_lives_is_stopped_with_the_signal_it_was_started_with() {
    let mut world = World::new(&[("web", plan())]);
    world.start("web");
    world.engine.learn(&name("web"), libc::SIGQUIT, None);
    world.run();
    world.engine.load(BTreeMap::from([(name("web"), plan())]), world.now);
    world.engine.stop(&name("web"), world.now);
    world.take();
    assert!(matches!(world.open[0].1, Action::Signal { signal: libc::SIGQUIT, .. }), "{:?}", world.open);
}

#[test]
fn a_unit_that_the_machine_forbids_says_why() {
    let forbidden = Plan { forbidden: Some("keeps data in the volume db".into()), ..plan() };
    let mut world = World::new(&[("db", forbidden), ("app", requires(&["db"])), ("web", plan())]);
    let job = world.start("app");
    world.start("web");
    world.run();
    assert_eq!(world.done[&job], Err("app: requires db, which keeps data in the volume db".into()));
    assert_eq!((world.state("db"), world.state("web")), ("failed", "running"));
}

#[test]
fn what_is_ordered_after_the_network_waits_for_it_once() {
    let mut world = World::new(&[("local", plan()), ("remote", Plan { after_network: true, ..plan() })]);
    world.start("local");
    world.start("remote");
    world.run();
    assert!(world.live.contains_key(&name("local")) && !world.live.contains_key(&name("remote")));
    assert!(!world.engine.settled());
    world.engine.network_is_online(world.now);
    world.run();
    assert!(world.live.contains_key(&name("remote")) && world.engine.settled());
}
