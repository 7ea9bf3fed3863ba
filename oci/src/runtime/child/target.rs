//! Where something is mounted or made below the root: resolved by the kernel inside the root, made if it is missing.
//!
//! Every step goes through openat2 with RESOLVE_IN_ROOT on a *descriptor* of the root, so a link in the image, or one exchanged
//! while we look, can lead at most to another place inside it (CVE-2021-30465, CVE-2024-45310). New names are made with
//! mkdirat/mknodat in a folder that is already open, which follow nothing.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::runtime::sys::fs::{self, Walk};
use crate::runtime::sys::{Errno, Result};

const PATH_BYTES: usize = libc::PATH_MAX as usize;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

/// A path in a fixed buffer, ending in NUL.
struct PathBuffer {
    bytes: [u8; PATH_BYTES],
    length: usize,
}

impl PathBuffer {
    fn new(path: &[u8]) -> Result<PathBuffer> {
        let mut buffer = PathBuffer { bytes: [0; PATH_BYTES], length: 0 };
        buffer.push(path)?;
        Ok(buffer)
    }

    fn push(&mut self, more: &[u8]) -> Result<()> {
        let end = self.length + more.len();
        // One byte stays for the NUL.
        let room =
            self.bytes.get_mut(self.length..end).filter(|_| end < PATH_BYTES).ok_or(Errno(libc::ENAMETOOLONG))?;
        room.copy_from_slice(more);
        self.length = end;
        Ok(())
    }

