//! From create to delete.

use serde_json::json;

use crate::support::{Container, Said, spawn, wait_until};

#[test]
fn run_gives_the_programs_exit_status() {
    Container::new(&["say", "hello"]).run().ok().has("hello");
    let said = Container::new(&["exit", "7"]).run();
    assert_eq!((said.status, said.err.as_str()), (7, ""));
}

#[test]
fn the_states_of_a_life() {
    let c = Container::new(&["say", "up", "sleep"]).set("/annotations", json!({"k": "v"}));
    let id = c.id.as_str();
    // Who may write there, too, has no say in where the number goes.
    std::fs::write(c.path("canary"), "canary").unwrap();
    std::os::unix::fs::symlink(c.path("canary"), c.path(".pid.orlop-new")).unwrap();
    c.create_with(&["--pid-file", "pid"]).ok();
    assert_eq!(std::fs::read_to_string(c.path("canary")).unwrap(), "canary");
    assert!(c.path("pid").symlink_metadata().unwrap().is_file());
    let state = c.state();
    assert_eq!(
        (&state["status"], &state["id"], &state["annotations"]["k"]),
        (&json!("created"), &json!(id), &json!("v"))
    );
    assert_eq!(state["bundle"], c.path("").to_str().unwrap().trim_end_matches('/'));
    assert_eq!(std::fs::read_to_string(c.path("pid")).unwrap(), c.pid().to_string());
    assert_eq!(c.output(), "", "the program runs only after start");
    c.oci(&["create", id]).refused("already exists");
    c.start().ok();
    c.wait_for_output("up");
    assert_eq!(c.state()["status"], "running");
    c.start().refused("it is running");
    c.oci(&["delete", id]).refused("it is running");
    let list = c.oci(&["list"]).ok().out;
    assert!(list.contains("running") && list.trim_end().ends_with("  root"), "{list}");
    assert_eq!(c.oci(&["list", "-q"]).ok().out.trim(), id);
    let list: serde_json::Value = serde_json::from_str(&c.oci(&["list", "--format", "json"]).ok().out).unwrap();
    assert_eq!((&list[0]["id"], &list[0]["status"], &list[1]), (&json!(id), &json!("running"), &json!(null)));
    assert_eq!(c.oci(&["ps", "--format", "json", id]).ok().out.trim(), format!("[{}]", c.pid()));
    c.oci(&["kill", id, "KILL"]).ok();
    c.wait_for_status("stopped");
    assert_eq!(c.state()["pid"], 0);
    c.oci(&["kill", id, "TERM"]).refused("container not running");
    c.oci(&["kill", "--all", id, "KILL"]).ok();
    c.start().refused("it is stopped");
    c.oci(&["delete", id]).ok();
    c.assert_gone();
    c.oci(&["state", id]).refused("does not exist");
}

#[test]
fn a_closed_standard_stream_is_not_the_next_file_that_is_opened() {
    let c = Container::new(&["sleep"]);
    c.write_config();
    c.behind("exec <&- >/dev/null 2>&1", &format!("create {}", c.id)).ok();
    let stdin = std::fs::read_link(format!("/proc/{}/fd/0", c.pid())).unwrap();
    assert_eq!(stdin.to_str(), Some("/dev/null"));
}

#[test]
fn an_unknown_id_is_said_to_be_one() {
    let c = Container::new(&[]);
    for args in [
        &["state", "nobody"] as &[_],
        &["start", "nobody"],
        &["kill", "nobody", "KILL"],
        &["delete", "nobody"],
        &["ps", "nobody"],
        &["pause", "nobody"],
        &["exec", "nobody", "ls"],
    ] {
        c.oci(args).refused("container \"nobody\" does not exist");
    }
    c.oci(&["delete", "--force", "nobody"]).ok();
}

