//! The folder of a container below the runtime root, and its lock.
//!
//! Every operation that changes a container holds the exclusive lock of its folder, so two of them on one id come one after
//! the other. Reading (`state`, `list`, `ps`) takes no lock: state.json is replaced whole, and hooks may ask for the state while
//! `create` holds the lock.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::error::{Error, Result, Step, c_string};
use super::id::ContainerId;
use super::state::{FILE as STATE_FILE, FILTER_FILE};
use super::sys::{Errno, fs, process};

pub(crate) struct Store {
    root: PathBuf,
}

/// An open container folder. Dropping it gives the lock back.
pub(crate) struct Folder {
    pub(crate) id: ContainerId,
    pub(crate) path: PathBuf,
    fd: OwnedFd,
    root: OwnedFd,
}

impl Store {
    pub(crate) fn new(root: PathBuf) -> Store {
        Store { root }
    }

    fn open_root(&self) -> std::result::Result<OwnedFd, Errno> {
        let path = c_string(self.root.as_os_str().as_encoded_bytes());
        fs::open_host(&path, libc::O_PATH | libc::O_DIRECTORY, 0)
    }

    fn make_root(&self) -> std::io::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.root)
    }

    /// Makes the folder of a new container and locks it.
    pub(crate) fn create(&self, id: &ContainerId) -> Result<Folder> {
        let name = c_string(id.as_str());
        loop {
            let root = match self.open_root() {
                Err(Errno(libc::ENOENT)) => {
                    self.make_root().step("create runtime root", self.root.display())?;
                    self.open_root()
                }
                other => other,
            };
            let root = root.step("open runtime root", self.root.display())?;
            match fs::mkdir(root.as_fd(), &name, 0o700) {
                Err(Errno(libc::EEXIST)) => return Err(Error::Exists { id: id.to_string() }),
                other => other.step("create container folder", self.root.join(id.as_str()).display())?,
            }
            // A `delete --force` may have come between: then the folder we locked has no name any more.
            if let Some(folder) = self.lock_folder(root, id, || Ok(()))? {
                return Ok(folder);
            }
        }
    }

    /// Opens and locks the folder of a container that exists; where somebody else has the lock, `may_wait` is asked before waiting.
    pub(crate) fn open(&self, id: &ContainerId, may_wait: impl FnOnce() -> Result<()>) -> Result<Folder> {
        let root = match self.open_root() {
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => return Err(Error::NotFound { id: id.to_string() }),
            other => other.step("open runtime root", self.root.display())?,
        };
        self.lock_folder(root, id, may_wait)?.ok_or_else(|| Error::NotFound { id: id.to_string() })
    }

    fn lock_folder(
        &self,
        root: OwnedFd,
        id: &ContainerId,
        may_wait: impl FnOnce() -> Result<()>,
    ) -> Result<Option<Folder>> {
        let path = self.root.join(id.as_str());
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let fd = match fs::open_at(root.as_fd(), &c_string(id.as_str()), flags, 0) {
            Err(Errno(libc::ENOENT)) => return Ok(None),
            other => other.step("open container folder", path.display())?,
        };
        if !fs::try_lock(fd.as_fd()).step("lock container folder", path.display())? {
            may_wait()?;
            fs::lock(fd.as_fd()).step("lock container folder", path.display())?;
        }
        let links = fs::stat(fd.as_fd()).step("read container folder", path.display())?.st_nlink;
        Ok((links > 0).then_some(Folder { id: id.clone(), path, fd, root }))
    }

    /// The ids of all containers, in the order of the alphabet.
    pub(crate) fn ids(&self) -> Result<Vec<ContainerId>> {
        let entries = match std::fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.step("list runtime root", self.root.display())?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut ids: Vec<ContainerId> = names.filter_map(|name| ContainerId::parse(&name).ok()).collect();
        ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        Ok(ids)
    }

    /// A file that is no container's.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn path(&self, id: &ContainerId, file: &str) -> PathBuf {
        self.root.join(id.as_str()).join(file)
    }

    /// A file of a container's folder, without the lock.
    pub(crate) fn peek(&self, id: &ContainerId, file: &str) -> Result<String> {
        let path = self.path(id, file);
        match read_file(&path) {
            Err(Errno(libc::ENOENT)) => Err(Error::NotFound { id: id.to_string() }),
            other => other.step("read", path.display()),
        }
    }

    pub(crate) fn has(&self, id: &ContainerId, file: &CStr) -> Result<bool> {
        let path = self.path(id, &file.to_string_lossy());
        there(path.symlink_metadata().map_err(Errno::from)).step("look for", path.display())
    }
}

