//! `[Container]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use oci::image::Platform;

use super::{Dns, Health, IdMap, Network, Notify, Port, Protocol, Reload, Resources, Secret, UnitName, UserNamespace};

#[derive(Debug, Clone, PartialEq)]
pub struct ContainerSpec {
    pub root: Root,
    pub pull: Pull,
    /// `ContainerName=` or podman's default: how `podman ps` would call it, and one of the names by which others on its networks find
    /// it. The unit's name is what Orlop uses.
    pub container_name: String,
    /// Replaces the image's Cmd when not empty.
    pub exec: Vec<String>,
    /// Replaces the image's Entrypoint, and then its Cmd counts no more. `Some` of nothing: no entrypoint at all.
    pub entrypoint: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    /// `EnvironmentFile=`, absolute; read at each start, in this order, `environment` wins. `true`: it need not exist (`-` before it).
    pub environment_files: Vec<(PathBuf, bool)>,
    pub volumes: Vec<Volume>,
    /// `Mount=type=image`
    pub image_mounts: Vec<ImageMount>,
    /// `Mount=type=glob`
    pub globs: Vec<Glob>,
    pub tmpfs: Vec<Tmpfs>,
    pub devices: Vec<Device>,
    pub secrets: Vec<Secret>,
    pub network: Network,
    /// `PublishPort=`
    pub ports: Vec<Port>,
    /// `ExposeHostPort=`: first, last, protocol.
    pub exposed_ports: Vec<(u16, u16, Protocol)>,
    /// `NetworkAlias=`
    pub network_aliases: Vec<String>,
    pub dns: Dns,
    /// `Pod=`, and whether it starts with it.
    pub pod: Option<(UnitName, bool)>,
    pub user_namespace: UserNamespace,
    /// `User=` and `Group=`, to be looked up in the image. `None`: what the image says.
    pub user: Option<User>,
    /// `GroupAdd=`
    pub extra_groups: Vec<String>,
    /// `Umask=`
    pub umask: u32,
    pub working_dir: Option<String>,
    pub read_only: bool,
    /// With `read_only`: /tmp, /var/tmp and /run are writable all the same.
    pub read_only_tmpfs: bool,
    /// `Memory=`; the tighter one of it and `MemoryMax=` of `resources` counts.
    pub memory_max_bytes: Option<u64>,
    /// `None`: no limit but the machine's and `resources`'.
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
    /// `AddHost=`, for the generated /etc/hosts; `None` is `host-gateway`, the host as the container reaches it.
    pub hosts: Vec<(String, Option<IpAddr>)>,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// `OOMScoreAdjust=` of `[Service]`; 0 without one.
    pub oom_score_adj: i32,
    /// `Timezone=`; `local` is the machine's, UTC.
    pub timezone: Option<String>,
    pub notify: Notify,
    /// `None`: not even the image's (`HealthCmd=none`).
    pub health: Option<Health>,
    /// `HealthStartupCmd=`: runs instead of `health` until it has succeeded.
    pub startup_health: Option<Health>,
    pub reload: Option<Reload>,
    pub run_init: bool,
    pub seccomp: Seccomp,
    pub log: LogSpec,
    /// Of `[Service]`: limits of the container's cgroup and of its processes.
    pub resources: Resources,
}

impl ContainerSpec {
    /// The image's name, unless a folder is in its place.
    pub fn image(&self) -> Option<&str> {
        match &self.root {
            Root::Image(image) => Some(&image.name),
            Root::Folder { .. } => None,
        }
    }
}

/// An image that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// As written, or what the `.image` file says: a reference, to be normalised by `oci::image::Reference`.
    pub name: String,
    /// The machine's own, unless the `.image` file says another.
    pub platform: Platform,
}

impl From<String> for ImageName {
    fn from(name: String) -> Self {
        Self { name, platform: Platform::default() }
    }
}

/// What the container's root is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    Image(ImageName),
    /// `Rootfs=`. With an `overlay`, `:O`, what the container writes is gone with it; without, it is written into the folder.
    Folder {
        path: PathBuf,
        overlay: bool,
    },
}

/// `LogDriver=`: what becomes of the container's output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSpec {
    /// `none`
    Nothing,
    Kept(LogLimits),
}

/// `LogOpt=`, `LogRateLimit…=`. `None`: the machine's own bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLimits {
    pub max_file_bytes: Option<u64>,
    pub max_files: Option<u32>,
    /// So many lines in that time.
    pub rate: Option<(u32, Duration)>,
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
    /// `U`: what lies in it gets the container's user as its owner.
    pub chown: bool,
    /// `idmap`: mapped as the container's ids are, or as it says.
    pub idmap: Option<IdmapMount>,
    /// `O`: what the container writes is gone with it, or goes to a folder of its own.
    pub overlay: Option<Overlay>,
}

/// `idmap[=uids=…;gids=…]`; without mappings of its own it has those of the container's user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IdmapMount {
    pub uids: Vec<IdMap>,
    pub gids: Vec<IdMap>,
}

/// `O`, and `upperdir=` with `workdir=` where what is written is to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Overlay {
    Temporary,
    Kept { upper: PathBuf, work: PathBuf },
}

/// The files of an image, or of a folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageMount {
    pub image: ImageName,
    pub destination: String,
    /// Writable, in a layer that is gone with the container.
    pub writable: bool,
    pub subpath: Option<String>,
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

/// The source is a pattern, and each path that matches is mounted below the destination: by its last name, or, where the unit names
/// no destination (it is `/` then), "with their complete path" (podman-run(1)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    pub volume: Volume,
    pub complete_path: bool,
}

/// A file system of the container's own, that no host path or volume lies behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    pub kind: TmpfsKind,
    pub destination: String,
    /// Mount options beyond Podman's defaults, checked: `size=…`, `mode=…`, `ro`, `noexec`, …
    pub options: Vec<String>,
}

/// `name|uid` and `group|gid`, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub user: String,
    /// `None`: the user's own group in the image's /etc/passwd.
    pub group: Option<String>,
}

/// Names as `CAP_CHOWN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Capabilities {
    /// Podman's own, with these and without those. No name is in both.
    Usual { add: BTreeSet<String>, drop: BTreeSet<String> },
    /// `AddCapability=all`, without those that are dropped.
    AllBut(BTreeSet<String>),
    /// `DropCapability=all`: those alone that are added.
    Only(BTreeSet<String>),
}

impl Default for Capabilities {
    fn default() -> Self {
        Self::Usual { add: BTreeSet::new(), drop: BTreeSet::new() }
    }
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

/// `Tmpfs=`, or `type=` of `Mount=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TmpfsKind {
    /// With `copy_up` it begins with what the image has at its place. False with `notmpcopyup`.
    Tmpfs {
        copy_up: bool,
    },
    /// Never swapped, never bounded.
    Ramfs,
    Devpts,
}

/// `AddDevice=`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub host: PathBuf,
    /// A folder means all devices below it.
    pub container: PathBuf,
    /// Of `rwm`, in this order.
    pub access: String,
    /// `-` before it: left out where the host does not have it.
    pub optional: bool,
}

/// `Pull=`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    Always,
    #[default]
    Missing,
    Never,
    Newer,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Seccomp {
    #[default]
    Default,
    Unconfined,
    Profile(PathBuf),
}
