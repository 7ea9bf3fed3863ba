//! A new volume gets what the image has at its place, with owners and modes, as Docker and Podman do it: that is how a database
//! image finds a data folder it may write to.

use std::{
    collections::BTreeSet,
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
    sync::{Condvar, Mutex, PoisonError},
};

use nix::{
    dir::{Dir, Type},
    errno::Errno,
    fcntl::{AtFlags, OFlag, open, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat},
    unistd::{Gid, Uid, fchown, fchownat, symlinkat},
};

use super::{BundleError, at, make_folder, rootfs};
use crate::unit::IdMaps;

/// Deeper trees are not copied; nobody ships one at a volume's place.
const MAX_DEPTH: u32 = 64;

/// Volumes that are being made. Bundles are made beside each other and the members of a pod share its volumes, but the unfinished
/// folder has one name: whoever comes second waits, and finds the volume as the first one made it.
static IN_WORK: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static DONE: Condvar = Condvar::new();

struct Turn<'a>(&'a Path);

impl<'a> Turn<'a> {
    fn wait(dir: &'a Path) -> Self {
        let mut busy = IN_WORK.lock().unwrap_or_else(PoisonError::into_inner);
        while !busy.insert(dir.to_owned()) {
            busy = DONE.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Self(dir)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        IN_WORK.lock().unwrap_or_else(PoisonError::into_inner).remove(self.0);
        DONE.notify_all();
    }
}

/// What a new volume begins with.
pub(super) struct Beginning<'a> {
    pub(super) root: &'a OwnedFd,
    pub(super) destination: &'a str,
    pub(super) copy: bool,
    pub(super) ids: Option<&'a IdMaps>,
    /// As the unit file has it; else the image's.
    pub(super) owner: (Option<u32>, Option<u32>),
}

impl Beginning<'_> {
    /// For a folder that nobody sees yet.
    pub(super) fn give(&self, folder: &Path) -> Result<(), BundleError> {
        if self.copy {
            match rootfs::open(self.root, self.destination, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
                Ok(source) => fill(&source, folder, self.ids).map_err(at("copy the image's files to", folder))?,
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => {}
                Err(errno) => return Err(at("open the image's", Path::new(self.destination))(errno.into())),
            }
        }
        let (uid, gid) = self.owner;
        chown(folder, uid, gid).map_err(at("chown", folder))
    }
}

/// Makes the volume's folder, if it is new.
pub(super) fn prepare(dir: &Path, beginning: &Beginning<'_>) -> Result<(), BundleError> {
    let _turn = Turn::wait(dir);
    if dir.exists() {
        return Ok(());
    }
    let Some(parent) = dir.parent() else { return Ok(()) };
    make_folder(parent, 0o711)?;
    // Under another name until it is complete: a power cut in between leaves no half-filled volume.
    let unfinished = parent.join(format!(".new-{}", dir.file_name().unwrap_or_default().display()));
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("empty", &unfinished)(error)),
        _ => {}
    }
    make_folder(&unfinished, 0o755)?;
    beginning.give(&unfinished)?;
    fs::rename(&unfinished, dir).map_err(at("rename", dir))?;
    let sync = |path: &Path| fs::File::open(path).and_then(|folder| folder.sync_all());
    sync(parent).map_err(at("sync", parent))
}

fn fill(source: &OwnedFd, target: &Path, ids: Option<&IdMaps>) -> io::Result<()> {
    let meta = fs::File::from(source.try_clone()?).metadata()?;
    let folder = open(target, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    copy_tree(source, &folder, 0, ids)?;
    let (uid, gid) = on_disk(meta.uid(), meta.gid(), ids);
    fchown(&folder, Some(uid), Some(gid))?;
    fs::File::from(folder).set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777))
}

/// What the container counts, and so does the disk; seen through its root they are the machine's.
fn on_disk(uid: u32, gid: u32, ids: Option<&IdMaps>) -> (Uid, Gid) {
    let (uid, gid) = ids.map_or((uid, gid), |ids| ids.in_container(uid, gid));
    (Uid::from_raw(uid), Gid::from_raw(gid))
}

