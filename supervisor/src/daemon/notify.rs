//! What containers say of themselves, sd_notify(3): a datagram socket for each that has `Notify=true`. PID 1 keeps a descriptor of it, so
//! that a word said while there is no supervisor waits for the next one. A sender counts when its process lies in the unit's own
//! cgroup, whoever handed it the socket.

use std::{
    collections::BTreeMap,
    fs,
    io::IoSliceMut,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::{fs::PermissionsExt, net::UnixDatagram},
    },
    path::Path,
    time::Duration,
};

use ::handoff::{ToInit, close_all_aside, close_aside};
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    sys::{
        epoll::{EpollEvent, EpollFlags},
        socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt::PassCred},
        stat::Mode,
    },
};

use super::{
    cgroup, clock,
    core::{Daemon, class},
    fd_store::checked_name,
    machine::{Event, Notice, Process},
    process,
    recover::{Kept, stored_name},
    sys,
};
use crate::unit::UnitName;

mod flood;

/// systemd's limit for one message.
const MAX_BYTES: usize = 4096;
/// Longest text of a `STATUS=` that is kept, in bytes.
const MAX_STATUS_BYTES: usize = 1024;
/// Messages taken from one unit before others get their turn.
const TURN: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Notify {
    sockets: BTreeMap<u32, Socket>,
    next: u32,
    /// About the containers that have a socket, or had one.
    complaints: BTreeMap<UnitName, flood::Complaints>,
}

#[derive(Debug)]
struct Socket {
    unit: UnitName,
    attempt: u64,
    fd: OwnedFd,
    pace: flood::Pace,
    /// It said too much: not looked at before this.
    silent_until: Option<Duration>,
}

impl Notify {
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.sockets.values().filter_map(|socket| socket.silent_until).min()
    }
}

/// The assignments of one message. What nobody asks for here (BUSERROR, …) is passed over, as systemd does with what it does not know.
/// `BARRIER=1` needs no more than that the descriptor beside it is closed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    notice: Notice,
    /// As the sender counts.
    main_pid: Option<u32>,
    keep: bool,
    forget: bool,
    fd_name: Option<String>,
    stays: bool,
}

fn parse(message: &[u8]) -> Message {
    let mut read = Message::default();
    let notice = &mut read.notice;
    for line in String::from_utf8_lossy(message).lines() {
        let Some((name, value)) = line.split_once('=') else { continue };
        let us = || value.parse().ok().map(Duration::from_micros);
        match (name, value) {
            ("READY", "1") => notice.ready = true,
            ("RELOADING", "1") => notice.reloading = true,
            ("STOPPING", "1") => notice.stopping = true,
            ("WATCHDOG", "1") => notice.alive = true,
            ("WATCHDOG", "trigger") => notice.hangs = true,
            ("STATUS", text) => {
                let mut end = text.len().min(MAX_STATUS_BYTES);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                notice.status = Some(text[..end].to_owned());
            }
            ("ERRNO", _) => notice.errno = value.parse().ok(),
            ("EXTEND_TIMEOUT_USEC", _) => notice.extend = us(),
            ("WATCHDOG_USEC", _) => notice.watchdog = us(),
            ("MAINPID", _) => read.main_pid = value.parse().ok(),
            ("FDSTORE", "1") => read.keep = true,
            ("FDSTOREREMOVE", "1") => read.forget = true,
            ("FDNAME", _) => read.fd_name = Some(value.to_owned()),
            ("FDPOLL", "0") => read.stays = true,
            _ => {}
        }
    }
    read
}

/// Makes the socket in this folder, for containers of any user.
pub(crate) fn bind(folder: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let folder_fd = open(folder, flags, Mode::empty())?;
    // A socket's path has at most 107 bytes, a unit's name alone may have 200.
    let path = format!("/proc/self/fd/{}/notify.sock", folder_fd.as_raw_fd());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixDatagram::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, PassCred, &true)?;
    // A kernel without it tells nothing of senders that are gone.
    let _ = sys::sender::ask_for(&socket);
    Ok(socket.into())
}

struct Received {
    bytes: Vec<u8>,
    /// The sender's.
    pid: u32,
    /// The same, where the kernel tells.
    pidfd: Option<OwnedFd>,
    fds: Vec<OwnedFd>,
    /// Else it has more than MAX_BYTES.
    whole: bool,
}

impl Drop for Received {
    fn drop(&mut self) {
        close_all_aside(std::mem::take(&mut self.fds));
    }
}

