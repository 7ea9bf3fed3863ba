//! Hundreds of units at once: so many start at the same time and no more, and the supervisor answers in between.
//! `ORLOP_UNITS=500 cargo test -p qemu-tests --test machines hundreds` is the long form: some minutes under emulation.

use crate::support::{enabled, machine, probe_unit, run_probe, state};
use serde_json::Value;
use std::time::Duration;

/// The supervisor's own bound.
const AT_ONCE: usize = 8;
/// How long a client is patient before it asks for the next table of all units.
const BETWEEN: Duration = Duration::from_secs(3);
/// How often it asks while they start, at least, and before it gives up.
const LEAST: usize = 3;
const MOST: usize = 300;

fn units() -> usize {
    std::env::var("ORLOP_UNITS").map_or(150, |text| text.parse().unwrap())
}

#[test]
fn hundreds_of_units_start_a_few_at_a_time_and_questions_are_answered_meanwhile() {
    let all = units();
    let mut builder = machine("many").memory_mib(1536);
    let many = enabled(&probe_unit("sleep", "")) + "[Quadlet]\nDefaultDependencies=false\n";
    for unit in 0..all {
        builder = builder.unit(&format!("m{unit}.container"), &many);
    }
    let peak = probe_unit("show /cg/pids.peak /cg/pids.current", "Volume=/sys/fs/cgroup/orlop:/cg:ro");
    let machine = builder.unit("peak.container", &peak).start().unwrap();
    machine.wait_until("an answer", || machine.get("/v1/ping").map(Some)).unwrap();
    let mut answers = 0;
    loop {
        let settled = machine.settled_within(BETWEEN).unwrap();
        let asked = machine.orlop(&["--json", "ps", "m*"]).unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let units: Vec<Value> = serde_json::from_slice(&asked.stdout).unwrap();
        let count = |wanted: &[&str]| {
            units.iter().filter(|unit| unit["sub_state"].as_str().is_some_and(|state| wanted.contains(&state))).count()
        };
        let (starting, up) = (count(&["preparing", "creating", "starting"]), count(&["running"]));
        assert!(units.len() == all && starting <= AT_ONCE, "{starting} of {} start at once", units.len());
        if settled.is_some() {
            assert_eq!(up, all);
            assert!(units.iter().all(|unit| state(unit) == "active" && unit["restarts"] == 0));
            break;
        }
        answers += 1;
        assert!(answers < MOST, "{up} are up after all this time: {}", machine.console().tail());
    }
    assert!(answers >= LEAST, "{answers} answers while they started");

    // None was killed because it did not answer PID 1.
    assert_eq!(machine.get("/v1/system").unwrap()["supervisor_generation"], 1);

    // What was in the supervisor's cgroup besides itself: a thread that makes a bundle, or a process of the runtime and its
    // helper, for each that starts.
    let shown = run_probe(&machine, "peak", "shown").unwrap();
    let number = |file: &str| -> usize {
        let line = shown.iter().find_map(|line| line.strip_prefix(file)?.strip_prefix(": ")).unwrap();
        line.parse().unwrap_or_else(|_| panic!("{shown:?}"))
    };
    let (peak, now) = (number("/cg/pids.peak"), number("/cg/pids.current"));
    assert!(peak - now <= 2 * AT_ONCE, "{peak} at most, {now} now");
    // As it was before, and as quick to answer.
    assert_eq!(machine.orlop(&["stop", "m7"]).unwrap().status.code(), Some(0));
    assert_eq!(state(&machine.unit("m7").unwrap()), "inactive");
    assert_eq!(state(&machine.unit("m8").unwrap()), "active");
}
