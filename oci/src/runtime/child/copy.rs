//! A folder of the image copied into a fresh file system (`tmpcopyup`), by descriptors only and without allocating.
//!
//! Names come from the folder's own list, each is looked at without following it, and made anew in a folder nobody else has seen:
//! a link in the image is copied as a link.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Errno, fs};
use crate::runtime::sys::memory::Pages;

/// Nothing an image means nests deeper, and the stack of this process is small: a storey takes less than 2 KiB of it.
const DEPTH: u32 = 64;

const FOLDER: i32 = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;

pub(super) fn folder(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: u32) -> Result<(), Errno> {
    if depth > DEPTH {
        return Err(Errno(libc::ELOOP));
    }
    let list = fs::open_at(from, c".", FOLDER, 0)?;
    let mut buffer = [0_u8; 1024];
    loop {
        let count = fs::entries(list.as_fd(), &mut buffer)?;
        let mut rest = buffer.get(..count).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        // struct linux_dirent64: inode, offset, length of the record, type, name.
        while let Some((length, name)) = rest.get(16..18).zip(rest.get(19..)) {
            let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
            let name = CStr::from_bytes_until_nul(name).map_err(|_| Errno(libc::EIO))?;
            if name != c"." && name != c".." {
                one(list.as_fd(), to, name, depth)?;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}

fn one(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<(), Errno> {
    let stat = fs::stat_at(from, name)?;
    let mode = stat.st_mode & 0o7777;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => {
            fs::mkdir(to, name, 0o700)?;
            let (source, below) = (fs::open_at(from, name, FOLDER, 0)?, fs::open_at(to, name, FOLDER, 0)?);
            folder(source.as_fd(), below.as_fd(), depth + 1)?;
            attributes(source.as_fd(), below.as_fd())?;
        }
        libc::S_IFLNK => {
            link(from, to, name)?;
            return fs::chown_at(to, name, stat.st_uid, stat.st_gid);
        }
        libc::S_IFREG => {
            let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let source = fs::open_at(from, name, flags, 0)?;
            let copy = fs::open_at(to, name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL, 0o600)?;
            fs::copy_all(source.as_fd(), copy.as_fd())?;
            // Before them: a change of owner takes the capabilities of a file away.
            fs::chown_at(to, name, stat.st_uid, stat.st_gid)?;
            attributes(source.as_fd(), copy.as_fd())?;
            return fs::chmod_at(to, name, mode);
        }
        _ => fs::mknod(to, name, stat.st_mode, stat.st_rdev)?,
    }
    fs::chown_at(to, name, stat.st_uid, stat.st_gid)?;
    // After the owner: a change of owner takes set-user-id away.
    fs::chmod_at(to, name, mode)
}

/// The most that names and value of extended attributes are (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// Extended attributes, a program's capabilities among them; those that a tmpfs does not know (`user.*` before Linux 6.6, labels) stay
/// behind, as with crun. Apart, so that its buffers are not on the stack of every storey.
#[inline(never)]
fn attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    match copy_attributes(from, to, &mut [0; 2048], &mut [0; 2048]) {
        Err(Errno(libc::ERANGE)) => {
            let mut room = Pages::new(2 * ATTRIBUTE_BYTES)?;
            let (names, value) = room.bytes().split_at_mut(ATTRIBUTE_BYTES);
            copy_attributes(from, to, names, value)
        }
        other => other,
    }
}

fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, names: &mut [u8], value: &mut [u8]) -> Result<(), Errno> {
    let count = match fs::attribute_names(from, names) {
        Err(Errno(libc::EOPNOTSUPP)) => return Ok(()),
        other => other?,
    };
    let mut rest = names.get(..count).unwrap_or_default();
    while let Ok(name) = CStr::from_bytes_until_nul(rest) {
        rest = rest.get(name.count_bytes() + 1..).unwrap_or_default();
        let length = match fs::attribute(from, name, value) {
            // Capabilities of a file that mean nothing in this user namespace: its root is not the one they were given for.
            Err(Errno(libc::EOVERFLOW)) => continue,
            other => other?,
        };
        match fs::set_attribute(to, name, value.get(..length).unwrap_or_default()) {
            Err(Errno(libc::EOPNOTSUPP | libc::EINVAL)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Apart, so that its buffer is not on the stack of every storey.
#[inline(never)]
fn link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let mut text = [0; libc::PATH_MAX as usize];
    let length = fs::readlink(from, name, &mut text)?;
    // The last byte stays zero: a link is shorter than a path may be.
    let text = CStr::from_bytes_until_nul(text.get(..=length).ok_or(Errno(libc::ENAMETOOLONG))?);
    fs::symlink(text.map_err(|_| Errno(libc::ENAMETOOLONG))?, to, name)
}
