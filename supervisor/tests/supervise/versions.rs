//! Replaced by another version of itself, and back: the containers, their jobs and their lines know nothing of it.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::{
    COUNT, http, numbers,
    pid1::{PROGRAM, Pid1},
    place,
};

const FORMAT: &str = "orlop state 0001, readable by 0001";

/// A program that is this one in all but the version of its state.
fn other_version(format: &str) -> String {
    let mut program = fs::read(PROGRAM).unwrap();
    let found: Vec<usize> = program
        .windows(FORMAT.len())
        .enumerate()
        .filter(|(_, bytes)| *bytes == FORMAT.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert_eq!(found.len(), 1, "the versions lie in the program, once: is FORMAT that of store.rs?");
    program[found[0]..][..FORMAT.len()].copy_from_slice(format.as_bytes());
    let path = "/run/other-orlop";
    let _ = fs::remove_file(path);
    fs::write(path, program).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_owned()
}

fn path(unit: &str) -> String {
    format!("/run/orlop/units/{unit}/state.json")
}

fn state(unit: &str) -> Value {
    serde_json::from_slice(&fs::read(path(unit)).unwrap()).unwrap()
}

/// Members that nobody knows, at every place where there can be one.
fn add_unknown(value: &mut Value) {
    if let Value::Object(members) = value {
        // An enum's variant is one member, and a time is no type of ours: nothing is ever added to them.
        let is_closed = members.len() == 1 || members.contains_key("secs");
        members.values_mut().for_each(add_unknown);
        if !is_closed {
            members.insert("of_the_future".to_owned(), 1.into());
        }
    }
}

/// Members that an earlier version did not know.
fn keep_known(value: &mut Value, known: &Value) {
    if let (Value::Object(members), Value::Object(known)) = (value, known) {
        members.retain(|name, _| known.contains_key(name));
        members.iter_mut().for_each(|(name, value)| keep_known(value, &known[name]));
    }
}

#[test]
fn a_supervisor_is_replaced_by_another_version_and_back() {
    place::inside("versions::a_supervisor_is_replaced_by_another_version_and_back", |place| {
        for unit in ["web", "db"] {
            place.unit(unit, COUNT, "", "[Service]\nRestart=always\n[Install]\nWantedBy=default.target");
        }
        place.unit("job", "sleep 2; exit 3", "", "[Service]\nType=oneshot");
        let mut machine = Pid1::boot(place);
        let web = machine.until_active("web");
        let lives_on = |machine: &Pid1, unit: &str, before: &Value, what: &str| {
            let now = machine.until_active(unit);
            assert_eq!((&now["pid"], &now["restarts"]), (&before["pid"], &0.into()), "{unit}: {what}");
            let lines = numbers(machine, unit).len();
            machine.wait("more lines", |machine| numbers(machine, unit).len() > lines + 3);
            assert_eq!(place.live_containers(unit), 1, "{unit}: {what}");
        };
        // Somebody waits for a job meanwhile.
        let client = std::thread::spawn(|| http::ask("POST", "/v1/units/job/start"));
        machine.wait("the job", |machine| machine.unit("job")["state"] != "inactive");
        let mut client = Some(client);
        for (version, readable) in [(2, 1), (3, 3)] {
            let other = other_version(&format!("orlop state {version:04}, readable by {readable:04}"));
            machine.post("/v1/system/reexec");
            machine.renew_by(&other);
            lives_on(&machine, "web", &web, "under another version");
            machine.post("/v1/units/db/restart");
            let db = machine.until_active("db");
            assert_eq!(state("db")["version"], version, "it is another version indeed");
            machine.post("/v1/system/reexec");
            machine.renew_supervisor();
            lives_on(&machine, "web", &web, "back");
            lives_on(&machine, "db", &db, "started by another version");
            if let Some(client) = client.take() {
                let (status, _) = client.join().unwrap().expect("an answer");
                assert_eq!((status, &machine.unit("job")["exit_code"]), (409, &3.into()));
            }
        }
        // As an earlier version wrote it, and as a later one may.
        let old: Value = serde_json::from_str(include_str!("../../src/daemon/store_version_1.json")).unwrap();
        for version in ["earlier", "later"] {
            machine.kill_supervisor();
            let mut kept = state("web");
            match version {
                "earlier" => keep_known(&mut kept, &old),
                _ => {
                    add_unknown(&mut kept);
                    kept["version"] = 1000.into();
                }
            }
            fs::write(path("web"), kept.to_string()).unwrap();
            machine.start_supervisor();
            lives_on(&machine, "web", &web, version);
        }
        let counted = numbers(&machine, "web");
        assert_eq!(counted, (0..counted.len() as u64).collect::<Vec<_>>(), "a line is lost or there twice");
        machine.kill(&web["pid"], libc::SIGKILL);
        machine.wait("the restart", |machine| machine.unit("web")["restarts"] == 1);
    });
}
