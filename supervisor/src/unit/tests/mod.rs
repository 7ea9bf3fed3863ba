//! Whole units: a folder of texts in, units and problems out.

mod calendar;
mod fixtures;
mod hostile;
mod keys;
mod kinds;
mod links;
mod names;
mod pod_spec;
mod podman_args;
mod print;
mod problems;
mod resets;
mod set;
mod spec;
mod suits;

use std::path::{Path, PathBuf};

use super::{
    Unit, UnitSet,
    kind::Kind,
    machine::Machine,
    set::assemble,
    source::{Content, Source, Sources},
};

/// Units by name and text, as if they lay in one folder; `web` is `web.container`.
pub(super) fn units(texts: &[(&str, &str)]) -> UnitSet {
    read(texts, true)
}

/// The whole language, whatever this version honours of it.
pub(super) fn language(texts: &[(&str, &str)]) -> UnitSet {
    read(texts, false)
}

fn read(texts: &[(&str, &str)], strict: bool) -> UnitSet {
    let mut sources = Sources::default();
    for (name, text) in texts {
        let source = source(name, text.as_bytes());
        let list = if source.stem.ends_with('@') { &mut sources.templates } else { &mut sources.units };
        list.push(source);
    }
    assemble(sources, Vec::new(), &Machine::any(), strict)
}

pub(super) fn source(name: &str, text: &[u8]) -> Source {
    let split = name.rsplit_once('.').and_then(|(stem, suffix)| Some((stem, Kind::of(suffix)?)));
    let (stem, kind) = split.unwrap_or((name, Kind::Container));
    Source {
        kind,
        stem: stem.to_owned(),
        path: PathBuf::from(format!("{stem}.{}", kind.suffix())),
        content: Content::Text(text.into()),
        drop_ins: Vec::new(),
    }
}

/// The least that makes a unit, and more.
pub(super) fn minimal(container: &str, rest: &str) -> String {
    format!("[Container]\nImage=localhost/demo\nNetwork=none\n{container}\n{rest}\n")
}

/// A unit whose text has no mistakes.
pub(super) fn unit(container: &str, rest: &str) -> Unit {
    let set = units(&[("web", &minimal(container, rest))]);
    assert_eq!(shown(&set), Vec::<String>::new());
    set.units.into_values().next().unwrap()
}

pub(super) fn shown(set: &UnitSet) -> Vec<String> {
    set.problems.iter().map(ToString::to_string).collect()
}

/// The one problem of a text.
pub(super) fn problem(container: &str, rest: &str) -> String {
    let set = units(&[("web", &minimal(container, rest))]);
    let shown = shown(&set);
    assert_eq!(shown.len(), 1, "{shown:#?}");
    shown.into_iter().next().unwrap()
}

pub(super) fn path(text: &str) -> &Path {
    Path::new(text)
}
