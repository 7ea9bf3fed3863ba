//! `Rootfs=`: a folder of the machine as the container's root.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2},
    mount::{MsFlags, mount as mount_fs},
    sys::stat::Mode,
};

use super::{BundleError, at, make_folder, overlay::unmount};
use crate::daemon::sys::idmap;

/// Through no link: who writes in a folder above, such as a container in its volume, would lead us to the machine's own files.
pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, BundleError> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how).map_err(|errno| at("open Rootfs", path)(errno.into()))
}

/// What mount(2) knows it by, as long as the descriptor is open.
pub(super) fn name(folder: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", folder.as_raw_fd()).into()
}

/// Mounts the folder itself at `rootfs`, with what is mounted below it, and returns a descriptor of it.
pub(super) fn mount(folder: &Path, rootfs: &Path) -> Result<OwnedFd, BundleError> {
    // An earlier start's may still be there after a crash.
    unmount(rootfs).map_err(at("unmount", rootfs))?;
    make_folder(rootfs, 0o755)?;
    let step = |from: Option<&Path>, flags| {
        let done = mount_fs(from, rootfs, None::<&str>, flags, None::<&str>);
        done.map_err(|errno| at("mount Rootfs on", rootfs)(io::Error::from(errno)))
    };
    step(Some(folder), MsFlags::MS_BIND | MsFlags::MS_REC)?;
    step(None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(rootfs, flags, Mode::empty()).map_err(|errno| at("open", rootfs)(errno.into()))?;
    // Besides what each of them has already: a remount would take read-only and nosuid away.
    idmap::forbid_devices(root.as_fd()).map_err(at("forbid devices in", rootfs))?;
    Ok(root)
}
