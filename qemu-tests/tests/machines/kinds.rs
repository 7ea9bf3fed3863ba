//! What units may have besides a container that runs: checks of its health, timers, sockets, and what becomes of its log. One
//! machine, whose supervisor is killed in the middle, and which boots twice.

use crate::support::{enabled, machine, probe_unit, run_probe, state};
use qemu_tests::{LIMIT, Machine};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;

/// Without a shell.
fn check(file: &str) -> String {
    format!("HealthCmd=[\"/probe\",\"cat\",\"{file}\"]\nHealthInterval=1s\nHealthRetries=1\nVolume=flags:/flags\n")
}

fn number(line: &str) -> Option<u64> {
    line.strip_prefix("count ")?.parse().ok()
}

/// The numbers of the timer's runs are those from 1 on.
fn counted(machine: &Machine) -> Vec<u64> {
    let numbers: Vec<u64> = machine.log("tick").unwrap().iter().filter_map(|line| number(line)).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    numbers
}

fn unit_when(machine: &Machine, unit: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    machine.wait_until(&format!("{unit} {what}"), || Ok(Some(machine.unit(unit)?).filter(|unit| is(unit)))).unwrap()
}

#[test]
fn health_timers_sockets_and_logs_outlive_a_supervisor_and_a_boot() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let ready = check("/flags/ready") + "Notify=healthy\nHealthStartPeriod=10m\n";
    let ill = check("/flags/never") + "HealthOnFailure=kill\n";
    let oneshot = "[Service]\nType=oneshot\n[Unit]\nStartLimitIntervalSec=0\n";
    let limited = "LogOpt=max-size=64k\nLogOpt=max-file=2\n[Service]\nType=oneshot\nLogRateLimitIntervalSec=0\n";
    let machine = machine("kinds")
        .may_reboot()
        .unit("orlop.conf", &format!("[Logs]\nForward=tcp://10.0.2.2:{port}\n"))
        .unit("patient.container", &probe_unit("serve 8081", &ready))
        .unit("flag.container", &(probe_unit("write /flags/ready yes", "Volume=flags:/flags") + oneshot))
        .unit("ill.container", &probe_unit("sleep", &ill))
        .unit("tick.container", &(probe_unit("count /data/number", "Volume=tick:/data") + oneshot))
        .unit(
            "tick.timer",
            "[Timer]\nOnActiveSec=1s\nOnUnitInactiveSec=1s\nAccuracySec=1us\n[Install]\nWantedBy=timers.target\n",
        )
        .unit("door.container", &probe_unit("serve 8082", ""))
        .unit("door.socket", "[Socket]\nListenStream=8082\n[Install]\nWantedBy=sockets.target\n")
        .unit("knock.container", &enabled(&probe_unit("knock 8082", "")))
        .unit("much.container", &probe_unit("lines 3000", limited))
        .unit("kill.container", &probe_unit("keep-killing /cg/orlop 1", "Volume=/sys/fs/cgroup:/cg"))
        .start()
        .unwrap();
    machine.settled().unwrap();

    // Active is healthy.
    machine.post("/v1/units/patient/start?no_block=true").unwrap();
    unit_when(&machine, "patient", "to be checked", |unit| !unit["health_log"].as_array().is_none_or(Vec::is_empty));
    assert_eq!(state(&machine.unit("patient").unwrap()), "activating");
    run_probe(&machine, "flag", "wrote").unwrap();
    let patient = unit_when(&machine, "patient", "to be healthy", |unit| unit["health"] == "healthy");
    assert_eq!(state(&patient), "active", "{patient:#}");
    machine.post("/v1/units/ill/start").unwrap();
    let ill = unit_when(&machine, "ill", "to be given up", |unit| state(unit) == "failed");
    assert_eq!(ill["past"][0]["result"], "unhealthy", "{ill:#}");

    // The first connection has started it; none is refused while it is restarted.
    let first = unit_when(&machine, "door", "to be started by its socket", |unit| state(unit) == "active");
    machine.wait_for_log("knock", "answered 1").unwrap();
    let second = machine.post("/v1/units/door/restart").unwrap();
    assert_ne!(second["pid"], first["pid"]);
    machine.wait_for_log("tick", "count 2").unwrap();

    // All of it goes on under the next supervisor.
    let _ = machine.post("/v1/units/kill/start?no_block=true");
    machine
        .wait_until("the next supervisor", || {
            Ok((machine.get("/v1/system")?["supervisor_generation"] == 2).then_some(()))
        })
        .unwrap();
    let seen = counted(&machine).len();
    machine.wait_for_log("tick", &format!("count {}", seen + 2)).unwrap();
    let checked = |unit: &Value| unit["health_log"][0]["start"].as_str().unwrap_or_default().to_owned();
    let before = checked(&machine.unit("patient").unwrap());
    let after = unit_when(&machine, "patient", "to be checked again", |unit| checked(unit) > before);
    assert_eq!((&after["pid"], &after["health"]), (&patient["pid"], &patient["health"]));
    assert_eq!(machine.unit("door").unwrap()["pid"], second["pid"]);
    assert!(!machine.log("knock").unwrap().iter().any(|line| line.contains("refused")));

    // Of 300 kB of lines the last ones are kept, as many as two files hold, and all of them were sent away.
    machine.post("/v1/units/much/start").unwrap();
    machine.wait_for_log("much", "2999 ").unwrap();
    let kept: Vec<u64> = machine.log("much").unwrap().iter().filter_map(|line| line.trim_end().parse().ok()).collect();
    assert!(kept.len() > 200 && kept.len() < 1500, "{} lines", kept.len());
    assert!(kept.is_sorted_by(|a, b| a + 1 == *b) && kept.last() == Some(&2999), "{kept:?}");
    receiver.set_nonblocking(true).unwrap();
    // Each supervisor has a connection of its own.
    machine
        .wait_until("the last line to be sent away", || {
            let Ok((stream, _)) = receiver.accept() else { return Ok(None) };
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            Ok(forwarded(BufReader::new(stream), "2999").then_some(()))
        })
        .unwrap();

    // The boot before this one is told apart.
    let _ = machine.post("/v1/system/reboot");
    machine.wait_for_console("supervise started").unwrap();
    machine.wait_for_console("supervise started").unwrap();
    machine.settled().unwrap();
    let boot = |which: &str| {
        let output = machine.orlop(&["logs", &format!("--boot={which}"), "@init"]).unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let (last, now) = (boot("-1"), boot("0"));
    assert!(last.contains("the supervisor ended"), "{last}");
    assert!(now.contains("supervise: started") && !now.contains("the supervisor ended"), "{now}");
}

/// Octet counting (RFC 6587): whether a message with this end came, before the connection's.
fn forwarded(mut stream: impl BufRead, end: &str) -> bool {
    loop {
        let mut length = Vec::new();
        stream.read_until(b' ', &mut length).unwrap();
        let Ok(length) = String::from_utf8(length).unwrap().trim().parse() else { return false };
        let mut message = Vec::new();
        stream.by_ref().take(length).read_to_end(&mut message).unwrap();
        let message = String::from_utf8(message).unwrap();
        assert!(message.starts_with('<'), "{message}");
        if message.trim_end().ends_with(end) {
            return true;
        }
    }
}
