//! All connections of the control interface: the socket, its clients, and the serial ports. It hands out requests and takes
//! answers; who answers is not its business.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            fs::{OpenOptionsExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::{
    epoll::{Epoll, EpollEvent, EpollFlags},
    socket::{getsockopt, sockopt::PeerCredentials},
};

use super::{
    connection::{Connection, Progress},
    http::{Answer, Head},
};

const MAX_CONNECTIONS: usize = 256;
/// Names of the serial ports that carry the interface: `orlop.control`, `orlop.control.1`, …
const PORT_PREFIX: &str = "orlop.control";
/// Before a listener that could not accept, or a port that could not be opened, is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A connection; never used twice, so that a late answer finds nobody instead of somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConnectionId(u32);

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

const LISTENER: u32 = 0;

#[derive(Debug)]
struct Slot {
    connection: Connection,
    /// The device, if it is a serial port: opened again after its end.
    port: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Server {
    /// Distinguishes our events from others in the same epoll: the high half of the token.
    token_class: u64,
    listener: Option<UnixListener>,
    /// Whose connections are taken; nobody else's.
    uid: u32,
    slots: BTreeMap<ConnectionId, Slot>,
    next: u32,
    requests: Vec<(ConnectionId, Head)>,
    /// Ports to open again, and when.
    closed_ports: Vec<(PathBuf, Duration)>,
    accept_again: Option<Duration>,
}

impl Server {
    pub(crate) fn new(token_class: u32, uid: u32) -> Self {
        Self {
            token_class: u64::from(token_class) << 32,
            listener: None,
            uid,
            slots: BTreeMap::new(),
            next: LISTENER + 1,
            requests: Vec::new(),
            closed_ports: Vec::new(),
            accept_again: None,
        }
    }

    /// Makes the socket: complete and private before it has its name.
    pub(crate) fn bind(path: &Path) -> std::io::Result<UnixListener> {
        let unfinished = path.with_extension("new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&unfinished)?;
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600))?;
        fs::rename(&unfinished, path)?;
        Ok(listener)
    }

