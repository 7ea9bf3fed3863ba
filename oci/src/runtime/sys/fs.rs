//! Files, folders and descriptors.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{Errno, Result, check, check_fd, check_long, check_size};

pub(crate) const PROC_MAGIC: i64 = 0x9fa0;
pub(crate) const TMPFS_MAGIC: i64 = 0x0102_1994;
pub(crate) const DEVPTS_MAGIC: i64 = 0x1cd1;
pub(crate) const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// "This folder": the descriptor that stands for the working directory.
pub(crate) fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is no descriptor that could be closed.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

/// How a path is walked (openat2's `resolve`).
#[derive(Clone, Copy)]
pub(crate) enum Walk {
    /// Everything, links included, stays below the given folder; `..` and absolute links stop at it. No magic links.
    InRoot,
    /// The same, and no link at all.
    InRootNoLinks,
    /// Below the folder, no links, and never onto another mount: for our own procfs and the cgroup tree.
    OneMount,
    /// Anywhere, but no magic links (`/proc/self/fd/N`): for the working directory, once the root is the container's.
    NoMagic,
}

impl Walk {
    fn bits(self) -> u64 {
        match self {
            Walk::InRoot => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
            Walk::InRootNoLinks => libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS,
            Walk::OneMount => libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV,
            Walk::NoMagic => libc::RESOLVE_NO_MAGICLINKS,
        }
    }
}

/// openat2(2), close-on-exec.
pub(crate) fn open(at: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32, walk: Walk) -> Result<OwnedFd> {
    // SAFETY: open_how is three integers; all zero is its documented neutral value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).unsigned_abs());
    how.mode = u64::from(mode);
    how.resolve = walk.bits();
    let mut tries = 0;
    loop {
        let size = size_of::<libc::open_how>();
        // SAFETY: path ends in NUL, `how` is the kernel's open_how and its size is given.
        let fd = unsafe { libc::syscall(libc::SYS_openat2, at.as_raw_fd(), path.as_ptr(), &raw const how, size) };
        match check_fd(fd) {
            // A rename anywhere on the machine while `..` was walked: the kernel asks to try again (openat2(2)).
            Err(e) if e.0 == libc::EAGAIN && tries < 64 => tries += 1,
            other => return other,
        }
    }
}

/// open(2) of a path of the host, as the caller of the runtime named it.
pub(crate) fn open_host(path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    open_at(cwd(), path, flags, mode)
}

/// openat(2): the last component is followed unless O_NOFOLLOW says otherwise. Only for folders nobody else writes to.
pub(crate) fn open_at(at: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC;
    // The system call itself: musl sets close-on-exec once more, for kernels of before 2.6.23.
    // SAFETY: path ends in NUL.
    check_fd(unsafe { libc::syscall(libc::SYS_openat, at.as_raw_fd(), path.as_ptr(), flags, mode) })
}

