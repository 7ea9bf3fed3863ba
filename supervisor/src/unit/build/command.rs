//! `Exec=`, `Entrypoint=`, `ReloadCmd=`: what runs.

use crate::unit::{Said, sheet::Sheet, text::Text};

/// A command line after systemd.service(5): `$$` is a dollar. What systemd would take from podman's own environment
/// (`${NAME}`, or `$NAME` as a word) was hardly meant, and there is no such environment here.
pub(super) fn words(sheet: &mut Sheet<'_>, key: &'static str) -> Vec<String> {
    let mut arguments = Vec::new();
    // Not `every`: the quotes around a command line belong to its words.
    for value in sheet.written("Container", key) {
        arguments.clear();
        for word in sheet.words("Container", &value) {
            if word.text == ";" && value.text[word.range.clone()] == *";" {
                let text = "on a Podman host systemd ends the command at this word; write \";\" with its quotes, or leave it out";
                sheet.warning_at(&value, &word, text);
            }
            match dollars(&word.text) {
                Ok(text) => arguments.push(text),
                Err(text) => sheet.error_at(&value, &word, text),
            }
        }
    }
    arguments
}

fn dollars(word: &str) -> Result<String, Said> {
    let name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && !text.is_empty();
    if let Some(variable) = word.strip_prefix('$')
        && name(variable)
    {
        return Err(refuse(word));
    }
    inner_dollars(word)
}

fn refuse(shown: &str) -> Said {
    let text = format!(
        "{shown} would be taken from podman's own environment, not the container's; write ${shown} and let the program expand it"
    );
    Said::from(text).offering(format!("${shown}"))
}

/// Of a value that is part of a word for systemd, as `--health-cmd=…` is: there only `${NAME}` is replaced.
pub(in crate::unit) fn inner_dollars(word: &str) -> Result<String, Said> {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..=at]);
        let after = &rest[at + 1..];
        if let Some(after) = after.strip_prefix('$') {
            rest = after;
        } else if let Some(end) = after.strip_prefix('{').and_then(|inner| inner.find('}')) {
            return Err(refuse(&rest[at..at + 3 + end]));
        } else {
            rest = after;
        }
    }
    text.push_str(rest);
    Ok(text)
}

/// One program, or several words as a JSON list.
pub(super) fn entrypoint(sheet: &mut Sheet<'_>) -> Option<Vec<String>> {
    // Nothing at all behind the sign is a value too: no entrypoint, as `[""]`.
    let all = sheet.every("Container", "Entrypoint");
    let mut last = None;
    for value in &all {
        last = one_entrypoint(sheet, value);
    }
    last
}

fn one_entrypoint(sheet: &mut Sheet<'_>, value: &Text) -> Option<Vec<String>> {
    let text = match inner_dollars(&value.text) {
        Ok(text) => text,
        Err(text) => {
            sheet.error(value, text);
            return None;
        }
    };
    if text.starts_with('[') {
        return match serde_json::from_str::<Vec<String>>(&text) {
            Ok(words) if words.iter().any(|w| w.contains('\0')) => {
                sheet.error(value, "a NUL character cannot be part of a word");
                None
            }
            Ok(words) => Some(words),
            Err(_) => {
                sheet.error(value, r#"not a JSON list of strings; write Entrypoint=["/bin/program", "argument"]"#);
                None
            }
        };
    }
    if value.text.contains(char::is_whitespace) {
        warn_of_spaces(sheet, value);
    }
    Some(vec![text])
}

fn warn_of_spaces(sheet: &mut Sheet<'_>, value: &Text) {
    let words: Vec<String> = value.text.split_whitespace().map(|w| format!("{w:?}")).collect();
    let text =
        format!("this is one program with spaces in its name; several words are Entrypoint=[{}]", words.join(", "));
    sheet.warning(value, text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_systemds() {
        assert_eq!(dollars("a$$b$$"), Ok("a$b$".into()));
        assert_eq!(dollars("echo $HOME"), Ok("echo $HOME".into()));
        assert_eq!(dollars("cost$"), Ok("cost$".into()));
        assert_eq!(dollars("$${HOME}"), Ok("${HOME}".into()));
        assert!(dollars("$HOME").unwrap_err().text.contains("$$HOME"));
        assert!(dollars("x${HOME}/y").unwrap_err().text.starts_with("${HOME} "));
        assert_eq!(inner_dollars("$HOME $${X}"), Ok("$HOME ${X}".into()));
        assert!(inner_dollars("a ${X}").is_err());
    }
}
