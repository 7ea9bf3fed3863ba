//! Makes a listening socket.

use std::{
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
    },
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open as open_file},
    sys::{
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, setsockopt,
            socket,
            sockopt::{Ipv6V6Only, ReuseAddr},
        },
        stat::Mode,
    },
    unistd::mkfifo,
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
            let fd = if listen.kind == ListenKind::Fifo {
                fifo(path)?
            } else {
                remove_stale(path)?;
                make(AddressFamily::Unix, listen.kind, &UnixAddr::new(path)?, spec)?
            };
            let (user, group) = spec.owner;
            std::os::unix::fs::chown(path, user, group)?;
            fs::set_permissions(path, fs::Permissions::from_mode(spec.mode))?;
            Ok(fd)
        }
        ListenAddress::Abstract(name) => {
            make(AddressFamily::Unix, listen.kind, &UnixAddr::new_abstract(name.as_bytes())?, spec)
        }
        ListenAddress::Vsock(..) => Err(Errno::EAFNOSUPPORT.into()),
    }
}

/// One that is there already is taken, as systemd.socket(5) has it. Open for writing too: then it has no end when a writer goes.
fn fifo(path: &Path) -> io::Result<OwnedFd> {
    match mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Err(errno) if errno != Errno::EEXIST => return Err(errno.into()),
        _ => {}
    }
    let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = File::from(open_file(path, flags, Mode::empty())?);
    if !file.metadata()?.file_type().is_fifo() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no FIFO lies there"));
    }
    Ok(file.into())
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

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::MetadataExt};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::unit::{Starts, UnitName};

    #[test]
    fn a_fifo_is_made_or_taken_and_is_whose_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/words");
        let (user, group) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let spec = SocketSpec {
            listen: vec![Listen { kind: ListenKind::Fifo, address: ListenAddress::Path(path.clone()) }],
            starts: Starts::Unit(UnitName::parse("web").unwrap()),
            fd_name: String::new(),
            // Root can give it away.
            owner: if user == 0 { (Some(1234), Some(56)) } else { (Some(user), Some(group)) },
            mode: 0o620,
            directory_mode: 0o750,
            backlog: 1,
            max_connections: 1,
            links: Vec::new(),
        };
        for _ in 0..2 {
            let fd = open(&spec.listen[0], &spec).unwrap();
            let meta = fs::symlink_metadata(&path).unwrap();
            assert!(meta.file_type().is_fifo() && meta.mode() & 0o777 == 0o620);
            assert_eq!((Some(meta.uid()), Some(meta.gid())), spec.owner);
            let is_readable = || poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap();
            assert_eq!(is_readable(), 0);
            File::options().write(true).open(&path).unwrap().write_all(b"word").unwrap();
            assert_eq!(is_readable(), 1, "and its writer is gone");
        }
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(open(&spec.listen[0], &spec).unwrap_err().to_string().contains("no FIFO"));
    }
}
