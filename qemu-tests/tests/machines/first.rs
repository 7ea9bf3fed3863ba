//! One machine, with the demo and a few probes, of which many things are asked that change nothing.

use crate::support::{enabled, machine, named, probe_unit, run_probe, state};
use qemu_tests::{Machine, MachineError};
use std::sync::OnceLock;

/// Units the tests below start when they need them are not enabled.
pub(crate) fn first() -> &'static Machine {
    static FIRST: OnceLock<Result<Machine, MachineError>> = OnceLock::new();
    // A failure is remembered: the other tests have no need to wait for it again.
    FIRST.get_or_init(boot).as_ref().unwrap()
}

fn boot() -> Result<Machine, MachineError> {
    let builder = crate::facts::units().iter().fold(machine("first"), |builder, (file, text)| builder.unit(file, text));
    let mut machine = builder
        .unit("web.container", &enabled(&probe_unit("serve 8081", "Environment=COLOUR=blue")))
        .unit("once.container", &enabled(&probe_unit("exit 0", "")))
        .unit("hungry.container", &probe_unit("eat-memory 64", "Memory=16M"))
        .unit("idle.container", &probe_unit("sleep", ""))
        .unit("json.container", &probe_unit("sleep", ""))
        .unit("lonely.container", &probe_unit("cat /proc/net/dev", "").replace("Network=host", "Network=none"))
        .unit("bad.container", "[Container]\nImage=localhost/probe:latest\nNetwork=host\nExce=serve 1\n")
        .unit("writes.container", &probe_unit("try-writes /host /host/proc", "Volume=/:/host"))
        .unit("zombies.container", &probe_unit("zombies /host/proc", "Volume=/:/host"))
        .unit("mounts.container", &probe_unit("cat /proc/self/mounts /proc/self/status", ""))
        .forward(8080)
        .forward(8081)
        .start()?;
    machine.settled()?;
    // From here on it waits for questions: others may boot meanwhile.
    machine.is_idle();
    Ok(machine)
}

#[test]
fn the_machine_boots_and_says_so_on_its_console() {
    let machine = first();
    let system = machine.get("/v1/system").unwrap();
    assert_eq!(system["state_store"], "persistent", "{system:#}");
    assert_eq!(system["supervisor_generation"], 1, "{system:#}");
    assert_eq!(system["machine_id"].as_str().unwrap().len(), 32, "{system:#}");
    // Not part of being settled: an address comes when a server gives one.
    for (how, start) in [("DHCP", "eth0 10.0.2.15/24"), ("SLAAC", "eth0 fec0:")] {
        machine
            .wait_until(&format!("an address by {how}"), || {
                let system = machine.get("/v1/system")?;
                let mut addresses = system["addresses"].as_array().into_iter().flatten().filter_map(|a| a.as_str());
                Ok(addresses.any(|address| address.starts_with(start)).then_some(()))
            })
            .unwrap();
    }
    // `[   5.434] root      erofs, …`: who speaks stands in the same column of every line.
    let speaks = |console: &str, who: &str| {
        console
            .lines()
            .any(|line| line.starts_with('[') && line.get(11..).is_some_and(|text| text.split(' ').next() == Some(who)))
    };
    // The console is told after whoever asked whether the machine is settled.
    for who in ["init", "modules", "root", "state", "machine", "supervise", "seed", "network", "demo", "web"] {
        let spoken = || Ok(speaks(&machine.console().text(), who).then_some(()));
        machine.wait_until(&format!("a line of {who} on the console"), spoken).unwrap();
    }
    let mistake = machine.wait_for_console("bad.container:4:1: ").unwrap();
    assert!(mistake.contains("units ") && mistake.contains("Exec="), "{mistake}");
    // No kernel noise: every line before the rescue screen would be one of the story, whose seconds have three decimals; the
    // kernel's have six.
    let story = |line: &str| line.starts_with('[') && line.get(9..11) == Some("] ");
    let console = machine.console().text();
    // The last one may be coming just now, letter by letter.
    let whole = console.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let noise: Vec<&str> = whole.lines().filter(|line| !line.is_empty() && !story(line)).collect();
    assert!(noise.is_empty(), "{noise:#?}");
}