impl Folder {
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Lets others in, for as long as the program runs.
    pub(crate) fn unlock(&self) -> Result<()> {
        fs::unlock(self.fd()).step("unlock container folder", self.path.display())
    }

    /// Takes the lock again; `false` if the container was deleted meanwhile.
    pub(crate) fn lock_again(&self) -> Result<bool> {
        fs::lock(self.fd()).step("lock container folder", self.path.display())?;
        Ok(fs::stat(self.fd()).step("read container folder", self.path.display())?.st_nlink > 0)
    }

    pub(crate) fn exists(&self, name: &CStr) -> Result<bool> {
        there(fs::stat_at(self.fd(), name)).step("look for", self.path.join(name.to_string_lossy().as_ref()).display())
    }

    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let file = fs::open_at(self.fd(), &c_string(name), libc::O_RDONLY | libc::O_NOFOLLOW, 0);
        match file.and_then(|file| fs::read_all(file.as_fd())) {
            Err(Errno(libc::ENOENT)) => Ok(None),
            other => other.map(Some).step("read", self.path.join(name).display()),
        }
    }

    /// Replaces a file whole: whoever reads sees the old content or the new. Nothing here outlives a boot, so nothing is synced.
    pub(crate) fn replace(&self, name: &str, content: &[u8]) -> Result<()> {
        let temporary = c_string(format!(".{name}.new"));
        let shown = self.path.join(name);
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC | libc::O_NOFOLLOW;
        let file = fs::open_at(self.fd(), &temporary, flags, 0o600).step("write", shown.display())?;
        write_all(file.as_fd(), content).step("write", shown.display())?;
        fs::rename(self.fd(), &temporary, &c_string(name)).step("write", shown.display())
    }

    /// Removes the folder and what the runtime put into it.
    pub(crate) fn remove(&self) -> Result<()> {
        // Mostly that is the two files of a container that was started, and looking costs more than trying.
        for name in [STATE_FILE, FILTER_FILE] {
            let _ = fs::unlink(self.fd(), &c_string(name), 0);
        }
        if fs::unlink(self.root.as_fd(), &c_string(self.id.as_str()), libc::AT_REMOVEDIR).is_ok() {
            return Ok(());
        }
        for entry in std::fs::read_dir(&self.path).step("list", self.path.display())? {
            let entry = entry.step("list", self.path.display())?;
            let name = c_string(entry.file_name().as_encoded_bytes());
            fs::unlink(self.fd(), &name, 0).step("remove", entry.path().display())?;
        }
        match fs::unlink(self.root.as_fd(), &c_string(self.id.as_str()), libc::AT_REMOVEDIR) {
            Err(Errno(libc::ENOENT)) => Ok(()),
            other => other.step("remove container folder", self.path.display()),
        }
    }
}

/// Whether what was looked for is there.
fn there<T>(found: std::result::Result<T, Errno>) -> std::result::Result<bool, Errno> {
    match found {
        Err(Errno(libc::ENOENT)) => Ok(false),
        other => other.map(|_| true),
    }
}

/// A file of text, by its path on the host.
pub(crate) fn read_file(path: &Path) -> std::result::Result<String, Errno> {
    let file = fs::open_host(&c_string(path.as_os_str().as_encoded_bytes()), libc::O_RDONLY, 0)?;
    String::from_utf8(fs::read_all(file.as_fd())?).map_err(|_| Errno(libc::EILSEQ))
}

/// write(2) until all is written.
pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> std::result::Result<(), Errno> {
    while !bytes.is_empty() {
        match fs::write(fd, bytes) {
            Ok(0) => return Err(Errno(libc::EIO)),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno(libc::EINTR)) => {}
            // Whoever opened it does not want to wait, we do.
            Err(Errno(libc::EAGAIN)) => process::wait_writable(fd)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Replaces a file an engine named (`--pid-file`), whole. Others may write in its folder: no link of theirs is followed.
pub(crate) fn replace_file(path: &Path, content: &str) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.orlop-new"));
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).step("remove", temporary.display())?,
        _ => {}
    }
    let written = File::create_new(&temporary).and_then(|mut file| file.write_all(content.as_bytes()));
    let done = written.and_then(|()| std::fs::rename(&temporary, path));
    done.inspect_err(|_| drop(std::fs::remove_file(&temporary))).step("write", path.display())
}
