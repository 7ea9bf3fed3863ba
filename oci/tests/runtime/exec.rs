//! `exec`.

use std::fs::File;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::support::{Container, Said, spawn, wait_until};

fn running() -> Container {
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    c
}

#[test]
fn a_second_process_sees_what_the_first_sees() {
    let c = running();
    let said = c.oci(&[
        "exec",
        "--env",
        "A=1",
        &c.id,
        "/bin/inspect",
        "fds",
        "cwd",
        "env",
        "status",
        "CapInh,CapEff,NoNewPrivs",
        "cat",
        "/proc/sys/kernel/hostname",
        "ls",
        "/sys/class/net",
        "cat",
        "/proc/1/comm",
        "exit",
        "9",
    ]);
    assert_eq!(said.status, 9, "{said:?}");
    said.has("fds [0, 1, 2]")
        .has("cwd /")
        .has("env A=1")
        .has("CapInh: 0000000000000000")
        .has("CapEff: 0000000020000420");
    said.has("NoNewPrivs: 1")
        .has("/proc/sys/kernel/hostname: orlop")
        .has("/sys/class/net: lo")
        .has("/proc/1/comm: inspect");
    let cgroup = std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap();
    assert_eq!(cgroup.lines().count(), 1);
}

#[test]
fn users_are_exact_ids_or_errors() {
    let c = running();
    let said = c
        .oci(&["exec", "--user", "1:2", "-g", "7", &c.id, "/bin/inspect", "status", "Uid,Gid,Groups,CapEff,CapPrm"])
        .ok();
    said.has("Uid: 1 1 1 1").has("Gid: 2 2 2 2").has("Groups: 7").has("CapEff: 0000000000000000");
    c.oci(&["exec", "--user", "1", &c.id, "/bin/inspect", "status", "Uid,Gid"])
        .ok()
        .has("Uid: 1 1 1 1")
        .has("Gid: 0 0 0 0");
    c.oci(&["exec", "--cwd", "tmp", &c.id, "/bin/inspect", "pid"]).refused("is not an absolute path");
    c.oci(&["exec", "--cwd", "/dev", &c.id, "/bin/inspect", "cwd"]).ok().has("cwd /dev");
    for bad in ["1:", ":2", "abc", "-1", "4294967296", " 1", "0x1", "1.5"] {
        c.oci(&["exec", &format!("--user={bad}"), &c.id, "/bin/inspect", "pid"])
            .refused("is not of the form UID or UID:GID");
    }
}

#[test]
fn a_process_from_a_file_detached() {
    let c = running();
    let process = json!({"cwd": "/dev", "args": ["/bin/inspect", "cwd", "sleep"], "user": {"uid": 0, "gid": 0}});
    std::fs::write(c.path("process.json"), process.to_string()).unwrap();
    let out = File::create(c.path("exec.out")).unwrap();
    let mut exec = c.command(&["exec", "--process", "process.json", "--pid-file", "exec.pid", "-d", &c.id]);
    assert!(spawn(exec.stdout(out)).wait().unwrap().success());
    let pid = std::fs::read_to_string(c.path("exec.pid")).unwrap();
    assert!(c.oci(&["ps", "--format", "json", &c.id]).ok().out.contains(&pid));
}

#[test]
fn a_process_from_a_file_is_confined_as_the_containers_own() {
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}]);
    let c = Container::new(&["say", "up", "sleep"]).set("/process/rlimits", limits);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    for (own, said) in
        [(json!([]), "limit 7 77 88"), (json!([{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}]), "limit 7 5 6")]
    {
        let process = json!({"cwd": "/", "args": ["/bin/inspect", "limit", "7"], "rlimits": own,
            "user": {"uid": 0, "gid": 0}});
        std::fs::write(c.path("process.json"), process.to_string()).unwrap();
        c.oci(&["exec", "--process", "process.json", &c.id]).ok().has(said);
    }
}

