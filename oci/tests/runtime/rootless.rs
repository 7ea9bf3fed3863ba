//! Containers of an ordinary user, and of root in a user namespace (as a rootless engine is).

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Container, Said, output, spawn};

const USER: u32 = 1000;

/// A bundle and a runtime root that belong to the user; the machine's cgroups do not.
fn of_user(verbs: &[&str], map: Option<Value>) -> Container {
    let mut c = Container::new(verbs).set("/root/readonly", json!(false));
    if let Some(map) = map {
        c = c.push("/linux/namespaces", json!({"type": "user"}));
        c = c.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    }
    std::fs::create_dir(c.path("state")).unwrap();
    for path in ["", "state", "rootfs", "rootfs/bin"] {
        std::os::unix::fs::chown(c.path(path), Some(USER), Some(USER)).unwrap();
    }
    c.write_config();
    c
}

fn alone() -> Option<Value> {
    Some(json!([{"containerID": 0, "hostID": USER, "size": 1}]))
}

fn as_user(c: &Container, mut command: Command) -> Said {
    command.uid(USER).gid(USER).current_dir(c.path(""));
    Said::from(&output(&mut command))
}

fn oci(c: &Container, args: &[&str]) -> Said {
    as_user(c, c.command(args))
}

#[test]
fn an_ordinary_user_runs_a_container_alone() {
    let c = of_user(&["status", "Uid,CapBnd", "create", "/made", "open", "/dev/null", "mount", "/dev/null"], alone());
    let said = oci(&c, &["run", &c.id]).ok();
    said.has("Uid: 0 0 0 0").has("CapBnd: 0000000020000420").has("create /made: ok").has("open /dev/null: ok");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(c.rootfs("made")).unwrap().uid(), USER);
    assert_eq!(oci(&c, &["list", "-q"]).ok().out, "");
}

#[test]
fn its_life_is_that_of_any_container() {
    let c = of_user(&["say", "up", "sleep"], alone());
    // A pipe would stay open as long as the container has it.
    let mut run = c.command(&["run", "--detach", "--pid-file", "pid", &c.id]);
    run.uid(USER).gid(USER).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(spawn(&mut run).wait().unwrap().success());
    let exec =
        oci(&c, &["exec", &c.id, "/bin/inspect", "status", "Uid", "cat", "/proc/1/comm", "create", "/dev/shm/x"]);
    exec.ok().has("Uid: 0 0 0 0").has("/proc/1/comm: inspect").has("create /dev/shm/x: ok");
    assert!(oci(&c, &["state", &c.id]).ok().out.contains("running"));
    assert_eq!(oci(&c, &["ps", "--format", "json", &c.id]).ok().out.trim(), format!("[{}]", c.pid()));
    oci(&c, &["pause", &c.id]).refused("it runs without a cgroup of its own");
    oci(&c, &["kill", "--all", &c.id, "KILL"]).ok();
    c.wait_for_status("stopped");
    oci(&c, &["delete", &c.id]).ok();
}

#[test]
fn what_an_ordinary_user_cannot_have_is_said() {
    let c = of_user(&["pid"], None);
    oci(&c, &["run", &c.id]).refused("linux.namespaces: holds no new user namespace, without which user 1000 cannot");
    let c = of_user(&["pid"], Some(json!([{"containerID": 5, "hostID": USER, "size": 1}])));
    oci(&c, &["run", &c.id])
        .refused("linux.uidMappings: maps no id to the container's 0, who an ordinary user's runtime");
    let c = of_user(&["pid"], alone()).set("/linux/resources", json!({"pids": {"limit": 5}}));
    c.write_config();
    oci(&c, &["run", &c.id]).refused("limits are asked for, and no cgroup is delegated to this user");
    let c = of_user(&["say", "ok"], Some(json!([{"containerID": 0, "hostID": 100_000, "size": 65536}])));
    let said = oci(&c, &["run", &c.id]);
    let tool = std::path::Path::new("/usr/bin/newuidmap").exists();
    assert!(said.err.contains(if tool { "newuidmap refused the mapping" } else { "newuidmap is missing" }), "{said:?}");
}

#[test]
fn what_is_read_only_on_the_host_stays_so() {
    // As rootless Podman writes every volume. The root of these tests is mounted read-only.
    let c = of_user(&["create", "/volume/x", "mount", "/volume"], alone());
    let c = c.bind(std::path::Path::new("/usr/share"), "/volume", &["rbind", "rw", "rprivate"]);
    c.write_config();
    let said = oci(&c, &["run", &c.id]).ok();
    said.has("create /volume/x: Read-only file system (os error 30)");
    assert!(said.err.contains("it stays read-only, as it is on the host"), "{said:?}");
}

#[test]
fn root_of_a_user_namespace_runs_containers_too() {
    let c = of_user(&["open", "/dev/zero", "cat", "/proc/self/uid_map", "create", "/made"], None);
    let mut unshare = Command::new("unshare");
    unshare.args(["-Urm", "--"]).arg(&c.runtime).arg("--root").arg(c.path("state")).args(["run", &c.id]);
    let said = as_user(&c, unshare).ok();
    said.has("open /dev/zero: ok").has("create /made: ok");
    assert!(said.out.contains("1000"), "{said:?}");
}