#[test]
fn the_demo_answers_through_the_forwarded_port() {
    let page = first().http(8080, "/").unwrap();
    assert_eq!(page.status, 200);
    assert!(page.header("Content-Type").unwrap_or_default().starts_with("text/html"), "{:?}", page.headers);
    // What only this machine can have told it: its name, its limits, its mounts, how long it has been up.
    let text = page.text();
    for fact in ["<html", "Hello from orlop-", "of 64.0 MiB", "overlay", "The machine"] {
        assert!(text.contains(fact), "no `{fact}` in {text}");
    }
}

#[test]
fn units_settle_each_in_its_own_way() {
    let units = first().get("/v1/units").unwrap();
    let units = units.as_array().unwrap();
    assert_eq!(state(named(units, "demo")), "active");
    assert_eq!(state(named(units, "web")), "active");
    // Another test of this machine may be starting it again just now.
    let ended = || first().unit("once").map(|once| (state(&once) == "inactive").then_some(once));
    let once = first().wait_until("its end", ended).unwrap();
    assert_eq!(once["exit_code"], 0, "{once:#}");
    assert_eq!(named(units, "writes")["enabled"], false);
}

#[test]
fn a_mistake_in_one_unit_is_shown_with_its_place_and_the_nearest_key() {
    let machine = first();
    let system = machine.get("/v1/system").unwrap();
    let problems = system["problems"].as_array().unwrap();
    let problem = problems.iter().filter_map(|problem| problem.as_str()).find(|text| text.contains("bad.container"));
    let problem = problem.unwrap_or_else(|| panic!("{system:#}"));
    assert!(problem.contains("bad.container:4:1") && problem.contains("Exec"), "{problem}");

    // Not running, but not forgotten.
    let units = machine.get("/v1/units").unwrap();
    let bad = named(units.as_array().unwrap(), "bad");
    assert_eq!((state(bad), bad["sub_state"].as_str()), ("failed", Some("bad-setting")), "{bad:#}");
    assert_eq!(bad["reason"].as_str(), Some(problem));

    // The same words on a laptop.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.container");
    std::fs::write(&file, "[Container]\nImage=localhost/probe:latest\nNetwork=host\nExce=serve 1\n").unwrap();
    let lint = std::process::Command::new(machine.orlop_program()).arg("lint").arg(&file).output().unwrap();
    assert_eq!(lint.status.code(), Some(1), "{lint:?}");
    let said = String::from_utf8_lossy(&lint.stdout) + String::from_utf8_lossy(&lint.stderr);
    let text = |line: &str| line.split_once("bad.container:").map(|(_, text)| text.to_owned());
    assert!(said.lines().any(|line| text(line) == text(problem)), "{said}\nagainst\n{problem}");
}

#[test]
fn only_the_four_places_can_be_written() {
    let lines = run_probe(first(), "writes", "walked ").unwrap();
    let walked: u32 = lines.iter().find_map(|line| line.strip_prefix("walked ")?.parse().ok()).unwrap();
    assert!(walked > 15, "{lines:#?}");
    let writable: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("writable /host")).collect();
    // Device nodes live in memory; whoever may make them is root of the machine already.
    let allowed = ["/etc/containers.d", "/var", "/run", "/tmp", "/dev"];
    let below =
        |path: &str, place: &str| path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let wrong: Vec<_> = writable.iter().filter(|path| !allowed.iter().any(|place| below(path, place))).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // The walk tries each folder once, and /etc/containers.d is a folder of /var bound there: it has its own proof in
    // the units of this very machine, which lie there.
    for place in ["/var", "/run", "/tmp"] {
        assert!(writable.contains(&place), "{place} is not writable: {writable:#?}");
    }
    let unit = first().unit("web").unwrap();
    assert_eq!(unit["path"], "/etc/containers.d/web.container");
}