#[test]
fn a_container_that_made_cgroups_of_its_own_can_still_be_entered() {
    let c = running();
    // As systemd in a container does it: processes into a leaf, then controllers for the leaves.
    std::fs::create_dir(c.cgroup("leaf")).unwrap();
    std::fs::write(c.cgroup("leaf/cgroup.procs"), c.pid().to_string()).unwrap();
    let controllers = std::fs::read_to_string(c.cgroup("cgroup.controllers")).unwrap();
    for controller in controllers.split_ascii_whitespace() {
        std::fs::write(c.cgroup("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    }
    c.oci(&["exec", &c.id, "/bin/inspect", "say", "inside"]).ok().has("inside");
}

#[test]
fn a_cgroup_below_the_containers_is_entered() {
    let c = running();
    std::fs::create_dir(c.cgroup("below")).unwrap();
    let mut exec = c.command(&["exec", "--detach", "--cgroup", "below", &c.id, "/bin/inspect", "sleep"]);
    assert!(spawn(exec.stdout(Stdio::null()).stderr(Stdio::null())).wait().unwrap().success());
    let there = |file: &str| std::fs::read_to_string(c.cgroup(file)).unwrap().lines().count();
    assert_eq!((there("below/cgroup.procs"), there("cgroup.procs")), (1, 1));
}

#[test]
fn what_cannot_run_is_said() {
    let c = running();
    c.oci(&["exec", &c.id, "nothing"])
        .refused("executable file not found in $PATH: nothing: no such file or directory");
    c.oci(&["exec", &c.id, "/nothing"]).refused("exec /nothing: no such file or directory");
    c.oci(&["exec", &c.id, "/proc/1/comm"]).refused("exec /proc/1/comm: permission denied");
    c.oci(&["exec", "--cgroup", "../x", &c.id, "/bin/inspect"]).refused("bad sub cgroup path: ../x");
}

#[test]
fn what_is_named_twice_has_its_last_value() {
    let c = Container::new(&["say", "up", "sleep"]).set("/process/env", json!(["A=1", "B=1", "A=2", "HOME="]));
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let said = c.oci(&["exec", "--env", "B=2", "--env", "C=", &c.id, "/bin/inspect", "env"]).ok();
    let env: Vec<&str> = said.out.lines().filter(|line| line.starts_with("env ")).collect();
    assert_eq!(env, ["env A=2", "env B=2", "env C=", "env HOME=/"]);
}

#[test]
fn a_capability_more_is_ambient_where_the_container_has_inheritable_ones() {
    let sets = json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"], "inheritable": ["CAP_CHOWN"]});
    let c = Container::new(&["say", "up", "sleep"]).set("/process/capabilities", sets);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let said = c.oci(&["exec", "--cap", "CAP_CHOWN", &c.id, "/bin/inspect", "status", "CapPrm,CapAmb"]).ok();
    said.has("CapPrm: 0000000000000021").has("CapAmb: 0000000000000001");
}

#[test]
fn who_asks_for_it_waits_in_a_paused_container() {
    let c = running();
    c.oci(&["pause", &c.id]).ok();
    let mut exec = c.command(&["exec", "--ignore-paused", &c.id, "/bin/inspect", "say", "inside"]);
    let exec = spawn(exec.stdout(Stdio::piped()).stderr(Stdio::piped()));
    wait_until("the process", || std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().lines().count() == 2);
    // It does not keep the one from coming who ends its wait.
    c.oci(&["resume", &c.id]).ok();
    Said::from(&exec.wait_with_output().unwrap()).ok().has("inside");
}

#[test]
fn a_signal_that_comes_before_the_program_is_there_is_not_lost() {
    let c = running();
    c.oci(&["pause", &c.id]).ok();
    let mut exec = c.command(&["exec", "--ignore-paused", &c.id, "/bin/inspect", "sleep"]);
    let exec = spawn(exec.stdout(Stdio::piped()).stderr(Stdio::piped()));
    wait_until("the process", || std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().lines().count() == 2);
    kill(Pid::from_raw(exec.id().try_into().unwrap()), Signal::SIGUSR1).unwrap();
    c.oci(&["resume", &c.id]).ok();
    assert_eq!(Said::from(&exec.wait_with_output().unwrap()).status, 128 + libc::SIGUSR1);
}

/// The container may stop the process as soon as it sees it.
#[test]
fn a_process_that_does_not_get_on_holds_nobody_up() {
    let mut c = Container::new(&["say", "up", "sleep"]);
    // Below a cgroup that can be frozen without the container being paused.
    let above = c.cgroup("").with_extension("above");
    c.config["linux"]["cgroupsPath"] = json!(format!("/orlop-oci-tests/{}.above/{}", c.id, c.id));
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let procs = above.join(&c.id).join("cgroup.procs");
    for signal in [Some(Signal::SIGTERM), None] {
        std::fs::write(above.join("cgroup.freeze"), "1").unwrap();
        let mut exec = c.command(&["exec", &c.id, "/bin/inspect", "say", "inside"]);
        let exec = spawn(exec.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let first = c.pid().to_string();
        let second = || {
            let all = std::fs::read_to_string(&procs).unwrap();
            all.lines().find(|pid| **pid != first).map(|pid| Pid::from_raw(pid.parse().unwrap()))
        };
        wait_until("the process", || second().is_some());
        kill(second().unwrap(), Signal::SIGSTOP).unwrap();
        std::fs::write(above.join("cgroup.freeze"), "0").unwrap();
        c.oci(&["pause", &c.id]).ok();
        c.oci(&["resume", &c.id]).ok();
        match signal {
            Some(signal) => kill(Pid::from_raw(exec.id().try_into().unwrap()), signal).unwrap(),
            None => drop(c.oci(&["delete", "--force", &c.id]).ok()),
        }
        let said = Said::from(&exec.wait_with_output().unwrap());
        assert_eq!(said.status, 255, "{said:?}");
    }
    std::fs::remove_dir(above).unwrap();
}

#[test]
fn processes_in_threaded_cgroups_are_listed_and_told() {
    let c = running();
    std::fs::create_dir(c.cgroup("threads")).unwrap();
    std::fs::write(c.cgroup("threads/cgroup.type"), "threaded").unwrap();
    std::fs::write(c.cgroup("threads/cgroup.threads"), c.pid().to_string()).unwrap();
    assert_eq!(c.oci(&["ps", "--format", "json", &c.id]).ok().out, format!("[{}]\n", c.pid()));
    c.oci(&["kill", "--all", &c.id, "URG"]).ok();
}

/// It has the machine's rights and the runtime's memory: the container must not see it.
#[test]
fn who_makes_the_new_process_ready_is_outside_the_pid_namespace() {
    let c = running();
    c.oci(&["pause", &c.id]).ok();
    let mut exec = c.command(&["exec", "--ignore-paused", &c.id, "/bin/inspect", "say", "inside"]);
    let exec = spawn(exec.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let first = c.pid().to_string();
    let second = || {
        let all = std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap();
        all.lines().find(|pid| *pid != first).map(str::to_owned)
    };
    wait_until("the process", || second().is_some());
    let namespaces = |pid: &str| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
        line.split_whitespace().count() - 1
    };
    assert_eq!((namespaces(&second().unwrap()), namespaces(&first)), (1, 2));
    c.oci(&["resume", &c.id]).ok();
    Said::from(&exec.wait_with_output().unwrap()).ok().has("inside");
}

#[test]
fn no_new_privileges_are_for_this_process_alone() {
    let c = Container::new(&["say", "up", "sleep"]).set("/process/noNewPrivileges", json!(false));
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let status = ["/bin/inspect", "status", "NoNewPrivs"];
    c.oci(&[&["exec", "--no-new-privs", &c.id], &status[..]].concat()).ok().has("NoNewPrivs: 1");
    c.oci(&[&["exec", &c.id], &status[..]].concat()).ok().has("NoNewPrivs: 0");
}

#[test]
fn as_many_descriptors_as_are_asked_for_are_passed_on() {
    let c = running();
    let fds =
        |more: &str| c.behind("exec 3</dev/null 4</dev/null 5</", &format!("exec {more} {} /bin/inspect fds", c.id));
    fds("").ok().has("fds [0, 1, 2]");
    fds("--preserve-fds 2").ok().has("fds [0, 1, 2, 3, 4]");
}
