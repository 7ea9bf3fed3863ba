//! A bundle, a runtime root and a cgroup that go away with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

/// The program of the test rootfs and the runtime itself, kept in memory: each thread's /tmp is its own, and the checkout may lie
/// in the machine's.
struct Programs {
    inspect: Vec<u8>,
    runtime: Vec<u8>,
}

fn programs() -> &'static Programs {
    static BUILT: OnceLock<Programs> = OnceLock::new();
    BUILT.get_or_init(|| {
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("inspect-{}", std::process::id()));
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/programs/inspect.rs");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut build = Command::new(rustc);
        build.args(["--edition", "2024", "-O", "--target", &target, "-o"]).arg(&out).arg(source);
        let built = build.output().expect("rustc");
        assert!(built.status.success(), "building the test program: {}", String::from_utf8_lossy(&built.stderr));
        let inspect = std::fs::read(&out).unwrap();
        std::fs::remove_file(&out).unwrap();
        Programs { inspect, runtime: std::fs::read(env!("CARGO_BIN_EXE_orlop-oci")).unwrap() }
    })
}

/// Starts a program. Writing an executable and forking exclude each other here: a fork in between would keep the file open for
/// writing until its own exec, and running the file would fail with ETXTBSY.
pub(crate) fn spawn(command: &mut Command) -> Child {
    try_spawn(command).unwrap()
}

fn try_spawn(command: &mut Command) -> std::io::Result<Child> {
    let _no_writer = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    command.spawn()
}

static FORKS: RwLock<()> = RwLock::new(());

pub(crate) fn output(command: &mut Command) -> Output {
    try_output(command).unwrap()
}

/// Where somebody may keep the program from running.
pub(crate) fn try_output(command: &mut Command) -> std::io::Result<Output> {
    try_spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()))?.wait_with_output()
}

/// Puts this thread where it can do no harm.
fn enter_machine() {
    thread_local!(static ENTERED: () = {
        assert!(nix::unistd::geteuid().is_root(), "these tests make namespaces and cgroups: run them as root");
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace (CAP_SYS_ADMIN is needed)");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).expect("private mounts");
        mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::empty(), none).expect("a tmpfs on /tmp");
        let readonly = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, "/", none, readonly, none).expect("a read-only root");
        let cgroup2 = nix::sys::statfs::statfs("/sys/fs/cgroup").is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC);
        if !cgroup2 {
            mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none)
                .expect("cgroup v2 on /sys/fs/cgroup: this kernel has none to mount");
        }
    });
    ENTERED.with(|()| ());
}

pub(crate) struct Container {
    dir: tempfile::TempDir,
    /// A copy of the binary on a writable file system, as most machines have it.
    pub(crate) runtime: PathBuf,
    pub(crate) id: String,
    pub(crate) config: Value,
}

