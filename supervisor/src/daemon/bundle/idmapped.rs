//! A root for a container in a user namespace: overlayfs over layers whose ids are mapped, so that the disk has the container's own
//! ids (Documentation/filesystems/idmappings.rst), and one unpacked layer serves every container.
//!
//! Before Linux 6.15 overlayfs takes only layers that are attached somewhere: all of it is put together `apart`.

use std::{
    fmt::Write,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::{
    mount::{MsFlags, mount},
    unistd::chdir,
};

use super::{BundleError, apart::apart, at, overlay};
use crate::{
    daemon::sys::idmap,
    unit::{IdMap, IdMaps},
};

/// Mounts `container`'s upper and work folder over the layers, highest first. The mount is attached nowhere.
pub(super) fn root(container: &Path, rootfs: &Path, layers: &[&Path], ids: &IdMaps) -> Result<OwnedFd, BundleError> {
    apart(rootfs, || put_together(container, rootfs, layers, ids))
}

fn put_together(container: &Path, rootfs: &Path, layers: &[&Path], ids: &IdMaps) -> Result<OwnedFd, BundleError> {
    let none = None::<&Path>;
    mount(Some("tmpfs"), rootfs, Some("tmpfs"), MsFlags::empty(), none)
        .map_err(|e| at("mount a tmpfs on", rootfs)(e.into()))?;
    chdir(rootfs).map_err(|e| at("enter", rootfs)(e.into()))?;
    let namespace = |maps: [String; 2]| {
        let [uids, gids] = maps;
        idmap::user_namespace(&uids, &gids).map_err(at("make a user namespace for", rootfs))
    };
    let place = |folder: &Path, name: &str, namespace: &OwnedFd| {
        fs::create_dir(name).map_err(at("make a place for", folder))?;
        let copy = idmap::copy_of_mount(folder, false).map_err(at("copy the mount of", folder))?;
        idmap::map_ids(copy.as_fd(), namespace.as_fd()).map_err(at("map the ids of", folder))?;
        idmap::attach(copy.as_fd(), name.as_ref()).map_err(at("mount", folder))
    };
    let as_given = namespace([lines(&ids.uids), lines(&ids.gids)])?;
    let mut lower = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let name = index.to_string();
        place(layer, &name, &as_given)?;
        lower.push(name);
    }
    // overlayfs works in its upper layer as who mounted it: that one has to have an id there.
    let writable = namespace([&ids.uids, &ids.gids].map(|maps| lines(maps) + &of_the_machine(maps)))?;
    place(container, "w", &writable)?;
    fs::create_dir("root").map_err(at("make a place for", rootfs))?;
    overlay::mount_on("root".as_ref(), &lower, "w/upper", "w/work", true)?;
    idmap::copy_of_mount("root".as_ref(), false).map_err(at("copy the mount of", rootfs))
}

/// As in /proc/PID/uid_map.
pub(crate) fn lines(maps: &[IdMap]) -> String {
    maps.iter().fold(String::new(), |mut text, IdMap { container, host, count }| {
        let _ = writeln!(text, "{container} {host} {count}");
        text
    })
}

/// The machine's root gets the highest id that the container has not; it may be the container's already.
fn of_the_machine(maps: &[IdMap]) -> String {
    if maps.iter().any(|map| map.host == 0) {
        return String::new();
    }
    let next = std::iter::once(u32::MAX - 1).chain(maps.iter().filter_map(|map| map.container.checked_sub(1)));
    let taken = |id: &u32| maps.iter().any(|map| (map.container..map.container + map.count).contains(id));
    next.filter(|id| !taken(id)).max().map_or(String::new(), |id| format!("{id} 0 1\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_root_has_an_id_of_its_own_on_disk() {
        let map = |container, host, count| IdMap { container, host, count };
        assert_eq!(lines(&[map(0, 1000, 5), map(9, 0, 1)]), "0 1000 5\n9 0 1\n");
        assert_eq!(of_the_machine(&[map(0, 1000, 5)]), "4294967294 0 1\n");
        assert_eq!(of_the_machine(&[map(0, 1000, 5), map(9, 0, 1)]), "");
        assert_eq!(of_the_machine(&[map(u32::MAX - 5, 1, 5), map(7, 6, 2)]), "4294967289 0 1\n");
    }
}
