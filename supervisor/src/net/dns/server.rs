//! The sockets of all networks and the thread that waits at them.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        eventfd::{EfdFlags, EventFd},
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, getsockopt, listen, setsockopt, socket,
            sockopt,
        },
    },
};

use super::{
    PORT,
    forward::{self, Forward},
    stream,
    zone::{Verdict, Zone, judge},
};

/// Questions that wait for an answer, of all and of one client.
const WAITING: (usize, usize) = (256, 64);
/// Connections.
const STREAMS: (usize, usize) = (32, 8);
/// Taken from one socket before the others get their turn.
const AT_ONCE: usize = 32;
const STACK_BYTES: usize = 256 << 10;
/// Connections wait so long when there is no descriptor or memory for one; others give theirs back meanwhile.
const ROOM_MAY_COME: Duration = Duration::from_secs(1);

/// Begins the names of the sockets outside.
pub(crate) const PREFIX: &str = "names:";

/// What becomes of a socket that is kept outside under a name, so that who asks between two supervisors waits and is not refused.
#[derive(Debug)]
pub(crate) enum Keep {
    Put(String, OwnedFd),
    Drop(String),
}

/// Clones are of the same.
#[derive(Clone)]
pub(crate) struct Resolver(Arc<Shared>);

struct Shared {
    resolv_conf: PathBuf,
    keep: Box<dyn Fn(Keep) + Send + Sync>,
    /// What was kept outside, until it is known whose it is.
    kept: Mutex<BTreeMap<String, OwnedFd>>,
    table: Mutex<Table>,
    streams: Mutex<BTreeMap<IpAddr, usize>>,
}

/// What holds now. A turn of the thread works on a copy.
#[derive(Debug, Clone, Default)]
struct Table {
    zones: Arc<Vec<Zone>>,
    sockets: Vec<Arc<Listening>>,
    /// Wakes the thread, if there is one.
    bell: Option<Arc<EventFd>>,
}

