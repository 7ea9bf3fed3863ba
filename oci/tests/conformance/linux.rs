//! Cases of config-linux.md that take more than a line.

use std::io::{IoSliceMut, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};

use crate::support::Container;

fn link(pid: i32, name: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string()
}

fn own() -> i32 {
    nix::unistd::gettid().as_raw()
}

const FILES: [&str; 8] = ["pid", "net", "mnt", "ipc", "uts", "user", "cgroup", "time"];

pub(crate) fn new_namespaces(c: Container) {
    c.create().ok();
    for name in FILES {
        assert_ne!(link(c.pid(), name), link(own(), name), "{name}");
    }
}

pub(crate) fn inherited_namespaces(c: Container) {
    let said = c.run().ok();
    for name in ["net", "uts", "ipc"] {
        said.has(&format!("/proc/self/ns/{name} -> {}", link(own(), name)));
    }
}

/// A second container in the first one's namespaces, but for its root.
fn beside(first: &Container, kinds: &[(&str, &str)], change: &Value) -> Container {
    first.create().ok();
    let mut second = crate::container("sleep", change);
    second.config["hostname"] = json!(null);
    let mut all = vec![json!({"type": "mount"})];
    if !kinds.contains(&("cgroup", "cgroup")) {
        all.push(json!({"type": "cgroup"}));
    }
    all.extend(
        kinds.iter().map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{}/ns/{file}", first.pid())})),
    );
    second = second.set("/linux/namespaces", json!(all));
    second.create().ok();
    for (_, file) in kinds {
        assert_eq!(link(second.pid(), file), link(first.pid(), file), "{file}");
    }
    second
}

