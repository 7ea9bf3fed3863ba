//! What goes wrong is said, and leaves nothing behind.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Container, Said, output, spawn, wait_until};

#[test]
fn every_failing_step_names_itself_and_is_undone() {
    let mount =
        |kind: &str, options: &[&str]| json!([{"destination": "/x", "type": kind, "source": "s", "options": options}]);
    let cases: Vec<(&str, Value, &str)> = vec![
        ("/mounts", mount("nofs", &[]), "mount nofs on /x: no such device"),
        (
            "/mounts",
            mount("tmpfs", &["nonsense=1"]),
            "mount tmpfs on /x (tmpfs: Unknown parameter 'nonsense'): invalid argument",
        ),
        ("/root/path", json!("absent"), "absent: no such file or directory"),
        ("/process/args", json!(["/absent"]), "exec /absent: no such file or directory"),
        ("/process/args", json!(["/etc"]), "exec /etc: "),
        ("/process/args", json!([]), "process.args: holds no program"),
        ("/process/args", json!([""]), "process.args[0]: is empty"),
        ("/process/cwd", json!("/bin/inspect"), "enter working directory /bin/inspect: not a directory"),
        ("/process/user", json!({"uid": 0, "gid": 4_294_967_295_u32}), "process.user.gid: is not a valid id"),
        ("/process/apparmorProfile", json!("x"), "process.apparmorProfile: is not supported"),
        ("/process/selinuxLabel", json!("x"), "process.selinuxLabel: is not supported"),
        ("/linux/mountLabel", json!("x"), "linux.mountLabel: is not supported"),
        ("/linux/intelRdt", json!({"closID": "x"}), "linux.intelRdt: is not supported"),
        ("/linux/namespaces", json!([{"type": "user"}]), "linux.namespaces: holds no mount namespace"),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "network", "path": "/absent"}]),
            "open namespace /absent: no such file",
        ),
        (
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "uts"}, {"type": "network", "path": "/proc/self/ns/uts"}]),
            "linux.namespaces[2].path: /proc/self/ns/uts is not a network namespace",
        ),
        ("/linux/namespaces", json!([{"type": "mount"}, {"type": "mount"}]), "the mount namespace is named twice"),
        ("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "needs a new user namespace"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/linux/sysctl", json!({"net.no.such": "1"}), "set /proc/sys/net/no/such: no such file or directory"),
        ("/linux/devices", json!([{"type": "x", "path": "/dev/x"}]), "linux.devices[0].type"),
        ("/linux/maskedPaths", json!(["relative"]), "linux.maskedPaths[0]"),
        ("/ociVersion", json!("0.9"), "ociVersion: "),
    ];
    for (pointer, value, words) in cases {
        let c = Container::new(&["pid"]).set(pointer, value);
        let said = c.create();
        assert!(said.status == 1 && said.err.contains(words), "{pointer}: wanted {words:?}: {said:?}");
        c.assert_gone();
    }
}

#[test]
fn a_program_that_is_none_fails_at_start_with_its_reason() {
    let c = Container::new(&[]).set("/process/args", json!(["/garbage"]));
    c.file("garbage", b"\x7fnot a program", 0o755);
    c.create().ok();
    c.start().refused("exec /garbage: exec format error");
    c.wait_for_status("stopped");
    c.run_after_delete();
}

impl Container {
    fn run_after_delete(&self) {
        self.oci(&["delete", &self.id]).ok();
        self.run().refused("exec /garbage: exec format error");
        self.assert_gone();
    }
}

#[test]
fn config_errors_have_a_place() {
    let c = Container::new(&[]);
    std::fs::write(c.path("config.json"), "{\"ociVersion\": \"1.0.0\",\n  \"root\": 5}").unwrap();
    c.oci(&["create", &c.id]).refused("config.json: root: line 2, column 11: expected an object");
    std::fs::remove_file(c.path("config.json")).unwrap();
    c.oci(&["create", &c.id]).refused("config.json: no such file or directory");
    c.oci(&["create", "--bundle", "/absent", &c.id]).refused("open bundle /absent: no such file or directory");
}

#[test]
fn a_path_from_nowhere_is_named() {
    let c = Container::new(&[]);
    let said = c.behind("mkdir gone; cd gone; rmdir ../gone", &format!("create --pid-file pid {}", c.id));
    said.refused("find the working directory, for pid: no such file or directory");
}

