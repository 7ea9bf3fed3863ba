//! Unit files that say in comments what becomes of their lines. `##` speaks of the next line that is no comment:
//! `## error: words` and `## warning: words` (the sentence has these words), `## later` (right, and not available in this version),
//! `## is /place = value` (what config.json has there). A line of which nothing is said is right. `#---` begins a new unit that
//! has the lines before the first such comment too.

use std::{collections::BTreeSet, path::Path};

use super::{language, spec::config_of, units};
use crate::unit::{
    Problem, Severity, UnitSet,
    keys::{self, Key},
};

/// The fixtures' names and texts.
fn fixtures() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/unit/fixtures");
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let units = paths.filter(|path| path.extension().unwrap() != "txt");
    units
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(&path).unwrap()))
        .collect()
}

/// What others name, and what every kind of file can be named with.
const NEIGHBOURS: [(&str, &str); 5] = [
    ("other.container", "[Container]\nImage=localhost/other\nNetwork=none\nContainerName=other\n"),
    ("data.volume", "[Volume]\n"),
    ("base.image", "[Image]\nImage=docker.io/library/base:1\n"),
    ("net.network", "[Network]\nIPv6=true\n"),
    ("app.pod", "[Pod]\nNetwork=none\n"),
];

/// Section and key of each line that sets one, and the line's index.
fn keys_of<'a>(lines: &[(u32, &'a str)]) -> Vec<(usize, &'a str, &'a str)> {
    let mut section = "";
    let mut found = Vec::new();
    for (index, (_, line)) in lines.iter().enumerate() {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            found.push((index, section, key));
        }
    }
    found
}

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
    let mut wrong = Vec::new();
    let mut cases = 0;
    for (name, text) in fixtures() {
        let stem = name.split('.').next().unwrap();
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
            let mut all = NEIGHBOURS.to_vec();
            all.push((name.as_str(), case.as_str()));
            let own =
                |set: UnitSet| set.problems.into_iter().filter(|p| p.path == Path::new(&name)).collect::<Vec<_>>();
            let with_header = |p: &Problem| !p.text.starts_with('.');
            let is_later = |p: &Problem| {
                expected.later.contains(&p.place.line) && p.text.contains("not available in this version")
            };
            let strict = own(units(&all));
            for line in &expected.later {
                let said = |p: &Problem| p.place.line == *line && p.text.contains("not available in this version");
                if !strict.iter().any(said) && !expected.problems.iter().any(|(of, ..)| of == line) {
                    wrong.push(format!("{name}:{line}: is not `later` any more"));
                }
            }
            let found = strict.into_iter().filter(|p| with_header(p) && !is_later(p));
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

/// Every key of the table has a line that is right, and one that is not.
#[test]
fn every_key_has_two_fixtures() {
    let mut seen: BTreeSet<(String, String, bool)> = BTreeSet::new();
    for (_, text) in fixtures() {
        let parts = parts(&text);
        for part in &parts {
            let both: Vec<(u32, &str)> =
                if std::ptr::eq(part, &parts[0]) { part.clone() } else { [&parts[0][..], part].concat() };
            let expected = expected(&both);
            for (index, section, key) in keys_of(&both) {
                let number = both[index].0;
                let wrong =
                    expected.problems.iter().any(|(line, severity, _)| *line == number && *severity == Severity::Error);
                seen.insert((section.to_owned(), key.to_owned(), !wrong));
            }
        }
    }
    let has = |key: &Key, right| seen.contains(&(key.section.to_owned(), key.name.to_owned(), right));
    let missing: Vec<String> = keys::all()
        .filter(|key| !has(key, true) || !has(key, false))
        .map(|key| format!("[{}] {}=", key.section, key.name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// A key that changes config.json says in a fixture what it makes of it. Which keys do is found by leaving out each in turn, and so is
/// whether what a fixture says of config.json holds only with the key.
#[test]
fn every_key_of_the_config_has_its_golden_line() {
    let (mut changing, mut golden) = (BTreeSet::new(), BTreeSet::new());
    for (file, text) in fixtures().into_iter().filter(|(name, _)| name.ends_with(".container")) {
        let parts = parts(&text);
        let is_list = ["container-keys.container", "service-keys.container"].contains(&file.as_str());
        for part in &parts[1..] {
            let lines = [&parts[0][..], part].concat();
            let said = expected(&lines);
            let is_list = is_list && said.problems.is_empty();
            if said.is.is_empty() && !is_list {
                continue;
            }
            let config = |left_out: Option<usize>| {
                let kept = lines.iter().enumerate().filter(|(index, _)| Some(*index) != left_out);
                let text = kept.map(|(_, (_, line))| *line).collect::<Vec<_>>().join("\n");
                let mut all = NEIGHBOURS.to_vec();
                all.push((&file, &text));
                language(&all).units.get(file.split('.').next().unwrap()).map(config_of)
            };
            let whole = config(None);
            assert!(whole.is_some(), "{file}: {part:?}");
            for (index, section, key) in keys_of(&lines) {
                let Some(without) = config(Some(index)) else { continue };
                let name = (section.to_owned(), key.to_owned());
                if said.is.iter().any(|(place, is)| without.pointer(place).cloned().unwrap_or_default() != *is) {
                    golden.insert(name.clone());
                }
                if is_list && Some(without) != whole {
                    changing.insert(name);
                }
            }
        }
    }
    assert!(changing.len() > 40, "{changing:?}");
    let missing: Vec<_> = changing.difference(&golden).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What is read of all files; not where it is said.
fn model(file: &str, lines: &[(u32, &str)], left_out: Option<usize>) -> Option<String> {
    let kept = lines.iter().enumerate().filter(|(index, _)| Some(*index) != left_out);
    let text = kept.map(|(_, (_, line))| *line).collect::<Vec<_>>().join("\n");
    let mut all = NEIGHBOURS.to_vec();
    all.push((file, &text));
    let mut set = language(&all);
    set.problems.retain(|problem| problem.path == Path::new(file) && problem.is_error());
    if !set.problems.is_empty() {
        return None;
    }
    set.units.values_mut().for_each(|unit| unit.origins.clear());
    set.pods.values_mut().for_each(|unit| unit.origins.clear());
    set.volumes.values_mut().for_each(|unit| unit.origins.clear());
    set.networks.values_mut().for_each(|unit| unit.origins.clear());
    set.images.values_mut().for_each(|unit| unit.origins.clear());
    set.timers.values_mut().for_each(|unit| unit.origins.clear());
    set.sockets.values_mut().for_each(|unit| unit.origins.clear());
    let (units, pods, timers, sockets) = (set.units, set.pods, set.timers, set.sockets);
    Some(format!("{units:?} {pods:?} {:?} {:?} {:?} {timers:?} {sockets:?}", set.volumes, set.networks, set.images))
}

fn is_honoured(key: &Key) -> bool {
    use keys::{Honoured, Status};
    matches!(key.status, Status::Supported(Honoured::Yes | Honoured::Only(_)))
}

/// Keys of which all that they can say holds anyway, and one that only a template has.
const HOLD: &[&str] = &[
    "[Container] AppArmor",
    "[Container] CgroupsMode",
    "[Container] EnvironmentHost",
    "[Container] HealthLogDestination",
    "[Container] HttpProxy",
    "[Container] ImageVolume",
    "[Container] RunInit",
    "[Image] OS",
    "[Install] DefaultInstance",
    "[Service] CoredumpReceive",
    "[Service] Delegate",
    "[Service] DevicePolicy",
    "[Service] ExitType",
    "[Service] FinalKillSignal",
    "[Service] KillMode",
    "[Service] ManagedOOMMemoryPressure",
    "[Service] ManagedOOMSwap",
    "[Service] MemoryPressureWatch",
    "[Service] NUMAPolicy",
    "[Service] NotifyAccess",
    "[Service] SendSIGHUP",
    "[Service] SendSIGKILL",
    "[Service] TimeoutStartFailureMode",
    "[Service] TimeoutStopFailureMode",
    "[Socket] AcceptFileDescriptors",
    "[Socket] BindIPv6Only",
    "[Socket] Broadcast",
    "[Socket] DeferTrigger",
    "[Socket] FlushPending",
    "[Socket] FreeBind",
    "[Socket] KeepAlive",
    "[Socket] NoDelay",
    "[Socket] PassCredentials",
    "[Socket] PassFileDescriptorsToExec",
    "[Socket] PassPIDFD",
    "[Socket] PassPacketInfo",
    "[Socket] PassSecurity",
    "[Socket] RemoveOnStop",
    "[Socket] ReusePort",
    "[Socket] Transparent",
    "[Socket] Writable",
    "[Unit] DefaultDependencies",
    "[Unit] JobRunningTimeoutSec",
    "[Unit] JobTimeoutAction",
    "[Unit] OnFailureJobMode",
    "[Unit] OnSuccessJobMode",
    "[Unit] SurviveFinalKillSignal",
];

#[test]
fn no_supported_key_is_read_and_dropped() {
    let mut acting = BTreeSet::new();
    for (file, text) in fixtures() {
        let parts = parts(&text);
        for part in if parts.len() > 1 { &parts[1..] } else { &parts[..] } {
            let lines = if parts.len() > 1 { [&parts[0][..], part].concat() } else { part.clone() };
            let (whole, head) = (model(&file, &lines, None), model(&file, &parts[0], None));
            for (index, section, key) in keys_of(&lines) {
                let left_out = || whole.is_some() && model(&file, &lines, Some(index)) != whole;
                // Beside others it may be taken back, or mean nothing.
                let header = format!("[{section}]");
                let alone = [&parts[0][..], &[(0, header.as_str()), lines[index]]].concat();
                let added = || head.is_some() && model(&file, &alone, None).is_some_and(|one| Some(one) != head);
                if !acting.contains(&format!("[{section}] {key}")) && (left_out() || added()) {
                    acting.insert(format!("[{section}] {key}"));
                }
            }
        }
    }
    let supported = keys::all().filter(is_honoured);
    let names: BTreeSet<String> = supported.map(|key| format!("[{}] {}", key.section, key.name)).collect();
    let holding: BTreeSet<String> = HOLD.iter().map(|&key| key.to_owned()).collect();
    let dropped: Vec<_> = names.difference(&acting).filter(|key| !holding.contains(*key)).collect();
    assert!(dropped.is_empty(), "{dropped:?}");
    let acts_all_the_same: Vec<_> = holding.intersection(&acting).collect();
    assert!(acts_all_the_same.is_empty(), "{acts_all_the_same:?}");
}
