//! `exec`: another program in a unit's container, with this process's terminal or streams.

use std::{
    io::{self, IsTerminal, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
    },
};

use crate::{
    api::{
        frame::{self, Frames, Kind},
        types::{ExecEnd, ExecRequest, TerminalSize},
    },
    cli::{args::ExecArgs, client::Client, error::CliError, names, screen::Screen},
};

/// What was typed and is not sent yet; nothing more is read meanwhile.
const ROOM: usize = 64 << 10;

/// As podman's: what kept the program from running.
const FAILED: u8 = 125;

pub(in crate::cli) fn exec(client: &Client, args: &ExecArgs, screen: &mut Screen) -> Result<u8, CliError> {
    let result = run(client, args, screen);
    result.or_else(|error| match error {
        CliError::Output(_) => Err(error),
        other => {
            screen.complain(&other.to_string());
            Ok(FAILED)
        }
    })
}

fn run(client: &Client, args: &ExecArgs, screen: &mut Screen) -> Result<u8, CliError> {
    let keys = DetachKeys::parse(&args.detach_keys).ok_or_else(|| CliError::DetachKeys(args.detach_keys.clone()))?;
    let target = format!("/v1/units/{}/exec", names::encode(names::stem(&args.unit)));
    let terminal = Terminal::of_process();
    let mut request = ExecRequest {
        command: args.command.clone(),
        tty: args.tty && !args.detach,
        stdin: args.interactive && !args.detach,
        environment: args.env.iter().filter_map(|variable| with_value(variable)).collect(),
        user: args.user.clone(),
        working_directory: args.workdir.clone(),
        size: None,
        detach: args.detach,
    };
    if request.tty {
        request.size = terminal.as_ref().and_then(|_| size());
        // As docker and podman have it; what this terminal is called is better than `xterm`.
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned());
        request.environment.insert(0, format!("TERM={term}"));
    }
    let body = serde_json::to_vec(&request).map_err(|source| CliError::Output(source.into()))?;
    if args.detach {
        client.send("POST", &target, &body)?;
        return Ok(0);
    }
    let session = client.upgrade(&target, frame::PROTOCOL, &body)?;
    screen.flush()?;
    let raw = terminal.filter(|_| request.tty && request.stdin).map(Terminal::raw);
    let mut exchange = Exchange::new(session, request.stdin, request.tty, keys)?;
    let result = exchange.run();
    drop(raw);
    match result? {
        Ended::Left => Ok(0),
        Ended::Program(ExecEnd { exit_code, error }) => {
            if let Some(error) = error {
                screen.complain(&format!("{}: {error}", args.unit));
            }
            Ok(exit_code)
        }
    }
}

/// As podman has `--env`: a name alone is this process's variable, if it has one.
fn with_value(variable: &str) -> Option<String> {
    if variable.contains('=') {
        return Some(variable.to_owned());
    }
    std::env::var(variable).ok().map(|value| format!("{variable}={value}"))
}

/// This process's terminal, as it was.
struct Terminal {
    before: Termios,
}

/// Set back when it goes.
struct Raw(Terminal);

impl Terminal {
    fn of_process() -> Option<Self> {
        let stdin = io::stdin();
        stdin.is_terminal().then(|| tcgetattr(&stdin).ok()).flatten().map(|before| Self { before })
    }

    fn raw(self) -> Raw {
        let mut settings = self.before.clone();
        cfmakeraw(&mut settings);
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &settings);
        Raw(self)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.0.before);
    }
}

fn size() -> Option<TerminalSize> {
    let (terminal_size::Width(columns), terminal_size::Height(rows)) = terminal_size::terminal_size_of(io::stdin())?;
    Some(TerminalSize { rows, columns })
}

enum Ended {
    Program(ExecEnd),
    /// By the detach keys; the program goes on.
    Left,
}

struct Exchange {
    machine: UnixStream,
    frames: Frames,
    to_machine: Vec<u8>,
    /// Standard input is sent; and there is more of it.
    reads: bool,
    keys: Option<DetachKeys>,
    /// SIGWINCH.
    resized: Option<SignalFd>,
    left: bool,
}

impl Exchange {
    fn new(
        (machine, first): (UnixStream, Vec<u8>),
        reads: bool,
        tty: bool,
        keys: DetachKeys,
    ) -> Result<Self, CliError> {
        let broken = |source: io::Error| CliError::Exchange { what: "begin", source };
        machine.set_nonblocking(true).map_err(broken)?;
        let resized = tty.then(|| {
            let mut mask = SigSet::empty();
            mask.add(Signal::SIGWINCH);
            mask.thread_block()?;
            SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        });
        let resized = resized.transpose().map_err(|errno| broken(errno.into()))?;
        let mut frames = Frames::default();
        frames.push(&first);
        let keys = Some(keys).filter(|_| tty);
        Ok(Self { machine, frames, to_machine: Vec::new(), reads, keys, resized, left: false })
    }

    fn run(&mut self) -> Result<Ended, CliError> {
        loop {
            if let Some(end) = self.show()? {
                return Ok(Ended::Program(end));
            }
            if self.left && self.to_machine.is_empty() {
                return Ok(Ended::Left);
            }
            self.turn().map_err(|source| CliError::Exchange { what: "exec", source })?;
        }
    }

