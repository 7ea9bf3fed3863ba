//! One end of the handoff socket: what is to be said, in which order, and what was heard. Nothing here waits.
//!
//! A supervisor that does not read costs nothing: exits stay in their queue, at most one ping and one request are
//! outstanding, answers are bounded by not reading further requests while [`MAX_REPLIES`] are unsent.

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use handoff::{Hello, LastEnd, MAX_PACKET_BYTES, ShutdownKind, ToInit, ToSupervisor, WireError};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

use crate::exits::ExitQueue;
use crate::fdstore::{FdStore, Name};
use crate::story::{self, Stage};
use crate::sys::{crash, fds::own};

const MAX_REPLIES: usize = 64;
/// Messages sent or received before other work gets its turn.
pub(crate) const TURN: usize = 64;

pub(crate) enum Reply {
    Fd {
        request: u8,
        name: Name,
    },
    /// A listing that goes on at this slot of the store. Who asks for it knows afterwards of every exit up to `after`: a process
    /// that is gone has ended unheard only then.
    Names {
        slot: usize,
        after: u64,
    },
    Failed {
        request: u8,
        errno: Errno,
        name: Name,
    },
}

pub(crate) struct Link {
    socket: OwnedFd,
    hello: Option<Hello>,
    last_end: Option<LastEnd>,
    next_stage: usize,
    replies: VecDeque<Reply>,
    ping: Option<u64>,
    request: Option<ShutdownKind>,
    blocked: Blocked,
}

/// Why nothing more is sent for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    No,
    /// The socket is full: poll(2) reports when it takes more.
    Full,
    /// The kernel has no memory for it, or too many descriptors are on their way: nothing reports the end of that.
    Starved,
}

/// Where a round of sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    All,
    /// The socket is full, or the turn is over.
    Some,
    /// The other end is gone.
    Gone,
}

pub(crate) enum Heard {
    Message {
        message: ToInit,
        fd: Option<OwnedFd>,
        /// A descriptor came and could not be taken in: no free fd.
        lost_fd: bool,
    },
    Garbage(WireError),
    Nothing,
    Gone,
}

/// What a message is about besides its bytes.
struct Outgoing {
    message: ToSupervisor,
    fd: Option<RawFd>,
}

impl Link {
    pub(crate) fn new(socket: OwnedFd, hello: Hello, last_end: Option<LastEnd>) -> Self {
        crash::remember_socket(socket.as_raw_fd());
        Self {
            socket,
            hello: Some(hello),
            last_end,
            next_stage: 0,
            replies: VecDeque::with_capacity(MAX_REPLIES + 1),
            ping: None,
            request: None,
            blocked: Blocked::No,
        }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn wants_to_read(&self) -> bool {
        self.replies.len() < MAX_REPLIES
    }

    pub(crate) fn blocked(&self) -> Blocked {
        self.blocked
    }

    pub(crate) fn ping(&mut self, nonce: u64) {
        self.ping = Some(nonce);
    }

    pub(crate) fn request_shutdown(&mut self, kind: ShutdownKind) {
        self.request = Some(kind);
    }

    pub(crate) fn reply(&mut self, reply: Reply) {
        // One request makes one reply, and requests are not read while this is full; nothing can be lost here.
        if self.replies.len() <= MAX_REPLIES {
            self.replies.push_back(reply);
        }
    }

    /// Sends what there is until the socket is full or the turn is over.
    pub(crate) fn pump(&mut self, exits: &mut ExitQueue, store: &FdStore) -> Sent {
        for _ in 0..TURN {
            let Some(next) = self.next(exits, store) else { return Sent::All };
            self.blocked = Blocked::No;
            match send(&self.socket, &next) {
                Ok(()) => self.advance(&next.message, exits),
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    self.blocked = Blocked::Full;
                    return Sent::Some;
                }
                Err(Errno::ENOBUFS | Errno::ENOMEM | Errno::ETOOMANYREFS) => {
                    self.blocked = Blocked::Starved;
                    return Sent::Some;
                }
                Err(_) => return Sent::Gone,
            }
        }
        Sent::Some
    }

