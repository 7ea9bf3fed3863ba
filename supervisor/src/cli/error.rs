//! What ends a verb, as the sentence that is shown and the exit status.

use std::{fmt, io, path::PathBuf};

use crate::api::types::Problem;

#[derive(Debug)]
pub(super) enum CliError {
    /// `-H` is not an address.
    Address(String),
    Connect {
        path: PathBuf,
        source: io::Error,
    },
    /// The connection broke, or what came is not HTTP.
    Exchange {
        what: &'static str,
        source: io::Error,
    },
    /// What came is not the JSON it should be.
    Answer {
        target: String,
        source: serde_json::Error,
    },
    /// The machine refused.
    Refused(Problem),
    NoSuchUnit(String),
    /// `--detach-keys` names none.
    DetachKeys(String),
    /// A time that is none.
    Time {
        option: &'static str,
        text: String,
    },
    /// The old supervisor is still there.
    NotReplaced,
    /// What is to be sent cannot be read.
    File {
        path: PathBuf,
        source: io::Error,
    },
    Output(io::Error),
}

impl CliError {
    pub(super) fn is_a_reader_who_left(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::NoSuchUnit(_) => 4,
            Self::Refused(problem) if problem.status == 404 => 4,
            _ => 1,
        }
    }
}

impl std::error::Error for CliError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. }
            | Self::Exchange { source, .. }
            | Self::File { source, .. }
            | Self::Output(source) => Some(source),
            Self::Answer { source, .. } => Some(source),
            Self::Address(_)
            | Self::DetachKeys(_)
            | Self::Refused(_)
            | Self::NoSuchUnit(_)
            | Self::Time { .. }
            | Self::NotReplaced => None,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(text) => write!(f, "{text}: not an address; write -H unix:///path/of/control.sock"),
            Self::File { path, source } => write!(f, "read {}: {source}", path.display()),
            Self::Connect { path, source } => {
                write!(f, "no machine answers at {}: {source}; -H unix://PATH names another one", path.display())
            }
            Self::Exchange { what, source } => write!(f, "{what}: {source}"),
            Self::Answer { target, source } => write!(f, "the machine's answer to {target} cannot be read: {source}"),
            Self::Refused(problem) => write!(f, "{}", problem.detail),
            Self::NoSuchUnit(name) => write!(f, "no unit {name}; `orlop ps` lists them"),
            Self::Time { option, text } => write!(
                f,
                "--{option} {text}: write a time such as '2026-01-31 12:00:00' (UTC) or yesterday, or a span before now such as 10min"
            ),
            Self::DetachKeys(text) => {
                write!(f, "--detach-keys {text}: write keys such as ctrl-p,ctrl-q or a; '' for none")
            }
            Self::NotReplaced => write!(f, "no new supervisor answers within 30 s; `orlop logs @init` says why"),
            Self::Output(source) => write!(f, "write the output: {source}"),
        }
    }
}
