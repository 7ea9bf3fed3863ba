//! The supervisor is killed again and again, at any instant, while units start, stop, end, log and are asked for. What must be
//! true is kept beside it: what was asked for and answered, and nothing else, has happened, each thing once.
//!
//! `ORLOP_CRASHES=1000 cargo test -p qemu-tests --test machines crashes -- --nocapture` is the long campaign, some fifty minutes.

mod client;

use crate::support::{enabled, machine, probe_unit, state};
use client::{Client, Deed, RELAY, Tally, Then, random, says};
use qemu_tests::{LIMIT, Machine};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const STRIKE: u16 = 9001;
/// Longer than a supervisor needs to take over, and to do a thing or two, unless the host is busy with other things.
const LIFE: Duration = Duration::from_secs(2);
/// After so many kills one lives until it has answered so often, which also tells how busy the host is: lives that are all too short
/// to do anything would test nothing but the patience of the clients.
const REST_EVERY: u64 = 5;
const ANSWERS: u64 = 50;
/// A power of two of microseconds: the first instants of a life are hit as often as all the later ones.
const LIFE_BITS: u64 = 21;

/// No container of these may notice anything. `pulse` is killed when its signs of life are not heard, `checked` when a check of its
/// fails, as it does beside another.
const STEADY: [&str; 8] = ["steady", "stream", "knock", "knock-door", "relay", "strike", "pulse", "checked"];
/// Between the end of a tick and the begin of the next, as its timer has it.
const TICK_MS: u64 = 2000;

/// Each row has a client of its own.
const DEEDS: [&[Deed]; 11] = [
    &[
        ("web/start", 200, &[("web", Then::Runs)]),
        ("web/stop", 200, &[("web", Then::Rests("inactive"))]),
        ("web/restart", 200, &[("web", Then::Fresh)]),
    ],
    // Killed in the end, as it does not listen.
    &[
        ("stubborn/start", 200, &[("stubborn", Then::Runs)]),
        ("stubborn/stop", 200, &[("stubborn", Then::Rests("failed"))]),
        ("stubborn/restart", 200, &[("stubborn", Then::Fresh)]),
    ],
    &[
        ("app/start", 200, &[("db", Then::Runs), ("app", Then::Runs)]),
        ("db/stop", 200, &[("db", Then::Rests("inactive")), ("app", Then::Rests("inactive"))]),
    ],
    &[("count/start", 200, &[("count", Then::Ran("inactive", 0))])],
    &[("seven/start", 409, &[("seven", Then::Ran("failed", 7))])],
    &[("door/restart", 200, &[("door", Then::Fresh)])],
    // Active when it has said so, and when a check has.
    &[
        ("herald/start", 200, &[("herald", Then::Runs)]),
        ("herald/stop", 200, &[("herald", Then::Rests("inactive"))]),
        ("herald/restart", 200, &[("herald", Then::Fresh)]),
    ],
    // Bound to the first, which dies now and then.
    &[
        ("bound/start", 200, &[("mast", Then::Runs), ("bound", Then::Runs)]),
        ("mast/stop", 200, &[("mast", Then::Severed), ("bound", Then::Severed)]),
        ("mast/kill?signal=KILL", 200, &[("mast", Then::Killed), ("bound", Then::Severed)]),
    ],
    // Both are in one pod, which starts with the first and is gone with the last.
    &[
        ("oar/start", 200, &[("oar", Then::Runs)]),
        ("helm/start", 200, &[("helm", Then::Runs)]),
        ("helm/stop", 200, &[("helm", Then::Rests("inactive"))]),
        ("boat-pod/stop", 200, &[("oar", Then::Rests("inactive")), ("helm", Then::Rests("inactive"))]),
    ],
    // What it has kept outlives it, and whoever is killed meanwhile.
    &[
        ("keeper/start", 200, &[("keeper", Then::Runs)]),
        ("keeper/stop", 200, &[("keeper", Then::Rests("inactive"))]),
        ("keeper/restart", 200, &[("keeper", Then::Fresh)]),
    ],
    &[("well/start", 200, &[("well", Then::Runs)]), ("well/stop", 200, &[("well", Then::Rests("inactive"))])],
];