pub(crate) fn mkdir(at: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: name ends in NUL.
    check(unsafe { libc::mkdirat(at.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
}

pub(crate) fn mknod(at: BorrowedFd<'_>, name: &CStr, mode: u32, rdev: u64) -> Result<()> {
    // SAFETY: name ends in NUL.
    check(unsafe { libc::mknodat(at.as_raw_fd(), name.as_ptr(), mode, rdev) }).map(drop)
}

pub(crate) fn symlink(text: &CStr, at: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // SAFETY: both strings end in NUL.
    check(unsafe { libc::symlinkat(text.as_ptr(), at.as_raw_fd(), name.as_ptr()) }).map(drop)
}

pub(crate) fn unlink(at: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<()> {
    // SAFETY: name ends in NUL.
    check(unsafe { libc::unlinkat(at.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

pub(crate) fn rename(at: BorrowedFd<'_>, from: &CStr, to: &CStr) -> Result<()> {
    // SAFETY: both names end in NUL.
    check(unsafe { libc::renameat(at.as_raw_fd(), from.as_ptr(), at.as_raw_fd(), to.as_ptr()) }).map(drop)
}

pub(crate) fn readlink(at: BorrowedFd<'_>, name: &CStr, into: &mut [u8]) -> Result<usize> {
    // SAFETY: name ends in NUL; the buffer's length is its own.
    check_size(unsafe { libc::readlinkat(at.as_raw_fd(), name.as_ptr(), into.as_mut_ptr().cast(), into.len()) })
}

/// realpath(3) of a path of the host; allocates, but not by the C library, whose allocator costs more than the search.
pub(crate) fn real_path(path: &CStr) -> Result<CString> {
    let mut room = Vec::with_capacity(libc::PATH_MAX as usize);
    // SAFETY: path ends in NUL, and the room is PATH_MAX bytes, as realpath wants it.
    let found = unsafe { libc::realpath(path.as_ptr(), room.as_mut_ptr()) };
    if found.is_null() {
        return Err(Errno::last());
    }
    // SAFETY: realpath succeeded, so it wrote a string that ends in NUL.
    Ok(unsafe { CStr::from_ptr(found) }.to_owned())
}

pub(crate) fn stat(fd: BorrowedFd<'_>) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the buffer is a whole stat.
    check(unsafe { libc::fstat(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstat succeeded, so it filled the buffer.
    Ok(unsafe { stat.assume_init() })
}

/// The stat of a path of the host, links followed.
pub(crate) fn stat_host(path: &CStr) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: path ends in NUL, the buffer is a whole stat.
    check(unsafe { libc::stat(path.as_ptr(), stat.as_mut_ptr()) })?;
    // SAFETY: stat succeeded, so it filled the buffer.
    Ok(unsafe { stat.assume_init() })
}

/// The stat of a name in a folder, links not followed.
pub(crate) fn stat_at(at: BorrowedFd<'_>, name: &CStr) -> Result<libc::stat> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: name ends in NUL, the buffer is a whole stat.
    check(unsafe { libc::fstatat(at.as_raw_fd(), name.as_ptr(), stat.as_mut_ptr(), libc::AT_SYMLINK_NOFOLLOW) })?;
    // SAFETY: fstatat succeeded, so it filled the buffer.
    Ok(unsafe { stat.assume_init() })
}

/// The kernel's number of the mount an open file lies in: since Linux 6.8 one that no other mount ever has, before the one that the
/// next mount may be given.
pub(crate) fn mount_of(fd: BorrowedFd<'_>) -> Result<u64> {
    const MNT_ID_UNIQUE: u32 = 0x4000;
    let mut stat = MaybeUninit::<libc::statx>::uninit();
    let wanted = libc::STATX_MNT_ID | MNT_ID_UNIQUE;
    // SAFETY: the path is the empty string constant, the buffer is a whole statx.
    check(unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, wanted, stat.as_mut_ptr()) })?;
    // SAFETY: statx succeeded, so it filled the buffer.
    let stat = unsafe { stat.assume_init() };
    if stat.stx_mask & wanted == 0 { Err(Errno(libc::ENODATA)) } else { Ok(stat.stx_mnt_id) }
}

/// What kind of file system a descriptor lies on: its magic number.
pub(crate) fn file_system(fd: BorrowedFd<'_>) -> Result<i64> {
    let mut stat = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the buffer is a whole statfs.
    check(unsafe { libc::fstatfs(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstatfs succeeded, so it filled the buffer.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast)] // the field's type differs between C libraries
    let magic = stat.f_type as i64;
    Ok(magic)
}

/// ST_RDONLY, ST_NOSUID, ST_NODEV and ST_NOEXEC of the mount a descriptor was opened through: the bits mount_setattr(2) has for them.
pub(crate) fn mount_flags(fd: BorrowedFd<'_>) -> Result<u64> {
    let mut stat = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the buffer is a whole statvfs.
    check(unsafe { libc::fstatvfs(fd.as_raw_fd(), stat.as_mut_ptr()) })?;
    // SAFETY: fstatvfs succeeded, so it filled the buffer.
    Ok(unsafe { stat.assume_init() }.f_flag & 0xf)
}

/// Whether the mount a descriptor was opened through, or its super block, is read-only.
pub(crate) fn on_readonly_mount(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(mount_flags(fd)? & libc::ST_RDONLY != 0)
}

pub(crate) fn chdir_fd(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: a plain number goes in.
    check(unsafe { libc::fchdir(fd.as_raw_fd()) }).map(drop)
}

pub(crate) fn chroot_to_cwd() -> Result<()> {
    // SAFETY: the path is a constant.
    check(unsafe { libc::chroot(c".".as_ptr()) }).map(drop)
}

/// Whether the working directory can be reached from the root: outside of it getcwd(2) answers `(unreachable)/…`.
pub(crate) fn cwd_is_inside_root() -> Result<bool> {
    let mut buffer = [0_u8; libc::PATH_MAX as usize];
    // The system call itself: C libraries differ in how they treat the unreachable answer.
    // SAFETY: the buffer's length is its own.
    check_long(unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) })?;
    Ok(buffer.first() == Some(&b'/'))
}

pub(crate) fn chown_fd(fd: BorrowedFd<'_>, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: plain numbers go in.
    check(unsafe { libc::fchown(fd.as_raw_fd(), uid, gid) }).map(drop)
}

/// The owner of a name in a folder, links not followed.
pub(crate) fn chown_at(at: BorrowedFd<'_>, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW;
    // SAFETY: name ends in NUL.
    check(unsafe { libc::fchownat(at.as_raw_fd(), name.as_ptr(), uid, gid, flags) }).map(drop)
}

/// The SELinux context of an open file, which is kept as an extended attribute.
pub(crate) fn set_context(fd: BorrowedFd<'_>, context: &CStr) -> Result<()> {
    let (name, bytes) = (c"security.selinux", context.to_bytes_with_nul());
    // SAFETY: both strings live through the call, and the length is the value's.
    check(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0) }).map(drop)
}

/// The mode of a name in a folder; a link there is followed, so only for what is known to be none.
pub(crate) fn chmod_at(at: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: name ends in NUL.
    check(unsafe { libc::fchmodat(at.as_raw_fd(), name.as_ptr(), mode, 0) }).map(drop)
}

/// The names of an open file's extended attributes, each with its NUL.
pub(crate) fn attribute_names(fd: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer's length is its own.
    check_size(unsafe { libc::flistxattr(fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) })
}

pub(crate) fn attribute(fd: BorrowedFd<'_>, name: &CStr, into: &mut [u8]) -> Result<usize> {
    // SAFETY: name ends in NUL; the buffer's length is its own.
    check_size(unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), into.as_mut_ptr().cast(), into.len()) })
}

pub(crate) fn set_attribute(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: name ends in NUL; the value's length is its own.
    check(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) }).map(drop)
}