    pub(crate) fn listen(&mut self, epoll: &Epoll, listener: UnixListener) -> std::io::Result<()> {
        listener.set_nonblocking(true)?;
        epoll.add(listener.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, self.token_class | u64::from(LISTENER)))?;
        self.listener = Some(listener);
        Ok(())
    }

    pub(crate) fn is_listening(&self) -> bool {
        self.listener.is_some()
    }

    /// The devices of all serial ports that carry the interface.
    pub(crate) fn find_ports(class: &Path, dev: &Path) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(class) else { return Vec::new() };
        let mut ports: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
                let rest = name.trim().strip_prefix(PORT_PREFIX);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            })
            .map(|entry| dev.join(entry.file_name()))
            .collect();
        ports.sort();
        ports
    }

    /// Serves a serial port, from now on and again after every end of its peer.
    pub(crate) fn open_port(&mut self, epoll: &Epoll, port: PathBuf, now: Duration) {
        let opened = fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&port);
        let result = opened.and_then(|file| self.add(epoll, file.into(), Some(port.clone()), now));
        if let Err(error) = result {
            log::warn!("{}: {error}", port.display());
            // Unplugged ports are gone for good.
            if error.kind() != ErrorKind::NotFound {
                self.closed_ports.push((port, now + RETRY));
            }
        }
    }

    fn add(&mut self, epoll: &Epoll, fd: OwnedFd, port: Option<PathBuf>, now: Duration) -> std::io::Result<()> {
        self.keep(epoll, Connection::new(fd, now), port).map(drop)
    }

    fn keep(&mut self, epoll: &Epoll, connection: Connection, port: Option<PathBuf>) -> std::io::Result<ConnectionId> {
        let id = ConnectionId(self.next);
        self.next = self.next.checked_add(1).unwrap_or(LISTENER + 1);
        let edges = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        epoll.add(connection.fd(), EpollEvent::new(edges, self.token_class | u64::from(id.0)))?;
        self.slots.insert(id, Slot { connection, port });
        Ok(id)
    }

    /// A client that an earlier supervisor owes an answer.
    pub(crate) fn adopt(&mut self, epoll: &Epoll, fd: OwnedFd, now: Duration) -> std::io::Result<ConnectionId> {
        self.keep(epoll, Connection::adopt(fd, now), None)
    }

    /// The socket of a client, which another supervisor can answer; a serial port is opened anew by each.
    pub(crate) fn client(&self, id: ConnectionId) -> Option<BorrowedFd<'_>> {
        self.slots.get(&id).filter(|slot| slot.port.is_none()).map(|slot| slot.connection.fd())
    }

    pub(crate) fn is_connected(&self, id: ConnectionId) -> bool {
        self.slots.contains_key(&id)
    }

    fn accept(&mut self, epoll: &Epoll, now: Duration) {
        self.accept_again = None;
        loop {
            let Some(listener) = &self.listener else { return };
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => continue,
                Err(error) => {
                    // Out of descriptors, as a rule: the backlog keeps them until there are some again.
                    log::warn!("control socket: accept: {error}");
                    let _ = epoll.delete(listener.as_fd());
                    self.accept_again = Some(now + RETRY);
                    return;
                }
            };
            let full = self.slots.len() >= MAX_CONNECTIONS;
            let peer = getsockopt(&stream, PeerCredentials).map(|credentials| credentials.uid());
            if stream.set_nonblocking(true).is_err() || self.add(epoll, stream.into(), None, now).is_err() {
                continue;
            }
            // The one just added: it is told why, if it reads fast enough, and is gone.
            let refusal = match peer {
                Ok(uid) if uid == self.uid && !full => continue,
                Ok(uid) if uid == self.uid => Answer::problem(503, "too many connections"),
                _ => Answer::problem(403, "the control interface is for the machine's administrator"),
            };
            if let Some(mut entry) = self.slots.last_entry() {
                entry.get_mut().connection.refuse(&refusal);
                entry.get_mut().connection.drive(now);
                entry.remove();
            }
        }
    }

    /// An event of our class.
    pub(crate) fn ready(&mut self, epoll: &Epoll, token: u32, flags: EpollFlags, now: Duration) {
        if token == LISTENER {
            return self.accept(epoll, now);
        }
        let id = ConnectionId(token);
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let readable = EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR;
        slot.connection.edge(flags.intersects(readable), flags.contains(EpollFlags::EPOLLOUT));
        if flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            if slot.port.is_some() {
                return self.hung_up(epoll, id, now);
            }
            if slot.connection.is_ours() {
                // Nobody is left to read the answer.
                return self.close(epoll, id, now);
            }
        }
        self.drive(epoll, id, now);
    }

    fn drive(&mut self, epoll: &Epoll, id: ConnectionId, now: Duration) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        match slot.connection.drive(now) {
            Progress::Waiting => {}
            Progress::Request(head) => self.requests.push((id, head)),
            Progress::Closed => self.close(epoll, id, now),
        }
    }

    /// A port's host end is closed: after a conversation, or because it was never open. Closing our end and opening it
    /// again tells the host that the conversation is over here, too, and that what comes next is for the next peer.
    fn hung_up(&mut self, epoll: &Epoll, id: ConnectionId, now: Duration) {
        let Some(Slot { port: Some(port), connection }) = self.slots.get(&id) else { return };
        if connection.is_unused() {
            return;
        }
        let port = port.clone();
        self.slots.remove(&id);
        self.requests.retain(|(of, _)| *of != id);
        self.open_port(epoll, port, now);
    }

    fn close(&mut self, epoll: &Epoll, id: ConnectionId, now: Duration) {
        let Some(Slot { connection, port }) = self.slots.remove(&id) else { return };
        let _ = epoll.delete(connection.fd());
        self.requests.retain(|(of, _)| *of != id);
        if let Some(port) = port {
            self.closed_ports.push((port, now + RETRY));
        }
    }

    /// Whole requests, each to be answered once.
    pub(crate) fn take_requests(&mut self) -> Vec<(ConnectionId, Head)> {
        std::mem::take(&mut self.requests)
    }

    pub(crate) fn answer(&mut self, epoll: &Epoll, id: ConnectionId, answer: &Answer, now: Duration) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.connection.answer(answer);
            self.drive(epoll, id, now);
        }
    }

    /// See `Connection::give`.
    pub(crate) fn give(&mut self, id: ConnectionId) -> Option<OwnedFd> {
        self.slots.get_mut(&id)?.connection.give()
    }

    /// Who had it is done with it.
    pub(crate) fn end_given(&mut self, epoll: &Epoll, id: ConnectionId, now: Duration) {
        let Some(slot) = self.slots.get(&id) else { return };
        if slot.port.is_some() { self.hung_up(epoll, id, now) } else { self.close(epoll, id, now) }
    }

    /// Nobody took it.
    pub(crate) fn take_back(&mut self, epoll: &Epoll, id: ConnectionId, answer: &Answer, now: Duration) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.connection.take_back(answer);
            self.drive(epoll, id, now);
        }
    }

    pub(crate) fn begin_stream(&mut self, id: ConnectionId, content_type: &str) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.connection.begin_stream(content_type);
        }
    }

    /// Bytes a stream may send; `None` when its connection is gone.
    pub(crate) fn room(&self, id: ConnectionId) -> Option<usize> {
        self.slots.get(&id).map(|slot| slot.connection.room())
    }

    pub(crate) fn stream(&mut self, epoll: &Epoll, id: ConnectionId, bytes: &[u8], now: Duration) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.connection.stream(bytes);
            self.drive(epoll, id, now);
        }
    }

    pub(crate) fn end_stream(&mut self, epoll: &Epoll, id: ConnectionId, now: Duration) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.connection.end_stream();
            self.drive(epoll, id, now);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let connections =
            self.slots.values().filter(|slot| !slot.waits_on_port()).filter_map(|slot| slot.connection.deadline());
        let ports = self.closed_ports.iter().map(|(_, at)| *at);
        connections.chain(ports).chain(self.accept_again).min()
    }

    pub(crate) fn tick(&mut self, epoll: &Epoll, now: Duration) {
        let late = |slot: &Slot| !slot.waits_on_port() && slot.connection.deadline().is_some_and(|at| at <= now);
        let due: Vec<ConnectionId> = self.slots.iter().filter(|(_, slot)| late(slot)).map(|(id, _)| *id).collect();
        for id in due {
            if let Some(slot) = self.slots.get_mut(&id)
                && !slot.connection.is_idle()
            {
                slot.connection.refuse(&Answer::problem(408, "the request did not come to an end in time"));
                slot.connection.drive(now);
            }
            self.close(epoll, id, now);
        }
        let due: Vec<PathBuf> = self.closed_ports.extract_if(.., |(_, at)| *at <= now).map(|(port, _)| port).collect();
        for port in due {
            self.open_port(epoll, port, now);
        }
        if self.accept_again.is_some_and(|at| at <= now)
            && let Some(listener) = self.listener.take()
        {
            self.accept_again = None;
            if let Err(error) = self.listen(epoll, listener) {
                log::error!("control socket: {error}");
            }
        }
    }
}