fn crashes() -> u64 {
    std::env::var("ORLOP_CRASHES").map_or(25, |text| text.parse().unwrap())
}

fn boot() -> Machine {
    let here = "Volume=/run/orlop:/run/orlop";
    let cgroups = "Volume=/sys/fs/cgroup:/cg";
    let always = "[Unit]\nStartLimitIntervalSec=0\n";
    let once = |command: &str, more: &str| always.to_owned() + &probe_unit(command, more) + "[Service]\nType=oneshot\n";
    let up = |command: &str, more: &str| always.to_owned() + &enabled(&probe_unit(command, more));
    let flaky = always.to_owned()
        + &probe_unit("exit 3", "")
        + "[Service]\nRestart=on-failure\nRestartSec=1\nRestartSteps=1\nRestartMaxDelaySec=1\n";
    let check =
        "HealthCmd=[\"/probe\",\"alone\",\"/check\"]\nHealthInterval=2s\nHealthRetries=1\nHealthOnFailure=kill\n";
    let timer = format!(
        "[Timer]\nOnActiveSec=1\nOnUnitInactiveSec={TICK_MS}ms\nAccuracySec=1ms\n[Install]\nWantedBy=timers.target\n"
    );
    let member =
        always.to_owned() + &probe_unit("sleep", "Pod=boat.pod\nStartWithPod=no").replace("Network=host\n", "");
    let kept = "[Service]\nFileDescriptorStoreMax=4\nFileDescriptorStorePreserve=yes\n";
    machine("crashes")
        .append("orlop.rescue_timeout=0")
        .unit("steady.container", &up("serve 8081", ""))
        .unit("stream.container", &up("stream 9000", ""))
        .unit("knock.container", &up("knock /run/orlop/control.sock", here))
        .unit("knock-door.container", &up("knock 8082", ""))
        .unit("relay.container", &up(&format!("relay {RELAY} /run/orlop/control.sock"), here))
        .unit("strike.container", &up(&format!("strike {STRIKE} /cg/orlop"), cgroups))
        .unit("flaky.container", &enabled(&flaky))
        .unit("web.container", &up("sleep", ""))
        .unit("stubborn.container", &up("ignore-term", "StopTimeout=1"))
        .unit("db.container", &up("sleep", ""))
        .unit("app.container", &("[Unit]\nRequires=db.service\nAfter=db.service\n".to_owned() + &up("sleep", "")))
        .unit("count.container", &once("count /data/number", "Volume=data:/data"))
        .unit("seven.container", &once("exit 7", ""))
        .unit("door.container", &up("serve 8082", ""))
        .unit("door.socket", "[Socket]\nListenStream=8082\n[Install]\nWantedBy=sockets.target\n")
        .unit("pulse.container", &(up("herald", "Notify=true") + "[Service]\nWatchdogSec=2min\n"))
        .unit("checked.container", &up("sleep", check))
        .unit("herald.container", &(up("herald", "Notify=true")))
        .unit("well.container", &up("sleep", &format!("{check}Notify=healthy")))
        .unit("mast.container", &up("sleep", ""))
        .unit("bound.container", &("[Unit]\nBindsTo=mast.service\nAfter=mast.service\n".to_owned() + &up("sleep", "")))
        .unit("boat.pod", "[Unit]\nStartLimitIntervalSec=0\n[Pod]\nNetwork=host\n")
        .unit("oar.container", &member)
        .unit("helm.container", &member)
        .unit("keeper.container", &(up("keep", "Notify=true") + kept))
        .unit("tick.container", &once("tick /data/ticks", "Volume=ticks:/data"))
        .unit("tick.timer", &timer)
        .forward(STRIKE)
        .forward(RELAY)
        .start()
        .unwrap()
}

