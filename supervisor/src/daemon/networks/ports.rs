//! Published ports: which of the host's they are, and who has them already.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use super::Connection;
use crate::{
    net::bridge::Published,
    unit::{Port, Protocol, UnitName},
};

/// How often a port that the system has chosen is somebody's by our rules.
const TRIES: usize = 64;

/// What is to be published of an owner's. `others`: all that runs.
pub(super) fn publish<'a>(
    port: &Port,
    address: IpAddr,
    others: impl Iterator<Item = (&'a UnitName, &'a Connection)> + Clone,
) -> Result<Published, String> {
    let Port { host_ip, host, container, count, protocol } = *port;
    let host_ip = host_ip.map(|ip| ip.to_canonical()).filter(|ip| !ip.is_unspecified());
    let with = |host| Published { host_ip, host, container, count, protocol, address };
    if let Some(host) = host {
        let wanted = with(host);
        let shown = |number: u16| format!("the port {number}/{} of the host", name(protocol));
        if let Some((holder, number)) = holder(&wanted, others) {
            return Err(format!("{} is published by {holder} already", shown(number)));
        }
        for number in host..=host.saturating_add(count - 1) {
            if in_use(&wanted, number) {
                let who = listener(protocol, number).map_or_else(String::new, |who| format!(" by {who}"));
                return Err(format!("{} is in use{who} already", shown(number)));
            }
        }
        return Ok(wanted);
    }
    for _ in 0..TRIES {
        let Ok(first) = any(&with(0)) else { continue };
        let fits = first.checked_add(count - 1).is_some_and(|last| (first..=last).all(|n| !in_use(&with(first), n)));
        if fits && holder(&with(first), others.clone()).is_none() {
            return Ok(with(first));
        }
    }
    Err(format!("there is no free port of the host for {container}/{}", name(protocol)))
}

pub(super) fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Who has published some of it, and which number.
fn holder<'a>(
    wanted: &Published,
    mut others: impl Iterator<Item = (&'a UnitName, &'a Connection)>,
) -> Option<(&'a UnitName, u16)> {
    let last = |published: &Published| published.host.saturating_add(published.count - 1);
    others.find_map(|(owner, connection)| {
        let clash = |other: &&Published| {
            other.protocol == wanted.protocol
                && other.address.is_ipv4() == wanted.address.is_ipv4()
                && (other.host_ip.is_none() || wanted.host_ip.is_none() || other.host_ip == wanted.host_ip)
                && other.host <= last(wanted)
                && wanted.host <= last(other)
        };
        connection.published.iter().find(clash).map(|other| (owner, other.host.max(wanted.host)))
    })
}

fn bind(wanted: &Published, number: u16) -> io::Result<u16> {
    let any: IpAddr =
        if wanted.address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let at = SocketAddr::new(wanted.host_ip.unwrap_or(any), number);
    match wanted.protocol {
        Protocol::Tcp => TcpListener::bind(at)?.local_addr(),
        Protocol::Udp => UdpSocket::bind(at)?.local_addr(),
        // Nobody listens by this that the supervisor could ask for.
        Protocol::Sctp => Ok(at),
    }
    .map(|at| at.port())
}

/// A process of the host's listens there. An address that the host does not have yet nobody can listen on.
fn in_use(wanted: &Published, number: u16) -> bool {
    bind(wanted, number).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn any(wanted: &Published) -> io::Result<u16> {
    let tcp = Published {
        protocol: if wanted.protocol == Protocol::Sctp { Protocol::Tcp } else { wanted.protocol },
        ..wanted.clone()
    };
    bind(&tcp, 0)
}

/// The unit that listens on a port, or the process.
fn listener(protocol: Protocol, number: u16) -> Option<String> {
    let tables = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
        Protocol::Sctp => return None,
    };
    let tables = tables.map(|table| fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let inode = tables.iter().flat_map(|table| table.lines()).find_map(|line| socket_at(line, protocol, number))?;
    let link = format!("socket:[{inode}]");
    let is_pid = |process: &fs::DirEntry| process.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit());
    for process in fs::read_dir("/proc").ok()?.flatten().filter(is_pid) {
        let has = |fd: io::Result<fs::DirEntry>| {
            fd.is_ok_and(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
        };
        if fs::read_dir(process.path().join("fd")).is_ok_and(|mut fds| fds.any(has)) {
            let read = |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default().trim().to_owned();
            let unit = read("cgroup").rsplit_once("/containers/").map(|(_, unit)| unit.to_owned());
            let pid = process.file_name();
            return Some(unit.unwrap_or_else(|| format!("{} (pid {})", read("comm"), pid.to_string_lossy())));
        }
    }
    None
}

/// proc_pid_net(5): the inode, if the line is of a socket that waits on that port.
fn socket_at(line: &str, protocol: Protocol, number: u16) -> Option<&str> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (_, port) = words.get(1)?.rsplit_once(':')?;
    let waits = protocol != Protocol::Tcp || *words.get(3)? == "0A";
    (waits && u16::from_str_radix(port, 16) == Ok(number)).then(|| words.get(9).copied())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn port(host_ip: Option<&str>, host: Option<u16>, count: u16) -> Port {
        Port { host_ip: host_ip.map(|ip| ip.parse().unwrap()), host, container: 80, count, protocol: Protocol::Tcp }
    }

    #[test]
    fn a_port_that_somebody_has_is_refused_by_name() {
        let mut others = BTreeMap::new();
        let add = |others: &mut BTreeMap<UnitName, Connection>, owner: &str, port: &Port| {
            let published = publish(port, [10, 89, 0, 2].into(), others.iter())?;
            let host = published.host;
            let connection = Connection { published: vec![published], ..Connection::default() };
            others.insert(UnitName::parse(owner).unwrap(), connection);
            Ok::<u16, String>(host)
        };
        // One that nobody listens on here, and its neighbours.
        let free = add(&mut others, "web", &port(None, None, 3)).unwrap();
        let refused = |others: &mut _, port: &Port| add(others, "app", port).unwrap_err();
        let text = format!("the port {}/tcp of the host is published by web already", free + 2);
        assert_eq!(refused(&mut others, &port(Some("127.0.0.1"), Some(free + 2), 5)), text);
        others.clear();
        assert_eq!(add(&mut others, "a", &port(Some("127.0.0.1"), Some(free), 1)), Ok(free));
        assert_eq!(add(&mut others, "b", &port(Some("127.0.0.2"), Some(free), 1)), Ok(free), "another address");
        let udp = Port { protocol: Protocol::Udp, ..port(None, Some(free), 1) };
        assert_eq!(add(&mut others, "c", &udp), Ok(free), "another protocol");
        // A process that listens.
        let listening = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = listening.local_addr().unwrap().port();
        let text = refused(&mut others, &port(None, Some(number), 1));
        let own = format!("the port {number}/tcp of the host is in use by ");
        assert!(text.starts_with(&own) && text.contains(&std::process::id().to_string()), "{text}");
    }

    #[test]
    fn lines_of_the_kernel() {
        let line =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 x";
        assert_eq!(socket_at(line, Protocol::Tcp, 8080), Some("4711"));
        assert_eq!(socket_at(line, Protocol::Tcp, 8081), None);
        assert_eq!(socket_at(&line.replace(" 0A ", " 01 "), Protocol::Tcp, 8080), None, "connected");
        assert_eq!(socket_at("  sl  local_address rem_address   st", Protocol::Tcp, 8080), None);
    }
}
