//! The new mount interface: file systems and clones are built detached, given their attributes, then moved onto a descriptor.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use super::{Result, check, check_fd, check_long};

// From <linux/mount.h>; libc has them for some C libraries only.
pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;
pub(crate) const ATIME: u64 = 0x70;
pub(crate) const RELATIME: u64 = 0x0;
pub(crate) const NOATIME: u64 = 0x10;
pub(crate) const STRICTATIME: u64 = 0x20;
pub(crate) const NODIRATIME: u64 = 0x80;
pub(crate) const NOSYMFOLLOW: u64 = 0x20_0000;
pub(crate) const IDMAP: u64 = 0x10_0000;

const OPEN_TREE_CLONE: u32 = 1;
const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = 0x1000;
const CLOEXEC: u32 = 0x8_0000;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Attributes {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns_fd: u64,
}

impl Attributes {
    pub(crate) fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0
    }
}

/// A detached copy of the mount at a path of the host, with what is mounted below it or without.
pub(crate) fn clone_path(path: &CStr, recursive: bool) -> Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | CLOEXEC | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: path ends in NUL.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// The same of an open file or folder.
pub(crate) fn clone_fd(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is the empty string constant.
    check_fd(unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), c"".as_ptr(), flags) })
}

/// Attaches a detached mount onto an open file or folder.
pub(crate) fn attach(mount: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
    const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
    let (from, to) = (mount.as_raw_fd(), onto.as_raw_fd());
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    let empty = c"".as_ptr();
    // SAFETY: both paths are the empty string constant.
    check_long(unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, flags) }).map(drop)
}

/// mount_setattr(2) on the mount a descriptor is the root of.
pub(crate) fn set_attributes(mount: BorrowedFd<'_>, recursive: bool, attributes: &Attributes) -> Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let size = size_of::<Attributes>();
    let (fd, empty, attributes) = (mount.as_raw_fd(), c"".as_ptr(), ptr::from_ref(attributes));
    // SAFETY: the structure is the kernel's mount_attr and its size is given; the path is the empty string constant.
    check_long(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, empty, flags, attributes, size) }).map(drop)
}

/// fsopen(2): a file system context in the namespaces of the caller.
pub(crate) fn fs_open(kind: &CStr) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: the name ends in NUL.
    check_fd(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
}

fn fs_config(
    context: BorrowedFd<'_>,
    command: u32,
    key: *const libc::c_char,
    value: *const libc::c_char,
) -> Result<()> {
    // SAFETY: the callers below pass null or strings that end in NUL, as each command wants them.
    check_long(unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, key, value, 0) }).map(drop)
}

pub(crate) fn fs_flag(context: BorrowedFd<'_>, key: &CStr) -> Result<()> {
    fs_config(context, 0, key.as_ptr(), ptr::null())
}

pub(crate) fn fs_string(context: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<()> {
    fs_config(context, 1, key.as_ptr(), value.as_ptr())
}

pub(crate) fn fs_fd(context: BorrowedFd<'_>, key: &CStr, value: BorrowedFd<'_>) -> Result<()> {
    const FSCONFIG_SET_FD: u32 = 5;
    let (context, none) = (context.as_raw_fd(), ptr::null::<libc::c_char>());
    // SAFETY: the key ends in NUL; this command takes a descriptor and no value.
    let done =
        unsafe { libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_SET_FD, key.as_ptr(), none, value.as_raw_fd()) };
    check_long(done).map(drop)
}

/// A context for the procfs of a pid namespace that the caller need not be in (Linux 6.17).
pub(crate) fn open_procfs_of(pid_namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    let context = fs_open(c"proc")?;
    fs_fd(context.as_fd(), c"pidns", pid_namespace).map(|()| context)
}

/// Creates the super block and returns its detached mount.
pub(crate) fn fs_create(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    const FSCONFIG_CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    fs_config(context, FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())?;
    // SAFETY: plain numbers go in.
    check_fd(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

/// The kernel's reason for the last failure, where the file system has given one: `tmpfs: Unknown parameter 'x'`. A message a
/// read(2), each with a letter for its kind in front and a line's end.
pub(crate) fn fs_words<'a>(context: BorrowedFd<'_>, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let count = super::fs::read(context, buffer).ok()?;
    buffer.get(2..count).map(<[u8]>::trim_ascii_end)
}

/// Makes the working directory, a mount's root, the root of this mount namespace; the old root is stacked on top of it.
pub(crate) fn pivot_to_cwd() -> Result<()> {
    // SAFETY: both paths are constants.
    check_long(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) }).map(drop)
}

/// Takes what is mounted on a path of the host, and below it, out of the namespace.
pub(crate) fn detach(path: &CStr) -> Result<()> {
    // SAFETY: path ends in NUL.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) }).map(drop)
}

/// Takes everything that is mounted at the working directory's top mount out of the namespace.
pub(crate) fn detach_cwd() -> Result<()> {
    // SAFETY: the path is a constant.
    check(unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) }).map(drop)
}
