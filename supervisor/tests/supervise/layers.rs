//! What a container writes and nobody keeps: its layer and its anonymous volumes go with it.

use std::{fs, path::Path, time::Duration};

use crate::{crashes, pid1::Pid1, place};

const HOME: &str = "/var/lib/orlop/containers";

/// Folders of containers, and what waits there to be removed.
fn left() -> Vec<String> {
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    };
    let mut all = names(Path::new(HOME));
    all.retain(|name| name != ".gone");
    all.extend(names(&Path::new(HOME).join(".gone")));
    all
}

fn said(machine: &Pid1, unit: &str, text: &str) -> usize {
    machine.logs(&format!("/v1/units/{unit}/logs")).iter().filter(|line| line["message"] == text).count()
}

#[test]
fn what_a_container_wrote_goes_with_its_end() {
    place::inside("layers::what_a_container_wrote_goes_with_its_end", |place| {
        // Of a machine that lost its power.
        fs::create_dir_all(Path::new(HOME).join("old@7/upper/data")).unwrap();
        fs::create_dir_all(Path::new(HOME).join(".gone/17/upper")).unwrap();
        // Deeper than a name can be long, and than one call for each folder has room for.
        let script = "echo kept > /named/file; echo mine > /file; echo mine > /own/file; \
                      perl -e 'for (1 .. 5000) { mkdir q(d) and chdir q(d) or die }'; \
                      echo written; while sleep 0.05; do cat /file; done";
        let keys = "StopTimeout=0\nVolume=/own\nVolume=data:/named";
        place.unit("web", script, keys, "");
        let mut machine = Pid1::boot(place);
        machine.wait("the end of what was left over", |_| left().is_empty());
        machine.post("/v1/units/web/start");
        machine.wait("its words", |machine| said(machine, "web", "written") == 1);
        let own = fs::read_dir(Path::new(HOME).join("web/anonymous")).unwrap().next().unwrap().unwrap().path();
        assert!(Path::new(HOME).join("web/upper/file").exists() && own.join("file").exists());
        // Another supervisor takes nothing from it.
        machine.kill_supervisor();
        machine.start_supervisor();
        let seen = said(&machine, "web", "mine");
        machine.wait("its file", |machine| said(machine, "web", "mine") > seen + 3);
        machine.post("/v1/units/web/stop");
        machine.wait("the end of its layer", |_| left().is_empty());
        assert_eq!(fs::read_to_string("/var/lib/orlop/volumes/data/file").unwrap(), "kept\n");
        assert!(said(&machine, "web", "written") == 1, "its log stays");
    });
}

/// As `killed_at_any_instant_nothing_is_lost_and_nothing_starts_twice`, and as often.
#[test]
fn every_start_has_a_layer_of_its_own_whenever_supervisors_are_killed() {
    place::inside("layers::every_start_has_a_layer_of_its_own_whenever_supervisors_are_killed", |place| {
        let script = "test -e /mark && echo stale; echo > /mark; echo began; \
                      while sleep 0.02; do test -e /mark || echo lost; done";
        for unit in ["one", "two"] {
            place.unit(unit, script, "StopTimeout=0", "[Unit]\nStartLimitIntervalSec=0");
        }
        let mut machine = Pid1::boot(place);
        for round in 0..crashes() {
            let job = ["one/start", "two/restart", "one/restart", "one/stop"][usize::try_from(round % 4).unwrap()];
            machine.try_post(&format!("/v1/units/{job}?no_block=true"));
            machine.let_run(Duration::from_millis(round * 11 % 70));
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        for unit in ["one", "two"] {
            machine.post(&format!("/v1/units/{unit}/restart"));
            machine.wait("its start", |machine| said(machine, unit, "began") > 0);
            assert_eq!((said(&machine, unit, "stale"), said(&machine, unit, "lost")), (0, 0));
            machine.post(&format!("/v1/units/{unit}/stop"));
        }
        machine.wait("the end of their layers", |_| left().is_empty());
    });
}
