//! What a container sees of the file systems: the contract's mounts, then the unit's own.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::{Facts, SpecError, linux::mappings};
use crate::unit::{
    ContainerSpec, Dns, IdMap, Network, Notify, Propagation, SecretTarget, Tmpfs, TmpfsKind, Unit, Unmask, Volume,
    VolumeSource,
};

pub(super) fn mounts(unit: &Unit, volumes: &[Volume], facts: &Facts) -> Result<Vec<Mount>, SpecError> {
    let container = &unit.container;
    let mut own = Vec::new();
    for volume in volumes {
        own.push(bind(volume, facts)?);
    }
    for tmpfs in &container.tmpfs {
        own.push(file_system(tmpfs));
    }
    let files = container.secrets.iter().filter_map(|secret| match &secret.target {
        SecretTarget::File { path, .. } => Some(path),
        SecretTarget::Environment(_) => None,
    });
    for (path, file) in files.zip(&facts.secret_files) {
        own.push(mount(path, "bind", file, words(&["bind", "rprivate", "nosuid", "noexec", "nodev", "ro"])));
    }
    // What a unit mounts replaces the system's mount of the same place.
    let is_own = |path: &Path| own.iter().any(|mount| mount.destination() == path);
    let mut mounts = system(container, facts, is_own(Path::new("/dev/shm")));
    mounts.retain(|mount| !is_own(mount.destination()));
    let files: Vec<Mount> = files_of_etc(container, facts).filter(|file| !is_own(file.destination())).collect();
    // What the unit mounts on /etc would hide them.
    if is_own(Path::new("/etc")) {
        own.extend(files);
    } else {
        mounts.extend(files);
    }
    if container.read_only && container.read_only_tmpfs {
        // As Podman's: with the files and the mode of the image's folder; programs are run from /run alone.
        for path in ["/run", "/tmp", "/var/tmp"] {
            if !own.iter().any(|o| o.destination() == Path::new(path)) {
                let mut options = words(&["rw", "nosuid", "nodev", "tmpcopyup"]);
                if path != "/run" {
                    options.push("noexec".to_owned());
                }
                own.push(mount(path, "tmpfs", "tmpfs", options));
            }
        }
    }
    if container.notify == Notify::Container {
        let options = words(&["bind", "rprivate", "nosuid", "noexec", "nodev", "ro"]);
        own.push(mount("/run/notify", "bind", &facts.notify, options));
    }
    // A place inside another comes after it.
    own.sort_by_key(|mount| mount.destination().components().count());
    mounts.append(&mut own);
    Ok(mounts)
}

/// `own_shm`: the unit mounts something on /dev/shm itself.
fn system(container: &ContainerSpec, facts: &Facts, own_shm: bool) -> Vec<Mount> {
    let cgroup_access = match &container.unmask {
        Unmask::All => "rw",
        Unmask::Paths(paths) if paths.iter().any(|p| p == "/sys/fs/cgroup") => "rw",
        Unmask::Paths(_) => "ro",
    };
    let sealed = container.read_only && !container.read_only_tmpfs;
    let shm_size = format!("size={}", container.shm_size_bytes);
    let shm_access = if sealed { "ro" } else { "rw" };
    // The runtime makes /dev/shm a folder of /dev where nothing is mounted there (asked for by annotation, see `runtime_spec`): a file
    // system of its own costs the kernel some 8 KiB, and with hundreds of containers twice that (each memory cgroup has a place for each
    // file system's shrinker).
    let apart = sealed || own_shm || facts.joins.shm.is_some();
    let dev_size = if apart { "size=65536k" } else { &shm_size };
    let dev = words(&["nosuid", "noexec", "strictatime", "mode=755", dev_size]);
    let mut pts = words(&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]);
    // Of the group tty, where there is one to the kernel.
    if facts.ids.as_ref().is_none_or(|ids| maps_id(&ids.gids, 5)) {
        pts.push("gid=5".to_owned());
    }
    let shm = words(&["nosuid", "noexec", "nodev", "mode=1777", &shm_size, shm_access]);
    let cgroup = words(&["nosuid", "noexec", "nodev", "relatime", cgroup_access]);
    let shm = match &facts.joins.shm {
        None => mount("/dev/shm", "tmpfs", "shm", shm),
        Some(folder) => {
            mount("/dev/shm", "bind", folder, words(&["bind", "rprivate", "nosuid", "noexec", "nodev", shm_access]))
        }
    };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", words(&["nosuid", "noexec", "nodev"])),
        mount("/dev", "tmpfs", "tmpfs", dev),
        mount("/dev/pts", "devpts", "devpts", pts),
        mount("/dev/mqueue", "mqueue", "mqueue", words(&["nosuid", "noexec", "nodev"])),
        mount("/sys", "sysfs", "sysfs", words(&["nosuid", "noexec", "nodev", "ro"])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
    ];
    if apart {
        mounts.push(shm);
    }
    // "mount(2) of sysfs needs CAP_SYS_ADMIN over the network namespace", and that is the machine's: what it has is bound, as Podman does.
    if facts.ids.is_some() && container.network == Network::Host {
        let bound = mount("/sys", "bind", "/sys", words(&["rbind", "rprivate", "nosuid", "noexec", "nodev", "ro"]));
        mounts.iter_mut().filter(|mount| mount.destination() == Path::new("/sys")).for_each(|m| *m = bound.clone());
    }
    mounts
}

