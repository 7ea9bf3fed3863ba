//! /etc/hosts, /etc/hostname and /etc/resolv.conf: what every container gets in place of its image's.
//!
//! They are written into its own layer before that is mounted. Where something else is mounted on /etc, where an image has no folder
//! there, and where there is no layer (`Rootfs=` without `:O`), they lie beside it and are bound one by one: three mounts and four
//! inodes that stay in the kernel's memory.

use std::{
    fs, io, iter,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{FileExt, OpenOptionsExt, chown},
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::{Mode, fstat},
};

use super::{BundleError, at, folder, make_folder, overlay};
use crate::{
    daemon::{mailbox, networks::Connection, paths::Paths},
    net::dns::DOMAIN,
    unit::{Dns, Network, Unit, Volume, spec},
};

/// Their folder in the container's own layer, made as the highest layer's: the layers come lowest first. None: they cannot be there.
pub(super) fn in_layer(
    unit: &Unit,
    volumes: &[Volume],
    upper: &Path,
    layers: &[&Path],
) -> Result<Option<PathBuf>, BundleError> {
    let is_covered = spec::has_mount_at(unit, volumes, "/etc");
    let of_image = layers.iter().rev().map(|layer| layer.join("etc")).find(|etc| etc.symlink_metadata().is_ok());
    let folder = of_image.filter(|etc| etc.symlink_metadata().is_ok_and(|meta| meta.is_dir()));
    let Some(of_image) = folder.filter(|_| !is_covered) else { return Ok(None) };
    let etc = upper.join("etc");
    make_folder(&etc, 0o755)?;
    overlay::be_as(&etc, &of_image)?;
    Ok(Some(etc))
}

/// `owner`: the container's own root may change them, as podman has it.
pub(super) fn write(
    paths: &Paths,
    etc: &Path,
    unit: &Unit,
    hostname: &str,
    owner: Option<(u32, u32)>,
) -> Result<(), BundleError> {
    make_folder(etc, 0o755)?;
    let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let connection = connection(paths, unit);
    let connection = connection.as_ref();
    let own: Vec<IpAddr> = connection.into_iter().flat_map(Connection::addresses).collect();
    if hostname != "localhost" && own.is_empty() {
        hosts.push_str(&format!("127.0.1.1\t{hostname}\n"));
    }
    for address in own {
        hosts.push_str(&format!("{address}\t{hostname}\n"));
    }
    let is_hosts = unit.container.network == Network::Host;
    let host = connection.and_then(Connection::host).or_else(|| is_hosts.then_some(Ipv4Addr::LOCALHOST.into()));
    if let Some(host) = host {
        hosts.push_str(&format!("{host}\thost.containers.internal host.docker.internal\n"));
    }
    for (name, address) in &unit.container.hosts {
        match address.or(host) {
            Some(address) => hosts.push_str(&format!("{address}\t{name}\n")),
            None => log::warn!("{}: AddHost={name}:host-gateway is left out: it does not reach the host", unit.name),
        }
    }
    // `DNS=none`: the image's own stays.
    let resolv = (unit.container.dns != Dns::OfImage).then(|| ("resolv.conf", resolv_conf(paths, unit, connection)));
    for (name, text) in [("hosts", hosts), ("hostname", format!("{hostname}\n"))].into_iter().chain(resolv) {
        let path = etc.join(name);
        // A fresh one, whatever the last container did to it.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at("remove", &path)(error)),
            _ => {}
        }
        fs::write(&path, text).map_err(at("write", &path))?;
        let (uid, gid) = owner.unzip();
        chown(&path, uid, gid).map_err(at("chown", &path))?;
    }
    Ok(())
}

/// How its network is connected: its own one, or that of the pod or container it shares it with.
fn connection(paths: &Paths, unit: &Unit) -> Option<Connection> {
    let owner = match &unit.container.network {
        Network::Host | Network::None => return None,
        Network::Container(other) => other,
        Network::Bridge(_) => unit.container.pod.as_ref().map_or(&unit.name, |(pod, _)| pod),
    };
    let path = paths.connection(owner);
    Connection::read(&path).unwrap_or_else(|error| {
        log::error!("{}: {error}", path.display());
        None
    })
}

/// On networks with names their resolver is asked for all others as well.
fn resolv_conf(paths: &Paths, unit: &Unit, connection: Option<&Connection>) -> String {
    let text = fs::read_to_string(paths.resolv_conf()).unwrap_or_default();
    let Dns::Generated { servers, options, search } = &unit.container.dns else { return text };
    let resolvers = connection.map(Connection::resolvers).unwrap_or_default();
    if resolvers.is_empty() {
        return spec::resolv_conf(&text, servers, search, options);
    }
    let mut search = search.clone();
    if search.is_empty() {
        let machines =
            text.lines().filter_map(|line| line.strip_prefix("search ")).flat_map(str::split_ascii_whitespace);
        search = iter::once(DOMAIN).chain(machines).map(str::to_owned).collect();
    }
    spec::resolv_conf(&text, &resolvers, &search, options)
}

/// How often there were new name servers: one that is being made meanwhile may have been written with the old ones.
static NEWS: AtomicU64 = AtomicU64::new(0);

pub(super) fn news() -> u64 {
    NEWS.load(Ordering::Relaxed)
}

