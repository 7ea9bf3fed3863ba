//! The daemon's own reading of unit files, for a laptop: no machine, no image, no network.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Place, Problem, Severity, UnitName, UnitSet,
    kind::{Kind, REFUSED},
    machine::Machine,
    options,
    set::{self, Drafts},
};

/// What was found wrong, in the order of files and lines, and how much was looked at.
#[derive(Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    /// Units without mistakes.
    pub good: usize,
    pub broken: usize,
}

impl Report {
    pub fn errors(&self) -> usize {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error).count()
    }
}

/// Folders are read together, a later one over an earlier, as the machine does with its two. A file is read together with all of
/// its folder, since units name each other, but only what keeps itself from loading is reported: its own mistakes, those of the
/// drop-ins that apply to it, and the circles it stands in.
pub fn check(paths: &[PathBuf]) -> Report {
    let (folders, files): (Vec<&PathBuf>, Vec<&PathBuf>) = paths.iter().partition(|path| path.is_dir());
    let mut report = Report::default();
    let machine = Machine::any();
    if !folders.is_empty() {
        let dirs: Vec<&Path> = folders.iter().map(|path| path.as_path()).collect();
        let read = set::lint(&dirs, &machine);
        for dir in dirs.iter().filter(|dir| !read.0.read.iter().any(|unit| unit.path.starts_with(dir))) {
            let path = dir.to_path_buf();
            let text = "no unit file is in this folder".to_owned();
            report.problems.push(Problem { path, place: Place::default(), severity: Severity::Warning, text });
        }
        report.add(read, None);
    }
    let mut by_folder: BTreeMap<PathBuf, BTreeSet<PathBuf>> = BTreeMap::new();
    for file in files {
        match folder_of(file) {
            Ok(folder) => {
                // As `load` will name it.
                let path = file.file_name().map_or_else(|| file.clone(), |name| folder_path(&folder, file, name));
                by_folder.entry(folder).or_default().insert(path);
            }
            Err(text) => report.problems.push(Problem {
                path: file.clone(),
                place: Place::default(),
                severity: Severity::Error,
                text,
            }),
        }
    }
    for (folder, files) in by_folder {
        report.add(set::lint(&[&folder], &machine), Some(&files));
    }
    report.problems.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
    report
}

impl Report {
    /// All of the folders, or what belongs to these files.
    fn add(&mut self, (drafts, set): (Drafts, UnitSet), asked: Option<&BTreeSet<PathBuf>>) {
        let is_asked = |path: &Path| asked.is_none_or(|files| files.contains(path));
        let mut names: BTreeSet<&UnitName> = BTreeSet::new();
        let mut drop_ins: BTreeSet<&Path> = BTreeSet::new();
        for read in drafts.read.iter().filter(|read| is_asked(&read.path)) {
            names.extend(&read.name);
            drop_ins.extend(read.drop_ins.iter().map(PathBuf::as_path));
        }
        self.broken += names.iter().filter(|name| set.broken.contains(**name)).count();
        self.broken += drafts.twins.iter().filter(|(_, twin)| is_asked(twin.what.path())).count();
        self.good += names.iter().filter(|name| drafts.all.get(**name).is_some_and(|draft| !draft.broken)).count();
        let circles: Vec<&Problem> =
            set.circles.iter().filter(|(of, _)| names.iter().any(|name| of.contains(*name))).map(|(_, p)| p).collect();
        let belongs = |problem: &&Problem| {
            let of_folder = |dir: &Path| is_asked(&dir.with_extension(""));
            is_asked(&problem.path)
                || drop_ins.contains(problem.path.as_path())
                || problem.path.parent().is_some_and(of_folder)
                || circles.contains(problem)
        };
        for problem in set.problems.iter().filter(belongs) {
            let path = problem.path.strip_prefix("./").unwrap_or(&problem.path).to_path_buf();
            self.problems.push(Problem { path, ..problem.clone() });
        }
    }
}

/// A file by the name that reading its folder of units gives it.
fn folder_path(folder: &Path, file: &Path, name: &OsStr) -> PathBuf {
    match file.parent().and_then(Path::file_name) {
        Some(dir) if file.extension() == Some(OsStr::new("conf")) && name != options::FILE => {
            folder.join(dir).join(name)
        }
        _ => folder.join(name),
    }
}

/// The folder of units that a unit file or a drop-in belongs to.
fn folder_of(file: &Path) -> Result<PathBuf, String> {
    if let Err(error) = fs::metadata(file) {
        return Err(format!("cannot read the file: {error}"));
    }
    let here = |dir: Option<&Path>| match dir {
        Some(dir) if dir != Path::new("") => dir.to_path_buf(),
        _ => PathBuf::from("."),
    };
    match file.extension().and_then(OsStr::to_str) {
        Some(suffix) if Kind::of(suffix).is_some() => Ok(here(file.parent())),
        Some("conf") if file.file_name() == Some(OsStr::new(options::FILE)) => Ok(here(file.parent())),
        Some("conf") if file.parent().is_some_and(is_drop_in_folder) => Ok(here(file.parent().and_then(Path::parent))),
        suffix => Err(match REFUSED.iter().find(|(refused, _)| Some(*refused) == suffix) {
            Some((suffix, instead)) => format!(".{suffix} files cannot be honoured here: {instead}"),
            None => {
                "not a unit file: its name ends in .container, .volume, .network, .image, .pod, .timer or .socket, a \
                     drop-in's in .conf below a .container.d folder"
                    .to_owned()
            }
        }),
    }
}

