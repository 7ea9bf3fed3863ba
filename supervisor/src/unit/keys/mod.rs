//! Every key of the unit language and what becomes of it: the one table that parser, documentation and suggestions share.

mod container;
mod service;
mod unit;

use super::nearest::nearest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Supported,
    /// Taken, and nothing follows from it: why that is right.
    Inert(&'static str),
    /// Taken when it says what holds anyway; other values are known and not available.
    Only(&'static [&'static str]),
    /// Known; comes with a later version. What to write until then, or nothing.
    NotYet(&'static str),
    /// Cannot be honoured here: why, and what to write instead.
    Refused(&'static str),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) status: Status,
}

/// Rows of one section that share a status.
struct Rows {
    status: Status,
    /// Names with spaces between them.
    names: &'static str,
}

struct Section {
    name: &'static str,
    rows: &'static [Rows],
}

const SECTIONS: [Section; 5] = [
    Section { name: "Container", rows: container::CONTAINER },
    Section { name: "Unit", rows: unit::UNIT },
    Section { name: "Service", rows: service::SERVICE },
    Section { name: "Install", rows: unit::INSTALL },
    Section { name: "Quadlet", rows: container::QUADLET },
];

/// Sections of Quadlet's other files, to tell a wrong place from an unknown word.
pub(super) const OTHER_SECTIONS: [&str; 9] =
    ["Volume", "Network", "Pod", "Image", "Build", "Kube", "Timer", "Socket", "Path"];

pub(super) fn all() -> impl Iterator<Item = Key> {
    SECTIONS.iter().flat_map(keys_of)
}

fn keys_of(section: &'static Section) -> impl Iterator<Item = Key> {
    section.rows.iter().flat_map(|rows| {
        rows.names.split_ascii_whitespace().map(|name| Key { section: section.name, name, status: rows.status })
    })
}

pub(super) fn find(section: &str, name: &str) -> Option<Key> {
    SECTIONS.iter().filter(|s| s.name == section).flat_map(keys_of).find(|key| key.name == name)
}

pub(super) fn is_section(name: &str) -> bool {
    SECTIONS.iter().any(|section| section.name == name)
}

pub(super) fn nearest_section(name: &str) -> Option<&'static str> {
    nearest(name, SECTIONS.iter().map(|section| section.name))
}

/// What a key that is not in the section's rows was probably meant to be.
pub(super) enum Guess {
    /// It exists, in another section.
    Section(&'static str),
    /// This one.
    Name(&'static str),
    Nothing,
}

pub(super) fn guess(section: &str, name: &str) -> Guess {
    let near = nearest(name, all().filter(|key| key.section == section).map(|key| key.name));
    // Another section's key beats a distant guess in this one: MemoryMax= in [Container] is no misspelt Memory=.
    if let Some(key) = all().find(|key| key.name == name && key.section != section)
        && !near.is_some_and(|near| near.eq_ignore_ascii_case(name))
    {
        return Guess::Section(key.section);
    }
    near.map_or(Guess::Nothing, Guess::Name)
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
        assert!(seen.len() > 400, "{}", seen.len());
    }

    #[test]
    fn guesses() {
        assert!(matches!(guess("Container", "Restart"), Guess::Section("Service")));
        assert!(matches!(guess("Container", "Enviroment"), Guess::Name("Environment")));
        assert!(matches!(guess("Container", "image"), Guess::Name("Image")));
        assert!(matches!(guess("Container", "Zzzzzz"), Guess::Nothing));
    }
}
