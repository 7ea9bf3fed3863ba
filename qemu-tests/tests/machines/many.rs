//! Hundreds of units at once: so many start at the same time and no more, and the supervisor answers in between.
//! `ORLOP_UNITS=500 cargo test -p qemu-tests --test machines hundreds` is the long form: some minutes under emulation.

use crate::support::{enabled, machine, probe_unit, state};
use qemu_tests::LIMIT;
use serde_json::Value;
use std::time::{Duration, Instant};

/// The supervisor's own bound.
const AT_ONCE: usize = 8;
/// How many tables of all units a client gets while some are up and others are not, at least, asking for one after the other.
const LEAST: usize = 3;
/// How long it is patient before it asks for a further one.
const BETWEEN: Duration = Duration::from_secs(3);

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
    let machine = builder.start().unwrap();
    machine.wait_until("an answer", || machine.get("/v1/ping").map(Some)).unwrap();
    let (mut answers, mut were_up, mut since) = (0, 0, Instant::now());
    loop {
        let settled = answers >= LEAST && machine.settled_within(BETWEEN).unwrap().is_some();
        let asked = machine.orlop(&["--json", "ps", "m*"]).unwrap();
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        let units: Vec<Value> = serde_json::from_slice(&asked.stdout).unwrap();
        let count = |wanted: &[&str]| {
            units.iter().filter(|unit| unit["sub_state"].as_str().is_some_and(|state| wanted.contains(&state))).count()
        };
        let (starting, up) = (count(&["preparing", "creating", "starting"]), count(&["running"]));
        assert!(units.len() == all && starting <= AT_ONCE, "{starting} of {} start at once", units.len());
        if settled || up == all {
            assert_eq!(up, all);
            assert!(units.iter().all(|unit| state(unit) == "active" && unit["restarts"] == 0));
            break;
        }
        answers += usize::from(0 < up && up < all);
        if up != were_up {
            (were_up, since) = (up, Instant::now());
        }
        assert!(since.elapsed() < LIMIT, "{up} are up for all this time: {}", machine.console().tail());
    }
    assert!(answers >= LEAST, "{answers} answers while they started");

    // None was killed because it did not answer PID 1.
    assert_eq!(machine.get("/v1/system").unwrap()["supervisor_generation"], 1);

    // As it was before, and as quick to answer.
    assert_eq!(machine.orlop(&["stop", "m7"]).unwrap().status.code(), Some(0));
    assert_eq!(state(&machine.unit("m7").unwrap()), "inactive");
    assert_eq!(state(&machine.unit("m8").unwrap()), "active");
}
