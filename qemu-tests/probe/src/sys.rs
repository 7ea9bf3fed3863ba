//! System calls the standard library has no word for.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Ignores the signal from now on, here and in children.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: SIG_IGN is a valid disposition for any signal number; a wrong number only gives an error.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Ends the process on this signal, although it may be PID 1 of its namespace: those get only what they handle.
pub(crate) fn exit_on(signal: i32) {
    extern "C" fn exit(_: i32) {
        // SAFETY: _exit is async-signal-safe and does not return.
        unsafe { libc::_exit(0) };
    }
    let handler: extern "C" fn(i32) = exit;
    // SAFETY: the handler lives as long as the program and does nothing but end it.
    unsafe { libc::signal(signal, handler as libc::sighandler_t) };
}

/// Writes what all file systems have not written yet.
pub(crate) fn sync() {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::sync() };
}

/// The first socket handed over by sd_listen_fds(3)'s protocol.
pub(crate) fn handed_listener() -> Option<TcpListener> {
    std::env::var_os("LISTEN_FDS")?;
    // SAFETY: who sets the variable has opened descriptor 3 for this program; nothing here has taken or closed it.
    Some(unsafe { TcpListener::from_raw_fd(3) })
}

/// The first descriptor handed over by the same protocol, of a file.
pub(crate) fn handed_file() -> Option<File> {
    std::env::var_os("LISTEN_FDS")?;
    // SAFETY: who sets the variable has opened descriptor 3 for this program; nothing here has taken or closed it.
    Some(unsafe { File::from_raw_fd(3) })
}

pub(crate) fn file_in_memory() -> io::Result<File> {
    // SAFETY: a name that ends with a zero and lives as long as the program.
    let fd = check(unsafe { libc::memfd_create(c"kept".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: the kernel has just made it for us.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// One datagram, and a descriptor with it (SCM_RIGHTS of unix(7)).
pub(crate) fn send_with(socket: &UnixDatagram, text: &[u8], file: &File) -> io::Result<()> {
    /// As cmsg(3) lays it out: a head, and one descriptor.
    #[repr(C)]
    struct Rights {
        head: libc::cmsghdr,
        fd: i32,
    }
    // SAFETY: both are plain numbers and pointers, for which zeros are valid.
    let (mut rights, mut message): (Rights, libc::msghdr) = unsafe { std::mem::zeroed() };
    // C libraries differ about how wide a length is.
    rights.head.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<i32>()) as _;
    (rights.head.cmsg_level, rights.head.cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    rights.fd = file.as_raw_fd();
    let mut part = libc::iovec { iov_base: text.as_ptr().cast_mut().cast(), iov_len: text.len() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = ((&raw mut rights).cast(), size_of::<Rights>() as _);
    // SAFETY: the message names a text and one whole control message, and all of it outlives the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A child that does nothing.
pub(crate) fn fork_one_that_stays() -> io::Result<()> {
    // SAFETY: this program has one thread, and the child only waits.
    match check(unsafe { libc::fork() })? {
        0 => pause(),
        _ => Ok(()),
    }
}

/// fallocate(2): room from this offset on.
pub(crate) fn allocate(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::fallocate(file.as_raw_fd(), 0, at.cast_signed(), bytes.cast_signed()) }).map(drop)
}

/// Sleeps until a signal ends the process.
pub(crate) fn pause() -> ! {
    loop {
        // SAFETY: pause takes no arguments and touches no memory.
        unsafe { libc::pause() };
    }
}

/// statfs(2).
pub(crate) fn statfs(path: &str) -> io::Result<libc::statfs> {
    let path = CString::new(path)?;
    let mut result = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the path is a C string that outlives the call, and the kernel writes at most one statfs.
    if unsafe { libc::statfs(path.as_ptr(), result.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so the kernel has filled the structure.
    Ok(unsafe { result.assume_init() })
}

/// Enters the name space this file of a procfs stands for.
pub(crate) fn enter(space: &File) -> io::Result<()> {
    // SAFETY: numbers only.
    check(unsafe { libc::setns(space.as_raw_fd(), 0) }).map(drop)
}

/// mount(2) without flags and options.
pub(crate) fn mount(device: &str, on: &Path, kind: &str) -> io::Result<()> {
    let (device, kind, on) = (CString::new(device)?, CString::new(kind)?, CString::new(on.as_os_str().as_bytes())?);
    // SAFETY: three C strings that outlive the call; no data is allowed.
    check(unsafe { libc::mount(device.as_ptr(), on.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) }).map(drop)
}

/// An ioctl whose argument is a number, or the address of memory that is as long as its request says.
pub(crate) fn ioctl(device: &File, request: u32, argument: usize) -> io::Result<i32> {
    // SAFETY: the callers pass a number, or memory that is alive and of the size the request states.
    check(unsafe { libc::ioctl(device.as_raw_fd(), request as libc::Ioctl, argument) })
}

/// kexec_file_load(2).
pub(crate) fn kexec_file_load(image: &File, initramfs: &File, words: &CStr) -> io::Result<()> {
    let (image, initramfs, len) = (image.as_raw_fd(), initramfs.as_raw_fd(), words.to_bytes_with_nul().len());
    // SAFETY: two open files, and a C string whose length counts its end.
    let result = unsafe { libc::syscall(libc::SYS_kexec_file_load, image, initramfs, len, words.as_ptr(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// CLOCK_MONOTONIC.
pub(crate) fn monotonic_ns() -> io::Result<i64> {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the kernel writes one timespec.
    check(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, time.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so the kernel has filled the structure.
    let time = unsafe { time.assume_init() };
    Ok(time.tv_sec * 1_000_000_000 + time.tv_nsec)
}

fn check(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