pub(crate) fn joined(first: Container) {
    let same = [("pid", "pid"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    beside(&first, &[&same[..], &[("cgroup", "cgroup"), ("time", "time")]].concat(), &json!({}));
}

pub(crate) fn joined_user(first: Container) {
    // Those the first one's user namespace owns, and one that belongs to the machine's.
    let kinds = [("pid", "pid"), ("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let second = beside(&first, &kinds, &json!({"owner": 100_000}));
    second.start().ok();
    second.wait_for_status("running");
    let verbs = ["exec", &second.id, "/bin/inspect", "status", "Uid", "create", "/dev/shm/x"];
    second.oci(&verbs).ok().has("Uid: 0 0 0 0").has("create /dev/shm/x: ok");
    let net = crate::container("sleep", &json!({}));
    net.create().ok();
    let mut third = crate::container("say ok", &json!({"owner": 100_000}));
    third.config["hostname"] = json!(null);
    let path = |c: &Container, file: &str| format!("/proc/{}/ns/{file}", c.pid());
    let third = third.set(
        "/linux/namespaces",
        json!([{"type": "mount"}, {"type": "pid"}, {"type": "user", "path": path(&first, "user")}]),
    );
    let third = third.push("/linux/namespaces", json!({"type": "uts", "path": path(&net, "uts")}));
    let third = third.push("/linux/namespaces", json!({"type": "ipc"}));
    let third = third.push("/linux/namespaces", json!({"type": "network", "path": path(&first, "net")}));
    third.run().ok().has("ok");
    // A new user namespace beside namespaces of the machine's, as an engine has them that makes the network first.
    let fourth = crate::container("link /proc/self/ns/net", &json!({"user": 100_000, "-ns": "network"}));
    let fourth = fourth.push("/linux/namespaces", json!({"type": "network", "path": path(&net, "net")}));
    let mut fourth = fourth;
    fourth.config["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "sysfs" && m["type"] != "cgroup");
    fourth.run().ok().has(&format!("/proc/self/ns/net -> {}", link(net.pid(), "net")));
}

/// What a CRI engine writes for every container of a pod with a user namespace (`hostUsers: false`): the pod's namespaces by path, the
/// pod's mappings beside them, and volumes that have them too.
pub(crate) fn pod_user(pod: Container) {
    pod.create().ok();
    let kinds = [("user", "user"), ("network", "net"), ("ipc", "ipc"), ("uts", "uts")];
    let mut namespaces: Vec<Value> = kinds
        .iter()
        .map(|(kind, file)| json!({"type": kind, "path": format!("/proc/{}/ns/{file}", pod.pid())}))
        .collect();
    namespaces.extend(["mount", "pid", "cgroup"].map(|kind| json!({"type": kind})));
    let container = |maps: &Value, verbs: &str| {
        let mut c = crate::container(verbs, &json!({"owner": 100_000, "/root/readonly": false, "/hostname": null}));
        c.config["linux"]["namespaces"] = json!(namespaces);
        for mount in c.config["mounts"].as_array_mut().unwrap().iter_mut().filter(|m| m["type"] == "cgroup") {
            mount["options"] = json!(["rw", "nosuid"]);
        }
        std::fs::create_dir(c.path("volume")).unwrap();
        std::fs::write(c.path("volume/f"), "").unwrap();
        std::os::unix::fs::chown(c.path("volume/f"), Some(7), Some(7)).unwrap();
        let volume = json!({"destination": "/v", "type": "bind", "source": c.path("volume"), "options": ["rbind", "rw"],
            "uidMappings": maps, "gidMappings": maps});
        c.set("/linux/uidMappings", maps.clone()).set("/linux/gidMappings", maps.clone()).push("/mounts", volume)
    };
    let map = |host: u32, size: u32| json!([{"containerID": 0, "hostID": host, "size": size}]);
    let c = container(
        &map(100_000, 1000),
        "status Uid mode /v/f create /v/g create /made create /sys/fs/cgroup/x say up sleep",
    );
    c.create().ok();
    assert_eq!(link(c.pid(), "user"), link(pod.pid(), "user"));
    c.start().ok();
    c.wait_for_output("up");
    for line in ["Uid: 0 0 0 0", "/v/f: 100644 7 7 0", "create /v/g: ok", "create /made: ok"] {
        c.wait_for_output(line);
    }
    // The cgroup is its root's, as of one that made the namespace itself.
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(c.cgroup("cgroup.procs")).unwrap().uid(), 100_000);
    c.oci(&["exec", &c.id, "/bin/inspect", "create", "/v/h", "status", "Uid"]).ok().has("create /v/h: ok");
    for wrong in [map(100_001, 1000), map(100_000, 999)] {
        let c = container(&wrong, "pid");
        c.create().refused(
            "linux.uidMappings: is not that of the user namespace that is joined by path, which has 0 100000 1000",
        );
        c.assert_gone();
        let c = c.set("/linux/uidMappings", map(100_000, 1000));
        c.create().refused("linux.gidMappings: is not that of the user namespace");
    }
}

pub(crate) fn joined_mount(c: Container) {
    let mut other = std::process::Command::new("unshare");
    other.args(["-m", "sleep", "1000"]).stdin(std::process::Stdio::null());
    let mut other = crate::support::spawn(&mut other);
    let pid = i32::try_from(other.id()).unwrap();
    crate::support::wait_until("the namespace", || {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
    });
    let all = json!([{"type": "mount", "path": format!("/proc/{pid}/ns/mnt")}, {"type": "pid"}, {"type": "uts"}]);
    let want = link(pid, "mnt");
    let said = c.set("/linux/namespaces", all).run();
    other.kill().unwrap();
    other.wait().unwrap();
    said.ok().has(&format!("/proc/self/ns/mnt -> {want}"));
}

/// A mapping without the container's root: its program's user makes all that is made for it.
pub(crate) fn no_root(c: Container) {
    std::os::unix::fs::chown(c.rootfs(""), Some(100_005), Some(100_006)).unwrap();
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "test $(id -u):$(id -g) = 5:6"]}]);
    let c = c.with_args(&[
        "status",
        "Uid,Gid,CapEff",
        "create",
        "/made",
        "mode",
        "/made",
        "open",
        "/dev/null",
        "say",
        "up",
        "sleep",
    ]);
    let c = c.set("/hooks", json!({"createContainer": hook}));
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    for line in ["Uid: 5 5 5 5", "CapEff: 0000000000000000", "/made: 100644 5 6 0", "open /dev/null: ok"] {
        c.wait_for_output(line);
    }
    c.oci(&["exec", &c.id, "/bin/inspect", "status", "Uid,Gid", "create", "/tmp"])
        .ok()
        .has("Uid: 5 5 5 5")
        .has("Gid: 6 6 6 6");
    c.oci(&["exec", "--user", "0:0", &c.id, "/bin/inspect", "pid"]).refused("invalid argument");
}

