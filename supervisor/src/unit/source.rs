//! Finding unit files and their drop-ins in folders, and reading them: the only part of the unit language that touches the disk.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    io::Read,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    NameError, Place, Problem, Said, Severity, UnitName,
    kind::{KINDS, Kind, REFUSED, is_template, template_of},
    nearest::nearest,
    options,
    problem::form,
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
    /// Which of the folders that were asked for it is, or lies below.
    top: usize,
    units: Vec<(String, PathBuf)>,
    /// By the folder's name (`web.container.d`, `web-.container.d`, `container.d`): where it is, and its files by name.
    drop_ins: BTreeMap<String, (PathBuf, Vec<(String, PathBuf)>)>,
}

/// Every unit file, and what is needed to make instances of the templates among them.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) units: Vec<Source>,
    pub(super) templates: Vec<Source>,
    /// The later, the stronger.
    pub(super) folders: Vec<Folder>,
    /// Drop-ins that were read: one of a whole kind applies to ten thousand units.
    pub(super) read: RefCell<HashMap<PathBuf, Option<Rc<[u8]>>>>,
}

/// A folder and all below it, links followed, each once; a folder stands before what lies in it. Nothing lies in drop-ins.
pub(crate) fn tree(top: &Path) -> Vec<PathBuf> {
    walk(top, &mut Vec::new())
}

/// Deeper and more than anybody sorts units by hand. Podman follows a link wherever it leads, to the root of the file system and
/// through every volume below it; other file systems are no bound, people keep their units there.
const MAX_DEPTH: usize = 16;
const MAX_FOLDERS: usize = 1000;

fn walk(top: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut stack = vec![(top.to_path_buf(), 0)];
    let real_top = fs::canonicalize(top).unwrap_or_default();
    while let Some((dir, depth)) = stack.pop() {
        let Some(metadata) = fs::metadata(&dir).ok().filter(fs::Metadata::is_dir) else { continue };
        if !seen.insert((metadata.dev(), metadata.ino())) {
            continue;
        }
        let above = |real: PathBuf| real != real_top && real_top.starts_with(real);
        let why = if depth > 0 && dir.is_symlink() && fs::canonicalize(&dir).is_ok_and(above) {
            Some("left out: the link leads to a folder that all of this lies in".to_owned())
        } else if depth > MAX_DEPTH {
            Some(format!("left out: it lies more than {MAX_DEPTH} folders deep"))
        } else if found.len() == MAX_FOLDERS {
            Some(format!("left out, as are all that follow: {MAX_FOLDERS} folders were read"))
        } else {
            None
        };
        if let Some(text) = why {
            problems.push(whole(&dir, Severity::Warning, text));
            if found.len() == MAX_FOLDERS {
                break;
            }
            continue;
        }
        if !is_of_drop_ins(&dir) {
            let below = fs::read_dir(&dir).into_iter().flatten().flatten().filter(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                let folder = entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_symlink());
                folder && !name.starts_with('.') && split(&name).is_none()
            });
            let mut below: Vec<PathBuf> = below.map(|entry| entry.path()).collect();
            below.sort();
            stack.extend(below.into_iter().rev().map(|dir| (dir, depth + 1)));
        }
        found.push(dir);
    }
    found
}

/// `web.container.d`, `container.d`
pub(super) fn is_of_drop_ins(dir: &Path) -> bool {
    let name = dir.file_name().map(|name| name.to_string_lossy());
    let owner = name.as_ref().and_then(|name| name.strip_suffix(".d"));
    owner.is_some_and(|owner| split(owner).is_some() || Kind::of(owner).is_some())
}

pub(super) fn find(dirs: &[&Path], problems: &mut Vec<Problem>) -> Sources {
    let mut folders = Vec::new();
    // As Podman, which takes the first that it finds on its way down, and the machine's folder before the image's.
    for (top, dir) in dirs.iter().enumerate() {
        let below = walk(dir, problems).into_iter().rev().filter(|dir| !is_of_drop_ins(dir));
        folders.extend(below.map(|dir| Folder { top, ..folder(&dir, problems) }));
    }
    let mut units: BTreeMap<(Kind, String), (usize, PathBuf)> = BTreeMap::new();
    // Of one name in one tree: whose, and who has it in the end.
    let mut hidden: Vec<((Kind, String, usize), PathBuf)> = Vec::new();
    let mut winners: HashMap<(Kind, String, usize), PathBuf> = HashMap::new();
    for (top, (file, path)) in folders.iter().flat_map(|f| f.units.iter().map(|unit| (f.top, unit))) {
        let Some((stem, kind)) = split(file) else { continue };
        match UnitName::parse(stem) {
            Ok(_) | Err(NameError::Template) => {
                let before = units.insert((kind, stem.to_owned()), (top, path.clone()));
                if let Some((_, before)) = before.filter(|(of, _)| *of == top) {
                    hidden.push(((kind, stem.to_owned(), top), before));
                    winners.insert((kind, stem.to_owned(), top), path.clone());
                }
            }
            Err(error) => problems.push(whole(path, Severity::Error, error.to_string())),
        }
    }
    for (of, path) in hidden {
        let winner = winners.get(&of).unwrap_or(&path).display();
        problems.push(whole(&path, Severity::Warning, format!("left out: {winner} has the same name")));
    }
    let mut sources = Sources { folders, ..Sources::default() };
    for ((kind, stem), (_, path)) in units {
        let content = match read(&path) {
            Ok(bytes) if bytes.is_empty() => Content::Masked,
            Ok(bytes) => Content::Text(bytes.into()),
            Err((severity, text)) => {
                problems.push(whole(&path, severity, text));
                Content::Unreadable
            }
        };
        let drop_ins = sources.drop_ins(kind, &stem, problems);
        let list = if is_template(&stem) { &mut sources.templates } else { &mut sources.units };
        list.push(Source { kind, stem, path, content, drop_ins });
    }
    sources
}