#[test]
fn errors_reach_the_log_in_the_engines_form() {
    let c = Container::new(&[]);
    c.oci(&["--log", "log.json", "--log-format", "json", "state", "nobody"]).refused("does not exist");
    let log: Value = serde_json::from_str(&std::fs::read_to_string(c.path("log.json")).unwrap()).unwrap();
    assert_eq!((&log["level"], &log["msg"]), (&json!("error"), &json!("container \"nobody\" does not exist")));
    c.oci(&["--log", "absent/log", "list"]).refused("open the file of --log, ");
}

#[test]
fn errors_of_the_command_line_reach_the_log_too() {
    let c = Container::new(&[]);
    for (words, status) in [(["create", "bad/id"], 1), (["exec", "--nonsense"], 255)] {
        let said = c.oci(&["--log", "words.json", "--log-format", "json", words[0], words[1]]);
        assert_eq!(said.status, status, "{said:?}");
        let log = std::fs::read_to_string(c.path("words.json")).unwrap();
        let log: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert!(said.err.contains(log["msg"].as_str().unwrap()), "{log}");
    }
}

#[test]
fn a_broken_state_is_that_of_one_container() {
    let c = Container::new(&["sleep"]);
    c.create().ok();
    std::fs::create_dir(c.path("state/broken")).unwrap();
    std::fs::write(c.path("state/broken/state.json"), "{bad").unwrap();
    let file = c.path("state/broken/state.json").display().to_string();
    let said = c.oci(&["list", "-q"]).ok();
    assert_eq!(said.out.trim(), c.id);
    assert!(said.err.contains("container \"broken\" is left out") && said.err.contains(&file), "{said:?}");
    c.oci(&["state", "broken"]).refused(&file);
    c.oci(&["delete", "broken"]).refused(&file);
    let said = c.oci(&["delete", "--force", "broken"]).ok();
    assert!(said.err.contains(&file) && !c.path("state/broken").exists(), "{said:?}");
}

#[test]
fn a_create_killed_at_any_instant_leaves_nothing_that_delete_does_not_clear() {
    let c = Container::new(&["sleep"]);
    c.write_config();
    for round in 0..100 {
        let null = std::process::Stdio::null;
        let mut create = spawn(c.command(&["create", &c.id]).stdout(null()).stderr(null()));
        // Spread over the life of the process: no wait in between is long enough to be one.
        let until = Instant::now() + Duration::from_micros(round * 120);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        create.kill().unwrap();
        create.wait().unwrap();
        c.oci(&["delete", "--force", &c.id]).ok();
        c.assert_gone();
    }
}

#[test]
fn a_cgroup_that_is_frozen_is_refused() {
    // Nothing would ever move in it.
    let c = Container::new(&["pid"]);
    std::fs::create_dir_all(c.cgroup("")).unwrap();
    std::fs::write(c.cgroup("cgroup.freeze"), "1").unwrap();
    c.create().refused("cgroup unexpectedly frozen");
    std::fs::remove_dir(c.cgroup("")).unwrap();
    c.assert_gone();
}

#[test]
fn what_a_killed_create_did_not_make_is_not_ended() {
    // Killed between noting its cgroup and looking whether that is free, it says nothing of whose processes are in there.
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    let (pid, file) = (c.pid(), c.path("state").join(&c.id).join("state.json"));
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    state["pid"] = json!(0);
    std::fs::write(&file, state.to_string()).unwrap();
    let said = c.oci(&["delete", "--force", &c.id]).ok();
    assert!(said.err.contains("processes run in it that are not the container's"), "{said:?}");
    assert!(std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().contains(&pid.to_string()));
    std::fs::write(c.cgroup("cgroup.kill"), "1").unwrap();
    wait_until("the end of the processes", || std::fs::remove_dir(c.cgroup("")).is_ok());
}

#[test]
fn systemd_is_asked_only_where_there_is_one() {
    // The one of the machine, should it have one, is none of the tests'.
    let dir = tempfile::tempdir().unwrap();
    let mut c = Container::new(&["pid"]).set("/linux/cgroupsPath", json!("a.slice:orlop:x"));
    c.create().refused("of systemd's form slice:prefix:name, which needs --systemd-cgroup");
    // Whatever the form: that there is none is what has to be known first.
    for path in ["a.slice:orlop:x", "/a/b"] {
        c.config["linux"]["cgroupsPath"] = json!(path);
        c.write_config();
        let mut command = c.command(&["--rootless", "true", "--systemd-cgroup", "create", &c.id]);
        let said = Said::from(&output(command.env("XDG_RUNTIME_DIR", dir.path())));
        said.refused("--systemd-cgroup is not available: no systemd answers at");
    }
    c.assert_gone();
}
