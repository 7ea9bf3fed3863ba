//! What the supervisor reads and writes of a unit's cgroup, straight from the kernel's files: cgroups-rs knows neither
//! memory.events nor cgroup.kill, and waits for nothing.

use std::{fs, io, path::Path};

/// True when processes live in the cgroup or below it; a cgroup that is not there has none.
pub(crate) fn is_populated(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.events")).is_ok_and(|text| field(&text, "populated") == Some(1))
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

pub(crate) fn memory_bytes(cgroup: &Path) -> Option<u64> {
    fs::read_to_string(cgroup.join("memory.current")).ok()?.trim().parse().ok()
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
        fs::write(folder.path().join("memory.events"), "low 0\noom 2\noom_kill 3\noom_group_kill 1\n").unwrap();
        assert!(is_populated(folder.path()));
        assert_eq!(oom_kills(folder.path()), 3);
        fs::write(folder.path().join("cgroup.events"), "populated 0\nfrozen 0\n").unwrap();
        assert!(!is_populated(folder.path()));
        let gone = folder.path().join("gone");
        assert!(!is_populated(&gone) && oom_kills(&gone) == 0 && kill(&gone).is_ok() && remove(&gone).is_ok());
    }
}
