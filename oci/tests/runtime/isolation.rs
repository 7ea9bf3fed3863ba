//! What the program sees, and what it does not.

use serde_json::json;

use crate::support::Container;

#[test]
fn only_the_standard_streams_are_inherited() {
    let c = Container::new(&["fds"]);
    c.run_behind("exec 5</ 6</etc 9</dev/null", "").ok().has("fds [0, 1, 2]");
    c.run_behind("exec 3</dev/null 4</dev/null 5</", "--preserve-fds 2").ok().has("fds [0, 1, 2, 3, 4]");
    // By sd_listen_fds(3), in front of the others; what was meant for another process is none of them.
    let open = "exec 3</dev/null 4</dev/null; export LISTEN_FDS=1";
    c.run_behind(&format!("{open} LISTEN_PID=$$"), "--preserve-fds 1").ok().has("fds [0, 1, 2, 3, 4]");
    c.run_behind(&format!("{open} LISTEN_PID=1"), "").ok().has("fds [0, 1, 2]");
    c.run_behind(open, "").ok().has("fds [0, 1, 2, 3]");
}

#[test]
fn only_what_is_open_is_passed_on() {
    // Whatever else this program has inherited is closed.
    let only = |open: &str| {
        format!("for fd in /proc/$$/fd/*; do fd=${{fd##*/}}; [ $fd -lt 3 ] || eval \"exec $fd<&-\"; done; {open}")
    };
    let c = Container::new(&["fds"]);
    c.run_behind(&only(":"), "--preserve-fds 9").ok().has("fds [0, 1, 2]");
    c.run_behind(&only("exec 3</dev/null"), "--preserve-fds 4294967295").ok().has("fds [0, 1, 2, 3]");
    let listen = only("exec 3</dev/null; export LISTEN_FDS=4294967294 LISTEN_PID=$$");
    c.run_behind(&listen, "--preserve-fds 9").ok().has("fds [0, 1, 2, 3]");
    // Nor does one of ours stay open under such a number.
    c.behind(&only("exec 9</dev/null >/dev/null 2>&1"), &format!("create --preserve-fds 99 {}", c.id)).ok();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", c.pid())).unwrap().flatten() {
        let leads_to = std::fs::read_link(entry.path()).unwrap();
        let ours = leads_to.to_str().is_some_and(|path| path == "/dev/null" || path.starts_with("socket:"));
        assert!(ours, "{} leads to {}", entry.path().display(), leads_to.display());
    }
}

#[test]
fn capabilities_are_those_of_the_config_and_inheritable_is_empty() {
    let c = Container::new(&["status", "CapInh,CapPrm,CapEff,CapBnd,CapAmb,NoNewPrivs,Uid"]);
    let said = c.run().ok();
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        said.has(&format!("{set}: 0000000020000420"));
    }
    said.has("CapInh: 0000000000000000").has("CapAmb: 0000000000000000").has("NoNewPrivs: 1");
    let names = json!(["CAP_NET_RAW"]);
    let sets =
        json!({"bounding": names, "effective": names, "inheritable": names, "permitted": names, "ambient": names});
    let c = c
        .set("/process/capabilities", sets)
        .set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [7, 8]}));
    let said = c.run().ok();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        said.has(&format!("{set}: 0000000000002000"));
    }
    said.has("Uid: 1000 1000 1000 1000");
    let none = Container::new(&["status", "CapEff,CapBnd"]).set("/process/capabilities", json!(null));
    none.run().ok().has("CapEff: 0000000000000000").has("CapBnd: 0000000000000000");
}

