//! Finding unit files and their drop-ins in folders, and reading them: the only part of the unit language that touches the disk.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{Place, Problem, Severity, UnitName, nearest::nearest};

/// One unit's file and the drop-ins that apply to it, in the order in which they do.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: UnitName,
    pub(super) path: PathBuf,
    pub(super) content: Content,
    pub(super) drop_ins: Vec<(PathBuf, Vec<u8>)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    Text(Vec<u8>),
    /// A link to /dev/null, or an empty file.
    Masked,
    /// Reported already.
    Unreadable,
}

/// systemd reads lines of up to 1 MiB; a whole unit file larger than that is a mistake.
const MAX_BYTES: u64 = 1 << 20;

const SUFFIX: &str = ".container";
const DROP_INS: &str = ".container.d";
/// Files of Quadlet and systemd that later versions read.
const OTHER_KINDS: [&str; 9] = ["volume", "network", "pod", "image", "build", "kube", "timer", "socket", "path"];

/// What a folder holds, by name.
#[derive(Default)]
struct Folder {
    units: Vec<(String, PathBuf)>,
    /// By the folder's name (`web.container.d`, `web-.container.d`, `container.d`): where it is, and its files by name.
    drop_ins: BTreeMap<String, (PathBuf, Vec<(String, PathBuf)>)>,
}

pub(super) fn find(dirs: &[&Path], problems: &mut Vec<Problem>) -> Vec<Source> {
    let folders: Vec<Folder> = dirs.iter().map(|dir| folder(dir, problems)).collect();
    let mut units: BTreeMap<UnitName, PathBuf> = BTreeMap::new();
    for (file, path) in folders.iter().flat_map(|f| &f.units) {
        match UnitName::parse(file) {
            Ok(name) => {
                units.insert(name, path.clone());
            }
            Err(error) => problems.push(whole(path, Severity::Error, error.to_string())),
        }
    }
    for (name, (path, _)) in folders.iter().flat_map(|f| &f.drop_ins) {
        let owner = name.strip_suffix(DROP_INS);
        if let Some(owner) = owner.filter(|o| !o.ends_with('-'))
            && !units.contains_key(owner)
        {
            problems.push(whole(
                path,
                Severity::Warning,
                format!("drop-ins without effect: there is no {owner}{SUFFIX}"),
            ));
        }
    }
    units.into_iter().map(|(name, path)| source(name, path, &folders, problems)).collect()
}

fn source(name: UnitName, path: PathBuf, folders: &[Folder], problems: &mut Vec<Problem>) -> Source {
    let content = match read(&path) {
        Ok(bytes) if bytes.is_empty() => Content::Masked,
        Ok(bytes) => Content::Text(bytes),
        Err(text) => {
            problems.push(whole(&path, Severity::Error, text));
            Content::Unreadable
        }
    };
    // The nearer to the unit's own name, the stronger; then the later folder. One file of each name applies, in the order of names.
    let mut chosen: BTreeMap<String, PathBuf> = BTreeMap::new();
    for level in levels(&name) {
        for (_, files) in folders.iter().filter_map(|folder| folder.drop_ins.get(&level)) {
            chosen.extend(files.iter().cloned());
        }
    }
    let mut drop_ins = Vec::new();
    for path in chosen.into_values() {
        match read(&path) {
            Ok(bytes) => drop_ins.push((path, bytes)),
            Err(text) => problems.push(whole(&path, Severity::Error, text)),
        }
    }
    Source { name, path, content, drop_ins }
}

/// Names of the drop-in folders of a unit, the weakest first: of all containers, of `foo-`, of `foo-bar-`, its own.
fn levels(name: &UnitName) -> Vec<String> {
    let name = name.as_str();
    let mut levels = vec!["container.d".to_owned()];
    levels.extend(name.match_indices('-').map(|(at, _)| format!("{}{DROP_INS}", &name[..=at])));
    levels.push(format!("{name}{DROP_INS}"));
    levels
}

fn entries(dir: &Path, problems: &mut Vec<Problem>) -> Vec<(String, PathBuf)> {
    let list = match fs::read_dir(dir) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            problems.push(whole(dir, Severity::Error, format!("cannot list the folder: {error}")));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for entry in list {
        match entry {
            Ok(entry) => match entry.file_name().into_string() {
                Ok(name) => found.push((name, entry.path())),
                Err(_) => problems.push(whole(
                    &entry.path(),
                    Severity::Warning,
                    "left out: its name is not UTF-8 text".to_owned(),
                )),
            },
            Err(error) => problems.push(whole(dir, Severity::Error, format!("cannot list the folder: {error}"))),
        }
    }
    found.sort();
    found
}

fn folder(dir: &Path, problems: &mut Vec<Problem>) -> Folder {
    let mut folder = Folder::default();
    for (name, path) in entries(dir, problems) {
        if name.starts_with('.') {
            continue;
        }
        let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        if name.ends_with(SUFFIX) {
            folder.units.push((name, path));
        } else if name == "container.d" || name.ends_with(DROP_INS) {
            let files = drop_in_files(&path, problems);
            folder.drop_ins.insert(name, (path, files));
        } else if OTHER_KINDS.contains(&suffix) {
            problems.push(whole(
                &path,
                Severity::Error,
                format!(".{suffix} files are known, not available in this version"),
            ));
        } else if suffix == "service" {
            let text = "left out: this system runs containers only; a .container file describes one".to_owned();
            problems.push(whole(&path, Severity::Warning, text));
        } else if !suffix.is_empty() && nearest(suffix, ["container"].into_iter()).is_some() {
            problems.push(whole(
                &path,
                Severity::Warning,
                format!("left out: .{suffix} is no kind of unit; did you mean {SUFFIX}?"),
            ));
        }
    }
    folder
}

fn drop_in_files(dir: &Path, problems: &mut Vec<Problem>) -> Vec<(String, PathBuf)> {
    let mut files = entries(dir, problems);
    files.retain(|(name, path)| {
        let conf = name.ends_with(".conf");
        if !conf && !name.starts_with('.') && !name.ends_with('~') {
            problems.push(whole(path, Severity::Warning, "left out: a drop-in's name ends in .conf".to_owned()));
        }
        conf
    });
    files
}

/// A regular file's bytes; nothing for /dev/null. Never waits: a fifo or device in the folder is refused.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound if path.is_symlink() => "the link leads nowhere".to_owned(),
        _ => format!("cannot read the file: {error}"),
    };
    let file =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(fail)?;
    let kind = file.metadata().map_err(fail)?.file_type();
    if kind.is_char_device() && fs::canonicalize(path).is_ok_and(|p| p == Path::new("/dev/null")) {
        return Ok(Vec::new());
    }
    if !kind.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("larger than 1 MiB, which no unit file is".to_owned());
    }
    Ok(bytes)
}

pub(super) fn whole(path: &Path, severity: Severity, text: String) -> Problem {
    Problem { path: path.to_path_buf(), place: Place::default(), severity, text }
}
