//! Units of every kind while their supervisors are killed: what is checked, says that it is ready, is bound to another, or has a timer.

use std::{fs, time::Duration};

use serde_json::Value;

use crate::{COUNT, SAY, crashes, numbers, pid1::Pid1, place};

/// As `killed_at_any_instant_nothing_is_lost_and_nothing_starts_twice`, and as often.
#[test]
fn units_of_every_kind_live_on_through_kills() {
    place::inside("kinds::units_of_every_kind_live_on_through_kills", |place| {
        let shared = place.shared_folder();
        fs::write(shared.join("say"), SAY).unwrap();
        let ask = format!("Volume={}:/ask", shared.display());
        let always = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\n[Install]\nWantedBy=default.target";
        let checks = "HealthCmd=test -e /ask/say\nHealthInterval=20ms\nHealthTimeout=60s\nHealthOnFailure=kill";
        place.unit("checked", COUNT, &format!("{ask}\n{checks}\nNotify=healthy"), always);
        place.unit(
            "says",
            &format!("STAY=1000 perl /ask/say READY=1 & {COUNT}"),
            &format!("{ask}\nNotify=true"),
            always,
        );
        place.unit("db", COUNT, "StopTimeout=1", "[Unit]\nStartLimitIntervalSec=0");
        let bound = "[Unit]\nBindsTo=db.service\nAfter=db.service\nStartLimitIntervalSec=0";
        place.unit("bound", COUNT, "StopTimeout=1", bound);
        // Each run has a number of its own, and says it.
        fs::write(shared.join("n"), "0").unwrap();
        let tick = "n=$$(($$(cat /ask/n)+1)); echo $$n > /ask/n; echo $$n";
        place.unit("tick", tick, &ask, "[Unit]\nStartLimitIntervalSec=0\n[Service]\nType=oneshot");
        let times = "OnActiveSec=10ms\nOnUnitInactiveSec=30ms\nAccuracySec=1ms";
        fs::write("/etc/containers.d/tick.timer", format!("[Timer]\n{times}\n[Install]\nWantedBy=timers.target\n"))
            .unwrap();
        let mut machine = Pid1::boot(place);
        let steady = ["checked", "says"];
        let before = steady.map(|unit| machine.until_active(unit));
        machine.wait("a tick", |machine| !numbers(machine, "tick").is_empty());
        for round in 0..crashes() {
            let job = ["bound/start", "db/stop", "bound/start", "db/restart"][usize::try_from(round % 4).unwrap()];
            machine.try_post(&format!("/v1/units/{job}?no_block=true"));
            // As there: the moments differ from round to round.
            machine.let_run(Duration::from_millis(round * 11 % 70));
            machine.kill_supervisor();
            machine.start_supervisor();
            for unit in ["checked", "says", "db", "bound", "tick"] {
                assert!(place.live_containers(unit) <= 1, "round {round}: {unit} runs twice");
            }
        }
        // Who waited for an answer or a sign of life waits no more; nobody else has noticed.
        for (unit, before) in steady.into_iter().zip(&before) {
            let now = machine.until_active(unit);
            let same = |unit: &Value| [&unit["pid"], &unit["restarts"], &unit["since"]].map(Value::clone);
            assert_eq!(same(&now), same(before), "{unit}");
            let counted = numbers(&machine, unit);
            assert_eq!(counted, (0..counted.len() as u64).collect::<Vec<_>>(), "{unit}: a line is lost or there twice");
        }
        let last = machine.unit("checked")["health_log"][0]["start"].clone();
        machine.wait("another check", |machine| machine.unit("checked")["health_log"][0]["start"] != last);
        assert_eq!(machine.unit("checked")["health"], "healthy");
        // Bound for life and death.
        machine.post("/v1/units/bound/start");
        assert_eq!(place.live_containers("db") + place.live_containers("bound"), 2);
        let lines = numbers(&machine, "bound").len();
        machine.wait("its lines", |machine| numbers(machine, "bound").len() > lines);
        machine.post("/v1/units/db/stop");
        machine.wait("the end of what is bound", |machine| machine.unit("bound")["state"] == "inactive");
        assert_eq!(place.live_containers("db") + place.live_containers("bound"), 0);
        // No run of the timer is there twice; one that was killed with its supervisor while it was made is told of.
        // What is killed in the middle of every start counts as the cause, until somebody asks for it.
        machine.try_post("/v1/units/tick/start");
        let most = numbers(&machine, "tick").last().copied();
        machine.wait("another tick", |machine| numbers(machine, "tick").last().copied() > most);
        machine.post("/v1/units/tick.timer/stop");
        machine.wait("the last tick's end", |machine| machine.unit("tick")["state"] == "inactive");
        let ticks = numbers(&machine, "tick");
        let remarks = machine.logs("/v1/units/tick/logs");
        let interrupted = |line: &&Value| line["message"] == "interrupted while it was made, is made once more";
        let interrupted = remarks.iter().filter(interrupted).count() as u64;
        assert!(ticks.is_sorted_by(|a, b| a < b), "{ticks:?}");
        let missing = ticks.last().unwrap() - ticks.len() as u64;
        assert!(missing <= interrupted, "{missing} runs are not in the log, {interrupted} were interrupted: {ticks:?}");
    });
}
