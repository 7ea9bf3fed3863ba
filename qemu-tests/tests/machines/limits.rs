//! Limits that only a machine can show: the kernel's own counters say whether it keeps to them.

use crate::support::{enabled, machine, probe_unit, run_probe, state};
use qemu_tests::LIMIT;
use serde_json::Value;
use std::net::TcpStream;

const MIB: u64 = 1 << 20;
const WRITTEN: u64 = 12;

/// The number behind `name=` in the line of a counter file.
fn counter(lines: &[String], file: &str, name: &str) -> u64 {
    let line = lines.iter().find(|line| line.contains(file)).unwrap_or_else(|| panic!("no {file} in {lines:#?}"));
    let found =
        line.split([' ', '|']).filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok()).max();
    found.unwrap_or_else(|| panic!("no {name} in {line}"))
}

#[test]
fn a_disk_takes_no_more_of_a_unit_than_its_limit() {
    let files = ["io.max", "io.stat"].map(|file| format!("/cg/containers/slow/{file}")).join(" ");
    let once = "[Service]\nType=oneshot\nIOWriteBandwidthMax=/var 1048576\nIOReadIOPSMax=/var 500\n";
    let volumes = "Volume=/sys/fs/cgroup:/cg:ro\nVolume=data:/data";
    let machine = machine("limits")
        .unit("slow.container", &(probe_unit(&format!("fill /data/file {WRITTEN} {files}"), volumes) + once))
        .start()
        .unwrap();
    machine.settled().unwrap();
    let shown = run_probe(&machine, "slow", "shown").unwrap();
    assert_eq!((counter(&shown, "io.max", "wbps"), counter(&shown, "io.max", "riops")), (MIB, 500), "{shown:#?}");
    let written = counter(&shown, "io.stat", "wbytes");
    assert!(written >= WRITTEN * MIB, "{written} bytes are counted for the unit: {shown:#?}");
}

/// Processes, memory and the disk are used up by one unit each; the others do not notice, what lets itself be known is, and when
/// there is room again all goes on.
#[test]
fn units_that_take_all_there_is_are_named_and_take_nothing_from_others() {
    const PROCESSES: u64 = 100;
    let checked = "HealthCmd=[\"/probe\",\"cat\",\"/proc/self/stat\"]\nHealthInterval=1s\nHealthRetries=1\nHealthOnFailure=kill\n";
    let machine = machine("greedy")
        .unit("web.container", &enabled(&probe_unit("serve 8081", checked)))
        .unit("stream.container", &enabled(&probe_unit("stream 9000", "")))
        .unit("bomb.container", &probe_unit("multiply", &format!("PidsLimit={PROCESSES}")))
        .unit("hungry.container", &probe_unit("eat-memory 4096", ""))
        .unit("hoard.container", &probe_unit("hoard /data/file 64", "Volume=data:/data"))
        .unit("lines.container", &probe_unit("lines 20000", ""))
        .forward(8081)
        .start()
        .unwrap();
    machine.settled().unwrap();
    let before = machine.unit("web").unwrap();
    let fares_well = |what: &str| {
        let check = |unit: &Value| unit["health_log"][0]["start"].as_str().unwrap_or_default().to_owned();
        let last = check(&machine.unit("web").unwrap());
        let checked = |unit: &Value| check(unit) > last && unit["health"] == "healthy";
        machine.wait_until(what, || Ok(Some(machine.unit("web")?).filter(checked))).unwrap();
        assert_eq!(machine.http(8081, "/").unwrap().text(), "ok", "{what}");
    };

    run_probe(&machine, "bomb", "no more than").unwrap();
    let bomb = machine.unit("bomb").unwrap();
    assert_eq!((&bomb["tasks"]["max"], &bomb["tasks"]["current"]), (&PROCESSES.into(), &PROCESSES.into()), "{bomb:#}");
    assert!(bomb["tasks"]["refused"].as_u64().is_some_and(|times| times > 0), "{bomb:#}");
    fares_well("a check beside many processes");

    // It has no limit of its own: all containers together have one.
    let _ = machine.post("/v1/units/hungry/start?no_block=true");
    let hungry = |unit: &Value| state(unit) == "failed";
    let hungry = machine.wait_until("its end", || Ok(Some(machine.unit("hungry")?).filter(hungry))).unwrap();
    assert_eq!(hungry["past"][0]["result"], "oom-kill", "{hungry:#}");
    fares_well("a check after memory was short");

    run_probe(&machine, "hoard", "hoards").unwrap();
    let _ = machine.post("/v1/units/lines/start?no_block=true");
    machine.console().wait("of the units that run hoard has written most", LIMIT).unwrap();
    fares_well("a check while the disk is full");
    assert_eq!(state(&machine.post("/v1/units/hoard/stop").unwrap()), "inactive");
    // What is written now is kept again, and how much was not is told: lines of the unit, or remarks about it.
    let _ = machine.post("/v1/units/lines/restart?no_block=true");
    let told = || Ok(machine.log("lines")?.iter().any(|line| line.contains(" lost: ")).then_some(()));
    machine.wait_until("a word about what was lost", told).unwrap();
    let shown = run_probe(&machine, "lines", "19999").unwrap();
    assert!(shown.iter().any(|line| line.trim_end() == "0"), "{} lines", shown.len());

    assert_eq!(state(&machine.post("/v1/units/bomb/stop").unwrap()), "inactive");
    let after = machine.unit("web").unwrap();
    assert_eq!((&after["pid"], &after["restarts"]), (&before["pid"], &before["restarts"]));
    assert_eq!(machine.get("/v1/system").unwrap()["supervisor_generation"], 1);
}

