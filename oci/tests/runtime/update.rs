//! `update`, `events`, and options of `create` that engines know.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;

use nix::mount::MsFlags;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::{Value, json};

use crate::support::{Container, Said, spawn, wait_until};

fn running(c: Container) -> Container {
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    c
}

#[test]
fn limits_change_or_it_is_said_why_not() {
    let c = running(Container::new(&["say", "up", "sleep"]));
    let has = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let has = |name: &str| has.split_ascii_whitespace().any(|one| one == name);
    for (controller, args, file, value) in [
        ("pids", ["--pids-limit", "17"], "pids.max", "17"),
        ("memory", ["--memory", "32m"], "memory.max", "33554432"),
        ("cpu", ["--cpu-quota", "50000"], "cpu.max", "50000 100000"),
    ] {
        let said = c.oci(&["update", args[0], args[1], &c.id]);
        if has(controller) {
            said.ok();
            assert_eq!(std::fs::read_to_string(c.cgroup(file)).unwrap().trim(), value);
        } else {
            said.refused(&format!("cannot enable the controller {controller}"));
        }
    }
    c.oci(&["update", "--blkio-weight", "5", &c.id]).refused("update: blockIO.weight: must lie between 10 and 1000");
    c.oci(&["update", "--kernel-memory", "1m", &c.id]).refused("exists in cgroup v1 only");
    c.oci(&["update", "nobody", "--memory", "1m"]).refused("container \"nobody\" does not exist");
}

fn with_resources(c: &Container, more: &[&str], resources: &str) -> Said {
    std::fs::write(c.path("resources.json"), resources).unwrap();
    c.oci(&[more, &["update", "--resources", "resources.json", &c.id]].concat())
}

#[test]
fn what_is_not_known_is_not_ignored_in_silence() {
    let c = running(Container::new(&["say", "up", "sleep"]));
    let sets_nothing = "resources.json: sets nothing: memroy: unknown property, ignored";
    with_resources(&c, &[], r#"{"memroy":{"limit":1}}"#).refused(sets_nothing);
    with_resources(&c, &[], "{}").ok();
    let said = with_resources(&c, &[], r#"{"unified":{"cgroup.max.depth":"7"},"memroy":{"limit":1}}"#).ok();
    assert!(said.err.contains("warning: resources.json: memroy: unknown property, ignored"), "{said:?}");
    assert_eq!(std::fs::read_to_string(c.cgroup("cgroup.max.depth")).unwrap(), "7\n");
    // stderr is the process's here.
    let process = r#"{"cwd":"/","args":["/bin/inspect","status","NoNewPrivs"],"noNewPrivilege":true}"#;
    std::fs::write(c.path("process.json"), process).unwrap();
    let said = c.oci(&["--log", "log", "exec", "--process", "process.json", &c.id]).ok();
    assert_eq!(said.err, "");
    let log = std::fs::read_to_string(c.path("log")).unwrap();
    assert!(log.contains("process.json: noNewPrivilege: unknown property, ignored"), "{log}");
}

#[test]
fn an_update_that_is_refused_changes_nothing() {
    let c = running(Container::new(&["say", "up", "sleep"]));
    let depth = || std::fs::read_to_string(c.cgroup("cgroup.max.depth")).unwrap();
    with_resources(&c, &[], r#"{"unified":{"cgroup.max.depth":"9"}}"#).ok();
    let half = r#"{"unified":{"cgroup.max.depth":"7","cgroup.max.descendants":"3","nothing.max":"1"}}"#;
    with_resources(&c, &[], half).refused("cannot enable the controller nothing");
    assert_eq!(depth(), "9\n");
    assert_eq!(std::fs::read_to_string(c.cgroup("cgroup.max.descendants")).unwrap(), "max\n");
    // One that is written twice on the way.
    let twice = r#"{"unified":{"cgroup.max.depth":"7\n6","nothing.max":"1"}}"#;
    with_resources(&c, &[], twice).refused("cannot enable the controller nothing");
    assert_eq!(depth(), "9\n");
    // What is not the cgroup's own to refuse.
    let fine = r#"{"unified":{"cgroup.max.depth":"7"}}"#;
    std::fs::write(c.path("fine.json"), fine).unwrap();
    let both = c.oci(&["update", "--resources", "fine.json", "--l3-cache-schema", "L3:0=f", &c.id]);
    both.refused("linux.intelRdt");
    assert_eq!(depth(), "9\n");
}

#[test]
fn device_rules_are_replaced_not_added() {
    // A device that this kernel may not have: then the answer to an allowed open is another error.
    let c = Container::new(&["mknod", "/dev/fuse", "10", "229", "say", "up", "sleep"]).capabilities(&["CAP_MKNOD"]);
    let c = running(c);
    let denied = || c.oci(&["exec", &c.id, "/bin/inspect", "open", "/dev/fuse"]).ok().out.contains("not permitted");
    assert!(denied());
    for allow in [true, false, true] {
        let rules = json!({"devices": [{"allow": allow, "type": "c", "major": 10, "minor": 229, "access": "rw"}]});
        let mut update = c.command(&["update", "--resources", "-", &c.id]);
        let mut update = spawn(update.stdin(Stdio::piped()));
        update.stdin.take().unwrap().write_all(rules.to_string().as_bytes()).unwrap();
        assert!(update.wait().unwrap().success());
        assert_eq!(denied(), !allow);
    }
}

#[test]
fn events_are_lines_of_json() {
    let c = running(Container::new(&["say", "up", "sleep"]));
    let stats: Value = serde_json::from_str(&c.oci(&["events", "--stats", &c.id]).ok().out).unwrap();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(c.id)));
    assert!(stats["data"]["cpu"]["usage"]["total"].is_u64() && stats["data"]["memory"]["usage"]["limit"].is_u64());
    assert!(stats["data"]["pids"].is_object() && stats["data"]["blkio"]["ioServiceBytesRecursive"].is_array());
    // They go on until the container ends.
    let mut events = c.command(&["events", "--interval", "0.01s10ms", &c.id]);
    let mut events = spawn(events.stdout(Stdio::piped()));
    let mut lines = BufReader::new(events.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["type"], "stats");
    }
    c.oci(&["kill", &c.id, "KILL"]).ok();
    assert!(events.wait().unwrap().success());
    c.wait_for_status("stopped");
    c.oci(&["events", "--stats", &c.id]).refused("it is stopped");
}

