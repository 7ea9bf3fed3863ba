//! `orlop lint` as its users run it: a folder of twenty units as people have them on their Podman hosts, and one of twenty with the
//! mistakes that people make. What it prints is kept in full beside them; after a wanted change it is written anew by
//! `cd supervisor/tests/lint; orlop lint broken > broken.txt; orlop lint broken --json > broken.json`.

#![allow(clippy::unwrap_used)] // tests are exempt, their helpers too

use std::{fs, path::Path, process::Command};

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

fn lint(words: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orlop"));
    let output = command.arg("lint").args(words).current_dir(folder()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lint"))
}

fn kept(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap()
}

fn files(of: &str) -> Vec<String> {
    let entries = fs::read_dir(folder().join(of)).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn twenty_good_units_are_good() {
    assert_eq!(files("good").len(), 20);
    let ran = lint(&["good"]);
    assert_eq!((ran.out.as_str(), ran.err.as_str(), ran.code), ("20 units: 0 errors, 0 warnings\n", "", Some(0)));
    let ran = lint(&["good", "--json"]);
    assert_eq!((ran.out.as_str(), ran.code), ("[]\n", Some(0)));
}

#[test]
fn every_mistake_of_twenty_broken_units_is_told_at_its_place() {
    assert_eq!(files("broken").len(), 20);
    let ran = lint(&["broken"]);
    assert_eq!((ran.out, ran.err.as_str(), ran.code), (kept("broken.txt"), "", Some(1)));
    let ran = lint(&["broken", "--json"]);
    assert_eq!((ran.out.as_str(), ran.code), (kept("broken.json").as_str(), Some(1)));
    // Each of them is among those that have errors.
    let found: Vec<serde_json::Value> = serde_json::from_str(&ran.out).unwrap();
    for file in files("broken") {
        let its = |one: &&serde_json::Value| one["file"] == format!("broken/{file}") && one["severity"] == "error";
        // A circle is told at one of its units.
        let circle = file.starts_with("immich");
        assert!(circle || found.iter().any(|one| its(&one)), "{file}");
    }
}

/// Asked for one file, it answers for that file, and knows its neighbours.
#[test]
fn one_file_answers_for_itself() {
    let all = kept("broken.txt");
    let ran = lint(&["broken/nextcloud.container"]);
    assert_eq!(ran.code, Some(1));
    for line in ran.out.lines().filter(|line| line.starts_with("broken/")) {
        assert!(line.starts_with("broken/nextcloud.container:") && all.contains(line), "{line}");
    }
    assert_eq!(lint(&["good/nextcloud.container"]).out, "1 unit: 0 errors, 0 warnings\n");
}

#[test]
fn a_wrong_command_line_is_no_finding() {
    let ran = lint(&["--wrong"]);
    assert!(ran.out.is_empty() && ran.err.contains("--wrong") && ran.code == Some(2), "{} {:?}", ran.err, ran.code);
    // Nor is what cannot be looked at.
    let ran = lint(&["nowhere.container", "broken/postgres.container"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.out.contains("\nnowhere.container: cannot read the file"), "{}", ran.out);
    assert!(ran.out.contains("broken/postgres.container:2:7: "), "{}", ran.out);
}

/// From below the folder that is read, with names from there.
#[test]
fn names_are_those_of_whoever_asks() {
    let dir = tempfile::tempdir().unwrap();
    let (apps, drop_ins) = (dir.path().join("f/apps"), dir.path().join("f/apps/web.container.d"));
    fs::create_dir_all(&drop_ins).unwrap();
    let unit = |lines: &str| format!("[Container]\nImage=localhost/x\nNetwork=none\n{lines}\n");
    fs::write(dir.path().join("f/db.container"), unit("")).unwrap();
    fs::write(apps.join("web.container"), unit("Memry=1\n[Unit]\nRequires=db.container")).unwrap();
    fs::write(drop_ins.join("10.conf"), "[Container]\nImge=x\n").unwrap();
    let lint = |dir: &Path, words: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_orlop")).arg("lint").args(words).current_dir(dir).output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let places = out.lines().filter_map(|line| line.split_once(": unknown key").map(|(place, _)| place.to_owned()));
        places.collect::<Vec<_>>()
    };
    assert_eq!(lint(&apps, &["web.container"]), ["web.container:4:1", "web.container.d/10.conf:2:1"]);
    assert_eq!(lint(&drop_ins, &["."]), ["10.conf:2:1"]);
    assert_eq!(lint(&drop_ins, &["10.conf"]), ["10.conf:2:1"]);
    let all = ["f/apps/web.container:4:1", "f/apps/web.container.d/10.conf:2:1"];
    assert_eq!(lint(dir.path(), &["./f/apps/web.container"]), all);
    assert_eq!(lint(dir.path(), &["f"]), all);
    let beside = ["../web.container:4:1", "../web.container.d/10.conf:2:1"];
    assert_eq!(lint(&drop_ins, &["../web.container"]), beside);
    let ran =
        Command::new(env!("CARGO_BIN_EXE_orlop")).args(["lint", "../web.container"]).current_dir(&drop_ins).output();
    assert!(!String::from_utf8(ran.unwrap().stdout).unwrap().contains("there is no db.container"));
}

/// Each finding is one line, whatever the file is called and whatever reads it.
#[test]
fn a_name_with_a_line_end_is_no_second_finding() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("nl\nx.container"), "[Container]\n\u{1b}[2J\u{202e}=1\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_orlop")).args(["lint", "."]).current_dir(&dir).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.lines().all(|line| !line.starts_with("x.container")) && out.contains("nl\\x0ax.container"), "{out}");
    assert!(!out.contains(['\u{1b}', '\u{202e}']), "{out:?}");
}
