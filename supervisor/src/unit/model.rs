//! What a unit means, after parsing: every name resolved, every value in its own type. Nothing here was not said by a unit file
//! or by the manuals' defaults.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use super::{Problem, UnitName};

/// All units of a machine, and all that is wrong with the files. A unit with a mistake is not in `units`.
#[derive(Debug, Default)]
pub struct UnitSet {
    pub units: BTreeMap<UnitName, Unit>,
    /// Units that are not in `units` because their files have errors.
    pub broken: BTreeSet<UnitName>,
    /// Units hidden by a link to /dev/null (or by an empty file, as systemd has it).
    pub masked: BTreeSet<UnitName>,
    /// In the order of files and lines.
    pub problems: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Unit {
    pub name: UnitName,
    /// `Description=`, or the name.
    pub description: String,
    pub documentation: Vec<String>,
    /// Started after these, stopped before them, if both are to be started at all.
    pub after: BTreeSet<UnitName>,
    pub before: BTreeSet<UnitName>,
    /// Started with this unit; it does not start if one that it is also `after` fails to. One that is not in the set has errors
    /// itself (or is masked): then this unit cannot start, but nothing else is held up.
    pub requires: BTreeSet<UnitName>,
    /// Started with this unit, whatever becomes of them. As with `after` and `before`, those that do not exist were left out.
    pub wants: BTreeSet<UnitName>,
    /// Ordered after network-online.target: by its own words, or because Quadlet orders every unit so by default.
    pub after_network_online: bool,
    pub start_limit_burst: u32,
    /// Zero: no limit on starts.
    pub start_limit_interval: Duration,
    pub service: ServiceSpec,
    /// `WantedBy=` (or `RequiredBy=`) default.target or multi-user.target: started at boot.
    pub enabled: bool,
    /// Of the unit file itself, not of its drop-ins.
    pub path: PathBuf,
    pub container: ContainerSpec,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ServiceSpec {
    pub kind: ServiceType,
    /// Active after its process ended well.
    pub remain_after_exit: bool,
    pub restart: Restart,
    pub restart_delay: Duration,
    /// `None`: no limit. Covers what precedes the start, the image's preparation included.
    pub start_timeout: Option<Duration>,
    /// From the stop signal to the kill. `None`: no limit. The smaller of `StopTimeout=` and `TimeoutStopSec=`.
    pub stop_timeout: Option<Duration>,
}

/// `Type=`; `simple`, `exec` and `notify` (which Quadlet writes for every container) are one here: active when the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    Exec,
    /// Active, or finished, only when its process ended well.
    Oneshot,
}

/// `Restart=`, with systemd.service(5)'s meanings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    No,
    OnSuccess,
    OnFailure,
    /// By a signal that is not a clean end, or a timeout.
    OnAbnormal,
    /// By a signal that is not a clean end.
    OnAbort,
    Always,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ContainerSpec {
    /// As written: a reference, to be normalised by `oci::image::Reference`.
    pub image: String,
    /// `ContainerName=`: how `podman ps` would call it. The unit's name is what Orlop uses.
    pub container_name: Option<String>,
    /// Replaces the image's Cmd when not empty.
    pub exec: Vec<String>,
    /// Replaces the image's Entrypoint, and then its Cmd counts no more. `Some` of nothing: no entrypoint at all.
    pub entrypoint: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    /// `EnvironmentFile=`, absolute; read at each start, in this order, `environment` wins.
    pub environment_files: Vec<PathBuf>,
    pub volumes: Vec<Volume>,
    pub tmpfs: Vec<Tmpfs>,
    pub network: Network,
    /// `User=` and `Group=`, to be looked up in the image. `None`: what the image says.
    pub user: Option<User>,
    /// `GroupAdd=`
    pub extra_groups: Vec<String>,
    pub working_dir: Option<String>,
    pub read_only: bool,
    /// With `read_only`: /tmp, /var/tmp and /run are writable all the same.
    pub read_only_tmpfs: bool,
    pub memory_max_bytes: Option<u64>,
    /// `None`: no limit but the machine's.
    pub pids_max: Option<u64>,
    pub hostname: Option<String>,
    /// `None`: the image's StopSignal, or SIGTERM.
    pub stop_signal: Option<i32>,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub ulimits: Vec<Ulimit>,
    pub shm_size_bytes: u64,
    pub sysctls: BTreeMap<String, String>,
    /// `Mask=`: hidden in addition to the runtime's own list.
    pub mask: Vec<String>,
    pub unmask: Unmask,
    /// `AddHost=`, for the generated /etc/hosts.
    pub hosts: Vec<(String, IpAddr)>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `OOMScoreAdjust=` of `[Service]`; 0 without one.
    pub oom_score_adj: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    pub source: VolumeSource,
    /// Absolute, normalised, inside the container. No two volumes of a unit have the same.
    pub destination: String,
    pub read_only: bool,
    pub nosuid: bool,
    pub nodev: bool,
    pub noexec: bool,
    /// `bind` instead of the default `rbind`.
    pub not_recursive: bool,
    pub propagation: Propagation,
    /// A new, empty named or anonymous volume gets what the image has at the destination. False with `nocopy`.
    pub copy_up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A path of the host, absolute. It has to exist.
    Host(PathBuf),
    /// Kept over restarts in /var/lib/orlop/volumes/<name>.
    Named(String),
    /// Lives as long as the container.
    Anonymous,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    #[default]
    Private,
    Shared,
    Slave,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    pub destination: String,
    /// Mount options beyond Podman's defaults, checked: `size=…`, `mode=…`, `ro`, `noexec`, …
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    Host,
    /// Its own network namespace with a loopback interface.
    None,
}

/// `name|uid` and `group|gid`, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub user: String,
    /// `None`: the user's own group in the image's /etc/passwd.
    pub group: Option<String>,
}

/// Names as `CAP_CHOWN`. Drops are applied first when everything is dropped, else last, as Podman does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    pub add: BTreeSet<String>,
    pub drop: BTreeSet<String>,
    pub add_all: bool,
    pub drop_all: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// `RLIMIT_NOFILE`
    pub kind: String,
    /// `u64::MAX`: unlimited.
    pub soft: u64,
    pub hard: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmask {
    /// Taken off the runtime's own lists of masked and read-only paths (none by default).
    Paths(Vec<String>),
    All,
}
