//! Local sockets: the channel between runtime and child, the start socket, and the console socket.

use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Errno, Result, check, check_fd, check_size};

/// A connected pair that keeps message boundaries.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: the array has room for two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let first = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let second = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    Ok((first, second))
}

/// The address of a name in the working directory or of an absolute path; at most 107 bytes.
fn address(path: &[u8]) -> Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: sockaddr_un is plain data, all zero is valid.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap_or_default();
    if path.len() >= address.sun_path.len() {
        return Err(Errno(libc::ENAMETOOLONG));
    }
    for (to, from) in address.sun_path.iter_mut().zip(path) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let length = size_of::<libc::sa_family_t>() + path.len() + 1;
    Ok((address, libc::socklen_t::try_from(length).map_err(|_| Errno(libc::ENAMETOOLONG))?))
}

fn unix(kind: i32) -> Result<OwnedFd> {
    // SAFETY: plain numbers go in.
    check_fd(unsafe { libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0) }.into())
}

/// A listening socket at a name in the working directory.
pub(crate) fn listen(path: &[u8]) -> Result<OwnedFd> {
    let socket = unix(libc::SOCK_SEQPACKET)?;
    let (address, length) = address(path)?;
    // SAFETY: the address lives through the call and its length is given.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    // SAFETY: plain numbers go in.
    check(unsafe { libc::listen(socket.as_raw_fd(), 1) })?;
    Ok(socket)
}

fn connect_as(kind: i32, path: &[u8]) -> Result<OwnedFd> {
    let socket = unix(kind)?;
    let (address, length) = address(path)?;
    // SAFETY: the address lives through the call and its length is given.
    check(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(socket)
}

pub(crate) fn connect(path: &[u8]) -> Result<OwnedFd> {
    connect_as(libc::SOCK_SEQPACKET, path)
}

pub(crate) fn connect_stream(path: &[u8]) -> Result<OwnedFd> {
    connect_as(libc::SOCK_STREAM, path)
}

pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    loop {
        let (address, size) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: null means the peer's address is not wanted.
        let fd = unsafe { libc::accept4(listener.as_raw_fd(), address, size, libc::SOCK_CLOEXEC) };
        match check_fd(fd.into()) {
            Err(e) if e.0 == libc::EINTR => {}
            other => return other,
        }
    }
}

/// One message made of several pieces; never SIGPIPE.
pub(crate) fn send(socket: BorrowedFd<'_>, pieces: &[&[u8]]) -> Result<()> {
    let mut parts = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; 8];
    let count = pieces.len().min(parts.len());
    for (part, piece) in parts.iter_mut().zip(pieces) {
        *part = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
    }
    // SAFETY: msghdr is plain data, all zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = count as _;
    // SAFETY: the header points to pieces that live through the call; sendmsg only reads them.
    check_size(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }).map(drop)
}

/// One message; 0 means the other side is gone.
pub(crate) fn receive(socket: BorrowedFd<'_>, into: &mut [u8]) -> Result<usize> {
    loop {
        // SAFETY: the buffer's length is its own.
        match check_size(unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), 0) }) {
            Err(e) if e.0 == libc::EINTR => {}
            other => return other,
        }
    }
}

/// The most a message of ours holds: a path, and the words around it.
const MESSAGE_BYTES: usize = 8192;

/// The same into room of its own, which a caller's stack would not have for nothing: there each page is touched. Allocates.
pub(crate) fn message(socket: BorrowedFd<'_>) -> Result<Vec<u8>> {
    message_and_fd(socket).map(|(message, _)| message)
}

/// Room for one descriptor beside a message.
#[repr(C)]
struct Control {
    head: libc::cmsghdr,
    fd: libc::c_int,
    pad: libc::c_int,
}

/// One message, and the descriptor that came with it (close-on-exec); no bytes mean the other side is gone. Allocates.
pub(crate) fn message_and_fd(socket: BorrowedFd<'_>) -> Result<(Vec<u8>, Option<OwnedFd>)> {
    let mut control = MaybeUninit::<Control>::zeroed();
    let mut bytes = Vec::with_capacity(MESSAGE_BYTES);
    let room = bytes.spare_capacity_mut();
    let mut part = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    // SAFETY: msghdr is plain data, all zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    let count = loop {
        // SAFETY: the header points to buffers that live through the call.
        let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match check_size(got) {
            Err(e) if e.0 == libc::EINTR => {}
            other => break other?,
        }
    };
    // SAFETY: the kernel has filled that many bytes.
    unsafe { bytes.set_len(count) };
    // SAFETY: it was all zero, and the kernel wrote plain integers into it.
    let control = unsafe { control.assume_init() };
    let whole = message.msg_controllen as usize >= size_of::<libc::cmsghdr>() + size_of::<libc::c_int>();
    if !whole || control.head.cmsg_level != libc::SOL_SOCKET || control.head.cmsg_type != libc::SCM_RIGHTS {
        return Ok((bytes, None));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok((bytes, Some(unsafe { OwnedFd::from_raw_fd(control.fd) })))
}

/// Sends one descriptor with some bytes (SCM_RIGHTS); says how many of them went.
pub(crate) fn send_fd(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<usize> {
    let mut control = MaybeUninit::<Control>::zeroed();
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zero is a valid Control: plain integers.
    let filled = unsafe { control.assume_init_mut() };
    filled.head.cmsg_level = libc::SOL_SOCKET;
    filled.head.cmsg_type = libc::SCM_RIGHTS;
    filled.head.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<libc::c_int>()) as _;
    filled.fd = fd.as_raw_fd();
    // SAFETY: msghdr is plain data, all zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the header points to buffers that live through the call.
    check_size(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
}
