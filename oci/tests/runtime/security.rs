//! Rows of the security notes: a hostile bundle, and a canary outside that must not change.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::Container;

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
fn ids_that_are_no_names_are_refused() {
    let c = Container::new(&[]);
    c.write_config();
    for bad in ["..", ".", "/", "", "a/b", "../x", &"x".repeat(10_000), "a\nb", "\x1b[31m", "a b"] {
        c.oci(&["create", "--", bad]).refused("invalid container id");
        c.oci(&["delete", "--force", "--", bad]).refused("invalid container id");
    }
    assert!(!c.path("state").exists());
}

#[test]
fn a_dev_that_is_a_link_changes_nothing_outside() {
    // CVE-2026-41579, CVE-2026-47766, CVE-2026-88264.
    for (mounted, uid) in [(true, 0), (false, 0), (false, 1000)] {
        let outside = tempfile::tempdir_in("/var/tmp").or_else(|_| tempfile::tempdir_in("/dev/shm")).unwrap();
        std::fs::write(outside.path().join("null"), "canary").unwrap();
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
    let c = Container::new(&["cat", "/proc/uptime"]);
    std::fs::write(c.path("uptime"), "1 1").unwrap();
    let uptime = c.path("uptime");
    c.bind(&uptime, "/proc/uptime", &["bind"]).run().ok().has("/proc/uptime: 1 1");
}

#[test]
fn the_runtimes_file_cannot_be_overwritten() {
    // CVE-2019-5736: the entry point is a script whose interpreter is whatever runs it.
    let c = Container::new(&[]).set("/root/readonly", json!(false)).set("/process/args", json!(["/entry"]));
    c.file("entry", b"#!/proc/self/exe\n", 0o755);
    let before = std::fs::read(c.runtime()).unwrap();
    c.run();
    assert!(std::fs::read(c.runtime()).unwrap() == before);
    // While a process enters: its exe is hidden, and what it shows lies on a read-only mount.
    let c = Container::new(&["write", "/proc/1/exe", "x", "write", "/proc/self/exe", "x"]);
    c.run().ok();
    assert!(std::fs::read(c.runtime()).unwrap() == before);
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

#[test]
fn links_exchanged_under_a_mount_target_lead_nowhere() {
    // CVE-2021-30465, CVE-2024-45310: a neighbour in a shared volume swaps a folder and a link while we mount below it.
    let outside = tempfile::tempdir_in("/dev/shm").unwrap();
    let volume = tempfile::tempdir_in("/dev/shm").unwrap();
    std::fs::create_dir(volume.path().join("dir")).unwrap();
    symlink(outside.path(), volume.path().join("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (dir, link) = (volume.path().join("dir"), volume.path().join("link"));
            while !stop.load(Ordering::Relaxed) {
                let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let at = nix::fcntl::AT_FDCWD;
                nix::fcntl::renameat2(at, &dir, at, &link, flags).unwrap();
            }
        });
        let c = Container::new(&["pid"]);
        std::fs::write(c.path("source"), "S").unwrap();
        let source = c.path("source");
        let c = c.bind(volume.path(), "/volume", &["bind"]).bind(&source, "/volume/dir/made/file", &["bind"]);
        let before = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for round in 0..500 {
            // It may fail; it may not touch anything outside.
            c.run();
            assert!(listing(outside.path()).is_empty(), "round {round}");
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    });
}
