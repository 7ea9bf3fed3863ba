//! Unit files that say in comments what becomes of their lines. `##` speaks of the next line that is no comment:
//! `## error: words` and `## warning: words` (the sentence has these words), `## later` (right, and possibly not available in this version, which the table of keys decides),
//! `## is /place = value` (what config.json has there). A line of which nothing is said is right. `#---` begins a new unit that
//! has the lines before the first such comment too.

use std::path::Path;

use super::{language, spec::config_of, units};
use crate::unit::{Problem, Severity, UnitSet};

#[derive(Default)]
struct Expected {
    /// Severity and words, by line.
    problems: Vec<(u32, Severity, String)>,
    later: Vec<u32>,
    is: Vec<(String, serde_json::Value)>,
}

fn parts(text: &str) -> Vec<Vec<(u32, &str)>> {
    let mut parts: Vec<Vec<(u32, &str)>> = vec![Vec::new()];
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("#---") {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push((u32::try_from(index + 1).unwrap(), line));
        }
    }
    parts
}

fn expected(lines: &[(u32, &str)]) -> Expected {
    let mut found = Expected::default();
    let mut pending: Vec<&str> = Vec::new();
    for (number, line) in lines {
        if let Some(said) = line.strip_prefix("## ") {
            pending.push(said);
        } else if !line.starts_with('#') {
            for said in pending.drain(..) {
                match said.split_once(' ') {
                    None if said == "later" => found.later.push(*number),
                    Some(("error:", words)) => found.problems.push((*number, Severity::Error, words.to_owned())),
                    Some(("warning:", words)) => found.problems.push((*number, Severity::Warning, words.to_owned())),
                    Some(("is", rest)) => {
                        let (place, value) = rest.split_once(" = ").unwrap_or_else(|| panic!("{said}"));
                        found
                            .is
                            .push((place.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| panic!("{said}"))));
                    }
                    _ => panic!("{number}: {said}"),
                }
            }
        }
    }
    found
}

/// What was found and not expected, or expected and not found.
fn compare(wrong: &mut Vec<String>, problems: &[Problem], expected: &[(u32, Severity, String)], name: &str) {
    let mut left: Vec<&(u32, Severity, String)> = expected.iter().collect();
    for problem in problems {
        let fits = |(line, severity, words): &&(u32, Severity, String)| {
            *line == problem.place.line && *severity == problem.severity && problem.text.contains(words.as_str())
        };
        match left.iter().position(fits) {
            Some(at) => drop(left.remove(at)),
            None => wrong.push(format!("{name}: not expected: {problem}")),
        }
    }
    wrong.extend(left.iter().map(|(line, severity, words)| format!("{name}:{line}: not found: {severity:?} {words}")));
}

#[test]
fn every_line_of_the_fixtures_is_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/unit/fixtures");
    let mut wrong = Vec::new();
    let mut cases = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (stem, suffix) = (path.file_stem().unwrap().to_str().unwrap(), path.extension().unwrap().to_str().unwrap());
        if suffix == "txt" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let parts = parts(&text);
        let (head, rest) = parts.split_first().unwrap();
        let none = [Vec::new()];
        for part in if rest.is_empty() { &none } else { rest } {
            let mut lines: Vec<&str> = vec![""; text.lines().count()];
            for (number, line) in head.iter().chain(part) {
                lines[*number as usize - 1] = line;
            }
            let case = lines.join("\n");
            let both: Vec<(u32, &str)> = head.iter().chain(part).copied().collect();
            let expected = expected(&both);
            let name = format!("{stem}.{suffix}");
            // What others name, and what every kind of file can be named with.
            let all = [
                (name.as_str(), case.as_str()),
                ("other.container", "[Container]\nImage=localhost/other\nNetwork=none\nContainerName=other\n"),
                ("data.volume", "[Volume]\n"),
                ("base.image", "[Image]\nImage=docker.io/library/base:1\n"),
                ("net.network", "[Network]\n"),
                ("app.pod", "[Pod]\n"),
            ];
            let own =
                |set: UnitSet| set.problems.into_iter().filter(|p| p.path == Path::new(&name)).collect::<Vec<_>>();
            let with_header = |p: &Problem| !p.text.starts_with('.');
            let is_later = |p: &Problem| {
                expected.later.contains(&p.place.line) && p.text.contains("not available in this version")
            };
            let found = own(units(&all)).into_iter().filter(|p| with_header(p) && !is_later(p));
            let found: Vec<Problem> = found.collect();
            compare(&mut wrong, &found, &expected.problems, &name);
            let set = language(&all);
            if !expected.is.is_empty() {
                let unit = &set.units[stem];
                let config = config_of(unit);
                for (place, value) in &expected.is {
                    let is = config.pointer(place).cloned().unwrap_or_default();
                    if is != *value {
                        wrong.push(format!("{name}:{}: {place} is {is}, not {value}", both.last().unwrap().0));
                    }
                }
            }
            compare(&mut wrong, &own(set), &expected.problems, &format!("{name} (language)"));
            cases += 1;
        }
    }
    assert!(wrong.is_empty() && cases > 1, "{}", wrong.join("\n"));
}
