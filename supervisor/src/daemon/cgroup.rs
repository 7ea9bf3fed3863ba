//! What the supervisor reads and writes of a unit's cgroup, straight from the kernel's files: cgroups-rs knows neither
//! memory.events nor cgroup.kill, and waits for nothing.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::api::types::{MemoryEvents, Pressure, Tasks};

/// True when processes live in the cgroup or below it; a cgroup that is not there has none.
pub(crate) fn is_populated(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|text| field(&text, "populated") == Some(1))
}

/// This is the cgroup's id, or that of one below it.
pub(crate) fn contains(cgroup: &Path, id: u64) -> bool {
    fs::metadata(cgroup).is_ok_and(|folder| folder.ino() == id)
        || fs::read_dir(cgroup)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()) && contains(&entry.path(), id))
}

/// How often the kernel killed in this cgroup for its memory limit.
pub(crate) fn oom_kills(cgroup: &Path) -> u64 {
    let text = fs::read_to_string(cgroup.join("memory.events")).unwrap_or_default();
    field(&text, "oom_kill").unwrap_or(0)
}

/// Kills every process in it at once; a cgroup that is not there is a success.
pub(crate) fn kill(cgroup: &Path) -> io::Result<()> {
    match fs::write(cgroup.join("cgroup.kill"), "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is there already is not written again: a limit that holds makes the kernel look at every page.
pub(crate) fn set(cgroup: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = cgroup.join(file);
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value.trim()) {
        return Ok(());
    }
    fs::write(path, value)
}

pub(crate) fn memory_bytes(cgroup: &Path) -> Option<u64> {
    fs::read_to_string(cgroup.join("memory.current")).ok()?.trim().parse().ok()
}

/// `None` without the controller.
pub(crate) fn memory_events(cgroup: &Path) -> Option<MemoryEvents> {
    let text = fs::read_to_string(cgroup.join("memory.events")).ok()?;
    let count = |name| field(&text, name).unwrap_or(0);
    Some(MemoryEvents { high: count("high"), max: count("max"), oom: count("oom"), oom_kill: count("oom_kill") })
}

/// `None` where there is none, or no controller.
pub(crate) fn memory_limit(cgroup: &Path) -> Option<u64> {
    fs::read_to_string(cgroup.join("memory.max")).ok()?.trim().parse().ok()
}

/// Of all CPUs, since the cgroup was made.
pub(crate) fn cpu_us(cgroup: &Path) -> Option<u64> {
    field(&fs::read_to_string(cgroup.join("cpu.stat")).ok()?, "usage_usec")
}

/// From and to all disks since the cgroup was made; `None` without the controller.
pub(crate) fn disk_bytes(cgroup: &Path) -> Option<(u64, u64)> {
    let text = fs::read_to_string(cgroup.join("io.stat")).ok()?;
    let sum = |name| {
        let counts = text.split_ascii_whitespace().filter_map(|word| word.strip_prefix(name)?.parse::<u64>().ok());
        counts.sum()
    };
    Some((sum("rbytes="), sum("wbytes=")))
}

/// `None` without the controller.
pub(crate) fn tasks(cgroup: &Path) -> Option<Tasks> {
    let read = |file: &str| fs::read_to_string(cgroup.join(file)).ok();
    Some(Tasks {
        current: read("pids.current")?.trim().parse().ok()?,
        // `max`, where there is no limit.
        max: read("pids.max")?.trim().parse().ok(),
        refused: field(&read("pids.events")?, "max").unwrap_or(0),
    })
}

/// `None` where the kernel does not measure it.
pub(crate) fn pressure(cgroup: &Path) -> Option<Pressure> {
    pressure_in(|what| cgroup.join(format!("{what}.pressure")))
}

/// Of the machine as a whole.
pub(crate) fn machine_pressure() -> Option<Pressure> {
    pressure_in(|what| Path::new("/proc/pressure").join(what))
}

fn pressure_in(file: impl Fn(&str) -> PathBuf) -> Option<Pressure> {
    let some = |what| {
        let text = fs::read_to_string(file(what)).ok()?;
        text.lines().find_map(|line| line.strip_prefix("some avg10=")?.split(' ').next()?.parse().ok())
    };
    Some(Pressure { cpu: some("cpu")?, memory: some("memory")?, io: some("io")? })
}

pub(crate) fn processes(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Removes a cgroup and those below it, deepest first. Empty ones only: the kernel refuses others.
pub(crate) fn remove(cgroup: &Path) -> io::Result<()> {
    if let Ok(entries) = fs::read_dir(cgroup) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(cgroup) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        assert_eq!((memory_events(folder.path()), pressure(folder.path())), (None, None));
        fs::write(folder.path().join("memory.events"), "low 0\nmax 5\noom 2\noom_kill 3\noom_group_kill 1\n").unwrap();
        let events = MemoryEvents { high: 0, max: 5, oom: 2, oom_kill: 3 };
        assert_eq!(memory_events(folder.path()), Some(events));
        assert_eq!((disk_bytes(folder.path()), cpu_us(folder.path()), memory_limit(folder.path())), (None, None, None));
        let io = "254:0 rbytes=5 wbytes=4096 rios=1 wios=2 dbytes=9 dios=1\n254:1 rbytes=1 wbytes=4 rios=0 wios=1\n";
        fs::write(folder.path().join("io.stat"), io).unwrap();
        assert_eq!(disk_bytes(folder.path()), Some((6, 4100)));
        fs::write(folder.path().join("cpu.stat"), "usage_usec 77\nuser_usec 7\nsystem_usec 70\n").unwrap();
        assert_eq!(cpu_us(folder.path()), Some(77));
        for (text, limit) in [("max\n", None), ("1048576\n", Some(1 << 20))] {
            fs::write(folder.path().join("memory.max"), text).unwrap();
            assert_eq!(memory_limit(folder.path()), limit);
        }
        for (file, text) in [("current", "12\n"), ("max", "max\n"), ("events", "max 7\n")] {
            assert_eq!(tasks(folder.path()), None);
            fs::write(folder.path().join(format!("pids.{file}")), text).unwrap();
        }
        assert_eq!(tasks(folder.path()), Some(Tasks { current: 12, max: None, refused: 7 }));
        for (file, share) in [("cpu", "0.00"), ("memory", "1.50"), ("io", "99.00")] {
            let text = format!("some avg10={share} avg60=7.00 avg300=0.00 total=9\nfull avg10=5.00 avg60=0.00\n");
            fs::write(folder.path().join(format!("{file}.pressure")), text).unwrap();
        }
        assert_eq!(pressure(folder.path()), Some(Pressure { cpu: 0.0, memory: 1.5, io: 99.0 }));
        let value = || fs::read_to_string(folder.path().join("cpu.weight")).unwrap();
        fs::write(folder.path().join("cpu.weight"), "100\n").unwrap();
        set(folder.path(), "cpu.weight", "100").unwrap();
        assert_eq!(value(), "100\n");
        set(folder.path(), "cpu.weight", "7").unwrap();
        assert_eq!(value(), "7");
        assert!(is_populated(folder.path()));
        assert_eq!(oom_kills(folder.path()), 3);
        fs::write(folder.path().join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert!(!is_populated(folder.path()));
        let gone = folder.path().join("gone");
        assert!(!is_populated(&gone) && oom_kills(&gone) == 0 && kill(&gone).is_ok() && remove(&gone).is_ok());
    }
}
