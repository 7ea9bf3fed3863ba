//! Makes a listening socket.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, setsockopt, socket,
        sockopt::{Ipv6V6Only, ReuseAddr},
    },
};

use crate::unit::{Listen, ListenAddress, ListenKind, SocketSpec};

pub(super) fn shown(listen: &Listen) -> String {
    match &listen.address {
        ListenAddress::Path(path) => path.display().to_string(),
        ListenAddress::Abstract(name) => format!("@{name}"),
        ListenAddress::Ip(Some(ip), port) => SocketAddr::new(*ip, *port).to_string(),
        ListenAddress::Ip(None, port) => format!("port {port}"),
        ListenAddress::Vsock(_, port) => format!("vsock port {port}"),
    }
}

pub(super) fn open(listen: &Listen, spec: &SocketSpec) -> io::Result<OwnedFd> {
    match &listen.address {
        ListenAddress::Ip(Some(ip), port) => internet(listen.kind, *ip, *port, spec),
        ListenAddress::Ip(None, port) => {
            // One socket for both; a machine without IPv6 has the other alone.
            match internet(listen.kind, Ipv6Addr::UNSPECIFIED.into(), *port, spec) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
                    internet(listen.kind, Ipv4Addr::UNSPECIFIED.into(), *port, spec)
                }
                result => result,
            }
        }
        ListenAddress::Path(path) => {
            if let Some(folder) = path.parent() {
                fs::DirBuilder::new().recursive(true).mode(spec.directory_mode).create(folder)?;
            }
            remove_stale(path)?;
            let fd = make(AddressFamily::Unix, listen.kind, &UnixAddr::new(path)?, spec)?;
            fs::set_permissions(path, fs::Permissions::from_mode(spec.mode))?;
            Ok(fd)
        }
        ListenAddress::Abstract(name) => {
            make(AddressFamily::Unix, listen.kind, &UnixAddr::new_abstract(name.as_bytes())?, spec)
        }
        ListenAddress::Vsock(..) => Err(Errno::EAFNOSUPPORT.into()),
    }
}

/// What an earlier boot or owner of the name left; nothing but a socket.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket lies there")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn internet(kind: ListenKind, ip: IpAddr, port: u16, spec: &SocketSpec) -> io::Result<OwnedFd> {
    let family = if ip.is_ipv6() { AddressFamily::Inet6 } else { AddressFamily::Inet };
    make(family, kind, &SockaddrStorage::from(SocketAddr::new(ip, port)), spec)
}

fn make(family: AddressFamily, kind: ListenKind, address: &dyn SockaddrLike, spec: &SocketSpec) -> io::Result<OwnedFd> {
    let of = match kind {
        ListenKind::Stream => SockType::Stream,
        ListenKind::Datagram => SockType::Datagram,
        ListenKind::SequentialPacket => SockType::SeqPacket,
        ListenKind::Fifo => return Err(Errno::EAFNOSUPPORT.into()),
    };
    // It blocks, as sd_listen_fds(3) has it: the container's program decides.
    let fd = socket(family, of, SockFlag::SOCK_CLOEXEC, None)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&fd, Ipv6V6Only, &false)?;
    }
    if family != AddressFamily::Unix {
        setsockopt(&fd, ReuseAddr, &true)?;
    }
    bind(fd.as_fd().as_raw_fd(), address)?;
    if kind != ListenKind::Datagram {
        let backlog = i32::try_from(spec.backlog).unwrap_or(i32::MAX);
        nix::sys::socket::listen(&fd, Backlog::new(backlog).unwrap_or(Backlog::MAXCONN))?;
    }
    Ok(fd)
}