/// The next message, with its sender. `peek`: it stays where it is, and the descriptors beside it come with it. Else there is room
/// for none: who has peeked at it has them, and the kernel lets go of its own.
fn receive(fd: &OwnedFd, peek: bool) -> nix::Result<Received> {
    let mut bytes = [0u8; MAX_BYTES];
    let mut control = match peek {
        true => nix::cmsg_space!(nix::sys::socket::UnixCredentials, [RawFd; 253], RawFd),
        false => nix::cmsg_space!(nix::sys::socket::UnixCredentials),
    };
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let flags = if peek { flags | MsgFlags::MSG_PEEK } else { flags };
    let message = recvmsg::<()>(fd.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    if message.flags.contains(MsgFlags::MSG_CTRUNC) && peek {
        log::warn!("descriptors of a notification are lost: there is no room for them");
    }
    let (mut pid, mut pidfd, mut fds) = (0, None, Vec::new());
    // Truncated where no number was free: what came is lost then, and the words count.
    for control in message.cmsgs().into_iter().flatten() {
        match control {
            ControlMessageOwned::ScmCredentials(sender) => pid = u32::try_from(sender.pid()).unwrap_or(0),
            ControlMessageOwned::ScmRights(numbers) => {
                fds.extend(numbers.into_iter().filter_map(|n| sys::adopt_fd(n).ok()));
            }
            other => pidfd = sys::sender::of(&other).or(pidfd),
        }
    }
    let length = message.bytes;
    let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
    Ok(Received { bytes: bytes[..length].to_vec(), pid, pidfd, fds, whole })
}

/// The process of this cgroup that has this pid where the sender lives.
fn main_process(cgroup: &Path, sender: u32, pid: u32) -> Option<Process> {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(sender)?;
    let is_it = |candidate: &u32| {
        let status = fs::read_to_string(format!("/proc/{candidate}/status")).unwrap_or_default();
        let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        pids.split_ascii_whitespace().next_back().and_then(|last| last.parse().ok()) == Some(pid)
            && namespace(*candidate).as_ref() == Some(&own)
    };
    process::identify(cgroup::processes(cgroup).into_iter().find(is_it)?)
}

/// The process lies in this unit's cgroup, or below it; `None`: nobody has this number.
fn is_of(unit: &UnitName, pid: u32) -> Option<bool> {
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/containers/"));
    Some(path.is_some_and(|path| path.split('/').next() == Some(unit.as_str())))
}

/// The sender is gone and was in this cgroup, or below it; `None`: it is not gone, or the kernel does not tell.
fn was_of(cgroup: &Path, received: &Received) -> Option<bool> {
    let last = sys::sender::last_cgroup(received.pidfd.as_ref()?.as_fd())?;
    Some(cgroup::contains(cgroup, last))
}

/// Which senders count though they are gone and nobody can say of which cgroup they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// None: who forges would only have to end quickly. (systemd does the same; `BARRIER=1` is how a short-lived sender waits.)
    Ignored,
    /// The unit's first process, whose end is about to be taken into account.
    First(u32),
    /// All: what waited in the socket while there was no supervisor. The socket is the unit's own, that has to be enough.
    Heard,
}

impl Daemon {
    /// A unit's socket, new or from PID 1's store.
    pub(crate) fn follow_notify(&mut self, unit: &UnitName, attempt: u64, fd: OwnedFd) -> u32 {
        let id = self.notify.next;
        self.notify.next += 1;
        let (pace, silent_until) = (flood::Pace::default(), None);
        self.notify.sockets.insert(id, Socket { unit: unit.clone(), attempt, fd, pace, silent_until });
        self.listen_to(id);
        id
    }

    fn listen_to(&mut self, id: u32) {
        let Some(socket) = self.notify.sockets.get_mut(&id) else { return };
        let token = (u64::from(class::NOTIFY) << 32) | u64::from(id);
        socket.silent_until = None;
        if let Err(errno) = self.epoll.add(&socket.fd, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            log::error!("{}: its notification socket: {errno}", socket.unit);
        }
    }

    /// Who said too much is heard again.
    pub(crate) fn tick_notify(&mut self, now: Duration) {
        let due = |socket: &Socket| socket.silent_until.is_some_and(|until| until <= now);
        let due: Vec<u32> = self.notify.sockets.iter().filter(|(_, socket)| due(socket)).map(|(id, _)| *id).collect();
        due.into_iter().for_each(|id| self.listen_to(id));
    }