fn copy_tree(source: &OwnedFd, target: &OwnedFd, depth: u32, ids: Option<&IdMaps>) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the tree is too deep"));
    }
    let listing = Dir::from_fd(source.try_clone()?)?;
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = fstatat(source, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let (uid, gid) = on_disk(stat.st_uid, stat.st_gid, ids);
        let follow_not = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        match kind(&stat, entry.file_type()) {
            Type::Directory => {
                mkdirat(target, name, Mode::from_bits_truncate(0o700))?;
                let from = openat(source, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | follow_not, Mode::empty())?;
                let to = openat(target, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | follow_not, Mode::empty())?;
                copy_tree(&from, &to, depth + 1, ids)?;
                own(&to, uid, gid, stat.st_mode)?;
            }
            Type::File => {
                let from = openat(source, name, OFlag::O_RDONLY | follow_not, Mode::empty())?;
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | follow_not;
                let to = openat(target, name, flags, Mode::from_bits_truncate(0o600))?;
                let (mut from, mut to) = (fs::File::from(from), fs::File::from(to));
                io::copy(&mut from, &mut to)?;
                to.sync_all()?;
                own(&to, uid, gid, stat.st_mode)?;
            }
            Type::Symlink => {
                symlinkat(readlinkat(source, name)?.as_os_str(), target, name)?;
                fchownat(target, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
            }
            // Devices, pipes and sockets are not data.
            _ => {}
        }
    }
    Ok(())
}

/// Owner before mode: a change of owner takes setuid bits away.
fn own(fd: impl AsFd, uid: Uid, gid: Gid, mode: u32) -> io::Result<()> {
    fchown(&fd, Some(uid), Some(gid))?;
    fchmod(&fd, Mode::from_bits_truncate(mode & 0o7777))?;
    Ok(())
}

fn kind(stat: &FileStat, listed: Option<Type>) -> Type {
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFDIR => Type::Directory,
        SFlag::S_IFREG => Type::File,
        SFlag::S_IFLNK => Type::Symlink,
        _ => listed.unwrap_or(Type::Fifo),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_new_volume_holds_the_images_files_and_an_old_one_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::create_dir_all(image.join("data/sub")).unwrap();
        fs::write(image.join("data/sub/file"), "content").unwrap();
        fs::set_permissions(image.join("data/sub/file"), fs::Permissions::from_mode(0o4640)).unwrap();
        fs::set_permissions(image.join("data"), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("/etc/passwd", image.join("data/link")).unwrap();
        let root: OwnedFd = fs::File::open(&image).unwrap().into();
        let volume = folder.path().join("volumes/pg");
        let beginning = Beginning { root: &root, destination: "/data", copy: true, ids: None, owner: (None, None) };
        prepare(&volume, &beginning).unwrap();
        assert_eq!(fs::read_to_string(volume.join("sub/file")).unwrap(), "content");
        assert_eq!(fs::metadata(volume.join("sub/file")).unwrap().mode() & 0o7777, 0o4640);
        assert_eq!(fs::metadata(&volume).unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_link(volume.join("link")).unwrap(), Path::new("/etc/passwd"));
        fs::write(volume.join("sub/file"), "changed").unwrap();
        prepare(&volume, &beginning).unwrap();
        assert_eq!(fs::read_to_string(volume.join("sub/file")).unwrap(), "changed");
        for (destination, copy) in [("/data", false), ("/nowhere", true)] {
            let empty = folder.path().join("volumes").join(format!("empty{copy}"));
            prepare(&empty, &Beginning { destination, copy, ..beginning }).unwrap();
            assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
        }
    }
    #[test]
    fn a_new_volume_is_made_once_whoever_asks_at_the_same_time() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::create_dir_all(image.join("data")).unwrap();
        fs::create_dir_all(image.join("empty")).unwrap();
        for file in 0..30 {
            fs::write(image.join("data").join(file.to_string()), "content").unwrap();
        }
        let root: OwnedFd = fs::File::open(&image).unwrap().into();
        for (source, files) in [("/data", 30), ("/empty", 0)] {
            for round in 0..8 {
                let volume = folder.path().join("volumes").join(format!("{files}-{round}"));
                let make = || {
                    prepare(
                        &volume,
                        &Beginning { root: &root, destination: source, copy: true, ids: None, owner: (None, None) },
                    )
                    .unwrap();
                    (fs::metadata(&volume).unwrap().ino(), fs::read_dir(&volume).unwrap().count())
                };
                let seen: BTreeSet<_> = std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).collect()
                });
                assert_eq!(seen.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [files]);
            }
        }
    }
}
