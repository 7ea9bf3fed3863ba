//! The folder of unpacked layers: `<diff id hex>/` for each, complete or not there.
//!
//! A layer grows in `.<hex>.partial/tree` and is renamed into place when the whole image is good. The partial folder is
//! locked by flock(2) while somebody works in it, so two units with the same image wait for each other, and what a cut
//! left behind is recognised by its lock being free.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, syncfs, unlinkat};

use super::digest::Digest;
use super::error::ImageError;
use super::layer::remove_all;

const TREE: &str = "tree";

/// The folder itself.
pub(super) struct Store {
    path: PathBuf,
    folder: OwnedFd,
}

/// A layer being unpacked. Dropped without [`Partial::commit`], it leaves nothing.
pub(super) struct Partial<'s> {
    store: &'s Store,
    name: String,
    /// Holds the lock; closing it lets the next one in.
    lock: Flock<File>,
    tree: OwnedFd,
}

impl Store {
    /// Opens the folder, making it when it is new.
    pub(super) fn open(path: &Path) -> Result<Self, ImageError> {
        let fail = |source| ImageError::Store { operation: "open", path: path.into(), source };
        // Images hold setuid programs: only root may reach them outside of a container (CVE-2021-41103).
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(fail)?;
        }
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(fail(error)),
            _ => {}
        }
        let folder = File::open(path).map_err(fail)?.into();
        Ok(Self { path: path.into(), folder })
    }

    pub(super) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.path.join(diff_id.hex())
    }

    pub(super) fn has(&self, diff_id: &Digest) -> Result<bool, ImageError> {
        match fstatat(&self.folder, diff_id.hex(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(self.fail("look for layer in", error)),
        }
    }

    /// Removes what earlier runs did not finish and nobody works on.
    pub(super) fn sweep(&self) -> Result<(), ImageError> {
        let mut listing = Dir::openat(&self.folder, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(|error| self.fail("list", error))?;
        let mut leftovers = Vec::new();
        for entry in listing.iter() {
            let entry = entry.map_err(|error| self.fail("list", error))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') && name.ends_with(".partial") {
                leftovers.push(name);
            }
        }
        for name in leftovers {
            if let Some(lock) = self.lock(&name, FlockArg::LockExclusiveNonblock)? {
                log::info!("images leftover={name} of an interrupted unpack removed");
                self.empty(&name, &lock)?;
                unlinkat(&self.folder, name.as_str(), UnlinkatFlags::RemoveDir)
                    .map_err(|error| self.fail("remove a leftover in", error))?;
            }
        }
        Ok(())
    }

    /// Begins a layer, waiting while another thread or process unpacks the same one; none when that one has finished
    /// it.
    pub(super) fn begin(&self, diff_id: &Digest) -> Result<Option<Partial<'_>>, ImageError> {
        let name = format!(".{}.partial", diff_id.hex());
        let lock = loop {
            if self.has(diff_id)? {
                return Ok(None);
            }
            match mkdirat(&self.folder, name.as_str(), Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(error) => return Err(self.fail("make a folder in", error)),
            }
            if let Some(lock) = self.lock(&name, FlockArg::LockExclusive)? {
                break lock;
            }
        };
        // From here on, every error must remove the folder again. Whoever finished between the look and the lock did so under
        // a lock of his own, so a second look is the last.
        if self.has(diff_id).inspect_err(|_| self.discard(&name, &lock))? {
            self.discard(&name, &lock);
            return Ok(None);
        }
        let tree = (|| {
            self.empty(&name, &lock)?;
            let make = || {
                mkdirat(&*lock, TREE, Mode::S_IRWXU)?;
                fchmodat(&*lock, TREE, Mode::from_bits_truncate(0o755), FchmodatFlags::FollowSymlink)?;
                openat(&*lock, TREE, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
            };
            make().map_err(|error| self.fail("make a folder in", error))
        })();
        match tree {
            Ok(tree) => Ok(Some(Partial { store: self, name, lock, tree })),
            Err(error) => {
                self.discard(&name, &lock);
                Err(error)
            }
        }
    }

    /// Locks a partial folder. None when it is somebody else's, or was renamed or removed while we waited.
    fn lock(&self, name: &str, how: FlockArg) -> Result<Option<Flock<File>>, ImageError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file: File = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(self.fail("open a partial layer in", error)),
        };
        let mut file = file;
        let lock = loop {
            match Flock::lock(file, how) {
                Ok(lock) => break lock,
                Err((back, Errno::EINTR)) => file = back,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => return Err(self.fail("lock a partial layer in", error)),
            }
        };
        let ours = fstat(&*lock).map_err(|error| self.fail("look at a partial layer in", error))?;
        match fstatat(&self.folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(now) if now.st_ino == ours.st_ino => Ok(Some(lock)),
            Ok(_) | Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.fail("look at a partial layer in", error)),
        }
    }

    /// Removes everything in a partial folder.
    fn empty(&self, name: &str, lock: &Flock<File>) -> Result<(), ImageError> {
        let fail =
            |error: Errno| ImageError::Store { operation: "empty", path: self.path.join(name), source: error.into() };
        loop {
            let mut listing =
                Dir::openat(&**lock, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(fail)?;
            let mut names = Vec::new();
            for entry in listing.iter() {
                let name = entry.map_err(fail)?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    names.push(name);
                }
            }
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                remove_all(lock.as_fd(), &name, lock.as_fd()).map_err(fail)?;
            }
        }
    }

    fn discard(&self, name: &str, lock: &Flock<File>) {
        let removed = self
            .empty(name, lock)
            .map_err(|error| error.to_string())
            .and_then(|()| unlinkat(&self.folder, name, UnlinkatFlags::RemoveDir).map_err(|error| error.to_string()));
        if let Err(error) = removed {
            log::warn!("images partial={name} not removed, the next unpack will try again: {error}");
        }
    }

    fn fail(&self, operation: &'static str, error: Errno) -> ImageError {
        ImageError::Store { operation, path: self.path.clone(), source: error.into() }
    }
}