    /// Of what a container says. The supervisor's log is not for it to fill.
    pub(crate) fn complain(&mut self, unit: &UnitName, kind: &'static str, text: &str) {
        let all = self.notify.complaints.entry(unit.clone()).or_default();
        if let Some(line) = all.add(kind, text, clock::monotonic()) {
            log::warn!("{unit}: {line}");
        }
    }

    pub(crate) fn make_notify(&mut self, unit: &UnitName, attempt: u64) -> std::io::Result<()> {
        let fd = bind(&self.paths.notify(unit))?;
        self.store_fd(stored_name(unit, Kept::Notify, attempt), fd.as_fd());
        self.follow_notify(unit, attempt, fd);
        Ok(())
    }

    /// The unit's container is gone, and with it whoever could say something.
    pub(crate) fn end_notify(&mut self, unit: &UnitName) {
        let gone: Vec<Socket> =
            self.notify.sockets.extract_if(.., |_, socket| socket.unit == *unit).map(|e| e.1).collect();
        for socket in gone {
            let _ = self.epoll.delete(&socket.fd);
            let name = stored_name(unit, Kept::Notify, socket.attempt);
            self.tell(&ToInit::DropFd { name });
            close_aside(socket.fd);
        }
        let complaints = self.notify.complaints.remove(unit).unwrap_or_default();
        complaints.rest().for_each(|line| log::warn!("{unit}: {line}"));
    }

    /// Before the end of a process is taken into account: what it said last.
    pub(crate) fn last_words(&mut self, unit: &UnitName, ended: Process) {
        let id = self.notify.sockets.iter().find(|(_, socket)| socket.unit == *unit).map(|(id, _)| *id);
        if let Some(id) = id {
            self.on_notify(id, Gone::First(ended.pid));
        }
    }

    /// A message is taken from the socket when what follows from it is written: who dies over it leaves it to the next.
    pub(crate) fn on_notify(&mut self, id: u32, gone: Gone) {
        for _ in 0..TURN {
            let Some(Socket { unit, attempt, fd, silent_until, .. }) = self.notify.sockets.get(&id) else { return };
            if gone == Gone::Ignored && silent_until.is_some() {
                return;
            }
            let mut received = match receive(fd, true) {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => continue,
                Err(errno) => return log::error!("{unit}: its notification socket: {errno}"),
            };
            let (unit, attempt) = (unit.clone(), *attempt);
            // Its number may be another's by now.
            let is_its = was_of(&self.paths.cgroup(&unit), &received).or_else(|| is_of(&unit, received.pid));
            if is_its.unwrap_or(gone == Gone::Heard || gone == Gone::First(received.pid)) {
                if !received.whole {
                    // systemd passes over it, too: half a number is another one.
                    let text = format!("a notification of more than {MAX_BYTES} bytes: ignored");
                    self.complain(&unit, "length", &text);
                } else {
                    self.on_message(&unit, attempt, &mut received);
                    self.save();
                }
            } else {
                let text = format!("notification from pid={}, which is not in its cgroup: ignored", received.pid);
                self.complain(&unit, "senders", &text);
            }
            let Some(socket) = self.notify.sockets.get_mut(&id) else { return };
            if let Err(errno) = receive(&socket.fd, false) {
                return log::error!("{unit}: its notification socket: {errno}");
            }
            let until = socket.pace.take(clock::monotonic(), !received.fds.is_empty());
            if until.is_some() && socket.silent_until.is_none() {
                let _ = self.epoll.delete(&socket.fd);
                socket.silent_until = until;
                self.complain(&unit, "messages", "says so much that it has to wait to be heard");
            }
        }
    }

