//! From a unit, its image's configuration and facts of the machine to the OCI config.json. Pure.
//!
//! Every field of every structure is written here: oci-spec's defaults are those of another runtime.

mod identity;
mod linux;
mod mounts;
mod phase;
mod pod;
mod process;
mod resolv;

pub(crate) use identity::user_ids;
pub use phase::phase;
pub use pod::{be_member, pod_hostname};
pub use resolv::resolv_conf;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

use oci::image::HealthCheck;
use oci_spec::{
    image::{Config, ImageConfiguration},
    runtime::{Root, Spec},
};

use serde::{Deserialize, Serialize};

use super::{Health, IdMap, Network, Propagation, Unit, Volume, VolumeSource, build::mount_point, values};

/// What neither the unit nor the image's configuration says.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The container's mounted root, absolute.
    pub rootfs: PathBuf,
    /// The machine's.
    pub hostname: String,
    /// Contents of /etc/passwd and /etc/group in the image; empty where it has none.
    pub passwd: String,
    pub group: String,
    /// For each volume of `volumes()` that is not a host path: destination in the container → folder on the host.
    pub volume_dirs: BTreeMap<String, PathBuf>,
    /// Folder that holds the generated `hosts`, `hostname` and `resolv.conf`; none where they are in the root already.
    pub etc: Option<PathBuf>,
    /// Folder of the notification socket.
    pub notify: PathBuf,
    /// Contents of the unit's `environment_files`, in their order.
    pub environment_files: Vec<String>,
    /// The names of the sockets it is handed, `FileDescriptorName=`, in their order.
    pub listen_names: Vec<String>,
    pub joins: Joins,
    /// The nodes behind the unit's `devices`.
    pub devices: Vec<DeviceNode>,
    /// Of each of the unit's `secrets` that is a file: where it lies, in their order.
    pub secret_files: Vec<PathBuf>,
    /// The values of the others.
    pub secret_values: Vec<String>,
    /// Of the container's user namespace; `None`: it is in the machine's.
    pub ids: Option<IdMaps>,
    /// Major and minor number of the disk of each of `resources.io_limits`, in their order.
    pub disks: Vec<(u32, u32)>,
    /// The kernel has io.latency (CONFIG_BLK_CGROUP_IOLATENCY).
    pub io_latency: bool,
    /// What `MemoryMax=50%` and `TasksMax=50%` are shares of.
    pub memory_bytes: u64,
    pub tasks: u64,
    /// The machine starts, or goes down: `Startup…=` holds.
    pub startup: bool,
}

/// Which ids of the host a container's are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdMaps {
    pub uids: Vec<IdMap>,
    pub gids: Vec<IdMap>,
}

impl IdMaps {
    /// The host's numbers of the container's root user and group, where it has one.
    pub fn root(&self) -> Option<(u32, u32)> {
        self.on_host(0, 0)
    }

    /// What the host calls a user and a group of the container, or nobody.
    pub fn on_host(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        let find = |maps: &[IdMap], id: u32| {
            let map = maps.iter().find(|map| (map.container..map.container + map.count).contains(&id))?;
            Some(map.host + (id - map.container))
        };
        Some((find(&self.uids, uid)?, find(&self.gids, gid)?))
    }

    /// What the container calls a user and a group of the host. Who is nobody there stays as it is.
    pub fn in_container(&self, uid: u32, gid: u32) -> (u32, u32) {
        let find = |maps: &[IdMap], id: u32| {
            let map = maps.iter().find(|map| (map.host..map.host + map.count).contains(&id));
            map.map_or(id, |map| map.container + (id - map.host))
        };
        (find(&self.uids, uid), find(&self.gids, gid))
    }
}

/// What the container shares with others: files that namespaces are bound to, and a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Joins {
    pub net: Option<PathBuf>,
    pub ipc: Option<PathBuf>,
    /// And which ids are mapped in it.
    pub user: Option<(PathBuf, IdMaps)>,
    /// Its name is set already.
    pub uts: Option<PathBuf>,
    /// Mounted as /dev/shm.
    pub shm: Option<PathBuf>,
}

/// A device of the host, at its place in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    pub path: PathBuf,
    pub block: bool,
    pub major: i64,
    pub minor: i64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Of `rwm`.
    pub access: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecError {
    /// Neither unit nor image say what to run.
    NoCommand,
    /// A fact about this volume's destination is missing.
    NoVolumeDir(String),
    /// `User=` or the image's own names someone who is not in its /etc/passwd.
    NoUser(String),
    NoGroup(String),
    /// `WorkingDir` of the image.
    WorkingDir(String),
    /// Lines count from 1.
    EnvironmentFile {
        file: PathBuf,
        line: usize,
        text: String,
    },
}

impl std::error::Error for SpecError {}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCommand => write!(f, "the image has neither Entrypoint nor Cmd: write Exec= or Entrypoint="),
            Self::NoVolumeDir(to) => write!(f, "no folder was prepared for the volume at {to}"),
            Self::NoUser(name) => write!(f, "the image's /etc/passwd has no user {name}; write its number in User="),
            Self::NoGroup(name) => write!(f, "the image's /etc/group has no group {name}; write its number"),
            Self::WorkingDir(path) => {
                write!(f, "the image's working directory {path} is not an absolute path: write WorkingDir=")
            }
            Self::EnvironmentFile { file, line, text } => write!(f, "{}:{line}: {text}", file.display()),
        }
    }
}

