//! `Mount=`: podman-run(1)'s `--mount`, read into the same volumes and file systems as `Volume=` and `Tmpfs=`.

use std::path::Path;

use super::{
    Link,
    container::reference,
    links,
    mounts::{self, Taken},
};
use crate::unit::{
    Glob, IdmapMount, ImageMount, Said, Tmpfs, TmpfsKind, Volume, VolumeSource, kind::Kind, nearest::did_you_mean,
    sheet::Sheet, values, words::Word,
};

pub(super) enum Mounted {
    Volume(Volume),
    Glob(Glob),
    Image(ImageMount),
    Tmpfs(Tmpfs),
}

impl Mounted {
    fn destination(&self) -> &str {
        match self {
            Self::Volume(volume) | Self::Glob(Glob { volume, .. }) => &volume.destination,
            Self::Image(image) => &image.destination,
            Self::Tmpfs(tmpfs) => &tmpfs.destination,
        }
    }

    /// The file that is named, if it is one.
    fn file(&self) -> Option<(&str, Kind)> {
        let (name, kind) = match self {
            Self::Volume(Volume { source: VolumeSource::Named(name), .. }) => (name, Kind::Volume),
            Self::Image(image) => (&image.image.name, Kind::Image),
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
        let options = fields(&word.text).unwrap_or_default();
        for (key, said) in options.iter().filter(|(key, said)| BARE.contains(&key.as_str()) && !said.is_empty()) {
            let text = format!("{key}={said} is {key} to podman, whatever it says; write {key} or its opposite alone");
            sheet.warning_at(&value, &word, text);
        }
        if let Mounted::Tmpfs(Tmpfs { kind: TmpfsKind::Ramfs, .. }) = &mounted
            && options.iter().any(|(key, _)| key == "tmpfs-size")
        {
            sheet.warning_at(
                &value,
                &word,
                "a ramfs takes no size, it is not bounded; write type=tmpfs for one that is",
            );
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

/// What any mount has. `consistency` is for other systems: Podman and Docker take it and do nothing.
const PLACES: [&str; 8] = ["type", "source", "src", "destination", "dst", "dest", "target", "consistency"];

/// What podman takes without looking at what they are set to.
const BARE: [&str; 6] = ["suid", "nosuid", "dev", "nodev", "exec", "noexec"];

/// The options of podman-run(1), `--mount`, and those that its code takes besides.
fn options_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "bind" | "glob" | "volume" => &[
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
            "shared",
            "rshared",
            "private",
            "rprivate",
            "slave",
            "rslave",
            "unbindable",
            "runbindable",
            "bind-nonrecursive",
            "relabel",
            "z",
            "Z",
            "U",
            "chown",
            "idmap",
            "no-dereference",
            "subpath",
            "volume-subpath",
            "volume-opt",
        ],
        "image" => &["rw", "readwrite", "subpath", "idmap"],
        "devpts" => &["uid", "gid", "mode", "max", "ptmxmode", "newinstance"],
        _ => &[
            "ro",
            "readonly",
            "rw",
            "suid",
            "nosuid",
            "dev",
            "nodev",
            "exec",
            "noexec",
            "noatime",
            "noswap",
            "tmpfs-size",
            "tmpfs-mode",
            "tmpcopyup",
            "notmpcopyup",
            "U",
            "chown",
        ],
    }
}

fn mount(folder: &Path, word: &Word) -> Result<Mounted, Said> {
    let options = fields(&word.text)?;
    let kind = options.iter().find(|(key, _)| key == "type").map_or("volume", |(_, value)| value.as_str());
    match kind {
        "bind" | "volume" | "tmpfs" | "ramfs" | "devpts" | "image" | "glob" => {}
        "artifact" => return Err(format!("type={kind} is known, not available in this version").into()),
        _ => {
            return Err(format!(
                "type={kind} is no type of a mount; bind, volume, tmpfs, ramfs, devpts, image and glob are"
            )
            .into());
        }
    }
    for (key, _) in &options {
        if !PLACES.contains(&key.as_str()) && !options_of(kind).contains(&key.as_str()) {
            return Err(unknown(kind, key));
        }
    }
    let find =
        |names: &[&str]| options.iter().rev().find(|(key, _)| names.contains(&key.as_str())).map(|(_, v)| v.as_str());
    let source = find(&["source", "src"]);
    let to = find(&["destination", "dst", "dest", "target"]);
    let complete_path = kind == "glob" && to.is_none();
    let to = to.or(complete_path.then_some("/")).ok_or("no destination=: where in the container?")?;
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
    let mut volume = mounts::usual(from, if complete_path { to.to_owned() } else { mounts::target(to)? });
    for (key, value) in &options {
        match key.as_str() {
            "ro" | "readonly" => volume.read_only = flag(key, value)?,
            "rw" => volume.read_only = !flag(key, value)?,
            "bind-propagation" if propagation(value) => mounts::apply(&mut volume, value)?,
            "bind-propagation" => {
                return Err(format!("bind-propagation={value}: expected such as private, rshared or rslave").into());
            }
            "bind-nonrecursive" => volume.not_recursive = flag(key, value)?,
            // SELinux labels, and there is no SELinux.
            "relabel" if matches!(value.as_str(), "shared" | "private") => {}
            "relabel" => return Err(format!("relabel={value}: expected shared or private").into()),
            "z" | "Z" => {}
            "suid" | "nosuid" | "dev" | "nodev" | "exec" | "noexec" => mounts::apply(&mut volume, key)?,
            key if propagation(key) => mounts::apply(&mut volume, key)?,
            "U" | "chown" => volume.chown = flag(key, value)?,
            "idmap" if matches!(value.as_str(), "" | "true") => volume.idmap = Some(IdmapMount::default()),
            "idmap" if value == "false" => volume.idmap = None,
            "idmap" => volume.idmap = Some(mounts::idmap(value)?),
            "subpath" | "volume-subpath" | "no-dereference" | "volume-opt" => return Err(later(key)),
            _ => {}
        }
    }
    mounts::check(&mut volume)?;
    Ok(if kind == "glob" { Mounted::Glob(Glob { volume, complete_path }) } else { Mounted::Volume(volume) })
}

fn propagation(word: &str) -> bool {
    matches!(word.strip_prefix('r').unwrap_or(word), "private" | "shared" | "slave" | "unbindable")
}

fn later(key: &str) -> Said {
    format!("the option {key} is known, not available in this version").into()
}

/// `ro`, `ro=true`, `ro=false`
fn flag(key: &str, value: &str) -> Result<bool, String> {
    if value.is_empty() {
        return Ok(true);
    }
    values::boolean(value).map_err(|expected| format!("{key}={value}: {expected}"))
}

fn bare<'a>(key: &'a str, value: &str) -> Result<&'a str, String> {
    if value.is_empty() { Ok(key) } else { Err(format!("{key} has no value")) }
}