/// The rootfs is on a mount that others see, with another one below it.
pub(crate) fn propagation(_: Container) {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none = None::<&str>;
    for (word, root, below) in
        [("slave", true, true), ("rslave", true, true), ("private", false, true), ("rprivate", false, false)]
    {
        let c = crate::container("mount / mount /sub", &json!({"/linux/rootfsPropagation": word}));
        let rootfs = c.rootfs("");
        std::fs::create_dir(c.rootfs("sub")).unwrap();
        mount(Some(&rootfs), &rootfs, none, MsFlags::MS_BIND, none).unwrap();
        mount(Some("t"), &c.rootfs("sub"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
        mount(none, &rootfs, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).unwrap();
        let said = c.run();
        umount2(&rootfs, MntFlags::MNT_DETACH).unwrap();
        let said = said.ok();
        for (path, follows) in [("mount / ", root), ("mount /sub ", below)] {
            let line = said.out.lines().find(|line| line.starts_with(path)).unwrap();
            assert_eq!(line.contains(" master "), follows, "{word}: {line}");
        }
    }
}

pub(crate) fn cgroups_path(c: Container) {
    let line = format!("0::/orlop-oci-tests/{}", c.id);
    // The caller's own place makes no difference.
    let caller = format!("{}-caller/below", c.id);
    let folder = std::path::Path::new(crate::support::TEST_CGROUPS).join(&caller);
    std::fs::create_dir_all(&folder).unwrap();
    for shell in ["true".to_owned(), format!("echo $$ >{}/cgroup.procs", folder.display())] {
        c.write_config();
        c.behind(&shell, &format!("create {} >/dev/null 2>&1", c.id)).ok();
        let all = std::fs::read_to_string(format!("/proc/{}/cgroup", c.pid())).unwrap();
        assert!(all.lines().any(|one| one == line), "{all}");
        assert_eq!(std::fs::read_to_string(c.cgroup("cgroup.procs")).unwrap().trim(), c.pid().to_string());
        c.oci(&["delete", "--force", &c.id]).ok();
        c.assert_gone();
    }
    for path in [folder.as_path(), folder.parent().unwrap()] {
        std::fs::remove_dir(path).unwrap();
    }
}

pub(crate) fn cgroup_taken(c: Container) {
    let folder = c.cgroup("");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("cgroup.freeze"), "1").unwrap();
    c.create().refused("container's cgroup unexpectedly frozen");
    std::fs::write(folder.join("cgroup.freeze"), "0").unwrap();
    let mut other = std::process::Command::new("sleep");
    let mut other = crate::support::spawn(other.arg("1000"));
    std::fs::write(folder.join("cgroup.procs"), other.id().to_string()).unwrap();
    c.create().refused("container's cgroup is not empty");
    assert!(other.try_wait().unwrap().is_none(), "whose cgroup it is, lives");
    other.kill().unwrap();
    other.wait().unwrap();
    c.create().ok();
}

/// The owners of a cgroup's files, where the kernel's list is this one or, for this thread, does not exist.
fn owned(mut c: Container, list: Option<&str>) -> Vec<u32> {
    // With something mounted over it the kernel gives no user namespace a sysfs.
    let mounts = c.config["mounts"].as_array_mut().unwrap();
    mounts.iter_mut().filter(|one| one["type"] == "sysfs").for_each(|one| one["type"] = json!("tmpfs"));
    use std::os::unix::fs::MetadataExt as _;
    let none = None::<&str>;
    let place = "/sys/kernel/cgroup";
    nix::mount::mount(Some("t"), place, Some("tmpfs"), nix::mount::MsFlags::empty(), none).unwrap();
    if let Some(list) = list {
        std::fs::write(format!("{place}/delegate"), list).unwrap();
    }
    let said = c.create();
    nix::mount::umount(place).unwrap();
    said.ok();
    let files = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "cgroup.freeze"];
    files.map(|file| std::fs::metadata(c.cgroup(file)).unwrap().uid()).to_vec()
}

