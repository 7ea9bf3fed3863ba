//! Bundles: from a unit and its prepared image to the folder the runtime takes. Runs in a worker thread; everything it makes is
//! made anew at every start and taken down after it.

mod apart;
mod copy_up;
mod devices;
mod etc;
mod folder;
mod idmapped;
mod mounted;
mod overlay;
mod own;
mod rootfs;

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    sync::Arc,
};

use oci::image::PreparedImage;

use copy_up::Beginning;
pub(crate) use devices::memory_bytes;
pub(crate) use etc::refresh_resolv_conf;
pub(crate) use idmapped::lines as id_lines;
pub(crate) use mounted::{release as release_volumes, sweep as sweep_volumes};
pub(crate) use overlay::unmount;
pub(crate) use own::Folders;

use super::{
    id_ranges,
    paths::Paths,
    secrets::{self, SecretError},
};
use crate::unit::{
    Backing, Facts, IdMaps, Joins, Notify, Root, SecretTarget, SpecError, Unit, UnitName, VolumeSource, VolumeSpec,
    runtime_spec, spec,
};

/// In a unit's folder, until its container is started.
pub(crate) const CONFIG: &str = "config.json";

/// Longest `EnvironmentFile=`, in bytes.
const MAX_ENVIRONMENT_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) enum BundleError {
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A host path among the volumes is not there.
    NoSuchHostPath(PathBuf),
    /// What a volume's `Device=` binds is not there.
    NoSuchDevice(PathBuf),
    /// The kernel does not know a volume's `Type=`.
    NoSuchFileSystem(String),
    /// The image of a volume cannot be prepared.
    Image {
        volume: String,
        text: String,
    },
    /// A volume of an image, for a container in a user namespace.
    MappedImage(String),
    /// The same of a root that is a folder.
    MappedRootfs,
    Spec(SpecError),
    Ids(id_ranges::RangeError),
    Secret(SecretError),
    /// `uid=` and `gid=` name somebody the container's user namespace has not.
    SecretOwner(String, u32, u32),
    /// A variable's value is text.
    SecretText(String),
    /// The container's configuration cannot be written.
    Json(serde_json::Error),
}

impl std::error::Error for BundleError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::NoSuchHostPath(_) | Self::NoSuchDevice(_) | Self::NoSuchFileSystem(_) => None,
            Self::Image { .. } | Self::MappedImage(_) | Self::MappedRootfs => None,
            Self::Spec(source) => Some(source),
            Self::Ids(source) => Some(source),
            Self::Secret(source) => Some(source),
            Self::SecretOwner(..) | Self::SecretText(_) => None,
            Self::Json(source) => Some(source),
        }
    }
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { action, path, source } => write!(f, "{action} {}: {source}", path.display()),
            Self::NoSuchHostPath(path) => {
                write!(f, "Volume={}: there is no such file or folder on this machine", path.display())
            }
            Self::NoSuchDevice(path) => write!(f, "Device={}: there is no such folder on this machine", path.display()),
            Self::NoSuchFileSystem(kind) => write!(f, "Type={kind}: this machine's kernel has no such file system"),
            Self::Image { volume, text } => write!(f, "the volume {volume}: {text}"),
            Self::MappedImage(volume) => write!(
                f,
                "the volume {volume} is an image (Driver=image), and such a one has no ids of a user namespace; write UserNS=host"
            ),
            Self::MappedRootfs => {
                f.write_str("Rootfs= in a pod with a user namespace is not available in this version")
            }
            Self::Spec(error) => error.fmt(f),
            Self::Ids(error) => error.fmt(f),
            Self::Secret(error) => error.fmt(f),
            Self::SecretOwner(name, uid, gid) => {
                write!(
                    f,
                    "Secret={name}: the container's user namespace has no {uid}:{gid}; write others in uid= and gid="
                )
            }
            Self::SecretText(name) => {
                write!(f, "Secret={name},type=env: its value is not text; leave type=env out and read the file")
            }
            Self::Json(error) => write!(f, "write config.json: {error}"),
        }
    }
}

/// For `map_err`: what was done to which path.
fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::File { action, path, source }
}

/// The name the runtime knows a unit's container by: what runc allows in an id, so `+` and two digits for the rest.
pub(crate) fn container_id(unit: &UnitName) -> String {
    let mut id = String::new();
    for c in unit.as_str().chars() {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
            id.push(c);
        } else {
            id.push_str(&format!("+{:02x}", u32::from(c)));
        }
    }
    id
}