/// Whether a folder has unit files, or drop-ins for some.
pub(super) fn has_units(dir: &Path) -> bool {
    let is_of_units =
        |entry: fs::DirEntry| split(&entry.file_name().to_string_lossy()).is_some() || is_of_drop_ins(&entry.path());
    fs::read_dir(dir).is_ok_and(|list| list.flatten().any(is_of_units))
}

/// `web.container` → `web`, the kind.
fn split(file: &str) -> Option<(&str, Kind)> {
    let (stem, suffix) = file.rsplit_once('.')?;
    Some((stem, Kind::of(suffix)?))
}

/// Drop-ins that are for nobody of all that there are.
pub(super) struct LeftOver {
    pub(super) kind: Kind,
    pub(super) files: Vec<PathBuf>,
}

impl Sources {
    /// Those whose folders have none of the names in which the units looked for theirs. Each is told; its mistakes are the reader's.
    pub(super) fn left_over<'a>(
        &self,
        units: impl Iterator<Item = (Kind, &'a str)>,
        problems: &mut Vec<Problem>,
    ) -> Vec<LeftOver> {
        let folders: Vec<_> = self.folders.iter().flat_map(|folder| &folder.drop_ins).collect();
        if folders.is_empty() {
            return Vec::new();
        }
        let templates: HashSet<_> = self.templates.iter().map(|t| (t.kind, t.stem.as_str())).collect();
        let mut looked: HashSet<String> = HashSet::new();
        for (kind, stem) in units {
            looked.extend(levels(kind, stem));
            looked.insert(format!("{}.d", kind.suffix()));
        }
        let mut found = Vec::new();
        for (name, (path, files)) in folders.into_iter().filter(|(name, _)| !looked.contains(*name)) {
            let owner = name.strip_suffix(".d").unwrap_or(name);
            let Some((owner, kind)) = split(owner).or_else(|| Kind::of(owner).map(|kind| ("", kind))) else { continue };
            let many = if owner.is_empty() || owner.ends_with('-') { "…" } else { "" };
            let of_template = template_of(owner).filter(|of| templates.contains(&(kind, *of)));
            let text = match of_template {
                Some(of) => {
                    let of = format!("{of}.{}", kind.suffix());
                    format!("no file names this instance of {of}: these drop-ins apply when somebody starts it")
                }
                None => format!("drop-ins without effect: there is no {owner}{many}.{}", kind.suffix()),
            };
            problems.push(whole(path, Severity::Warning, text));
            found.push(LeftOver { kind, files: files.iter().map(|(_, path)| path.clone()).collect() });
        }
        found
    }

    /// An instance of a template, with the drop-ins of both.
    pub(super) fn instance(&self, kind: Kind, stem: &str, problems: &mut Vec<Problem>) -> Option<Source> {
        let name = template_of(stem)?;
        let template = self.templates.iter().find(|t| t.kind == kind && t.stem == name)?;
        let drop_ins = self.drop_ins(kind, stem, problems);
        Some(Source { stem: stem.to_owned(), drop_ins, ..template.clone() })
    }

    /// systemd.unit(5): those of the whole kind are the weakest; then the later folder is the stronger, and in it the nearer to the
    /// unit's own name. One file of each name applies, in the order of names.
    fn drop_ins(&self, kind: Kind, stem: &str, problems: &mut Vec<Problem>) -> Vec<(PathBuf, Rc<[u8]>)> {
        let mut chosen: BTreeMap<String, PathBuf> = BTreeMap::new();
        let levels = levels(kind, stem);
        let wide = self.folders.iter().map(|folder| (folder, format!("{}.d", kind.suffix())));
        let own = self.folders.iter().flat_map(|folder| levels.iter().map(move |level| (folder, level.clone())));
        for (_, files) in wide.chain(own).filter_map(|(folder, level)| folder.drop_ins.get(&level)) {
            chosen.extend(files.iter().cloned());
        }
        let mut before = self.read.borrow_mut();
        let mut drop_ins = Vec::new();
        for path in chosen.into_values() {
            let bytes = before.entry(path.clone()).or_insert_with(|| match read(&path) {
                Ok(bytes) => Some(bytes.into()),
                Err((severity, text)) => {
                    problems.push(whole(&path, severity, text));
                    None
                }
            });
            drop_ins.extend(bytes.clone().map(|bytes| (path, bytes)));
        }
        drop_ins
    }
}

