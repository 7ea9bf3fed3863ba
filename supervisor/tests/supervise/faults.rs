//! Each system call of the supervisor fails once: it goes on, or it dies and the next one goes on. How many of its calls are tried:
//! `ORLOP_FAULTS=2000 cargo test -p supervisor --test supervise fails` tries them all, `ORLOP_FAULTS=400..420` these.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;

use crate::{
    COUNT, http,
    inject::{Fault, traced},
    numbers,
    pid1::Pid1,
    place::{self, Place},
};

/// The numbers of the calls that fail, each in a life of its own: those that are asked for, or so many between the first and the last.
fn faults(all: usize) -> Vec<usize> {
    let told = std::env::var("ORLOP_FAULTS").unwrap_or("8".to_owned());
    if let Some((from, to)) = told.split_once("..") {
        return (from.parse().unwrap()..to.parse().unwrap()).collect();
    }
    let count = all.min(told.parse().unwrap());
    (0..count).map(|index| 1 + index * all / count).collect()
}

const ERRORS: [i32; 4] = [libc::EIO, libc::ENOMEM, libc::ENOSPC, libc::EMFILE];
const CALLS: &str = "/run/calls";

#[test]
fn whatever_call_fails_nothing_is_lost_and_nothing_starts_twice() {
    place::inside("faults::whatever_call_fails_nothing_is_lost_and_nothing_starts_twice", |place| {
        let shared = place.shared_folder();
        place.unit("keep", COUNT, "", "[Service]\nRestart=always\n[Install]\nWantedBy=default.target");
        place.unit("web", COUNT, "", "[Service]\nRestart=always\n[Install]\nWantedBy=default.target");
        let job = "echo ran >> /ask/ran; exit 3";
        place.unit("job", job, &format!("Volume={}:/ask", shared.display()), "");
        let mut machine = Pid1::boot(place);
        let keep = machine.until_active("keep");
        machine.until_active("web");
        // The first only counts.
        let all = round(&mut machine, place, &shared, Fault { number: usize::MAX, errno: 0 }, &keep);
        for (index, number) in faults(all).into_iter().enumerate() {
            let fault = Fault { number, errno: ERRORS[index % ERRORS.len()] };
            round(&mut machine, place, &shared, fault, &keep);
        }
    });
}

/// One life of a supervisor with a fault in it, and then one without; how many calls it made.
fn round(machine: &mut Pid1, place: &Place, shared: &Path, fault: Fault, keep: &Value) -> usize {
    let ran = || fs::read_to_string(shared.join("ran")).unwrap_or_default().lines().count();
    let before = ran();
    machine.kill_supervisor();
    machine.start_as(traced(fault, Path::new(CALLS)));
    let mut accepted = false;
    if machine.answers_or_is_gone() {
        // One that has died answers nothing.
        let ask = |method, path| http::ask_within(Duration::from_secs(5), method, path);
        accepted = ask("POST", "/v1/units/job/start?no_block=true").is_some_and(|(status, _)| status < 300);
        let _ = ask("POST", "/v1/units/web/restart");
        let _ = ask("GET", "/v1/units/keep/logs");
        machine.let_run(Duration::from_millis(20));
    }
    machine.kill_supervisor();
    // What was killed is the tracer; the kernel kills with it whom it traces.
    machine.wait("the traced one's end", |_| !place.has_supervisor());
    machine.start_supervisor();
    let calls = fs::read_to_string(CALLS).unwrap_or_default().parse().unwrap_or(0);

    let at_rest = |machine: &Pid1| ["failed", "inactive"].iter().any(|state| machine.unit("job")["state"] == *state);
    machine.wait(&format!("{fault:?}: the job's end"), at_rest);
    let (job, times) = (machine.unit("job"), ran() - before);
    assert!(times <= 1, "{fault:?}: the job ran {times} times");
    if times == 1 {
        assert_eq!(job["exit_code"], 3, "{fault:?}: {job:#}");
    } else if accepted {
        assert!(
            job["reason"].as_str().is_some_and(|reason| !reason.is_empty()),
            "{fault:?}: not run, no reason: {job:#}"
        );
    }
    machine.try_post("/v1/units/web/start");
    machine.until_active("web");
    for unit in ["web", "keep"] {
        assert_eq!(place.live_containers(unit), 1, "{fault:?}: {unit}");
    }
    let now = machine.until_active("keep");
    assert_eq!((&now["pid"], &now["restarts"]), (&keep["pid"], &keep["restarts"]), "{fault:?}");
    // A line that could not be written is counted, and the log says how many.
    let logs = machine.logs("/v1/units/keep/logs");
    let told = logs.iter().any(|line| line["message"].as_str().is_some_and(|text| text.contains("records lost")));
    let counted = numbers(machine, "keep");
    let whole = counted.iter().zip(0..).all(|(number, expected)| *number == expected);
    let in_order = counted.windows(2).all(|pair| pair[0] < pair[1]);
    assert!(whole || (told && in_order), "{fault:?}: a line is lost or there twice, and nothing is said of it");
    calls
}
