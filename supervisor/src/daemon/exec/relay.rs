//! `orlop relay`: between a client (standard input, a socket or a serial port) and the program it has run in a container.
//!
//! ```text
//! client ══frames══▶ relay ──stdin──▶ program
//!        ◀══frames══       ◀─stdout──          (the runtime waits for it; its end is the program's)
//!                          ◀─stderr──          or one terminal for all three
//! ```
//! Bounded both ways: who does not read is not read from, for as long as it likes (Ctrl-S). A client that goes away hangs up: the program gets SIGHUP, and SIGKILL
//! if it is there after that. One that takes its leave lets it go on.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
    process::ExitCode,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd,
};

use super::{
    super::{process, sys},
    task::{Begun, Task, do_not_block, pid_of},
};
use crate::api::{
    frame::{self, Frames, Kind, MAX_BYTES},
    http,
    types::{ExecEnd, TerminalSize},
};

/// Waiting to be written, either way.
const ROOM: usize = 2 * MAX_BYTES;
/// Between SIGHUP and SIGKILL.
const HANG_UP: Duration = Duration::from_secs(10);

/// By which the next supervisor knows it.
pub(crate) const NAME: &str = "orlop-relay";

/// The process.
pub fn run() -> ExitCode {
    let task = std::env::args().nth(2).and_then(|text| serde_json::from_str::<Task>(&text).ok());
    let Some(task) = task else {
        eprintln!("orlop relay: is started by `orlop supervise`, for `orlop exec`");
        return ExitCode::from(2);
    };
    let _ = fs::write("/proc/self/comm", NAME);
    let client = io::stdin();
    let answer = match task.begin() {
        Ok(begun) if task.request.detach => Some(task.detached(begun)),
        Ok(begun) => {
            begun.carry(client.as_fd());
            None
        }
        Err(answer) => Some(answer),
    };
    let _ = fs::remove_dir_all(&task.folder);
    if let Some(answer) = answer {
        let mut bytes = Vec::new();
        answer.write(false, &mut bytes);
        let _ = write_all(client.as_fd(), &bytes);
    }
    ExitCode::SUCCESS
}

impl Begun {
    fn carry(self, client: BorrowedFd<'_>) {
        let mut relay = Relay {
            client: Some(client),
            left: false,
            frames: Frames::default(),
            to_client: http::switch().into_bytes(),
            held: Vec::new(),
            may_be_runtimes: true,
            to_program: Vec::new(),
            input_ended: false,
            ended: None,
            kill_at: None,
            begun: self,
        };
        while relay.turn() {}
    }
}

struct Relay<'a> {
    client: Option<BorrowedFd<'a>>,
    /// It took its leave.
    left: bool,
    frames: Frames,
    to_client: Vec<u8>,
    /// The first on standard error: as long as it may be the runtime's last word, which comes as the error.
    held: Vec<u8>,
    may_be_runtimes: bool,
    to_program: Vec<u8>,
    input_ended: bool,
    /// The program has, and this is how.
    ended: Option<ExecEnd>,
    kill_at: Option<Instant>,
    begun: Begun,
}

/// Whose turn it may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Client,
    Listener,
    Input,
    Output(usize),
    Runtime,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Some,
    Nothing,
    End,
}