/// What the machine has.
pub(crate) struct Machine {
    pub(crate) hostname: String,
    /// Volumes that have a file, by name.
    pub(crate) volumes: Arc<BTreeMap<String, VolumeSpec>>,
    pub(crate) folders: Folders,
}

/// Makes the bundle: root file system mounted, volumes and generated files there, config.json written.
/// `listen`: the names of the sockets it will be handed; `startup`: see `Facts`. Returns the machine's ids of the container's root, if that is somebody there.
pub(crate) fn build(
    paths: &Paths,
    unit: &Unit,
    image: &PreparedImage,
    machine: &Machine,
    listen: Vec<String>,
    startup: bool,
    joins: Joins,
) -> Result<Option<(u32, u32)>, BundleError> {
    let folder = paths.unit(&unit.name);
    let ids = match &joins.user {
        Some((_, ids)) => Some(ids.clone()),
        None => id_ranges::of(paths, &unit.name, &unit.container.user_namespace).map_err(BundleError::Ids)?,
    };
    make_folder(&folder, 0o700)?;
    let mut layers: Vec<&Path> = image.layers.iter().map(PathBuf::as_path).collect();
    let mount_points = paths.mount_points();
    overlay::make_mount_points(&mount_points)?;
    layers.insert(0, &mount_points);
    let (container, rootfs) = (paths.container(&unit.name), paths.rootfs(&unit.name));
    machine.folders.begin(&unit.name).map_err(at("empty", &container))?;
    let volumes = spec::volumes(unit, &image.config);
    let given = match &unit.container.root {
        Root::Image(_) => None,
        // Of a pod's user namespace its container's file knows nothing.
        Root::Folder { .. } if ids.is_some() => return Err(BundleError::MappedRootfs),
        Root::Folder { path, .. } => Some(folder::open_folder(path)?),
    };
    let given = given.as_ref().map(folder::name);
    let own = given.as_ref().filter(|_| matches!(unit.container.root, Root::Folder { overlay: false, .. }));
    let hostname = &spec::hostname(unit, &machine.hostname);
    let news = etc::news();
    let (root, etc) = match own {
        Some(given) => {
            etc::write(paths, &paths.etc(&unit.name), unit, hostname, None)?;
            (folder::mount(given, &rootfs)?, Some(paths.etc(&unit.name)))
        }
        None => {
            layers.extend(given.as_deref());
            let upper = overlay::prepare(&container, &rootfs, &layers)?;
            let bound = match etc::in_layer(unit, &volumes, &upper, &layers)? {
                // The disk has the container's own ids.
                Some(etc) => etc::write(paths, &etc, unit, hostname, Some((0, 0))).map(|()| None)?,
                None => {
                    let etc = paths.etc(&unit.name);
                    etc::write(paths, &etc, unit, hostname, ids.as_ref().and_then(IdMaps::root))?;
                    Some(etc)
                }
            };
            (overlay::mount(&container, &rootfs, &layers, ids.as_ref())?, bound)
        }
    };
    if etc::news() != news {
        etc::refresh(paths, unit);
    }
    let notify = paths.notify(&unit.name);
    if unit.container.notify == Notify::Container {
        make_folder(&notify, 0o755)?;
    }
    let mut facts = Facts {
        rootfs: paths.rootfs(&unit.name),
        hostname: hostname.to_owned(),
        passwd: rootfs::read(&root, "etc/passwd").map_err(at("read the image's", Path::new("/etc/passwd")))?,
        group: rootfs::read(&root, "etc/group").map_err(at("read the image's", Path::new("/etc/group")))?,
        volume_dirs: BTreeMap::new(),
        etc,
        notify,
        environment_files: Vec::new(),
        listen_names: listen,
        joins,
        devices: devices::nodes(&unit.container.devices)?,
        ids,
        secret_files: Vec::new(),
        secret_values: Vec::new(),
        disks: devices::disks(&unit.container.resources.io_limits)?,
        io_latency: paths.io_latency().exists(),
        memory_bytes: memory_bytes(),
        tasks: devices::tasks(),
        startup,
    };
    for (index, volume) in volumes.iter().enumerate() {
        let dir = match &volume.source {
            VolumeSource::Host(path) => {
                if fs::metadata(path).is_err() {
                    return Err(BundleError::NoSuchHostPath(path.clone()));
                }
                continue;
            }
            VolumeSource::Named(name) => paths.volume(name),
            VolumeSource::Anonymous => paths.container(&unit.name).join("anonymous").join(index.to_string()),
        };
        let declared = match &volume.source {
            VolumeSource::Named(name) => machine.volumes.get(name),
            _ => None,
        };
        let beginning = Beginning {
            root: &root,
            destination: &volume.destination,
            copy: volume.copy_up,
            ids: facts.ids.as_ref(),
            owner: declared.map_or((None, None), |declared| declared.owner),
        };
        let dir = match declared.filter(|declared| declared.backing != Backing::Folder) {
            Some(declared) => mounted::claim(paths, &unit.name, declared, &beginning)?,
            None => copy_up::prepare(&dir, &beginning).map(|()| dir)?,
        };
        facts.volume_dirs.insert(volume.destination.clone(), dir);
    }
    for (path, optional) in &unit.container.environment_files {
        let text = match read_bounded(path) {
            Err(error) if *optional && error.kind() == io::ErrorKind::NotFound => String::new(),
            read => read.map_err(at("read EnvironmentFile", path))?,
        };
        let bare = |line: &str| !line.contains('=') && !line.trim().is_empty() && !line.trim().starts_with('#');
        if let Some((index, line)) = text.lines().enumerate().find(|(_, line)| bare(line)) {
            let at = format!("{}:{}", path.display(), index + 1);
            log::warn!("{}: {at}: {} has no value and is left out; write NAME=value", unit.name, line.trim());
        }
        facts.environment_files.push(text);
    }
    give_secrets(paths, unit, &mut facts)?;
    let spec = runtime_spec(unit, &image.config, &facts).map_err(BundleError::Spec)?;
    let config = folder.join(CONFIG);
    let text = serde_json::to_vec(&spec).map_err(BundleError::Json)?;
    // Values of secrets are in it, on a tmpfs: nobody else reads it, and it goes when the container is started.
    write_private(&config, &text).map_err(at("write", &config))?;
    Ok(facts.ids.as_ref().and_then(IdMaps::root))
}

