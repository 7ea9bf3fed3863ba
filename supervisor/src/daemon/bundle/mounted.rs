//! Volumes that a file system is mounted for. Each has a folder below /run, `<volume>/`: in `users/` a file for each unit that has it,
//! and `mount`, where it is mounted as long as there is one of them.
//!
//! - Who is killed in the middle leaves nothing but files in /run: what is mounted is put together `apart`, and attached in one step.
//!   Whether that was done the mount itself says.
//! - What nobody has any more is put aside under another name first, then unmounted. Folders are removed only where they are empty: a
//!   mount that stays keeps what is stored in it.

use std::{
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};

use super::{BundleError, apart::apart, at, copy_up::Beginning, make_folder, overlay, unmount};
use crate::{
    daemon::{conditions::files::is_mount_point, images, mailbox, paths::Paths, sys::idmap},
    unit::{Backing, UnitName, VolumeSpec},
};

/// Who has what changes for one unit at a time. A disk that does not answer keeps others waiting that mount one, and nobody else.
static TURN: Mutex<()> = Mutex::new(());
const ASIDE: &str = ".unused-";

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Mounts it if it is not, for this unit too.
pub(super) fn claim(
    paths: &Paths,
    unit: &UnitName,
    volume: &VolumeSpec,
    beginning: &Beginning<'_>,
) -> Result<PathBuf, BundleError> {
    let layers = layers(paths, volume, beginning)?;
    let _turn = turn();
    let folder = paths.mounted_volumes().join(&volume.name);
    let (users, place) = (folder.join("users"), folder.join("mount"));
    for folder in [&users, &place] {
        make_folder(folder, 0o711)?;
    }
    let mark = users.join(unit.as_str());
    fs::write(&mark, "").map_err(at("write", &mark))?;
    if !is_mount_point(&place) {
        let made = apart(&place, || {
            match volume.backing {
                Backing::Image(_) => put_image(&paths.volume(&volume.name), &place, &layers)?,
                _ => put_on(&place, &volume.backing)?,
            }
            // Others may hold what somebody stored.
            if matches!(&volume.backing, Backing::FileSystem { kind, .. } if kind == "tmpfs") {
                beginning.give(&place)?;
            }
            let tree = matches!(volume.backing, Backing::Bind { recursive: true, .. });
            idmap::copy_of_mount(&place, tree).map_err(at("copy the mount of", &place))
        })?;
        idmap::attach(made.as_fd(), &place).map_err(at("mount a volume on", &place))?;
    }
    Ok(place)
}

/// Of an image, lowest first: found and unpacked before anybody waits for it.
fn layers(paths: &Paths, volume: &VolumeSpec, beginning: &Beginning<'_>) -> Result<Vec<PathBuf>, BundleError> {
    let Backing::Image(image) = &volume.backing else { return Ok(Vec::new()) };
    // An overlay cannot be mapped as a whole (Documentation/filesystems/idmappings.rst), and it has more than one user.
    if beginning.ids.is_some() {
        return Err(BundleError::MappedImage(volume.name.clone()));
    }
    let prepared = images::find(paths, image);
    let prepared = prepared.map_err(|text| BundleError::Image { volume: volume.name.clone(), text })?;
    Ok(prepared.layers)
}

/// "An overlay filesystem is created" (podman-volume-create(1)): what containers write stays as long as the volume's folder does.
fn put_image(changes: &Path, place: &Path, layers: &[PathBuf]) -> Result<(), BundleError> {
    let (upper, work, new) = (changes.join("upper"), changes.join("work"), changes.join("new"));
    make_folder(changes, 0o711)?;
    make_folder(&work, 0o700)?;
    if !upper.exists() {
        make_folder(&new, 0o755)?;
        if let Some(top) = layers.last() {
            overlay::be_as(&new, top)?;
        }
        fs::rename(&new, &upper).map_err(at("rename", &upper))?;
    }
    overlay::stack(place, layers.iter().rev().map(PathBuf::as_path).collect(), [&upper, &work], false)
}

fn put_on(place: &Path, backing: &Backing) -> Result<(), BundleError> {
    let (none, none_text) = (None::<&Path>, None::<&str>);
    match backing {
        Backing::Bind { path, recursive, options } => {
            if !path.is_dir() {
                return Err(BundleError::NoSuchDevice(path.clone()));
            }
            let step = |from: Option<&Path>, flags| {
                mount(from, place, none_text, flags, none_text).map_err(|errno| at("bind", path)(errno.into()))
            };
            let depth = if *recursive { MsFlags::MS_REC } else { MsFlags::empty() };
            step(Some(path), MsFlags::MS_BIND | depth)?;
            let (flags, _) = read(options);
            // Without a word of its own it has the flags of what is bound.
            if options.is_empty() { Ok(()) } else { step(none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags) }
        }
        Backing::FileSystem { kind, device, options } => {
            let (flags, own) = read(options);
            let device = Path::new(device);
            mount(Some(device), place, Some(kind.as_str()), flags, Some(own.as_str())).map_err(|errno| match errno {
                Errno::ENODEV => BundleError::NoSuchFileSystem(kind.clone()),
                errno => at("mount", device)(errno.into()),
            })
        }
        Backing::Folder | Backing::Image(_) => Ok(()),
    }
}