fn image(name: &str, to: &str, options: &[(String, String)]) -> Result<ImageMount, Said> {
    if !name.ends_with(".image") {
        reference(name)?;
    }
    let mut mount =
        ImageMount { image: name.to_owned().into(), destination: mounts::target(to)?, writable: false, subpath: None };
    for (key, value) in options {
        match key.as_str() {
            "rw" | "readwrite" => mount.writable = flag(key, value)?,
            "subpath" => mount.subpath = Some(mounts::destination(value)?),
            "idmap" => return Err(later(key)),
            _ => {}
        }
    }
    Ok(mount)
}

fn own(kind: &str, to: &str, options: &[(String, String)]) -> Result<Tmpfs, Said> {
    let mut text = Vec::new();
    for (key, value) in options {
        match key.as_str() {
            key if PLACES.contains(&key) => {}
            "U" | "chown" if !flag(key, value)? => {}
            // crun and runc fill a tmpfs alone.
            "tmpcopyup" if kind == "ramfs" => return Err(later(key)),
            "U" | "chown" => return Err(later(key)),
            // It is never swapped, begins empty, and has no bound, which a warning says.
            "noswap" | "notmpcopyup" | "tmpfs-size" if kind == "ramfs" => {}
            "tmpfs-size" => text.push(format!("size={value}")),
            "tmpfs-mode" | "mode" => text.push(format!("mode={value}")),
            "readonly" | "ro" if flag(key, value)? => text.push("ro".into()),
            "rw" if !flag(key, value)? => text.push("ro".into()),
            "readonly" | "ro" | "rw" => {}
            "uid" | "gid" | "max" => {
                value.parse::<u32>().map_err(|_| format!("{key}={value} is not a number"))?;
                text.push(format!("{key}={value}"));
            }
            "ptmxmode" => text.push(format!("ptmxmode={value}")),
            key if BARE.contains(&key) => text.push(key.to_owned()),
            _ => text.push(bare(key, value)?.to_owned()),
        }
    }
    let destination = if kind == "devpts" { mounts::destination(to)? } else { mounts::target(to)? };
    if kind != "devpts" {
        let (options, copy_up) = mounts::tmpfs_options(&text.join(","))?;
        let kind = if kind == "tmpfs" { TmpfsKind::Tmpfs { copy_up } } else { TmpfsKind::Ramfs };
        return Ok(Tmpfs { kind, destination, options });
    }
    let modes =
        |option: &String| option.split_once("mode=").is_some_and(|(_, mode)| u32::from_str_radix(mode, 8).is_err());
    if let Some(wrong) = text.iter().find(|option| modes(option)) {
        return Err(format!("{wrong} is not octal").into());
    }
    Ok(Tmpfs { kind: TmpfsKind::Devpts, destination, options: text })
}

fn unknown(kind: &str, key: &str) -> Said {
    let elsewhere = ["bind", "image", "devpts", "tmpfs"].iter().any(|kind| options_of(kind).contains(&key));
    if elsewhere {
        return format!("{key} is no option of type={kind}").into();
    }
    did_you_mean(format!("unknown option {key}"), key, options_of(kind).iter().chain(&PLACES).copied())
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
        assert_eq!(
            (tmpfs.kind, tmpfs.options.join(",")),
            (TmpfsKind::Tmpfs { copy_up: true }, "size=512M,mode=1777".into())
        );
        let Ok(Mounted::Image(image)) = read("type=image,src=localhost/x,dst=/y,rw=true,subpath=/etc") else {
            panic!()
        };
        assert_eq!((image.writable, image.subpath.as_deref()), (true, Some("/etc")));
        let Ok(Mounted::Glob(glob)) = read("type=glob,src=/usr/lib/libfoo*,dst=/usr/lib,ro=true") else { panic!() };
        assert_eq!((glob.volume.source, glob.volume.read_only), (VolumeSource::Host("/usr/lib/libfoo*".into()), true));
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
