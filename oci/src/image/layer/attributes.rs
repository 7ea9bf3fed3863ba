//! Owner, mode, extended attributes and time, in the order in which the kernel lets them stand: chown(2) clears setuid
//! bits and file capabilities, and everything changes the time.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::BorrowedFd;

use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmod, fchmodat, futimens, utimensat};
use nix::unistd::{Gid, Uid, fchown, fchownat};

use super::super::error::{LayerError, at};
use super::entry::{Entry, Kind};
use super::sys;
use super::times::spec;

/// overlayfs: nothing of the layers below shows in this folder.
pub(super) const OPAQUE: &CStr = c"trusted.overlay.opaque";

/// Refuses attributes that would speak to overlayfs or the kernel instead of the container: a layer with an
/// `overlay.redirect` of its own could show any lower file at any place.
pub(super) fn check(entry: &Entry) -> Result<(), LayerError> {
    for (name, _) in &entry.xattrs {
        let known = (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
            || name == b"security.capability"
            || name.starts_with(b"system.posix_acl_")
            || is_label(name);
        if !known || name.contains(&0) {
            let reason = format!("attribute {} is none an image may set", name.escape_ascii());
            return Err(LayerError::refused(&entry.name, reason));
        }
    }
    Ok(())
}

/// Labels and measurements belong to the policy of the machine that built the image; this one has its own. Docker and
/// umoci leave them out, too.
fn is_label(name: &[u8]) -> bool {
    matches!(name, b"security.selinux" | b"security.ima" | b"security.evm" | b"security.SMACK64" | b"security.apparmor")
}

/// Sets what an entry says on an open file or folder.
pub(super) fn set(fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
    let name = entry.name.as_slice();
    fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid))).map_err(at("chown", name))?;
    fchmod(fd, mode(entry)).map_err(at("chmod", name))?;
    each_xattr(entry, |key, value| sys::fsetxattr(fd, key, value))?;
    futimens(fd, &spec(entry.mtime), &spec(entry.mtime)).map_err(at("set the time of", name))
}

/// Sets what an entry says on what is no file that could be opened: a link itself, or a fifo.
pub(super) fn set_at(parent: BorrowedFd<'_>, file: &[u8], entry: &Entry) -> Result<(), LayerError> {
    let name = entry.name.as_slice();
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fchownat(parent, file, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(at("chown", name))?;
    if entry.kind != Kind::Symlink {
        // Not a link: it was made a moment ago in a folder nobody else reaches.
        fchmodat(parent, file, mode(entry), FchmodatFlags::FollowSymlink).map_err(at("chmod", name))?;
    }
    each_xattr(entry, |key, value| sys::set_xattr_at(parent, file, key, value))?;
    let time = spec(entry.mtime);
    utimensat(parent, file, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(at("set the time of", name))
}

fn mode(entry: &Entry) -> Mode {
    Mode::from_bits_truncate(entry.mode)
}

fn each_xattr(entry: &Entry, set: impl Fn(&CStr, &[u8]) -> io::Result<()>) -> Result<(), LayerError> {
    for (key, value) in entry.xattrs.iter().filter(|(key, _)| !is_label(key)) {
        let key = CString::new(key.as_slice()).map_err(at("read an attribute's name of", &entry.name))?;
        set(&key, value).map_err(at("set an attribute of", &entry.name))?;
    }
    Ok(())
}