    fn next(&mut self, exits: &ExitQueue, store: &FdStore) -> Option<Outgoing> {
        let plain = |message| Some(Outgoing { message, fd: None });
        if let Some(hello) = self.hello {
            return plain(ToSupervisor::Hello(hello));
        }
        if let Some(end) = self.last_end {
            return plain(ToSupervisor::Predecessor { end });
        }
        if let Some(Stage { name, at_ns, idle_ns }) = story::nth_stage(self.next_stage) {
            return plain(ToSupervisor::Stage { name: name.as_str().to_owned(), at_ns, idle_ns });
        }
        if let Some(kind) = self.request {
            return plain(ToSupervisor::ShutdownRequest { kind });
        }
        if let Some(nonce) = self.ping {
            return plain(ToSupervisor::Ping { nonce });
        }
        if let Some(reply) = self.replies.front_mut()
            && reply.is_due(exits)
        {
            return Some(reply_message(reply, store));
        }
        plain(ToSupervisor::Exit(exits.next_unsent()?))
    }

    fn advance(&mut self, sent: &ToSupervisor, exits: &mut ExitQueue) {
        match sent {
            ToSupervisor::Hello(_) => self.hello = None,
            ToSupervisor::Predecessor { .. } => self.last_end = None,
            ToSupervisor::Stage { .. } => self.next_stage += 1,
            ToSupervisor::ShutdownRequest { .. } => self.request = None,
            ToSupervisor::Ping { .. } => self.ping = None,
            ToSupervisor::Exit(exit) => exits.sent(exit.seq),
            ToSupervisor::FdName { .. } => {
                if let Some(Reply::Names { slot, .. }) = self.replies.front_mut() {
                    *slot += 1;
                }
            }
            ToSupervisor::Fd { .. } | ToSupervisor::FdsEnd | ToSupervisor::Failed { .. } => {
                self.replies.pop_front();
            }
        }
    }

    /// One packet, if there is one.
    pub(crate) fn hear(&mut self) -> Heard {
        // One byte more than the longest packet, so that a longer one is seen as such.
        let mut bytes = [0; MAX_PACKET_BYTES + 1];
        let mut control = nix::cmsg_space!([RawFd; 1]);
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
        let (len, lost_fd, fd) = match recvmsg::<UnixAddr>(self.socket.as_raw_fd(), &mut iov, Some(&mut control), flags)
        {
            Ok(got) => {
                let lost = got.flags.contains(MsgFlags::MSG_CTRUNC);
                // Every descriptor is owned at once, so that one too many is closed and not leaked.
                let mut fd = None;
                if let Ok(messages) = got.cmsgs() {
                    for number in messages.filter_map(rights).flatten() {
                        fd = Some(own(number));
                    }
                }
                (got.bytes, lost, fd)
            }
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOMEM | Errno::ENOBUFS) => return Heard::Nothing,
            Err(_) => return Heard::Gone,
        };
        if len == 0 && self.is_closed() {
            return Heard::Gone;
        }
        match ToInit::decode(&bytes[..len]) {
            Ok(message) => Heard::Message { message, fd, lost_fd },
            Err(error) => Heard::Garbage(error),
        }
    }

    /// A packet without bytes and the end of the connection read alike; poll(2) tells them apart.
    fn is_closed(&self) -> bool {
        use nix::poll::{PollFd, PollFlags, poll};
        // nix does not name POLLRDHUP: the other end will send nothing more.
        const PEER_CLOSED: PollFlags = PollFlags::from_bits_retain(libc::POLLRDHUP);
        let mut fds = [PollFd::new(self.socket.as_fd(), PEER_CLOSED)];
        let _ = poll(&mut fds, 0u8);
        // `None` means a flag nix does not name, and only that one was asked for.
        fds[0].revents().is_none_or(|r| r.intersects(PEER_CLOSED | PollFlags::POLLHUP))
    }
}

impl Reply {
    fn is_due(&self, exits: &ExitQueue) -> bool {
        !matches!(self, Self::Names { after, .. } if !exits.is_sent(*after))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        crash::forget_socket(self.socket.as_raw_fd());
    }
}

fn rights(message: ControlMessageOwned) -> Option<Vec<RawFd>> {
    match message {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    }
}

fn reply_message(reply: &mut Reply, store: &FdStore) -> Outgoing {
    match reply {
        Reply::Fd { request, name } => match store.get(name.as_str()) {
            Some(fd) => {
                Outgoing { message: ToSupervisor::Fd { name: name.as_str().to_owned() }, fd: Some(fd.as_raw_fd()) }
            }
            None => failed(*request, Errno::ENOENT, name),
        },
        Reply::Names { slot, .. } => match store.name_from(*slot) {
            Some((at, name)) => {
                *slot = at;
                Outgoing { message: ToSupervisor::FdName { name: name.to_owned() }, fd: None }
            }
            None => Outgoing { message: ToSupervisor::FdsEnd, fd: None },
        },
        Reply::Failed { request, errno, name } => failed(*request, *errno, name),
    }
}

