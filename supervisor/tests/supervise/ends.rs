//! What is said of a unit in its log.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{pid1::Pid1, place};

/// Of a unit that says `ran` and exits with 3: between two starts there is an end, and no more ends than there were runs.
pub(crate) fn every_end_has_its_line(machine: &Pid1, unit: &str) {
    let lines = machine.logs(&format!("/v1/units/{unit}/logs"));
    let of = |stream: &str| {
        let its = lines.iter().filter(|line| line["stream"] == stream);
        its.map(|line| line["message"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (remarks, ran) = (of("orlop"), of("stdout").len());
    let mut runs = false;
    for (at, remark) in remarks.iter().enumerate() {
        let begins = remark.contains("started, pid ");
        assert!(!(begins && runs), "an end is missing: {:#?}", &remarks[at.saturating_sub(5)..=at]);
        runs = begins;
    }
    let told = remarks.iter().filter(|remark| *remark == "exited with status 3").count();
    assert!(told > 0 && told <= ran, "{told} ends are told of {ran}");
}

#[test]
fn what_was_said_while_the_disk_stood_still_the_next_supervisor_writes_once() {
    place::inside("ends::what_was_said_while_the_disk_stood_still_the_next_supervisor_writes_once", |place| {
        place.unit("job", "exit 3", "", "");
        // A file that nobody reads at the other end: whoever opens it waits.
        let current = Path::new("/var/log/orlop/job/current");
        fs::create_dir(current.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(current, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut machine = Pid1::boot(place);
        machine.try_post("/v1/units/job/start");
        machine.wait("its end", |machine| machine.unit("job")["state"] == "failed");
        machine.kill_supervisor();
        fs::remove_file(current).unwrap();
        machine.start_supervisor();
        let told = |machine: &Pid1| {
            let lines = machine.logs("/v1/units/job/logs");
            lines.iter().filter(|line| line["message"] == "exited with status 3").count()
        };
        machine.wait("its line", |machine| told(machine) > 0);
        for _ in 0..3 {
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        assert_eq!(told(&machine), 1);
        machine.try_post("/v1/units/job/start");
        machine.wait("its next line", |machine| told(machine) == 2);
        let past: Value = machine.unit("job")["past"].clone();
        assert_eq!(past.as_array().unwrap().len(), 2);
    });
}
