//! The namespaces of a test: an own pid tree, an own cgroup, an own network (the supervisor configures what it finds), tmpfs where
//! the supervisor writes; the rest of the file system is the host's, read-only.

use std::{
    env,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::shim;

const INSIDE: &str = "ORLOP_TEST_INSIDE";
const RUNTIME: &str = "ORLOP_OCI";

static RUNTIME_IN_PLACE: OnceLock<PathBuf> = OnceLock::new();

/// What the body of a test works with, as PID 1 of its namespaces.
pub(crate) struct Place;

/// Runs the body in fresh namespaces: this test program executes itself there, for this one test.
pub(crate) fn inside(test: &str, body: impl FnOnce(&Place)) {
    if let Some(mark) = env::var_os(INSIDE) {
        fs::write(mark, "").unwrap();
        let place = Place::furnish();
        return body(&place);
    }
    assert!(nix::unistd::geteuid().is_root(), "these tests make namespaces and mounts: run them as root");
    let cgroup = own_cgroup(test);
    let program = env::current_exe().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("entered");
    let status = Command::new("sh")
        .arg("-c")
        .arg(r#"echo $$ > "$1/cgroup.procs" && shift && exec unshare --mount --pid --fork --cgroup --net --mount-proc --kill-child "$@""#)
        .arg("sh")
        .arg(&cgroup)
        .arg(&program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, &mark)
        .env(RUNTIME, runtime())
        .status()
        .unwrap();
    // The pid namespace is gone, and with it every process; what is left are empty cgroups.
    remove_cgroup(&cgroup);
    assert!(status.success(), "{test} failed inside its namespaces: {status}");
    assert!(mark.exists(), "{test} is no test of this program");
}

fn runtime() -> PathBuf {
    if let Some(runtime) = env::var_os(RUNTIME) {
        return runtime.into();
    }
    let status = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "oci", "--bin", "orlop-oci"]).status();
    assert!(status.is_ok_and(|status| status.success()), "cargo build of the runtime");
    Path::new(env!("CARGO_BIN_EXE_orlop")).with_file_name("orlop-oci")
}

/// A cgroup of the version 2 hierarchy below our own, named after the test.
fn own_cgroup(test: &str) -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")).expect("a cgroup2 mount");
    let root = mount.split(' ').nth(1).unwrap();
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = cgroups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let path = Path::new(root).join(own).join(format!("{test}-{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

fn remove_cgroup(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

impl Place {
    fn furnish() -> Self {
        let tmpfs = |path: &str| mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let etc: Vec<(PathBuf, Vec<u8>)> = ["passwd", "group", "ld.so.cache"]
            .iter()
            .map(|name| Path::new("/etc").join(name))
            .filter_map(|path| Some((path.clone(), fs::read(&path).ok()?)))
            .collect();
        // Not all of /var: the programs under test may lie below /var/tmp.
        for path in ["/etc", "/run", "/var/lib", "/var/log"] {
            tmpfs(path);
        }
        for (path, bytes) in etc {
            fs::write(path, bytes).unwrap();
        }
        mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), None::<&str>).unwrap();
        for path in [
            "/etc/containers.d",
            "/var/lib/orlop",
            "/var/log/orlop",
            "/sys/fs/cgroup/containers",
            "/sys/fs/cgroup/orlop",
        ] {
            fs::create_dir_all(path).unwrap();
        }
        if !has_controllers() {
            let runtime = PathBuf::from(env::var_os(RUNTIME).unwrap());
            RUNTIME_IN_PLACE.set(shim::install(Path::new("/run"), &runtime)).unwrap();
        }
        fs::set_permissions("/run", fs::Permissions::from_mode(0o755)).unwrap();
        image(Path::new("/var/lib/orlop/images"));
        Self
    }

    /// A unit that runs a shell script with the host's programs.
    pub(crate) fn unit(&self, name: &str, script: &str, container: &str, sections: &str) {
        let volumes: String = ["/bin", "/lib", "/lib64", "/usr"]
            .iter()
            .filter(|path| Path::new(path).exists())
            .map(|path| format!("Volume={path}:{path}:ro\n"))
            .collect();
        // Limits that a host without controllers and spare privileges can give.
        let limits = "PidsLimit=-1\nUlimit=nofile=256:256\nUlimit=nproc=1024:1024";
        let text = format!(
            "[Container]\nImage=localhost/shell:latest\nNetwork=none\n{limits}\n{volumes}{container}\n\
             Exec=/bin/sh -c \"{script}\"\n{sections}\n"
        );
        fs::write(format!("/etc/containers.d/{name}.container"), text).unwrap();
    }

    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let path = format!("/etc/containers.d/{name}.container");
        fs::write(&path, change(fs::read_to_string(&path).unwrap())).unwrap();
    }

    /// Containers of a unit that live: processes of its cgroup that are the first in their pid namespace.
    pub(crate) fn live_containers(&self, unit: &str) -> usize {
        let procs = fs::read_to_string(format!("/sys/fs/cgroup/containers/{unit}/cgroup.procs")).unwrap_or_default();
        let is_first = |pid: &&str| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            pids.split_ascii_whitespace().count() > 1 && pids.split_ascii_whitespace().last() == Some("1")
        };
        procs.lines().filter(is_first).count()
    }

    /// The unit's shell has come to its `sleep`.
    pub(crate) fn sleeps(&self, unit: &str) -> bool {
        let procs = fs::read_to_string(format!("/sys/fs/cgroup/containers/{unit}/cgroup.procs")).unwrap_or_default();
        procs.lines().any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "sleep\n"))
    }

    /// A supervisor lives, whoever its parent is.
    pub(crate) fn has_supervisor(&self) -> bool {
        let procs = fs::read_to_string("/sys/fs/cgroup/orlop/cgroup.procs").unwrap();
        procs.lines().any(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == "orlop\n"))
    }

    /// A persistent timer has left word of when it triggered.
    pub(crate) fn timer_stamp(&self, timer: &str) -> bool {
        Path::new("/var/lib/orlop/timers").join(timer).exists()
    }

    /// A folder for containers to say something in.
    pub(crate) fn shared_folder(&self) -> PathBuf {
        fs::create_dir_all("/var/lib/orlop/shared").unwrap();
        "/var/lib/orlop/shared".into()
    }

    /// A disk for the logs that is soon full, and then is not.
    pub(crate) fn small_log_disk(&self) {
        mount(Some("tmpfs"), "/var/log/orlop", Some("tmpfs"), MsFlags::empty(), Some("size=256k")).unwrap();
    }

    pub(crate) fn free_log_disk(&self) {
        mount(None::<&str>, "/var/log/orlop", None::<&str>, MsFlags::MS_REMOUNT, Some("size=64m")).unwrap();
    }

    /// What the supervisor is to use.
    pub(crate) fn runtime(&self) -> PathBuf {
        RUNTIME_IN_PLACE.get().cloned().unwrap_or_else(|| env::var_os(RUNTIME).unwrap().into())
    }

    pub(crate) fn mounts(&self) -> String {
        fs::read_to_string("/proc/self/mounts").unwrap()
    }
}

