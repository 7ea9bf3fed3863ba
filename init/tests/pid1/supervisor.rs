//! The supervisor of these machines: this test program, executed by init, following the script its environment
//! names. It reports to the test line by line.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{IoSlice, IoSliceMut, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};

use handoff::{Exit, Hello, LastEnd, ShutdownKind, ToInit, ToSupervisor};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use crate::sys;

pub(crate) struct Supervisor {
    socket: OwnedFd,
    report: fs::File,
    pub(crate) hello: Hello,
    /// Who ended the one before.
    pub(crate) predecessor: Option<LastEnd>,
    queue: VecDeque<(ToSupervisor, Option<OwnedFd>)>,
    /// Exits seen, not yet asked for by the script.
    exits: VecDeque<Exit>,
}

impl Supervisor {
    /// Takes the handoff socket and waits for the hello.
    pub(crate) fn start() -> Self {
        let report = fs::OpenOptions::new().write(true).open(std::env::var("ORLOP_TEST_REPORT").unwrap()).unwrap();
        let mut supervisor = Self {
            socket: sys::own(handoff::SUPERVISOR_FD),
            report,
            hello: Hello { generation: 0, queued_exits: 0, dropped_exits: 0, state: handoff::StateStore::Volatile },
            predecessor: None,
            queue: VecDeque::new(),
            exits: VecDeque::new(),
        };
        match supervisor.receive() {
            (ToSupervisor::Hello(hello), _) => supervisor.hello = hello,
            other => panic!("not a hello: {other:?}"),
        }
        if supervisor.hello.generation > 1 {
            match supervisor.receive() {
                (ToSupervisor::Predecessor { end }, _) => supervisor.predecessor = Some(end),
                other => panic!("not a word of the one before: {other:?}"),
            }
        }
        supervisor.report(&format!("hello {} queued {}", supervisor.hello.generation, supervisor.hello.queued_exits));
        supervisor
    }

    pub(crate) fn report(&mut self, line: &str) {
        writeln!(self.report, "{line}").unwrap();
    }

    pub(crate) fn send(&self, message: &ToInit) {
        self.send_raw(&message.encode(), None);
    }

    pub(crate) fn send_fd(&self, message: &ToInit, fd: RawFd) {
        self.send_raw(&message.encode(), Some(fd));
    }

