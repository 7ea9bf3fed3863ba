//! Rows of the security notes where somebody exchanges what the runtime is about to use: at least 500 rounds each, and a canary
//! outside that nobody may touch. A round may fail; it may not succeed wrongly.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::{Container, Said};

const ROUNDS: usize = 500;

/// A folder of the host, in which nothing may change: bytes, owners, modes, what is mounted there.
struct Canary {
    dir: tempfile::TempDir,
    before: Vec<String>,
}

impl Canary {
    /// On a file system that is not the test's own, so that a wrong move could really happen.
    fn new(files: &[&str]) -> Canary {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "canary").unwrap();
        }
        let before = seen(dir.path());
        Canary { dir, before }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.dir.path().join(below)
    }

    #[track_caller]
    fn check(&self, what: &str) {
        assert_eq!(seen(self.dir.path()), self.before, "{what}");
    }
}

/// Everything below a folder, one line each.
fn seen(folder: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let content = if meta.is_file() { std::fs::read_to_string(&path).unwrap() } else { String::new() };
        all.push(format!("{path:?} {:o} {} {} {} {content}", meta.mode(), meta.uid(), meta.gid(), meta.dev()));
        if meta.is_dir() {
            all.extend(seen(&path));
        }
    }
    all.sort();
    all
}

fn host_mounts() -> String {
    std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

/// Runs `round` again and again while another thread exchanges two names as fast as it can; gives how many rounds succeeded.
fn racing(one: &Path, two: &Path, canary: &Canary, round: impl FnMut() -> bool) -> usize {
    let before = host_mounts();
    let exchange = || {
        let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
        // A round that makes or removes the name comes between; the next turn finds it again.
        let _ = nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, one, nix::fcntl::AT_FDCWD, two, flags);
    };
    let good = against(exchange, canary, round);
    assert_eq!(host_mounts(), before, "no mount of a container's reaches the host");
    good
}

/// Runs `round` again and again while another thread does its worst, without a pause.
fn against(worst: impl Fn() + Sync, canary: &Canary, mut round: impl FnMut() -> bool) -> usize {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                worst();
            }
        });
        // Ends the other thread even when a round panics.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _stop = Stop(&stop);
        let mut good = 0;
        for number in 0..ROUNDS {
            good += usize::from(round());
            canary.check(&format!("round {number}"));
        }
        good
    })
}

fn succeeded(said: &Said) -> bool {
    assert!(said.status < 1000, "{said:?}");
    said.status == 0
}

/// Without the tmpfs on /dev and what lies on it: the image's own folder is used.
fn without_dev(mut c: Container) -> Container {
    let mounts = c.config["mounts"].as_array_mut().unwrap();
    mounts.retain(|m| !m["destination"].as_str().unwrap().starts_with("/dev"));
    c.set("/root/readonly", json!(false))
}

#[test]
fn links_exchanged_under_a_mount_target_lead_nowhere() {
    // CVE-2021-30465, CVE-2024-45310: a neighbour in a shared volume swaps a folder and a link while we mount below it.
    let (canary, volume) = (Canary::new(&[]), tempfile::tempdir_in("/dev/shm").unwrap());
    let (dir, link) = (volume.path().join("dir"), volume.path().join("link"));
    std::fs::create_dir(&dir).unwrap();
    symlink(canary.path(""), &link).unwrap();
    // What is at the link's end in the container: its own /dev/shm.
    let c = Container::new(&["ls", "/dev/shm"]);
    std::fs::write(c.path("source"), "S").unwrap();
    let source = c.path("source");
    let c = c.bind(volume.path(), "/volume", &["bind"]).bind(&source, "/volume/dir/made/file", &["bind"]);
    let (mut followed, mut not) = (0, 0);
    racing(&dir, &link, &canary, || {
        let said = c.run();
        followed += usize::from(said.out.contains("/dev/shm: .tmp"));
        not += usize::from(said.out == "/dev/shm: \n");
        succeeded(&said)
    });
    // One that took the link for the machine's would have been seen: it was met, and led to a place inside.
    assert!(followed > 0 && not > 0, "{followed} rounds met the link, {not} the folder");
}