/// All volumes of the container: the unit's own, then those the image declares and the unit does not cover. The daemon prepares
/// a folder for each that is not a host path and names it in `Facts::volume_dirs`.
pub fn volumes(unit: &Unit, image: &ImageConfiguration) -> Vec<Volume> {
    let container = &unit.container;
    let mut volumes = container.volumes.clone();
    // The root is fresh at each start, and so is an image's volume: it needs a place of its own only where the root is sealed.
    if !container.read_only {
        return volumes;
    }
    let mut declared: Vec<&String> = config(image).and_then(|c| c.volumes().as_ref()).into_iter().flatten().collect();
    declared.sort();
    for path in declared {
        // As the unit's own are written: `/data/` is `/data`, and over nothing of the system's.
        let Ok(path) = mount_point(path) else { continue };
        if !has_mount_at(unit, &volumes, &path) {
            volumes.push(Volume {
                source: VolumeSource::Anonymous,
                destination: path,
                read_only: false,
                nosuid: true,
                nodev: true,
                noexec: false,
                not_recursive: false,
                propagation: Propagation::Private,
                copy_up: true,
                chown: false,
                idmap: None,
                overlay: None,
            });
        }
    }
    volumes
}

/// Whether one of these volumes, or what the unit mounts besides, lies there.
pub fn has_mount_at(unit: &Unit, volumes: &[Volume], path: &str) -> bool {
    volumes.iter().any(|volume| volume.destination == path)
        || unit.container.tmpfs.iter().any(|tmpfs| tmpfs.destination == path)
        || unit.container.image_mounts.iter().any(|mount| mount.destination == path)
}

/// How the container calls itself: `HostName=`, the machine's name on the machine's network, else the unit's.
pub fn hostname(unit: &Unit, machine: &str) -> String {
    if let Some(name) = &unit.container.hostname {
        return name.clone();
    }
    if unit.container.network == Network::Host && !machine.is_empty() {
        return machine.to_owned();
    }
    as_hostname(unit.name.as_str())
}

pub fn as_hostname(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    name.chars().map(plain).take(63).collect()
}

/// What asks the container to end: `StopSignal=`, `KillSignal=`, the image's, or SIGTERM.
pub fn stop_signal(unit: &Unit, image: &ImageConfiguration) -> i32 {
    let of_image = || values::signal(config(image)?.stop_signal().as_ref()?).ok();
    unit.container.stop_signal.or(unit.service.kill_signal).or_else(of_image).unwrap_or(libc::SIGTERM)
}

/// The unit's check, or the image's with what the unit changes of it, as podman takes them.
pub fn health(unit: &Unit, image: Option<&HealthCheck>) -> Option<Health> {
    let own = unit.container.health.clone()?;
    if !own.command.is_empty() {
        return Some(own);
    }
    let image = image?;
    let command = match image.test.split_first().map(|(kind, rest)| (kind.as_str(), rest)) {
        Some(("CMD", rest)) if !rest.is_empty() => rest.to_vec(),
        Some(("CMD-SHELL", rest)) if !rest.is_empty() => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), rest.join(" ")]
        }
        _ => return None,
    };
    let says = |key: &str| unit.origins.iter().any(|origin| origin.key == key);
    let time = |key: &str, ns: u64, own: Duration| match ns {
        ns if ns > 0 && !says(key) => Duration::from_nanos(ns),
        _ => own,
    };
    Some(Health {
        command,
        interval: own.interval.map(|own| time("HealthInterval", image.interval, own)),
        timeout: time("HealthTimeout", image.timeout, own.timeout),
        start_period: time("HealthStartPeriod", image.start_period, own.start_period),
        retries: if image.retries > 0 && !says("HealthRetries") { image.retries } else { own.retries },
        ..own
    })
}

/// Makes the OCI config.json of a unit's container.
pub fn runtime_spec(unit: &Unit, image: &ImageConfiguration, facts: &Facts) -> Result<Spec, SpecError> {
    let hostname = hostname(unit, &facts.hostname);
    let mut root = Root::default();
    root.set_path(facts.rootfs.clone());
    root.set_readonly(Some(unit.container.read_only));
    let mounts = mounts::mounts(unit, &volumes(unit, image), facts)?;
    let mut annotations: HashMap<String, String> = unit.container.annotations.clone().into_iter().collect();
    if mounts.iter().all(|mount| mount.destination() != Path::new("/dev/shm")) {
        // See `mounts::system`.
        annotations.insert("org.orlop.dev-shm".to_owned(), "folder".to_owned());
    }
    let mut spec = Spec::default();
    spec.set_version("1.2.0".to_owned());
    spec.set_root(Some(root));
    spec.set_mounts(Some(mounts));
    spec.set_process(Some(process::process(unit, config(image), facts, &hostname)?));
    spec.set_hostname(facts.joins.uts.is_none().then_some(hostname));
    spec.set_domainname(None);
    spec.set_hooks(None);
    spec.set_annotations((!annotations.is_empty()).then_some(annotations));
    spec.set_linux(Some(linux::linux(unit, facts)));
    spec.set_solaris(None);
    spec.set_windows(None);
    spec.set_vm(None);
    spec.set_zos(None);
    spec.set_uid_mappings(None);
    spec.set_gid_mappings(None);
    Ok(spec)
}

fn config(image: &ImageConfiguration) -> Option<&Config> {
    image.config().as_ref()
}