impl Partial<'_> {
    /// Where the layer's entries go.
    pub(super) fn tree(&self) -> BorrowedFd<'_> {
        self.tree.as_fd()
    }

    /// A private folder on the same file system.
    pub(super) fn staging(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }
}

/// Makes all of an image's new layers appear. What they hold is on the disk before the first of them has its name.
pub(super) fn commit(partials: Vec<Partial<'_>>) -> Result<(), ImageError> {
    let Some(store) = partials.first().map(|partial| partial.store) else { return Ok(()) };
    syncfs(&store.folder).map_err(|error| store.fail("sync", error))?;
    for partial in partials {
        let hex = partial.name.trim_start_matches('.').trim_end_matches(".partial").to_string();
        renameat(&*partial.lock, TREE, &store.folder, hex.as_str())
            .map_err(|error| store.fail("rename a layer into", error))?;
        // Its drop removes what is left: the empty partial folder.
    }
    fsync(&store.folder).map_err(|error| store.fail("sync", error))
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        self.store.discard(&self.name, &self.lock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_leaves_what_the_next_one_sweeps() -> std::io::Result<()> {
        let home = tempfile::tempdir()?;
        let store = Store::open(&home.path().join("layers")).unwrap();
        let (one, two) = (Digest::sha256_of(b"1"), Digest::sha256_of(b"2"));

        let left = home.path().join(format!("layers/.{}.partial/tree/a/b", one.hex()));
        std::fs::create_dir_all(&left)?;
        let working = store.begin(&two).unwrap().unwrap();
        store.sweep().unwrap();
        assert!(!left.exists());
        assert_eq!(std::fs::read_dir(home.path().join("layers"))?.count(), 1, "the one being worked on stays");

        // Dropped: nothing remains.
        drop(working);
        assert_eq!(std::fs::read_dir(home.path().join("layers"))?.count(), 0);

        commit(vec![store.begin(&one).unwrap().unwrap(), store.begin(&two).unwrap().unwrap()]).unwrap();
        assert_eq!(std::fs::read_dir(home.path().join("layers"))?.count(), 2);
        assert!(store.begin(&one).unwrap().is_none(), "it is there");
        Ok(())
    }

    #[test]
    fn the_second_waits_for_the_first() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::open(home.path()).unwrap();
        let id = Digest::sha256_of(b"x");
        let first = store.begin(&id).unwrap().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| store.begin(&id).unwrap().is_none());
            commit(vec![first]).unwrap();
            assert!(second.join().unwrap());
        });
    }
}
