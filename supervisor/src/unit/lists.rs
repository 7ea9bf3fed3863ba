//! What Quadlet and podman make of a value before its key is looked at: of quotes around it, and of commas in it.

use std::rc::Rc;

use super::{kind::Kind, text::Text, words::Word};

/// Lists to Podman 5 (`StringSlice` of its cmd/podman/common/create.go; its release notes name those that are none any more), which
/// Quadlet hands on as they are: values, then words.
const COMMAS: [&str; 9] =
    ["AddHost", "DNS", "DNSOption", "DNSSearch", "ExposeHostPort", "GroupAdd", "NetworkAlias", "PublishPort", "Ulimit"];
const COMMAS_IN_WORDS: [&str; 5] = ["AddCapability", "DropCapability", "GIDMap", "Sysctl", "UIDMap"];

/// Whether each value of the key is one.
pub(super) fn of_values(section: &str, name: &str) -> bool {
    (is_podmans(section) && COMMAS.contains(&name)) || (section, name) == ("Network", "DNS")
}

/// Whether each word of its values is one.
pub(super) fn of_words(section: &str, name: &str) -> bool {
    is_podmans(section) && COMMAS_IN_WORDS.contains(&name)
}

fn is_podmans(section: &str) -> bool {
    matches!(section, "Container" | "Pod")
}

/// The parts between commas, each with its place. Podman reads them as CSV (RFC 4180): in quotes a comma is none.
pub(super) fn parts(value: &Text) -> Vec<Rc<Text>> {
    let mut cursor = value.cursor();
    let mut all = Vec::new();
    let mut begin = Some(0);
    while let Some(from) = begin {
        let rest = &value.text[from..];
        let quoted = rest.strip_prefix('"').and_then(|rest| rest.split_once('"'));
        let quoted = quoted.filter(|(_, behind)| behind.is_empty() || behind.starts_with(','));
        let (length, range) = match quoted {
            Some((inside, _)) => (inside.len() + 2, from + 1..from + 1 + inside.len()),
            None => {
                let part = rest.split_once(',').map_or(rest, |(part, _)| part);
                let start = from + part.len() - part.trim_start().len();
                (part.len(), start..start + part.trim().len())
            }
        };
        cursor.skip_to(range.start);
        let mut one = Text::new(Rc::clone(&value.file));
        cursor.copy_to(range.end, &mut one);
        all.push(Rc::new(one));
        begin = Some(from + length + 1).filter(|next| *next <= value.text.len());
    }
    all
}

/// The parts of a word, all at its place.
pub(super) fn words(word: Word) -> Vec<Word> {
    if !word.text.contains(',') {
        return vec![word];
    }
    word.text.split(',').map(|part| Word { text: part.to_owned(), ..word.clone() }).collect()
}

pub(super) fn unquoted<'a>(section: &str, text: &'a str) -> &'a str {
    if is_quoted(section, text) { &text[1..text.len() - 1] } else { text }
}

pub(super) fn bare(section: &str, value: &Rc<Text>) -> Rc<Text> {
    let length = value.text.len();
    if is_quoted(section, &value.text) { Rc::new(value.slice(1..length - 1)) } else { Rc::clone(value) }
}

/// Quadlet takes one pair of quotes around a whole value away, systemd does not.
fn is_quoted(section: &str, text: &str) -> bool {
    Kind::is_quadlet(section) && text.len() >= 2 && text.starts_with('"') && text.ends_with('"')
}