    /// What the machine has said.
    fn show(&mut self) -> Result<Option<ExecEnd>, CliError> {
        let garbled = || io::Error::new(io::ErrorKind::InvalidData, "what answers does not speak this version's exec");
        loop {
            let frame = self.frames.next().map_err(|_| CliError::Exchange { what: "exec", source: garbled() })?;
            let written = match frame {
                None => return Ok(None),
                Some((Kind::Output, bytes)) => print(&mut io::stdout(), &bytes),
                Some((Kind::Errors, bytes)) => print(&mut io::stderr(), &bytes),
                Some((Kind::End, bytes)) => {
                    let end = serde_json::from_slice(&bytes);
                    return end.map(Some).map_err(|source| CliError::Answer { target: "exec".to_owned(), source });
                }
                Some(_) => Ok(()),
            };
            written.map_err(CliError::Output)?;
        }
    }

    /// Waits for whatever comes next.
    fn turn(&mut self) -> io::Result<()> {
        let (machine, input, resized) = {
            let stdin = io::stdin();
            let out = if self.to_machine.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
            let reads = self.reads && self.to_machine.len() < ROOM && !self.left;
            let listen = if reads { PollFlags::POLLIN } else { PollFlags::empty() };
            let nobody = self.machine.as_fd();
            let resized = self.resized.as_ref().map_or(nobody, AsFd::as_fd);
            let mut fds = [
                PollFd::new(self.machine.as_fd(), PollFlags::POLLIN | out),
                PollFd::new(if reads { stdin.as_fd() } else { nobody }, listen),
                PollFd::new(resized, if self.resized.is_some() { PollFlags::POLLIN } else { PollFlags::empty() }),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [machine, input, resized] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
            (machine, reads && !input.is_empty(), resized.contains(PollFlags::POLLIN))
        };
        if resized {
            while self.resized.as_ref().is_some_and(|fd| matches!(fd.read_signal(), Ok(Some(_)))) {}
            if let Some(size) = size() {
                frame::write(Kind::Size, &serde_json::to_vec(&size)?, &mut self.to_machine);
            }
        }
        if input {
            self.read_input()?;
        }
        if machine.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
            let mut bytes = [0; 16 << 10];
            match again(self.machine.read(&mut bytes))? {
                Some(0) => {
                    let text = "the machine ended it: its supervisor was replaced, or the unit stopped";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
                }
                Some(count) => self.frames.push(&bytes[..count]),
                None => {}
            }
        }
        if !self.to_machine.is_empty()
            && let Some(count) = again(self.machine.write(&self.to_machine))?
        {
            self.to_machine.drain(..count);
        }
        Ok(())
    }

    fn read_input(&mut self) -> io::Result<()> {
        let mut bytes = [0; 16 << 10];
        // Not through std's buffer: nothing may wait there.
        let count = match nix::unistd::read(io::stdin(), &mut bytes) {
            Ok(count) => count,
            Err(nix::errno::Errno::EINTR | nix::errno::Errno::EAGAIN) => return Ok(()),
            // A terminal that is gone.
            Err(nix::errno::Errno::EIO) => 0,
            Err(errno) => return Err(errno.into()),
        };
        if count == 0 {
            self.reads = false;
            frame::write(Kind::Input, b"", &mut self.to_machine);
            return Ok(());
        }
        let typed = match &mut self.keys {
            Some(keys) => {
                let (typed, left) = keys.take(&bytes[..count]);
                self.left = left;
                typed
            }
            None => bytes[..count].to_vec(),
        };
        if !typed.is_empty() {
            frame::write(Kind::Input, &typed, &mut self.to_machine);
        }
        if self.left {
            frame::write(Kind::Leave, b"", &mut self.to_machine);
        }
        Ok(())
    }
}

/// None: not now.
fn again(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

fn print(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    to.write_all(bytes)?;
    to.flush()
}

/// As podman writes them: `ctrl-p,ctrl-q`, `ctrl-@`, `a`. What is typed is held back as long as it may be their begin.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DetachKeys {
    keys: Vec<u8>,
    seen: usize,
}

impl DetachKeys {
    /// Empty: none.
    fn parse(text: &str) -> Option<Self> {
        let key = |word: &str| match (word.strip_prefix("ctrl-"), word.as_bytes()) {
            (Some(of), _) => match *of.as_bytes() {
                [of @ (b'a'..=b'z' | b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(of & 0x1f),
                _ => None,
            },
            (None, [key]) => Some(*key),
            _ => None,
        };
        let keys = if text.is_empty() { Some(Vec::new()) } else { text.split(',').map(key).collect() };
        keys.map(|keys| Self { keys, seen: 0 })
    }

    /// What is to be sent, and whether they were all typed.
    fn take(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut sent = Vec::new();
        for byte in bytes {
            if self.keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (sent, true);
                }
                continue;
            }
            sent.extend_from_slice(&self.keys[..self.seen]);
            self.seen = usize::from(self.keys.first() == Some(byte));
            if self.seen == 0 {
                sent.push(*byte);
            }
        }
        (sent, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_that_detach_are_not_sent_and_others_are() {
        let mut keys = DetachKeys::parse("ctrl-p,ctrl-q").unwrap();
        assert_eq!(keys.take(b"ls\n"), (b"ls\n".to_vec(), false));
        assert_eq!(keys.take(b"\x10"), (Vec::new(), false));
        assert_eq!(keys.take(b"x"), (b"\x10x".to_vec(), false), "it was the begin of something else");
        assert_eq!(keys.take(b"a\x10\x10\x11b"), (b"a\x10".to_vec(), true));
        let mut none = DetachKeys::parse("").unwrap();
        assert_eq!(none.take(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
        assert_eq!(DetachKeys::parse("ctrl-@,a").unwrap().keys, [0, b'a']);
        for wrong in ["ctrl-", "ctrl-ab", "ctrl-1", "ab", "a,,b"] {
            assert_eq!(DetachKeys::parse(wrong), None, "{wrong}");
        }
    }
}