/// New name servers reach the containers that run: it is the same file that is written.
/// They lie on a disk: not for the loop. While that stands still one thread is at work and one waits, for the latest.
pub(crate) fn refresh_resolv_conf(paths: &Paths, units: Vec<Unit>) {
    static WAITING: Mutex<Option<Vec<Unit>>> = Mutex::new(None);
    static AT_WORK: Mutex<()> = Mutex::new(());
    let waiting = || WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    NEWS.fetch_add(1, Ordering::Relaxed);
    let paths = paths.clone();
    let work = move || {
        let _turn = AT_WORK.lock();
        let units = waiting().take().unwrap_or_default();
        units.iter().for_each(|unit| refresh(&paths, unit));
    };
    if waiting().replace(units).is_none() && !mailbox::spawn("resolv.conf", work) {
        waiting().take();
    }
}

/// `DNS=none`: what is there is the container's own.
pub(super) fn refresh(paths: &Paths, unit: &Unit) {
    if unit.container.dns == Dns::OfImage {
        return;
    }
    let text = || resolv_conf(paths, unit, connection(paths, unit).as_ref());
    let written = opened(paths, unit).and_then(|file| file.map_or(Ok(()), |file| overwrite(&file, text().as_bytes())));
    if let Err(error) = written {
        log::warn!("{}: write its /etc/resolv.conf: {error}", unit.name);
    }
}

/// The file that was written for it, if there is one: the bound one, or the one in its root. That is the container's own to change by
/// now, and nothing else is opened in its place.
fn opened(paths: &Paths, unit: &Unit) -> io::Result<Option<fs::File>> {
    let found = match written_to(&paths.etc(&unit.name).join("resolv.conf")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let in_layer = paths.container(&unit.name).join("upper/etc/resolv.conf");
            let is_there = in_layer.symlink_metadata().is_ok_and(|meta| meta.is_file());
            return if is_there { inside(&paths.rootfs(&unit.name)) } else { Ok(None) };
        }
        found => found?,
    };
    Ok(Some(found))
}

/// By the root as it is mounted: a layer is not to be changed below its mount. Looked at before it is opened: a container that may make
/// devices would have us open one.
fn inside(rootfs: &Path) -> io::Result<Option<fs::File>> {
    let root = match open(rootfs, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(None),
        root => root?,
    };
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let found = match openat2(&root, "etc/resolv.conf", OpenHow::new().flags(flags).resolve(resolve)) {
        Ok(found) => found,
        // It has put something else there, or nothing; or it has gone.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if fstat(&found)?.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(None);
    }
    written_to(&folder::name(&found)).map(Some)
}

/// Without waiting until somebody in the container gives a lease up (F_SETLEASE of fcntl(2)).
fn written_to(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Over the old bytes, and only if they differ: no reader finds it empty, and a full disk has the room it takes already.
fn overwrite(file: &fs::File, text: &[u8]) -> io::Result<()> {
    if file.metadata()?.len() == text.len() as u64 {
        let mut now = vec![0; text.len()];
        file.read_exact_at(&mut now, 0)?;
        if now == text {
            return Ok(());
        }
    }
    file.write_all_at(text, 0)?;
    file.set_len(text.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    };

    use nix::unistd::mkfifo;

    use super::*;
    use crate::unit;

    #[test]
    fn new_name_servers_are_written_in_place_and_the_same_ones_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let before = fs::metadata(&path).unwrap();
        let write = |text: &str| {
            let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
            overwrite(&file, text.as_bytes()).unwrap();
        };
        write("nameserver 192.0.2.1\n");
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before.modified().unwrap());
        for text in ["nameserver 192.0.2.2\n", "#\n", "nameserver 192.0.2.1\nsearch example.org\n"] {
            write(text);
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().ino(), before.ino());
    }

    #[test]
    fn only_the_file_itself_is_written() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("etc/resolv.conf");
        assert!(inside(root.path()).unwrap().is_none());
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(&path, "old and long\n").unwrap();
        overwrite(&inside(root.path()).unwrap().unwrap(), b"new\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
        // What a container may put there.
        let other = root.path().join("other");
        fs::rename(&path, &other).unwrap();
        symlink("../other", &path).unwrap();
        assert!(inside(root.path()).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::S_IRUSR).unwrap();
        assert!(inside(root.path()).unwrap().is_none());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(inside(root.path()).unwrap().is_none());
        fs::remove_dir(&path).unwrap();
        fs::remove_dir(root.path().join("etc")).unwrap();
        symlink(".", root.path().join("etc")).unwrap();
        fs::write(root.path().join("resolv.conf"), "").unwrap();
        assert!(inside(root.path()).unwrap().is_none());
    }

    #[test]
    fn they_lie_in_the_layer_where_the_image_has_a_folder_for_them() {
        let home = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(&path).unwrap();
            path
        };
        let (low, top, upper) = (folder("low"), folder("top"), folder("upper"));
        fs::create_dir(low.join("etc")).unwrap();
        fs::set_permissions(low.join("etc"), fs::Permissions::from_mode(0o750)).unwrap();
        let place = |lines: &str| {
            let units = folder("units");
            fs::write(units.join("web.container"), format!("[Container]\nImage=localhost/x\n{lines}\n")).unwrap();
            let unit = unit::load(&[&units], &BTreeSet::new()).units.remove("web").unwrap();
            in_layer(&unit, &unit.container.volumes, &upper, &[&low, &top]).unwrap()
        };
        assert_eq!(place(""), Some(upper.join("etc")));
        assert_eq!(upper.join("etc").metadata().unwrap().permissions().mode() & 0o7777, 0o750);
        // Under a mount nobody would see them.
        for lines in ["Volume=data:/etc", "Tmpfs=/etc", "Mount=type=tmpfs,dst=/etc/"] {
            assert_eq!(place(lines), None, "{lines}");
        }
        assert!(place("Volume=data:/etc/app").is_some());
        symlink("usr/etc", top.join("etc")).unwrap();
        assert_eq!(place(""), None);
    }
}