/// A file of a container, with the links in its root followed as it would follow them; empty where there is none.
pub(crate) fn read_in(rootfs: &Path, path: &str) -> io::Result<String> {
    rootfs::read(fs::File::open(rootfs)?, path)
}

/// The unit's secrets, as files below /run or as values for its environment.
fn give_secrets(paths: &Paths, unit: &Unit, facts: &mut Facts) -> Result<(), BundleError> {
    let folder = paths.unit(&unit.name).join("secrets");
    forget_secrets(paths, &unit.name);
    for (index, secret) in unit.container.secrets.iter().enumerate() {
        let value = secrets::get(paths, &secret.name).map_err(BundleError::Secret)?;
        match &secret.target {
            SecretTarget::File { uid, gid, mode, .. } => {
                make_folder(&folder, 0o700)?;
                let path = folder.join(index.to_string());
                write_private(&path, &value).map_err(at("write", &path))?;
                let (uid, gid) = match &facts.ids {
                    None => (*uid, *gid),
                    Some(ids) => {
                        let owner = ids.on_host(*uid, *gid);
                        owner.ok_or_else(|| BundleError::SecretOwner(secret.name.clone(), *uid, *gid))?
                    }
                };
                chown(&path, Some(uid), Some(gid)).map_err(at("chown", &path))?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).map_err(at("chmod", &path))?;
                facts.secret_files.push(path);
            }
            SecretTarget::Environment(_) => {
                let text = String::from_utf8(value).ok().filter(|text| !text.contains('\0'));
                facts.secret_values.push(text.ok_or_else(|| BundleError::SecretText(secret.name.clone()))?);
            }
        }
    }
    Ok(())
}

/// What is left of a container that held values of secrets.
pub(crate) fn forget_secrets(paths: &Paths, unit: &UnitName) {
    let folder = paths.unit(unit);
    let _ = fs::remove_dir_all(folder.join("secrets"));
    let _ = fs::remove_file(folder.join(CONFIG));
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let file = fs::File::open(path)?;
    let mut text = String::new();
    let read = io::Read::read_to_string(&mut io::Read::take(file, MAX_ENVIRONMENT_BYTES + 1), &mut text)?;
    if read as u64 > MAX_ENVIRONMENT_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than 1 MiB"));
    }
    Ok(text)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), BundleError> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(at("make the folder", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_every_runtime_allows_and_differ_where_names_do() {
        let id = |name: &str| container_id(&UnitName::parse(name).unwrap());
        assert_eq!(id("web-1.a_b"), "web-1.a_b");
        assert_eq!(id(r"dev\x2ddisk:1"), "dev+5cx2ddisk+3a1");
    }
}
