//! What callers of other runtimes are used to, beyond the words of the spec.

use nix::sys::signal::{SigSet, Signal};
use serde_json::json;

use crate::support::Container;

#[test]
fn what_the_caller_blocks_and_ignores_is_the_callers() {
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGALRM);
    blocked.add(Signal::SIGTERM);
    blocked.thread_block().unwrap();
    let shell = "trap '' HUP INT USR1 TSTP; grep -E 'Sig(Blk|Ign)' /proc/self/status >&2";
    let verbs = ["status", "SigBlk,SigIgn"];
    // SIGPIPE alone, which the program's own runtime ignores.
    let own = ["SigBlk: 0000000000000000", "SigIgn: 0000000000001000"];
    let ran = Container::new(&verbs).run_behind(shell, "").ok();
    let bits = |name: &str| {
        let line = ran.err.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    assert_eq!((bits("SigBlk:") & 0x6000, bits("SigIgn:") & 0x8_0203), (0x6000, 0x8_0203), "of the caller");
    let c = Container::new(&[&verbs[..], &["sleep"]].concat());
    c.write_config();
    c.behind(&format!("{shell}; exec >out 2>err"), &format!("create {}", c.id)).ok();
    c.start().ok();
    c.wait_for_output(own[1]);
    let exec = c.behind(shell, &format!("exec {} /bin/inspect {}", c.id, verbs.join(" "))).ok();
    blocked.thread_unblock().unwrap();
    for line in own {
        ran.has(line);
        exec.has(line);
        c.wait_for_output(line);
    }
}

#[test]
fn who_waits_to_be_started_holds_nothing_of_the_host() {
    let c = Container::new(&["sleep"]);
    c.write_config();
    c.behind("exec 5</ 6</etc 99</dev >/dev/null 2>&1", &format!("create {}", c.id)).ok();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().flatten() {
        let leads_to = std::fs::read_link(entry.path()).unwrap();
        let allowed = leads_to.to_str().is_some_and(|path| path == "/dev/null" || path.starts_with("socket:"));
        assert!(allowed, "{} leads to {}", entry.path().display(), leads_to.display());
    }
}

#[test]
fn who_waits_to_be_started_ends_when_asked() {
    for signal in ["HUP", "INT", "QUIT", "TERM"] {
        let c = Container::new(&["sleep"]);
        c.create().ok();
        c.oci(&["kill", &c.id, signal]).ok();
        c.wait_for_status("stopped");
    }
}

#[test]
fn without_a_pivot_no_whole_procfs_stays_in_reach() {
    // A new procfs would have none of the masks: the kernel refuses one as long as no whole one is in the namespace.
    for option in [&["run"] as &[_], &["run", "--no-pivot"]] {
        let c = Container::new(&["bare"]);
        c.write_config();
        let said = c.oci(&[option, &[c.id.as_str()]].concat()).ok();
        said.has("bare: unshare 0, mount Operation not permitted (os error 1)");
    }
}

#[test]
fn without_a_mount_namespace_the_root_is_a_chroot_and_goes_with_the_container() {
    let hook = |file: &str| json!([{"path": "/bin/inspect", "args": ["inspect", "create", file]}]);
    let mut c = Container::new(&["say", "up", "sleep"]).set("/root/readonly", json!(false));
    c.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "mount");
    c.config["hooks"] = json!({"startContainer": hook("/hooked")});
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    assert!(c.rootfs("hooked").exists());
    assert!(c.left_behind().contains(c.rootfs("proc").to_str().unwrap()), "mounted where the host sees it");
    for path in ["/made", "/dev/shm/made"] {
        c.oci(&["exec", &c.id, "/bin/inspect", "create", path]).ok().has(&format!("create {path}: ok"));
    }
    assert!(c.rootfs("made").exists());
    c.oci(&["delete", "--force", &c.id]).ok();
    c.assert_gone();
    // Whoever has taken it away himself loses nothing else.
    c.create().ok();
    let rootfs = c.rootfs("");
    nix::mount::umount2(rootfs.as_path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    c.oci(&["delete", "--force", &c.id]).ok();
    assert!(c.rootfs("bin").exists());
}

