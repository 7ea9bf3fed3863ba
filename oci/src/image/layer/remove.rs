//! Removing trees of any depth with a bounded number of open fds.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Folders open at the same time. A hostile layer can build deeper trees than fds can be opened, through links to
/// folders it made before; what lies deeper is moved up first.
const DEPTH_MAX: usize = 64;

/// Removes a name, and if it is a folder everything below it, without ever following a link. Folders that lie too deep
/// are moved to `graveyard` for a moment, a folder on the same file system that nobody looks into. A name that does not
/// exist is fine.
pub fn remove_all(parent: BorrowedFd<'_>, name: &[u8], graveyard: BorrowedFd<'_>) -> nix::Result<()> {
    let mut deep = Vec::new();
    remove(parent, name, graveyard, &mut deep, 0)?;
    while let Some(name) = deep.pop() {
        remove(graveyard, &name, graveyard, &mut deep, 0)?;
    }
    Ok(())
}

fn remove(
    parent: BorrowedFd<'_>,
    name: &[u8],
    graveyard: BorrowedFd<'_>,
    deep: &mut Vec<Vec<u8>>,
    depth: usize,
) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        // POSIX says EPERM, Linux EISDIR.
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error),
    }
    if depth == DEPTH_MAX {
        // The inode's number makes the name unique: there is one such folder on this file system.
        let inode = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_ino;
        let moved = format!("deep-{inode}").into_bytes();
        renameat(parent, name, graveyard, moved.as_slice())?;
        deep.push(moved);
        return Ok(());
    }
    let folder = openat(
        parent,
        name,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let names = names(&folder)?;
    // A listing may miss what moved while it was read, so an emptied folder is listed again until it is.
    let mut listing = names;
    while !listing.is_empty() {
        for name in &listing {
            remove(folder.as_fd(), name, graveyard, deep, depth + 1)?;
        }
        listing = self::names(&folder)?;
    }
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)
}

/// Some names in a folder, at most as many as fit a bounded list; none when it is empty.
fn names(folder: &OwnedFd) -> nix::Result<Vec<Vec<u8>>> {
    const NAMES_MAX: usize = 1024;
    let mut dir = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
        if names.len() == NAMES_MAX {
            break;
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    #[test]
    fn deep_trees_and_links_outward() {
        let home = tempfile::tempdir().unwrap();
        let canary = home.path().join("canary");
        fs::write(&canary, "here").unwrap();
        fs::create_dir(home.path().join("work")).unwrap();
        let work = OwnedFd::from(File::open(home.path().join("work")).unwrap());

        // 3,000 folders deep: longer than any path and deeper than the usual limit of fds.
        let mut folder = work.try_clone().unwrap();
        for _ in 0..3000 {
            nix::sys::stat::mkdirat(&folder, "d", Mode::S_IRWXU).unwrap();
            nix::unistd::symlinkat("/", &folder, "link").unwrap();
            folder = openat(&folder, "d", OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        }
        symlink(&canary, home.path().join("work/d/canary")).unwrap();
        for i in 0..1500 {
            File::create(home.path().join(format!("work/d/{i}"))).unwrap();
        }

        remove_all(work.as_fd(), b"d", work.as_fd()).unwrap();
        remove_all(work.as_fd(), b"link", work.as_fd()).unwrap();
        remove_all(work.as_fd(), b"never was", work.as_fd()).unwrap();
        assert_eq!(fs::read_dir(home.path().join("work")).unwrap().count(), 0);
        assert_eq!(fs::read(&canary).unwrap(), b"here");
    }
}
