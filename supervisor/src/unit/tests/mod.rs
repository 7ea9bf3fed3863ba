//! Whole units: a folder of texts in, units and problems out.

mod hostile;
mod keys;
mod problems;
mod set;
mod spec;

use std::path::{Path, PathBuf};

use super::{
    Unit, UnitName, UnitSet,
    set::assemble,
    source::{Content, Source},
};

/// Units by name and text, as if they lay in one folder.
pub(super) fn units(texts: &[(&str, &str)]) -> UnitSet {
    let source = |(name, text): &(&str, &str)| Source {
        name: UnitName::parse(name).unwrap(),
        path: PathBuf::from(format!("{name}.container")),
        content: Content::Text(text.as_bytes().to_vec()),
        drop_ins: Vec::new(),
    };
    assemble(texts.iter().map(source).collect(), Vec::new())
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
