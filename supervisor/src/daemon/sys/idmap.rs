//! mount_setattr(2): copies of mounts whose ids are mapped, and the user namespaces that say how; mounts without devices.

use std::{
    ffi::CString,
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::{errno::Errno, sched::CloneFlags};

// From <linux/mount.h>; libc has them for some C libraries only.
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOUNT_ATTR_NODEV: u64 = 4;
const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

/// `struct mount_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL.into())
}

/// A copy of what is mounted there, that is attached nowhere; with what is mounted below it, if `recursive`.
pub(in super::super) fn copy_of_mount(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    let depth = if recursive { libc::AT_RECURSIVE.unsigned_abs() } else { 0 };
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.unsigned_abs() | depth;
    // SAFETY: the path ends in NUL and lives through the call.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What is on disk an id of the user namespace becomes the one that it is outside.
pub(in super::super) fn map_ids(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> io::Result<()> {
    let userns_fd = u64::from(namespace.as_raw_fd().unsigned_abs());
    set(mount, 0, &Attributes { set: MOUNT_ATTR_IDMAP, userns_fd, ..Attributes::default() })
}

/// There, and in all that is mounted below it, no file is a device.
pub(in super::super) fn forbid_devices(mount: BorrowedFd<'_>) -> io::Result<()> {
    set(mount, libc::AT_RECURSIVE, &Attributes { set: MOUNT_ATTR_NODEV, ..Attributes::default() })
}

fn set(mount: BorrowedFd<'_>, flags: libc::c_int, attributes: &Attributes) -> io::Result<()> {
    let (fd, empty) = (mount.as_raw_fd(), c"".as_ptr());
    let (flags, attributes) = (flags | libc::AT_EMPTY_PATH, &raw const *attributes);
    // SAFETY: `attributes` is of the size that is said; both it and the empty path live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, fd, empty, flags, attributes, size_of::<Attributes>()) };
    Errno::result(result).map(drop).map_err(Into::into)
}

pub(in super::super) fn attach(mount: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let (empty, target) = (c"".as_ptr(), c_path(target)?);
    let (from, here) = (mount.as_raw_fd(), libc::AT_FDCWD);
    // SAFETY: both paths end in NUL and live through the call.
    let result =
        unsafe { libc::syscall(libc::SYS_move_mount, from, empty, here, target.as_ptr(), MOVE_MOUNT_F_EMPTY_PATH) };
    Errno::result(result).map(drop).map_err(Into::into)
}

/// A user namespace with these contents of uid_map and gid_map. It lives as long as the descriptor.
pub(in super::super) fn user_namespace(uids: &str, gids: &str) -> io::Result<OwnedFd> {
    in_user_namespace(CloneFlags::empty(), uids, gids, |pid| Ok(File::open(format!("/proc/{pid}/ns/user"))?.into()))
}

/// The same with other new namespaces, which belong to it: what is asked of a process that lives there meanwhile.
pub(in super::super) fn in_user_namespace<T>(
    kinds: CloneFlags,
    uids: &str,
    gids: &str,
    ask: impl FnOnce(i64) -> io::Result<T>,
) -> io::Result<T> {
    let (pid, pidfd) = inhabitant(kinds)?;
    let made = (|| {
        for (file, maps) in [("uid_map", uids), ("gid_map", gids)] {
            // In one write: the kernel takes no second.
            OpenOptions::new().write(true).open(format!("/proc/{pid}/{file}"))?.write_all(maps.as_bytes())?;
        }
        ask(pid)
    })();
    // Whatever failed: it is ended and waited for, by us, because nobody else sees its end.
    let _ = super::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL);
    let id = pidfd.as_raw_fd().unsigned_abs();
    // SAFETY: a siginfo_t of zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is a valid siginfo_t for the kernel to fill, alive through the call.
        let waited = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, libc::WEXITED | libc::__WALL) };
        if waited == 0 || Errno::last() != Errno::EINTR {
            return made;
        }
    }
}

/// A process in a new user namespace that does nothing until it is killed. Its end makes no SIGCHLD, so that nobody takes it for a
/// process of the runtime; and it ends with this thread, should that be killed first.
fn inhabitant(kinds: CloneFlags) -> io::Result<(i64, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers; all zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from((kinds.bits() | libc::CLONE_NEWUSER | libc::CLONE_PIDFD).unsigned_abs());
    args.pidfd = (&raw mut pidfd).addr() as u64;
    let own = libc::c_long::from(std::process::id());
    let size = size_of::<libc::clone_args>();
    // SAFETY: without CLONE_VM and a stack it is fork(2); the child makes system calls alone, whatever other threads held.
    let pid = Errno::result(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size) })?;
    if pid != 0 {
        // SAFETY: CLONE_PIDFD made this descriptor for us.
        return Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }));
    }
    loop {
        // SAFETY: integers only.
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
        // SAFETY: takes nothing.
        if unsafe { libc::syscall(libc::SYS_getppid) } != own {
            // SAFETY: ends this process, which has nothing to clean up.
            unsafe { libc::syscall(libc::SYS_exit_group, 1) };
        }
        // SAFETY: no descriptors and no time limit: it waits for a signal.
        unsafe { libc::syscall(libc::SYS_ppoll, 0, 0, 0, 0, 0) };
    }
}
