//! What units may have besides a container that runs: checks of its health, timers, sockets, and what becomes of its log. One
//! machine, whose supervisor is killed in the middle, and which boots twice.

use crate::support::{enabled, machine, probe_unit, run_probe, state};
use qemu_tests::{LIMIT, Machine};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};

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

/// The names and sizes of the files of a unit's log.
fn files(machine: &Machine, unit: &str) -> BTreeMap<String, u64> {
    let shown = run_probe(machine, unit, "sized").unwrap();
    let size = |line: &String| line.split_once(": ").map(|(name, size)| (name.to_owned(), size.parse().unwrap()));
    shown.iter().filter_map(size).collect()
}

fn unit_when(machine: &Machine, unit: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    machine.wait_until(&format!("{unit} {what}"), || Ok(Some(machine.unit(unit)?).filter(|unit| is(unit)))).unwrap()
}

#[test]
fn health_timers_sockets_and_logs_outlive_a_supervisor_and_a_boot() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let ready = check("/flags/ready") + "Notify=healthy\nHealthStartPeriod=10m\n[Service]\nTimeoutStartSec=infinity\n";
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
        .unit("sizes.container", &probe_unit("sizes /log", "Volume=/var/log/orlop/much:/log:ro"))
        // When asked to, so that the supervisor is not in the middle of starting it.
        .unit(
            "kill.container",
            &enabled(&probe_unit("on-request 9001 write /cg/orlop/cgroup.kill 1", "Volume=/sys/fs/cgroup:/cg")),
        )
        .forward(9001)
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
    machine.wait_for_log("kill", "waiting on").unwrap();
    drop(TcpStream::connect(machine.forwarded(9001).unwrap()).unwrap());
    let generation = |system: Value| system["supervisor_generation"].as_u64().filter(|generation| *generation > 1);
    machine.wait_until("the next supervisor", || machine.get("/v1/system").map(generation)).unwrap();
    let seen = counted(&machine).len();
    machine.wait_for_log("tick", &format!("count {}", seen + 2)).unwrap();
    let checked = |unit: &Value| unit["health_log"][0]["start"].as_str().unwrap_or_default().to_owned();
    let before = checked(&machine.unit("patient").unwrap());
    let after = unit_when(&machine, "patient", "to be checked again", |unit| checked(unit) > before);
    assert_eq!((&after["pid"], &after["health"]), (&patient["pid"], &patient["health"]));
    assert_eq!(machine.unit("door").unwrap()["pid"], second["pid"]);
    assert!(!machine.log("knock").unwrap().iter().any(|line| line.contains("refused")));

    // Of 300 kB of lines the last ones are kept, as many as two files hold, and the last one was sent away.
    machine.post("/v1/units/much/start").unwrap();
    machine.wait_for_log("much", "2999 ").unwrap();
    let kept: Vec<u64> = machine.log("much").unwrap().iter().filter_map(|line| line.trim_end().parse().ok()).collect();
    let files = files(&machine, "sizes");
    let (first, count) = (kept.first(), kept.len());
    assert!(kept.is_sorted_by(|a, b| a + 1 == *b) && kept.last() == Some(&2999), "{files:?}, {kept:?}");
    // The older one was filled.
    let is_full = (32 << 10..=64 << 10).contains(files.get("current.1").unwrap_or(&0));
    let is_kept = files.len() == 2 && files.get("current").is_some_and(|size| *size <= 64 << 10) && is_full;
    assert!(is_kept && count > 200, "{files:?}, {count} lines from {first:?} on");
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
    machine.wait_event("RESET").unwrap();
    machine.wait_until("an answer", || machine.get("/v1/ping").map(Some)).unwrap();
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

/// Whether a message with this end came before the connection's.
fn forwarded(mut stream: impl BufRead, end: &str) -> bool {
    while let Some(message) = message(&mut stream) {
        assert!(message.starts_with('<'), "{message}");
        if message.trim_end().ends_with(end) {
            return true;
        }
    }
    false
}

/// Octet counting (RFC 6587). None when the connection ends, as it does with its supervisor, in the middle of a message even.
fn message(stream: &mut impl BufRead) -> Option<String> {
    let (mut length, mut message) = (Vec::new(), Vec::new());
    stream.read_until(b' ', &mut length).ok()?;
    let length = str::from_utf8(length.strip_suffix(b" ")?).unwrap().parse().unwrap();
    stream.take(length).read_to_end(&mut message).ok()?;
    (message.len() as u64 == length).then(|| String::from_utf8(message).unwrap())
}
