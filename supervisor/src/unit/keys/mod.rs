//! Every key of the unit language and what becomes of it: the one table that parser, documentation and suggestions share.

mod container;
mod kinds;
mod service;
mod timer;
mod unit;
mod value;

pub(super) use value::Value;

use std::{collections::HashMap, sync::LazyLock};

use super::{Kind, nearest::nearest};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// Means what the manuals say, once this version honours it.
    Supported(Honoured),
    /// Taken, and nothing follows from it: why that is right.
    Inert(&'static str),
    /// Cannot be honoured here: why, and what to write instead.
    Refused(&'static str),
}

/// The column of what runs: a value that is read and typed, and that nothing acts upon yet, is an error and no promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Honoured {
    Yes,
    /// These values, which say what holds anyway or is all that is built; others are known and not available.
    Only(&'static [&'static str]),
    /// Refused in this version, with what to write until then, or nothing; the value is read and checked all the same.
    No(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) value: Value,
    pub(super) status: Status,
}

/// What an empty assignment of a key takes back, in the manuals' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reset {
    /// Its own values.
    Own,
    /// Those of all keys of the section whose names begin so.
    All(&'static [&'static str]),
    /// "Dependencies (After=, etc.) cannot be reset to an empty list", systemd.unit(5).
    Nothing,
    /// The empty value says something itself.
    Never,
}

impl Key {
    pub(super) fn reset(&self) -> Reset {
        match (self.section, self.name) {
            // `podman run --entrypoint=`: none at all.
            ("Container", "Entrypoint") => Reset::Never,
            // "the list of conditions is reset completely, all previous condition settings (of any kind)"; of assertions alike.
            ("Unit", name) if name.starts_with("Condition") => Reset::All(&["Condition"]),
            ("Unit", name) if name.starts_with("Assert") => Reset::All(&["Assert"]),
            ("Unit", _) if matches!(self.value, Value::Own("units") | Value::Units) => Reset::Nothing,
            // "the list of timers is reset (both monotonic timers and OnCalendar= timers)"
            ("Timer", name) if TIMES.contains(&name) => Reset::All(&TIMES),
            // "the list of addresses to listen on is reset"
            ("Socket", name) if name.starts_with("Listen") => Reset::All(&["Listen"]),
            _ => Reset::Own,
        }
    }
}

/// When a timer starts its unit.
pub(super) const TIMES: [&str; 6] =
    ["OnCalendar", "OnActiveSec", "OnBootSec", "OnStartupSec", "OnUnitActiveSec", "OnUnitInactiveSec"];

/// Rows of one section that share a status.
struct Rows {
    status: Status,
    value: Value,
    /// Names with spaces between them.
    names: &'static str,
}

const fn yes(value: Value, names: &'static str) -> Rows {
    Rows { status: Status::Supported(Honoured::Yes), value, names }
}

const fn only(values: &'static [&'static str], value: Value, names: &'static str) -> Rows {
    Rows { status: Status::Supported(Honoured::Only(values)), value, names }
}

const fn later(hint: &'static str, value: Value, names: &'static str) -> Rows {
    Rows { status: Status::Supported(Honoured::No(hint)), value, names }
}

const fn inert(why: &'static str, value: Value, names: &'static str) -> Rows {
    Rows { status: Status::Inert(why), value, names }
}

const fn refused(why: &'static str, names: &'static str) -> Rows {
    Rows { status: Status::Refused(why), value: Value::Text, names }
}

pub(super) struct Section {
    pub(super) name: &'static str,
    /// Where it comes from.
    pub(super) manual: &'static str,
    rows: &'static [&'static [Rows]],
}

pub(super) const SECTIONS: [Section; 11] = [
    Section { name: "Container", manual: "podman-systemd.unit(5)", rows: &[container::CONTAINER] },
    Section { name: "Pod", manual: "podman-systemd.unit(5)", rows: &[kinds::POD] },
    Section { name: "Network", manual: "podman-systemd.unit(5)", rows: &[kinds::NETWORK] },
    Section { name: "Volume", manual: "podman-systemd.unit(5)", rows: &[kinds::VOLUME] },
    Section { name: "Image", manual: "podman-systemd.unit(5)", rows: &[kinds::IMAGE] },
    Section { name: "Quadlet", manual: "podman-systemd.unit(5)", rows: &[kinds::QUADLET] },
    Section { name: "Unit", manual: "systemd.unit(5)", rows: &[unit::UNIT, unit::CONDITIONS] },
    Section {
        name: "Service",
        manual: "systemd.service(5), systemd.exec(5), systemd.kill(5), systemd.resource-control(5)",
        rows: &[service::SERVICE, service::RESOURCES, service::EXEC],
    },
    Section { name: "Timer", manual: "systemd.timer(5)", rows: &[timer::TIMER] },
    Section {
        name: "Socket",
        manual: "systemd.socket(5), systemd.exec(5), systemd.kill(5), systemd.resource-control(5)",
        rows: &[timer::SOCKET, timer::PROCESSES],
    },
    Section { name: "Install", manual: "systemd.unit(5)", rows: &[unit::INSTALL] },
];

