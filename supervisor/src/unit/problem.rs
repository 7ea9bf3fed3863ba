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
