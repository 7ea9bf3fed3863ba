//! The bound of all logs together: when they exceed it, the files that were written to longest ago go first.

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// journald's share of the disk, and what logs are worth at most.
const SHARE: u64 = 10;
const MOST_BYTES: u64 = 1 << 30;
/// However small the disk is: a few units' worth.
const LEAST_BYTES: u64 = 16 << 20;

/// So many files find room at least.
const FILES: u64 = 4;

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    cap_bytes: u64,
    used_bytes: u64,
}

impl Disk {
    /// Counts what is there.
    pub(super) fn new(folder: PathBuf) -> Self {
        let used_bytes = files(&folder).iter().map(|file| file.bytes).sum();
        let mut disk = Self { folder, cap_bytes: 0, used_bytes };
        disk.set_cap(None);
        disk
    }

    /// `None`: what fits the disk.
    pub(super) fn set_cap(&mut self, cap_bytes: Option<u64>) {
        let share = || {
            let disk = nix::sys::statvfs::statvfs(&self.folder);
            disk.map_or(MOST_BYTES, |disk| disk.blocks().saturating_mul(disk.fragment_size()) / SHARE)
        };
        self.cap_bytes = cap_bytes.unwrap_or_else(|| share().clamp(LEAST_BYTES, MOST_BYTES));
    }

    /// Of one file, whatever its unit says: the one that is written never goes.
    pub(super) fn most_bytes(&self) -> u64 {
        self.cap_bytes / FILES
    }

    /// So much was written, to this file. Returns the files that had to go for it.
    pub(super) fn wrote(&mut self, bytes: u64, file: &Path) -> Vec<PathBuf> {
        self.used_bytes += bytes;
        if self.used_bytes <= self.cap_bytes {
            return Vec::new();
        }
        // Rotation has removed files in between: count anew. An eighth of air, so that this is rare.
        let mut all = files(&self.folder);
        self.used_bytes = all.iter().map(|file| file.bytes).sum();
        all.sort_by_key(|file| Reverse(file.written));
        // What the machine itself said in ten boots is always the oldest, and bounded in each: half of the room is for it.
        let (boots, mut boots_bytes) = (self.folder.join("@boots"), 0);
        all.retain(|file| {
            boots_bytes += if file.path.starts_with(&boots) { file.bytes } else { 0 };
            !file.path.starts_with(&boots) || boots_bytes > self.cap_bytes / 2
        });
        let mut gone = Vec::new();
        for old in all.into_iter().rev() {
            if self.used_bytes <= self.cap_bytes / 8 * 7 {
                break;
            }
            if old.path != file && fs::remove_file(&old.path).is_ok() {
                self.used_bytes -= old.bytes;
                // A unit that is gone has no log any more; only an empty folder is removed.
                let _ = old.path.parent().map(fs::remove_dir);
                gone.push(old.path);
            }
        }
        gone
    }
}

struct LogOnDisk {
    path: PathBuf,
    bytes: u64,
    written: SystemTime,
}

fn files(folder: &Path) -> Vec<LogOnDisk> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            found.extend(files(&entry.path()));
        } else if meta.is_file() {
            let written = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(LogOnDisk { path: entry.path(), bytes: meta.len(), written });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_oldest_files_go_and_never_the_one_that_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (age, name) in
            [(1, "web/current"), (2, "web/current.1"), (9, "db/current"), (5, "@boots/1-x/@kernel/current")]
        {
            fs::create_dir_all(path(name).parent().unwrap()).unwrap();
            fs::write(path(name), [0; 100]).unwrap();
            let file = fs::File::options().write(true).open(path(name)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age * 60)).unwrap();
        }
        let mut disk = Disk::new(folder.path().into());
        disk.set_cap(Some(400));
        assert!(disk.wrote(0, &path("db/current")).is_empty());
        assert_eq!(disk.wrote(1, &path("db/current")), [path("web/current.1")]);
        assert_eq!(disk.used_bytes, 300);
        assert!(path("db/current").exists() && path("web/current").exists());
        // The machine's own has more than half.
        fs::write(path("@boots/1-x/@kernel/current"), [0; 300]).unwrap();
        assert_eq!(disk.wrote(300, &path("db/current")), [path("web/current"), path("@boots/1-x/@kernel/current")]);
    }
}
