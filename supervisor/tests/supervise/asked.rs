//! Who may ask for a unit, and what becomes of one that nobody needs.

use std::fs;

use crate::{COUNT, SAY, pid1::Pid1, place};

#[test]
fn what_only_units_may_ask_for_comes_and_goes_with_them() {
    place::inside("asked::what_only_units_may_ask_for_comes_and_goes_with_them", |place| {
        let modest = "[Unit]\nRefuseManualStart=yes\nRefuseManualStop=yes\nStopWhenUnneeded=yes\nStartLimitIntervalSec=0\n\
                      [Service]\nRestart=on-failure\nRestartMode=direct";
        place.unit("db", COUNT, "StopTimeout=1", modest);
        place.unit("web", COUNT, "StopTimeout=1", "[Unit]\nBindsTo=db.service\nAfter=db.service");
        let mut machine = Pid1::boot(place);
        let refuses = |machine: &Pid1, verb: &str, key: &str| {
            let problem = machine.try_post(&format!("/v1/units/db/{verb}")).unwrap();
            let text = problem["detail"].as_str().unwrap_or_default().to_owned();
            assert!(text.contains(key), "{verb}: {problem}");
        };
        refuses(&machine, "start", "RefuseManualStart=yes");
        machine.post("/v1/units/web/start");
        let (web, db) = (machine.until_active("web"), machine.until_active("db"));
        refuses(&machine, "stop", "RefuseManualStop=yes");
        refuses(&machine, "restart", "RefuseManualStart=yes");
        assert_eq!(machine.until_active("db")["pid"], db["pid"]);
        // A restart that nobody is told of: whoever is bound to it goes on, under the next supervisor too.
        for restart in 1..=2 {
            machine.kill(&machine.until_active("db")["pid"], libc::SIGKILL);
            machine.wait("the restart", |machine| machine.unit("db")["restarts"] == restart);
            machine.until_active("db");
            assert_eq!(machine.until_active("web")["pid"], web["pid"], "restart {restart}");
            machine.kill_supervisor();
            machine.start_supervisor();
        }
        machine.post("/v1/units/web/stop");
        machine.wait("the end of what nobody needs", |machine| machine.unit("db")["state"] == "inactive");
        assert_eq!(place.live_containers("db"), 0);
    });
}

#[test]
fn a_wait_has_its_end_and_so_has_a_hanging_container() {
    place::inside("asked::a_wait_has_its_end_and_so_has_a_hanging_container", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("say"), SAY).unwrap();
        place.unit("slow", "sleep 1000", "StopSignal=KILL", "[Service]\nType=oneshot");
        place.unit("web", COUNT, "", "[Unit]\nRequires=slow.service\nAfter=slow.service\nJobTimeoutSec=200ms");
        // The first process of a pid namespace gets no SIGABRT that it does not expect.
        let service = "[Service]\nWatchdogSec=100ms\nTimeoutAbortSec=100ms\nTimeoutStopSec=900";
        let keys = format!("Notify=true\nStopTimeout=900\nVolume={}:/ask", shared.display());
        place.unit("hangs", "STAY=1000 perl /ask/say READY=1 & while true; do sleep 1; done", &keys, service);
        let machine = Pid1::boot(place);
        let problem = machine.try_post("/v1/units/web/start").unwrap();
        assert!(problem["detail"].as_str().unwrap().contains("JobTimeoutSec="), "{problem}");
        let state = |unit: &str| machine.unit(unit)["state"].clone();
        assert_eq!((state("web"), state("slow")), ("inactive".into(), "activating".into()));
        machine.post("/v1/units/hangs/start");
        machine.wait("its end", |machine| machine.unit("hangs")["state"] == "failed");
        machine.post("/v1/units/slow/stop");
    });
}