#[test]
fn the_container_outlives_create_with_another_parent() {
    let c = Container::new(&["sleep"]);
    c.create().ok();
    let status = std::fs::read_to_string(format!("/proc/{}/status", c.pid())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    let name = std::fs::read_to_string(format!("/proc/{parent}/comm")).unwrap();
    assert_ne!(name.trim(), "orlop-oci");
}

#[test]
fn a_created_container_can_be_killed_and_deleted() {
    let c = Container::new(&["sleep"]);
    c.create().ok();
    c.oci(&["kill", &c.id, "KILL"]).ok();
    c.wait_for_status("stopped");
    c.oci(&["delete", &c.id]).ok();
    c.create().ok();
    c.oci(&["delete", &c.id]).ok();
    c.assert_gone();
}

#[test]
fn kill_all_tells_everybody_and_leaves_who_is_paused_paused() {
    // SIGCHLD ignored: nobody waits for those who are gone.
    let verbs = [&["ignore", "17"][..], &["flee"; 60], &["say", "up", "sleep"]].concat();
    let c = Container::new(&verbs);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    c.oci(&["kill", "--all", &c.id, "USR1"]).ok();
    // The first process of a pid namespace gets no signal that it has not asked for.
    wait_until("the end of the others", || {
        std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().lines().count() == 1
    });
    // Who is paused stays so.
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    c.oci(&["pause", &c.id]).ok();
    c.oci(&["kill", "--all", &c.id, "USR1"]).ok();
    assert_eq!(c.state()["status"], "paused");
    c.oci(&["resume", &c.id]).ok();
}

#[test]
fn several_are_deleted_at_once_and_one_that_is_not_there_keeps_no_other() {
    let c = Container::new(&["pid"]);
    c.create().ok();
    let said = c.oci(&["delete", "absent", &c.id, "missing"]);
    assert_eq!(said.status, 1, "{said:?}");
    let lines: Vec<&str> = said.err.lines().collect();
    let absent = |id: &str| format!("orlop-oci: container {id:?} does not exist");
    assert_eq!(lines, [absent("missing"), absent("absent")]);
    c.assert_gone();
}

#[test]
fn kill_all_reaches_every_process_and_delete_ends_what_is_left() {
    // In the host's pid namespace the children survive the first process.
    let mut c = Container::new(&["child", "child", "say", "up", "ignore", "15", "sleep"]);
    let namespaces = c.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "pid");
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let procs = || std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().lines().count();
    assert_eq!(procs(), 3);
    c.oci(&["kill", &c.id, "TERM"]).ok();
    c.oci(&["kill", "--all", &c.id, "TERM"]).ok();
    wait_until("the end of the children", || procs() == 1);
    c.oci(&["kill", &c.id, "KILL"]).ok();
    c.wait_for_status("stopped");
}

#[test]
fn who_is_killed_in_the_pid_namespace_of_another_leaves_nobody_there() {
    let host = Container::new(&["say", "up", "sleep"]);
    host.create().ok();
    let mut c = Container::new(&["child", "child", "say", "up", "sleep"]);
    let namespaces = c.config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|one| one["type"] != "pid");
    namespaces.push(json!({"type": "pid", "path": format!("/proc/{}/ns/pid", host.pid())}));
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let procs = || std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().lines().count();
    assert_eq!(procs(), 3);
    c.oci(&["kill", &c.id, "KILL"]).ok();
    c.wait_for_status("stopped");
    wait_until("the end of the children", || procs() == 0);
    assert_eq!(host.state()["status"], "created");
}

#[test]
fn pause_and_resume() {
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.oci(&["resume", &c.id]).refused("it is running");
    c.oci(&["pause", &c.id]).ok();
    assert_eq!(c.state()["status"], "paused");
    c.oci(&["exec", &c.id, "/bin/inspect", "pid"]).refused("cannot exec in a paused container");
    c.oci(&["delete", &c.id]).refused("it is paused");
    c.oci(&["resume", &c.id]).ok();
    assert_eq!(c.state()["status"], "running");
}

#[test]
fn who_is_paused_before_the_start_is_resumed_first() {
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.oci(&["pause", &c.id]).ok();
    assert_eq!(c.state()["status"], "paused");
    c.start().refused("it is paused");
    c.oci(&["exec", &c.id, "/bin/inspect"]).refused("cannot exec in a paused container");
    c.oci(&["resume", &c.id]).ok();
    assert_eq!(c.state()["status"], "created");
    c.start().ok();
    c.wait_for_output("up");
}