/// Names of a unit's own drop-in folders, the weakest first: of `foo-`, of `foo-bar-`, the template's, its own.
fn levels(kind: Kind, stem: &str) -> Vec<String> {
    let suffix = kind.suffix();
    let mut levels = Vec::new();
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
            problems.push(whole(dir, Severity::Unread, format!("cannot list the folder: {error}")));
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
            Err(error) => problems.push(whole(dir, Severity::Unread, format!("cannot list the folder: {error}"))),
        }
    }
    found.sort();
    found
}

fn folder(dir: &Path, problems: &mut Vec<Problem>) -> Folder {
    let mut folder = Folder::default();
    for (name, path) in entries(dir, problems) {
        if name.starts_with('.') {
            if split(&name).is_some() {
                problems.push(whole(&path, Severity::Warning, "left out: its name begins with a dot".to_owned()));
            }
            continue;
        }
        let suffix = name.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        if Kind::of(suffix).is_some() {
            folder.units.push((name, path));
        } else if is_of_drop_ins(&path) {
            let files = drop_in_files(&path, problems);
            folder.drop_ins.insert(name, (path, files));
        } else if let Some(text) = misnamed(&name, &path) {
            problems.push(whole(&path, Severity::Warning, text));
        } else if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| *refused == suffix) {
            let text = format!(".{suffix} files cannot be honoured here: {instead}");
            problems.push(whole(&path, Severity::Error, Said { text, suggestion: form(instead) }));
        } else if let Some((_, why)) = LEFT_OUT.iter().find(|(other, _)| *other == suffix) {
            let said = Said { text: format!("left out: {why}"), suggestion: form(why) };
            problems.push(whole(&path, Severity::Warning, said));
        } else if let Some(near) = nearest(suffix, KINDS.iter().map(|kind| kind.suffix())).filter(|_| suffix.len() > 2)
        {
            let text = format!("left out: .{suffix} is no kind of unit");
            problems.push(whole(&path, Severity::Warning, Said::guess(text, Some(format!(".{near}")), "")));
        }
    }
    folder
}

/// A folder that looks like one of drop-ins, and is none by its name: `web.service.d`, `containers.d`.
fn misnamed(name: &str, path: &Path) -> Option<Said> {
    let owner = name.strip_suffix(".d")?;
    let conf = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name != options::FILE && name.to_string_lossy().ends_with(".conf")
    };
    fs::read_dir(path).ok()?.flatten().any(conf).then(|| {
        let (stem, suffix) = owner.rfind('.').map_or(("", owner), |at| owner.split_at(at + 1));
        // On a Podman host the services themselves have drop-ins too.
        let near =
            if suffix == "service" { Some("container") } else { nearest(suffix, KINDS.map(Kind::suffix).into_iter()) };
        let text = "its .conf files are left out: drop-ins lie in folders such as web.container.d or container.d";
        Said::guess(text, near.map(|near| format!("{stem}{near}.d")), "")
    })
}

/// systemd's, and of no use here.
const LEFT_OUT: [(&str, &str); 3] = [
    ("service", "this system runs containers only; a .container file describes one"),
    ("target", "there are no targets of one's own; write WantedBy=default.target in the units"),
    ("scope", "programs that somebody else has started are not looked after"),
];

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
pub(super) fn read(path: &Path) -> Result<Vec<u8>, (Severity, String)> {
    let fail = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound if path.is_symlink() => (Severity::Error, "the link leads nowhere".to_owned()),
        _ => (Severity::Unread, format!("cannot read the file: {error}")),
    };
    let wrong = |text: &str| Err((Severity::Error, text.to_owned()));
    let file =
        fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    let kind = metadata.file_type();
    if kind.is_char_device() && fs::canonicalize(path).is_ok_and(|p| p == Path::new("/dev/null")) {
        return Ok(Vec::new());
    }
    if !kind.is_file() {
        return wrong("not a regular file");
    }
    // One byte more than there is, so that one read tells the end.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(MAX_BYTES)).unwrap_or(0) + 1);
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MAX_BYTES {
        return wrong("larger than 1 MiB, which no unit file is");
    }
    Ok(bytes)
}

pub(super) fn whole(path: &Path, severity: Severity, said: impl Into<Said>) -> Problem {
    let Said { text, suggestion } = said.into();
    Problem { path: path.to_path_buf(), place: Place::default(), severity, text, suggestion }
}