#[test]
fn zombies_are_gone() {
    let machine = first();
    // The first process of a container is an orphan by design: the runtime has ended, and the machine's PID 1 reaps it.
    for _ in 0..5 {
        machine.post("/v1/units/once/start").unwrap();
        machine.wait_until("its end", || Ok((state(&machine.unit("once")?) == "inactive").then_some(()))).unwrap();
    }
    let lines = run_probe(machine, "zombies", "zombies ").unwrap();
    assert!(lines.iter().any(|line| line == "zombies 0"), "{lines:#?}");
}

#[test]
fn a_container_has_the_default_capabilities_and_sees_only_its_own_mounts() {
    let lines = run_probe(first(), "mounts", "nonvoluntary_ctxt_switches").unwrap();
    let value = |key: &str| lines.iter().find_map(|line| line.strip_prefix(key)).map(str::trim);
    // Podman's list: CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT.
    assert_eq!(value("CapEff:"), Some("00000000800405fb"), "{lines:#?}");
    assert_eq!(value("CapInh:"), Some("0000000000000000"), "{lines:#?}");
    assert_eq!(value("Pid:"), Some("1"), "{lines:#?}");
    let roots: Vec<_> = lines.iter().filter(|line| line.split(' ').nth(1) == Some("/")).collect();
    assert!(roots.len() == 1 && roots[0].starts_with("overlay "), "{lines:#?}");
    assert!(!lines.iter().any(|line| line.contains(" /var")), "{lines:#?}");
}

#[test]
fn a_container_without_a_network_has_its_loopback_only() {
    let lines = run_probe(first(), "lonely", "lo:").unwrap();
    let cards: Vec<&str> = lines.iter().filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert_eq!(cards, ["lo"], "{lines:#?}");
}

#[test]
fn the_command_line_reaches_the_machine_from_the_host() {
    let machine = first();
    let ps = machine.orlop(&["ps"]).unwrap();
    assert!(ps.status.success(), "{ps:?}");
    let listed = String::from_utf8(ps.stdout).unwrap();
    assert!(listed.lines().any(|line| line.contains("web") && line.contains("active")), "{listed}");

    let json = machine.orlop(&["ps", "--json"]).unwrap();
    let units: Vec<serde_json::Value> = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(state(named(&units, "web")), "active");

    let status = machine.orlop(&["status", "idle"]).unwrap();
    assert_eq!(status.status.code(), Some(3), "{status:?}");
    let unknown = machine.orlop(&["status", "webb"]).unwrap();
    assert_eq!(unknown.status.code(), Some(4), "{unknown:?}");
    let logs = machine.orlop(&["logs", "web"]).unwrap();
    assert!(String::from_utf8_lossy(&logs.stdout).contains("listening on 8081"), "{logs:?}");
}

#[test]
fn an_end_for_memory_is_told_apart_from_a_kill() {
    let machine = first();
    let _ = machine.post("/v1/units/hungry/start");
    let failed = || Ok(Some(machine.unit("hungry")?).filter(|unit| state(unit) == "failed"));
    let unit = machine.wait_until("its end", failed).unwrap();
    assert_eq!(unit["past"][0]["result"], "oom-kill", "{unit:#}");
    assert_eq!(unit["reason"], "killed for using more memory than its limit");
}