#[test]
fn what_masks_a_file_is_the_null_device_whatever_dev_null_is() {
    // CVE-2025-31133: /dev/null of the container is a link, for good or now and then.
    let canary = Canary::new(&["file"]);
    let c = without_dev(Container::new(&["stat", "/etc/secret"])).set("/linux/maskedPaths", json!(["/etc/secret"]));
    c.file("etc/secret", b"secret", 0o644);
    std::fs::create_dir(c.rootfs("dev")).unwrap();
    let (null, link) = (c.rootfs("dev/null"), c.rootfs("dev/link"));
    symlink(canary.path("file"), &null).unwrap();
    // Made on the way: the runtime refuses what is no null device under its name.
    c.run().refused("/dev/null");
    std::fs::rename(&null, &link).unwrap();
    let good = racing(&null, &link, &canary, || {
        let said = c.run();
        if said.status == 0 {
            said.has("stat /etc/secret: 20666 1:3");
        }
        succeeded(&said)
    });
    assert!(good > 0, "some rounds get through");
    let _ = std::fs::remove_file(&null);
    let _ = std::fs::remove_file(&link);
}

#[test]
fn a_masked_path_that_is_exchanged_is_masked_inside_or_not_at_all() {
    // CVE-2025-31133: the masked path itself is now a file, now a link out of the root, whose way exists in the container, too.
    let canary = Canary::new(&["file"]);
    let aim = canary.path("file");
    let aim = aim.to_str().unwrap();
    let verbs = ["cat", "/etc/secret", "cat", aim, "cat", "/proc/self/mountinfo"];
    let c = without_dev(Container::new(&verbs)).set("/linux/maskedPaths", json!(["/etc/secret"]));
    c.file("etc/secret", b"secret", 0o644);
    c.file(aim.trim_start_matches('/'), b"beside", 0o644);
    let (secret, away) = (c.rootfs("etc/secret"), c.rootfs("etc/away"));
    symlink(aim, &away).unwrap();
    let (mut file, mut link) = (0, 0);
    racing(&secret, &away, &canary, || {
        let said = c.run();
        if !succeeded(&said) {
            return false;
        }
        assert!(!said.out.contains("canary"), "{said:?}");
        // The mount goes with the file it lies on, whatever name that has by now: so there is one in every round, and it says
        // which of the two was met.
        let masks: Vec<Vec<&str>> = said.out.lines().map(|line| line.split(' ').collect()).collect();
        let at = |wanted: &[&str]| {
            masks
                .iter()
                .filter(|one| one.get(3) == Some(&"/null") && one.get(4).is_some_and(|at| wanted.contains(at)))
                .count()
        };
        let masked = (at(&["/etc/secret", "/etc/away"]), at(&[aim]));
        match masked {
            // Then nobody reads the file by any name.
            (1, 0) => assert!(!said.out.lines().any(|line| line.ends_with(": secret")), "{said:?}"),
            (0, 1) => assert!(!said.out.lines().any(|line| line.ends_with(": beside")), "{said:?}"),
            other => panic!("{other:?} masks: {said:?}"),
        }
        file += masked.0;
        link += masked.1;
        true
    });
    assert!(file > 0 && link > 0, "{file} rounds met the file, {link} the link");
}

#[test]
fn a_terminal_is_the_containers_own_whatever_lies_in_dev() {
    // CVE-2025-52565, CVE-2026-88264: the console's place and ptmx are exchanged for links to the host.
    let canary = Canary::new(&["console", "pts/ptmx"]);
    for (name, target) in [("dev/console", "console"), ("dev/pts", "pts")] {
        let devpts = json!({"destination": "/dev/pts", "type": "devpts", "options": ["newinstance", "ptmxmode=0666"]});
        let mut c = without_dev(Container::new(&["sleep"]))
            .push("/mounts", devpts)
            .set("/process/terminal", json!(true))
            .set("/process/user", json!({"uid": 1000, "gid": 1000}));
        c.config["linux"]["maskedPaths"] = json!([]);
        std::fs::create_dir_all(c.rootfs("dev/pts")).unwrap();
        if target == "console" {
            std::fs::write(c.rootfs(name), "").unwrap();
        }
        let link = c.rootfs("link");
        symlink(canary.path(target), &link).unwrap();
        let listener = UnixListener::bind(c.path("console.sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let good = racing(&c.rootfs(name), &link, &canary, || {
            let said = c.create_with(&["--console-socket", "console.sock"]);
            c.oci(&["delete", "--force", &c.id]).ok();
            while listener.accept().is_ok() {}
            succeeded(&said)
        });
        assert!(good > 0, "some rounds get through for {name}");
    }
}

/// What a container that may write where it likes would be after. A kernel may lack one of them.
fn machine_settings() -> [Option<Vec<u8>>; 3] {
    ["core_pattern", "sysrq", "hostname"].map(|name| std::fs::read(format!("/proc/sys/kernel/{name}")).ok())
}