#[test]
fn few_descriptors_are_enough_to_start() {
    let limit = |soft: u32, hard: u32| json!([{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]);
    for (soft, hard) in [(3, 3), (3, 1000), (1, 4)] {
        let c = Container::new(&["limit", "7", "sleep"]).set("/process/rlimits", limit(soft, hard));
        c.create().ok();
        c.start().ok();
        c.wait_for_output(&format!("limit 7 {soft} {hard}"));
    }
}

#[test]
fn root_is_read_only_when_the_config_says_so() {
    let c = Container::new(&["create", "/x", "create", "/dev/x"]);
    c.run().ok().has("create /x: Read-only file system (os error 30)").has("create /dev/x: ok");
    let c = c.set("/root/readonly", json!(false));
    c.run().ok().has("create /x: ok");
    assert!(c.rootfs("x").exists());
}

#[test]
fn masked_and_readonly_paths() {
    let c = Container::new(&[
        "cat",
        "/proc/keys",
        "ls",
        "/proc/acpi",
        "ls",
        "/sys/firmware",
        "ls",
        "/etc/secret",
        "write",
        "/proc/sys/vm/overcommit_memory",
        "0",
    ])
    .set(
        "/linux/maskedPaths",
        json!(["/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/etc/secret", "/none"]),
    );
    c.file("etc/secret/key", b"k", 0o644);
    let said = c.run().ok();
    said.has("/proc/keys: ").has("/sys/firmware: ").has("/etc/secret: ");
    said.has("write /proc/sys/vm/overcommit_memory: Read-only file system (os error 30)");
}

#[test]
fn masked_folders_take_no_file_system_of_their_own() {
    let c = Container::new(&["ls", "/sys/firmware", "create", "/sys/firmware/x", "cat", "/proc/self/mountinfo"])
        .set("/linux/maskedPaths", json!(["/sys/firmware", "/sys/block"]));
    let said = c.run().ok();
    // With the words of a file system that is read-only: programs, and the tests of runc, look for them.
    said.has("/sys/firmware: ").has("create /sys/firmware/x: Read-only file system (os error 30)");
    for path in ["/sys/firmware", "/sys/block"] {
        let covered = format!(" /pts {path} ro,nosuid,nodev,noexec ");
        assert!(said.out.lines().any(|line| line.contains(&covered)), "{path}: {said:?}");
    }
}

#[test]
fn what_is_mounted_in_a_bound_sysfs_later_does_not_come_up_over_the_masks() {
    use nix::mount::{MsFlags, mount, umount};
    let mut c = Container::new(&["sleep"]).set("/linux/maskedPaths", json!(["/sys/firmware"]));
    c.config["mounts"].as_array_mut().unwrap().retain(|one| !one["destination"].as_str().unwrap().starts_with("/sys"));
    let (sysfs, none) = (tempfile::tempdir().unwrap(), None::<&str>);
    mount(Some("s"), sysfs.path(), Some("sysfs"), MsFlags::empty(), none).unwrap();
    mount(none, sysfs.path(), none, MsFlags::MS_SHARED, none).unwrap();
    let c = c.bind(sysfs.path(), "/sys", &["bind"]);
    c.create().ok();
    let later = [sysfs.path().join("kernel/security"), sysfs.path().join("kernel/debug")];
    let later = later.iter().find(|one| one.exists()).unwrap();
    mount(Some("later"), later, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    let mounts = std::fs::read_to_string(format!("/proc/{}/mountinfo", c.pid())).unwrap();
    umount(later).unwrap();
    umount(sysfs.path()).unwrap();
    assert!(mounts.contains(" /sys/kernel/"), "it comes up where it was mounted: {mounts}");
    assert_eq!(mounts.lines().filter(|line| line.contains(" /sys/firmware ")).count(), 1, "{mounts}");
}

#[test]
fn names_limits_masks_and_directories() {
    let c = Container::new(&[
        "cat",
        "/proc/sys/kernel/hostname",
        "cat",
        "/proc/sys/kernel/domainname",
        "limit",
        "7",
        "limit",
        "4",
        "umask",
        "cwd",
        "cat",
        "/proc/self/oom_score_adj",
        "personality",
    ])
    .set("/hostname", json!("web"))
    .set("/domainname", json!("example"))
    .set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 100}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
    )
    .set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o77}))
    .set("/process/cwd", json!("/work/deep"))
    .set("/process/oomScoreAdj", json!(500))
    .set("/linux/personality", json!({"domain": "LINUX32"}));
    let said = c.run().ok();
    said.has("/proc/sys/kernel/hostname: web")
        .has("/proc/sys/kernel/domainname: example")
        .has("limit 7 99 100")
        .has("limit 4 0 0");
    said.has("umask 77").has("cwd /work/deep").has("/proc/self/oom_score_adj: 500").has("personality 8");
}

#[test]
fn the_network_is_its_own_with_a_loopback_that_is_up() {
    let c = Container::new(&[
        "ls",
        "/sys/class/net",
        "cat",
        "/sys/class/net/lo/flags",
        "cat",
        "/proc/sys/net/core/somaxconn",
    ])
    .set("/linux/sysctl", json!({"net.core.somaxconn": "77"}));
    c.run().ok().has("/sys/class/net: lo").has("/sys/class/net/lo/flags: 0x9").has("/proc/sys/net/core/somaxconn: 77");
    assert_ne!(std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim(), "77");
}

