//! The console: written without ever waiting for it.
//!
//! A serial line can be flow-controlled, a virtual terminal stopped with Ctrl-S, the device missing. So the fd is
//! non-blocking, what it does not take at once waits in a bounded buffer, and what does not fit there is dropped
//! and counted. Never a controlling terminal: a Ctrl-C on it must not become a signal for PID 1.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

const PENDING_BYTES: usize = 8192;

/// One terminal the machine talks to, with what it has not taken yet.
pub(crate) struct Console {
    fd: Option<OwnedFd>,
    /// Allocated with the first text, and never again.
    pending: Vec<u8>,
    dropped_lines: u64,
}

impl Console {
    pub(crate) const fn new() -> Self {
        Self { fd: None, pending: Vec::new(), dropped_lines: 0 }
    }

    /// Opens the device if it is not open; a missing device is no error, the lines wait.
    pub(crate) fn attach(&mut self, path: &str) {
        if self.fd.is_none() {
            let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            self.fd = open(path, flags, Mode::empty()).ok();
            self.flush();
        }
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Closes a terminal that hung up.
    pub(crate) fn detach(&mut self) {
        self.fd = None;
    }

    /// True while something waits for the terminal to take it.
    pub(crate) fn is_behind(&self) -> bool {
        self.fd.is_some() && !self.pending.is_empty()
    }

    /// Queues one line (or several) and writes what the terminal takes now.
    pub(crate) fn write(&mut self, text: &[u8]) {
        if !self.has_room(text) {
            self.flush();
        }
        if !self.has_room(text) {
            self.dropped_lines += 1;
            return;
        }
        self.pending.extend_from_slice(text);
        self.flush();
    }

    fn has_room(&mut self, text: &[u8]) -> bool {
        let missing = PENDING_BYTES.saturating_sub(self.pending.len());
        self.pending.len() + text.len() <= PENDING_BYTES && self.pending.try_reserve_exact(missing).is_ok()
    }

    /// Writes what the terminal takes; a broken terminal (hangup) is closed, to be opened again by `attach`.
    pub(crate) fn flush(&mut self) {
        let mut done = 0;
        while done < self.pending.len() {
            let Some(fd) = &self.fd else { break };
            match nix::unistd::write(fd, &self.pending[done..]) {
                Ok(0) | Err(nix::Error::EAGAIN) => break,
                Ok(n) => done += n,
                Err(nix::Error::EINTR) => {}
                Err(_) => self.fd = None,
            }
        }
        self.pending.drain(..done);
        if self.pending.is_empty() && self.dropped_lines > 0 {
            self.note_dropped();
        }
    }

    /// Waits until the terminal has shown everything: only for a process with a deadline of its own.
    pub(crate) fn drain(&mut self) {
        if let Some(fd) = &self.fd {
            let _ = nix::sys::termios::tcdrain(fd);
        }
    }

    fn note_dropped(&mut self) {
        let mut line = crate::text::Text::<64>::new();
        line.push_fmt(format_args!("[console was stopped: {} lines dropped]\n", self.dropped_lines));
        self.dropped_lines = 0;
        self.write(line.as_bytes());
    }
}