pub(crate) fn cgroup_owned_by_default(c: Container) {
    assert_eq!(owned(c, None), [100_000, 100_000, 100_000, 100_000, 0]);
}

pub(crate) fn cgroup_owned_as_listed(c: Container) {
    let list = "cgroup.procs\ncgroup.not.of.this.kernel\ncgroup.freeze\n";
    assert_eq!(owned(c, Some(list)), [100_000, 100_000, 0, 0, 100_000]);
}

pub(crate) fn unified(c: Container) {
    let c = c.set("/linux/resources", json!({"unified": {"cgroup.max.descendants": "5"}}));
    c.create().ok();
    assert_eq!(std::fs::read_to_string(c.cgroup("cgroup.max.descendants")).unwrap(), "5\n");
    c.oci(&["delete", "--force", &c.id]).ok();
    // Where the machine gives its controllers to cgroup v1, that is said.
    let machine = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    let c = c.set("/linux/resources", json!({"unified": {"pids.max": "7"}}));
    let said = c.create();
    if machine.split_ascii_whitespace().any(|one| one == "pids") {
        said.ok();
        assert_eq!(std::fs::read_to_string(c.cgroup("pids.max")).unwrap(), "7\n");
    } else {
        said.refused("cannot enable the controller pids");
    }
}

fn notifying(path: &str) -> Value {
    let rules = json!([{"names": ["getppid"], "action": "SCMP_ACT_NOTIFY"}]);
    json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "M", "flags": ["SECCOMP_FILTER_FLAG_TSYNC"], "syscalls": rules})
}

pub(crate) fn notify(c: Container) {
    let path = c.path("agent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let c = c.set("/linux/seccomp", notifying(path.to_str().unwrap())).set("/annotations", json!({"a": "b"}));
    c.create().ok();
    c.start().ok();
    let pid = c.pid();
    taken(&listener, &c, i64::from(pid));
    let mut exec = c.command(&["exec", "-d", "--pid-file", "exec.pid", &c.id, "/bin/inspect", "sleep"]);
    assert!(crate::support::spawn(&mut exec).wait().unwrap().success());
    let pid = std::fs::read_to_string(c.path("exec.pid")).unwrap();
    taken(&listener, &c, pid.parse().unwrap());
}

/// What an agent gets on one connection.
fn taken(listener: &UnixListener, c: &Container, pid: i64) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut bytes = [0; 8192];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
    let fds = message.cmsgs().unwrap().find_map(|one| match one {
        ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
        _ => None,
    });
    let count = message.bytes;
    let fd = fds.expect("a descriptor");
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert!(link.to_str().unwrap().contains("seccomp notify"), "{link:?}");
    let mut text = bytes[..count].to_vec();
    stream.read_to_end(&mut text).unwrap();
    let state: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((&state["fds"], &state["pid"], &state["metadata"]), (&json!(["seccompFd"]), &json!(pid), &json!("M")));
    assert_eq!((&state["state"]["id"], &state["state"]["annotations"]["a"]), (&json!(c.id), &json!("b")));
    nix::unistd::close(fd).unwrap();
}

fn ip(args: &str) {
    let mut ip = std::process::Command::new("ip");
    let said = crate::support::spawn(ip.args(args.split(' '))).wait().unwrap();
    assert!(said.success(), "ip {args}");
}

/// A device of this machine's that goes with the test.
struct Veth(String);

impl Veth {
    fn new(letter: char) -> Veth {
        let name = format!("or{letter}{}", std::process::id() % 100_000);
        ip(&format!("link add {name} type veth peer name p{name}"));
        Veth(name)
    }
}