/// Those that are not in the root already.
fn files_of_etc(container: &ContainerSpec, facts: &Facts) -> impl Iterator<Item = Mount> {
    // They lie on the host: sealed with the rest where the root is.
    let access = if container.read_only { "ro" } else { "rw" };
    // `DNS=none`: the image's own stays.
    let resolv = (container.dns != Dns::OfImage).then_some("resolv.conf");
    let bound = move |(etc, file): (&PathBuf, &str)| {
        let options = words(&["bind", "rprivate", "nosuid", "noexec", "nodev", access]);
        mount(Path::new("/etc").join(file), "bind", etc.join(file), options)
    };
    let files = ["hosts", "hostname"].into_iter().chain(resolv);
    facts.etc.iter().flat_map(move |etc| files.clone().map(move |file| bound((etc, file))))
}

fn bind(volume: &Volume, facts: &Facts) -> Result<Mount, SpecError> {
    let source = match &volume.source {
        VolumeSource::Host(path) => path.clone(),
        VolumeSource::Named(_) | VolumeSource::Anonymous => {
            let dir = facts.volume_dirs.get(&volume.destination);
            dir.cloned().ok_or_else(|| SpecError::NoVolumeDir(volume.destination.clone()))?
        }
    };
    let mut options = words(&[
        if volume.not_recursive { "bind" } else { "rbind" },
        match volume.propagation {
            Propagation::Private => "rprivate",
            Propagation::Shared => "rshared",
            Propagation::Slave => "rslave",
        },
        if volume.read_only { "ro" } else { "rw" },
    ]);
    for (on, word) in [(volume.nosuid, "nosuid"), (volume.nodev, "nodev"), (volume.noexec, "noexec")] {
        if on {
            options.push(word.to_owned());
        }
    }
    let mut mount = mount(&volume.destination, "bind", source, options);
    // What the machine keeps for the container has the container's own ids on disk, a path of the host the host's.
    let maps = match (&volume.idmap, &volume.source, &facts.ids) {
        (Some(own), ..) if !own.uids.is_empty() => Some((&own.uids, &own.gids)),
        (Some(_), _, Some(ids)) => Some((&ids.uids, &ids.gids)),
        (None, VolumeSource::Named(_) | VolumeSource::Anonymous, Some(ids)) => Some((&ids.uids, &ids.gids)),
        _ => None,
    };
    let (uids, gids) = maps.map(|(uids, gids)| (mappings(uids), mappings(gids))).unzip();
    mount.set_uid_mappings(uids);
    mount.set_gid_mappings(gids);
    Ok(mount)
}

fn maps_id(maps: &[IdMap], id: u32) -> bool {
    maps.iter().any(|map| (map.container..map.container + map.count).contains(&id))
}

fn file_system(tmpfs: &Tmpfs) -> Mount {
    let mut options = tmpfs.options.clone();
    let (kind, usual): (_, &[(&str, &str)]) = match tmpfs.kind {
        TmpfsKind::Tmpfs { .. } => ("tmpfs", &[("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")]),
        TmpfsKind::Ramfs => ("ramfs", &[("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")]),
        TmpfsKind::Devpts => {
            ("devpts", &[("nosuid", "suid"), ("noexec", "exec"), ("newinstance", ""), ("ptmxmode=0666", "")])
        }
    };
    for (word, opposite) in usual {
        if !options.iter().any(|o| o == word || o == opposite) {
            options.push((*word).to_owned());
        }
    }
    if tmpfs.kind == (TmpfsKind::Tmpfs { copy_up: true }) {
        options.push("tmpcopyup".to_owned());
    }
    mount(&tmpfs.destination, kind, kind, options)
}

fn words(options: &[&str]) -> Vec<String> {
    options.iter().map(|o| (*o).to_owned()).collect()
}

fn mount(destination: impl Into<PathBuf>, kind: &str, source: impl Into<PathBuf>, options: Vec<String>) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.into());
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.into()));
    mount.set_options(Some(options));
    mount.set_uid_mappings(None);
    mount.set_gid_mappings(None);
    mount
}