#[test]
fn every_verb_speaks_json() {
    let machine = first();
    let json = |words: &[&str], code: i32| -> serde_json::Value {
        let output = machine.orlop(words).unwrap();
        assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {output:?}"))
    };
    // One shape for a unit, whichever verb shows it.
    let unit = |value: &serde_json::Value, name: &str, expected: &str| {
        let [unit] = value.as_array().unwrap().as_slice() else { panic!("{value:#}") };
        assert_eq!((unit["name"].as_str(), state(unit)), (Some(name), expected), "{unit:#}");
        for text in ["description", "sub_state", "health", "image", "since", "path"] {
            assert!(unit[text].is_string(), "{text}: {unit:#}");
        }
        assert!(unit["restarts"].is_u64() && unit["enabled"].is_boolean(), "{unit:#}");
        assert_eq!(unit["pid"].is_u64(), expected == "active", "{unit:#}");
    };
    unit(&json(&["ps", "--json", "json"], 0), "json", "inactive");
    // The first process of its namespace: what asks it to end is lost before it listens to that.
    let listens = |runs: usize| {
        let slept = |log: Vec<String>| log.iter().filter(|line| *line == "sleeping").count() == runs;
        machine.wait_until("it to listen", || Ok(slept(machine.log("json")?).then_some(()))).unwrap();
    };
    unit(&json(&["start", "--json", "json"], 0), "json", "active");
    unit(&json(&["status", "--json", "json"], 0), "json", "active");
    listens(1);
    unit(&json(&["restart", "--json", "json"], 0), "json", "active");
    listens(2);
    unit(&json(&["stop", "--json", "json"], 0), "json", "inactive");
    unit(&json(&["status", "--json", "json"], 3), "json", "inactive");
    assert_eq!(json(&["is-active", "--json", "json", "web"], 0)["web"], "active");
    let used = json(&["stats", "--no-stream", "--json", "web"], 0);
    assert!(used[0]["memory_bytes"].is_u64() && used[0]["tasks"]["current"] == 1, "{used:#}");
    assert!(used[0]["cpu_percent"].is_number() && used[0]["read_bytes"].is_u64(), "{used:#}");
    // The machine's card is its own.
    assert!(used[0]["received_bytes"].is_null() && used[0]["pressure"]["io"].is_number(), "{used:#}");
    let system = json(&["status", "--json"], 0);
    assert!(system["machine_id"].is_string() && system["supervisor_pid"].is_u64(), "{system:#}");
    assert_eq!(json(&["info", "--json"], 0)["machine_id"], system["machine_id"]);
    // Of all containers, of the whole machine, and what the README says of the kernel.
    let measured = system["memory_bytes"].is_u64() && system["memory_events"]["oom_kill"].is_u64();
    assert!(measured && system["pressure"]["memory"].is_number(), "{system:#}");
    assert!(system["kernel_taint"].as_u64().is_some_and(|bits| bits & 1 << 13 != 0), "{system:#}");
    assert_eq!(json(&["stop", "--json", "webb"], 4), serde_json::json!([]));
    // A line is an object, one a line, so that it can be followed.
    let logs = machine.orlop(&["logs", "--json", "-n", "3", "web"]).unwrap();
    let lines: Vec<serde_json::Value> = logs
        .stdout
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    assert!(!lines.is_empty() && lines.len() <= 3);
    for line in lines {
        assert_eq!(line["unit"], "web");
        assert!(["time", "stream", "message"].iter().all(|key| line[key].is_string()), "{line:#}");
    }
}

#[test]
fn many_clients_at_once_are_served() {
    let machine = first();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..12).map(|_| scope.spawn(|| machine.get("/v1/units/web").unwrap())).collect();
        for client in clients {
            assert_eq!(state(&client.join().unwrap()), "active");
        }
    });
}

#[test]
fn other_programs_run_in_a_container_as_whom_one_likes() {
    let machine = first();
    let exec = |words: &[&str]| {
        let output = machine.orlop(&[&["exec"], words].concat()).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, said, _) = exec(&["-u", "33:34", "web", "/probe", "show", "/proc/self/status", "/proc/self/cgroup"]);
    assert!(code == Some(0) && said.contains("|Uid:\t33\t33\t33\t33|Gid:\t34\t34\t34\t34|"), "{said}");
    assert!(said.contains("/proc/self/cgroup: 0::/\n"), "{said}");
    // The port goes back to who comes next, again and again.
    for code in 0..8 {
        let (ended, said, _) = exec(&["web", "/probe", "exit", &code.to_string()]);
        assert_eq!((ended, said.as_str()), (Some(code), "exiting\n"));
    }
    let (code, _, error) = exec(&["web", "no-such-program"]);
    assert!(code == Some(127) && error.contains("not found in $PATH: no-such-program"), "{error}");
    let (code, _, error) = exec(&["idle", "/probe", "exit", "0"]);
    assert!(code == Some(125) && error.contains("idle: not running"), "{error}");
}