fn is_drop_in_folder(dir: &Path) -> bool {
    let name = dir.to_string_lossy();
    let owner = name.strip_suffix(".d").map(|name| name.rsplit(['.', '/']).next().unwrap_or(name));
    owner.and_then(Kind::of).is_some()
}

/// The line that is meant, and a marker under the place. Tabs stay tabs, so that the marker stands right.
pub fn excerpt(problem: &Problem, text: &str) -> Option<(String, String)> {
    const WIDTH: usize = 160;
    let Place { line, column, width } = problem.place;
    let line = text.lines().nth((line as usize).checked_sub(1)?)?.trim_start_matches('\u{feff}');
    let start = (column as usize).saturating_sub(1);
    // A very long line is shown from shortly before the place.
    let skip = if start > WIDTH / 2 { start - WIDTH / 4 } else { 0 };
    let clean = |c: char| if c != '\t' && c.is_control() { '\u{fffd}' } else { c };
    let shown: String = line.chars().skip(skip).take(WIDTH).map(clean).collect();
    let indent: String = shown.chars().take(start - skip).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let room = shown.chars().count().saturating_sub(start - skip).max(1);
    Some((shown, format!("{indent}{}", "^".repeat((width as usize).clamp(1, room)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(line: u32, column: u32, width: u32) -> Problem {
        Problem {
            path: "a".into(),
            place: Place { line, column, width },
            severity: Severity::Error,
            text: "wrong".into(),
        }
    }

    #[test]
    fn the_marker_stands_under_the_place() {
        let text = "[Container]\n\tMemory=6x\n";
        assert_eq!(excerpt(&problem(2, 9, 2), text), Some(("\tMemory=6x".into(), "\t       ^^".into())));
        assert_eq!(excerpt(&problem(2, 9, 99), text).unwrap().1, "\t       ^^");
        assert_eq!(excerpt(&problem(0, 0, 0), text), None);
        assert_eq!(excerpt(&problem(9, 1, 1), text), None);
        let long = format!("Environment={}", "ä".repeat(5000));
        let (shown, marker) = excerpt(&problem(1, 4000, 3), &long).unwrap();
        assert!(shown.chars().count() <= 160 && marker.trim_start() == "^^^");
        assert_eq!(excerpt(&problem(1, 3, 1), "a\u{1b}[2Jb").unwrap().0, "a\u{fffd}[2Jb");
    }

    #[test]
    fn a_file_is_read_with_its_folder_and_answers_for_itself() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let good = "[Container]\nImage=localhost/x\nNetwork=none\n";
        let web = write("web.container", &format!("{good}[Unit]\nAfter=db.container\n"));
        write("db.container", "[Container]\nImage=localhost/x\n");
        let drop_in = write("web.container.d/10-x.conf", "[Container]\nMemry=1\n");
        let notes = write("notes.txt", "");
        let all = check(&[dir.path().to_path_buf()]);
        assert_eq!((all.good, all.broken, all.errors()), (0, 2, 2));
        let one = check(std::slice::from_ref(&web));
        assert_eq!((one.broken, one.problems.len()), (1, 1));
        assert_eq!(one.problems[0].path, drop_in);
        assert_eq!(check(&[drop_in]).errors(), 1);
        // What keeps a unit from loading is told of it, wherever it is written.
        let shop = write("shop-front.container", good);
        for other in ["container.d/20-y.conf", "shop-.container.d/20-y.conf"] {
            let drop_in = write(other, "[Container]\nMemry=1\n");
            let one = check(std::slice::from_ref(&shop));
            assert_eq!((one.good, one.broken, one.errors()), (0, 1, 1), "{other}");
            assert_eq!(one.problems[0].path, drop_in);
            fs::remove_file(drop_in).unwrap();
        }
        let named = write("data.volume", "[Volume]\nServiceName=store\nVolumName=x\n");
        assert_eq!((check(&[named]).broken, check(std::slice::from_ref(&shop)).good), (1, 1));
        let circle = |name: &str, other: &str| write(name, &format!("{good}[Unit]\nAfter={other}\n"));
        let (first, second) = (circle("c1.container", "c2.container"), circle("c2.container", "c1.container"));
        for file in [first.clone(), second] {
            let one = check(&[file]);
            assert_eq!((one.good, one.broken, one.errors()), (0, 1, 1));
            assert_eq!(one.problems[0].path, first);
        }
        let empty = write("empty/notes.txt", "").parent().unwrap().to_path_buf();
        let said = check(std::slice::from_ref(&empty)).problems;
        assert_eq!((said.len(), said[0].severity, &said[0].path), (1, Severity::Warning, &empty));
        let conf = write("orlop.conf", "[Logs]\nForwrd=x\n");
        let of_machine = check(std::slice::from_ref(&conf));
        assert_eq!((of_machine.errors(), &of_machine.problems[0].path), (1, &conf));
        assert_eq!(check(&[notes, dir.path().join("nothing.container")]).errors(), 2);
    }
}
