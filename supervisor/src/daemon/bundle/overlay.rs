//! The container's root: overlayfs over the image's layers, with a writable layer that is empty at every start.

use std::{
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt, chown},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    mount::{MntFlags, MsFlags, mount as mount_fs, umount2},
    sys::stat::Mode,
};

use super::{BundleError, at, idmapped, make_folder};
use crate::{daemon::sys::idmap, unit::IdMaps};

/// mount(2) takes one page of options.
const MAX_OPTIONS_BYTES: usize = 4000;

/// What every container has something mounted on.
const MOUNTED_FOLDERS: [&str; 4] = ["proc", "sys", "dev", "etc"];
const MOUNTED_FILES: [&str; 3] = ["etc/hosts", "etc/hostname", "etc/resolv.conf"];

/// Makes the layer that lies below those of images: the empty places the runtime mounts on. An image that lacks them (one program and
/// nothing else) would get them in the writable layer at every start: ten changes of the disk's file system, and as many inodes that
/// stay in memory as long as the container runs.
pub(super) fn make_mount_points(layer: &Path) -> Result<(), BundleError> {
    // The last is there when all are: the file system keeps the order over a power cut.
    if MOUNTED_FILES.last().is_some_and(|last| layer.join(last).exists()) {
        return Ok(());
    }
    MOUNTED_FOLDERS.iter().try_for_each(|folder| make_folder(&layer.join(folder), 0o755))?;
    for file in MOUNTED_FILES {
        let path = layer.join(file);
        fs::OpenOptions::new().append(true).create(true).open(&path).map_err(at("make", &path))?;
    }
    Ok(())
}

/// Makes the folder `container`, that nothing is in yet, what a root is mounted over, and returns the writable layer in it. The layers
/// come lowest first.
pub(super) fn prepare(container: &Path, rootfs: &Path, layers: &[&Path]) -> Result<PathBuf, BundleError> {
    // An earlier start's may still be there after a crash.
    unmount(rootfs).map_err(at("unmount", rootfs))?;
    let upper = container.join("upper");
    for folder in [container, &upper, &container.join("work"), rootfs] {
        make_folder(folder, 0o755)?;
    }
    if let Some(top) = layers.last() {
        be_as(&upper, top)?;
    }
    Ok(upper)
}

/// Mounts a root at `rootfs`, over the folder `container` that was prepared, and returns a descriptor of it. The layers come lowest
/// first.
pub(super) fn mount(
    container: &Path,
    rootfs: &Path,
    layers: &[&Path],
    ids: Option<&IdMaps>,
) -> Result<OwnedFd, BundleError> {
    let (upper, work) = (container.join("upper"), container.join("work"));
    let folders: Vec<&Path> = layers.iter().rev().copied().collect();
    if let Some(ids) = ids {
        let root = idmapped::root(container, rootfs, &folders, ids)?;
        idmap::attach(root.as_fd(), rootfs).map_err(at("mount overlay on", rootfs))?;
        return open_root(rootfs);
    }
    stack(rootfs, folders, [&upper, &work], true)?;
    open_root(rootfs)
}

/// What is seen as `/` has the upper folder's owner and mode: those of the highest layer.
pub(super) fn be_as(upper: &Path, top: &Path) -> Result<(), BundleError> {
    let meta = fs::metadata(top).map_err(at("read the layer", top))?;
    chown(upper, Some(meta.uid()), Some(meta.gid())).map_err(at("chown", upper))?;
    let mode = fs::Permissions::from_mode(meta.mode() & 0o7777);
    fs::set_permissions(upper, mode).map_err(at("chmod", upper))
}

/// Mounts upper and work folder over others, highest first. `volatile`: nobody waits for fsyncs.
pub(super) fn stack<'a>(
    rootfs: &Path,
    mut folders: Vec<&'a Path>,
    written: [&'a Path; 2],
    volatile: bool,
) -> Result<(), BundleError> {
    folders.extend(written);
    // Named by descriptors where a name would be cut or read as syntax; the kernel resolves them while it mounts.
    let plain = folders.iter().all(|path| !path.as_os_str().as_encoded_bytes().iter().any(|b| b",:\\".contains(b)));
    let length: usize = folders.iter().map(|path| path.as_os_str().len() + 1).sum();
    let mut held = Vec::new();
    let mut names = Vec::new();
    for path in folders {
        if plain && length < MAX_OPTIONS_BYTES - 100 {
            names.push(path.display().to_string());
        } else {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let fd = open(path, flags, Mode::empty()).map_err(|errno| at("open", path)(errno.into()))?;
            names.push(format!("/proc/self/fd/{}", fd.as_raw_fd()));
            held.push(fd);
        }
    }
    let (lower, writable) = names.split_at(names.len() - 2);
    let [upper, work] = writable else { return Err(at("mount overlay on", rootfs)(Errno::EINVAL.into())) };
    mount_on(rootfs, lower, upper, work, volatile)
}

/// All layers by names without `:`, `,` and `\`; the lower ones highest first.
pub(super) fn mount_on(
    rootfs: &Path,
    lower: &[String],
    upper: &str,
    work: &str,
    volatile: bool,
) -> Result<(), BundleError> {
    // A container's own layer does not outlive it.
    let volatile = if volatile { "volatile," } else { "" };
    let options = format!("{volatile}lowerdir={},upperdir={upper},workdir={work}", lower.join(":"));
    if options.len() > MAX_OPTIONS_BYTES {
        let error = io::Error::new(io::ErrorKind::InvalidInput, format!("{} layers are too many", lower.len()));
        return Err(at("mount overlay on", rootfs)(error));
    }
    mount_fs(Some("overlay"), rootfs, Some("overlay"), MsFlags::MS_NODEV, Some(options.as_str()))
        .map_err(|errno| at("mount overlay on", rootfs)(errno.into()))
}

fn open_root(rootfs: &Path) -> Result<OwnedFd, BundleError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(rootfs, flags, Mode::empty()).map_err(|errno| at("open", rootfs)(errno.into()))
}

/// Unmounts whatever is mounted there, one on top of the other; nothing is a success.
pub(crate) fn unmount(rootfs: &Path) -> io::Result<()> {
    for _ in 0..16 {
        match umount2(rootfs, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point, or not there at all.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_to_mount_on_are_made_once_and_completed() {
        let folder = tempfile::tempdir().unwrap();
        let layer = folder.path().join("mount-points");
        fs::create_dir_all(layer.join("etc")).unwrap();
        for _ in 0..2 {
            make_mount_points(&layer).unwrap();
            assert!(MOUNTED_FOLDERS.iter().all(|name| layer.join(name).is_dir()));
            assert!(MOUNTED_FILES.iter().all(|name| layer.join(name).metadata().unwrap().len() == 0));
        }
    }
}