#[test]
fn foreground_passes_signals_on() {
    let c = Container::new(&["say", "up", "sleep"]);
    c.write_config();
    let mut run = spawn(&mut c.command(&["run", &c.id]));
    wait_until("the container", || c.oci(&["state", &c.id]).out.contains("running"));
    // The first process of a pid namespace ignores what it has no handler for, so this one is not fatal; KILL is.
    c.oci(&["kill", &c.id, "KILL"]).ok();
    assert_eq!(run.wait().unwrap().code(), Some(128 + 9));
    c.assert_gone();
}

#[test]
fn hooks_run_in_order_with_the_state_on_stdin() {
    let c = Container::new(&["say", "up", "sleep"]);
    let log = c.path("hooks.log");
    let hook = |name: &str| {
        let line = format!("echo {name} $X $(sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') >> {}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["X=1", "PATH=/usr/bin:/bin"]}])
    };
    let c = c.set(
        "/hooks",
        json!({"createRuntime": hook("createRuntime"), "createContainer": hook("createContainer"), "poststart": hook("poststart"), "poststop": hook("poststop")}),
    );
    c.create().ok();
    c.start().ok();
    c.oci(&["delete", "--force", &c.id]).ok();
    let log = std::fs::read_to_string(log).unwrap();
    let want = "createRuntime 1 creating\ncreateContainer 1 creating\npoststart 1 running\npoststop 1 stopped\n";
    assert_eq!(log, want);
}

#[test]
fn a_hook_that_does_not_run_says_why() {
    for point in ["createRuntime", "createContainer", "poststart"] {
        for (path, words) in [
            ("/absent", "it exited with 127 (is it missing?): exec: no such file or directory"),
            ("/etc", "it exited with 126: exec: permission denied"),
        ] {
            let c = Container::new(&["sleep"]).set("/hooks", json!({point: [{"path": path}]}));
            c.run().refused(&format!("error running {point} hook #0: {path}: {words}"));
            c.assert_gone();
        }
    }
}

#[test]
fn start_container_hooks_run_inside() {
    let hook = json!([{"path": "/bin/inspect", "args": ["inspect", "create", "/dev/shm/hooked"]}]);
    let c = Container::new(&["open", "/dev/shm/hooked"]).set("/hooks", json!({"startContainer": hook}));
    c.run().ok().has("open /dev/shm/hooked: ok");
}

#[test]
fn a_caller_that_ignores_its_children_learns_of_their_ends_all_the_same() {
    assert_eq!(Container::new(&["exit", "9"]).run_behind("trap '' CHLD", "").status, 9);
}

#[test]
fn hooks_in_a_user_namespace_are_its_root() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let asked = ["inspect", "status", "Uid,CapEff", "exit", "3"];
    let mut c = Container::new(&[])
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    std::os::unix::fs::chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
    let program = c.rootfs("bin/inspect");
    c.config["hooks"] = json!({"createContainer": [{"path": program, "args": asked}]});
    c.run().refused("it exited with 3: Uid: 0 0 0 0\\nCapEff: 000001ffffffffff");
}

#[test]
fn a_hook_out_of_the_image_has_no_more_rights_than_the_container() {
    let asked = ["inspect", "status", "CapBnd,CapEff,NoNewPrivs,Seccomp,Uid", "cat", "/dev/fd/0", "exit", "3"];
    let filter =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kexec_load"], "action": "SCMP_ACT_ERRNO"}]});
    let c = Container::new(&[])
        .set("/hooks", json!({"startContainer": [{"path": "/bin/inspect", "args": asked}]}))
        .set("/linux/seccomp", filter)
        .set("/process/user/uid", json!(7));
    let said = c.run().refused("error running startContainer hook #0: /bin/inspect: it exited with 3: ");
    for line in ["CapBnd: 0000000020000420", "CapEff: 0000000000000000", "NoNewPrivs: 1", "Seccomp: 2", "Uid: 7 7 7 7"]
    {
        assert!(said.err.contains(&format!("{line}\\n")), "{line}: {said:?}");
    }
    assert!(said.err.contains("\"status\":\"created\""), "its state: {said:?}");
    let missing = json!({"startContainer": [{"path": "/bin/nobody"}]});
    let c = Container::new(&[]).set("/hooks", missing);
    c.run().refused("error running startContainer hook #0: /bin/nobody");
    c.assert_gone();
}

