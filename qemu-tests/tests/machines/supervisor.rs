//! The supervisor dies, hangs, grows: the containers do not notice.

use crate::support::{enabled, machine, probe_unit, state};
use qemu_tests::LIMIT;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;

/// When asked to, so that the supervisor is not in the middle of starting it.
const KILL: &str = "on-request 9001 write /cg/orlop/cgroup.kill 1";

/// The number in `line N`.
fn number(line: &str) -> u64 {
    line.strip_prefix("line ").and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("`{line}`"))
}

#[test]
fn a_killed_supervisor_is_replaced_and_no_container_notices() {
    let ata = probe_unit("show /sys/module/ata_piix/initstate", "");
    let machine = machine("killed")
        .unit("stream.container", &enabled(&probe_unit("stream 9000", "")))
        .unit("kill.container", &enabled(&probe_unit(KILL, "Volume=/sys/fs/cgroup:/cg")))
        .unit("ata.container", &format!("[Unit]\nStartLimitIntervalSec=0\n{ata}"))
        .forward(9000)
        .forward(9001)
        .start()
        .unwrap();
    machine.settled().unwrap();
    let before = machine.unit("stream").unwrap();
    assert_eq!(state(&before), "active", "{before:#}");
    // Then it listens: an active program need not do so yet, and QEMU accepts for it.
    machine.wait_for_log("stream", "line 1").unwrap();
    let client = TcpStream::connect(machine.forwarded(9000).unwrap()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let mut lines = BufReader::new(client).lines().map(|line| number(&line.unwrap()));
    assert_eq!(lines.by_ref().take(5).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);

    machine.wait_for_log("kill", "waiting on").unwrap();
    drop(TcpStream::connect(machine.forwarded(9001).unwrap()).unwrap());
    let system = machine
        .wait_until("a second supervisor", || {
            let system = machine.get("/v1/system")?;
            Ok((system["supervisor_generation"] == 2).then_some(system))
        })
        .unwrap();
    assert_eq!(system["state_store"], "persistent");

    let after = machine.unit("stream").unwrap();
    assert_eq!((&after["pid"], state(&after), &after["restarts"]), (&before["pid"], "active", &before["restarts"]));
    // Nothing was lost on the way to the client, and more comes.
    let streamed: Vec<u64> = lines.take(100).collect();
    assert_eq!(streamed, (6..106).collect::<Vec<_>>());

    // The log has every line from the first on, across the change.
    let shown = number(&machine.log("stream").unwrap().pop().unwrap());
    machine.wait_for_log("stream", &format!("line {}", shown + 20)).unwrap();
    let log = machine.log("stream").unwrap();
    let logged: Vec<u64> = log.iter().filter(|line| line.starts_with("line ")).map(|line| number(line)).collect();
    let expected: Vec<u64> = (1..=logged.len() as u64).collect();
    assert_eq!(logged, expected);

    // The drivers that no unit waits for come with whichever supervisor lives long enough.
    machine
        .wait_until("the old disk controller's driver", || {
            machine.post("/v1/units/ata/start")?;
            Ok(machine.log("ata")?.iter().any(|line| line.ends_with(": live")).then_some(()))
        })
        .unwrap();

    // The new one starts and stops, what the old one started as well.
    let started = machine.post("/v1/units/kill/restart").unwrap();
    assert_eq!(state(&started), "active", "{started:#}");
    let stopped = machine.post("/v1/units/stream/stop").unwrap();
    assert_eq!(state(&stopped), "inactive", "{stopped:#}");
}

#[test]
fn a_container_that_kills_the_supervisor_at_every_start_does_not_end_the_machine() {
    let loops = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always";
    let kill = probe_unit("write /cg/orlop/cgroup.kill 1", "Volume=/sys/fs/cgroup:/cg");
    let machine = machine("hostile")
        .unit("hostile.container", &format!("{loops}\n{}", enabled(&kill)))
        .unit("web.container", &enabled(&probe_unit("serve 8081", "")))
        .forward(8081)
        .start()
        .unwrap();
    let held = |units: Vec<Value>| units.into_iter().find(|unit| unit["name"] == "hostile" && state(unit) == "failed");
    let hostile = machine.wait_until("that it is held back", || Ok(held(machine.settled()?))).unwrap();
    assert_eq!(hostile["reason"], "the supervisor died 4 times while starting it");
    assert_eq!(machine.http(8081, "/").unwrap().text(), "ok");
}

#[test]
fn a_hanging_supervisor_is_killed_and_replaced() {
    // Frozen by its cgroup: it exists, and answers nothing. PID 1 has to find that out by itself, and to start
    // the next one where nothing is frozen.
    let machine = machine("hanging")
        .unit("web.container", &enabled(&probe_unit("serve 8081", "")))
        .unit("freeze.container", &probe_unit("freeze 600 /cg/orlop", "Volume=/sys/fs/cgroup:/cg"))
        .forward(8081)
        .start()
        .unwrap();
    machine.settled().unwrap();
    let before = machine.unit("web").unwrap();
    let _ = machine.post("/v1/units/freeze/start?no_block=true");
    machine
        .wait_until("another supervisor", || {
            let system = machine.get("/v1/system")?;
            Ok(system["supervisor_generation"].as_u64().filter(|generation| *generation > 1))
        })
        .unwrap();
    assert_eq!(machine.unit("web").unwrap()["pid"], before["pid"]);
    assert_eq!(machine.http(8081, "/").unwrap().text(), "ok");
}

#[test]
fn supervisor_and_init_stay_small() {
    const INIT_KIB: u64 = 700;
    const SUPERVISOR_KIB: u64 = 8192;
    const UNIT_KIB: u64 = 64;
    const MORE: u64 = 10;
    let mut builder = machine("small");
    for unit in ["one", "two"] {
        builder = builder.unit(&format!("{unit}.container"), &enabled(&probe_unit("sleep", "")));
    }
    for unit in 0..MORE {
        builder = builder.unit(&format!("more-{unit}.container"), &probe_unit("sleep", ""));
    }
    let machine = builder.start().unwrap();
    machine.settled().unwrap();
    let active = || {
        let units = machine.get("/v1/units").unwrap();
        units.as_array().unwrap().iter().filter(|unit| state(unit) == "active").count()
    };
    assert_eq!(active(), 3, "the demo and two more");
    let three = machine.get("/v1/system").unwrap();
    let kib = |system: &Value, key: &str| system[key].as_u64().unwrap_or_else(|| panic!("{system:#}"));
    assert!(kib(&three, "init_rss_kib") <= INIT_KIB, "{three:#}");
    assert!(kib(&three, "supervisor_rss_kib") <= SUPERVISOR_KIB, "{three:#}");

    for unit in 0..MORE {
        machine.post(&format!("/v1/units/more-{unit}/start")).unwrap();
    }
    assert_eq!(active(), 13);
    let more = machine.get("/v1/system").unwrap();
    let grown = kib(&more, "supervisor_rss_kib").saturating_sub(kib(&three, "supervisor_rss_kib"));
    assert!(grown <= MORE * UNIT_KIB, "{grown} KiB for {MORE} units: {more:#}");
    assert!(kib(&more, "init_rss_kib") <= INIT_KIB, "{more:#}");
}
