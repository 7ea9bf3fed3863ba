//! What can go wrong in an operation, as sentences.

use std::ffi::CString;
use std::fmt;

use super::config::ConfigError;
use super::sys::{self, Errno};

#[derive(Debug)]
pub(crate) enum Error {
    /// The command line.
    Usage(String),
    /// A file a person or an engine wrote.
    Config {
        file: String,
        error: ConfigError,
    },
    Id {
        id: String,
        why: &'static str,
    },
    NotFound {
        id: String,
    },
    Exists {
        id: String,
    },
    /// The container is not in a state that allows the operation.
    Status {
        operation: &'static str,
        id: String,
        status: &'static str,
    },
    /// A system call of the runtime itself: the step, its object, the kernel's reason.
    System {
        step: &'static str,
        object: String,
        errno: Errno,
    },
    /// A step of the process that becomes the container's; its own words.
    Child(String),
    /// That process ended without saying why.
    ChildGone(String),
    /// The same, by SIGKILL and before its first instruction.
    NeverRan(String),
    Hook {
        /// The property of `hooks`, and the hook's place in it, from 0.
        point: &'static str,
        at: usize,
        path: String,
        why: String,
    },
    /// The cgroup cannot do what is asked.
    Cgroup {
        path: String,
        why: String,
    },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Usage(why) => out.write_str(why),
            Error::Config { file, error } => write!(out, "{file}: {error}"),
            Error::Id { id, why } => {
                let short: String = id.chars().take(64).collect();
                write!(out, "invalid container id {short:?}: {why}")
            }
            // Engines look for these words on stderr.
            Error::NotFound { id } => write!(out, "container {id:?} does not exist"),
            Error::Exists { id } => write!(out, "container with id {id:?} already exists"),
            Error::Status { operation: "kill", status: "stopped", .. } => out.write_str("container not running"),
            Error::Status { operation: "exec in", status: "paused", .. } => {
                out.write_str("cannot exec in a paused container (use --ignore-paused to override)")
            }
            Error::Status { operation, id, status } => {
                write!(out, "cannot {operation} container {id:?}: it is {status}")
            }
            Error::System { step, object, errno } if object.is_empty() => write!(out, "{step}: {errno}"),
            Error::System { step, object, errno } => write!(out, "{step} {object}: {errno}"),
            Error::Child(words) | Error::ChildGone(words) | Error::NeverRan(words) => out.write_str(words),
            Error::Hook { point, at, path, why } => write!(out, "error running {point} hook #{at}: {path}: {why}"),
            Error::Cgroup { path, why } => write!(out, "cgroup {path}: {why}"),
        }
    }
}

impl std::error::Error for Error {}

/// Names the step and the object of a failed system call.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str, object: impl fmt::Display) -> Result<T>;
}

impl<T> Step<T> for sys::Result<T> {
    fn step(self, step: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|errno| Error::System { step, object: object.to_string(), errno })
    }
}

impl<T> Step<T> for std::io::Result<T> {
    fn step(self, step: &'static str, object: impl fmt::Display) -> Result<T> {
        self.map_err(|error| Error::System { step, object: object.to_string(), errno: error.into() })
    }
}

/// A string for the kernel. Text from JSON and from the command line holds no NUL; should one come another way, the empty
/// string makes the system call fail instead of naming something shorter.
pub(crate) fn c_string(text: impl Into<Vec<u8>>) -> CString {
    CString::new(text).unwrap_or_default()
}
