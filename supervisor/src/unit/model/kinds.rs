//! The other kinds of unit files.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use super::{
    Condition, Dns, ImageName, Links, MachineActions, Network, Origin, Port, Pull, Requests, UnitName, UserNamespace,
    Volume,
};
use oci::image::Platform;

use crate::unit::calendar::Calendar;

/// A unit that is no container, and what its kind says.
#[derive(Debug, Clone, PartialEq)]
pub struct Declared<T> {
    pub description: String,
    pub path: PathBuf,
    /// Started at boot by `[Install]`; timers and sockets are then waited for.
    pub enabled: bool,
    /// Where each key was set.
    pub origins: Vec<Origin>,
    pub spec: T,
}

/// `[Volume]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    /// `VolumeName=`, or `systemd-` and the file's name.
    pub name: String,
    pub labels: BTreeMap<String, String>,
    /// A new, empty volume gets what the image has at its destination.
    pub copy: bool,
    /// Of its folder, when it is made: `User=` or `UID=`, `Group=` or `GID=`.
    pub owner: (Option<u32>, Option<u32>),
    pub backing: Backing,
}

/// What lies behind a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    Folder,
    /// `Device=` with `bind` or `rbind`: another folder of the machine.
    Bind {
        path: PathBuf,
        recursive: bool,
        options: Vec<String>,
    },
    /// `Device=`, `Type=`, `Options=`: mounted in place of a folder.
    FileSystem {
        kind: String,
        device: String,
        options: Vec<String>,
    },
    /// `Driver=image`: this image's files, below what the containers have changed.
    Image(ImageName),
}

impl Backing {
    /// The last word counts.
    pub fn is_read_only(&self) -> bool {
        let (Self::Bind { options, .. } | Self::FileSystem { options, .. }) = self else { return false };
        options.iter().rfind(|word| matches!(word.as_str(), "ro" | "rw")).is_some_and(|word| word == "ro")
    }
}

/// `[Network]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSpec {
    /// `NetworkName=`, or `systemd-` and the file's name.
    pub name: String,
    pub driver: NetworkDriver,
    /// `None`: as the driver has it.
    pub ipam: Option<Ipam>,
    /// Subnet, its gateway, the range addresses are taken from.
    pub subnets: Vec<(Subnet, Option<IpAddr>, Option<IpRange>)>,
    pub interface: Option<String>,
    pub internal: bool,
    pub ipv6: bool,
    pub dns: Vec<IpAddr>,
    pub disable_dns: bool,
    pub delete_on_stop: bool,
    pub options: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NetworkDriver {
    #[default]
    Bridge,
    Macvlan,
    Ipvlan,
}

/// `IPAMDriver=`: where the addresses come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipam {
    HostLocal,
    Dhcp,
    None,
}

/// Address and length of the prefix.
pub type Subnet = (IpAddr, u8);

/// `IPRange=`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpRange {
    Subnet(Subnet),
    /// The first and the last.
    Between(IpAddr, IpAddr),
}

/// `[Image]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSpec {
    pub image: String,
    /// `ImageTag=`: what containers that name this file get; `image` without one.
    pub tag: Option<String>,
    pub pull: Pull,
    /// `Arch=` and `Variant=`: whose programs are in it.
    pub platform: Platform,
}

/// `[Pod]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// `PodName=`, or `systemd-` and the file's name.
    pub name: String,
    pub network: Network,
    pub ports: Vec<Port>,
    /// `NetworkAlias=`
    pub network_aliases: Vec<String>,
    pub dns: Dns,
    /// As the containers' own.
    pub hosts: Vec<(String, Option<IpAddr>)>,
    pub hostname: Option<String>,
    pub volumes: Vec<Volume>,
    /// `ShmSize=`, or Podman's 64 MiB.
    pub shm_size_bytes: u64,
    pub user_namespace: UserNamespace,
    pub labels: BTreeMap<String, String>,
    /// `ExitPolicy=stop`: ends with its last container.
    pub stop_when_empty: bool,
    /// Of `[Unit]`: it starts and stops as containers do. With its containers that start with it among those it wants.
    pub links: Links,
    pub conditions: Vec<Condition>,
    pub aliases: BTreeSet<UnitName>,
    pub after_network_online: bool,
    pub start_limit_burst: u32,
    pub start_limit_interval: Duration,
    pub actions: MachineActions,
    pub requests: Requests,
}

/// `[Timer]`
#[derive(Debug, Clone, PartialEq)]
pub struct TimerSpec {
    pub triggers: Vec<Trigger>,
    /// What it starts.
    pub unit: UnitName,
    pub accuracy: Duration,
    pub random_delay: Duration,
    /// The same delay at every time.
    pub fixed_delay: bool,
    pub random_offset: Duration,
    /// A time that was missed while the machine was off is made up for.
    pub persistent: bool,
    pub remain_after_elapse: bool,
    pub defer_reactivation: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Trigger {
    Calendar(Calendar),
    Active(Duration),
    Boot(Duration),
    Startup(Duration),
    UnitActive(Duration),
    UnitInactive(Duration),
}

/// `[Socket]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSpec {
    pub listen: Vec<Listen>,
    pub starts: Starts,
    pub fd_name: String,
    /// Of what lies in the file system, and its group.
    pub owner: (Option<u32>, Option<u32>),
    pub mode: u32,
    pub directory_mode: u32,
    pub backlog: u32,
    pub max_connections: u32,
    pub links: Vec<PathBuf>,
}

/// What a connection starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Starts {
    Unit(UnitName),
    /// `Accept=yes`: an instance of this template (`web@`) for each connection.
    Instances(String),
}

impl Starts {
    pub fn name(&self) -> &str {
        match self {
            Self::Unit(name) => name.as_str(),
            Self::Instances(template) => template,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenKind {
    Stream,
    Datagram,
    SequentialPacket,
    Fifo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub kind: ListenKind,
    pub address: ListenAddress,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Path(PathBuf),
    /// `@name`, of the kernel's abstract namespace.
    Abstract(String),
    /// `None`: all addresses, IPv6 and IPv4.
    Ip(Option<IpAddr>, u16),
    /// CID, or any, and port.
    Vsock(Option<u32>, u32),
}
