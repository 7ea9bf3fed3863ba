//! The daemon's own reading of unit files, for a laptop: no machine, no image, no network.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use super::{
    Place, Problem, Severity, UnitName, UnitSet,
    asked::{self, Group},
    machine::Machine,
    set::{self, Drafts},
    source,
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
        self.problems.iter().filter(|problem| problem.is_error()).count()
    }

    /// Something was not read, so that not all of it was checked.
    pub fn is_partial(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Unread)
    }
}

/// Folders are read together, a later one over an earlier, as the machine does with its two. A file is read together with all of
/// its folder, since units name each other, but only what keeps itself from loading is reported: its own mistakes, those of the
/// drop-ins that apply to it, and the circles it stands in. A folder of drop-ins stands for the files in it.
pub fn check(paths: &[PathBuf]) -> Report {
    let is_folder = |path: &Path| path.is_dir() && !is_folder_of_drop_ins(path);
    let (folders, files): (Vec<&Path>, Vec<&Path>) =
        paths.iter().map(PathBuf::as_path).partition(|path| is_folder(path));
    let folders = asked::folders(&folders);
    let mut report = Report::default();
    let machine = Machine::any();
    let nothing =
        |dir: &Path, what: &str| source::whole(dir, Severity::Warning, format!("no {what} is in this folder"));
    if !folders.is_empty() {
        let read = set::lint(&folders, &machine);
        let empty = folders.iter().filter(|dir| !read.0.read.iter().any(|unit| unit.path.starts_with(dir)));
        report.problems.extend(empty.map(|dir| nothing(dir, "unit file")));
        report.add(read, None);
    }
    let is_empty = |dir: &&&Path| fs::read_dir(dir).is_ok_and(|mut list| list.next().is_none());
    report.problems.extend(files.iter().filter(is_empty).map(|dir| nothing(dir, "drop-in")));
    for (folder, group) in asked::group(&files, &folders, &mut report.problems) {
        report.add(set::lint(&[&folder], &machine), Some(&group));
    }
    report.problems.sort_by(|a, b| (&a.path, a.place).cmp(&(&b.path, b.place)));
    report
}

/// `cd web.container.d; orlop lint .` too.
fn is_folder_of_drop_ins(path: &Path) -> bool {
    std::path::absolute(path).is_ok_and(|path| source::is_of_drop_ins(&path))
}

impl Report {
    /// All of the folders, or what belongs to these files.
    fn add(&mut self, (drafts, set): (Drafts, UnitSet), asked: Option<&Group>) {
        let is_asked = |path: &Path| asked.is_none_or(|asked| asked.files.contains(path));
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
        // That its folder has no effect is said of a drop-in too.
        let conf = |path: &&PathBuf| path.extension() == Some(OsStr::new("conf"));
        let files = asked.iter().flat_map(|asked| &asked.files);
        let owners: BTreeSet<&Path> = files.filter(conf).filter_map(|path| path.parent()).collect();
        let belongs = |problem: &&Problem| {
            let of_folder = |dir: &Path| is_asked(dir) || is_asked(&dir.with_extension(""));
            is_asked(&problem.path)
                || drop_ins.contains(problem.path.as_path())
                || owners.contains(problem.path.as_path())
                || problem.path.parent().is_some_and(of_folder)
                || circles.contains(problem)
        };
        for problem in set.problems.iter().filter(belongs) {
            let path = asked.map_or_else(|| problem.path.clone(), |asked| asked.shown(&problem.path));
            let path = path.strip_prefix("./").map(Path::to_path_buf).unwrap_or(path);
            self.problems.push(Problem { path, ..problem.clone() });
        }
    }
}

