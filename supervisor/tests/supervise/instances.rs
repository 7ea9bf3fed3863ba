//! Instances of templates come and go, each under a name of its own: what stays of one that has ended is its log.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

use crate::{pid1::Pid1, place};

const RUNS: usize = 200;
/// How many at rest are known.
const KEPT: usize = 32;

fn names(folder: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn jobs(machine: &Pid1) -> Vec<Value> {
    let all = machine.get("/v1/units");
    let is_job = |unit: &&Value| unit["name"].as_str().is_some_and(|name| name.starts_with("job@"));
    all.as_array().unwrap().iter().filter(is_job).cloned().collect()
}

#[test]
fn of_hundreds_of_instances_that_ended_nothing_stays_but_their_logs() {
    place::inside("instances::of_hundreds_of_instances_that_ended_nothing_stays_but_their_logs", |place| {
        let say = "echo I am $$NAME; test $$NAME = live && sleep 1000; test $$NAME != bad";
        place.unit("job@", say, "Environment=NAME=%i", "");
        place.unit("boss", "sleep 1000", "", "[Unit]\nWants=job@named.service\n[Install]\nWantedBy=default.target");
        let mut machine = Pid1::boot(place);
        machine.until_active("boss");
        machine.post("/v1/units/job@live/start");
        let live = machine.until_active("job@live");
        machine.try_post("/v1/units/job@bad/start");
        for number in 0..RUNS {
            machine.try_post(&format!("/v1/units/job@{number}/start?no_block=true"));
        }
        let at_rest =
            |machine: &Pid1| jobs(machine).iter().all(|job| job["name"] == "job@live" || job["pid"].is_null());
        let few = |machine: &Pid1| at_rest(machine) && jobs(machine).len() <= KEPT + 2;
        machine.wait("most are let go of", few);
        // The last one's end is seen before its last words are written.
        machine.wait("what lay below /run is gone", |_| {
            let of_jobs = |folder| names(folder).iter().filter(|name| name.starts_with("job@")).count();
            of_jobs("/run/orlop/units") <= KEPT + 2 && of_jobs("/run/orlop/spools") <= KEPT + 4
        });
        let known = |machine: &Pid1| {
            jobs(machine).iter().map(|job| job["name"].as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
        };
        let before = known(&machine);
        assert!(["job@live", "job@named", "job@bad"].iter().all(|name| before.contains(*name)), "{before:?}");
        assert_eq!(machine.unit("job@bad")["state"], "failed");
        let gone = (0..RUNS).map(|number| format!("job@{number}")).find(|name| !before.contains(name)).unwrap();
        let said = |machine: &Pid1| {
            let number = gone.trim_start_matches("job@");
            let lines = machine.logs(&format!("/v1/units/{gone}/logs"));
            lines.iter().filter(|line| line["message"] == format!("I am {number}")).count()
        };
        assert_eq!((said(&machine), machine.unit(&gone)["status"].as_u64()), (1, Some(404)));

        machine.kill_supervisor();
        machine.start_supervisor();
        assert_eq!(machine.until_active("job@live")["pid"], live["pid"]);
        assert!(known(&machine).is_subset(&before));
        machine.try_post(&format!("/v1/units/{gone}/start?no_block=true"));
        machine.wait("the second run", |machine| said(machine) == 2);
        // A unit whose file is gone leaves no more.
        machine.post("/v1/units/boss/stop");
        fs::remove_file("/etc/containers.d/boss.container").unwrap();
        machine.wait("its end", |machine| machine.unit("boss")["status"] == 404);
        machine.wait("no more of it", |_| !names("/run/orlop/units").contains("boss"));
    });
}