    fn on_message(&mut self, unit: &UnitName, attempt: u64, received: &mut Received) {
        let Message { mut notice, main_pid, keep, forget, fd_name, stays } = parse(&received.bytes);
        if let Some(pid) = main_pid {
            // Who is gone counted as the container's first process does.
            let first = || self.engine.get(unit)?.record.state.process().map(|first| first.pid);
            let sender = received.pid;
            let counts = if Path::new(&format!("/proc/{sender}")).exists() { Some(sender) } else { first() };
            notice.main = counts.and_then(|counts| main_process(&self.paths.cgroup(unit), counts, pid));
            if notice.main.is_none() {
                self.complain(unit, "MAINPID=", &format!("MAINPID={pid} is no process of its container: ignored"));
            }
        }
        let current = self.engine.get(unit).is_some_and(|entry| entry.record.attempt == attempt);
        let name = checked_name(fd_name.as_deref());
        if forget && current && fd_name.is_some() {
            self.forget_fds(unit, name);
        } else if keep && current {
            received.fds = self.keep_fds(unit, name, !stays, std::mem::take(&mut received.fds));
        }
        self.engine.event(unit, Event::Notified { attempt, notice }, clock::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_the_manual_has_them() {
        let notice = parse(b"READY=1\nSTATUS=Serving 3 clients=2\nEXTEND_TIMEOUT_USEC=5000000\nX-OWN=1\nMAINPID=7\n");
        assert_eq!(notice.main_pid, Some(7));
        let notice = notice.notice;
        assert_eq!(notice.status.as_deref(), Some("Serving 3 clients=2"));
        assert_eq!((notice.ready, notice.extend), (true, Some(Duration::from_secs(5))));
        let notice = parse(b"STOPPING=1\nERRNO=2\nWATCHDOG=trigger").notice;
        assert_eq!((notice.stopping, notice.errno, notice.hangs, notice.alive), (true, Some(2), true, false));
        for nothing in [
            &b""[..],
            b"READY",
            b"READY=0",
            b"ready=1",
            b"ERRNO=x",
            b"EXTEND_TIMEOUT_USEC=-1",
            b"MAINPID=-1",
            b"FDSTORE=0",
            &[0xff; 9],
        ] {
            assert_eq!(parse(nothing), Message::default());
        }
        let fds = parse(b"FDSTORE=1\nFDNAME=x\nFDPOLL=0");
        assert!(fds.keep && !fds.forget && fds.stays && fds.fd_name.as_deref() == Some("x"));
        assert!(parse(b"FDSTOREREMOVE=1\nFDNAME=x").forget);
        let long = format!("STATUS=x{}", "\u{e4}".repeat(4000));
        assert_eq!(parse(long.as_bytes()).notice.status.map(|text| text.len()), Some(MAX_STATUS_BYTES - 1));
    }

    #[test]
    fn a_message_comes_with_its_sender_and_its_descriptors_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(200));
        fs::create_dir(&deep).unwrap();
        let socket = bind(&deep).unwrap();
        let socket = bind(&deep).map(|again| (socket, again)).unwrap().1;
        assert_eq!(receive(&socket, false).err(), Some(Errno::EAGAIN));
        let client = UnixDatagram::unbound().unwrap();
        let folder_fd = open(&deep, OFlag::O_PATH | OFlag::O_DIRECTORY, Mode::empty()).unwrap();
        client.connect(format!("/proc/self/fd/{}/notify.sock", folder_fd.as_raw_fd())).unwrap();
        let (theirs, mut barrier) = std::io::pipe().map(|(read, write)| (write, read)).unwrap();
        let fds = [theirs.as_raw_fd()];
        let rights = [nix::sys::socket::ControlMessage::ScmRights(&fds)];
        let parts = [std::io::IoSlice::new(b"BARRIER=1")];
        nix::sys::socket::sendmsg::<()>(client.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).unwrap();
        drop(theirs);
        for peek in [true, false] {
            let received = receive(&socket, peek).unwrap();
            let Received { bytes, pid, fds, .. } = &received;
            // Of what was cut short there is nothing but the words.
            let beside = if peek { (std::process::id(), 1) } else { (0, 0) };
            assert_eq!((bytes.as_slice(), (*pid, fds.len())), (&b"BARRIER=1"[..], beside));
        }
        assert_eq!(receive(&socket, true).err(), Some(Errno::EAGAIN));
        for (length, whole) in [(MAX_BYTES, true), (MAX_BYTES + 1, false)] {
            client.send(&vec![b'x'; length]).unwrap();
            assert_eq!(receive(&socket, true).unwrap().whole, whole);
            assert_eq!(receive(&socket, false).unwrap().whole, whole);
        }
        assert_eq!(std::io::Read::read(&mut barrier, &mut [0]).unwrap(), 0, "the other end is closed");
    }

    #[test]
    fn a_main_process_is_one_of_the_cgroup_and_of_the_senders_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::process::id();
        fs::write(folder.path().join("cgroup.procs"), format!("1\n{own}\n")).unwrap();
        assert_eq!(main_process(folder.path(), own, own), process::identify(own));
        assert_eq!(main_process(folder.path(), own, own + 1), None);
        fs::write(folder.path().join("cgroup.procs"), "1\n").unwrap();
        assert_eq!(main_process(folder.path(), own, own), None);
    }
}
