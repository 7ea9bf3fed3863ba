//! `Mount=`: podman-run(1)'s `--mount`, read into the same volumes and file systems as `Volume=` and `Tmpfs=`.

use std::path::Path;

use super::{
    Link,
    container::reference,
    links,
    mounts::{self, Taken},
};
use crate::unit::{
    IdmapMount, ImageMount, Said, Tmpfs, TmpfsKind, Volume, VolumeSource, kind::Kind, nearest::did_you_mean,
    sheet::Sheet, values, words::Word,
};

pub(super) enum Mounted {
    Volume(Volume),
    /// Its source is a pattern.
    Glob(Volume),
    Image(ImageMount),
    Tmpfs(Tmpfs),
}

impl Mounted {
    fn destination(&self) -> &str {
        match self {
            Self::Volume(volume) | Self::Glob(volume) => &volume.destination,
            Self::Image(image) => &image.destination,
            Self::Tmpfs(tmpfs) => &tmpfs.destination,
        }
    }

    /// The file that is named, if it is one.
    fn file(&self) -> Option<(&str, Kind)> {
        let (name, kind) = match self {
            Self::Volume(Volume { source: VolumeSource::Named(name), .. }) => (name, Kind::Volume),
            Self::Image(image) => (&image.image, Kind::Image),
            _ => return None,
        };
        name.ends_with(&format!(".{}", kind.suffix())).then_some((name, kind))
    }

    fn later(&self) -> Option<String> {
        match self {
            Self::Volume(volume) => mounts::later(volume).map(|option| format!("the option {option}")),
            Self::Glob(_) => Some("type=glob".to_owned()),
            Self::Image(_) => Some("type=image".to_owned()),
            Self::Tmpfs(_) => None,
        }
    }
}

pub(super) fn mounts(
    folder: &Path,
    sheet: &mut Sheet<'_>,
    all_links: &mut Vec<Link>,
    taken: &mut Taken,
) -> Vec<Mounted> {
    let mut all = Vec::new();
    for (value, word) in sheet.all_words("Container", "Mount") {
        let mounted = match mount(folder, &word) {
            Ok(mounted) => mounted,
            Err(text) => {
                sheet.error_at(&value, &word, text.behind(format_args!("Mount={}", word.text)));
                continue;
            }
        };
        // Several patterns may fill one folder.
        if !matches!(mounted, Mounted::Glob(_))
            && let Err(text) = mounts::take(taken, mounted.destination(), "mount", &value)
        {
            sheet.error_at(&value, &word, text);
            continue;
        }
        if let Some(what) = mounted.later() {
            sheet.unavailable(&value, format!("Mount={}: {what} is known, not available in this version", word.text));
        }
        if let Some((name, kind)) = mounted.file() {
            // What escapes or specifiers have made of the word is not where it was written.
            let at = value.text[word.range.clone()].find(name).map(|at| word.range.start + at);
            let range = at.map_or(word.range, |start| start..start + name.len());
            let word = Word { text: name.to_owned(), range };
            all_links.push(links::uses(&value, word, kind, "Mount", sheet.scope.instance()));
        }
        all.push(mounted);
    }
    all
}

const KEYS: [&str; 28] = [
    "type",
    "source",
    "src",
    "destination",
    "dst",
    "target",
    "ro",
    "readonly",
    "rw",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "exec",
    "noexec",
    "bind-propagation",
    "bind-nonrecursive",
    "relabel",
    "tmpfs-size",
    "tmpfs-mode",
    "uid",
    "gid",
    "mode",
    "max",
    "chown",
    "idmap",
    "subpath",
    "readwrite",
];

