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
    let ran = lint(&["nowhere.container"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.starts_with("nowhere.container: cannot read the file"), "{}", ran.out);
}