/// The next records of an open folder (getdents64); none at its end.
pub(crate) fn entries(folder: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize> {
    let (fd, size) = (folder.as_raw_fd(), into.len());
    // SAFETY: the buffer's length is its own.
    let count = check_long(unsafe { libc::syscall(libc::SYS_getdents64, fd, into.as_mut_ptr(), size) })?;
    usize::try_from(count).map_err(|_| Errno(libc::EIO))
}

/// Copies an open file from where it stands to its end.
pub(crate) fn copy_all(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    const PIECE: usize = 1 << 20;
    let none = std::ptr::null_mut();
    // SAFETY: null means the file's own position.
    while check_size(unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), none, PIECE) })? > 0 {}
    Ok(())
}

pub(crate) fn umask(mask: u32) -> u32 {
    // SAFETY: umask cannot fail and takes a plain number.
    unsafe { libc::umask(mask) }
}

pub(crate) fn read(fd: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize> {
    // SAFETY: the buffer's length is its own.
    check_size(unsafe { libc::read(fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) })
}

pub(crate) fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    // SAFETY: the buffer's length is its own.
    check_size(unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) })
}

/// The rest of an open file. Allocates.
pub(crate) fn read_all(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        all.reserve(4096);
        let room = all.spare_capacity_mut();
        // SAFETY: the buffer's length is its own.
        let count = check_size(unsafe { libc::read(fd.as_raw_fd(), room.as_mut_ptr().cast(), room.len()) })?;
        if count == 0 {
            return Ok(all);
        }
        // SAFETY: the kernel has filled that many bytes behind those that were there.
        unsafe { all.set_len(all.len() + count) };
    }
}

