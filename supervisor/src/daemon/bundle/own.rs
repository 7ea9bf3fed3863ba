//! The folder of a container below `containers/`: its writable layer, its anonymous volumes, the files it has instead of its image's.
//! Nobody has any of it longer than the container lives, as with podman's `--rm`, which Quadlet gives to each.
//!
//! ```text
//! begin  containers/web ──rename──▶ containers/.gone/<inode>   what an earlier one left; from here on it is in use
//! end    no longer in use
//! sweep  whatever is not in use ──rename──▶ .gone/<inode>; then all below .gone is removed
//! ```
//! How long a removal takes depends on what the container wrote: one thread does it, and nobody waits for it. Who is killed in the
//! middle leaves what the next supervisor sweeps.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use oci::image::remove_all;

use crate::{daemon::mailbox, unit::UnitName};

/// No unit's name begins like this.
const GONE: &str = ".gone";

/// Clones are of the same.
#[derive(Debug, Clone)]
pub(crate) struct Folders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    home: PathBuf,
    /// For who renames: what it found out holds until then. It waits for the disk; the loop never takes it.
    turn: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    used: BTreeSet<UnitName>,
    /// There is a thread, and something came up since it began.
    at_work: bool,
    again: bool,
    /// Below `.gone`, and not to be removed: a container made it immutable, or the disk fails.
    stays: BTreeSet<OsString>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Folders {
    pub(crate) fn new(home: PathBuf) -> Self {
        Self(Arc::new(Shared { home, turn: Mutex::default(), state: Mutex::default() }))
    }

    /// A container is being made: nothing of an earlier one is there.
    pub(super) fn begin(&self, unit: &UnitName) -> io::Result<()> {
        let found = {
            let _turn = lock(&self.0.turn);
            lock(&self.0.state).used.insert(unit.clone());
            self.0.put_aside(unit)?
        };
        if found {
            self.sweep();
        }
        Ok(())
    }

    /// It has ended, and nobody is at work in its folder.
    pub(crate) fn end(&self, unit: &UnitName) {
        lock(&self.0.state).used.remove(unit);
        self.sweep();
    }

    /// At the start of a supervisor: of these there are containers.
    pub(crate) fn take_over(&self, used: BTreeSet<UnitName>) {
        lock(&self.0.state).used.extend(used);
        self.sweep();
    }

    fn sweep(&self) {
        let mut state = lock(&self.0.state);
        state.again = true;
        if !state.at_work {
            let shared = Arc::clone(&self.0);
            // Without a thread the next end or the next supervisor does it.
            state.at_work = mailbox::spawn("leftovers", move || shared.work());
        }
    }
}

impl Shared {
    fn work(&self) {
        loop {
            {
                let mut state = lock(&self.state);
                if !std::mem::take(&mut state.again) {
                    state.at_work = false;
                    return;
                }
            }
            if let Err(error) = self.sweep() {
                log::error!("remove what containers left in {}: {error}", self.home.display());
            }
        }
    }

    /// True if there was something.
    fn put_aside(&self, unit: &UnitName) -> io::Result<bool> {
        let folder = self.home.join(unit.as_str());
        // A number that no other folder there has.
        let inode = match fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            meta => meta?.ino(),
        };
        fs::create_dir_all(self.home.join(GONE))?;
        fs::rename(&folder, self.home.join(GONE).join(inode.to_string()))?;
        Ok(true)
    }

    fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.home) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        let mut result = Ok(());
        for name in entries.flatten().filter_map(|entry| UnitName::parse(entry.file_name().to_str()?).ok()) {
            let _turn = lock(&self.turn);
            if !lock(&self.state).used.contains(&name) {
                result = result.and(self.put_aside(&name).map(drop));
            }
        }
        result.and(self.remove())
    }

    fn remove(&self) -> io::Result<()> {
        let gone = match fs::File::open(self.home.join(GONE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            gone => gone?,
        };
        for entry in fs::read_dir(self.home.join(GONE))? {
            let name = entry?.file_name();
            if lock(&self.state).stays.contains(&name) {
                continue;
            }
            if let Err(error) = remove_all(gone.as_fd(), name.as_bytes(), gone.as_fd()) {
                log::warn!("{}: {error}; it stays", self.home.join(GONE).join(&name).display());
                lock(&self.state).stays.insert(name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_all_else_goes() {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        for name in ["web/upper", "db/upper", "job@1/anonymous/0", ".gone/17/upper", "a note"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        let unit = |name: &str| UnitName::parse(name).unwrap();
        let folders = Folders::new(home.path().to_owned());
        // As its thread, without one.
        let sweep = || folders.0.sweep().unwrap();
        lock(&folders.0.state).used.extend([unit("web"), unit("db")]);
        sweep();
        assert!(path("web/upper").exists() && path("db").exists() && path("a note").exists());
        assert!(!path("job@1").exists() && fs::read_dir(path(GONE)).unwrap().next().is_none());
        // An end that was not swept yet, and the next start: what that one makes is not taken for the last one's.
        lock(&folders.0.state).at_work = true;
        folders.end(&unit("web"));
        folders.begin(&unit("web")).unwrap();
        assert!(!path("web").exists(), "nothing of the one before");
        fs::create_dir_all(path("web/upper")).unwrap();
        sweep();
        assert!(path("web/upper").exists());
        folders.end(&unit("web"));
        sweep();
        assert!(!path("web").exists() && path("db").exists());
    }
}
