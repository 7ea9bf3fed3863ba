//! Where the program's terminal goes: to the engine's socket, or to the runtime's own caller.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::runtime::error::{Error, Result, Step};
use crate::runtime::sys::socket;

/// Who is to get the terminal, if one is asked for.
#[derive(Clone, Copy)]
pub(crate) struct ConsoleTo<'a> {
    pub(crate) socket: Option<&'a Path>,
    /// The runtime's own caller, when the runtime stays in the foreground.
    pub(crate) caller: bool,
}

/// The connection a terminal is handed over on.
pub(crate) struct Console {
    to: OwnedFd,
    caller: Option<OwnedFd>,
}

impl Console {
    pub(crate) fn new(terminal: bool, to: ConsoleTo<'_>) -> Result<Option<Console>> {
        match (terminal, to.socket) {
            (false, None) => Ok(None),
            (true, None) if to.caller => {
                let (caller, to) = socket::pair().step("create", "channel")?;
                Ok(Some(Console { to, caller: Some(caller) }))
            }
            (true, None) => {
                Err(Error::Usage("a terminal is asked for: --console-socket is needed to hand it over".to_owned()))
            }
            (false, Some(_)) => {
                Err(Error::Usage("--console-socket was given, but no terminal is asked for".to_owned()))
            }
            (true, Some(path)) => {
                let to = socket::connect_stream(path.as_os_str().as_encoded_bytes());
                Ok(Some(Console { to: to.step("connect to console socket", path.display())?, caller: None }))
            }
        }
    }

    /// Where the runtime itself finds it.
    pub(crate) fn caller(&self) -> Option<BorrowedFd<'_>> {
        self.caller.as_ref().map(AsFd::as_fd)
    }
}

impl AsFd for Console {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.to.as_fd()
    }
}