#[test]
fn namespaces_are_joined_by_path() {
    let first = Container::new(&["sleep"]).set("/hostname", json!("first"));
    first.create().ok();
    let at = |name: &str| format!("/proc/{}/ns/{name}", first.pid());
    let namespaces = json!([{"type": "mount"}, {"type": "cgroup"}, {"type": "pid", "path": at("pid")}, {"type": "network", "path": at("net")},
        {"type": "uts", "path": at("uts")}, {"type": "ipc", "path": at("ipc")}]);
    let kinds = ["net", "uts", "ipc", "pid"];
    let mut verbs = vec!["cat", "/proc/sys/kernel/hostname", "pid"];
    let links: Vec<String> = kinds.iter().map(|kind| format!("/proc/self/ns/{kind}")).collect();
    links.iter().for_each(|link| verbs.extend(["link", link]));
    let mut second = Container::new(&verbs).set("/linux/namespaces", namespaces);
    second.config["hostname"] = json!(null);
    let said = second.run().ok();
    said.has("/proc/sys/kernel/hostname: first");
    assert!(!said.out.contains("pid 1\n"), "{said:?}");
    for kind in kinds {
        let target = std::fs::read_link(at(kind)).unwrap();
        said.has(&format!("/proc/self/ns/{kind} -> {}", target.display()));
    }
}

#[test]
fn time_has_offsets() {
    let c = Container::new(&["boottime"])
        .push("/linux/namespaces", json!({"type": "time"}))
        .set("/linux/timeOffsets", json!({"boottime": {"secs": 1_000_000_000}}));
    let said = c.run().ok();
    let seconds: u64 = said.out.trim().strip_prefix("boottime ").unwrap().parse().unwrap();
    assert!(seconds > 1_000_000_000, "{said:?}");
}

#[test]
fn a_user_namespace_maps_ids_and_binds_devices() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let c = Container::new(&[
        "status",
        "Uid,CapBnd",
        "cat",
        "/proc/self/uid_map",
        "open",
        "/dev/null",
        "open",
        "/dev/urandom",
        "create",
        "/dev/shm/x",
        "create",
        "/x",
    ])
    .push("/linux/namespaces", json!({"type": "user"}))
    .set("/linux/uidMappings", map.clone())
    .set("/linux/gidMappings", map)
    .set("/process/oomScoreAdj", json!(100))
    .set("/root/readonly", json!(false));
    std::os::unix::fs::chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
    let said = c.run().ok();
    said.has("Uid: 0 0 0 0").has("CapBnd: 0000000020000420").has("open /dev/null: ok").has("open /dev/urandom: ok");
    said.has("create /dev/shm/x: ok").has("create /x: ok");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(c.rootfs("x")).unwrap().uid(), 100_000);
}

#[test]
fn bind_mounts_with_their_options() {
    let c = Container::new(&[
        "cat",
        "/data/a",
        "create",
        "/data/b",
        "cat",
        "/etc/file",
        "write",
        "/etc/file",
        "x",
        "create",
        "/rw/c",
        "cat",
        "/proc/self/mountinfo",
    ]);
    for dir in ["data", "rw"] {
        std::fs::create_dir(c.path(dir)).unwrap();
    }
    std::fs::write(c.path("data/a"), "A").unwrap();
    std::fs::write(c.path("file"), "F").unwrap();
    // The target of the file is a link to nothing, as systemd's resolv.conf is.
    std::fs::create_dir(c.rootfs("etc")).unwrap();
    std::os::unix::fs::symlink("/run/sub/file", c.rootfs("etc/file")).unwrap();
    let (data, file, rw) = (c.path("data"), c.path("file"), c.path("rw"));
    let c = c
        .bind(&data, "/data", &["rbind", "ro", "nosuid", "nodev", "noexec"])
        .bind(&file, "/etc/file", &["bind", "ro"])
        .bind(&rw, "/rw", &["bind", "noatime"]);
    let said = c.run().ok();
    said.has("/data/a: A").has("create /data/b: Read-only file system (os error 30)").has("/etc/file: F");
    said.has("write /etc/file: Read-only file system (os error 30)").has("create /rw/c: ok");
    assert!(
        said.out.contains(" /data ro,nosuid,nodev,noexec,relatime") && said.out.contains(" /rw rw,noatime"),
        "{said:?}"
    );
    assert!(c.path("rw/c").exists());
    let missing = Container::new(&[]).bind(std::path::Path::new("/nope"), "/x", &["bind"]);
    missing.run().refused("mount /nope on /x: no such file or directory");
    let wrong = Container::new(&[]).bind(std::path::Path::new("/tmp"), "/x", &["bind", "sizze=3"]);
    let said = wrong.run().ok();
    assert!(said.err.contains("a bind mount has no option \"sizze\", ignored"), "{said:?}");
}

