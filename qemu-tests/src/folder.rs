//! A machine's folder below `target/orlop/machines`: sockets, console log, scratch disks.
//!
//! Removed with the machine, kept when a test fails. What an aborted run left behind is removed by the next machine
//! of the same name.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A unix socket's path has 107 bytes at most (unix(7)); the longest name in a folder is `/console`, and some.
const SOCKET_FOLDER_BYTES: usize = 92;

pub(crate) struct Folder {
    path: PathBuf,
    /// Elsewhere only when the folder's own path is too long for a socket.
    sockets: Option<tempfile::TempDir>,
    pub(crate) keep: bool,
}

impl Folder {
    pub(crate) fn create(out: &Path, name: &str) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let machines = out.join("machines");
        fs::create_dir_all(&machines)?;
        remove_left_behind(&machines, name);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = machines.join(format!("{name}.{}.{number}", std::process::id()));
        fs::create_dir_all(&path)?;
        let sockets = if path.as_os_str().len() > SOCKET_FOLDER_BYTES {
            Some(tempfile::Builder::new().prefix("orlop-").tempdir()?)
        } else {
            None
        };
        Ok(Self { path, sockets, keep: false })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn sockets(&self) -> &Path {
        self.sockets.as_ref().map_or(&self.path, |sockets| sockets.path())
    }

    /// A blank disk that takes no space until written.
    pub(crate) fn blank_disk(&self, name: &str, bytes: u64) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        File::create(&path)?.set_len(bytes)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            eprintln!("kept for a look: {}", self.path.display());
        } else {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn remove_left_behind(machines: &Path, name: &str) {
    for entry in fs::read_dir(machines).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let Some((owner, rest)) = file_name.to_str().and_then(|file| file.rsplit_once('.')?.0.rsplit_once('.')) else {
            continue;
        };
        if owner == name && !Path::new("/proc").join(rest).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_runs_folder_goes_and_a_living_ones_stays() {
        let out = tempfile::tempdir().unwrap();
        let dead = out.path().join("machines/boot.4999999.0");
        fs::create_dir_all(&dead).unwrap();
        let first = Folder::create(out.path(), "boot").unwrap();
        let second = Folder::create(out.path(), "boot").unwrap();
        assert!(!dead.exists());
        assert!(first.path().exists() && second.path().exists());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists());
    }
}