    fn path(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Runs `use_it` with the first `end` bytes as a C string.
    fn up_to<T>(&mut self, end: usize, use_it: impl FnOnce(&CStr) -> Result<T>) -> Result<T> {
        let kept = *self.bytes.get(end).ok_or(Errno(libc::ENAMETOOLONG))?;
        if let Some(byte) = self.bytes.get_mut(end) {
            *byte = 0;
        }
        let result = match CStr::from_bytes_until_nul(&self.bytes) {
            Ok(path) => use_it(path),
            Err(_) => Err(Errno(libc::EINVAL)),
        };
        if let Some(byte) = self.bytes.get_mut(end) {
            *byte = kept;
        }
        result
    }
}

/// Opens a path below the root (O_PATH); it has to exist.
pub(super) fn find(root: BorrowedFd<'_>, path: &CStr, extra: i32) -> Result<OwnedFd> {
    fs::open(root, path, libc::O_PATH | extra, 0, Walk::InRoot)
}

/// Opens a path below the root and makes what is missing: folders with mode 755, at the end a folder or an empty file.
pub(super) fn find_or_make(root: BorrowedFd<'_>, path: &CStr, kind: Kind) -> Result<OwnedFd> {
    match find(root, path, 0) {
        Err(Errno(libc::ENOENT)) => {}
        other => return other,
    }
    match make_last(root, path, kind) {
        Ok(()) => find(root, path, 0),
        Err(_) => find_or_make_all(root, path, kind),
    }
}

/// Mostly only the last name is missing, and the path is short: then no buffers of a whole path's size are touched.
fn make_last(root: BorrowedFd<'_>, path: &CStr, kind: Kind) -> Result<()> {
    let bytes = path.to_bytes_with_nul();
    let (mut parent, mut start) = ([0; 64], 0);
    if let Some(end) = bytes.iter().rposition(|byte| *byte == b'/') {
        let room = parent.get_mut(..end).filter(|_| end < 64).ok_or(Errno(libc::ENAMETOOLONG))?;
        room.copy_from_slice(bytes.get(..end).unwrap_or_default());
        start = end + 1;
    }
    let wrong = Errno(libc::EINVAL);
    let name = bytes.get(start..).and_then(|name| CStr::from_bytes_with_nul(name).ok()).ok_or(wrong)?;
    let parent = CStr::from_bytes_until_nul(&parent).ok().map_or(c".", |p| if p.is_empty() { c"." } else { p });
    let parent = find(root, parent, libc::O_DIRECTORY)?;
    make_name(parent.as_fd(), name, kind)
}

fn make_name(parent: BorrowedFd<'_>, name: &CStr, kind: Kind) -> Result<()> {
    match kind {
        Kind::Folder => fs::mkdir(parent, name, 0o755),
        Kind::File => fs::mknod(parent, name, libc::S_IFREG | 0o644, 0),
    }
}

#[inline(never)] // its buffers are pages of the stack
fn find_or_make_all(root: BorrowedFd<'_>, path: &CStr, kind: Kind) -> Result<OwnedFd> {
    let mut path = PathBuffer::new(path.to_bytes())?;
    // Each link that leads to something missing starts the walk again, as often as the kernel would follow links.
    for _ in 0..40 {
        match make(root, &mut path, kind)? {
            Some(longer) => path = longer,
            None => {
                let end = path.length;
                return path.up_to(end, |p| find(root, p, 0));
            }
        }
    }
    Err(Errno(libc::ELOOP))
}

/// Makes the missing components. At a link to something missing: gives the path with the link's text in its place.
fn make(root: BorrowedFd<'_>, path: &mut PathBuffer, kind: Kind) -> Result<Option<PathBuffer>> {
    let mut start = 0;
    while start < path.length {
        let rest = path.path().get(start..).unwrap_or_default();
        let end = rest.iter().position(|b| *b == b'/').map_or(path.length, |at| start + at);
        if end > start {
            let exists = match path.up_to(end, |p| find(root, p, 0)) {
                Ok(_) => true,
                Err(Errno(libc::ENOENT)) => false,
                Err(errno) => return Err(errno),
            };
            let kind = if end == path.length { kind } else { Kind::Folder };
            if !exists && let Some(longer) = make_one(root, path, start, end, kind)? {
                return Ok(Some(longer));
            }
        }
        start = end + 1;
    }
    Ok(None)
}

fn make_one(
    root: BorrowedFd<'_>,
    path: &mut PathBuffer,
    start: usize,
    end: usize,
    kind: Kind,
) -> Result<Option<PathBuffer>> {
    let parent = if start == 0 {
        find(root, c".", libc::O_DIRECTORY)?
    } else {
        path.up_to(start, |p| find(root, p, libc::O_DIRECTORY))?
    };
    let mut name = PathBuffer::new(path.path().get(start..end).unwrap_or_default())?;
    let length = name.length;
    let made = name.up_to(length, |name| make_name(parent.as_fd(), name, kind));
    match made {
        Err(Errno(libc::EEXIST)) => {}
        other => return other.map(|()| None),
    }
    let mut text = [0; PATH_BYTES];
    let read = name.up_to(length, |name| fs::readlink(parent.as_fd(), name, &mut text));
    let count = match read {
        Ok(count) => count,
        // Not a link: somebody made it just now, which is what was wanted.
        Err(Errno(libc::EINVAL)) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let text = text.get(..count).unwrap_or_default();
    let before = if text.first() == Some(&b'/') { &[] } else { path.path().get(..start).unwrap_or_default() };
    let mut longer = PathBuffer::new(before)?;
    longer.push(text)?;
    longer.push(path.path().get(end..).unwrap_or_default())?;
    Ok(Some(longer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn made(root: &Path, path: &CStr, kind: Kind) -> Result<()> {
        let root = crate::runtime::error::c_string(root.as_os_str().as_encoded_bytes());
        let root = fs::open_host(&root, libc::O_PATH | libc::O_DIRECTORY, 0).unwrap();
        find_or_make(root.as_fd(), path, kind).map(drop)
    }

    #[test]
    fn what_is_missing_is_made_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("run")).unwrap();
        std::fs::create_dir(root.join("etc")).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        symlink("/run", root.join("abs")).unwrap();
        symlink("../../../../outside", root.join("up")).unwrap();
        symlink("../run/a/resolv.conf", root.join("etc/resolv.conf")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        made(&root, c"/a//b/c", Kind::Folder).unwrap();
        assert!(root.join("a/b/c").is_dir());
        made(&root, c"/abs/x/y", Kind::File).unwrap();
        assert!(root.join("run/x/y").is_file());
        made(&root, c"/etc/resolv.conf", Kind::File).unwrap();
        assert!(root.join("run/a/resolv.conf").is_file());
        made(&root, c"/up/z", Kind::Folder).unwrap();
        assert!(root.join("outside/z").is_dir());
        assert_eq!(std::fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
        assert_eq!(made(&root, c"/loop/x", Kind::Folder), Err(Errno(libc::ELOOP)));
        assert_eq!(made(&root, c"/run/x/y/z", Kind::Folder), Err(Errno(libc::ENOTDIR)));
    }

    #[test]
    fn long_paths_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let long = std::ffi::CString::new("x/".repeat(3000)).unwrap();
        assert_eq!(made(dir.path(), &long, Kind::Folder), Err(Errno(libc::ENAMETOOLONG)));
    }
}