/// Hands the controllers down to the containers, as PID 1 does; false when this host keeps them elsewhere.
fn has_controllers() -> bool {
    let root = Path::new("/sys/fs/cgroup");
    // A cgroup with processes cannot give controllers to those below it.
    fs::create_dir_all(root.join("init")).unwrap();
    fs::write(root.join("init/cgroup.procs"), "1").unwrap();
    [root, &root.join("containers")]
        .iter()
        .all(|path| fs::write(path.join("cgroup.subtree_control"), "+memory +pids").is_ok())
}

/// An OCI layout with an image of one layer, folders to mount the host's programs on; and one that is there for two platforms, with a
/// folder that says for which.
fn image(layout: &Path) {
    let own = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let folders = ["bin", "lib", "lib64", "usr", "etc", "proc", "sys", "dev", "tmp"];
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let mut manifests = Vec::new();
    for (name, architecture, more) in [
        ("localhost/shell:latest", own, None),
        ("localhost/many:latest", own, Some("of-the-machine")),
        ("localhost/many:latest", "s390x", Some("of-another")),
    ] {
        let folders: Vec<&str> = folders.into_iter().chain(more).collect();
        let mut manifest = manifest(&blobs, architecture, &folders);
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        if more.is_some() {
            manifest["platform"] = json!({ "os": "linux", "architecture": architecture });
        }
        manifests.push(manifest);
    }
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let mut marker =
        OpenOptions::new().write(true).create(true).truncate(true).open(layout.join("oci-layout")).unwrap();
    marker.write_all(br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

fn manifest(blobs: &Path, architecture: &str, folders: &[&str]) -> Value {
    let blob = |kind: &str, bytes: &[u8]| {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{digest}"), "size": bytes.len() })
    };
    let layer = blob("layer.v1.tar", &tar(folders));
    let config = json!({
        "architecture": architecture, "os": "linux", "config": { "Cmd": ["/bin/sh"] },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = blob("config.v1+json", config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer],
    });
    blob("manifest.v1+json", manifest.to_string().as_bytes())
}

/// A tar archive of empty folders.
fn tar(folders: &[&str]) -> Vec<u8> {
    let mut archive = Vec::new();
    for folder in folders {
        let mut header = [0u8; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, format!("{folder}/").as_bytes());
        put(100, b"0000755\0");
        put(108, b"0000000\0");
        put(116, b"0000000\0");
        put(124, b"00000000000\0");
        put(136, b"00000000000\0");
        put(148, b"        ");
        put(156, b"5");
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
    }
    archive.extend_from_slice(&[0; 1024]);
    archive
}