fn mount(folder: &Path, word: &Word) -> Result<Mounted, Said> {
    let options = fields(&word.text)?;
    let kind = options.iter().find(|(key, _)| key == "type").map_or("volume", |(_, value)| value.as_str());
    match kind {
        "bind" | "volume" | "tmpfs" | "ramfs" | "devpts" | "image" | "glob" => {}
        "artifact" => return Err(format!("type={kind} is known, not available in this version").into()),
        _ => {
            return Err(format!("type={kind} is no type of a mount; bind, volume, tmpfs, ramfs and devpts are").into());
        }
    }
    let find =
        |names: &[&str]| options.iter().rev().find(|(key, _)| names.contains(&key.as_str())).map(|(_, v)| v.as_str());
    let source = find(&["source", "src"]);
    let to = find(&["destination", "dst", "target"]).ok_or("no destination=: where in the container?")?;
    if kind == "devpts" || kind == "tmpfs" || kind == "ramfs" {
        if source.is_some() {
            return Err(format!("type={kind} has no source").into());
        }
        return own(kind, to, &options).map(Mounted::Tmpfs);
    }
    let from = match source {
        Some("") => return Err("source= is empty".into()),
        None if kind == "volume" => VolumeSource::Anonymous,
        None if kind == "image" => return Err("type=image needs source=, an image's full name".into()),
        None => return Err(format!("type={kind} needs source=, a path of the host").into()),
        Some(name) if kind == "image" => return image(name, to, &options).map(Mounted::Image),
        Some(text) => mounts::source(folder, text)?,
    };
    match (&from, kind) {
        (VolumeSource::Host(_), "volume") => {
            return Err("type=volume takes a volume's name; write type=bind".into());
        }
        (VolumeSource::Named(_), "bind" | "glob") => {
            return Err(format!("type={kind} takes a path of the host; write type=volume").into());
        }
        _ => {}
    }
    let mut volume = mounts::usual(from, mounts::target(to)?);
    for (key, value) in &options {
        let on = || value.is_empty() || values::boolean(value) == Ok(true);
        match key.as_str() {
            "type" | "source" | "src" | "destination" | "dst" | "target" => {}
            "ro" | "readonly" => volume.read_only = on(),
            "rw" => volume.read_only = !on(),
            "bind-propagation" => mounts::apply(&mut volume, value)?,
            "bind-nonrecursive" => volume.not_recursive = on(),
            // SELinux labels, and there is no SELinux.
            "relabel" if matches!(value.as_str(), "shared" | "private") => {}
            "suid" | "nosuid" | "dev" | "nodev" | "exec" | "noexec" if value.is_empty() => {
                mounts::apply(&mut volume, key)?;
            }
            "U" | "chown" => volume.chown = on(),
            "idmap" if value.is_empty() => volume.idmap = Some(IdmapMount::default()),
            "idmap" => volume.idmap = Some(mounts::idmap(value)?),
            "subpath" | "volume-subpath" | "no-dereference" | "consistency" | "volume-opt" => {
                return Err(format!("the option {key} is known, not available in this version").into());
            }
            _ => return Err(unknown(key)),
        }
    }
    mounts::check(&mut volume)?;
    Ok(if kind == "glob" { Mounted::Glob(volume) } else { Mounted::Volume(volume) })
}

fn image(name: &str, to: &str, options: &[(String, String)]) -> Result<ImageMount, Said> {
    if !name.ends_with(".image") {
        reference(name)?;
    }
    let mut mount =
        ImageMount { image: name.to_owned(), destination: mounts::target(to)?, writable: false, subpath: None };
    for (key, value) in options {
        match key.as_str() {
            "type" | "source" | "src" | "destination" | "dst" | "target" => {}
            "rw" | "readwrite" => mount.writable = value.is_empty() || values::boolean(value)?,
            "subpath" => mount.subpath = Some(mounts::destination(value)?),
            _ => return Err(unknown(key)),
        }
    }
    Ok(mount)
}

