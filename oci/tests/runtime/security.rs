//! Rows of the security notes: a hostile bundle, and a canary outside that must not change.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::support::{Container, Said, output};

/// Names, kinds, modes and sizes of what lies in a folder.
fn listing(folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let mut all: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let meta = entry.path().symlink_metadata().unwrap();
            format!("{:?} {:o} {} {} {}", entry.file_name(), meta.mode(), meta.uid(), meta.rdev(), meta.len())
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_working_directory_behind_a_leaked_descriptor_is_refused() {
    // CVE-2024-21626: N is a folder of the host, left open and inheritable.
    for n in 3..100 {
        let c = Container::new(&["ls", "."]).set("/process/cwd", json!(format!("/proc/self/fd/{n}")));
        let said = c.run_behind(&format!("exec {n}</"), "");
        assert!(said.status == 1 && said.err.contains("working directory"), "{said:?}");
        c.assert_gone();
    }
}

#[test]
fn the_program_is_never_one_of_the_hosts() {
    // CVE-2024-21626 by the program's path: the kernel walks it before it closes what is close-on-exec. N is the runtime's own, or a folder
    // left open and inheritable; the image's part is a link or a script.
    let shell = Container::new(&[]);
    let host = shell.path("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::copy(shell.rootfs("bin/inspect"), host.join("inspect")).unwrap();
    let without_pid = |mut c: Container| {
        c.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
        c
    };
    let living = [Container::new(&["say", "up", "sleep"]), without_pid(Container::new(&["say", "up", "sleep"]))];
    for c in &living {
        c.create().ok();
        c.start().ok();
        c.wait_for_output("up");
    }
    let seized = |said: &Said| said.status == 0 || said.out.contains("seized");
    for n in 3..100 {
        let open = format!("exec {n}<{}", host.display());
        let own = format!("/proc/self/fd/{n}/../../../../../..{}/inspect", host.display());
        // Its own are few.
        let own = (n < 24).then_some(own);
        for target in own.into_iter().chain([format!("/proc/self/fd/{n}/inspect")]) {
            let leaks = if target.contains("..") { "true" } else { open.as_str() };
            let c = Container::new(&[]);
            symlink(&target, c.rootfs("bin/link")).unwrap();
            std::fs::write(c.rootfs("bin/script"), format!("#!{target} say\nseized\n")).unwrap();
            std::fs::set_permissions(c.rootfs("bin/script"), PermissionsExt::from_mode(0o755)).unwrap();
            let mut c = without_pid(c);
            for (at, path) in [target.as_str(), "/bin/link", "/bin/script"].into_iter().enumerate() {
                c.config["process"]["args"] = json!([path, "say", "seized"]);
                let said = c.run_behind(leaks, "");
                assert!(!seized(&said), "run {path} {target}: {said:?}");
                if at == 1 {
                    let hooks = json!({"startContainer": [{"path": path, "args": ["link", "say", "seized"]}]});
                    c.config["hooks"] = hooks;
                    c.config["process"]["args"] = json!(["/bin/inspect", "pid"]);
                    let said = c.run_behind(leaks, "");
                    assert!(said.status != 0, "hook {path} {target}: {said:?}");
                    c.config["hooks"] = json!({});
                }
            }
            for c in &living {
                let said = c.behind(leaks, &format!("exec {} {target} say seized", c.id));
                assert!(!seized(&said), "exec {target}: {said:?}");
            }
        }
    }
}

#[test]
fn ids_that_are_no_names_are_refused() {
    let c = Container::new(&[]);
    c.write_config();
    for bad in ["..", ".", "/", "", "a/b", "../x", &"x".repeat(10_000), "a\nb", "\x1b[31m", "a b"] {
        c.oci(&["create", "--", bad]).refused("invalid container id");
        c.oci(&["delete", "--force", "--", bad]).refused("invalid container id");
    }
    assert!(!c.path("state").exists());
    // The longest name of a folder is one of a container, whose cgroup has it too.
    let long = "x".repeat(255);
    let mut c = c.with_args(&["say", "ok"]);
    c.config["linux"]["cgroupsPath"] = json!(format!("/orlop-oci-tests/{long}"));
    c.write_config();
    c.oci(&["run", &long]).ok().has("ok");
}

#[test]
fn a_dev_that_is_a_link_changes_nothing_outside() {
    // CVE-2026-41579, CVE-2026-47766, CVE-2026-88264.
    for (mounted, uid) in [(true, 0), (false, 0), (false, 1000)] {
        let outside = tempfile::tempdir_in("/var/tmp").or_else(|_| tempfile::tempdir_in("/dev/shm")).unwrap();
        // Of no node's name: who follows the link would stop at one that exists, and look innocent.
        std::fs::write(outside.path().join("canary"), "canary").unwrap();
        let before = listing(outside.path());
        for target in [
            outside.path().to_path_buf(),
            Path::new("../../../../../..").join(outside.path().strip_prefix("/").unwrap()),
        ] {
            let mut c = Container::new(&["open", "/dev/null"])
                .set("/root/readonly", json!(false))
                .set("/process/user", json!({"uid": uid, "gid": uid}));
            symlink(&target, c.rootfs("dev")).unwrap();
            if !mounted {
                c.config["mounts"]
                    .as_array_mut()
                    .unwrap()
                    .retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
            }
            c.run();
            assert_eq!(listing(outside.path()), before, "mounted {mounted}, uid {uid}");
        }
    }
}

#[test]
fn a_dev_of_the_host_stays_as_it_is() {
    // docker run --privileged -v /dev:/dev, with a device that the engine lists.
    let c = Container::new(&["say", "up"]);
    let outside = c.path("dev-of-the-host");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("canary"), "canary").unwrap();
    let fuse = json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
    let mut c = c.set("/linux/devices", fuse);
    c.config["mounts"].as_array_mut().unwrap().retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    let before = listing(&outside);
    let c = c.bind(&outside, "/dev", &["rbind", "rw"]);
    c.run().ok().has("up");
    assert_eq!(listing(&outside), before);
}

#[test]
fn a_namespace_of_the_host_is_not_the_containers_own() {
    let set =
        |kind: &str, file: &str| json!([{"type": "mount"}, {"type": kind, "path": format!("/proc/self/ns/{file}")}]);
    for (kind, file, key, value) in [
        ("network", "net", "/linux/sysctl", json!({"net.ipv4.ip_default_ttl": "77"})),
        ("ipc", "ipc", "/linux/sysctl", json!({"kernel.msgmax": "9000"})),
        ("uts", "uts", "/hostname", json!("taken")),
        ("uts", "uts", "/domainname", json!("taken")),
        ("network", "net", "/linux/netDevices", json!({"lo": {"name": "lost"}})),
    ] {
        let mut c = Container::new(&["say", "up"]).set("/linux/namespaces", set(kind, file));
        for other in ["hostname", "domainname"] {
            c.config.as_object_mut().unwrap().remove(other);
        }
        // Joined, it is as if it were not named: Docker's --network host.
        if key == "/linux/sysctl" && kind == "network" {
            c.run().ok();
        }
        let c = c.set(key, value);
        c.run().refused(&format!("needs a {kind} namespace in linux.namespaces that is not the host's"));
    }
}

#[test]
fn proc_and_sys_that_are_links_are_refused() {
    // CVE-2019-19921.
    for name in ["proc", "sys"] {
        let c = Container::new(&["pid"]);
        std::fs::create_dir(c.rootfs("elsewhere")).unwrap();
        symlink("/elsewhere", c.rootfs(name)).unwrap();
        c.run().refused("too many levels of symbolic links");
        c.assert_gone();
    }
}

#[test]
fn nothing_is_mounted_over_proc() {
    // CVE-2023-27561, CVE-2019-16884.
    for destination in ["/proc", "/proc/self/attr", "/dev/../proc/sys", "/link/sys"] {
        let c = Container::new(&["pid"]);
        std::fs::create_dir(c.path("fake")).unwrap();
        symlink("/proc", c.rootfs("link")).unwrap();
        let fake = c.path("fake");
        let c = c.bind(&fake, destination, &["bind"]);
        let said = c.run();
        assert!(
            said.status == 1 && (said.err.contains("/proc") || said.err.contains("operation not permitted")),
            "{said:?}"
        );
    }
    let over =
        |mount| Container::new(&["pid"]).push("/mounts", mount).run().refused("only a procfs may be mounted on /proc");
    over(json!({"destination": "/proc", "type": "tmpfs", "source": "tmpfs"}));
    over(json!({"destination": "/proc", "type": "cgroup", "source": "cgroup"}));
    // What an earlier mount covers is looked for inside.
    let c =
        Container::new(&["pid"]).push("/mounts", json!({"destination": "/data", "type": "tmpfs", "source": "tmpfs"}));
    let covered = c.rootfs("data");
    std::fs::create_dir(&covered).unwrap();
    c.bind(&covered, "/proc", &["bind"]).run().refused("only a procfs may be mounted on /proc");
    let c = Container::new(&["cat", "/proc/uptime"]);
    std::fs::write(c.path("uptime"), "1 1").unwrap();
    let uptime = c.path("uptime");
    c.bind(&uptime, "/proc/uptime", &["bind"]).run().ok().has("/proc/uptime: 1 1");
}

#[test]
fn settings_of_the_host_are_refused() {
    let pattern = std::fs::read("/proc/sys/kernel/core_pattern").unwrap();
    for key in
        ["kernel.core_pattern", "kernel.sysrq", "vm.overcommit_memory", "kernel/../kernel/core_pattern", "net.ipv4..x"]
    {
        let c = Container::new(&[]).set("/linux/sysctl", json!({key: "1"}));
        c.run().refused("linux.sysctl.");
        c.assert_gone();
    }
    let c = Container::new(&[]).set("/linux/sysctl", json!({"net.core.somaxconn": "1"}));
    let mut config = c.config.clone();
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
    std::fs::write(c.path("config.json"), config.to_string()).unwrap();
    c.oci(&["create", &c.id]).refused("needs a network namespace");
    assert_eq!(std::fs::read("/proc/sys/kernel/core_pattern").unwrap(), pattern);
}

/// Those of the host: the runtime is linked to them in these tests, and would not run inside.
fn with_libraries(c: Container) -> Container {
    let there = ["/lib", "/lib64", "/usr/lib"].map(Path::new).into_iter().filter(|folder| folder.exists());
    there.fold(c, |c, folder| c.bind(folder, folder.to_str().unwrap(), &["rbind", "ro"]))
}

/// How the runtime comes to where a container's processes see it: into the container, to run a script whose interpreter is whatever runs
/// it, or a program; and as another container's first process, which runs such a script.
const WAYS: [&str; 3] = ["exec of a script", "exec", "a script as the first program"];

/// A process of the container is after the runtime's file (CVE-2019-5736) while further ones enter in these ways; gives what it reached.
fn besiege(c: &Container, ways: &[usize]) -> String {
    let before = std::fs::read(&c.runtime).unwrap();
    // The other way in: the program is a script whose interpreter is whatever runs it.
    let script = b"#!/proc/self/exe\n";
    c.file("entry", script, 0o755);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("seize");
    let mut beside = with_libraries(Container::new(&[])).set("/process/args", json!(["/entry"]));
    beside.file("entry", script, 0o755);
    beside.runtime.clone_from(&c.runtime);
    beside.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    let pid = json!({"type": "pid", "path": format!("/proc/{}/ns/pid", c.pid())});
    let beside = beside.push("/linux/namespaces", pid);
    beside.write_config();
    let mut commands = [
        c.command(&["exec", &c.id, "/entry"]),
        c.command(&["exec", &c.id, "/bin/inspect"]),
        beside.command(&["run", &beside.id]),
    ];
    for round in 0..500 {
        let way = ways[round % ways.len()];
        let ran = crate::support::try_output(&mut commands[way]);
        if c.output().contains("held") {
            // Nobody runs the file now: it is there to be written to.
            crate::support::wait_until("an end of it", || {
                ["refused", "written"].iter().any(|end| c.output().contains(end))
            });
            break;
        }
        let said = Said::from(&ran.unwrap());
        assert!(way == 1 || said.err.contains("\"/entry\" is not a command"), "the runtime ran the script: {said:?}");
    }
    let after = std::fs::read(&c.runtime).unwrap();
    if after != before {
        // It has a container to remove.
        c.file(c.runtime.to_str().unwrap(), &before, 0o755);
        panic!("the runtime's file was overwritten: {}", c.output());
    }
    c.output()
}

#[test]
fn nobody_seizes_the_runtimes_file() {
    let tool = initramfs::requirements::Tool { program: "mkfs.ext4", package: "e2fsprogs" };
    initramfs::requirements::ensure(&[tool], &mut |line| println!("{line}")).unwrap();
    // Who may trace the runtime sees its file in any case: on a mount that is read-only. To everybody else it is hidden.
    // The one that runs a script is a process of the container's.
    let (traces, read_only): (&[&str], _) = (&["CAP_SYS_PTRACE"], "refused: Read-only file system");
    let sieges: [(&[&str], &str, &[usize]); 5] = [
        (traces, read_only, &[0]),
        (traces, read_only, &[1]),
        (traces, read_only, &[2]),
        (&[], read_only, &[0]),
        (&[], "hidden", &[1]),
    ];
    let places = ["tmpfs", "ext4", "ext4, mounted read-only"];
    let sieges = places.into_iter().flat_map(|place| sieges.map(|siege| (place, siege)));
    for (place, (capabilities, end, ways)) in sieges {
        let c = Container::new(&["seize"]).set("/root/readonly", json!(false)).capabilities(capabilities);
        let mut c = with_libraries(c);
        let disk = place.starts_with("ext4").then(Ext4::new);
        if let Some(disk) = &disk {
            c.copy_runtime(&disk.path("orlop-oci"));
            if place.ends_with("read-only") {
                // Where it does not execute itself anew.
                let readonly = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
                mount(None::<&str>, &disk.path(""), None::<&str>, readonly, None::<&str>).unwrap();
            }
        }
        let reached = besiege(&c, ways);
        let named: Vec<&str> = ways.iter().map(|way| WAYS[*way]).collect();
        assert!(reached.contains(end), "on {place} with {capabilities:?} by {named:?}: {reached}");
        assert!(end != "hidden" || !reached.contains("held"), "{reached}");
        // Before the file system its program lies on.
        drop(c);
    }
}

/// A file system as disks have it, in a file.
struct Ext4(tempfile::TempDir);

impl Ext4 {
    fn new() -> Ext4 {
        let folder = tempfile::tempdir().unwrap();
        let line = "truncate -s 32M image && mkfs.ext4 -q -F image && mkdir on && mount -o loop image on";
        let mut bash = std::process::Command::new("bash");
        let made = Said::from(&output(bash.args(["-c", line]).current_dir(folder.path())));
        assert_eq!(made.status, 0, "this test needs ext4 and a loop device: {made:?}");
        Ext4(folder)
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.0.path().join("on").join(below)
    }
}

impl Drop for Ext4 {
    fn drop(&mut self) {
        // A failing test may still have somebody in it; its mount namespace takes it away.
        let _ = umount2(&self.path(""), MntFlags::MNT_DETACH);
    }
}

#[test]
fn exec_refuses_a_working_directory_behind_a_leaked_descriptor() {
    // CVE-2024-21626, with the folder really left open and inheritable.
    let c = Container::new(&["say", "up", "sleep"]);
    c.create().ok();
    c.start().ok();
    c.wait_for_output("up");
    for n in 3..100 {
        let args = format!("exec --cwd /proc/self/fd/{n} {} /bin/inspect ls .", c.id);
        let said = c.behind(&format!("exec {n}</"), &args);
        said.refused("working directory");
    }
    c.behind("exec 5</ 6</etc 99</dev", &format!("exec {} /bin/inspect fds cwd", c.id))
        .ok()
        .has("fds [0, 1, 2]")
        .has("cwd /");
}

#[test]
fn links_in_dev_of_the_image_change_nothing_outside() {
    // CVE-2026-88264, CVE-2026-88265: no mount on /dev, another user, with a terminal and without.
    let outside = tempfile::tempdir_in("/dev/shm").unwrap();
    for name in ["console", "null", "tty", "stdin", "pts"] {
        std::fs::write(outside.path().join(name), "canary").unwrap();
    }
    let before = listing(outside.path());
    for (terminal, uid) in [(false, 0), (false, 1000), (true, 0), (true, 1000)] {
        for name in ["console", "null", "tty", "stdin", "pts"] {
            let mut c = Container::new(&["pid"])
                .set("/root/readonly", json!(false))
                .set("/process/terminal", json!(terminal))
                .set("/process/user", json!({"uid": uid, "gid": uid}));
            let mounts = c.config["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
            std::fs::create_dir(c.rootfs("dev")).unwrap();
            symlink(outside.path().join(name), c.rootfs("dev").join(name)).unwrap();
            let _listener = std::os::unix::net::UnixListener::bind(c.path("console.sock")).unwrap();
            c.create_with(if terminal { &["--console-socket", "console.sock"] } else { &[] });
            c.oci(&["start", &c.id]);
            c.oci(&["delete", "--force", &c.id]).ok();
            assert_eq!(listing(outside.path()), before, "{name}, terminal {terminal}, uid {uid}");
        }
    }
}

#[test]
fn without_a_cgroup_namespace_a_user_namespace_sees_its_cgroup_read_only() {
    // CVE-2023-25809.
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let mut c = Container::new(&[
        "write",
        "/sys/fs/cgroup/cgroup.procs",
        "1",
        "create",
        "/sys/fs/cgroup/x",
        "cat",
        "/proc/self/mountinfo",
    ])
    .push("/linux/namespaces", json!({"type": "user"}))
    .set("/linux/uidMappings", map.clone())
    .set("/linux/gidMappings", map);
    c.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "cgroup");
    for mount in c.config["mounts"].as_array_mut().unwrap() {
        if mount["destination"] == "/sys/fs/cgroup" {
            mount["options"] = json!(["rw", "nosuid", "noexec", "nodev"]);
        }
    }
    std::os::unix::fs::chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
    let said = c.run().ok();
    let line = said.out.lines().find(|line| line.contains(" /sys/fs/cgroup ")).unwrap();
    assert!(line.contains(" /sys/fs/cgroup ro,"), "{line}");
    assert!(!said.out.contains(": ok"), "{said:?}");
}

#[test]
fn cgroup_paths_that_leave_the_hierarchy_are_refused() {
    for bad in ["..", "/../x", "/a/../../x", "/", &"/x".repeat(5000), "/a\nb"] {
        let c = Container::new(&[]).set("/linux/cgroupsPath", json!(bad));
        c.create().refused("linux.cgroupsPath");
        c.assert_gone();
    }
}