/// What the runtime said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn from(output: &Output) -> Said {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { status: Said::status_of(output.status), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// A death by signal counts as 1000 plus its number: no exit status is that large.
    pub(crate) fn status_of(status: std::process::ExitStatus) -> i32 {
        use std::os::unix::process::ExitStatusExt as _;
        status.code().unwrap_or_else(|| 1000 + status.signal().unwrap_or(0))
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Said {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    /// It failed with these words.
    #[track_caller]
    pub(crate) fn refused(self, words: &str) -> Said {
        assert!(matches!(self.status, 1 | 255) && self.err.contains(words), "wanted {words:?}: {self:?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "one line: {self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn has(&self, line: &str) -> &Said {
        assert!(self.out.lines().any(|one| one == line), "wanted {line:?} in:\n{}\n{}", self.out, self.err);
        self
    }
}

pub(crate) const TEST_CGROUPS: &str = "/sys/fs/cgroup/orlop-oci-tests";

impl Container {
    /// A container whose program does what `verbs` say (see programs/inspect.rs).
    pub(crate) fn new(verbs: &[&str]) -> Container {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let programs = programs();
        enter_machine();
        let id = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("rootfs/bin")).unwrap();
        let mut config: Value = serde_json::from_str(include_str!("../../src/runtime/ops/spec.json")).unwrap();
        // Without what a test has to ask for, or an ordinary user cannot have: a terminal and its group, device rules.
        config["mounts"][2]["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
        config["process"]["terminal"] = false.into();
        config["linux"]["resources"] = Value::Null;
        config["linux"]["cgroupsPath"] = format!("/orlop-oci-tests/{id}").into();
        let container = Container { runtime: dir.path().join("orlop-oci"), dir, id, config };
        container.file("bin/inspect", &programs.inspect, 0o755);
        container.file("../orlop-oci", &programs.runtime, 0o755);
        container.with_args(verbs)
    }

    pub(crate) fn with_args(mut self, verbs: &[&str]) -> Container {
        let mut args = vec!["/bin/inspect"];
        args.extend(verbs);
        self.config["process"]["args"] = json!(args);
        self
    }

    /// Sets one field, named by a JSON pointer.
    pub(crate) fn set(mut self, pointer: &str, value: Value) -> Container {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        match self.config.pointer_mut(parent).unwrap() {
            Value::Array(all) => all[name.parse::<usize>().unwrap()] = value,
            object => object[name] = value,
        }
        self
    }

    pub(crate) fn push(mut self, pointer: &str, value: Value) -> Container {
        self.config.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(value);
        self
    }

    pub(crate) fn capabilities(self, names: &[&str]) -> Container {
        self.set("/process/capabilities", json!({"bounding": names, "effective": names, "permitted": names}))
    }

    /// A bind mount of a host path.
    pub(crate) fn bind(self, source: &Path, destination: &str, options: &[&str]) -> Container {
        let mount = json!({"destination": destination, "source": source, "type": "bind", "options": options});
        self.push("/mounts", mount)
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub(crate) fn rootfs(&self, below: &str) -> PathBuf {
        self.path("rootfs").join(below)
    }

    pub(crate) fn file(&self, below: &str, content: &[u8], mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.rootfs(below);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        {
            let _no_forks = FORKS.write().unwrap_or_else(PoisonError::into_inner);
            std::fs::write(&path, content).unwrap();
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    /// It lies there from now on.
    pub(crate) fn copy_runtime(&mut self, to: &Path) {
        self.file(to.to_str().unwrap(), &programs().runtime, 0o755);
        self.runtime = to.to_owned();
    }

    pub(crate) fn write_config(&self) {
        std::fs::write(self.path("config.json"), self.config.to_string()).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(self.path("state")).args(args).current_dir(self.dir.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn oci(&self, args: &[&str]) -> Said {
        Said::from(&output(&mut self.command(args)))
    }

    /// `create` with output into a file: a pipe would stay open as long as the container has it.
    pub(crate) fn create(&self) -> Said {
        self.create_with(&[])
    }

    pub(crate) fn create_with(&self, more: &[&str]) -> Said {
        self.write_config();
        let file = |name: &str| std::fs::File::create(self.path(name)).unwrap();
        let mut command = self.command(&["create"]);
        command.args(more).arg(&self.id).stdout(file("out")).stderr(file("err"));
        let mut said = Said::from(&spawn(&mut command).wait_with_output().unwrap());
        said.err = std::fs::read_to_string(self.path("err")).unwrap();
        said
    }

    pub(crate) fn start(&self) -> Said {
        self.oci(&["start", &self.id])
    }

    pub(crate) fn run(&self) -> Said {
        self.write_config();
        self.oci(&["run", &self.id])
    }

    /// `sh -c` in front: for what only a caller can arrange, such as descriptors left open.
    pub(crate) fn run_behind(&self, shell: &str, more: &str) -> Said {
        self.write_config();
        self.behind(shell, &format!("run {more} {}", self.id))
    }

    pub(crate) fn behind(&self, shell: &str, args: &str) -> Said {
        let (runtime, state) = (&self.runtime, self.path("state"));
        let line = format!("{shell}; exec {} --root {} {args}", runtime.display(), state.display());
        let mut bash = Command::new("bash");
        bash.args(["-c", &line]).current_dir(self.dir.path()).stdin(Stdio::null());
        Said::from(&output(&mut bash))
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.oci(&["state", &self.id]).ok().out).unwrap()
    }

    pub(crate) fn pid(&self) -> i32 {
        self.state()["pid"].as_i64().unwrap().try_into().unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_for_status(&self, status: &str) {
        wait_until(&format!("status {status}"), || self.state()["status"] == status);
    }

    /// What the container has written so far (after `create`).
    pub(crate) fn output(&self) -> String {
        std::fs::read_to_string(self.path("out")).unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_for_output(&self, line: &str) {
        wait_until(&format!("the line {line:?}"), || self.output().lines().any(|one| one == line));
    }

    pub(crate) fn cgroup(&self, file: &str) -> PathBuf {
        Path::new(TEST_CGROUPS).join(&self.id).join(file)
    }

    /// Nothing of the container is left.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        assert_eq!(self.left_behind(), "");
    }

    pub(crate) fn left_behind(&self) -> String {
        let mut left = String::new();
        for path in [self.cgroup(""), self.path("state").join(&self.id)] {
            if path.exists() {
                left += &format!("{} ", path.display());
            }
        }
        // This thread's: the process's first one sees the machine's.
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let here = self.dir.path().to_str().unwrap();
        left + &mounts.lines().filter(|line| line.contains(here)).collect::<String>()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = output(&mut self.command(&["delete", "--force", &self.id]));
            return;
        }
        self.oci(&["delete", "--force", &self.id]).ok();
        self.assert_gone();
        // The last one takes the folder of all with it.
        let _ = std::fs::remove_dir(TEST_CGROUPS);
    }
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::yield_now();
    }
}