#[test]
fn options_of_create_that_engines_know() {
    let c = Container::new(&["ls", "/", "mount", "/", "cat", "/proc/self/comm"]);
    c.write_config();
    c.oci(&["run", "--no-subreaper", &c.id]).ok().has("/: bin dev proc sys").has("/proc/self/comm: inspect");
    let c = running(Container::new(&["say", "up", "sleep"]));
    for (option, field) in [("--apparmor", "apparmorProfile"), ("--process-label", "selinuxLabel")] {
        let words = format!("process.{field}: is not supported: this kernel runs without");
        c.oci(&["exec", option, "x", &c.id, "/bin/inspect"]).refused(&words);
    }
}

#[test]
fn ps_gives_numbers_or_the_lines_of_this_machines_ps() {
    let tool = initramfs::requirements::Tool { program: "ps", package: "procps" };
    initramfs::requirements::ensure(&[tool], &mut |line| println!("{line}")).unwrap();
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let pid = c.pid();
    assert_eq!(c.oci(&["ps", &c.id, "--format", "json"]).ok().out, format!("[{pid}]\n"));
    for options in [vec![], vec!["-ef"], vec!["aux"], vec!["-o", "comm,pid"]] {
        let said = c.oci(&[vec!["ps", &c.id], options].concat()).ok();
        let lines: Vec<&str> = said.out.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains("PID") && lines[1].contains("inspect"), "{said:?}");
    }
    c.oci(&["ps", &c.id, "-o", "comm"]).refused("ps tells no PID");
    let said = c.oci(&["ps", &c.id, "--no-such"]);
    assert!(said.status == 1 && said.err.ends_with("ps did not take these options\n"), "{said:?}");
}

#[test]
fn what_was_mounted_before_goes_with_the_old_root_unless_nothing_is_pivoted() {
    for (options, lives) in [(&[][..], false), (&["--no-pivot"], true)] {
        let c = Container::new(&["sleep"]);
        let before = c.path("before");
        std::fs::create_dir(&before).unwrap();
        nix::mount::mount(Some("t"), &before, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        // The kernel reports the end of a file system to those who watch it: when its last mount is gone.
        let watch = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        watch.add_watch(&before, AddWatchFlags::IN_ATTRIB).unwrap();
        let ended = || {
            let events = watch.read_events().unwrap_or_default();
            events.iter().any(|event| event.mask.contains(AddWatchFlags::IN_UNMOUNT))
        };
        c.create_with(options).ok();
        nix::mount::umount(&before).unwrap();
        if lives {
            assert!(!ended(), "the old root is below the new one");
            c.oci(&["exec", &c.id, "/bin/inspect", "ls", "/"]).ok().has("/: bin dev proc sys");
            c.oci(&["delete", "--force", &c.id]).ok();
        }
        wait_until("the end of the file system", ended);
    }
}

#[test]
fn the_callers_keyring_is_the_callers() {
    #[allow(unsafe_code)]
    // SAFETY: plain numbers go in.
    let own = unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0) };
    let own = format!("keyring {own}");
    let c = Container::new(&["keyring"]);
    c.write_config();
    c.oci(&["run", "--no-new-keyring", &c.id]).ok().has(&own);
    let said = c.oci(&["run", &c.id]).ok();
    assert!(said.out.starts_with("keyring ") && said.out.trim() != own, "{said:?}");
    assert!(!said.out.contains('-'), "it has one: {said:?}");
}

#[test]
fn a_container_that_is_kept_is_there_until_it_is_deleted() {
    let c = Container::new(&["exit", "6"]);
    c.write_config();
    assert_eq!(c.oci(&["run", "--keep", &c.id]).status, 6);
    assert_eq!(c.state()["status"], "stopped");
    c.oci(&["delete", &c.id]).ok();
    assert_eq!(c.oci(&["run", &c.id]).status, 6);
    c.oci(&["state", &c.id]).refused("does not exist");
}

#[test]
fn debug_messages_are_for_who_asks_for_them() {
    let c = Container::new(&["pid"]);
    c.write_config();
    let log = || std::fs::read_to_string(c.path("log")).unwrap_or_default();
    c.oci(&["--log", "log", "run", &c.id]).ok();
    assert_eq!(log(), "");
    c.oci(&["--debug", "--log", "log", "run", &c.id]).ok();
    assert!(log().contains("level=debug") && log().contains(&c.id), "{}", log());
    let said = c.oci(&["--debug", "run", &c.id]).ok();
    assert!(said.err.contains("level=debug msg="), "{said:?}");
}
