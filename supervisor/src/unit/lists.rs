//! Keys whose values podman splits at commas.

use std::rc::Rc;

use super::{text::Text, words::Word};

/// Lists to podman (`StringSlice` of its cmd/podman/common/create.go), which Quadlet hands on as they are: values, then words.
const COMMAS: [&str; 9] =
    ["AddHost", "DNS", "DNSOption", "DNSSearch", "ExposeHostPort", "GroupAdd", "NetworkAlias", "PublishPort", "Ulimit"];
const COMMAS_IN_WORDS: [&str; 9] = [
    "AddCapability",
    "AddDevice",
    "Annotation",
    "DropCapability",
    "EnvironmentFile",
    "GIDMap",
    "LogOpt",
    "Sysctl",
    "UIDMap",
];

/// Whether each value of the key is one.
pub(super) fn of_values(section: &str, name: &str) -> bool {
    is_podmans(section) && COMMAS.contains(&name)
}

/// Whether each word of its values is one.
pub(super) fn of_words(section: &str, name: &str) -> bool {
    is_podmans(section) && COMMAS_IN_WORDS.contains(&name)
}

fn is_podmans(section: &str) -> bool {
    matches!(section, "Container" | "Pod")
}

/// The parts between commas, each with its place.
pub(super) fn parts(value: &Text) -> Vec<Rc<Text>> {
    let mut cursor = value.cursor();
    let mut all = Vec::new();
    let mut begin = 0;
    for part in value.text.split(',') {
        let start = begin + part.len() - part.trim_start().len();
        cursor.skip_to(start);
        let mut one = Text::new(Rc::clone(&value.file));
        cursor.copy_to(start + part.trim().len(), &mut one);
        if !one.text.is_empty() {
            all.push(Rc::new(one));
        }
        begin += part.len() + 1;
    }
    all
}

/// The parts of a word, all at its place.
pub(super) fn words(word: Word) -> Vec<Word> {
    if !word.text.contains(',') {
        return vec![word];
    }
    let parts = word.text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| Word { text: part.to_owned(), ..word.clone() }).collect()
}