fn failed(request: u8, errno: Errno, name: &Name) -> Outgoing {
    let name = name.as_str().to_owned();
    Outgoing { message: ToSupervisor::Failed { request, errno: errno as i32, name }, fd: None }
}

fn send(socket: &OwnedFd, outgoing: &Outgoing) -> Result<(), Errno> {
    let packet = outgoing.message.encode();
    let iov = [IoSlice::new(&packet)];
    let fds = [outgoing.fd.unwrap_or(-1)];
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if outgoing.fd.is_some() { &rights[..] } else { &[] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &iov, control, flags, None).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use handoff::{Exit, StateStore};
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, recv, send, socketpair};

    fn pair() -> (Link, OwnedFd) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags).unwrap();
        let hello = Hello { generation: 1, queued_exits: 0, dropped_exits: 0, state: StateStore::Persistent };
        (Link::new(ours, hello, Some(LastEnd::FromOutside)), theirs)
    }

    fn heard(theirs: &OwnedFd) -> Vec<ToSupervisor> {
        let mut bytes = [0; 600];
        std::iter::from_fn(|| {
            let len = recv(theirs.as_raw_fd(), &mut bytes, MsgFlags::empty()).ok()?;
            ToSupervisor::decode(&bytes[..len]).ok()
        })
        .filter(|message| !matches!(message, ToSupervisor::Stage { .. }))
        .collect()
    }

    fn exit(pid: u32) -> Exit {
        Exit { seq: 0, pid, start_ticks: 0, wait_status: 0, user_us: 0, system_us: 0, max_rss_kib: 0 }
    }

    #[test]
    fn the_hello_comes_first_and_a_listing_ends() {
        let (mut link, theirs) = pair();
        let (mut exits, mut store) = (ExitQueue::new(), FdStore::new());
        store.put("a", nix::unistd::pipe().unwrap().0).unwrap();
        store.put("b", nix::unistd::pipe().unwrap().0).unwrap();
        exits.push(exit(7));
        link.ping(3);
        link.reply(Reply::Names { slot: 0, after: exits.newest() });
        exits.push(exit(8));
        while link.pump(&mut exits, &store) != Sent::All {}
        let got = heard(&theirs);
        assert!(matches!(got[0], ToSupervisor::Hello(_)));
        let name = |name: &str| ToSupervisor::FdName { name: name.into() };
        assert_eq!(
            got[1..3],
            [ToSupervisor::Predecessor { end: LastEnd::FromOutside }, ToSupervisor::Ping { nonce: 3 }]
        );
        assert!(matches!(got[3], ToSupervisor::Exit(Exit { pid: 7, seq: 1, .. })), "it came before the question");
        assert_eq!(got[4..7], [name("a"), name("b"), ToSupervisor::FdsEnd]);
        assert!(matches!(got[7], ToSupervisor::Exit(Exit { pid: 8, seq: 2, .. })));
    }

    #[test]
    fn a_full_socket_is_no_loss() {
        let (mut link, theirs) = pair();
        let (mut exits, store) = (ExitQueue::new(), FdStore::new());
        (1..=4000).for_each(|pid| exits.push(exit(pid)));
        let mut pids = Vec::new();
        let mut was_full = false;
        while pids.len() < 4000 {
            while link.pump(&mut exits, &store) == Sent::Some && link.blocked() == Blocked::No {}
            was_full |= link.blocked() == Blocked::Full;
            pids.extend(heard(&theirs).iter().filter_map(|m| match m {
                ToSupervisor::Exit(exit) => Some(exit.pid),
                _ => None,
            }));
        }
        assert!(was_full && pids.iter().copied().eq(1..=4000));
        drop(theirs);
        soon(|| {
            exits.push(exit(1));
            link.pump(&mut exits, &store) == Sent::Gone
        });
    }

    /// A child that another test has just forked has a copy of every descriptor until its exec.
    fn soon(mut happens: impl FnMut() -> bool) {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !happens() {
            assert!(std::time::Instant::now() < end);
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_empty_packet_is_garbage_and_a_closed_socket_is_gone() {
        let (mut link, theirs) = pair();
        assert!(matches!(link.hear(), Heard::Nothing));
        send(theirs.as_raw_fd(), b"", MsgFlags::empty()).unwrap();
        assert!(matches!(link.hear(), Heard::Garbage(WireError::Short)));
        send(theirs.as_raw_fd(), &[b'x'; 4000], MsgFlags::empty()).unwrap();
        assert!(matches!(link.hear(), Heard::Garbage(WireError::Magic)));
        drop(theirs);
        soon(|| matches!(link.hear(), Heard::Gone));
    }
}