pub(super) fn all() -> impl Iterator<Item = Key> {
    SECTIONS.iter().flat_map(Section::keys)
}

impl Section {
    pub(super) fn keys(&'static self) -> impl Iterator<Item = Key> {
        self.rows.iter().copied().flatten().flat_map(|rows| {
            rows.names.split_ascii_whitespace().map(|name| Key {
                section: self.name,
                name,
                value: rows.value,
                status: rows.status,
            })
        })
    }
}

/// Ten thousand units ask a hundred thousand times.
static BY_NAME: LazyLock<HashMap<(&str, &str), Key>> =
    LazyLock::new(|| all().map(|key| ((key.section, key.name), key)).collect());

pub(super) fn find(section: &str, name: &str) -> Option<Key> {
    BY_NAME.get(&(section, name)).copied()
}

pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|section| section.name == name)
}

pub(super) fn nearest_section(name: &str, kind: Kind) -> Option<&'static str> {
    nearest(name, kind.sections().iter().copied())
}

/// What a key that is not in the section's rows was probably meant to be.
pub(super) enum Guess {
    /// It exists, in another section.
    Section(&'static str),
    /// This one.
    Name(&'static str),
    Nothing,
}

pub(super) fn guess(section: &str, name: &str, kind: Kind) -> Guess {
    let near = nearest(name, all().filter(|key| key.section == section).map(|key| key.name));
    // Another section's key beats a distant guess in this one: MemoryMax= in [Container] is no misspelt Memory=.
    let here = |key: &Key| kind.sections().contains(&key.section) && key.section != section;
    if let Some(key) = all().find(|key| key.name == name && here(key))
        && !near.is_some_and(|near| near.eq_ignore_ascii_case(name))
    {
        return Guess::Section(key.section);
    }
    near.map_or(Guess::Nothing, Guess::Name)
}

/// `PathExists`, …: what the running side has to be able to ask.
#[cfg(test)]
pub(crate) fn condition_checks() -> Vec<&'static str> {
    let asked = |key: &Key| key.section == "Unit" && matches!(key.status, Status::Supported(_));
    all().filter(asked).filter_map(|key| key.name.strip_prefix("Condition")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_key_has_two_rows() {
        let mut seen = BTreeSet::new();
        for key in all() {
            assert!(seen.insert((key.section, key.name)), "[{}] {}=", key.section, key.name);
        }
    }

    /// The manuals' own lists are kept: no row of theirs can get lost.
    #[test]
    fn every_key_of_the_manuals_has_a_row() {
        let mut sections: Vec<&str> = Vec::new();
        let mut names = 0;
        for line in include_str!("../fixtures/manuals.txt").lines().filter(|line| !line.starts_with('#')) {
            match line.split_once(" | ") {
                Some((_, of)) => sections = of.split(' ').collect(),
                None => {
                    for (name, section) in
                        line.split_ascii_whitespace().flat_map(|n| sections.iter().map(move |s| (n, s)))
                    {
                        assert!(find(section, name).is_some(), "[{section}] {name}=");
                        names += 1;
                    }
                }
            }
        }
        assert!(SECTIONS.iter().all(|s| s.keys().next().is_some()) && names > 850, "{names}");
    }

    #[test]
    fn guesses() {
        let guess = |section, name| guess(section, name, Kind::Container);
        assert!(matches!(guess("Container", "Restart"), Guess::Section("Service")));
        assert!(matches!(guess("Container", "Enviroment"), Guess::Name("Environment")));
        assert!(matches!(guess("Container", "image"), Guess::Name("Image")));
        assert!(matches!(guess("Container", "Zzzzzz"), Guess::Nothing));
        assert!(matches!(guess("Container", "OnCalendar"), Guess::Nothing));
    }
}
