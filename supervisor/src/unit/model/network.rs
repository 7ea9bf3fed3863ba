//! Networks, published ports, name servers, user namespaces and secrets, as a container or a pod asks for them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use super::UnitName;

/// The network of who names none, and its interface.
pub const DEFAULT_NETWORK: &str = "orlop0";

/// `Network=`; one of them, or several bridge networks at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    Host,
    /// Its own network namespace with a loopback interface.
    None,
    /// Without any named: the default one.
    Bridge(Vec<Attachment>),
    /// The network namespace of another container of this machine.
    Container(UnitName),
}

/// One network of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attachment {
    /// The network's own name; `None` is the default network.
    pub network: Option<String>,
    pub ip: Option<Ipv4Addr>,
    pub ip6: Option<Ipv6Addr>,
    /// Six bytes with colons.
    pub mac: Option<String>,
    pub aliases: Vec<String>,
    pub interface: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// `PublishPort=`: `count` ports from each on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// `None`: all IPv4 addresses of the host.
    pub host_ip: Option<IpAddr>,
    /// `None`: any free one.
    pub host: Option<u16>,
    pub container: u16,
    pub count: u16,
    pub protocol: Protocol,
}

/// The container's /etc/resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dns {
    /// `DNS=none`: the image's own file stays.
    OfImage,
    Generated {
        servers: Vec<IpAddr>,
        options: Vec<String>,
        /// `.` alone: no search domain at all.
        search: Vec<String>,
    },
}

/// `count` ids from `container` on are those from `host` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub container: u32,
    pub host: u32,
    pub count: u32,
}

/// From here on the machine itself gives ids to containers; `UIDMap=` and its kin map to lower ones. Half of all, and far above what
/// any image or host counts.
pub const FIRST_GIVEN_ID: u32 = 1 << 31;

/// `UserNS=`, `UIDMap=`, `GIDMap=`, `SubUIDMap=`, `SubGIDMap=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum UserNamespace {
    #[default]
    Host,
    /// Ids of the host that nobody else has, 65536 or `size`; these maps take precedence.
    Auto {
        size: Option<u32>,
        uids: Vec<IdMap>,
        gids: Vec<IdMap>,
    },
    Mapped {
        uids: Vec<IdMap>,
        gids: Vec<IdMap>,
    },
    /// The ranges that the machine keeps for these names, as other hosts do in /etc/subuid and /etc/subgid.
    Named {
        uids: String,
        gids: String,
    },
}

/// `Secret=`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    pub name: String,
    pub target: SecretTarget,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretTarget {
    /// A file, absolute in the container.
    File {
        path: PathBuf,
        uid: u32,
        gid: u32,
        mode: u32,
    },
    Environment(String),
}