pub(crate) fn rewind(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: plain numbers go in.
    let at = unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) };
    if at < 0 { Err(Errno::last()) } else { Ok(()) }
}

/// Whether the caller may execute the file at a path, as its effective ids see it.
pub(crate) fn executable(path: &CStr) -> Result<()> {
    // SAFETY: path ends in NUL.
    check(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) })?;
    // Of a folder it is another right.
    if stat_host(path)?.st_mode & libc::S_IFMT == libc::S_IFDIR { Err(Errno(libc::EACCES)) } else { Ok(()) }
}

/// Whether a descriptor of this number is open.
pub(crate) fn is_open(number: u32) -> bool {
    // SAFETY: plain numbers go in; what is open is only asked about.
    i32::try_from(number).is_ok_and(|number| unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0)
}

/// Marks every descriptor from `first` on close-on-exec.
pub(crate) fn close_on_exec_from(first: u32) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: plain numbers go in; the flag closes nothing now.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes every descriptor from `first` on but two, behind their owners' backs.
pub(crate) fn close_all_but(kept: [BorrowedFd<'_>; 2], first: u32) -> Result<()> {
    let [a, b] = kept.map(|fd| fd.as_raw_fd().unsigned_abs());
    let (low, high) = (a.min(b), a.max(b));
    let ranges = [(first, low.saturating_sub(1)), (first.max(low + 1), high - 1), (first.max(high + 1), u32::MAX)];
    ranges.into_iter().filter(|(from, to)| from <= to).try_for_each(|(from, to)| {
        // SAFETY: the caller uses none of them any more, and their owners are never dropped.
        check_long(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) }).map(drop)
    })
}

/// The exclusive lock of an open folder, if nobody has it; the lock goes with the descriptor.
pub(crate) fn try_lock(fd: BorrowedFd<'_>) -> Result<bool> {
    // SAFETY: plain numbers go in.
    match check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }) {
        Err(Errno(libc::EWOULDBLOCK)) => Ok(false),
        other => other.map(|_| true),
    }
}

/// Waits for it.
pub(crate) fn lock(fd: BorrowedFd<'_>) -> Result<()> {
    loop {
        // SAFETY: plain numbers go in.
        match check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX) }) {
            Err(e) if e.0 == libc::EINTR => {}
            other => return other.map(drop),
        }
    }
}

pub(crate) fn unlock(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: plain numbers go in.
    check(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_UN) }).map(drop)
}

/// Closes a descriptor behind its owner's back: one of the two copies that parent and child have, where they share the owner.
pub(crate) fn close_copy(fd: BorrowedFd<'_>) {
    // SAFETY: the caller uses this descriptor no more, and its owner is leaked or the other side's.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// dup2(2) onto one of the standard streams: the copy is not close-on-exec, which is what is wanted there.
pub(crate) fn replace_stdio(fd: BorrowedFd<'_>, stream: i32) -> Result<()> {
    // SAFETY: plain numbers go in; streams 0 to 2 are owned by nobody in this program.
    check(unsafe { libc::dup2(fd.as_raw_fd(), stream) }).map(drop)
}

/// One of the standard streams.
pub(crate) fn stdio(stream: i32) -> BorrowedFd<'static> {
    // SAFETY: streams 0 to 2 are never closed by this program; at worst a call on one answers EBADF.
    unsafe { BorrowedFd::borrow_raw(stream) }
}

/// The names of the folders in an open folder. Allocates: not for the child.
pub(crate) fn folders_in(folder: OwnedFd) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut dir = nix::dir::Dir::from_fd(folder).map_err(|e| Errno(e as i32))?;
    for entry in dir.iter().flatten() {
        if entry.file_type() == Some(nix::dir::Type::Directory) {
            names.extend(entry.file_name().to_str().ok().filter(|n| *n != "." && *n != "..").map(str::to_owned));
        }
    }
    Ok(names)
}
