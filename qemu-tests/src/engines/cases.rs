//! The cases: scripts of sh, one file per engine in `qemu-tests/engines/cases`.
//!
//! A file's text before its first case is put in front of each (functions, variables). A line `### name` begins a case,
//! `### short name` one that is also part of `cargo test`; `### setup` is run once before the file's cases. A case holds
//! when its script ends with 0: see `is`, `has` and `fails` in `common.sh`.

use super::sources;
use std::fs;
use std::io;
use std::path::PathBuf;

/// The engine is the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    pub engine: String,
    pub name: String,
    /// Also run by `cargo test`.
    pub short: bool,
    pub script: String,
}

/// All cases of an engine, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cases {
    pub engine: String,
    pub setup: String,
    pub cases: Vec<Case>,
}

#[derive(Debug, thiserror::Error)]
#[error("read {}: {source}", path.display())]
pub struct CasesError {
    path: PathBuf,
    source: io::Error,
}

const SETUP: &str = "setup";
/// The file of functions for all.
const COMMON: &str = "common";

impl Cases {
    pub fn read(engine: &str) -> Result<Self, CasesError> {
        let read = |name: &str| {
            let path = sources().join("cases").join(name).with_extension("sh");
            fs::read_to_string(&path).map_err(|source| CasesError { path, source })
        };
        Ok(Self::parse(engine, &read(COMMON)?, &read(engine)?))
    }

    fn parse(engine: &str, common: &str, text: &str) -> Self {
        let mut sections = format!("\n{text}").split("\n### ").map(str::to_owned).collect::<Vec<_>>().into_iter();
        let head = format!("{common}\n{}\n", sections.next().unwrap_or_default());
        let (mut setup, mut cases) = (String::new(), Vec::new());
        for section in sections {
            let (title, body) = section.split_once('\n').unwrap_or((&section, ""));
            let (short, name) = title.trim().strip_prefix("short ").map_or((false, title.trim()), |name| (true, name));
            let script = format!("{head}{body}\n");
            if name == SETUP {
                setup = script;
            } else {
                cases.push(Case { engine: engine.to_owned(), name: name.to_owned(), short, script });
            }
        }
        Self { engine: engine.to_owned(), setup, cases }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_its_text_behind_what_all_share() {
        let cases = Cases::parse("podman", "common", "x=1\n### setup\nload\n### short run\necho\n### stop\nkill\n");
        assert_eq!(cases.setup, "common\n\nx=1\nload\n");
        let [run, stop] = &cases.cases[..] else { panic!("{cases:?}") };
        assert_eq!((run.name.as_str(), run.short, run.script.as_str()), ("run", true, "common\n\nx=1\necho\n"));
        assert_eq!((stop.name.as_str(), stop.short, stop.script.as_str()), ("stop", false, "common\n\nx=1\nkill\n\n"));
    }
}