impl Relay<'_> {
    /// Waits and does what there is to do; false at the end.
    fn turn(&mut self) -> bool {
        if self.ended.is_some() && (self.client.is_none() || self.to_client.is_empty()) {
            return false;
        }
        let ready = self.wait();
        for (who, flags) in ready {
            match who {
                Who::Client => {
                    if flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                        self.hear();
                    }
                    self.tell();
                }
                Who::Listener => self.take_terminal(),
                Who::Input => self.feed(),
                Who::Output(index) => {
                    let kind = self.begun.outputs[index].0;
                    if self.read(index) == Read::End {
                        self.begun.outputs.retain(|(other, _)| *other != kind);
                    }
                }
                Who::Runtime => self.end(),
            }
        }
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            self.signal(libc::SIGKILL);
        }
        true
    }

    fn wait(&self) -> Vec<(Who, PollFlags)> {
        let mut all = Vec::new();
        let begun = &self.begun;
        if let Some(client) = self.client {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, self.to_program.len() < ROOM && self.ended.is_none());
            flags.set(PollFlags::POLLOUT, !self.to_client.is_empty());
            all.push((Who::Client, PollFd::new(client, flags)));
        }
        if let Some(listener) = &begun.listener {
            all.push((Who::Listener, PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        }
        if let Some(stdin) = begun.stdin.as_ref().filter(|_| !self.to_program.is_empty()) {
            all.push((Who::Input, PollFd::new(stdin.as_fd(), PollFlags::POLLOUT)));
        }
        if self.ended.is_none() {
            if self.to_client.len() < ROOM {
                let outputs = begun.outputs.iter().enumerate();
                all.extend(outputs.map(|(i, (_, fd))| (Who::Output(i), PollFd::new(fd.as_fd(), PollFlags::POLLIN))));
            }
            all.push((Who::Runtime, PollFd::new(begun.pidfd.as_fd(), PollFlags::POLLIN)));
        }
        let patience = self.kill_at.map_or(PollTimeout::NONE, |at| {
            let ms = at.saturating_duration_since(Instant::now()).as_millis() + 1;
            PollTimeout::try_from(u32::try_from(ms).unwrap_or(0)).unwrap_or(PollTimeout::ZERO)
        });
        let mut fds: Vec<PollFd<'_>> = all.iter().map(|(_, fd)| fd.clone()).collect();
        if poll(&mut fds, patience).is_err() {
            return Vec::new();
        }
        let flags = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        // Outputs from the last on: one that ends moves those behind it.
        all.iter().map(|(who, _)| *who).zip(flags).filter(|(_, flags)| !flags.is_empty()).rev().collect()
    }

    /// Frames of the client.
    fn hear(&mut self) {
        let Some(client) = self.client else { return };
        let mut bytes = [0; 16 << 10];
        match unistd::read(client, &mut bytes) {
            Ok(0) => return self.gone(),
            Ok(count) => self.frames.push(&bytes[..count]),
            Err(Errno::EINTR | Errno::EAGAIN) => return,
            Err(_) => return self.gone(),
        }
        loop {
            match self.frames.next() {
                Ok(None) => return,
                Ok(Some((kind, bytes))) => self.obey(kind, &bytes),
                Err(frame::Garbled) => return self.gone(),
            }
        }
    }

    fn obey(&mut self, kind: Kind, bytes: &[u8]) {
        match kind {
            Kind::Input if bytes.is_empty() => {
                self.input_ended = true;
                if self.begun.tty {
                    // VEOF, as a terminal's user has it.
                    self.to_program.push(4);
                }
                self.end_input();
            }
            Kind::Input if self.begun.stdin.is_some() || self.begun.listener.is_some() => {
                self.to_program.extend_from_slice(bytes);
            }
            Kind::Size => {
                if let (Ok(size), true, Some(terminal)) =
                    (serde_json::from_slice::<TerminalSize>(bytes), self.begun.tty, &self.begun.stdin)
                {
                    let _ = sys::terminal::set_size(terminal.as_fd(), size.rows, size.columns);
                }
            }
            Kind::Signal => {
                if let Some(signal) = serde_json::from_slice(bytes).ok().filter(|signal| (1..=64).contains(signal)) {
                    self.signal(signal);
                }
            }
            Kind::Leave => {
                self.left = true;
                self.gone();
            }
            // Its input is nobody's; the rest is not the client's to say.
            Kind::Input | Kind::Output | Kind::Errors | Kind::End => {}
        }
    }

    /// To the program; to the runtime, which passes it on, as long as that is not there.
    fn signal(&self, signal: i32) {
        let program = pid_of(&self.begun.folder).and_then(process::identify);
        let _ = match program {
            Some(program) => process::signal(program, signal),
            None => sys::pidfd_send_signal(self.begun.pidfd.as_fd(), signal),
        };
    }

    /// The client is.
    fn gone(&mut self) {
        self.client = None;
        self.to_client.clear();
        if self.left || self.ended.is_some() {
            return;
        }
        self.signal(libc::SIGHUP);
        self.begun.stdin = None;
        // The last descriptor of a terminal: it hangs up.
        self.begun.outputs.clear();
        self.begun.listener = None;
        self.kill_at.get_or_insert(Instant::now() + HANG_UP);
    }

    fn tell(&mut self) {
        let Some(client) = self.client.filter(|_| !self.to_client.is_empty()) else { return };
        match unistd::write(client, &self.to_client) {
            Ok(count) => drop(self.to_client.drain(..count)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.gone(),
        }
    }

    fn feed(&mut self) {
        let Some(stdin) = &self.begun.stdin else { return };
        match unistd::write(stdin, &self.to_program) {
            Ok(count) => drop(self.to_program.drain(..count)),
            Err(Errno::EINTR | Errno::EAGAIN) => return,
            // It reads no more.
            Err(_) => {
                self.to_program.clear();
                self.input_ended = true;
            }
        }
        self.end_input();
    }

    fn end_input(&mut self) {
        if self.input_ended && self.to_program.is_empty() && !self.begun.tty {
            self.begun.stdin = None;
        }
    }

    fn read(&mut self, index: usize) -> Read {
        let (kind, fd) = &self.begun.outputs[index];
        let mut bytes = [0; 16 << 10];
        match unistd::read(fd, &mut bytes) {
            Ok(0) => Read::End,
            Ok(count) => {
                let kind = *kind;
                let bytes = &bytes[..count];
                if kind == Kind::Errors && self.may_be_runtimes {
                    self.held.extend_from_slice(bytes);
                    let begin = &self.held[..self.held.len().min(RUNTIMES_OWN.len())];
                    self.may_be_runtimes = RUNTIMES_OWN.starts_with(begin) && self.held.len() < ROOM;
                    if !self.may_be_runtimes {
                        self.let_through();
                    }
                } else if self.client.is_some() {
                    frame::write(kind, bytes, &mut self.to_client);
                }
                Read::Some
            }
            Err(Errno::EINTR | Errno::EAGAIN) => Read::Nothing,
            // EIO: nobody has the terminal open any more.
            Err(_) => Read::End,
        }
    }

    fn let_through(&mut self) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() && self.client.is_some() {
            frame::write(Kind::Errors, &held, &mut self.to_client);
        }
    }

    fn take_terminal(&mut self) {
        let Some(listener) = self.begun.listener.take() else { return };
        let accepted = listener.accept().map_err(|_| Errno::ECONNABORTED);
        let Ok(terminal) = accepted.and_then(|(stream, _)| sys::terminal::receive(stream.as_fd())) else { return };
        do_not_block(terminal.as_fd());
        let Ok(copy) = terminal.try_clone() else { return };
        self.begun.stdin = Some(terminal);
        self.begun.outputs.push((Kind::Output, copy));
    }

    /// The runtime ended, and so the program.
    fn end(&mut self) {
        if self.begun.listener.is_some() {
            self.take_terminal_if_there();
        }
        // What it printed before. Who else has its streams open does not keep us.
        for index in 0..self.begun.outputs.len() {
            (0..MAX_LAST).take_while(|_| self.read(index) == Read::Some).for_each(drop);
        }
        let end = self.begun.end();
        if end.error.is_none() {
            self.let_through();
        }
        frame::write(Kind::End, &serde_json::to_vec(&end).unwrap_or_default(), &mut self.to_client);
        self.ended = Some(end);
        self.kill_at = None;
    }

    fn take_terminal_if_there(&mut self) {
        let Some(listener) = &self.begun.listener else { return };
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
            self.take_terminal();
        }
    }
}

/// Reads of what pipes and terminals hold when a program has ended: more than that is somebody else's.
const MAX_LAST: usize = 256;
/// How its words on standard error begin.
const RUNTIMES_OWN: &[u8] = b"orlop-oci: ";
/// An answer is short: its reader has room, or is gone.
fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> nix::Result<()> {
    while !bytes.is_empty() {
        match unistd::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(to, PollFlags::POLLOUT)];
                if poll(&mut fds, PollTimeout::from(10_000u16)) == Ok(0) {
                    return Err(Errno::ETIMEDOUT);
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