fn own(kind: &str, to: &str, options: &[(String, String)]) -> Result<Tmpfs, Said> {
    let (kind, allowed): (TmpfsKind, &[&str]) = match kind {
        "tmpfs" => (
            TmpfsKind::Tmpfs,
            &[
                "tmpfs-size",
                "tmpfs-mode",
                "ro",
                "readonly",
                "rw",
                "nosuid",
                "suid",
                "nodev",
                "dev",
                "noexec",
                "exec",
                "tmpcopyup",
                "notmpcopyup",
            ],
        ),
        "ramfs" => (
            TmpfsKind::Ramfs,
            &["tmpfs-mode", "mode", "ro", "readonly", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec"],
        ),
        _ => (TmpfsKind::Devpts, &["uid", "gid", "mode", "max"]),
    };
    let mut text = Vec::new();
    for (key, value) in options {
        match key.as_str() {
            "type" | "destination" | "dst" | "target" => {}
            _ if !allowed.contains(&key.as_str()) => return Err(unknown(key)),
            "tmpfs-size" => text.push(format!("size={value}")),
            "tmpfs-mode" | "mode" => text.push(format!("mode={value}")),
            "readonly" | "ro" if value.is_empty() || values::boolean(value) == Ok(true) => text.push("ro".into()),
            "readonly" | "ro" => {}
            "uid" | "gid" | "max" => {
                value.parse::<u32>().map_err(|_| format!("{key}={value} is not a number"))?;
                text.push(format!("{key}={value}"));
            }
            _ => text.push(key.clone()),
        }
    }
    if kind != TmpfsKind::Devpts {
        let options = mounts::tmpfs_options(&text.join(","))?;
        return Ok(Tmpfs { kind, destination: mounts::target(to)?, options });
    }
    if let Some(mode) = text.iter().find_map(|o| o.strip_prefix("mode="))
        && u32::from_str_radix(mode, 8).is_err()
    {
        return Err(format!("mode={mode} is not octal").into());
    }
    Ok(Tmpfs { kind, destination: mounts::destination(to)?, options: text })
}

fn unknown(key: &str) -> Said {
    did_you_mean(format!("unknown option {key}"), key, KEYS)
}

/// Comma-separated values, where quotes hold commas together and a doubled quote is one.
fn fields(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.peek() == Some(&'"') => {
                rest.next();
                if let Some(field) = fields.last_mut() {
                    field.push('"');
                };
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => {
                if let Some(field) = fields.last_mut() {
                    field.push(c);
                }
            }
        }
    }
    if quoted {
        return Err("a quote is never closed".to_owned());
    }
    let pair = |field: String| match field.split_once('=') {
        Some((key, value)) => (key.trim().to_owned(), value.to_owned()),
        None => (field.trim().to_owned(), String::new()),
    };
    Ok(fields.into_iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mounted, Said> {
        mount(Path::new("/etc/containers.d"), &Word { text: text.to_owned(), range: 0..text.len() })
    }

    #[test]
    fn each_type_becomes_what_the_other_keys_make() {
        let Ok(Mounted::Volume(bind)) = read("type=bind,src=./x,dst=/y,ro,bind-propagation=rslave,noexec") else {
            panic!()
        };
        assert_eq!(
            (bind.source, bind.read_only, bind.noexec),
            (VolumeSource::Host("/etc/containers.d/x".into()), true, true)
        );
        let Ok(Mounted::Volume(named)) = read("type=volume,source=data.volume,destination=/d") else { panic!() };
        assert_eq!((named.source, named.copy_up), (VolumeSource::Named("data.volume".into()), true));
        let Ok(Mounted::Volume(anonymous)) = read("destination=/d,readonly=false") else { panic!() };
        assert_eq!((anonymous.source, anonymous.read_only), (VolumeSource::Anonymous, false));
        let Ok(Mounted::Tmpfs(tmpfs)) = read("type=tmpfs,tmpfs-size=512M,tmpfs-mode=1777,destination=/t") else {
            panic!()
        };
        assert_eq!((tmpfs.kind, tmpfs.options.join(",")), (TmpfsKind::Tmpfs, "size=512M,mode=1777".into()));
        let Ok(Mounted::Image(image)) = read("type=image,src=localhost/x,dst=/y,rw=true,subpath=/etc") else {
            panic!()
        };
        assert_eq!((image.writable, image.subpath.as_deref()), (true, Some("/etc")));
        let Ok(Mounted::Glob(glob)) = read("type=glob,src=/usr/lib/libfoo*,dst=/usr/lib,ro=true") else { panic!() };
        assert_eq!((glob.source, glob.read_only), (VolumeSource::Host("/usr/lib/libfoo*".into()), true));
        let Ok(Mounted::Tmpfs(pts)) = read("type=devpts,destination=/dev/pts,mode=620") else { panic!() };
        assert_eq!(pts.kind, TmpfsKind::Devpts);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("type=bind,dst=/y", "needs source="),
            ("type=bind,src=/x", "no destination="),
            ("type=foo,dst=/y", "no type of a mount"),
            ("type=artifact,src=x,dst=/y", "not available"),
            ("type=image,src=x,dst=/y", "docker.io/library/x"),
            ("type=image,dst=/y", "needs source="),
            ("type=image,src=a.image,dst=/y,rw=maybe", "expected yes"),
            ("type=glob,src=data,dst=/y", "write type=volume"),
            ("type=bind,src=data,dst=/y", "write type=volume"),
            ("type=volume,src=/x,dst=/y", "write type=bind"),
            ("type=tmpfs,src=/x,dst=/y", "has no source"),
            ("type=bind,src=/x,dst=/y,noexce", "did you mean noexec?"),
            ("type=bind,src=/x,dst=/proc/sys", "below /proc"),
            ("type=bind,src=\"/x,dst=/y", "never closed"),
            ("type=bind,src=,dst=/y", "is empty"),
        ] {
            let Err(Said { text: shown, .. }) = read(text) else { panic!("{text}") };
            assert!(shown.contains(words), "{text}: {shown}");
        }
    }
}
