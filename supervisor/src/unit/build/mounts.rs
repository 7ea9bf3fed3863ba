//! `Volume=` and `Tmpfs=`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{Link, links, namespaces::map};
use crate::unit::{
    IdmapMount, Overlay, Propagation, Said, Tmpfs, TmpfsKind, Volume, VolumeSource,
    kind::Kind,
    nearest::{did_you_mean, nearest},
    sheet::Sheet,
    text::Text,
    words::Word,
};

/// An absolute path inside the container, normalised: no `.`, no `..`, no doubled slashes.
pub(super) fn destination(text: &str) -> Result<String, &'static str> {
    if !text.starts_with('/') {
        return Err("expected an absolute path");
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            // As Podman cleans paths: lexically, and never above the root.
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

/// A place where a unit may mount something.
pub(in crate::unit) fn target(text: &str) -> Result<String, String> {
    let path = destination(text)?;
    let below = |top: &str| path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    match path.as_str() {
        "/" => Err("nothing can be mounted over the container's root".to_owned()),
        "/proc" | "/sys" | "/dev" => Err(format!("{path} is the system's; mount to a path of the application")),
        // CVE-2019-16884 and its kin: a mount there leads the runtime's own writes astray.
        _ if below("/proc") => Err(format!("nothing can be mounted below /proc, so not to {path}")),
        _ => Ok(path),
    }
}

/// With the place of each, for what is compared with it later.
pub(super) fn volumes(
    section: &'static str,
    folder: &Path,
    sheet: &mut Sheet<'_>,
    links: &mut Vec<Link>,
    taken: &mut Taken,
) -> Vec<Volume> {
    let mut volumes = Vec::new();
    for value in sheet.all(section, "Volume") {
        match volume(folder, &value.text) {
            Ok(volume) => {
                let source = value.text.split(':').next().unwrap_or("");
                if source.ends_with(".volume") && value.text.contains(':') {
                    let word = Word::of(&value, 0..source.len());
                    links.push(links::uses(&value, word, Kind::Volume, "Volume", sheet.scope.instance()));
                }
                if let Some(option) = later(&volume) {
                    let text =
                        format!("Volume={}: the option {option} is known, not available in this version", value.text);
                    sheet.unavailable(&value, text);
                }
                match take(taken, &volume.destination, "volume", &value) {
                    Ok(()) => volumes.push(volume),
                    Err(text) => sheet.error(&value, text),
                }
            }
            Err(text) => sheet.error(&value, text.behind(format_args!("Volume={}", value.text))),
        }
    }
    volumes
}

/// What is mounted where in the container, and the line that says it. Ten thousand volumes of one unit are looked up, not compared.
pub(super) type Taken = BTreeMap<String, (&'static str, u32)>;

pub(super) fn take(taken: &mut Taken, to: &str, what: &'static str, value: &Text) -> Result<(), String> {
    if let Some((what, line)) = taken.get(to) {
        return Err(format!("{to} has a {what} already, from line {line}"));
    }
    taken.insert(to.to_owned(), (what, value.place(&(0..0)).line));
    Ok(())
}

/// As podman-run(1) has them: "By default volumes are mounted with nosuid", "with nodev".
pub(super) fn usual(source: VolumeSource, destination: String) -> Volume {
    Volume {
        copy_up: !matches!(source, VolumeSource::Host(_)),
        source,
        destination,
        read_only: false,
        nosuid: true,
        nodev: true,
        noexec: false,
        not_recursive: false,
        propagation: Propagation::Private,
        chown: false,
        idmap: None,
        overlay: None,
    }
}

/// What is typed and not built.
pub(super) fn later(volume: &Volume) -> Option<&'static str> {
    match volume {
        Volume { chown: true, .. } => Some("U"),
        Volume { overlay: Some(_), .. } => Some("O"),
        _ => None,
    }
}

fn volume(folder: &Path, text: &str) -> Result<Volume, Said> {
    let mut parts = text.splitn(3, ':');
    let (first, second, options) = (parts.next().unwrap_or(""), parts.next(), parts.next().unwrap_or(""));
    let (source, to) = match second {
        Some(to) => (source(folder, first)?, to),
        None => (VolumeSource::Anonymous, first),
    };
    let mut volume = usual(source, target(to)?);
    apply(&mut volume, options)?;
    check(&mut volume)?;
    Ok(volume)
}

pub(super) fn check(volume: &mut Volume) -> Result<(), String> {
    if matches!(volume.source, VolumeSource::Host(_)) {
        volume.copy_up = false;
    } else if volume.propagation != Propagation::Private {
        return Err("mount propagation is for paths of the host, not for named or anonymous volumes".to_owned());
    }
    Ok(())
}

/// Where it comes from. `x.volume` stays so until its file is known.
pub(super) fn source(folder: &Path, text: &str) -> Result<VolumeSource, String> {
    if text.starts_with('/') {
        return Ok(VolumeSource::Host(PathBuf::from(destination(text)?)));
    }
    if text.starts_with('.') {
        let path = folder.join(text);
        let path = path.to_str().ok_or("the unit's folder has a name that is not UTF-8 text")?;
        // A laptop's linter may have been given a relative folder: then the path stays as it is.
        return Ok(VolumeSource::Host(PathBuf::from(destination(path).unwrap_or_else(|_| path.to_owned()))));
    }
    let name = super::name(text.split('@').next().filter(|_| text.ends_with(".volume")).unwrap_or(text));
    if name.is_err() {
        return Err("a volume's name has letters, digits, _, . and -, and begins with a letter or digit; a path of the host begins with /".to_owned());
    }
    Ok(VolumeSource::Named(text.to_owned()))
}

const OPTIONS: [&str; 23] = [
    "rw", "ro", "z", "Z", "copy", "nocopy", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "bind", "rbind",
    "private", "rprivate", "shared", "rshared", "slave", "rslave", "U", "O", "idmap",
];

pub(super) fn apply(volume: &mut Volume, options: &str) -> Result<(), Said> {
    let mut seen: Vec<&str> = Vec::new();
    let (mut upper, mut work) = (None, None);
    for option in options.split(',').filter(|o| !o.is_empty()) {
        // Options of one group exclude each other.
        let group = match option {
            "rw" | "ro" => "rw",
            "copy" | "nocopy" => "copy",
            "suid" | "nosuid" => "suid",
            "dev" | "nodev" => "dev",
            "exec" | "noexec" => "exec",
            "bind" | "rbind" => "bind",
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => "propagation",
            _ => option.split('=').next().unwrap_or(option),
        };
        if seen.contains(&group) {
            return Err(format!("{option} contradicts or repeats another option").into());
        }
        seen.push(group);
        match option {
            "ro" => volume.read_only = true,
            "suid" => volume.nosuid = false,
            "dev" => volume.nodev = false,
            "noexec" => volume.noexec = true,
            "bind" => volume.not_recursive = true,
            "nocopy" => volume.copy_up = false,
            "shared" | "rshared" => volume.propagation = Propagation::Shared,
            "slave" | "rslave" => volume.propagation = Propagation::Slave,
            "rw" | "copy" | "nosuid" | "nodev" | "exec" | "rbind" | "private" | "rprivate" => {}
            // SELinux labels, and there is no SELinux.
            "z" | "Z" => {}
            "U" => volume.chown = true,
            "O" => volume.overlay = Some(Overlay::Temporary),
            "idmap" => volume.idmap = Some(IdmapMount::default()),
            "unbindable" | "runbindable" => {
                return Err(format!("the option {option} is known, not available in this version").into());
            }
            _ => match option.split_once('=') {
                Some(("idmap", maps)) => volume.idmap = Some(idmap(maps)?),
                Some(("upperdir", path)) => upper = Some(PathBuf::from(destination(path)?)),
                Some(("workdir", path)) => work = Some(PathBuf::from(destination(path)?)),
                _ => return Err(did_you_mean(format!("unknown option {option}"), option, OPTIONS)),
            },
        }
    }
    match (upper, work) {
        (None, None) => {}
        (Some(upper), Some(work)) if volume.overlay.is_some() => volume.overlay = Some(Overlay::Kept { upper, work }),
        _ => return Err("upperdir= and workdir= go together, and with O".into()),
    }
    Ok(())
}

/// podman-run(1): `uids=0-1-10#10-11-10;gids=0-100-10`, the container's first id, the host's, and how many.
pub(super) fn idmap(text: &str) -> Result<IdmapMount, String> {
    let mut maps = IdmapMount::default();
    let form = || format!("idmap={text}: expected uids=0-1-10;gids=0-1-10, with # between several");
    for part in text.split(';') {
        let (name, list) = part.split_once('=').ok_or_else(form)?;
        let list = list.split('#').map(|one| map(&one.replace('-', ":"))).collect::<Result<Vec<_>, _>>();
        match name {
            "uids" => maps.uids = list.map_err(|_| form())?,
            "gids" => maps.gids = list.map_err(|_| form())?,
            _ => return Err(form()),
        }
    }
    if maps.uids.is_empty() || maps.gids.is_empty() {
        return Err(form());
    }
    Ok(maps)
}

pub(super) fn tmpfs(sheet: &mut Sheet<'_>, taken: &mut Taken) -> Vec<Tmpfs> {
    let mut mounts: Vec<Tmpfs> = Vec::new();
    for value in sheet.all("Container", "Tmpfs") {
        let (to, options) = value.text.split_once(':').unwrap_or((&value.text, ""));
        let read = target(to).map_err(Said::from).and_then(|destination| {
            let (options, copy_up) = tmpfs_options(options)?;
            Ok(Tmpfs { kind: TmpfsKind::Tmpfs { copy_up }, destination, options })
        });
        match read {
            Ok(tmpfs) => match take(taken, &tmpfs.destination, "tmpfs", &value) {
                Ok(()) => mounts.push(tmpfs),
                Err(text) => sheet.error(&value, text),
            },
            Err(text) => sheet.error(&value, text.behind(format_args!("Tmpfs={}", value.text))),
        }
    }
    mounts
}

const TMPFS_FLAGS: [&str; 18] = [
    "rw",
    "ro",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nodiratime",
    "sync",
    "noswap",
    "tmpcopyup",
    "notmpcopyup",
];

/// Those of the file system, and whether it begins with the image's files: it does unless the unit says otherwise.
pub(super) fn tmpfs_options(options: &str) -> Result<(Vec<String>, bool), Said> {
    let (mut found, mut copy_up) = (Vec::new(), None);
    for option in options.split(',').filter(|o| !o.is_empty()) {
        if matches!(option, "tmpcopyup" | "notmpcopyup") {
            if copy_up.replace(option == "tmpcopyup").is_some() {
                return Err(format!("{option} contradicts or repeats another option").into());
            }
            continue;
        }
        if option == "U" {
            return Err("the option U is known, not available in this version".into());
        }
        let valid = match option.split_once('=') {
            Some(("size", size)) => size
                .strip_suffix('%')
                .map_or_else(|| super::values::size(size).is_ok(), |share| share.parse::<u8>().is_ok_and(|n| n <= 100)),
            Some(("mode", mode)) => u32::from_str_radix(mode, 8).is_ok_and(|m| m <= 0o7777),
            Some(("nr_inodes" | "nr_blocks", count)) => super::values::size(count).is_ok(),
            Some(("uid" | "gid", id)) => id.parse::<u32>().is_ok(),
            Some(_) => false,
            None if TMPFS_FLAGS.contains(&option) => true,
            None => false,
        };
        if !valid {
            let near = nearest(option, TMPFS_FLAGS.into_iter());
            let rest = "; such as size=64m, mode=1777, ro, noexec are known";
            return Err(Said::guess(format!("unknown option {option}"), near, rest));
        }
        found.push(option.to_owned());
    }
    Ok((found, copy_up.unwrap_or(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::IdMap;

    fn read(text: &str) -> Result<Volume, Said> {
        volume(Path::new("/etc/containers.d"), text)
    }

    #[test]
    fn sources_of_every_kind() {
        assert_eq!(read("data:/d").unwrap().source, VolumeSource::Named("data".into()));
        assert_eq!(read("/srv//x/../www:/d").unwrap().source, VolumeSource::Host("/srv/www".into()));
        assert_eq!(read("./conf:/d").unwrap().source, VolumeSource::Host("/etc/containers.d/conf".into()));
        assert_eq!(read("/cache").unwrap().source, VolumeSource::Anonymous);
        assert_eq!(read("data.volume:/d").unwrap().source, VolumeSource::Named("data.volume".into()));
        assert!(read("-x:/d").is_err());
        assert!(read("a b:/d").is_err());
        assert!(read(":/d").is_err());
    }

    #[test]
    fn options_are_checked_one_by_one() {
        let volume = read("/srv:/d:ro,Z,noexec,suid,rslave").unwrap();
        assert!(volume.read_only && volume.noexec && !volume.nosuid && volume.nodev && !volume.copy_up);
        assert_eq!(volume.propagation, Propagation::Slave);
        for (text, word) in [
            ("/a:/b:ro,rw", "contradicts"),
            ("/a:/b:U,U", "repeats"),
            ("/a:/b:upperdir=/u,workdir=/w", "with O"),
            ("/a:/b:O,upperdir=/u", "go together"),
            ("v:/b:idmap=0-1-10", "expected uids="),
            ("v:/b:idmap=uids=0-1-0", "expected uids="),
            ("/a:/b:noexce", "noexec?"),
            ("v:/b:rshared", "propagation"),
            ("v:/b:unbindable", "not available"),
        ] {
            assert!(read(text).unwrap_err().text.contains(word), "{text}");
        }
    }

    #[test]
    fn what_is_not_built_is_typed_all_the_same() {
        let all = read("v:/b:U,idmap=uids=0-1-10#10-20-5;gids=0-7-1,O,upperdir=/u,workdir=/w").unwrap();
        let map = |container, host, count| IdMap { container, host, count };
        let maps = IdmapMount { uids: vec![map(0, 1, 10), map(10, 20, 5)], gids: vec![map(0, 7, 1)] };
        assert_eq!((all.chown, &all.idmap), (true, &Some(maps)));
        assert_eq!(all.overlay, Some(Overlay::Kept { upper: "/u".into(), work: "/w".into() }));
        assert_eq!(
            ["U", "O", "idmap", "ro"].map(|o| later(&read(&format!("v:/b:{o}")).unwrap()).is_some()),
            [true, true, false, false]
        );
    }

    #[test]
    fn the_systems_own_places_are_refused() {
        for to in ["/", "/proc", "/proc/sys/kernel", "/sys", "/dev", "//proc/../proc/x", "relative"] {
            assert!(read(&format!("v:{to}")).is_err(), "{to}");
        }
        assert_eq!(read("v:/a/./b/../c/").unwrap().destination, "/a/c");
        assert_eq!(read("v:/process").unwrap().destination, "/process");
    }

    #[test]
    fn tmpfs_options_are_checked() {
        assert!(tmpfs_options("rw,size=64m,mode=1777,noexec,nr_inodes=1k,uid=5,size=10%").is_ok());
        assert!(tmpfs_options("noswap,tmpcopyup").is_ok_and(|(options, copy_up)| options == ["noswap"] && copy_up));
        assert!(tmpfs_options("notmpcopyup").is_ok_and(|(options, copy_up)| options.is_empty() && !copy_up));
        assert!(tmpfs_options("tmpcopyup,notmpcopyup").is_err_and(|said| said.text.contains("contradicts")));
        assert!(["sise=1", "mode=8", "size=x", "noexce", "uid=a"].iter().all(|o| tmpfs_options(o).is_err()));
    }
}
