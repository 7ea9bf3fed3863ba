//! What `lint` reads when it is asked for some files: units name each other, so a file is read together with all of its folder, and
//! that may be a folder in a folder.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use super::{
    Problem, Severity,
    kind::{Kind, REFUSED},
    options, source,
};

/// Files of one folder of units.
#[derive(Default)]
pub(super) struct Group {
    /// By the names that reading the folder gives them; a folder of drop-ins stands for all in it.
    pub(super) files: BTreeSet<PathBuf>,
    /// What the folders they lie in are called by reading, and by whoever asks.
    called: Vec<(PathBuf, PathBuf)>,
}

impl Group {
    /// As whoever asks would name it.
    pub(super) fn shown(&self, path: &Path) -> PathBuf {
        // Joining nothing would add a slash.
        let joined = |to: &Path, rest: &Path| if rest == Path::new("") { to.to_path_buf() } else { to.join(rest) };
        let named = |(from, to): &(PathBuf, PathBuf)| path.strip_prefix(from).map(|rest| joined(to, rest)).ok();
        self.called.iter().find_map(named).unwrap_or_else(|| path.to_path_buf())
    }
}

/// A folder, whatever it is called.
type Identity = (u64, u64);

fn identity(dir: &Path) -> Option<Identity> {
    fs::metadata(dir).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Each of the folders once, the last time it is named: there it counts.
pub(super) fn folders<'a>(paths: &[&'a Path]) -> Vec<&'a Path> {
    let mut seen = HashSet::new();
    let mut kept: Vec<&Path> = paths.iter().rev().copied().filter(|dir| seen.insert(identity(dir))).collect();
    kept.reverse();
    kept
}

/// By the folders that have to be read for them. What lies in `folders` is read with those.
pub(super) fn group(files: &[&Path], folders: &[&Path], problems: &mut Vec<Problem>) -> BTreeMap<PathBuf, Group> {
    let read: HashSet<Identity> =
        folders.iter().flat_map(|dir| source::tree(dir)).filter_map(|dir| identity(&dir)).collect();
    let mut roots: HashMap<PathBuf, PathBuf> = HashMap::new();
    let mut seen = HashSet::new();
    let mut groups: BTreeMap<PathBuf, Group> = BTreeMap::new();
    for file in files {
        let found = without_dots(file).map_err(|error| unread(&error)).and_then(|path| {
            let dir = folder_of(&path)?;
            Ok((path, dir))
        });
        let (path, dir) = match found {
            Ok(found) => found,
            Err((severity, text)) => {
                problems.push(source::whole(file, severity, text));
                continue;
            }
        };
        let Some(of) = identity(&dir) else { continue };
        let name = path.strip_prefix(&dir).unwrap_or(&path).to_path_buf();
        if read.contains(&of) || !seen.insert((of, name)) {
            continue;
        }
        let root = roots.entry(dir.clone()).or_insert_with(|| root_of(&dir));
        let shown = if file.is_absolute() { root.clone() } else { from_here(root) };
        let asked = path.strip_prefix(&root).map_or_else(|_| path.clone(), |rest| shown.join(rest));
        let group = groups.entry(shown).or_default();
        let (from, to) = if path.is_dir() { (Some(&*asked), Some(*file)) } else { (asked.parent(), file.parent()) };
        let names = (from.unwrap_or(&asked).to_path_buf(), to.unwrap_or(file).to_path_buf());
        if !group.called.contains(&names) {
            group.called.push(names);
        }
        group.files.insert(asked);
    }
    groups
}

fn unread(error: &io::Error) -> (Severity, String) {
    (Severity::Unread, format!("cannot read the file: {error}"))
}

/// The folder of units that a unit file or a drop-in lies in.
fn folder_of(file: &Path) -> Result<PathBuf, (Severity, String)> {
    let metadata = fs::metadata(file).map_err(|error| unread(&error))?;
    let parent = file.parent().unwrap_or(file);
    if metadata.is_dir() {
        return Ok(parent.to_path_buf());
    }
    match file.extension().and_then(OsStr::to_str) {
        Some(suffix) if Kind::of(suffix).is_some() => Ok(parent.to_path_buf()),
        Some("conf") if file.file_name() == Some(OsStr::new(options::FILE)) => Ok(parent.to_path_buf()),
        Some("conf") if source::is_of_drop_ins(parent) => Ok(parent.parent().unwrap_or(parent).to_path_buf()),
        suffix => Err((
            Severity::Error,
            match REFUSED.iter().find(|(refused, _)| Some(*refused) == suffix) {
                Some((suffix, instead)) => format!(".{suffix} files cannot be honoured here: {instead}"),
                None => {
                    "not a unit file: its name ends in .container, .volume, .network, .image, .pod, .timer or .socket, a \
                     drop-in's in .conf below a .container.d folder"
                        .to_owned()
                }
            },
        )),
    }
}

/// The folder that the machine would be given: the nearest containers.d above, or as far up as there are units.
fn root_of(dir: &Path) -> PathBuf {
    let named = dir.ancestors().find(|dir| dir.file_name() == Some(OsStr::new("containers.d")));
    let mut root = named.unwrap_or(dir);
    if named.is_none() {
        while let (Some(parent), Some(_)) = (root.parent(), root.file_name())
            && source::has_units(parent)
        {
            root = parent;
        }
    }
    // One that is hidden, or that a link has shown under another name already, is not read from above.
    if root == dir || source::tree(root).iter().any(|below| below == dir) {
        root.to_path_buf()
    } else {
        dir.to_path_buf()
    }
}

/// Absolute, and its folder without `..`, above which one could not climb.
fn without_dots(file: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(file)?;
    match (path.components().any(|part| part == Component::ParentDir), path.parent(), path.file_name()) {
        (true, Some(dir), Some(name)) => Ok(fs::canonicalize(dir)?.join(name)),
        (true, ..) => fs::canonicalize(path),
        (false, ..) => Ok(path),
    }
}

/// A folder as one names it from the current one.
fn from_here(root: &Path) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    match (root.strip_prefix(&here), here.strip_prefix(root)) {
        (Ok(below), _) if below == Path::new("") => PathBuf::from("."),
        (Ok(below), _) => below.to_path_buf(),
        (Err(_), Ok(rest)) => rest.components().map(|_| Component::ParentDir).collect(),
        _ => root.to_path_buf(),
    }
}