/// Flags of the mount, and what is the file system's own; the later word counts.
fn read(options: &[String]) -> (MsFlags, String) {
    let (mut flags, mut own) = (MsFlags::empty(), Vec::new());
    for word in options {
        let (flag, set) = match word.as_str() {
            "ro" => (MsFlags::MS_RDONLY, true),
            "rw" => (MsFlags::MS_RDONLY, false),
            "nosuid" => (MsFlags::MS_NOSUID, true),
            "suid" => (MsFlags::MS_NOSUID, false),
            "nodev" => (MsFlags::MS_NODEV, true),
            "dev" => (MsFlags::MS_NODEV, false),
            "noexec" => (MsFlags::MS_NOEXEC, true),
            "exec" => (MsFlags::MS_NOEXEC, false),
            "noatime" => (MsFlags::MS_NOATIME, true),
            "atime" => (MsFlags::MS_NOATIME, false),
            "nodiratime" => (MsFlags::MS_NODIRATIME, true),
            "diratime" => (MsFlags::MS_NODIRATIME, false),
            "relatime" => (MsFlags::MS_RELATIME, true),
            "norelatime" => (MsFlags::MS_RELATIME, false),
            "strictatime" => (MsFlags::MS_STRICTATIME, true),
            "nostrictatime" => (MsFlags::MS_STRICTATIME, false),
            "sync" => (MsFlags::MS_SYNCHRONOUS, true),
            "async" => (MsFlags::MS_SYNCHRONOUS, false),
            "dirsync" => (MsFlags::MS_DIRSYNC, true),
            "lazytime" => (MsFlags::MS_LAZYTIME, true),
            "nolazytime" => (MsFlags::MS_LAZYTIME, false),
            "defaults" => continue,
            other => {
                own.push(other);
                continue;
            }
        };
        flags.set(flag, set);
    }
    (flags, own.join(","))
}

/// The unit has none any more. What nobody has is unmounted, in a thread: the last of a disk's writes go with it.
pub(crate) fn release(paths: &Paths, unit: &UnitName) {
    let gave_up = |folder: &PathBuf| fs::remove_file(folder.join("users").join(unit.as_str())).is_ok();
    if folders(paths).filter(gave_up).count() == 0 {
        return;
    }
    // At once where that needs no waiting, so that the unit's next start finds a new one.
    if let Ok(_turn) = TURN.try_lock() {
        put_aside(paths);
    }
    let paths = paths.clone();
    mailbox::spawn("volumes", move || clear(&paths));
}

/// Another supervisor takes over: units that are at rest have none.
pub(crate) fn sweep(paths: &Paths, has: impl Fn(&str) -> bool) {
    for user in folders(paths).filter_map(|folder| fs::read_dir(folder.join("users")).ok()).flatten().flatten() {
        if !user.file_name().to_str().is_some_and(&has) {
            let _ = fs::remove_file(user.path());
        }
    }
    let paths = paths.clone();
    mailbox::spawn("volumes", move || clear(&paths));
}

fn folders(paths: &Paths) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(paths.mounted_volumes()).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_aside(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(ASIDE.as_bytes()))
}

/// For whose turn it is.
fn put_aside(paths: &Paths) {
    for folder in folders(paths).filter(|folder| !is_aside(folder)) {
        // Only an empty folder is removed, and it comes back with the next user.
        match fs::remove_dir(folder.join("users")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => continue,
            _ => {}
        }
        let free = (0..).map(|n: u32| folder.with_file_name(format!("{ASIDE}{n}"))).find(|path| !path.exists());
        if let Some(aside) = free
            && let Err(error) = fs::rename(&folder, &aside)
        {
            log::error!("rename {}: {error}", folder.display());
        }
    }
}

fn clear(paths: &Paths) {
    {
        let _turn = turn();
        put_aside(paths);
    }
    for folder in folders(paths).filter(|folder| is_aside(folder)) {
        let place = folder.join("mount");
        // Another thread was here, or one of a supervisor that was killed in the middle.
        let gone = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        let done = gone(unmount(&place)).and_then(|()| gone(fs::remove_dir(&place)));
        if let Err(error) = done.and_then(|()| gone(fs::remove_dir(&folder))) {
            log::warn!("take down {}: {error}", place.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_mount_and_words_of_the_file_system() {
        let words: Vec<String> = "ro,noexec,size=1m,rw,uid=7,defaults".split(',').map(str::to_owned).collect();
        assert_eq!(read(&words), (MsFlags::MS_NOEXEC, "size=1m,uid=7".to_owned()));
    }
}
