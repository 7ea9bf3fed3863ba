//! Names and patterns on the command line, and the units they mean.

use super::{client::Client, error::CliError};
use crate::{
    api::types::{BAD_SETTING, UnitStatus},
    unit::glob,
};

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?'])
}

pub(super) fn stem(text: &str) -> &str {
    text.strip_suffix(".container").or_else(|| text.strip_suffix(".service")).unwrap_or(text)
}

/// The names, in the order of the words and each once. Only patterns ask the machine; a pattern nothing matches is an error.
pub(super) fn expand(client: &Client, words: &[String]) -> Result<Vec<String>, CliError> {
    expand_those(client, words, |_| true)
}

/// The same for what is to be started or stopped: a pattern does not mean units whose files have mistakes.
pub(super) fn expand_loaded(client: &Client, words: &[String]) -> Result<Vec<String>, CliError> {
    expand_those(client, words, |unit| unit.sub_state != BAD_SETTING)
}

fn expand_those(
    client: &Client,
    words: &[String],
    meant: impl Fn(&UnitStatus) -> bool,
) -> Result<Vec<String>, CliError> {
    let mut known: Vec<UnitStatus> =
        if words.iter().any(|word| is_pattern(word)) { client.get("/v1/units")? } else { Vec::new() };
    known.retain(meant);
    let mut names: Vec<String> = Vec::new();
    for word in words {
        let found: Vec<&str> = if is_pattern(word) {
            known.iter().map(|unit| unit.name.as_str()).filter(|name| glob::matches(stem(word), name)).collect()
        } else {
            vec![stem(word)]
        };
        if found.is_empty() {
            return Err(CliError::NoSuchUnit(word.clone()));
        }
        for name in found {
            if !names.iter().any(|other| other == name) {
                names.push(name.to_owned());
            }
        }
    }
    Ok(names)
}

/// Those of the list that are meant: all without words. A word that means none is an error.
pub(super) fn select(all: Vec<UnitStatus>, words: &[String]) -> Result<Vec<UnitStatus>, CliError> {
    for word in words {
        if !all.iter().any(|unit| glob::matches(stem(word), &unit.name)) {
            return Err(CliError::NoSuchUnit(word.clone()));
        }
    }
    let meant = |unit: &UnitStatus| words.is_empty() || words.iter().any(|word| glob::matches(stem(word), &unit.name));
    Ok(all.into_iter().filter(meant).collect())
}

/// A name as one segment of a target: whatever was typed, it cannot become another path.
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
