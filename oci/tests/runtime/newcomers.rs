//! What a container that may trace sees of those who enter its pid namespace (CVE-2016-9962).

use std::process::Stdio;

use serde_json::{Value, json};

use crate::inject::{Fate, Who, reap, traced};
use crate::support::{Container, Said, output, spawn};

/// CAP_SYS_PTRACE alone.
const TRACE: u64 = 1 << 19;

/// None, and one that lets our own last steps pass, though not what other processes need (older profiles know no faccessat2).
fn profiles() -> [Option<Value>; 2] {
    let kill =
        json!([{"names": ["getppid", "faccessat2", "prlimit64", "ioctl"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]);
    [None, Some(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": kill}))]
}

fn tracer(seccomp: Option<&Value>, no_new_privileges: bool) -> Container {
    let mut c = Container::new(&["trace"])
        .capabilities(&["CAP_SYS_PTRACE"])
        .set("/process/noNewPrivileges", json!(no_new_privileges));
    if let Some(seccomp) = seccomp {
        c = c.set("/linux/seccomp", seccomp.clone());
    }
    c.create().ok();
    c.start().ok();
    c.wait_for_output("trace");
    c
}

/// It has caught some, and none of them had more than the container's own: nor the caller's environment, which is in the runtime's memory
/// for as long as they are there, so that none shares that memory.
#[track_caller]
fn judge(c: &Container, what: &str, own: u64) {
    let said = c.output();
    for line in said.lines() {
        let held = match line.split_once(' ') {
            Some(("capabilities", bits)) => u64::from_str_radix(bits, 16).unwrap() & !own == 0,
            Some(("descriptor", of)) => of == "socket:",
            Some(("root:", whose)) => whose == "a container's",
            _ => line != "the caller's environment",
        };
        assert!(held, "{what}: {line}: in\n{said}");
    }
    assert!(said.contains("root: a container's"), "{what}: nobody was caught:\n{said}");
}

#[test]
fn who_enters_by_exec_shows_nothing_of_the_host() {
    for (seccomp, bound) in profiles().iter().flat_map(|one| [(one.as_ref(), true), (one.as_ref(), false)]) {
        let c = tracer(seccomp, bound);
        for round in 0..500 {
            let user = if round % 2 == 0 { "0" } else { "1000" };
            let mut exec = c.command(&["exec", "--user", user, &c.id, "/bin/inspect", "exit", "0"]);
            let said = Said::from(&output(exec.env("ORLOP_CANARY", "of the caller"))).ok();
            assert_eq!(said.err, "");
        }
        judge(&c, &format!("exec, no_new_privs {bound}, {seccomp:?}"), TRACE);
    }
}

/// The filter forbids what is left to be done, so the process itself has to load it as the last thing, which takes CAP_SYS_ADMIN: that
/// and no more may be seen.
#[test]
fn where_the_filter_leaves_no_other_way_there_is_one_right_more() {
    let forbids =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["setsid"], "action": "SCMP_ACT_ERRNO"}]});
    let c = tracer(Some(&forbids), false);
    for _ in 0..50 {
        let said = c.oci(&["exec", &c.id, "/bin/inspect", "exit", "0"]).ok();
        assert!(said.err.contains("others in its pid namespace may see it with CAP_SYS_ADMIN"), "{said:?}");
    }
    judge(&c, "setsid is forbidden", TRACE | 1 << 21);
}

#[test]
fn a_container_in_its_pid_namespace_shows_nothing_of_the_host() {
    for (seccomp, bound) in profiles().iter().flat_map(|one| [(one.as_ref(), true), (one.as_ref(), false)]) {
        let c = tracer(seccomp, bound);
        let mut beside = Container::new(&["exit", "0"])
            .capabilities(&["CAP_SYS_PTRACE"])
            .set("/process/noNewPrivileges", json!(bound));
        if let Some(seccomp) = seccomp {
            beside = beside.set("/linux/seccomp", seccomp.clone());
        }
        beside.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
        let pid = json!({"type": "pid", "path": format!("/proc/{}/ns/pid", c.pid())});
        let beside = beside.push("/linux/namespaces", pid);
        beside.write_config();
        let as_caller = |args: &[&str]| {
            let mut command = beside.command(args);
            command.env("ORLOP_CANARY", "of the caller").stdout(Stdio::null()).stderr(Stdio::null());
            assert!(spawn(&mut command).wait().unwrap().success());
        };
        for _ in 0..125 {
            as_caller(&["run", &beside.id]);
        }
        // One that waits for its start.
        as_caller(&["create", &beside.id]);
        beside.oci(&["delete", "--force", &beside.id]).ok();
        judge(&c, &format!("run, no_new_privs {bound}, {seccomp:?}"), TRACE);
    }
}

