//! The name of a container: one component of a path, and nothing else.

use std::fmt;

use super::error::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerId(String);

impl ContainerId {
    pub(crate) fn parse(id: &str) -> Result<ContainerId, Error> {
        let refuse = |why| Err(Error::Id { id: id.to_owned(), why });
        if id.is_empty() {
            return refuse("it is empty");
        }
        // The longest name a folder can have (NAME_MAX).
        if id.len() > 255 {
            return refuse("it is longer than 255 characters");
        }
        if id == "." || id == ".." {
            return refuse("it names a folder");
        }
        if !id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+.-".contains(&b)) {
            return refuse("only the characters A-Z a-z 0-9 _ + . - are allowed");
        }
        Ok(ContainerId(id.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for good in ["a", "web-1", "A_b+c.d", "...", "-x", &"x".repeat(255)] {
            assert!(ContainerId::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "/",
            "../x",
            "a b",
            "a\nb",
            "a\0",
            "é",
            "a\x1b[31m",
            &"x".repeat(256),
            &"x".repeat(10_000),
        ] {
            let error = ContainerId::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid container id"), "{error}");
            assert!(error.len() < 500 && !error.contains(['\n', '\x1b']), "{error:?}");
        }
    }
}