#[test]
fn the_standard_streams_are_the_containers_not_the_hooks() {
    let c = Container::new(&["say", "up"]);
    let hooks = |script: &str| json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]});
    // More than a pipe holds.
    let c = c.set("/hooks", hooks("i=0; while [ $i -lt 9999 ]; do echo said $i; echo why $i >&2; i=$((i + 1)); done"));
    let said = c.run().ok();
    assert_eq!((said.out.as_str(), said.err.as_str()), ("up\n", ""));
    let c = c.set("/hooks", hooks("echo why >&2; echo where; exit 5"));
    let said = c.run().refused("hook #0: /bin/sh: it exited with 5: why\\nwhere\n");
    assert_eq!(said.out, "");
}

/// The state is more than a pipe holds, so the runtime is in the midst of it when the hook ends. What it earns by that is not the program's.
#[test]
fn a_hook_that_does_not_read_its_state_harms_nobody() {
    let hook = json!([{"path": "/bin/true"}]);
    let mut c = Container::new(&[])
        .set("/process/args", json!(["/bin/sh", "-c", "echo up; exec sleep 1000"]))
        .set("/annotations", json!({"long": "x".repeat(1 << 18)}))
        .set("/hooks", json!({"createRuntime": hook, "poststop": hook}));
    // A program of Rust's would ignore it, and the first one of a pid namespace not hear it.
    for folder in ["/bin", "/lib", "/lib64", "/usr"] {
        if std::path::Path::new(folder).exists() {
            c = c.bind(std::path::Path::new(folder), folder, &["rbind", "ro"]);
        }
    }
    c.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    c.write_config();
    let mut run = c.command(&["run", &c.id]);
    let mut run = spawn(run.stdout(std::fs::File::create(c.path("out")).unwrap()));
    wait_until("the program or its end", || c.output().contains("up") || run.try_wait().unwrap().is_some());
    let pid = nix::unistd::Pid::from_raw(run.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(128 + libc::SIGTERM));
}

#[test]
fn a_hook_may_call_the_runtime_about_its_container() {
    let c = Container::new(&["say", "up", "sleep"]);
    let line = |words: &str| {
        let runtime = format!("{} --root {}", c.runtime.display(), c.path("state").display());
        let script = format!("ask() {{ {runtime} $1 {} $2; }}; {words}", c.id);
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 20}])
    };
    let status = c.path("status");
    let create = line(&format!("ask state > {}", status.display()));
    let all = json!({"createRuntime": create, "poststart": line("ask pause && ask resume && ask kill USR1")});
    // What is to run in its namespaces finds none.
    let kill = json!({"createRuntime": line("ask kill KILL"), "createContainer": line(":")});
    let c = c.set("/hooks", all);
    c.create().ok();
    let state: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(status).unwrap()).unwrap();
    assert_eq!((&state["status"], &state["pid"]), (&json!("creating"), &json!(c.pid())));
    c.start().ok();
    c.oci(&["delete", "--force", &c.id]).ok();
    // Whose process is killed by a hook is not created.
    let c = c.set("/hooks", kill);
    c.create().refused("was killed (is its memory limit too low?) before it was ready");
    c.assert_gone();
}

#[test]
fn no_poststart_hook_runs_behind_those_of_poststop() {
    for verb in [&["run", "--detach"][..], &["run"], &["start"]] {
        let c = Container::new(&["sleep"]);
        let (runtime, state, log) = (c.runtime.display(), c.path("state"), c.path("hooks.log"));
        let hook = |line: &str| json!({"path": "/bin/sh", "args": ["sh", "-c", line], "timeout": 20});
        let says = |word: &str| hook(&format!("echo {word} >> {}", log.display()));
        let delete = hook(&format!("{runtime} --root {} delete --force {}", state.display(), c.id));
        let poststart = json!([says("one"), delete, says("three")]);
        let c = c.set("/hooks", json!({"poststart": poststart, "poststop": [says("poststop")]}));
        c.write_config();
        if verb == ["start"] {
            c.create().ok();
        }
        let null = std::process::Stdio::null;
        let mut command = c.command(verb);
        let run = spawn(command.arg(&c.id).stdout(null()).stderr(std::fs::File::create(c.path("said")).unwrap()));
        let mut said = Said::from(&run.wait_with_output().unwrap());
        said.err = std::fs::read_to_string(c.path("said")).unwrap();
        said.refused("error running poststart hook #2: /bin/sh: not run, as the container was deleted meanwhile");
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "one\npoststop\n");
        c.assert_gone();
    }
}

