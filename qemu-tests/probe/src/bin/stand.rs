//! PID 1 of the machine in which container runtimes are measured (`cargo bench -- oci`).
//!
//! The machine counts instructions: a nanosecond of its clock is one. So what is measured is exact, and waiting is free: after
//! each round the kernel gets time to finish what it put off, which would otherwise be counted for the next one.
//!
//! Reads `/subjects` (a line each: name, program, rounds), prints a line a measurement: `RESULT name case unit value…`.
//! Every runtime gets the same bundles; the programs lie on a read-only file system, as they do on an Orlop machine.

#![allow(unsafe_code)] // mount, chroot, wait4, reboot

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ID: &str = "x";
/// Where `orlop-oci` keeps the compiled filter of a container, and where the floor gets it.
const COMPILED: &str = "/run/orlop-oci/x/seccomp.bpf";
const FILTER: &str = "/run/filter";

struct Subject {
    name: String,
    program: String,
    rounds: usize,
}

/// What one command cost: million instructions, and its peak resident memory in bytes.
#[derive(Clone, Copy)]
struct Cost {
    millions: f64,
    rss_bytes: u64,
}

fn main() {
    let result = set_up().and_then(|()| measure_all());
    if let Err(error) = result {
        println!("FAILED the stand: {error}");
    }
    println!("STAND END");
    // SAFETY: nothing runs here that could lose anything.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
}

/// A root that pivot_root accepts (the initramfs is none), read-only but for what runtimes write.
fn set_up() -> io::Result<()> {
    fs::create_dir("/new")?;
    mount("tmpfs", "/new", 0)?;
    for entry in fs::read_dir("/")?.flatten().filter(|entry| entry.file_name() != "new") {
        copy(&entry.path(), &Path::new("/new").join(entry.file_name()))?;
    }
    for folder in ["proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(Path::new("/new").join(folder))?;
    }
    std::env::set_current_dir("/new")?;
    mount_at(".", "/", "", libc::MS_MOVE)?;
    std::os::unix::fs::chroot(".")?;
    std::env::set_current_dir("/")?;
    mount_at("none", "/", "", libc::MS_REC | libc::MS_PRIVATE)?;
    for (kind, target) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")] {
        mount(kind, target, 0)?;
    }
    mount("tmpfs", "/tmp", 0)?;
    mount("cgroup2", "/sys/fs/cgroup", 0)?;
    mount_at("none", "/", "", libc::MS_REMOUNT | libc::MS_RDONLY)?;
    // What every machine has enabled before the first container starts.
    fs::create_dir("/sys/fs/cgroup/bench")?;
    for cgroup in ["", "bench/"] {
        let file = format!("/sys/fs/cgroup/{cgroup}cgroup.subtree_control");
        fs::write(&file, "+cpu +memory +pids +io").map_err(|e| io::Error::other(format!("{file}: {e}")))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let kind = fs::symlink_metadata(from)?;
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)
    } else if kind.is_dir() {
        fs::create_dir(to)?;
        fs::read_dir(from)?.flatten().try_for_each(|entry| copy(&entry.path(), &to.join(entry.file_name())))
    } else if kind.is_file() {
        fs::copy(from, to)?;
        fs::set_permissions(to, fs::Permissions::from_mode(kind.permissions().mode()))
    } else {
        Ok(())
    }
}

fn mount(kind: &str, target: &str, flags: u64) -> io::Result<()> {
    mount_at(kind, target, kind, flags)
}

fn mount_at(source: &str, target: &str, kind: &str, flags: u64) -> io::Result<()> {
    let (from, to, kind) = (CString::new(source)?, CString::new(target)?, CString::new(kind)?);
    // SAFETY: all three are strings that live through the call; there is no data.
    let result = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    if result == 0 { Ok(()) } else { Err(io::Error::other(format!("mount {target}: {}", io::Error::last_os_error()))) }
}

fn measure_all() -> io::Result<()> {
    for line in fs::read_to_string("/subjects")?.lines() {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        let subject = Subject { name: word(), program: word(), rounds: word().parse().unwrap_or(5) };
        if let Err(error) = subject.measure() {
            println!("FAILED {}: {error}", subject.name);
        }
    }
    Ok(())
}

impl Subject {
    fn is_floor(&self) -> bool {
        self.name == "floor"
    }