/// Kills so many supervisors, each at a random instant of its life; each row of deeds goes on meanwhile. One that is hit again
/// while it ends counts once.
fn strike(client: &Client<'_>, times: u64) {
    let machine = client.machine;
    let killer = TcpStream::connect(machine.forwarded(STRIKE).unwrap()).unwrap();
    killer.set_read_timeout(Some(LIMIT)).unwrap();
    let mut answers = BufReader::new(&killer).lines();
    let (mut life, mut dead) = (LIFE, BTreeSet::new());
    for kill in 0_u64.. {
        if dead.len() as u64 >= times || client.done.load(Ordering::Relaxed) {
            return;
        }
        if kill % REST_EVERY == 0 {
            let killed = Instant::now();
            client.get("/v1/ping");
            life = LIFE.max(killed.elapsed() * 3 / 2);
            let enough = client.answered.load(Ordering::Relaxed) + ANSWERS;
            let is_enough = || client.done.load(Ordering::Relaxed) || client.answered.load(Ordering::Relaxed) >= enough;
            machine.wait_until("answers", || Ok(is_enough().then_some(()))).unwrap();
        }
        if kill % 100 == 0 {
            println!("{kill} kills so far");
        }
        let life_us = u64::try_from(life.as_micros()).unwrap();
        let longest = if random(2) == 0 { life_us } else { 1 << random(LIFE_BITS) };
        (&killer).write_all(format!("{}\n", random(longest)).as_bytes()).unwrap();
        let answer = answers.next().unwrap().unwrap();
        dead.extend(answer.strip_prefix("killed ").map(str::to_owned));
    }
}

/// At the console, where a supervisor that died five times is reported. Containers run on meanwhile.
fn answer_the_rescue_screen(machine: &Machine, done: &AtomicBool) -> u32 {
    let mut answered = 0;
    while !done.load(Ordering::Relaxed) {
        if machine.console().wait("press Enter.", Duration::from_secs(1)).is_ok() {
            machine.console().type_keys("r\n").unwrap();
            answered += 1;
        }
    }
    answered
}

/// Reads on as somebody would who watches.
fn watch(client: &Client<'_>) -> u64 {
    let mut reads = 0;
    while !client.done.load(Ordering::Relaxed) {
        assert!(client.get("/v1/units").as_array().is_some_and(|units| units.len() > DEEDS.len()));
        if let Some(answer) = client.ask("GET", "/v1/units/stream/logs?tail=20") {
            let text = answer.text();
            let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            let numbers: Vec<u64> = lines.iter().filter_map(|line| number(line["message"].as_str()?, "line")).collect();
            assert!(numbers.is_sorted_by(|a, b| a + 1 == *b), "{numbers:?}");
        }
        reads += 1;
    }
    reads
}

