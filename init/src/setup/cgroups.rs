//! The cgroup tree: `/init` (PID 1), `/orlop` (the supervisor and what it starts, until that joins a container's
//! cgroup), `/containers/<unit>`. PID 1 and supervisor keep memory, CPU and process ids when the containers want all.

use std::fs;
use std::io;

use crate::story;

const ROOT: &str = "/sys/fs/cgroup";
const MIB: u64 = 1 << 20;

/// What the tree promises and what it allows, from the size of the machine.
#[derive(Debug, PartialEq, Eq)]
struct Limits {
    init_min_bytes: u64,
    supervisor_min_bytes: u64,
    containers_max_bytes: u64,
    containers_max_pids: u64,
}

impl Limits {
    fn of(memory_bytes: u64, threads_max: u64) -> Self {
        // The kernel's own growing needs (slabs, page tables) come out of the reserve too.
        let reserve = (memory_bytes / 8).clamp(24 * MIB, 512 * MIB).min(memory_bytes / 2);
        Self {
            init_min_bytes: 2 * MIB,
            supervisor_min_bytes: (memory_bytes / 8).min(32 * MIB),
            containers_max_bytes: memory_bytes - reserve,
            containers_max_pids: (threads_max - threads_max / 4).max(64),
        }
    }
}

/// Builds the tree and moves this process into `/init`. What the kernel or a namespace refuses is said and left out.
pub(super) fn set_up() {
    if !super::mounts::is_mount_point(ROOT) {
        // Said by the mounts already.
        return;
    }
    for name in ["init", "orlop", "containers"] {
        match fs::create_dir(format!("{ROOT}/{name}")) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => warn(name, "", "make it", &error),
            _ => {}
        }
    }
    // Before the controllers are enabled: a cgroup with processes of its own cannot hand them on (outside the true root).
    set("init", "cgroup.procs", "0");
    enable_usual("");
    enable_usual("containers");

    let memory_bytes = nix::sys::sysinfo::sysinfo().map_or(64 * MIB, |info| info.ram_total());
    let threads = fs::read_to_string("/proc/sys/kernel/threads-max").ok().and_then(|text| text.trim().parse().ok());
    let limits = Limits::of(memory_bytes, threads.unwrap_or(1024));
    set("init", "memory.min", &limits.init_min_bytes.to_string());
    set("orlop", "memory.min", &limits.supervisor_min_bytes.to_string());
    set("containers", "memory.max", &limits.containers_max_bytes.to_string());
    set("containers", "pids.max", &limits.containers_max_pids.to_string());
    for name in ["init", "orlop"] {
        set(name, "cpu.weight", "1000");
    }
    // Inherited by the supervisor; the runtime gives every container its own value.
    if let Err(error) = fs::write("/proc/self/oom_score_adj", "-1000") {
        story::warn("cgroups", format_args!("write -1000 to /proc/self/oom_score_adj: {error}"));
    }
}

/// Makes the supervisor's cgroup anew when nothing is left in it. Once it was killed as a whole (`cgroup.kill`) every child that
/// CLONE_INTO_CGROUP brings from it into another one, as the runtime does with each container, is killed at birth: see
/// `sys::spawn`. False: it was, and what was killed is not gone yet.
pub(crate) fn renew_supervisors() -> bool {
    const KEPT: [&str; 2] = ["memory.min", "cpu.weight"];
    let folder = format!("{ROOT}/orlop");
    let values = KEPT.map(|file| fs::read_to_string(format!("{folder}/{file}")).unwrap_or_default());
    match fs::remove_dir(&folder) {
        Ok(()) => {}
        // Processes of the runtime live in it: then nobody has killed it as a whole.
        Err(error) => return error.kind() != io::ErrorKind::ResourceBusy || !is_dying(&folder),
    }
    if let Err(error) = fs::create_dir(&folder) {
        warn("orlop", "", "make it anew", &error);
    }
    for (file, value) in KEPT.iter().zip(&values).filter(|(_, value)| !value.is_empty()) {
        set("orlop", file, value.trim());
    }
    true
}

/// Whether nobody is left in a cgroup but who was killed. (The kernel lists no process that has begun to end.) One with others below
/// it is not ours to understand.
fn is_dying(folder: &str) -> bool {
    let lives = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| !is_killed(&status));
    fs::read_to_string(format!("{folder}/cgroup.stat")).is_ok_and(|stat| stat.starts_with("nr_descendants 0\n"))
        && fs::read_to_string(format!("{folder}/cgroup.procs")).is_ok_and(|all| !all.lines().any(lives))
}

/// By the signals that wait for it (proc_pid_status(5)).
fn is_killed(status: &str) -> bool {
    let waiting = status.lines().find_map(|line| line.strip_prefix("SigPnd:"));
    let waiting = waiting.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    waiting.is_some_and(|set| set & 1 << (libc::SIGKILL - 1) != 0)
}

/// Hands on what containers have limits or statistics of, one write each: one that fails must not cost the others. The others
/// (hugetlb, rdma, misc) would cost each container some 9 KiB of the kernel's memory; the runtime enables them for a limit that
/// needs them.
fn enable_usual(name: &str) {
    let folder = if name.is_empty() { ROOT.to_owned() } else { format!("{ROOT}/{name}") };
    let there = fs::read_to_string(format!("{folder}/cgroup.controllers")).unwrap_or_default();
    let usual = |one: &&str| ["cpuset", "cpu", "io", "memory", "pids"].contains(one);
    for controller in there.split_ascii_whitespace().filter(usual) {
        set(name, "cgroup.subtree_control", &format!("+{controller}"));
    }
}

fn set(name: &str, file: &str, value: &str) {
    if let Err(error) = fs::write(format!("{ROOT}/{name}/{file}"), value) {
        warn(name, file, value, &error);
    }
}

fn warn(name: &str, file: &str, value: &str, error: &io::Error) {
    story::warn("cgroups", format_args!("/{name}/{file}: {value}: {error}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_killed_has_that_signal_waiting() {
        assert!(is_killed("Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(is_killed("SigPnd:\t0000000000004101\n"));
        assert!(!is_killed("SigPnd:\t0000000000000000\nSigBlk:\t0000000000000100\n") && !is_killed(""));
        let own = fs::read_to_string("/proc/self/status").unwrap();
        assert!(own.contains("\nSigPnd:\t") && !is_killed(&own));
    }

    #[test]
    fn the_reserve_grows_with_the_machine_within_bounds() {
        let small = Limits::of(64 * MIB, 500);
        assert_eq!(small.containers_max_bytes, 40 * MIB);
        assert_eq!(small.supervisor_min_bytes, 8 * MIB);
        assert_eq!(small.containers_max_pids, 375);
        assert_eq!(Limits::of(1024 * MIB, 8000).containers_max_bytes, 896 * MIB);
        let large = Limits::of(65536 * MIB, 500_000);
        assert_eq!((large.containers_max_bytes, large.supervisor_min_bytes), (65024 * MIB, 32 * MIB));
        let tiny = Limits::of(16 * MIB, 10);
        assert_eq!((tiny.containers_max_bytes, tiny.containers_max_pids), (8 * MIB, 64));
    }
}