    fn measure(&self) -> io::Result<()> {
        let root = format!("/run/{}", self.name);
        fs::create_dir_all(&root)?;
        if !self.is_floor() {
            let version = Command::new(&self.program).arg("--version").output()?.stdout;
            println!("VERSION {} {}", self.name, String::from_utf8_lossy(&version).lines().next().unwrap_or_default());
        }
        for case in ["run", "run_seccomp"] {
            let costs = self.repeat(|| self.call(case, "run", &["--bundle", &bundle(case), ID]))?;
            self.print(case, &costs);
            if case == "run" {
                let all: Vec<String> = costs.iter().map(|cost| cost.rss_bytes.to_string()).collect();
                println!("RESULT {} rss bytes {}", self.name, all.join(" "));
            }
        }
        if self.name == "orlop-oci" {
            self.call("cycle_seccomp", "create", &["--bundle", &bundle("cycle_seccomp"), ID])?;
            fs::copy(COMPILED, FILTER)?;
            self.call("cycle_seccomp", "delete", &["--force", ID])?;
            reap(true);
        }
        for case in ["cycle", "cycle_seccomp"] {
            let costs = self.repeat(|| self.cycle(case))?;
            self.print(case, &costs);
        }
        self.call("cycle", "create", &["--bundle", &bundle("cycle"), ID])?;
        self.call("cycle", "start", &[ID])?;
        let costs = self.repeat(|| self.call("exec", "exec", &[ID, "/bin/true"]))?;
        self.print("exec", &costs);
        self.call("cycle", "kill", &[ID, "KILL"])?;
        reap(true);
        self.call("cycle", "delete", &[ID])?;
        Ok(())
    }

    /// A container's life, from before `create` to behind `delete`. One measure with no gaps: whether the kernel does a container's
    /// exec or its end while the runtime's process still runs, or when the engine's waits, is chance.
    fn cycle(&self, case: &str) -> io::Result<Cost> {
        let started = Instant::now();
        let mut cost = self.call(case, "create", &["--bundle", &bundle(case), ID])?;
        self.call(case, "start", &[ID])?;
        self.call(case, "kill", &[ID, "KILL"])?;
        // The engine's part: it takes the end of the process, then asks for the rest to be removed.
        reap(true);
        self.call(case, "delete", &[ID])?;
        cost.millions = started.elapsed().as_nanos() as f64 / 1e6;
        Ok(cost)
    }

    fn repeat(&self, mut once: impl FnMut() -> io::Result<Cost>) -> io::Result<Vec<Cost>> {
        // What the first one does for all (files read, caches filled) is not what is asked.
        once()?;
        (0..self.rounds)
            .map(|_| {
                reap(false);
                // The kernel does the rest of the last round's work (cgroups, namespaces) later, and nothing tells when it is
                // done: not in the next round's measure.
                std::thread::sleep(Duration::from_millis(50));
                once()
            })
            .collect()
    }

    fn call(&self, case: &str, verb: &str, args: &[&str]) -> io::Result<Cost> {
        let mut command = Command::new(&self.program);
        if self.is_floor() {
            command.arg(verb);
            if case.ends_with("_seccomp") && matches!(verb, "run" | "create") {
                command.arg(FILTER);
            }
        } else {
            command.arg("--root").arg(format!("/run/{}", self.name)).arg(verb).args(args);
        }
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        // Its words are kept for the case that it fails: a pipe would have to be read meanwhile.
        let said = fs::File::create("/tmp/said")?;
        command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let started = Instant::now();
        let child = command.spawn()?;
        let (status, rss_bytes) = wait(child.id())?;
        let millions = started.elapsed().as_nanos() as f64 / 1e6;
        if status != 0 {
            let said = fs::read_to_string("/tmp/said").unwrap_or_default();
            return Err(io::Error::other(format!("{verb} ({case}) ended with {status}: {}", said.trim())));
        }
        Ok(Cost { millions, rss_bytes })
    }

    fn print(&self, case: &str, costs: &[Cost]) {
        let all: Vec<String> = costs.iter().map(|cost| format!("{:.3}", cost.millions)).collect();
        println!("RESULT {} {case} millions {}", self.name, all.join(" "));
    }
}

fn bundle(case: &str) -> String {
    format!("/bundle/{case}")
}

/// The status of a child, and the most memory it or a child of its own had.
fn wait(pid: u32) -> io::Result<(i32, u64)> {
    let mut status = 0;
    // SAFETY: rusage is plain integers; all zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both buffers are whole and live through the call.
    if unsafe { libc::wait4(pid.cast_signed(), &raw mut status, 0, &raw mut usage) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((status, usage.ru_maxrss.unsigned_abs() * 1024))
}

/// Takes the ends of processes whose parents are gone; `one` waits for the next first.
fn reap(one: bool) {
    let flags = if one { 0 } else { libc::WNOHANG };
    // SAFETY: a null status pointer is allowed: the status is dropped.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), flags) } > 0 && !one {}
}