impl Slot {
    /// A serial port without a conversation waits as long as the machine lives.
    fn waits_on_port(&self) -> bool {
        self.port.is_some() && self.connection.is_idle()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use nix::sys::epoll::{EpollCreateFlags, EpollTimeout};

    use super::*;

    struct Bench {
        epoll: Epoll,
        server: Server,
        path: PathBuf,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        fn new(uid: u32) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("control.sock");
            let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
            let mut server = Server::new(7, uid);
            server.listen(&epoll, Server::bind(&path).unwrap()).unwrap();
            Self { epoll, server, path, _folder: folder }
        }

        /// Everything that is ready now.
        fn turn(&mut self) {
            let mut events = [EpollEvent::empty(); 64];
            loop {
                let n = self.epoll.wait(&mut events, EpollTimeout::from(50u16)).unwrap();
                if n == 0 {
                    break;
                }
                for event in &events[..n] {
                    assert_eq!(event.data() >> 32, 7);
                    let token = u32::try_from(event.data() & 0xffff_ffff).unwrap();
                    self.server.ready(&self.epoll, token, event.events(), Duration::ZERO);
                }
            }
        }
    }

    #[test]
    fn a_client_asks_twice_and_is_answered_twice() {
        let mut bench = Bench::new(nix::unistd::geteuid().as_raw());
        assert_eq!(fs::metadata(&bench.path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut client = UnixStream::connect(&bench.path).unwrap();
        for round in 0..2u8 {
            client.write_all(b"GET /v1/ping HTTP/1.1\r\n\r\n").unwrap();
            bench.turn();
            let requests = bench.server.take_requests();
            let [(id, _)] = requests.as_slice() else { panic!("{requests:?}") };
            bench.server.answer(&bench.epoll, *id, &Answer::json(200, &round), Duration::ZERO);
            let mut buffer = [0; 256];
            let n = client.read(&mut buffer).unwrap();
            assert!(std::str::from_utf8(&buffer[..n]).unwrap().ends_with(&format!("\r\n\r\n{round}\n")));
        }
    }

    #[test]
    fn strangers_and_crowds_are_turned_away() {
        let mut bench = Bench::new(nix::unistd::geteuid().as_raw() + 1);
        let mut client = UnixStream::connect(&bench.path).unwrap();
        bench.turn();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 403"), "{text}");

        let mut bench = Bench::new(nix::unistd::geteuid().as_raw());
        let mut crowd = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            crowd.push(UnixStream::connect(&bench.path).unwrap());
            bench.turn_once();
        }
        let mut one_more = UnixStream::connect(&bench.path).unwrap();
        bench.turn();
        text.clear();
        one_more.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 503"), "{text}");
        drop(crowd);
        bench.turn();
        assert!(bench.server.slots.is_empty());
    }

    impl Bench {
        fn turn_once(&mut self) {
            self.server.accept(&self.epoll, Duration::ZERO);
        }
    }

    #[test]
    fn a_slow_request_ends_in_time_and_a_late_answer_reaches_nobody() {
        let mut bench = Bench::new(nix::unistd::geteuid().as_raw());
        let mut slow = UnixStream::connect(&bench.path).unwrap();
        slow.write_all(b"GET /v1/pi").unwrap();
        let mut patient = UnixStream::connect(&bench.path).unwrap();
        patient.write_all(b"GET /v1/system/settled HTTP/1.1\r\n\r\n").unwrap();
        bench.turn();
        let (id, _) = bench.server.take_requests().remove(0);
        let deadline = bench.server.next_deadline().unwrap();
        bench.server.tick(&bench.epoll, deadline);
        let mut text = String::new();
        slow.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 408"), "{text}");
        assert_eq!(bench.server.next_deadline(), None, "a long poll waits as long as it takes");
        drop(patient);
        bench.turn();
        assert_eq!(bench.server.room(id), None);
        bench.server.answer(&bench.epoll, id, &Answer::json(200, &1), Duration::ZERO);
    }

    #[test]
    fn ports_are_found_by_their_name() {
        let folder = tempfile::tempdir().unwrap();
        for (device, name) in [
            ("vport1p1", "orlop.control\n"),
            ("vport1p2", "orlop.control.1\n"),
            ("vport1p3", "org.qemu.guest_agent.0\n"),
        ] {
            fs::create_dir(folder.path().join(device)).unwrap();
            fs::write(folder.path().join(device).join("name"), name).unwrap();
        }
        let found = Server::find_ports(folder.path(), Path::new("/dev"));
        assert_eq!(found, [Path::new("/dev/vport1p1"), Path::new("/dev/vport1p2")]);
        assert!(Server::find_ports(Path::new("/nonexistent"), Path::new("/dev")).is_empty());
    }
}
