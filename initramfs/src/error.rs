//! What can go wrong while an image is built. Every text is a sentence that names the object and the cause, because it
//! is printed as it is to somebody who wants to boot a machine.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{verb} {}: {source}", path.display())]
    File { verb: &'static str, path: PathBuf, source: io::Error },

    #[error("start {program}: {source}")]
    Start { program: String, source: io::Error },

    #[error("{command} ended with {status}{}", quoted(.output))]
    Failed { command: String, status: std::process::ExitStatus, output: String },

    #[error("{program} built no {wanted}, although it reported success")]
    NotBuilt { program: &'static str, wanted: String },

    #[error("{what} missing on this machine; as root, run:\n  {command}")]
    Requirements { what: String, command: String },

    #[error("{}: {reason}", path.display())]
    Input { path: PathBuf, reason: String },

    #[error("no kernel package: {reason}")]
    NoKernel { reason: String },

    #[error("no archive of Debian: packages of {suite} come from where this machine has its own, and it is no Debian")]
    NoArchive { suite: String },

    #[error("kernel {release} has no module {name}, which the machine needs to boot")]
    NoModule { release: String, name: String },

    #[error("partition {}: {source}", path.display())]
    Partition { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
}

/// The last lines of a failed program's own words, set apart from ours.
fn quoted(output: &str) -> String {
    const LINES: usize = 20;
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].iter().fold(String::new(), |text, line| format!("{text}\n  | {line}"))
}

/// Puts what was done to which path in front of an I/O error: `.map_err(at("read", &path))`.
pub(crate) fn at(verb: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::File { verb, path: path.as_ref().to_path_buf(), source }
}

/// What is wrong with something the user gave us.
pub(crate) fn input(path: impl AsRef<Path>, reason: impl Into<String>) -> Error {
    Error::Input { path: path.as_ref().to_path_buf(), reason: reason.into() }
}