#[test]
fn a_program_is_found_in_the_containers_path() {
    let c = Container::new(&[])
        .set("/process/args", json!(["inspect", "say", "found"]))
        .set("/process/env", json!(["PATH=/nowhere:/opt:/bin"]));
    // A folder of that name is none.
    std::fs::create_dir_all(c.rootfs("opt/inspect")).unwrap();
    c.run().ok().has("found");
    let c = c.set("/process/args", json!(["absent"]));
    c.run().refused("executable file not found in $PATH: absent: no such file or directory");
    c.assert_gone();
}

/// A profile that denies two calls, one of them only with certain arguments.
fn profile() -> serde_json::Value {
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": [
        {"names": ["getppid", "nonsense"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77},
        {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78, "args": [{"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}]}]})
}

#[test]
fn a_seccomp_profile_holds_for_the_program_and_for_exec() {
    let (getppid, kill) = (libc::SYS_getppid.to_string(), libc::SYS_kill.to_string());
    let verbs = [
        "syscall",
        &getppid,
        "0",
        "0",
        "syscall",
        &kill,
        "1",
        "0",
        "syscall",
        &kill,
        "1",
        "18",
        "status",
        "Seccomp,CapEff,NoNewPrivs",
    ];
    for no_new_privileges in [true, false] {
        let c = Container::new(&verbs)
            .set("/linux/seccomp", profile())
            .set("/process/noNewPrivileges", json!(no_new_privileges));
        let said = c.run().ok();
        let check = |said: &crate::support::Said| {
            said.has(&format!("syscall {getppid}: 77"))
                .has(&format!("syscall {kill}: 78"))
                .has(&format!("syscall {kill}: 0"));
            // CAP_SYS_ADMIN, kept to load the filter, is gone.
            said.has("Seccomp: 2")
                .has("CapEff: 0000000020000420")
                .has(&format!("NoNewPrivs: {}", u8::from(no_new_privileges)));
        };
        check(&said);
        let c = c.with_args(&["sleep"]);
        c.create().ok();
        c.start().ok();
        let mut args = vec!["exec", &c.id, "/bin/inspect"];
        args.extend(verbs);
        check(&c.oci(&args).ok());
    }
    let c = Container::new(&[]).set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_NOTIFY"}));
    c.run().refused("linux.seccomp.listenerPath: is required");
}

#[test]
fn home_comes_from_the_containers_passwd() {
    let c = Container::new(&["env"]).set("/process/user", json!({"uid": 33, "gid": 33}));
    c.run().ok().has("env HOME=/");
    c.file("etc/passwd", b"root:x:0:0::/root:\nweb:x:33:33::/var/www:\n", 0o644);
    c.run().ok().has("env HOME=/var/www");
    let c = c.set("/process/env", json!(["HOME=/mine"]));
    c.run().ok().has("env HOME=/mine");
}

#[test]
fn pipes_belong_to_the_programs_user_and_nothing_else_does() {
    // CVE-2026-88265: /dev/null, which the whole machine shares, is standard input.
    use std::os::unix::fs::MetadataExt as _;
    let c =
        Container::new(&["owners", "create", "/proc/self/fd/1"]).set("/process/user", json!({"uid": 1000, "gid": 7}));
    c.run().ok().has("owners 0 1000 1000").has("create /proc/self/fd/1: ok");
    assert_eq!(std::fs::metadata("/dev/null").unwrap().uid(), 0);
    // A file is its owner's.
    c.create().ok();
    c.start().ok();
    c.wait_for_output("owners 0 0 0");
}

#[test]
fn standard_input_reaches_the_program() {
    let c = Container::new(&["stdin"]);
    c.run_behind("exec 0<<<word", "").ok().has("stdin word");
}

#[test]
fn a_source_in_the_rootfs_is_what_earlier_mounts_have_made_of_it() {
    let c = Container::new(&[
        "cat",
        "/final/file",
        "cat",
        "/final/x/file",
        "ls",
        "/one/x",
        "write",
        "/final/file",
        "no",
        "cat",
        "/inner",
    ]);
    for (folder, text) in [("a/x", "a"), ("b", "b")] {
        std::fs::create_dir_all(c.path(folder)).unwrap();
        std::fs::write(c.path(&folder[..1]).join("file"), text).unwrap();
    }
    for folder in ["mnt", "final", "one"] {
        std::fs::create_dir(c.rootfs(folder)).unwrap();
    }
    // By this link the host's would be meant.
    std::os::unix::fs::symlink(c.path("b"), c.path("a/out")).unwrap();
    let (rootfs, a, b) = (c.rootfs("mnt"), c.path("a"), c.path("b"));
    let c = c.bind(&a, "/mnt", &["bind"]).bind(&b, "/mnt/x", &["bind"]);
    let c = c.bind(&rootfs, "/final", &["rbind", "ro"]).bind(&rootfs, "/one", &["bind"]);
    let c = c.bind(std::path::Path::new("rootfs/mnt/x/file"), "/inner", &["bind"]);
    let said = c.run().ok();
    said.has("/final/file: a").has("/final/x/file: b").has("/one/x: ").has("/inner: b");
    said.has("write /final/file: Read-only file system (os error 30)");
    let out = c.rootfs("mnt/out");
    let c = c.bind(&out, "/final", &["bind"]);
    c.create().refused("find the source of");
    c.assert_gone();
}

#[test]
fn a_source_in_the_rootfs_is_mapped_in_a_user_namespace_too() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let (a, t) = ("/final/file", "/mapped/new");
    let c = Container::new(&["mode", "/mnt/file", "mode", a, "create", "/final/new", "create", t, "mode", t]);
    std::fs::create_dir(c.path("a")).unwrap();
    std::fs::write(c.path("a/file"), "a").unwrap();
    for folder in ["mnt", "final", "tmp", "mapped"] {
        std::fs::create_dir_all(c.rootfs(folder)).unwrap();
    }
    std::os::unix::fs::chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
    let (source, mnt, tmp) = (c.path("a"), c.rootfs("mnt"), c.rootfs("tmp"));
    let c = c.bind(&source, "/mnt", &["bind"]).bind(&mnt, "/final", &["rbind", "idmap"]);
    // A file system of the container's own.
    let c = c.push("/mounts", json!({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}));
    let two = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let c = c.push(
        "/mounts",
        json!({"destination": "/mapped", "type": "bind", "source": tmp, "options": ["rbind", "ridmap"],
        "uidMappings": two, "gidMappings": two}),
    );
    let c = c.push("/linux/namespaces", json!({"type": "user"}));
    let c = c.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let said = c.run().ok();
    said.has("/mnt/file: 100644 65534 65534 0").has("/final/file: 100644 0 0 0").has("create /final/new: ok");
    said.has("create /mapped/new: ok");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(c.path("a/new")).unwrap().uid(), 0);
}

#[test]
fn who_asks_for_it_has_a_dev_shm_that_is_a_folder_of_the_containers_dev() {
    let with = |there: bool, dev: &str| {
        let mut c = Container::new(&["mode", "/dev/shm", "create", "/dev/shm/x"])
            .set("/process/user", json!({"uid": 7, "gid": 7}));
        let mounts = c.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| there || mount["destination"] != "/dev/shm");
        for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev") {
            mount["type"] = dev.into();
        }
        c.config["annotations"] = json!({"org.orlop.dev-shm": "folder"});
        let said = c.run();
        if !there {
            // Who does not ask has none.
            c.config["annotations"] = json!(null);
            c.run().ok().has("/dev/shm: No such file or directory (os error 2)");
        }
        said
    };
    for there in [true, false] {
        with(there, "tmpfs").ok().has("/dev/shm: 41777 0 0 0").has("create /dev/shm/x: ok");
    }
    // What else /dev may be is as the bundle has it.
    with(false, "ramfs").ok().has("/dev/shm: No such file or directory (os error 2)");
}
