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
    /// None when it has hung up, as nobody reads any more: the program gets SIGHUP, and EIO where it goes on writing.
    master: Option<OwnedFd>,
    input: Option<OwnedFd>,
    output: Output,
    /// Typed, and not yet taken by the program's side.
    typed: Vec<u8>,
    /// What kept the program's output from the caller.
    failed: Option<Error>,
    /// How the caller's terminal was before, if it is one.
    before: Option<Termios>,
}

/// Where goes what the program prints.
enum Output {
    To(OwnedFd),
    /// It could not be written: the program goes on, and is not kept waiting.
    Away,
    /// Nobody has the program's side open any more.
    Ended,
}

impl Terminal {
    /// The terminal as the container's process hands it over.
    pub(super) fn receive(from: BorrowedFd<'_>) -> Result<Terminal> {
        let (_, master) = socket::message_and_fd(from).step("receive", TERMINAL)?;
        let gone = || Error::ChildGone("the container's process handed no terminal over".to_owned());
        let master = master.ok_or_else(gone)?;
        // Lines end as the program wrote them: where it matters the caller's own terminal turns the cursor back.
        let settings = termios::tcgetattr(&master).and_then(|mut settings| {
            settings.output_flags.remove(OutputFlags::ONLCR);
            termios::tcsetattr(&master, SetArg::TCSANOW, &settings)
        });
        settings.map_err(|errno| Errno(errno as i32)).step("set up", TERMINAL)?;
        // Those that the caller has closed lead to /dev/null (see `entry`).
        let terminal = Terminal {
            master: Some(master),
            input: Some(std::io::stdin().as_fd().try_clone_to_owned().step("duplicate", "stdin")?),
            output: Output::To(std::io::stdout().as_fd().try_clone_to_owned().step("duplicate", "stdout")?),
            typed: Vec::new(),
            failed: None,
            before: termios::tcgetattr(std::io::stdin()).ok(),
        };
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
        if let (Some(master), Ok((rows, columns))) = (&self.master, tty::size(std::io::stdin().as_fd())) {
            let _ = tty::set_size(master.as_fd(), rows, columns);
        }
    }

    /// What to wait for.
    pub(super) fn interests(&self) -> Vec<PollFd<'_>> {
        let mut all = Vec::new();
        let Some(master) = &self.master else { return all };
        if !matches!(self.output, Output::Ended) {
            let room = if self.typed.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            all.push(PollFd::new(master.as_fd(), PollFlags::POLLIN | room));
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
            let Some(master) = &self.master else { return };
            let to = match &self.output {
                Output::To(output) => Some(output.as_fd()),
                Output::Away => None,
                Output::Ended => break,
            };
            match print(master.as_fd(), to) {
                Ok(Printed::Some) => {}
                Ok(Printed::Nothing) => break,
                Ok(Printed::End) => self.output = Output::Ended,
                Ok(Printed::Unwanted) => self.master = None,
                Ok(Printed::Lost(error)) => (self.output, self.failed) = (Output::Away, Some(error)),
                Err(error) => (self.output, self.failed) = (Output::Ended, Some(error)),
            }
        }
        let Some(master) = &self.master else { return };
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
        if !self.typed.is_empty() && is_ready(master.as_fd(), PollFlags::POLLOUT) {
            let written = fs::write(master.as_fd(), &self.typed).unwrap_or(self.typed.len());
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
    /// The caller has closed its side.
    Unwanted,
    Lost(Error),
}

fn print(from: BorrowedFd<'_>, to: Option<BorrowedFd<'_>>) -> Result<Printed> {
    if !ready(from, PollFlags::POLLIN).step("listen to", TERMINAL)? {
        return Ok(Printed::Nothing);
    }
    let mut buffer = [0; 4096];
    let mut read = || fs::read(from, &mut buffer);
    // EIO is how it says that nobody has the other side open any more, as often as it is asked; a failure is one once. Somebody may
    // have opened it meanwhile, and say nothing.
    let mut count = read();
    if count == Err(Errno(libc::EIO)) {
        let again = ready(from, PollFlags::POLLIN).step("listen to", TERMINAL)?;
        count = if again { read() } else { Err(Errno(libc::EAGAIN)) };
    }
    let count = match count {
        Ok(0) | Err(Errno(libc::EIO)) => return Ok(Printed::End),
        Err(Errno(libc::EINTR | libc::EAGAIN)) => return Ok(Printed::Nothing),
        other => other.step("read", TERMINAL)?,
    };
    let Some(to) = to else { return Ok(Printed::Some) };
    match write_all(to, buffer.get(..count).unwrap_or_default()) {
        Err(Errno(libc::EPIPE)) => Ok(Printed::Unwanted),
        other => Ok(other.step("write to", "stdout").map_or_else(Printed::Lost, |()| Printed::Some)),
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, before);
        }
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
