//! Any bytes as a unit file: whatever comes, an answer, and every place inside the text. What `cargo fuzz run units` tries with what it
//! finds, and `cargo test` with the corpus that is kept and mutations of it.

use std::path::PathBuf;

use super::{
    UnitSet,
    kind::{KINDS, Kind},
    machine::Machine,
    set::assemble,
    source::{Content, Source, Sources},
};

/// The first line says the kind of the file, the others are its text.
pub fn one(data: &[u8]) {
    let (kind, text) = split(data);
    let set = read(kind, text);
    assert_eq!(set.broken.len() + set.masked.len() + set.names().count(), 2, "a unit got lost");
    let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
    for problem in set.problems.iter().filter(|problem| problem.place.line > 0) {
        let place = problem.place;
        let Some(line) = lines.get(place.line as usize - 1) else { panic!("{problem}: there is no such line") };
        let length = String::from_utf8_lossy(line).chars().count();
        let end = place.column as usize + place.width as usize;
        let inside = place.column >= 1 && place.column as usize <= length + 1 && place.width >= 1 && end <= length + 2;
        assert!(inside, "{problem}: {place:?} is not inside a line of {length}");
    }
}

fn split(data: &[u8]) -> (Kind, &[u8]) {
    let end = data.iter().position(|b| *b == b'\n').unwrap_or(0);
    let named = KINDS.into_iter().find(|kind| kind.suffix().as_bytes() == &data[..end]);
    named.map_or((Kind::Container, data), |kind| (kind, &data[end + 1..]))
}

/// Beside a unit that it may name.
fn read(kind: Kind, text: &[u8]) -> UnitSet {
    let source = |kind: Kind, stem: &str, text: &[u8]| Source {
        kind,
        stem: stem.to_owned(),
        path: PathBuf::from(format!("{stem}.{}", kind.suffix())),
        content: Content::Text(text.into()),
        drop_ins: Vec::new(),
    };
    let other = source(Kind::Container, "b", b"[Container]\nImage=localhost/b\nNetwork=none\n");
    let sources = Sources { units: vec![source(kind, "a", text), other], ..Sources::default() };
    assemble(sources, Vec::new(), &Machine::any(), true)
}
