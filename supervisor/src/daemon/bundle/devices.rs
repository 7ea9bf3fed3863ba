//! What of the machine itself a container's configuration needs: the nodes behind `AddDevice=`, and how much there is to share.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use super::{BundleError, at};
use crate::unit::{Device, DeviceNode, IoLimit};

/// A folder stands for the devices in it and below it; one that may be missing is left out where it is.
pub(super) fn nodes(devices: &[Device]) -> Result<Vec<DeviceNode>, BundleError> {
    let mut nodes = Vec::new();
    for device in devices {
        match add(&device.host, &device.container, &device.access, &mut nodes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && device.optional => {}
            result => result.map_err(at("find the device", &device.host))?,
        }
    }
    Ok(nodes)
}

fn add(host: &Path, container: &Path, access: &str, nodes: &mut Vec<DeviceNode>) -> io::Result<()> {
    let meta = fs::metadata(host)?;
    let kind = meta.file_type();
    if meta.is_dir() {
        for entry in fs::read_dir(host)? {
            let name = entry?.file_name();
            match add(&host.join(&name), &container.join(&name), access, nodes) {
                // What is no device, or gone meanwhile, is no part of the folder.
                Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {}
                result => result?,
            }
        }
        return Ok(());
    }
    if !kind.is_block_device() && !kind.is_char_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a device"));
    }
    nodes.push(DeviceNode {
        path: container.to_path_buf(),
        block: kind.is_block_device(),
        major: i64::from(libc::major(meta.rdev())),
        minor: i64::from(libc::minor(meta.rdev())),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.to_owned(),
    });
    Ok(())
}

/// The disks that limits are for: a path's own device, or the one its file system lies on, and as the kernel counts for whole disks
/// alone, not a part of it.
pub(super) fn disks(limits: &[IoLimit]) -> Result<Vec<(u32, u32)>, BundleError> {
    let disk = |limit: &IoLimit| disk(&limit.path).map_err(at("find the disk of", &limit.path));
    limits.iter().map(disk).collect()
}

fn disk(path: &Path) -> io::Result<(u32, u32)> {
    let meta = fs::metadata(path)?;
    let device = if meta.file_type().is_block_device() { meta.rdev() } else { meta.dev() };
    let (major, minor) = (libc::major(device), libc::minor(device));
    let known = Path::new("/sys/dev/block").join(format!("{major}:{minor}"));
    if major == 0 || !known.exists() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it lies on no disk"));
    }
    if !known.join("partition").exists() {
        return Ok((major, minor));
    }
    let whole = fs::read_to_string(fs::canonicalize(known)?.join("../dev"))?;
    let numbers =
        whole.trim().split_once(':').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    numbers.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the disk of this partition is not told"))
}

/// Of /proc/meminfo.
pub(crate) fn memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    total.map_or(u64::MAX, |kib| kib * 1024)
}

/// As many processes as the kernel has room for.
pub(super) fn tasks() -> u64 {
    let read = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limits = ["/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"].into_iter().filter_map(read);
    limits.min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_found_and_optional_ones_may_be_missing() {
        let device = |host: &str, optional| Device {
            host: host.into(),
            container: "/dev/x".into(),
            access: "rw".into(),
            optional,
        };
        let nodes = nodes(&[device("/dev/null", false), device("/dev/none-such", true)]).unwrap();
        assert_eq!((nodes.len(), nodes[0].major, nodes[0].minor, nodes[0].block), (1, 1, 3, false));
        assert!(super::nodes(&[device("/dev/none-such", false)]).is_err());
        assert!(super::nodes(&[device("/etc/passwd", false)]).is_err());
        assert!(memory_bytes() > 1 << 20 && tasks() > 1);
    }

    #[test]
    fn a_path_has_the_disk_it_lies_on() {
        for entry in fs::read_dir("/sys/class/block").unwrap().map(Result::unwrap) {
            let of = |folder: &Path| {
                let text = fs::read_to_string(folder.join("dev")).ok()?;
                let (major, minor) = text.trim().split_once(':')?;
                Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
            };
            // A path of a disk with several has no number, and a loop device may go while we look.
            let Ok(folder) = fs::canonicalize(entry.path()) else { continue };
            let whole = if folder.join("partition").exists() { of(folder.parent().unwrap()) } else { of(&folder) };
            let Some(whole) = whole else { continue };
            let node = Path::new("/dev").join(entry.file_name());
            if node.exists() {
                assert_eq!(disk(&node).unwrap(), whole, "{}", node.display());
            }
        }
        for path in ["/proc", "/none"] {
            let limit = IoLimit { path: path.into(), kind: crate::unit::IoLimitKind::Weight, value: 1 };
            let text = disks(&[limit]).unwrap_err().to_string();
            assert!(text.starts_with(&format!("find the disk of {path}: ")), "{text}");
        }
    }
}
