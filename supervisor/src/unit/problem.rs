//! A mistake in a unit file, with its place.

use std::{fmt, path::PathBuf};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The unit is not loaded.
    Error,
    /// It could not be read, so that nothing is known of it: an error, and no finding.
    Unread,
    /// The unit is loaded; its writer should know all the same.
    Warning,
}

/// Line and column count from 1, the column in characters. Line 0: the file as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    pub line: u32,
    pub column: u32,
    /// How many characters of that line are meant; at least 1 where a line is given.
    pub width: u32,
}

/// Shown as `file:line:column: text`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Problem {
    pub path: PathBuf,
    pub place: Place,
    pub severity: Severity,
    /// One sentence: what is wrong and what to write instead.
    pub text: String,
    /// The nearest word or the right form, where there is one.
    pub suggestion: Option<String>,
}

/// Such a sentence, and what it suggests. What a user has written stands in the first and never makes the second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) suggestion: Option<String>,
}

impl Said {
    /// With what it suggests.
    pub(super) fn offering(self, form: impl Into<String>) -> Self {
        Self { suggestion: Some(form.into()), ..self }
    }

    /// Behind what is wrong.
    pub(super) fn behind(self, what: impl fmt::Display) -> Self {
        Self { text: format!("{what}: {}", self.text), ..self }
    }

    /// The sentence, the word that was probably meant, and what else there is to say.
    pub(super) fn guess(text: impl fmt::Display, near: Option<impl Into<String>>, rest: &str) -> Self {
        match near.map(Into::into) {
            Some(near) => Self { text: format!("{text}; did you mean {near}?{rest}"), suggestion: Some(near) },
            None => Self { text: format!("{text}{rest}"), suggestion: None },
        }
    }
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self { text, suggestion: None }
    }
}

/// A sentence that has no word of a user in it.
impl From<&'static str> for Said {
    fn from(text: &'static str) -> Self {
        Self { text: text.to_owned(), suggestion: form(text) }
    }
}

/// What a sentence of ours tells to write, where that is a form and no description of one: `write Secret= in [Container]`.
pub(super) fn form(sentence: &'static str) -> Option<String> {
    let (_, rest) = sentence.rsplit_once("write ")?;
    let ends = [", ", "; ", " or ", " and ", " in ", " for ", " when "];
    let end = match rest.split_once(' ').map_or(rest, |(first, _)| first) {
        list if list.contains("=[") => rest.find(']').map_or(rest.len(), |at| at + 1),
        _ => ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len()),
    };
    let form = &rest[..end];
    (form != "it" && (form.contains("=[") || !form.contains(' '))).then(|| form.to_owned())
}

impl Problem {
    pub fn is_error(&self) -> bool {
        self.severity != Severity::Warning
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.place.line > 0 {
            write!(f, ":{}:{}", self.place.line, self.place.column)?;
        }
        match self.severity {
            Severity::Error | Severity::Unread => write!(f, ": {}", self.text),
            Severity::Warning => write!(f, ": warning: {}", self.text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_what_can_be_written() {
        for (sentence, right) in [
            ("write Secret= in [Container]", Some("Secret=")),
            ("write Network=host or Network=none", Some("Network=host")),
            (
                "not a list; write Entrypoint=[\"/bin/program\", \"argument\"]",
                Some("Entrypoint=[\"/bin/program\", \"argument\"]"),
            ),
            ("that is Docker's word; write always, a stop by request is not restarted", Some("always")),
            ("write [Container] or another above it", Some("[Container]")),
            ("write it in [Container]", None),
            ("write the key that says it", None),
            ("no suggestion", None),
        ] {
            assert_eq!(Said::from(sentence).suggestion.as_deref(), right, "{sentence}");
        }
        assert_eq!(Said::from("write x".to_owned()).suggestion, None);
        let guess = Said::guess("unknown option did you mean y?", Some("z"), "").behind("Volume=write w");
        assert_eq!(guess.text, "Volume=write w: unknown option did you mean y?; did you mean z?");
        assert_eq!(guess.suggestion.as_deref(), Some("z"));
    }
}