    pub(crate) fn send_raw(&self, packet: &[u8], fd: Option<RawFd>) {
        let fds = fd.unwrap_or(-1);
        let rights = [ControlMessage::ScmRights(std::slice::from_ref(&fds))];
        let control = if fd.is_some() { &rights[..] } else { &[] };
        let iov = [IoSlice::new(packet)];
        loop {
            match sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None) {
                Ok(_) => return,
                // More descriptors on their way than this user may have: until init took some in.
                Err(Errno::ETOOMANYREFS) => drop(poll(&mut [], 5u8)),
                Err(error) => panic!("send: {error}"),
            }
        }
    }

    /// True when the packet fitted into the socket.
    pub(crate) fn try_send(&self, packet: &[u8]) -> bool {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match sendmsg::<UnixAddr>(self.socket.as_raw_fd(), &[IoSlice::new(packet)], &[], flags, None) {
            Ok(_) => true,
            Err(Errno::EAGAIN) => false,
            Err(error) => panic!("send: {error}"),
        }
    }

    fn receive(&mut self) -> (ToSupervisor, Option<OwnedFd>) {
        let mut bytes = [0; 1024];
        let mut control = nix::cmsg_space!([RawFd; 1]);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let got = match recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut iov, Some(&mut control), flags) {
            Ok(got) if got.bytes > 0 => got,
            // Init is gone (a reset: with messages unread), or is a new one that cannot hear this process any more.
            Ok(_) | Err(Errno::ECONNRESET) => std::process::exit(0),
            Err(error) => panic!("receive: {error}"),
        };
        let fd = got.cmsgs().unwrap().find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().map(|fd| sys::own(*fd)),
            _ => None,
        });
        let len = got.bytes;
        (ToSupervisor::decode(&bytes[..len]).unwrap(), fd)
    }

    /// True when something can be received within the time.
    pub(crate) fn is_readable(&self, within_ms: u16) -> bool {
        poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], within_ms).unwrap() > 0
    }

    /// Takes one message in: pings are answered, exits are kept, stages are passed over.
    pub(crate) fn take_one(&mut self) {
        match self.receive() {
            (ToSupervisor::Ping { nonce }, _) => self.send(&ToInit::Pong { nonce }),
            (ToSupervisor::Exit(exit), _) => self.exits.push_back(exit),
            (ToSupervisor::Stage { .. }, _) => {}
            other => self.queue.push_back(other),
        }
    }

    /// Forgets answers that nobody waits for.
    pub(crate) fn drop_answers(&mut self) {
        self.queue.clear();
    }

    /// Acknowledges and forgets the exits seen so far.
    pub(crate) fn drop_exits(&mut self) {
        if let Some(last) = self.exits.back() {
            self.acknowledge(last);
        }
        self.exits.clear();
    }

    /// The next answer or request.
    pub(crate) fn next(&mut self) -> (ToSupervisor, Option<OwnedFd>) {
        while self.queue.is_empty() {
            self.take_one();
        }
        self.queue.pop_front().unwrap()
    }

    /// The next exit; nothing is acknowledged.
    pub(crate) fn next_exit(&mut self) -> Exit {
        while self.exits.is_empty() {
            self.take_one();
        }
        self.exits.pop_front().unwrap()
    }

    pub(crate) fn acknowledge(&self, exit: &Exit) {
        self.send(&ToInit::ExitsHandled { seq: exit.seq });
    }

    /// Makes an orphan that init inherits; returns its pid. Exits of others that come meanwhile are kept.
    pub(crate) fn orphan(&mut self, work: impl FnOnce() -> i32) -> u32 {
        let (read, write) = nix::unistd::pipe().unwrap();
        let middle = sys::fork(|| {
            let pid = sys::fork(work);
            i32::from(nix::unistd::write(&write, &pid.to_le_bytes()).is_err())
        });
        let mut pid = [0; 4];
        assert_eq!(nix::unistd::read(&read, &mut pid), Ok(4));
        assert_eq!(sys::wait(middle, 10_000), Some(0));
        u32::from_le_bytes(pid)
    }

    /// Waits for the exit of one process, acknowledging everything up to it.
    pub(crate) fn exit_of(&mut self, pid: u32) -> Exit {
        loop {
            let exit = self.next_exit();
            self.acknowledge(&exit);
            if exit.pid == pid {
                return exit;
            }
        }
    }

    /// The whole road once: an orphan's exit, a descriptor stored and taken back. What a working PID 1 does.
    pub(crate) fn check_health(&mut self) {
        let pid = self.orphan(|| 7);
        assert_eq!(self.exit_of(pid).wait_status, 7 << 8);
        let (read, write) = nix::unistd::pipe().unwrap();
        self.send_fd(&ToInit::PutFd { name: "health".into() }, read.as_raw_fd());
        drop(read);
        self.send(&ToInit::TakeFd { name: "health".into() });
        let (message, fd) = self.next();
        assert_eq!(message, ToSupervisor::Fd { name: "health".into() });
        nix::unistd::write(&write, b"alive").unwrap();
        let mut bytes = [0; 5];
        assert_eq!(nix::unistd::read(fd.unwrap(), &mut bytes), Ok(5));
        self.send(&ToInit::DropFd { name: "health".into() });
    }

    pub(crate) fn names(&mut self) -> Vec<String> {
        self.send(&ToInit::ListFds);
        let mut names = Vec::new();
        loop {
            match self.next().0 {
                ToSupervisor::FdName { name } => names.push(name),
                ToSupervisor::FdsEnd => return names,
                other => panic!("in a listing: {other:?}"),
            }
        }
    }

    /// Stays and does its duty until a shutdown is asked for; then ends the machine.
    pub(crate) fn serve(&mut self) -> ! {
        loop {
            if let (ToSupervisor::ShutdownRequest { kind }, _) = self.next() {
                self.report(&format!("asked {kind:?}"));
                self.shut_down(kind);
            }
        }
    }

    pub(crate) fn shut_down(&mut self, kind: ShutdownKind) -> ! {
        self.send(&ToInit::Stopping { within_ms: 60_000 });
        self.send(&ToInit::Shutdown { kind });
        sys::pause()
    }
}

/// A field of `/proc/1/status`, in KiB.
pub(crate) fn init_memory_kib(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/1/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many exits of each status there are.
pub(crate) fn histogram(exits: impl IntoIterator<Item = Exit>) -> BTreeMap<i32, u32> {
    let mut all = BTreeMap::new();
    for exit in exits {
        *all.entry(exit.wait_status).or_default() += 1;
    }
    all
}