/// What could drive a terminal, or turn the reading direction.
pub fn drives(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The line that is meant, and a marker under the place. Tabs stay tabs, so that the marker stands right; what would drive a
/// terminal takes one column too.
pub fn excerpt(place: Place, lines: &[&str]) -> Option<(String, String)> {
    const WIDTH: usize = 160;
    let Place { line, column, width } = place;
    let line = lines.get((line as usize).checked_sub(1)?)?.trim_start_matches('\u{feff}');
    let start = (column as usize).saturating_sub(1);
    // A very long line is shown from shortly before the place.
    let skip = if start > WIDTH / 2 { start - WIDTH / 4 } else { 0 };
    let clean = |c: char| if c != '\t' && drives(c) { '\u{fffd}' } else { c };
    let shown: String = line.chars().skip(skip).take(WIDTH).map(clean).collect();
    let indent: String = shown.chars().take(start - skip).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let room = shown.chars().count().saturating_sub(start - skip).max(1);
    Some((shown, format!("{indent}{}", "^".repeat((width as usize).clamp(1, room)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(place: (u32, u32, u32), text: &str) -> Option<(String, String)> {
        let lines: Vec<&str> = text.lines().collect();
        super::excerpt(Place { line: place.0, column: place.1, width: place.2 }, &lines)
    }

    #[test]
    fn the_marker_stands_under_the_place() {
        let text = "[Container]\n\tMemory=6x\n";
        assert_eq!(excerpt((2, 9, 2), text), Some(("\tMemory=6x".into(), "\t       ^^".into())));
        assert_eq!(excerpt((2, 9, 99), text).unwrap().1, "\t       ^^");
        assert_eq!(excerpt((0, 0, 0), text), None);
        assert_eq!(excerpt((9, 1, 1), text), None);
        let long = format!("Environment={}", "ä".repeat(5000));
        let (shown, marker) = excerpt((1, 4000, 3), &long).unwrap();
        assert!(shown.chars().count() <= 160 && marker.trim_start() == "^^^");
        assert_eq!(excerpt((1, 3, 1), "a\u{1b}[2Jb").unwrap().0, "a\u{fffd}[2Jb");
        assert_eq!(excerpt((1, 3, 1), "a\u{202e}b"), Some(("a\u{fffd}b".into(), "  ^".into())));
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
        write("db.container", "[Container]\nNetwork=none\n");
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

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        }

        fn said(&self, names: &[&str]) -> Vec<String> {
            let paths: Vec<PathBuf> = names.iter().map(|name| self.0.path().join(name)).collect();
            let base = format!("{}/", self.0.path().display());
            check(&paths).problems.iter().map(|problem| problem.to_string().replace(&base, "")).collect()
        }
    }

    const GOOD: &str = "[Container]\nImage=localhost/x\nNetwork=none\n";

    /// What the machine reads together is read together, whoever asks for how little of it.
    #[test]
    fn a_file_in_a_folder_in_a_folder_knows_those_above() {
        let dir = Folder::new();
        dir.write("f/db.container", GOOD);
        dir.write("f/apps/web.container", &format!("{GOOD}[Unit]\nRequires=db.container\n"));
        assert_eq!(dir.said(&["f/apps/web.container"]), Vec::<String>::new());
        dir.write("f/container.d/10.conf", "[Container]\nMemry=1\n");
        assert_eq!(dir.said(&["f/apps/web.container"]).len(), 1);
        assert_eq!(dir.said(&["f/apps/web.container"]), dir.said(&["f"]));
        // A folder without units ends it, but for the machine's own name.
        dir.write("g/db.container", GOOD);
        let web = format!("{GOOD}[Unit]\nRequires=db.container\n");
        dir.write("g/between/apps/web.container", &web);
        assert_eq!(dir.said(&["g/between/apps/web.container"]).len(), 1);
        dir.write("h/containers.d/db.container", GOOD);
        dir.write("h/containers.d/between/apps/web.container", &web);
        assert_eq!(dir.said(&["h/containers.d/between/apps/web.container"]), Vec::<String>::new());
        // What is not read from above answers all the same.
        dir.write("f/.hidden/bad.container", "[Container]\n");
        assert_eq!(check(&[dir.0.path().join("f/.hidden/bad.container")]).broken, 1);
    }

    #[test]
    fn nothing_is_told_or_counted_twice() {
        let dir = Folder::new();
        let bad = dir.write("m/b.container", "[Container]\nNetwork=none\n");
        let folder = bad.parent().unwrap().to_path_buf();
        let spelt = folder.join("../m/b.container");
        std::os::unix::fs::symlink("m", dir.0.path().join("link")).unwrap();
        let link = dir.0.path().join("link");
        for paths in [
            vec![bad.clone(), folder.clone()],
            vec![bad.clone(), spelt],
            vec![folder, link.clone()],
            vec![link.join("b.container"), bad],
        ] {
            let report = check(&paths);
            assert_eq!((report.broken, report.errors()), (1, 1), "{paths:?}");
        }
    }

    #[test]
    fn a_folder_of_drop_ins_stands_for_the_files_in_it() {
        let dir = Folder::new();
        dir.write("web.container", GOOD);
        dir.write("container.d/10.conf", "[Container]\nMemry=1\n");
        dir.write("web.container.d/20.conf", "[Container]\nImge=x\n");
        assert!(dir.said(&["container.d"])[0].starts_with("container.d/10.conf:2:1: unknown key Memry="));
        assert_eq!((dir.said(&["container.d"]).len(), dir.said(&["web.container.d"]).len()), (1, 1));
        fs::create_dir(dir.0.path().join("volume.d")).unwrap();
        assert_eq!(
            dir.said(&["volume.d"]),
            [
                "volume.d: warning: no drop-in is in this folder",
                "volume.d: warning: drop-ins without effect: there is no ….volume"
            ]
        );
        dir.write("shop-.container.d/10.conf", "# nothing");
        let without = "shop-.container.d: warning: drop-ins without effect: there is no shop-….container";
        assert_eq!(dir.said(&["shop-.container.d/10.conf"]), [without]);
    }

    /// "All errors of all files", those of drop-ins that no unit here reads too.
    #[test]
    fn drop_ins_of_nobody_answer_for_themselves() {
        let dir = Folder::new();
        dir.write("web.container", GOOD);
        dir.write("job@.container", GOOD);
        dir.write("zed.container.d/10.conf", "[Container]\nMemry=1\nReadOnly=maybe\nnonsense\n");
        dir.write("job@one.container.d/10.conf", "[Contaner]\n");
        let said = [
            "./job@one.container.d: warning: no file names this instance of job@.container: these drop-ins apply when somebody starts it",
            "./job@one.container.d/10.conf:1:2: unknown section [Contaner]; did you mean [Container]?",
            "./zed.container.d: warning: drop-ins without effect: there is no zed.container",
            "./zed.container.d/10.conf:2:1: unknown key Memry= in [Container]; did you mean Memory=?",
            "./zed.container.d/10.conf:4:1: neither a [Section], a comment nor Key=value; a line that goes on needs a backslash at its end",
        ];
        let all = dir.said(&["."]);
        assert_eq!(all.iter().map(|line| line.split(" (").next().unwrap()).collect::<Vec<_>>(), said);
        assert_eq!(dir.said(&["zed.container.d"]).len(), 3);
        assert_eq!(dir.said(&["web.container"]), Vec::<String>::new());
        // A file of the instance's own name has the template's drop-ins, and there is no template.
        let dir = Folder::new();
        dir.write("a@x-y.container", GOOD);
        dir.write("a@.container.d/2.conf", "[Container]\nMemry=1\n");
        let one = dir.said(&["."]);
        assert!(one.len() == 1 && one[0].contains("a@.container.d/2.conf:2:1: unknown key"), "{one:?}");
        // Used by an instance that another unit names.
        let dir = Folder::new();
        dir.write("web.container", &format!("{GOOD}[Unit]\nWants=job@one.service\n"));
        dir.write("job@.container", GOOD);
        dir.write("job@one.container.d/10.conf", "[Container]\nReadOnly=yes\n");
        dir.write("container.d/10.conf", "");
        dir.write("web-.container.d/10.conf", "");
        assert_eq!(
            dir.said(&["."]),
            ["./web-.container.d: warning: drop-ins without effect: there is no web-….container"]
        );
    }

    #[test]
    fn folders_that_look_like_drop_ins_are_told() {
        let dir = Folder::new();
        dir.write("a.container", GOOD);
        for name in ["a.service.d", "service.d", "a.contaner.d", "containers.d", "zz.d", "a.container.d"] {
            dir.write(&format!("{name}/10.conf"), "");
        }
        dir.write("other.d/b.container", GOOD);
        dir.write(".c.container", GOOD);
        let why =
            "warning: its .conf files are left out: drop-ins lie in folders such as web.container.d or container.d";
        let expected = [
            ".c.container: warning: left out: its name begins with a dot".to_owned(),
            format!("a.contaner.d: {why}; did you mean a.container.d?"),
            format!("a.service.d: {why}; did you mean a.container.d?"),
            format!("containers.d: {why}; did you mean container.d?"),
            format!("service.d: {why}; did you mean container.d?"),
            format!("zz.d: {why}"),
        ];
        assert_eq!(dir.said(&["."]), expected.map(|line| format!("./{line}")));
    }

    /// Podman takes the first on its way down; all others are told who that is.
    #[test]
    fn of_three_files_of_one_name_the_one_that_counts_is_named() {
        let dir = Folder::new();
        for path in ["f/a/z.container", "f/b/z.container", "f/c/z.container"] {
            dir.write(path, GOOD);
        }
        let says = |path: &str| format!("{path}: warning: left out: f/a/z.container has the same name");
        assert_eq!(dir.said(&["f"]), [says("f/b/z.container"), says("f/c/z.container")]);
    }

    #[test]
    fn a_walk_has_an_end() {
        let dir = Folder::new();
        dir.write("top/f/a.container", GOOD);
        dir.write("top/b.container", GOOD);
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, dir.0.path().join(name)).unwrap();
        link("..", "top/f/up");
        link("/", "top/f/all");
        let above = "warning: left out: the link leads to a folder that all of this lies in";
        assert_eq!(dir.said(&["top/f"]), [format!("top/f/all: {above}"), format!("top/f/up: {above}")]);
        dir.write(&format!("deep/{}x.container", "d/".repeat(17)), GOOD);
        assert!(dir.said(&["deep"])[1].contains("16 folders deep"), "{:?}", dir.said(&["deep"]));
        for i in 0..1001 {
            fs::create_dir_all(dir.0.path().join(format!("wide/{i}"))).unwrap();
        }
        assert!(dir.said(&["wide"]).iter().any(|line| line.contains("1000 folders were read")));
    }
}
