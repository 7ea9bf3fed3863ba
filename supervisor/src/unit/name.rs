//! The name of a unit, the word that every other room uses: for cgroups, folders, the interface and messages.

use std::{borrow::Borrow, fmt, str::FromStr};

/// A unit's name without suffix, as systemd would name its service: `web` for `web.container` (`web.service`), `web@blue` for an
/// instance of `web@.container`.
///
/// It is safe as one path component and as a cgroup's name: letters, digits and `:-_.\` as in systemd.unit(5), one `@` before an
/// instance, no leading `.` or `-`, at most 200 bytes. A template has no such name: it is not a unit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitName(String);

/// With a drop-in folder's suffix it still is a file name.
const MAX_BYTES: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    Empty,
    TooLong,
    Start(char),
    Character(char),
    Template,
}

impl std::error::Error for NameError {}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the unit's name is empty"),
            Self::TooLong => write!(f, "the unit's name is longer than {MAX_BYTES} bytes"),
            Self::Start(c) => write!(f, "a unit's name does not begin with {c:?}"),
            Self::Character(c) => write!(f, "a unit's name has no {c:?}: letters, digits and : - _ . \\ make one"),
            Self::Template => {
                write!(f, "this names a template; write the instance behind the @, such as web@blue")
            }
        }
    }
}

impl UnitName {
    /// Takes the name with or without `.container` or `.service`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let stem = text.strip_suffix(".container").or_else(|| text.strip_suffix(".service")).unwrap_or(text);
        match stem.chars().next() {
            None => return Err(NameError::Empty),
            Some(c @ ('.' | '-')) => return Err(NameError::Start(c)),
            Some(_) => {}
        }
        if stem.len() > MAX_BYTES {
            return Err(NameError::TooLong);
        }
        match stem.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_' | '.' | '\\' | '@'))) {
            None if stem.starts_with('@') => Err(NameError::Start('@')),
            None if super::kind::is_template(stem) => Err(NameError::Template),
            None => Ok(Self(stem.to_owned())),
            Some(c) => Err(NameError::Character(c)),
        }
    }

    /// Where a name that cannot be had is not worth a second error.
    pub(super) fn nobody() -> Self {
        Self("_".to_owned())
    }

    /// What stands behind the `@` of an instance.
    pub fn instance(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, instance)| instance)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for UnitName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

/// So that maps by name are asked with a `&str`.
impl Borrow<str> for UnitName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for UnitName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_taken_off() {
        for text in ["web", "web.container", "web.service"] {
            assert_eq!(UnitName::parse(text).unwrap().as_str(), "web");
        }
        assert_eq!(UnitName::parse("a.b-c_d:e").unwrap().as_str(), "a.b-c_d:e");
    }

    #[test]
    fn what_is_not_one_safe_path_component_is_refused() {
        for text in ["", ".container", "..", ".", "-a", "a/b", "a b", "a\n", "ä", "a\0"] {
            assert!(UnitName::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(UnitName::parse("web@.service"), Err(NameError::Template));
        assert_eq!(UnitName::parse("@x"), Err(NameError::Start('@')));
        assert_eq!(UnitName::parse("web@1.service").unwrap().instance(), Some("1"));
        assert_eq!(UnitName::parse(&"a".repeat(201)), Err(NameError::TooLong));
    }
}
