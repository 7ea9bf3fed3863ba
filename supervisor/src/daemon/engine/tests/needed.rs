//! Who is told of a restart, who still needs a unit, and how long somebody waits for one.

use super::{
    links::{FAILED, linked},
    *,
};

#[test]
fn a_direct_restart_is_seen_by_nobody_who_needs_the_unit() {
    let bound = linked(|links| (links.binds_to, links.after) = (names(&["db"]), names(&["db"])));
    let part = linked(|links| links.part_of = names(&["db"]));
    let mut db = plan();
    (db.policy.restart, db.policy.restart_direct) = (RestartOn::OnFailure, true);
    let mut world = World::new(&[("bound", bound), ("other", requires(&["db"])), ("part", part), ("db", db)]);
    world.all_up(&["bound", "other", "part"]);
    let before = world.live.clone();
    world.ends("db", FAILED);
    assert_eq!(world.state("db"), "auto-restart");
    world.pass(Duration::from_millis(100));
    assert_eq!(world.state("db"), "running");
    for unit in ["bound", "other", "part"] {
        assert_eq!(world.live[&name(unit)], before[&name(unit)], "{unit}");
    }
    // Its end for good is its end for all who are bound to it.
    world.ends("db", 0);
    assert_eq!(["db", "bound", "other"].map(|unit| world.state(unit)), ["dead", "dead", "running"]);
}

#[test]
fn whoever_asked_is_told_when_it_has_not_happened_in_time() {
    let patient = |plan: Plan| Plan { job_timeout: Some(Duration::from_secs(5)), ..plan };
    let mut slow = plan();
    slow.policy.start_timeout = None;
    let mut web = patient(requires(&["slow"]));
    web.links.on_failure = names(&["helper"]);
    let plans = [("slow", patient(slow)), ("web", web), ("helper", plan()), ("other", requires(&["slow"]))];
    let mut world = World::new(&plans);
    let (web, other) = (world.start("web"), world.start("other"));
    // Its image takes its time.
    world.take();
    let prepare = world.open.iter().position(|(unit, _)| *unit == name("slow")).unwrap();
    let prepare = world.open.remove(prepare);
    assert_eq!(world.engine.next_deadline(), Some(world.now.mono + Duration::from_secs(5)));
    world.pass(Duration::from_secs(5));
    let text = world.done[&web].clone().unwrap_err();
    assert_eq!(text, "web: did not start within 5 s, as JobTimeoutSec= allows");
    assert_eq!(["slow", "web", "other", "helper"].map(|unit| world.state(unit)), {
        ["preparing", "dead", "waiting", "running"]
    });
    // The unit itself goes on, and so does who has more patience.
    world.open.push(prepare);
    world.run();
    assert_eq!(["slow", "web", "other"].map(|unit| world.state(unit)), ["running", "dead", "running"]);
    assert_eq!(world.done[&other], Ok(()));

    // What the machine's end waits for is not given up, and nobody wakes for it.
    world.engine.stop(&name("slow"), world.now);
    world.engine.shut_down(world.now);
    world.now.mono += Duration::from_secs(5);
    assert!(world.engine.next_deadline().is_none_or(|at| at > world.now.mono), "{:?}", world.engine.next_deadline());
    world.run();
    assert!(world.engine.quiet());
}

#[test]
fn what_nobody_needs_ends_when_its_file_says_so() {
    let modest = |plan: Plan| Plan { stop_when_unneeded: true, enabled: false, ..plan };
    let wants = |list: &[&str]| linked(|links| (links.wants, links.after) = (names(list), names(list)));
    let plans = [
        ("app", requires(&["db"])),
        ("web", wants(&["db"])),
        ("db", modest(requires(&["disk"]))),
        ("disk", modest(plan())),
        ("booted", Plan { stop_when_unneeded: true, ..plan() }),
    ];
    let mut world = World::new(&plans);
    world.all_up(&["app", "web"]);
    assert_eq!(["db", "disk"].map(|unit| world.state(unit)), ["running"; 2]);
    // A restart of who needs it is no end.
    world.engine.restart(&name("app"), world.now);
    world.run();
    world.stop("app");
    assert_eq!(world.state("db"), "running", "the other one is left");
    world.diary.clear();
    world.ends("web", FAILED);
    assert_eq!(world.diary, ["web failed", "db down", "disk down"], "one after the other");
    // Nobody needs it: it comes up, and goes.
    world.diary.clear();
    let job = world.start("db");
    world.run();
    assert_eq!(world.diary, ["disk up", "db up", "db down", "disk down"]);
    assert_eq!(world.done[&job], Ok(()));
    // The boot needs what is enabled.
    world.all_up(&["booted"]);
    assert_eq!(world.state("booted"), "running");
}