/// `Startup…=` holds until all that is enabled is up or has failed; then the plain value does, or none, whoever the supervisor is.
#[test]
fn limits_of_the_startup_end_with_it() {
    let files = ["cpu.weight", "memory.high", "cpuset.cpus"].map(|file| format!("/cg/containers/web/{file}")).join(" ");
    let limits = "StartupCPUWeight=7\nCPUWeight=50\nStartupMemoryHigh=64M\nStartupAllowedCPUs=0\n";
    let show = probe_unit(&format!("show {files}"), "Volume=/sys/fs/cgroup:/cg:ro") + "[Service]\nType=oneshot\n";
    let kill = probe_unit("on-request 9001 write /cg/orlop/cgroup.kill 1", "Volume=/sys/fs/cgroup:/cg");
    let machine = machine("startup")
        .unit(
            "web.container",
            &enabled(&(probe_unit("stream 9000", "") + "[Service]\nIODeviceLatencyTargetSec=/var 9ms\n" + limits)),
        )
        .unit("early.container", &enabled(&format!("[Unit]\nAfter=web.service\n{show}")))
        .unit("late.container", &show)
        .unit("kill.container", &enabled(&kill))
        .forward(9001)
        .cpus(2)
        .start()
        .unwrap();
    machine.settled().unwrap();
    // What the unit's last run showed.
    let is = |unit: &str, values: [&str; 3]| {
        let log = machine.log(unit).unwrap();
        let shown: Vec<String> = log.into_iter().filter(|line| line.contains("/cg/")).collect();
        let shown = &shown[shown.len().saturating_sub(3)..];
        let right = shown.iter().zip(values).all(|(line, value)| line.ends_with(&format!(": {value}")));
        assert!(right && shown.len() == 3, "{shown:#?}");
    };
    is("early", ["7", "67108864", "0"]);
    // A oneshot's start is answered when it has ended.
    machine.post("/v1/units/late/start").unwrap();
    is("late", ["50", "max", "0-1"]);
    let told = machine.log("web").unwrap();
    assert!(told.iter().any(|line| line.contains("this kernel has no io.latency")), "{told:#?}");
    machine.wait_for_log("kill", "waiting on").unwrap();
    drop(TcpStream::connect(machine.forwarded(9001).unwrap()).unwrap());
    machine
        .wait_until("a second supervisor", || {
            Ok((machine.get("/v1/system")?["supervisor_generation"] == 2).then_some(()))
        })
        .unwrap();
    machine.post("/v1/units/web/restart").unwrap();
    machine.post("/v1/units/late/start").unwrap();
    is("late", ["50", "max", "0-1"]);
}