/// A tree that looks like procfs to who does not look twice, and that everybody may write to: what goes astray arrives.
fn false_procfs() -> Canary {
    use std::os::unix::fs::PermissionsExt as _;
    let attributes = ["self/attr/exec", "self/attr/apparmor/exec", "thread-self/attr/exec", "1/attr/exec"];
    let maps = ["self/uid_map", "self/gid_map", "self/setgroups", "1/uid_map", "1/gid_map", "1/setgroups"];
    let others = ["sys/net/core/somaxconn", "self/oom_score_adj"];
    let files = [&attributes[..], &maps, &others].concat();
    let mut canary = Canary::new(&files);
    std::fs::set_permissions(canary.path(""), std::fs::Permissions::from_mode(0o755)).unwrap();
    for file in files {
        std::fs::set_permissions(canary.path(file), std::fs::Permissions::from_mode(0o666)).unwrap();
    }
    canary.before = seen(canary.dir.path());
    canary
}

/// Writes to procfs all that a configuration can ask for where the kernel has no labels, and tells what came of it.
fn writes_settings() -> Container {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let verbs = ["cat", "/proc/sys/net/core/somaxconn", "cat", "/proc/self/uid_map", "cat", "/proc/self/oom_score_adj"];
    let c = Container::new(&verbs)
        .set("/linux/sysctl", json!({"net.core.somaxconn": "77"}))
        .set("/process/oomScoreAdj", json!(500))
        .push("/linux/namespaces", json!({"type": "user"}))
        .set("/linux/uidMappings", map.clone())
        .set("/linux/gidMappings", map);
    std::os::unix::fs::chown(c.rootfs(""), Some(100_000), Some(100_000)).unwrap();
    std::fs::create_dir_all(c.rootfs("proc")).unwrap();
    c
}

/// Whether the kernel has what was written.
fn settings_hold(said: &Said) -> bool {
    let map = said.out.lines().find_map(|line| line.strip_prefix("/proc/self/uid_map: ")).unwrap_or_default();
    let map: Vec<&str> = map.split_whitespace().collect();
    // Exchanged behind the mount, the path may lead nowhere.
    succeeded(said)
        && said.out.contains("/proc/sys/net/core/somaxconn: 77")
        && said.out.contains("/proc/self/oom_score_adj: 500")
        && map == ["0", "100000", "65536"]
}

#[test]
fn settings_are_written_to_the_kernels_procfs_only() {
    // CVE-2025-52881, CVE-2019-19921: /proc of the image is now a folder, now a link to a tree that looks like procfs.
    let (canary, before) = (false_procfs(), machine_settings());
    let c = writes_settings();
    let link = c.rootfs("link");
    symlink(canary.path(""), &link).unwrap();
    let good = racing(&c.rootfs("proc"), &link, &canary, || {
        let said = c.run();
        assert!(!said.out.contains("canary"), "{said:?}");
        settings_hold(&said)
    });
    assert!(good > 0, "some rounds get through");
    assert_eq!(machine_settings(), before);
}

#[test]
fn a_shared_mount_that_comes_over_proc_gets_no_setting() {
    // CVE-2025-52881: somebody mounts a tree that looks like procfs where the image has its /proc, and the container's root gets
    // what is mounted there, as its configuration asks. The program may see that tree then; no setting may be written to it.
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let none = None::<&str>;
    let (canary, before) = (false_procfs(), machine_settings());
    let c = writes_settings().set("/linux/rootfsPropagation", json!("slave"));
    mount(Some(&c.rootfs("")), &c.rootfs(""), none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &c.rootfs(""), none, MsFlags::MS_SHARED, none).unwrap();
    let mounts = host_mounts();
    let (proc, tree) = (c.rootfs("proc"), canary.path(""));
    let over = || {
        mount(Some(&tree), &proc, none, MsFlags::MS_BIND, none).unwrap();
        // Half of the time it is there.
        std::thread::yield_now();
        umount2(&proc, MntFlags::MNT_DETACH).unwrap();
    };
    // What was there before is covered by the container's own.
    mount(Some(&tree), &proc, none, MsFlags::MS_BIND, none).unwrap();
    let said = c.run().ok();
    umount2(&proc, MntFlags::MNT_DETACH).unwrap();
    assert!(settings_hold(&said), "{said:?}");
    canary.check("mounted before");
    let good = against(over, &canary, || settings_hold(&c.run()));
    assert_eq!(host_mounts(), mounts, "no mount of a container's reaches the host");
    umount2(&c.rootfs(""), MntFlags::MNT_DETACH).unwrap();
    assert!(good > 0, "some rounds get through");
    assert_eq!(machine_settings(), before);
}
