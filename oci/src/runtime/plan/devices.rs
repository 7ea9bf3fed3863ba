//! Device nodes: the six of the spec's "Default Devices", those of `linux.devices`, and the links in /dev.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::mounts::normal;
use crate::runtime::config::{Config, ConfigError, DeviceKind};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::sys::{Errno, fs, mount};

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
    /// The host's node, detached: in a user namespace none can be made, so it is bound instead.
    pub(crate) host: Option<OwnedFd>,
}

pub(crate) struct DevicePlan {
    pub(crate) nodes: Vec<Node>,
    /// Text and name of each link in /dev.
    pub(crate) links: &'static [(&'static CStr, &'static CStr)],
}

const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"pts/ptmx", c"ptmx"),
];

const DEFAULT: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

impl DevicePlan {
    pub(super) fn new(config: &Config, user_namespace: bool) -> Result<DevicePlan> {
        let devices = &config.linux.devices;
        // An engine that binds a whole /dev has filled it.
        let whole = config.mounts.iter().any(|m| {
            let binds = m.kind.as_deref() == Some("bind") || m.options.iter().any(|o| o == "bind" || o == "rbind");
            binds && normal(&m.destination) == Path::new("/dev")
        });
        if whole && devices.is_empty() {
            return Ok(DevicePlan { nodes: Vec::new(), links: &[] });
        }
        let mut nodes = Vec::new();
        for (index, device) in devices.iter().enumerate() {
            let kind = match device.kind {
                DeviceKind::Block => libc::S_IFBLK,
                DeviceKind::Character => libc::S_IFCHR,
                DeviceKind::Fifo => libc::S_IFIFO,
            };
            let mode = kind | device.mode.unwrap_or(0o666);
            let rdev = libc::makedev(device.major, device.minor);
            let host = user_namespace && kind != libc::S_IFIFO;
            let node = node(&normal(&device.path), mode, rdev, (device.uid, device.gid), host)?;
            nodes.push(node.ok_or_else(|| {
                let error = ConfigError::invalid(format!("linux.devices[{index}].path"), "names no file");
                Error::Config { file: "config.json".to_owned(), error }
            })?);
        }
        for (name, major, minor) in DEFAULT {
            let path = Path::new("/dev").join(name);
            if devices.iter().all(|device| normal(&device.path) != path) {
                let mode = libc::S_IFCHR | 0o666;
                nodes.extend(node(&path, mode, libc::makedev(major, minor), (0, 0), user_namespace)?);
            }
        }
        Ok(DevicePlan { nodes, links: &LINKS })
    }
}

fn node(path: &Path, mode: u32, rdev: u64, (uid, gid): (u32, u32), host: bool) -> Result<Option<Node>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    let whole = c_string(path.as_os_str().as_encoded_bytes());
    let host = if host { Some(host_node(&whole, rdev)?) } else { None };
    let folder = c_string(folder.as_os_str().as_encoded_bytes());
    let name = c_string(name.as_encoded_bytes());
    Ok(Some(Node { path: whole, folder, name, mode, rdev, uid, gid, host }))
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
