//! Device nodes: the six of the spec's "Default Devices", those of `linux.devices`, and the links in /dev.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::DEV_SHM;
use super::mounts::{Surroundings, normal};
use super::namespaces::Namespaces;
use crate::runtime::config::{Config, ConfigError, DeviceKind, IdMapping, Mount};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::sys::{self, Errno, fs, mount};

pub(crate) struct Node {
    /// The whole path, for errors; the folder it lies in, and its name there.
    pub(crate) path: CString,
    pub(crate) folder: CString,
    pub(crate) name: CString,
    /// Type bits and permissions, as mknod takes them.
    pub(crate) mode: u32,
    pub(crate) rdev: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// In a user namespace no node can be made, so one is bound that is there already.
    pub(crate) bound: Option<Bound>,
}

pub(crate) enum Bound {
    /// The host's own, detached.
    Host(OwnedFd),
    /// Made for the container; its name in the file system of those.
    Made(CString),
}

pub(crate) struct DevicePlan {
    pub(crate) nodes: Vec<Node>,
    /// What was made outside of a user namespace, detached.
    pub(crate) made: Option<OwnedFd>,
    /// Text and name of each link in /dev.
    pub(crate) links: &'static [(&'static CStr, &'static CStr)],
    /// Asked for by annotation (`DEV_SHM`); /dev is a tmpfs of the container's, and nothing is to be mounted on /dev/shm: it is a folder there.
    pub(crate) shm: bool,
}

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

impl DevicePlan {
    pub(super) fn new(
        config: &Config,
        around: &Surroundings<'_>,
        namespaces: &Namespaces,
        user_namespace: bool,
    ) -> Result<DevicePlan> {
        let devices = &config.linux.devices;
        // Of one form, so that their texts can be compared.
        let mounted: Vec<PathBuf> = config.mounts.iter().map(|m| around.destination(m)).collect();
        let given: Vec<PathBuf> = devices.iter().map(|device| normal(&device.path)).collect();
        // Who binds a whole /dev, the host's perhaps, has filled it: whatever were made in there would be made outside.
        let whole = config.mounts.iter().zip(&mounted).any(|(m, path)| {
            let binds = || m.kind.as_deref() == Some("bind") || m.options.iter().any(|o| o == "bind" || o == "rbind");
            path.as_os_str() == "/dev" && binds()
        });
        if whole {
            return Ok(DevicePlan { nodes: Vec::new(), made: None, links: &[], shm: false });
        }
        let (mut nodes, mut made) = (Vec::new(), None);
        for (index, (device, path)) in devices.iter().zip(&given).enumerate() {
            let kind = match device.kind {
                DeviceKind::Block => libc::S_IFBLK,
                DeviceKind::Character => libc::S_IFCHR,
                DeviceKind::Fifo => libc::S_IFIFO,
            };
            let mode = kind | device.mode.unwrap_or(0o666);
            let rdev = libc::makedev(device.major, device.minor);
            let node = node(path, mode, rdev, (device.uid, device.gid));
            let mut node = node.ok_or_else(|| {
                let error = ConfigError::invalid(format!("linux.devices[{index}].path"), "names no file");
                Error::Config { file: "config.json".to_owned(), error }
            })?;
            if user_namespace && kind != libc::S_IFIFO {
                let owner = (outside(&namespaces.uids, node.uid), outside(&namespaces.gids, node.gid));
                node.bound = Some(match host_node(&node.path, rdev) {
                    Ok(host) => Bound::Host(host),
                    // Under another name there, or not at all.
                    Err(_) => Bound::Made(make(&mut made, index, &node, owner).step("create device", &device.path)?),
                });
            }
            nodes.push(node);
        }
        for (name, major, minor) in DEFAULT {
            let path = Path::new(name);
            // A volume may lie over one of them: docker run -v /dev/urandom:/dev/random.
            if mounted.iter().chain(&given).all(|taken| taken.as_os_str() != name) {
                let mode = libc::S_IFCHR | 0o666;
                let Some(mut node) = node(path, mode, libc::makedev(major, minor), (0, 0)) else { continue };
                if user_namespace {
                    node.bound = Some(Bound::Host(host_node(&node.path, node.rdev)?));
                }
                nodes.push(node);
            }
        }
        let tmpfs = |m: &Mount| m.kind.as_deref() == Some("tmpfs");
        let dev = config.mounts.iter().zip(&mounted).any(|(m, path)| path.as_os_str() == "/dev" && tmpfs(m));
        let asked = config.annotations.iter().any(|(key, value)| key == DEV_SHM && value == "folder");
        let shm = asked && dev && mounted.iter().all(|path| path.as_os_str() != "/dev/shm");
        Ok(DevicePlan { nodes, made, links: &LINKS, shm })
    }
}

/// The host's id for one of the container.
fn outside(mappings: &[IdMapping], id: u32) -> u32 {
    let map = mappings.iter().find(|map| id >= map.container && id - map.container < map.size);
    map.map_or(id, |map| map.host.saturating_add(id - map.container))
}

/// Makes a node with the runtime's rights, in a file system of its own that the child will put where nobody sees it.
fn make(all: &mut Option<OwnedFd>, index: usize, node: &Node, (uid, gid): (u32, u32)) -> sys::Result<CString> {
    let at = match all.take() {
        Some(at) => at,
        None => mount::fs_create(mount::fs_open(c"tmpfs")?.as_fd(), mount::NOSUID | mount::NOEXEC)?,
    };
    let at: &OwnedFd = all.insert(at);
    let at = at.as_fd();
    let name = c_string(index.to_string());
    fs::mknod(at, &name, node.mode, node.rdev)?;
    // mknod takes the umask away.
    fs::chmod_at(at, &name, node.mode & 0o7777)?;
    fs::chown_at(at, &name, uid, gid)?;
    Ok(name)
}

fn node(path: &Path, mode: u32, rdev: u64, (uid, gid): (u32, u32)) -> Option<Node> {
    let (folder, name) = (path.parent()?, path.file_name()?);
    let whole = c_string(path.as_os_str().as_encoded_bytes());
    let folder = c_string(folder.as_os_str().as_encoded_bytes());
    let name = c_string(name.as_encoded_bytes());
    Some(Node { path: whole, folder, name, mode, rdev, uid, gid, bound: None })
}

/// A detached clone of a device node of the host, checked to be that device.
pub(super) fn host_node(path: &CStr, rdev: u64) -> Result<OwnedFd> {
    let shown = path.to_string_lossy();
    let tree = mount::clone_path(path, false).step("open device", &shown)?;
    let stat = fs::stat(tree.as_fd()).step("open device", &shown)?;
    let kind = stat.st_mode & libc::S_IFMT;
    if stat.st_rdev != rdev || (kind != libc::S_IFCHR && kind != libc::S_IFBLK) {
        return Err(Error::System { step: "open device", object: shown.into_owned(), errno: Errno(libc::ENXIO) });
    }
    Ok(tree)
}
