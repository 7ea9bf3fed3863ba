//! Finding unit files and their drop-ins in folders, and reading them: the only part of the unit language that touches the disk.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    NameError, Place, Problem, Severity, UnitName,
    kind::{KINDS, Kind, REFUSED, is_template, template_of},
    nearest::nearest,
};

/// One unit's file and the drop-ins that apply to it, in the order in which they do.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) kind: Kind,
    /// The file's name without suffix; of an instance, its own.
    pub(super) stem: String,
    /// Of an instance without a file of its own, the template's.
    pub(super) path: PathBuf,
    pub(super) content: Content,
    pub(super) drop_ins: Vec<(PathBuf, Rc<[u8]>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(Rc<[u8]>),
    /// A link to /dev/null, or an empty file.
    Masked,
    /// Reported already.
    Unreadable,
}

/// systemd reads lines of up to 1 MiB; a whole unit file larger than that is a mistake.
const MAX_BYTES: u64 = 1 << 20;

/// What a folder holds, by name.
#[derive(Default)]
pub(super) struct Folder {
    units: Vec<(String, PathBuf)>,
    /// By the folder's name (`web.container.d`, `web-.container.d`, `container.d`): where it is, and its files by name.
    drop_ins: BTreeMap<String, (PathBuf, Vec<(String, PathBuf)>)>,
}

/// Every unit file, and what is needed to make instances of the templates among them.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) units: Vec<Source>,
    pub(super) templates: Vec<Source>,
    pub(super) folders: Vec<Folder>,
}

pub(super) fn find(dirs: &[&Path], problems: &mut Vec<Problem>) -> Sources {
    let folders: Vec<Folder> = dirs.iter().map(|dir| folder(dir, problems)).collect();
    let mut units: BTreeMap<(Kind, String), PathBuf> = BTreeMap::new();
    for (file, path) in folders.iter().flat_map(|f| &f.units) {
        let Some((stem, kind)) = split(file) else { continue };
        match UnitName::parse(stem) {
            Ok(_) | Err(NameError::Template) => {
                units.insert((kind, stem.to_owned()), path.clone());
            }
            Err(error) => problems.push(whole(path, Severity::Error, error.to_string())),
        }
    }
    for (name, (path, _)) in folders.iter().flat_map(|f| &f.drop_ins) {
        if let Some((owner, kind)) = name.strip_suffix(".d").and_then(split)
            && !owner.ends_with('-')
            && !units.contains_key(&(kind, owner.to_owned()))
            && !template_of(owner).is_some_and(|template| units.contains_key(&(kind, template.to_owned())))
        {
            let text = format!("drop-ins without effect: there is no {owner}.{}", kind.suffix());
            problems.push(whole(path, Severity::Warning, text));
        }
    }
    let mut sources = Sources { folders, ..Sources::default() };
    for ((kind, stem), path) in units {
        let content = match read(&path) {
            Ok(bytes) if bytes.is_empty() => Content::Masked,
            Ok(bytes) => Content::Text(bytes.into()),
            Err(text) => {
                problems.push(whole(&path, Severity::Error, text));
                Content::Unreadable
            }
        };
        let drop_ins = sources.drop_ins(kind, &stem, problems);
        let list = if is_template(&stem) { &mut sources.templates } else { &mut sources.units };
        list.push(Source { kind, stem, path, content, drop_ins });
    }
    sources
}

/// `web.container` → `web`, the kind.
fn split(file: &str) -> Option<(&str, Kind)> {
    let (stem, suffix) = file.rsplit_once('.')?;
    Some((stem, Kind::of(suffix)?))
}

impl Sources {
    /// An instance of a template, with the drop-ins of both.
    pub(super) fn instance(&self, kind: Kind, stem: &str, problems: &mut Vec<Problem>) -> Option<Source> {
        let name = template_of(stem)?;
        let template = self.templates.iter().find(|t| t.kind == kind && t.stem == name)?;
        let drop_ins = self.drop_ins(kind, stem, problems);
        Some(Source { stem: stem.to_owned(), drop_ins, ..template.clone() })
    }

    /// The nearer to the unit's own name, the stronger; then the later folder. One file of each name applies, in the order of names.
    fn drop_ins(&self, kind: Kind, stem: &str, problems: &mut Vec<Problem>) -> Vec<(PathBuf, Rc<[u8]>)> {
        let mut chosen: BTreeMap<String, PathBuf> = BTreeMap::new();
        for level in levels(kind, stem) {
            for (_, files) in self.folders.iter().filter_map(|folder| folder.drop_ins.get(&level)) {
                chosen.extend(files.iter().cloned());
            }
        }
        let mut drop_ins = Vec::new();
        for path in chosen.into_values() {
            match read(&path) {
                Ok(bytes) => drop_ins.push((path, bytes.into())),
                Err(text) => problems.push(whole(&path, Severity::Error, text)),
            }
        }
        drop_ins
    }
}

/// Names of the drop-in folders of a unit, the weakest first: of all of the kind, of `foo-`, of `foo-bar-`, the template's, its own.
fn levels(kind: Kind, stem: &str) -> Vec<String> {
    let suffix = kind.suffix();
    let mut levels = vec![format!("{suffix}.d")];
    let prefix = stem.split('@').next().unwrap_or(stem);
    levels.extend(prefix.match_indices('-').map(|(at, _)| format!("{}.{suffix}.d", &stem[..=at])));
    levels.extend(template_of(stem).map(|template| format!("{template}.{suffix}.d")));
    levels.push(format!("{stem}.{suffix}.d"));
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
        let owner = name.strip_suffix(".d").filter(|owner| split(owner).is_some() || Kind::of(owner).is_some());
        if Kind::of(suffix).is_some() {
            folder.units.push((name, path));
        } else if owner.is_some() {
            let files = drop_in_files(&path, problems);
            folder.drop_ins.insert(name, (path, files));
        } else if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == suffix) {
            let text = format!(".{suffix} files cannot be honoured here: {instead}");
            problems.push(whole(&path, Severity::Error, text));
        } else if suffix == "service" {
            let text = "left out: this system runs containers only; a .container file describes one".to_owned();
            problems.push(whole(&path, Severity::Warning, text));
        } else if let Some(near) = nearest(suffix, KINDS.iter().map(|kind| kind.suffix())).filter(|_| suffix.len() > 2)
        {
            problems.push(whole(
                &path,
                Severity::Warning,
                format!("left out: .{suffix} is no kind of unit; did you mean .{near}?"),
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
    let metadata = file.metadata().map_err(fail)?;
    let kind = metadata.file_type();
    if kind.is_char_device() && fs::canonicalize(path).is_ok_and(|p| p == Path::new("/dev/null")) {
        return Ok(Vec::new());
    }
    if !kind.is_file() {
        return Err("not a regular file".to_owned());
    }
    // One byte more than there is, so that one read tells the end.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or(0) + 1);
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err("larger than 1 MiB, which no unit file is".to_owned());
    }
    Ok(bytes)
}

pub(super) fn whole(path: &Path, severity: Severity, text: String) -> Problem {
    Problem { path: path.to_path_buf(), place: Place::default(), severity, text }
}