/// Who holds a newcomer has its channel to the runtime, too, and may say on it what he likes: no process of the host becomes a container's.
#[test]
fn nobody_makes_a_process_of_the_host_the_containers() {
    let mut canary = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let limits = || std::fs::read_to_string(format!("/proc/{}/limits", canary.id())).unwrap();
    let before = limits();
    let c = Container::new(&["pretend", &canary.id().to_string()]).capabilities(&["CAP_SYS_PTRACE"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("trace");
    let mut beside =
        Container::new(&["exit", "0"]).set("/process/rlimits", json!([{"type": "RLIMIT_NPROC", "soft": 7, "hard": 7}]));
    beside.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    let beside = beside.push("/linux/namespaces", json!({"type": "pid", "path": format!("/proc/{}/ns/pid", c.pid())}));
    // On a busy machine it catches few.
    for round in 0..2000 {
        let _ = c.oci(&["exec", &c.id, "/bin/inspect", "exit", "0"]);
        let _ = beside.create();
        let _ = beside.oci(&["delete", "--force", &beside.id]);
        if round >= 100 && c.output().contains("pretended") {
            break;
        }
    }
    assert!(c.output().contains("pretended"), "{}", c.output());
    assert_eq!(limits(), before);
    assert_eq!(canary.try_wait().unwrap(), None, "it was killed");
    canary.kill().unwrap();
    canary.wait().unwrap();
}

/// Who traces a newcomer, and does not even take it away when it is killed, holds nobody but it.
#[test]
fn who_holds_a_newcomer_does_not_hold_the_runtime() {
    let c = Container::new(&["hold"]).capabilities(&["CAP_SYS_PTRACE"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("trace");
    let mut beside = Container::new(&["sleep"]);
    beside.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    let beside = beside.push("/linux/namespaces", json!({"type": "pid", "path": format!("/proc/{}/ns/pid", c.pid())}));
    let failed = (0..500).find_map(|_| {
        // Who is held when it waits for its start already was created.
        let said = Some(beside.create()).filter(|said| said.status != 0);
        if said.is_none() {
            beside.oci(&["delete", "--force", &beside.id]).ok();
        }
        beside.assert_gone();
        said
    });
    failed.expect("one that is held before that").refused("is held by somebody in its pid namespace");
}

/// Who makes a process ready does not take the place of that process: where its limit refuses another one (EAGAIN, which is said here in
/// its controller's place, as not every machine has that), it leaves the cgroup, and the other one is put there.
#[test]
fn one_free_place_is_enough() {
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let mut beside = Container::new(&["say", "up", "cat", "/proc/self/cgroup", "sleep"]);
    beside.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    let beside = beside.push("/linux/namespaces", json!({"type": "pid", "path": format!("/proc/{}/ns/pid", c.pid())}));
    beside.write_config();
    let refused = |c: &Container, args: &[&str]| {
        // It has its signals to reset first.
        for number in 65..400 {
            let traced = traced(c, c.command(args), Who::Child, number, Fate::Fails(libc::EAGAIN));
            reap();
            if traced.call.is_some_and(|call| call.number == libc::SYS_clone) {
                return traced.said.ok();
            }
            let _ = beside.oci(&["delete", "--force", &beside.id]);
        }
        panic!("nobody was cloned");
    };
    let said = refused(&c, &["exec", &c.id, "/bin/inspect", "cat", "/proc/self/cgroup"]);
    // The root of the cgroup namespace it has joined.
    said.has("0::/");
    refused(&beside, &["create", &beside.id]);
    let procs = std::fs::read_to_string(beside.cgroup("cgroup.procs")).unwrap();
    assert_eq!(procs.trim(), beside.pid().to_string());
    beside.start().ok();
}
