//! What a booted machine is like, looked at from a container that sees the whole of it.

use crate::first::first;
use crate::support::run_probe;
use std::collections::HashMap;

/// `FILE: TEXT` lines of a unit that shows files.
fn shown(unit: &str) -> HashMap<String, String> {
    let lines = run_probe(first(), unit, "shown").unwrap();
    lines.iter().filter_map(|line| line.split_once(": ")).map(|(file, text)| (file.into(), text.into())).collect()
}

/// Files, and a line that each must have.
const FACTS: &[(&str, &str)] = &[
    // The cgroup tree: PID 1 and the supervisor keep memory, the containers together have ceilings.
    // As seen from a cgroup namespace of /containers/facts.
    ("/host/proc/1/cgroup", "0::/../../init"),
    ("/host/sys/fs/cgroup/init/memory.min", "2097152"),
    ("/host/proc/1/oom_score_adj", "-1000"),
    // The image's list of kernel settings.
    ("/host/proc/sys/kernel/kptr_restrict", "2"),
    ("/host/proc/sys/kernel/unprivileged_bpf_disabled", "1"),
    ("/host/proc/sys/kernel/sysrq", "0"),
    ("/host/proc/sys/kernel/panic_on_oops", "1"),
    ("/host/proc/sys/fs/protected_regular", "2"),
    ("/host/proc/sys/fs/inotify/max_user_watches", "524288"),
    ("/host/proc/sys/net/ipv4/conf/all/rp_filter", "2"),
    // Ctrl-Alt-Del is a signal to PID 1, not a reset.
    ("/host/proc/sys/kernel/ctrl-alt-del", "0"),
    // IFF_UP | IFF_LOOPBACK.
    ("/sys/class/net/lo/flags", "0x9"),
];

const SIZED: [&str; 3] = [
    "/host/sys/fs/cgroup/orlop/memory.min",
    "/host/sys/fs/cgroup/containers/memory.max",
    "/host/sys/fs/cgroup/containers/pids.max",
];

/// Where things are mounted, and with what.
const MOUNTS: &[(&str, &str, &[&str])] = &[
    ("/", "erofs", &["ro"]),
    ("/var", "xfs", &["rw", "nosuid", "nodev"]),
    ("/etc/containers.d", "xfs", &["rw", "nosuid", "nodev"]),
    ("/proc", "proc", &["nosuid", "nodev", "noexec"]),
    ("/sys", "sysfs", &["nosuid", "nodev", "noexec"]),
    ("/dev", "devtmpfs", &["nosuid", "noexec"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "mode=620", "ptmxmode=666"]),
    ("/dev/shm", "tmpfs", &["nosuid", "nodev", "noexec"]),
    ("/run", "tmpfs", &["nosuid", "nodev"]),
    ("/tmp", "tmpfs", &["nosuid", "nodev"]),
    ("/sys/fs/cgroup", "cgroup2", &["nosuid", "nodev", "noexec", "nsdelegate", "memory_recursiveprot"]),
    ("/sys/fs/bpf", "bpf", &["nosuid", "nodev", "noexec", "mode=700"]),
    ("/sys/kernel/security", "securityfs", &["nosuid", "nodev", "noexec"]),
];

#[test]
fn settings_and_protections_are_in_force() {
    let seen = shown("facts");
    for (file, text) in FACTS {
        let found = seen.get(*file).map(String::as_str);
        assert!(found.is_some_and(|found| found.split('|').any(|line| line == *text)), "{file}: {found:?}, not {text}");
    }
    // These follow the size of the machine; unset they would be `0` and `max`.
    for limit in SIZED {
        assert!(seen[limit].parse::<u64>().is_ok_and(|value| value > 0), "{limit}: {}", seen[limit]);
    }
}

#[test]
fn everything_is_mounted_where_and_as_it_belongs() {
    let seen = shown("facts");
    let mounts: Vec<Vec<&str>> = seen["/host/proc/1/mounts"].split('|').map(|line| line.split(' ').collect()).collect();
    for (on, kind, options) in MOUNTS {
        let found = mounts.iter().rfind(|mount| mount[1] == *on).unwrap_or_else(|| panic!("no {on} in {mounts:#?}"));
        assert_eq!(found[2], *kind, "{found:?}");
        for option in *options {
            assert!(found[3].split(',').any(|has| has == *option), "{on} without {option}: {found:?}");
        }
    }
    // The initramfs is emptied and covered: only its root is still there, below everything.
    assert!(mounts.iter().filter(|mount| mount[1] == "/").count() <= 2, "{mounts:#?}");
    assert!(!mounts.iter().any(|mount| mount[1].starts_with("/sysroot")), "{mounts:#?}");
}

/// User, WorkingDir, Entrypoint, ReadOnly, Memory, PidsLimit and Environment of one unit, as its program sees them.
#[test]
fn a_units_keys_reach_its_program() {
    let seen = shown("keys");
    let status: HashMap<&str, &str> = seen["status"].split('|').filter_map(|line| line.split_once(":\t")).collect();
    assert_eq!((status["Uid"], status["Gid"]), ("1000\t1000\t1000\t1000", "1001\t1001\t1001\t1001"));
    assert_eq!(status["CapEff"], "0000000000000000");
    assert!(seen["environ"].split('\0').any(|variable| variable == "COLOUR=blue"), "{}", seen["environ"]);
    assert_eq!(seen["/sys/fs/cgroup/memory.max"], (64 << 20).to_string());
    assert_eq!(seen["/sys/fs/cgroup/pids.max"], "77");
    let root = seen["/proc/self/mounts"].split('|').find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().split(',').any(|option| option == "ro"), "{root}");
}

/// The units of these tests.
pub(crate) fn units() -> [(&'static str, String); 2] {
    let files: Vec<&str> = FACTS.iter().map(|(file, _)| *file).collect();
    let show = format!("show /host/proc/1/mounts {} {}", SIZED.join(" "), files.join(" "));
    let facts = crate::support::probe_unit(&show, "Volume=/:/host");
    let keys = "[Container]\nImage=localhost/probe:latest\nNetwork=none\nEntrypoint=/probe\nUser=1000\nGroup=1001\n\
        WorkingDir=/proc/self\nReadOnly=true\nMemory=64M\nPidsLimit=77\nEnvironment=COLOUR=blue\n\
        Exec=show status environ /proc/self/mounts /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max\n";
    [("facts.container", facts), ("keys.container", keys.into())]
}