impl Drop for Veth {
    fn drop(&mut self) {
        // In a container it may have gone with that.
        let mut ip = std::process::Command::new("ip");
        let _ = ip.args(["link", "del", &self.0]).stderr(std::process::Stdio::null()).status();
    }
}

pub(crate) fn net_device_taken(_: Container) {
    let veth = Veth::new('t');
    let c = crate::container("pid", &json!({"/linux/netDevices": {&veth.0: {"name": "lo"}}}));
    c.create().refused(&format!("move linux.netDevices.{}: file exists", veth.0));
    c.assert_gone();
    ip(&format!("link show {}", veth.0));
}

pub(crate) fn net_device_template(_: Container) {
    let veth = Veth::new('m');
    let c = crate::container("ls /sys/class/net", &json!({"/linux/netDevices": {&veth.0: {"name": "lo%d"}}}));
    c.run().ok().has("/sys/class/net: lo lo0");
}

/// runtime.md, section "Errors": whichever step fails, the devices are where they were, with their addresses, and up.
pub(crate) fn net_device_stays(_: Container) {
    let (first, second) = (Veth::new('e'), Veth::new('f'));
    ip(&format!("address add 192.0.2.9/24 dev {}", first.0));
    ip(&format!("address add 2001:db8::9/64 dev {}", first.0));
    ip(&format!("link set {} mtu 1312 up", first.0));
    let shown = || {
        let mut ip = std::process::Command::new("ip");
        crate::support::output(ip.args(["-o", "address", "show", "dev", &first.0])).stdout
    };
    let link = || {
        let mut ip = std::process::Command::new("ip");
        let said = crate::support::output(ip.args(["-o", "link", "show", "dev", &first.0]));
        String::from_utf8(said.stdout).unwrap()
    };
    let lines = |bytes: Vec<u8>| {
        let text = String::from_utf8(bytes).unwrap();
        let words = |line: &str| line.split_ascii_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" ");
        let mut all: Vec<String> = text.lines().map(words).filter(|line| !line.contains("fe80:")).collect();
        all.sort();
        all
    };
    let before = lines(shown());
    assert_eq!(before.len(), 2, "{before:?}");
    let to = |first_name: &str, other: &str, other_name: &str| {
        let devices = json!({&first.0: {"name": first_name}, other: {"name": other_name}});
        crate::container("sleep", &json!({"/linux/netDevices": devices}))
    };
    let twice = format!("move linux.netDevices.{}: file exists", second.0);
    for (c, options, why) in [
        (to("x", "zzz9", "y"), vec![], "find linux.netDevices.zzz9: no such device"),
        (to("x", &second.0, "x"), vec![], twice.as_str()),
        (to("x", &second.0, "y"), vec!["--pid-file", "/none/pid"], "/none"),
        (to("x%d", &second.0, "y"), vec!["--pidfd-socket", "/none/socket"], "/none/socket"),
    ] {
        c.create_with(&options).refused(why);
        c.assert_gone();
        assert_eq!(lines(shown()), before, "{why}");
        assert!(link().contains("UP") && link().contains("mtu 1312"), "{}", link());
        ip(&format!("link show {}", second.0));
    }
}

pub(crate) fn net_device(_: Container) {
    let name = format!("or{}", std::process::id() % 100_000);
    ip(&format!("link add {name} mtu 1234 type veth peer name p{name}"));
    ip(&format!("address add 192.0.2.7/24 dev {name}"));
    let c = crate::container(
        "mount /sys cat /sys/class/net/new0/mtu cat /sys/class/net/new0/flags cat /proc/net/fib_trie",
        &json!({}),
    );
    let c = c.set("/linux/netDevices", json!({&name: {"name": "new0"}}));
    let said = c.run();
    let _ = std::process::Command::new("ip").args(["link", "del", &name]).stderr(std::process::Stdio::null()).status();
    let said = said.ok();
    said.has("/sys/class/net/new0/mtu: 1234");
    crate::says(&said, "/sys/class/net/new0/flags: 0x…3");
    assert!(said.out.contains("192.0.2.7"), "{said:?}");
}