/// The number in `WORD N`, whatever follows.
fn number(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.strip_prefix(' ')?.split(' ').next()?.parse().ok()
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whatever_the_supervisor_was_doing_when_it_was_killed_is_done_once() {
    let machine = boot();
    machine.settled().unwrap();
    for (unit, text) in [("relay", "waiting on"), ("strike", "waiting on"), ("stream", "line 1")] {
        machine.wait_for_log(unit, text).unwrap();
    }
    let before = STEADY.map(|unit| machine.unit(unit).unwrap());

    let (done, all_up) = (AtomicBool::new(false), AtomicBool::new(false));
    let client = Client { machine: &machine, done: &done, answered: AtomicU64::new(0) };
    let (starts, system) = thread::scope(|scope| {
        // The last one that dies may be the fifth in a row, and everybody waits for the next.
        let up = Done(&all_up);
        let end = Done(&done);
        let rescue = scope.spawn(|| answer_the_rescue_screen(&machine, &all_up));
        let watcher = scope.spawn(|| watch(&client));
        let clients = DEEDS.map(|deeds| {
            scope.spawn(|| {
                // One that found something wrong ends all of it.
                let _end = Done(&done);
                client.run(deeds)
            })
        });
        strike(&client, crashes());
        drop(end);
        let clients = clients.map(|client| client.join().unwrap());
        let reads = watcher.join().unwrap();
        let system = machine.wait_until("the last supervisor", || machine.get("/v1/system").map(Some)).unwrap();
        drop(up);
        let sum = |of: fn(&Tally) -> u64| clients.iter().map(of).sum::<u64>();
        let (asked, held_back) = (sum(|tally| tally.asked), sum(|tally| tally.held_back));
        let rescues = rescue.join().unwrap();
        println!("{} kills, {rescues} rescues, {asked} requests ({held_back} held back), {reads} reads", crashes());
        (clients.into_iter().flat_map(|tally| tally.starts).collect::<Vec<_>>(), system)
    });

    assert_eq!((&system["state_store"], &system["problems"]), (&"persistent".into(), &Value::Array(Vec::new())));
    let killed = system["supervisor_generation"].as_u64().unwrap() - 1;
    println!("{killed} died");
    assert!(killed >= crashes(), "{system:#}");
    for unit in &before {
        let now = machine.unit(unit["name"].as_str().unwrap()).unwrap();
        let same = |unit: &Value| [&unit["pid"], &unit["restarts"], &unit["since"]].map(Value::clone);
        assert_eq!((same(&now), state(&now)), (same(unit), "active"), "{now:#}");
    }

    // Each start has printed its line, and nothing has started that nobody asked for.
    for (unit, (least, most)) in starts {
        let line = says(unit);
        let what = format!("`{line}` {least} to {most} times in the log of {unit}");
        machine
            .wait_until(&what, || {
                let times = machine.log(unit)?.iter().filter(|text| text.starts_with(line)).count() as u64;
                assert!(times <= most, "{what}, but {times} times");
                Ok((times >= least).then_some(()))
            })
            .unwrap();
        println!("{what}");
    }
    let numbers = |unit: &str, word: &str| -> Vec<u64> {
        machine.log(unit).unwrap().iter().filter_map(|line| number(line, word)).collect()
    };
    for (unit, word) in [("count", "count"), ("stream", "line"), ("keeper", "keeping")] {
        let found = numbers(unit, word);
        let gap = found.iter().zip(1..).find(|(found, expected)| **found != *expected);
        assert!(gap.is_none(), "{unit}: {gap:?} (found, expected)");
        println!("{unit}: {} lines", found.len());
    }
    for unit in ["knock", "knock-door", "relay"] {
        let log = machine.log(unit).unwrap();
        assert!(!log.iter().any(|line| line.contains("refused")), "{unit}: {log:#?}");
        println!("{unit}: {}", log.last().unwrap());
    }

    // The timer goes on; one that had started its unit twice for one trigger would have done so far too soon: the time is of the program's
    // first word, which is late now and then, and early by that much the next time.
    let last = numbers("tick", "tick").len();
    machine.wait_for_log("tick", &format!("tick {} after", last + 2)).unwrap();
    let ticks = numbers("tick", "tick");
    assert!(ticks.iter().zip(1..).all(|(found, expected)| *found == expected), "{ticks:?}");
    let after = |line: &String| line.rsplit_once(" after ")?.1.parse::<u64>().ok();
    let pauses: Vec<u64> = machine.log("tick").unwrap().iter().filter_map(after).collect();
    assert!(pauses.iter().skip(1).all(|pause| *pause >= TICK_MS / 2), "{pauses:?}");
    println!("tick: {} ticks", ticks.len());
    // What it says of itself is heard to the end.
    let beat =
        || number(machine.unit("pulse").unwrap()["status_text"].as_str().unwrap_or_default(), "beat").unwrap_or(0);
    let heard = beat();
    machine.wait_until("another beat", || Ok((beat() > heard).then_some(()))).unwrap();
    assert_eq!(machine.unit("checked").unwrap()["health"], "healthy");

    // Each end of it was seen: so often it was started again.
    machine.post("/v1/units/flaky/stop").unwrap();
    let flaky = machine.unit("flaky").unwrap();
    let log = machine.log("flaky").unwrap();
    let count = |text: &str| log.iter().filter(|line| *line == text).count() as u64;
    println!(
        "flaky: {} restarts, {} ends, {} told",
        flaky["restarts"],
        count("exiting"),
        count("exited with status 3")
    );
    let (exiting, restarts) = (count("exiting"), flaky["restarts"].as_u64().unwrap());
    assert!(exiting == restarts || exiting == restarts + 1, "{exiting} ends: {flaky:#}");
    // One that was killed for the supervisor's death, after its last word, has another line.
    let (told, killed) = (count("exited with status 3"), count("interrupted while it was made, is made once more"));
    assert!(told <= exiting && exiting <= told + killed, "{exiting} ends, {told} told, {killed} killed");
}