#[test]
fn hooks_of_start_are_where_those_of_create_are() {
    let c = Container::new(&["sleep"]);
    let hook =
        |file: &str| json!([{"path": "/bin/sh", "args": ["sh", "-c", format!("pwd > {}", c.path(file).display())]}]);
    let hooks = json!({"createRuntime": hook("before"), "poststart": hook("behind")});
    let c = c.set("/hooks", hooks);
    c.create().ok();
    c.start().ok();
    for file in ["before", "behind"] {
        assert_eq!(
            std::fs::read_to_string(c.path(file)).unwrap().trim_end(),
            c.path("").to_str().unwrap().trim_end_matches('/')
        );
    }
    c.oci(&["delete", "--force", &c.id]).ok();
    c.assert_gone();
}

#[test]
fn a_device_the_host_has_under_no_such_name_is_there_in_a_user_namespace_too() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let device =
        json!({"type": "c", "path": "/dev/nothing", "major": 1, "minor": 3, "uid": 5, "gid": 6, "fileMode": 0o157});
    for namespaces in [&[] as &[_], &["user"]] {
        let mut c = Container::new(&["stat", "/dev/nothing"]).set("/linux/devices", json!([device]));
        if !namespaces.is_empty() {
            c = c.push("/linux/namespaces", json!({"type": "user"})).set("/linux/uidMappings", map.clone());
            c = c.set("/linux/gidMappings", map.clone());
            std::os::unix::fs::chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
        }
        c.run().ok().has("stat /dev/nothing: 20157 1:3");
    }
}

#[test]
fn a_tmpfs_says_the_mode_it_took_over() {
    use std::os::unix::fs::PermissionsExt as _;
    let c = Container::new(&["cat", "/proc/mounts"]);
    std::fs::create_dir(c.rootfs("x")).unwrap();
    std::fs::set_permissions(c.rootfs("x"), std::fs::Permissions::from_mode(0o1710)).unwrap();
    let said = c.push("/mounts", json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs"})).run().ok();
    let line = said.out.lines().find(|line| line.contains(" /x tmpfs "));
    assert!(line.is_some_and(|line| line.contains("mode=1710")), "{said:?}");
}

#[test]
fn every_usual_controller_of_the_machine_is_there_for_the_container() {
    // Who has chosen for the cgroups beside it may have left these out.
    const SELDOM: [&str; 3] = ["hugetlb", "rdma", "misc"];
    let c = Container::new(&["sleep"]);
    c.create().ok();
    let words = |path: &std::path::Path| {
        let text = std::fs::read_to_string(path).unwrap();
        let usual = text.split_ascii_whitespace().filter(|one| !SELDOM.contains(one));
        let mut all: Vec<String> = usual.map(str::to_owned).collect();
        all.sort();
        all
    };
    let machine = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers");
    assert_eq!(words(&c.cgroup("cgroup.controllers")), words(machine));
}

#[test]
fn each_operation_that_makes_a_process_is_in_the_log_of_debug() {
    let c = Container::new(&["sleep"]);
    c.create().ok();
    c.start().ok();
    c.oci(&["--debug", "--log", "log.json", "--log-format", "json", "exec", &c.id, "/bin/inspect"]).ok();
    let log = std::fs::read_to_string(c.path("log.json")).unwrap();
    assert!(log.contains("\"level\":\"debug\"") && log.contains(&format!("exec id={}", c.id)), "{log}");
}

#[test]
fn a_volume_may_lie_over_a_default_device() {
    // docker run -v /dev/urandom:/dev/random
    let c = Container::new(&["cat", "/dev/random"]);
    let steady = c.path("steady");
    std::fs::write(&steady, "four\n").unwrap();
    c.bind(&steady, "/dev/random", &["rbind"]).run().ok().has("/dev/random: four");
}

#[test]
fn spec_writes_a_bundle_that_runs_and_nothing_over_another() {
    let c = Container::new(&[]);
    c.oci(&["spec"]).ok();
    let mut config: serde_json::Value = serde_json::from_slice(&std::fs::read(c.path("config.json")).unwrap()).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/inspect", "say", "up"]);
    std::fs::write(c.path("config.json"), config.to_string()).unwrap();
    c.oci(&["spec"]).refused("config.json: file exists");
    std::fs::create_dir(c.path("other")).unwrap();
    c.oci(&["spec", "--rootless", "--bundle", "other"]).ok();
    assert!(std::fs::read_to_string(c.path("other/config.json")).unwrap().contains("uidMappings"));
    c.oci(&["run", &c.id]).ok().has("up");
}