/// The host's address on one network.
#[derive(Debug)]
struct Listening {
    interface: String,
    address: IpAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Resolver {
    /// `resolv_conf`: where the machine's own name servers stand.
    pub(crate) fn new(resolv_conf: PathBuf, keep: impl Fn(Keep) + Send + Sync + 'static) -> Self {
        let (kept, table, streams) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { resolv_conf, keep: Box::new(keep), kept, table, streams }))
    }

    /// A socket of the last supervisor's. Those that nobody needs go when it is said who is there.
    pub(crate) fn take(&self, name: String, socket: OwnedFd) {
        lock(&self.0.kept).insert(name, socket);
    }

    /// These it answers for from now on. A network whose bridge is not there yet is waited for: its turn comes with its bridge.
    /// Returns at which interfaces it hears nobody, and why.
    pub(crate) fn set(&self, zones: Vec<Zone>) -> BTreeMap<String, String> {
        let mut table = lock(&self.0.table);
        let before = std::mem::take(&mut table.sockets);
        let mut kept = std::mem::take(&mut *lock(&self.0.kept));
        let mut deaf = BTreeMap::new();
        for zone in zones.iter().filter(|zone| if_nametoindex(zone.interface.as_str()).is_ok()) {
            for address in &zone.listen {
                let same = |open: &&Arc<Listening>| open.interface == zone.interface && open.address == *address;
                let open = match before.iter().find(same).filter(|open| open.is_there()) {
                    Some(open) => Ok(Arc::clone(open)),
                    None => Listening::open(&zone.interface, *address, &mut kept, &self.0.keep).map(Arc::new),
                };
                match open {
                    Ok(open) => table.sockets.push(open),
                    Err(error) => {
                        let text = format!(
                            "listen for names on {address} port {PORT}: {error}; DisableDNS=yes in the .network file does without"
                        );
                        deaf.insert(zone.interface.clone(), text);
                    }
                }
            }
        }
        let is_used = |name: &String| table.sockets.iter().any(|open| open.names().contains(name));
        let gone = before.iter().filter(|open| !table.sockets.iter().any(|now| Arc::ptr_eq(now, open)));
        let gone = gone.flat_map(|open| open.retire()).chain(kept.into_keys()).filter(|name| !is_used(name));
        gone.for_each(|name| (self.0.keep)(Keep::Drop(name)));
        table.zones = Arc::new(zones);
        if table.bell.is_none() && !table.sockets.is_empty() {
            match self.begin() {
                Ok(bell) => table.bell = Some(bell),
                Err(error) => {
                    let text = format!("start the networks' resolver: {error}");
                    deaf.extend(table.sockets.iter().map(|open| (open.interface.clone(), text.clone())));
                }
            }
        }
        if let Some(bell) = &table.bell {
            let _ = bell.write(1);
        }
        deaf
    }

    fn begin(&self) -> io::Result<Arc<EventFd>> {
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (shared, heard) = (Arc::clone(&self.0), Arc::clone(&bell));
        let run = move || {
            let mut waiting = Waiting::default();
            while let Err(errno) = waiting.run(&shared, &heard) {
                log::error!("the networks' resolver: {errno}");
                // Memory, in all likelihood, which is given back some time.
                thread::sleep(Duration::from_secs(1));
            }
        };
        thread::Builder::new().name("names".into()).stack_size(STACK_BYTES).spawn(run)?;
        Ok(bell)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Listening {
    /// Takes what was kept of this address, as far as it still is of this bridge.
    fn open(
        interface: &str,
        address: IpAddr,
        kept: &mut BTreeMap<String, OwnedFd>,
        keep: &dyn Fn(Keep),
    ) -> io::Result<Self> {
        let mut open = |kind| -> io::Result<OwnedFd> {
            let name = kept_name(interface, address, kind);
            if let Some(fd) = kept.remove(&name).filter(|fd| is_bound(fd, interface)) {
                return Ok(fd);
            }
            let fd = listen_at(interface, address, kind)?;
            keep(Keep::Put(name, fd.try_clone()?));
            Ok(fd)
        };
        let (udp, tcp) = (open(SockType::Datagram)?.into(), open(SockType::Stream)?.into());
        Ok(Self { interface: interface.to_owned(), address, udp, tcp })
    }

    fn names(&self) -> [String; 2] {
        [SockType::Datagram, SockType::Stream].map(|kind| kept_name(&self.interface, self.address, kind))
    }

    /// Whoever still has copies of them: they are in nobody's way, should its address be listened at again.
    fn retire(&self) -> [String; 2] {
        let _ = setsockopt(&self.udp, sockopt::BindToDevice, &"lo".into());
        let _ = setsockopt(&self.tcp, sockopt::BindToDevice, &"lo".into());
        self.names()
    }

    /// Its bridge is still the same one: of one that was made anew nothing would come.
    fn is_there(&self) -> bool {
        is_bound(&self.udp, &self.interface)
    }
}

fn is_bound(socket: &impl AsFd, interface: &str) -> bool {
    getsockopt(socket, sockopt::BindToDevice).is_ok_and(|name| name == interface)
}

fn kept_name(interface: &str, address: IpAddr, kind: SockType) -> String {
    let kind = if kind == SockType::Stream { "tcp" } else { "udp" };
    format!("{PREFIX}{interface}:{address}:{kind}")
}

/// Bound to the bridge as well: neither the outside nor another network can ask.
fn listen_at(interface: &str, address: IpAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, sockopt::BindToDevice, &interface.into())?;
    if kind == SockType::Stream {
        // Connections of the last supervisor's may still be closing.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, PORT)))?;
    if kind == SockType::Stream {
        listen(&fd, Backlog::new(64)?)?;
    }
    Ok(fd)
}

/// The thread's own.
#[derive(Default)]
struct Waiting {
    forwards: Vec<Forward>,
    /// No connection is taken before.
    streams_from: Option<Instant>,
}

impl Waiting {
    /// Ends only with an error of waiting itself.
    fn run(&mut self, shared: &Arc<Shared>, bell: &EventFd) -> nix::Result<()> {
        let mut room = vec![0; usize::from(u16::MAX)];
        let mut table = lock(&shared.table).clone();
        self.forwards.clear();
        loop {
            let now = Instant::now();
            self.streams_from = self.streams_from.filter(|from| *from > now);
            let deadlines = self.forwards.iter().map(|forward| forward.deadline).chain(self.streams_from);
            let next = deadlines.map(|deadline| deadline.saturating_duration_since(now)).min();
            // Rounded up, or the last millisecond would be a busy one.
            let next = next.map(|left| left + Duration::from_millis(1));
            let patience = next.map_or(PollTimeout::NONE, |left| left.try_into().unwrap_or(PollTimeout::MAX));
            let read = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut fds = vec![read(bell.as_fd())];
            let streams = if self.streams_from.is_some() { PollFlags::empty() } else { PollFlags::POLLIN };
            for open in &table.sockets {
                fds.extend([read(open.udp.as_fd()), PollFd::new(open.tcp.as_fd(), streams)]);
            }
            fds.extend(self.forwards.iter().map(|forward| read(forward.socket.as_fd())));
            match poll(&mut fds, patience) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(true)).collect();
            drop(fds);
            let (sockets, forwards) = ready[1..].split_at(2 * table.sockets.len());
            self.answers(forwards, &table, &mut room);
            for (place, ready) in sockets.chunks(2).enumerate() {
                if ready[0] {
                    self.questions(place, &table, &shared.resolv_conf, &mut room);
                }
                if ready[1] && !connections(&table.sockets[place], &table.zones, shared) {
                    self.streams_from = Some(Instant::now() + ROOM_MAY_COME);
                }
            }
            if ready[0] {
                let _ = bell.read();
                let new = lock(&shared.table).clone();
                self.move_to(&table.sockets, &new.sockets);
                table = new;
            }
        }
    }

    fn questions(&mut self, place: usize, table: &Table, resolv_conf: &Path, room: &mut [u8]) {
        let Listening { interface, udp, .. } = &*table.sockets[place];
        for _ in 0..AT_ONCE {
            let Ok((length, client)) = udp.recv_from(room) else { return };
            let failed = match judge(&table.zones, interface, client.ip(), &room[..length], false) {
                Verdict::Nothing => continue,
                Verdict::Reply(answer) => Some(answer),
                Verdict::Forward(given) => {
                    let question = room[..length].to_vec();
                    let of_client = self.forwards.iter().filter(|forward| forward.client.ip() == client.ip()).count();
                    let has_room = self.forwards.len() < WAITING.0 && of_client < WAITING.1;
                    let failure = super::zone::failure(&question);
                    let servers = if has_room { forward::servers(given, resolv_conf) } else { Vec::new() };
                    match Forward::begin(place, client, question, servers) {
                        Some(forward) => {
                            self.forwards.push(forward);
                            None
                        }
                        None => failure,
                    }
                }
            };
            if let Some(answer) = failed {
                // Nobody waits for it any more, or asks again.
                let _ = udp.send_to(&answer, client);
            }
        }
    }

    /// What came from name servers, or did not.
    fn answers(&mut self, ready: &[bool], table: &Table, room: &mut [u8]) {
        let now = Instant::now();
        let mut ready = ready.iter().copied();
        self.forwards.retain_mut(|forward| {
            let came = ready.next().unwrap_or(false);
            let answer = match came.then(|| forward.socket.recv(room)) {
                Some(Ok(length)) => forward.accept(&mut room[..length]).then_some(length),
                // Nobody is there.
                Some(Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    forward.deadline = now;
                    None
                }
                _ => None,
            };
            let udp = &table.sockets[forward.by].udp;
            if let Some(length) = answer {
                let _ = udp.send_to(&room[..length], forward.client);
                return false;
            }
            if forward.deadline > now || forward.ask_next() {
                return true;
            }
            let _ = udp.send_to(&forward.failure(), forward.client);
            false
        });
    }

    /// Sockets have other places now; of those that are gone nobody waits for an answer.
    fn move_to(&mut self, before: &[Arc<Listening>], now: &[Arc<Listening>]) {
        self.forwards.retain_mut(|forward| {
            let place = now.iter().position(|open| Arc::ptr_eq(open, &before[forward.by]));
            forward.by = place.unwrap_or_default();
            place.is_some()
        });
    }
}

