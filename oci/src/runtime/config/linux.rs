//! The `linux` object.

use super::rdt::IntelRdt;
use super::resources::Resources;
use super::scheduling::{self, MemoryPolicy};
use super::seccomp::Seccomp;
use super::{Result, one_of, string_map};
use crate::runtime::json::{Reader, Taken};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamespaceKind {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

impl NamespaceKind {
    /// The name of the spec, which also says what is being done in errors.
    pub(crate) const ALL: [(&'static str, NamespaceKind); 8] = [
        ("pid", NamespaceKind::Pid),
        ("network", NamespaceKind::Network),
        ("mount", NamespaceKind::Mount),
        ("ipc", NamespaceKind::Ipc),
        ("uts", NamespaceKind::Uts),
        ("user", NamespaceKind::User),
        ("cgroup", NamespaceKind::Cgroup),
        ("time", NamespaceKind::Time),
    ];

    pub(crate) fn flag(self) -> i32 {
        match self {
            NamespaceKind::Pid => libc::CLONE_NEWPID,
            NamespaceKind::Network => libc::CLONE_NEWNET,
            NamespaceKind::Mount => libc::CLONE_NEWNS,
            NamespaceKind::Ipc => libc::CLONE_NEWIPC,
            NamespaceKind::Uts => libc::CLONE_NEWUTS,
            NamespaceKind::User => libc::CLONE_NEWUSER,
            NamespaceKind::Cgroup => libc::CLONE_NEWCGROUP,
            NamespaceKind::Time => libc::CLONE_NEWTIME,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Namespace {
    pub(crate) kind: NamespaceKind,
    /// Join this one; none: create a new one.
    pub(crate) path: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IdMapping {
    pub(crate) container: u32,
    pub(crate) host: u32,
    pub(crate) size: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum DeviceKind {
    Block,
    #[default]
    Character,
    Fifo,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Device {
    pub(crate) kind: DeviceKind,
    pub(crate) path: String,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: Option<u32>,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// An interface of the runtime's network namespace, and its name in the container's.
#[derive(Debug)]
pub(crate) struct NetDevice {
    pub(crate) from: String,
    pub(crate) to: String,
}

#[derive(Debug, Default)]
pub(crate) struct Linux {
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) uid_mappings: Vec<IdMapping>,
    pub(crate) gid_mappings: Vec<IdMapping>,
    /// `monotonic` and `boottime`, in the words of /proc/PID/timens_offsets: clock, seconds, nanoseconds.
    pub(crate) time_offsets: Vec<(String, i64, u32)>,
    pub(crate) devices: Vec<Device>,
    pub(crate) cgroups_path: Option<String>,
    pub(crate) resources: Option<Resources>,
    pub(crate) sysctl: Vec<(String, String)>,
    pub(crate) seccomp: Option<Seccomp>,
    pub(crate) rootfs_propagation: Option<String>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) mount_label: Option<String>,
    pub(crate) personality: Option<u64>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    pub(crate) intel_rdt: Option<IntelRdt>,
    pub(crate) net_devices: Vec<NetDevice>,
    /// What of this object `exec` needs too, as it was written, for the state file.
    pub(crate) for_exec: String,
}

impl Linux {
    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Linux> {
        let mut linux = Linux::default();
        r.object(&mut |r, name| {
            match name {
                "namespaces" => r.array(&mut |r| {
                    let one = namespace(r)?;
                    // "If a namespaces field contains duplicated namespaces with same type, the runtime MUST generate an error."
                    if linux.namespaces.iter().any(|n| n.kind == one.kind) {
                        return Err(r.invalid(format!("the {} namespace is named twice", one.kind.name())));
                    }
                    linux.namespaces.push(one);
                    Ok(())
                })?,
                "uidMappings" => linux.uid_mappings = id_mappings(r)?,
                "gidMappings" => linux.gid_mappings = id_mappings(r)?,
                "timeOffsets" => linux.time_offsets = time_offsets(r)?,
                "devices" => r.array(&mut |r| {
                    linux.devices.push(device(r)?);
                    Ok(())
                })?,
                "cgroupsPath" => linux.cgroups_path = Some(r.text()?).filter(|p| !p.is_empty()),
                "resources" => linux.resources = Some(Resources::read(r)?),
                "sysctl" => linux.sysctl = string_map(r)?,
                "seccomp" => linux.seccomp = Some(Seccomp::read(r)?),
                "rootfsPropagation" => linux.rootfs_propagation = Some(r.text()?).filter(|p| !p.is_empty()),
                "maskedPaths" => linux.masked_paths = r.strings()?,
                "readonlyPaths" => linux.readonly_paths = r.strings()?,
                "mountLabel" => linux.mount_label = Some(r.text()?).filter(|l| !l.is_empty()),
                "personality" => linux.personality = linux.also_for_exec(r, name, personality)?,
                "memoryPolicy" => linux.memory_policy = linux.also_for_exec(r, name, scheduling::memory_policy)?,
                "intelRdt" => linux.intel_rdt = Some(IntelRdt::read(r)?),
                "netDevices" => r.object(&mut |r, name| {
                    linux.net_devices.push(net_device(r, name)?);
                    Ok(Taken::Yes)
                })?,
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        if !linux.for_exec.is_empty() {
            linux.for_exec.push('}');
        }
        Ok(linux)
    }

    fn also_for_exec<T>(
        &mut self,
        r: &mut Reader<'_>,
        name: &str,
        read: fn(&mut Reader<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let (value, text) = r.with_text(read)?;
        let before = if self.for_exec.is_empty() { '{' } else { ',' };
        self.for_exec.push(before);
        self.for_exec += &format!("\"{name}\":{text}");
        Ok(Some(value))
    }
}

fn net_device(r: &mut Reader<'_>, from: &str) -> Result<NetDevice> {
    let mut to = from.to_owned();
    r.object(&mut |r, name| {
        match name {
            "name" => {
                let given = r.text()?;
                if given.len() > 15
                    || given.contains(['/', ':'])
                    || given.contains(char::is_whitespace)
                    || given.starts_with('.')
                {
                    return Err(r.invalid(format!("{given:?} is not the name of an interface")));
                }
                if !given.is_empty() {
                    to = given;
                }
            }
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    Ok(NetDevice { from: from.to_owned(), to })
}

fn namespace(r: &mut Reader<'_>) -> Result<Namespace> {
    let (mut kind, mut path) = (None, None);
    r.object(&mut |r, name| {
        match name {
            "type" => kind = Some(one_of(r, &NamespaceKind::ALL)?),
            "path" => path = Some(r.text()?).filter(|p| !p.is_empty()),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    let kind = kind.ok_or_else(|| r.missing("type"))?;
    if let Some(path) = &path
        && !path.starts_with('/')
    {
        return Err(r.invalid(format!("path {path:?} is not absolute")));
    }
    Ok(Namespace { kind, path })
}

pub(super) fn id_mappings(r: &mut Reader<'_>) -> Result<Vec<IdMapping>> {
    let mut all = Vec::new();
    r.array(&mut |r| {
        let mut one = IdMapping { container: 0, host: 0, size: 0 };
        r.object_with(&["containerID", "hostID", "size"], &mut |r, name| {
            match name {
                "containerID" => one.container = r.integer()?,
                "hostID" => one.host = r.integer()?,
                "size" => one.size = r.integer()?,
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        all.push(one);
        Ok(())
    })?;
    Ok(all)
}

fn time_offsets(r: &mut Reader<'_>) -> Result<Vec<(String, i64, u32)>> {
    let mut all = Vec::new();
    r.object(&mut |r, clock| {
        if clock != "monotonic" && clock != "boottime" {
            return Err(r.invalid("only monotonic and boottime have offsets"));
        }
        let (mut seconds, mut nanoseconds) = (0, 0);
        r.object(&mut |r, name| {
            match name {
                "secs" => seconds = r.integer()?,
                "nanosecs" => nanoseconds = r.integer()?,
                _ => return Ok(Taken::No),
            }
            Ok(Taken::Yes)
        })?;
        all.push((clock.to_owned(), seconds, nanoseconds));
        Ok(Taken::Yes)
    })?;
    Ok(all)
}

fn device(r: &mut Reader<'_>) -> Result<Device> {
    let mut device = Device::default();
    let (mut kind, mut major, mut minor) = (None, None, None);
    r.object_with(&["type", "path"], &mut |r, name| {
        match name {
            "type" => {
                let kinds = [
                    ("b", DeviceKind::Block),
                    ("c", DeviceKind::Character),
                    ("u", DeviceKind::Character),
                    ("p", DeviceKind::Fifo),
                ];
                kind = Some(one_of(r, &kinds)?);
            }
            "path" => device.path = r.text()?,
            "major" => major = Some(r.integer()?),
            "minor" => minor = Some(r.integer()?),
            "fileMode" => device.mode = Some(r.integer::<u32>()? & 0o7777),
            "uid" => device.uid = r.integer()?,
            "gid" => device.gid = r.integer()?,
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    device.kind = kind.unwrap_or_default();
    if !device.path.starts_with('/') {
        return Err(r.invalid(format!("path {:?} is not absolute", device.path)));
    }
    if device.kind != DeviceKind::Fifo {
        device.major = major.ok_or_else(|| r.missing("major"))?;
        device.minor = minor.ok_or_else(|| r.missing("minor"))?;
    }
    Ok(device)
}

fn personality(r: &mut Reader<'_>) -> Result<u64> {
    let mut domain = None;
    r.object(&mut |r, name| {
        match name {
            "domain" => {
                // <linux/personality.h>.
                domain = Some(one_of(r, &[("LINUX", 0), ("LINUX32", 8)])?);
            }
            "flags" => return r.refuse_unless_empty("the spec defines no flags"),
            _ => return Ok(Taken::No),
        }
        Ok(Taken::Yes)
    })?;
    domain.ok_or_else(|| r.missing("domain"))
}