#[test]
fn a_hook_that_would_wait_for_itself_is_told_so() {
    let mut c = Container::new(&["sleep"]);
    let runtime = format!("{} --root {}", c.runtime.display(), c.path("state").display());
    let (id, said) = (c.id.clone(), c.path("said"));
    let words =
        ["exec ID true", "pause ID", "update --pids-limit 9 ID", "start ID", "delete --force ID", "kill --all ID TERM"];
    for point in ["createRuntime", "createContainer"] {
        let script: String =
            words.map(|one| format!("{runtime} {} >>{} 2>&1\n", one.replace("ID", &id), said.display())).concat();
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script + "true"], "timeout": 20}]);
        c.config["hooks"] = json!({point: hook});
        c.create().ok();
        let text = std::fs::read_to_string(&said).unwrap();
        assert_eq!(text.lines().filter(|line| line.ends_with("it is creating")).count(), words.len(), "{text}");
        c.oci(&["delete", "--force", &id]).ok();
        std::fs::remove_file(&said).unwrap();
    }
}

#[test]
fn a_hook_that_does_not_read_its_state_has_no_more_time() {
    // More than a pipe holds.
    let long = json!({"long": "x".repeat(100_000)});
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "while :; do :; done"], "timeout": 1}]);
    let c = Container::new(&[]).set("/annotations", long).set("/hooks", json!({"createRuntime": hook}));
    c.run().refused("it did not end within 1 s");
    c.assert_gone();
    // And who reads slowly reads all of it.
    let count = json!([{"path": "/bin/sh", "args": ["sh", "-c", "test $(cat | tr -dc x | wc -c) -ge 100000"]}]);
    c.set("/hooks", json!({"createRuntime": count})).run().ok();
}

#[test]
fn a_failing_hook_undoes_the_container() {
    let c = Container::new(&["sleep"]);
    let hook = |script: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1}]);
    for (point, script, words) in [
        ("createRuntime", "exit 3", "it exited with 3"),
        ("createContainer", "kill -9 $$", "it was killed by signal 9 (killed)"),
        ("createRuntime", "while :; do :; done", "it did not end within 1 s"),
        ("prestart", "exit 1", "error running prestart hook #0: /bin/sh: "),
    ] {
        let mut config = c.config.clone();
        config["hooks"] = json!({point: hook(script)});
        std::fs::write(c.path("config.json"), config.to_string()).unwrap();
        c.oci(&["create", &c.id]).refused(words);
        c.assert_gone();
    }
}

#[test]
fn who_has_ended_takes_no_heir_of_its_cgroup_along() {
    // The same cgroupsPath, empty by now; or one below it.
    for below in ["", "/below"] {
        let mut c = Container::new(&["say", "bye"]);
        c.create().ok();
        c.start().ok();
        c.wait_for_status("stopped");
        let path = format!("{}{below}", c.config["linux"]["cgroupsPath"].as_str().unwrap());
        let first = std::mem::replace(&mut c.id, "heir".to_owned());
        let c = c.with_args(&["sleep"]).set("/linux/cgroupsPath", json!(path));
        c.create().ok();
        c.start().ok();
        c.wait_for_status("running");
        c.oci(&["kill", "--all", &first, "KILL"]).ok();
        let said = c.oci(&["delete", &first]).ok();
        assert!(said.err.contains("container heir is in it now"), "{said:?}");
        assert_eq!(c.state()["status"], "running");
        c.oci(&["delete", "--force", &c.id]).ok();
        c.assert_gone();
    }
}