/// False: there is no room for one.
fn connections(at: &Listening, zones: &Arc<Vec<Zone>>, shared: &Arc<Shared>) -> bool {
    // Who connects without end waits for its next turn as the others do.
    for _ in 0..AT_ONCE {
        let (client, from) = match at.tcp.accept() {
            Ok(both) => both,
            Err(error) => {
                let none = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
                return !error.raw_os_error().is_some_and(|number| none.contains(&number));
            }
        };
        let Some(place) = Place::take(shared, from.ip()) else { continue };
        let (zones, interface) = (Arc::clone(zones), at.interface.clone());
        let work = move || {
            if let Err(error) = answer(client, &interface, &zones, &place.shared.resolv_conf) {
                log::debug!("a question of {}: {error}", place.client);
            }
        };
        // Without a thread the connection is closed, and asked for again.
        let _ = thread::Builder::new().name("name".into()).stack_size(STACK_BYTES).spawn(work);
    }
    true
}

fn answer(client: TcpStream, interface: &str, zones: &[Zone], resolv_conf: &Path) -> io::Result<()> {
    client.set_nonblocking(false)?;
    stream::serve(client, interface, zones, resolv_conf)
}

/// One of the connections that may be.
struct Place {
    shared: Arc<Shared>,
    client: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, client: IpAddr) -> Option<Self> {
        let mut streams = lock(&shared.streams);
        if streams.values().sum::<usize>() >= STREAMS.0 || streams.get(&client).is_some_and(|own| *own >= STREAMS.1) {
            return None;
        }
        *streams.entry(client).or_default() += 1;
        Some(Self { shared: Arc::clone(shared), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut streams = lock(&self.shared.streams);
        if let Some(own) = streams.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                streams.remove(&self.client);
            }
        }
    }
}
