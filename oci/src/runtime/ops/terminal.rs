//! A foreground program's terminal: what is typed on the caller's goes to it, what it prints comes back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno as NixErrno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};

use crate::runtime::error::{Error, Result, Step};
use crate::runtime::store::write_all;
use crate::runtime::sys::{self, Errno, fs, socket, tty};

const TERMINAL: &str = "the program's terminal";

/// Of 4 KiB each: all that a terminal keeps of what was printed and is not read yet (drivers/tty/tty_buffer.c,
/// TTYB_DEFAULT_MEM_LIMIT).
const READS_OF_A_TURN: u32 = 160;

pub(super) struct Terminal {
    master: OwnedFd,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    /// Typed, and not yet taken by the program's side.
    typed: Vec<u8>,
    /// What kept the program's output from the caller.
    failed: Option<Error>,
    /// How the caller's terminal was before, if it is one.
    before: Option<Termios>,
}

impl Terminal {
    /// The terminal as the container's process hands it over.
    pub(super) fn receive(from: BorrowedFd<'_>) -> Result<Terminal> {
        let (_, master) = socket::message_and_fd(from).step("receive", TERMINAL)?;
        let gone = || Error::ChildGone("the container's process handed no terminal over".to_owned());
        let terminal = Terminal {
            master: master.ok_or_else(gone)?,
            input: stream(std::io::stdin().as_fd(), "stdin")?,
            output: stream(std::io::stdout().as_fd(), "stdout")?,
            typed: Vec::new(),
            failed: None,
            before: termios::tcgetattr(std::io::stdin()).ok(),
        };
        // Lines end as the program wrote them: where it matters the caller's own terminal turns the cursor back.
        let settings = termios::tcgetattr(&terminal.master).and_then(|mut settings| {
            settings.output_flags.remove(OutputFlags::ONLCR);
            termios::tcsetattr(&terminal.master, SetArg::TCSANOW, &settings)
        });
        settings.map_err(|errno| Errno(errno as i32)).step("set up", TERMINAL)?;
        if let Some(before) = &terminal.before {
            let mut raw = before.clone();
            termios::cfmakeraw(&mut raw);
            // Not the way out: the program's terminal no longer turns line ends into two characters.
            raw.output_flags.insert(before.output_flags & (OutputFlags::OPOST | OutputFlags::ONLCR));
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw);
        }
        terminal.resize();
        Ok(terminal)
    }

    /// After a SIGWINCH: the size of the caller's.
    pub(super) fn resize(&self) {
        if let Ok((rows, columns)) = tty::size(std::io::stdin().as_fd()) {
            let _ = tty::set_size(self.master.as_fd(), rows, columns);
        }
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let mut all = Vec::new();
        if self.output.is_some() {
            let room = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            all.push(PollFd::new(self.master.as_fd(), PollFlags::POLLIN | room));
        }
        if let Some(input) = self.input.as_ref().filter(|_| self.typed.is_empty()) {
            all.push(PollFd::new(input.as_fd(), PollFlags::POLLIN));
        }
        all
    }

    /// Moves what can be moved without waiting: of what the program prints no more than a turn's, as who prints without a pause is to
    /// hear of a key or a signal all the same. A turn is more than the kernel keeps of what a program that has ended printed.
    pub(super) fn pump(&mut self) {
        for _ in 0..READS_OF_A_TURN {
            let Some(output) = &self.output else { break };
            match print(self.master.as_fd(), output.as_fd()) {
                Ok(Printed::Some) => {}
                Ok(Printed::Nothing) => break,
                Ok(Printed::End) => self.output = None,
                Err(error) => (self.output, self.failed) = (None, Some(error)),
            }
        }
        let is_ready = |fd: BorrowedFd<'_>, what| ready(fd, what).unwrap_or(false);
        if let Some(input) =
            self.input.as_ref().filter(|input| self.typed.is_empty() && is_ready(input.as_fd(), PollFlags::POLLIN))
        {
            let mut buffer = [0; 1024];
            match fs::read(input.as_fd(), &mut buffer) {
                Ok(count) if count > 0 => self.typed.extend(buffer.get(..count).unwrap_or_default()),
                Err(Errno(libc::EINTR | libc::EAGAIN)) => {}
                _ => self.input = None,
            }
        }
        if !self.typed.is_empty() && is_ready(self.master.as_fd(), PollFlags::POLLOUT) {
            let written = fs::write(self.master.as_fd(), &self.typed).unwrap_or(self.typed.len());
            self.typed.drain(..written);
        }
    }

    /// When the program has ended: whether all that it printed came through.
    pub(super) fn close(mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }
}

enum Printed {
    Some,
    Nothing,
    End,
}

fn print(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<Printed> {
    if !ready(from, PollFlags::POLLIN).step("listen to", TERMINAL)? {
        return Ok(Printed::Nothing);
    }
    let mut buffer = [0; 4096];
    let mut read = || fs::read(from, &mut buffer);
    // EIO is how it says that nobody has the other side open any more, as often as it is asked; a failure is one once.
    let first = read();
    let count = match if first == Err(Errno(libc::EIO)) { read() } else { first } {
        Ok(0) | Err(Errno(libc::EIO)) => return Ok(Printed::End),
        Err(Errno(libc::EINTR | libc::EAGAIN)) => return Ok(Printed::Nothing),
        other => other.step("read", TERMINAL)?,
    };
    match write_all(to, buffer.get(..count).unwrap_or_default()) {
        // The caller wants no more of it.
        Err(Errno(libc::EPIPE)) => Ok(Printed::End),
        other => other.step("write to", "stdout").map(|()| Printed::Some),
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, before);
        }
    }
}

/// None where the caller has closed it. Else the program's output would go nowhere without a word.
fn stream(fd: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>> {
    match fd.try_clone_to_owned() {
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok(None),
        other => other.step("duplicate", name).map(Some),
    }
}

fn ready(fd: BorrowedFd<'_>, what: PollFlags) -> sys::Result<bool> {
    let mut one = [PollFd::new(fd, what)];
    loop {
        match nix::poll::poll(&mut one, 0_u8) {
            Err(NixErrno::EINTR) => {}
            other => break other.map(|count| count > 0).map_err(|errno| Errno(errno as i32)),
        }
    }
}
