//! Sends every line of every log to another machine as it is written: RFC 5424, over UDP (RFC 5426) or over TCP with octet counting
//! (RFC 6587). A thread per endpoint; what waits for it lies in a spool that outlives the supervisor and is bounded, what finds no
//! room is dropped and counted, and the count is sent when lines are again.

use std::{
    io::{self, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

use super::{
    Owner, Stream,
    source::KERNEL,
    spool::{self, Mark, Spool},
};
use crate::{
    daemon::{clock, mailbox, perform::hostname},
    unit::Endpoint,
};

/// What waits for one endpoint at most, in bytes.
const MAX_WAITING_BYTES: u64 = 1 << 20;
/// A receiver that does not connect, or takes nothing, within this time is tried anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries, twice as long each time.
const RETRY: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_secs(1) };
const MAX_RETRY: Duration = Duration::from_secs(30);
/// RFC 5424's limit for HOSTNAME and APP-NAME.
const MAX_HOST_BYTES: usize = 255;
const MAX_APP_BYTES: usize = 48;

#[derive(Default)]
struct State {
    /// The writer is between what it gives us and what makes that final.
    held: bool,
    /// Somebody waits for all of it to be sent.
    hurry: bool,
    /// Nobody sends any more.
    closed: bool,
}

struct Shared {
    /// Messages with their lengths, as they go over TCP. Touched by the sender only while nothing is held.
    spool: Spool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each of them is right at any moment, whoever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn is_empty(&self) -> bool {
        self.spool.is_empty() && self.spool.lost() == 0
    }
}

/// The writer's end. Dropping it ends the thread; what waits stays for the next supervisor.
pub(super) struct Forward {
    pub(super) endpoint: Endpoint,
    shared: Arc<Shared>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}

/// `tcp:__host:port` among the spools: no log's is called so, as a port has no dot.
fn file_name(endpoint: &Endpoint) -> String {
    endpoint.to_string().replace('/', "_")
}

impl Forward {
    /// Goes on with what an earlier supervisor left. `interrupted`: it died before what it gave last was final.
    pub(super) fn start(endpoint: Endpoint, spools: &Path, interrupted: bool) -> io::Result<Self> {
        let spool = Spool::with_room(spools.join(file_name(&endpoint)), MAX_WAITING_BYTES)?;
        if let Some(mark) = spool.intended() {
            if interrupted {
                spool.cut(mark.length)?;
                spool.find((u64::MAX - mark.inode).min(spool.lost()));
            }
            spool.intend(Mark::default())?;
        }
        let shared = Arc::new(Shared { spool, state: Mutex::default(), changed: Condvar::new() });
        let (of_thread, to) = (Arc::clone(&shared), endpoint.clone());
        mailbox::spawn("log forward", move || run(&to, &of_thread));
        Ok(Self { endpoint, shared })
    }

    /// To whom an earlier supervisor forwarded: what comes before this one has read the options goes there too.
    pub(super) fn left(spools: &Path) -> Vec<Endpoint> {
        let endpoint = |path: PathBuf| {
            let (kind, address) = path.file_name()?.to_str()?.split_once(":__")?;
            Some(Endpoint { tcp: kind == "tcp", address: address.to_owned() })
        };
        spool::left(spools).into_iter().filter_map(endpoint).collect()
    }

    /// Takes them in, and sends nothing until they are released. Never waits for the other machine; what finds no room is counted.
    pub(super) fn hold(&self, messages: &[Vec<u8>]) {
        let mut state = self.shared.state();
        state.held = true;
        let spool = &self.shared.spool;
        // In place of a file, how many were lost before.
        if let Err(error) = spool.intend(Mark { inode: u64::MAX - spool.lost(), length: spool.end() }) {
            log::error!("{}: {error}", spool.path().display());
        }
        let lost = messages.iter().filter(|message| !spool.append(message)).count();
        spool.lose(lost as u64);
    }

    pub(super) fn release(&self) {
        let spool = &self.shared.spool;
        let mut state = self.shared.state();
        if let Err(error) = spool.intend(Mark::default()) {
            log::error!("{}: {error}", spool.path().display());
        }
        state.held = false;
        self.shared.changed.notify_all();
    }

    /// Waits until all is sent.
    pub(super) fn drain(&self, patience: Duration) {
        let mut state = self.shared.state();
        state.hurry = true;
        self.shared.changed.notify_all();
        let waits = |_: &mut State| !self.shared.is_empty();
        drop(self.shared.changed.wait_timeout_while(state, patience, waits));
    }

    /// Nobody is to have it any more.
    pub(super) fn forget(&self) {
        self.shared.spool.remove();
    }
}

/// One record as a message, with its length before it.
pub(super) fn message(time_us: i64, owner: &Owner, stream: Stream, text: &[u8]) -> Vec<u8> {
    // Facilities of the table: kernel messages, system daemons.
    let facility = if owner.as_str() == KERNEL { 0 } else { 3 };
    let severity = match stream {
        Stream::Err => 3,
        Stream::Orlop => 5,
        Stream::Level(level) => level & 7,
        Stream::Out | Stream::Boot => 6,
    };
    let (host, time) = (word(&hostname(), MAX_HOST_BYTES), clock::rfc3339(time_us));
    let app = word(owner.as_str(), MAX_APP_BYTES);
    let head = format!("<{}>1 {time} {host} {app} - {} - ", facility * 8 + severity, stream.word());
    [format!("{} ", head.len() + text.len()).as_bytes(), head.as_bytes(), text].concat()
}

/// PRINTUSASCII without spaces, or `-`.
fn word(text: &str, max: usize) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(max).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

enum Connection {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Connection {
    fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in endpoint.address.to_socket_addrs()? {
            let opened = if endpoint.tcp {
                TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
                    stream.set_write_timeout(Some(PATIENCE))?;
                    Ok(Self::Tcp(stream))
                })
            } else {
                let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
                UdpSocket::bind(any).and_then(|socket| socket.connect(address).map(|()| Self::Udp(socket)))
            };
            match opened {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            // A datagram has its own length.
            Self::Udp(socket) => {
                let datagram = message.splitn(2, |byte| *byte == b' ').last().unwrap_or_default();
                let mut result = socket.send(datagram);
                // What an earlier one came to (ICMP): this one was not sent for it.
                if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED)) {
                    result = socket.send(datagram);
                }
                match result {
                    // Nobody there again, or longer than a datagram can be: it is UDP, this one is lost.
                    Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EMSGSIZE)) => Ok(()),
                    result => result.map(drop),
                }
            }
            Self::Tcp(stream) => {
                // A receiver that has gone is noticed before a message is lost to it.
                use std::os::fd::AsRawFd;
                match recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
                    Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
                stream.write_all(message)
            }
        }
    }
}

fn run(endpoint: &Endpoint, shared: &Shared) {
    let (mut connection, mut retry, mut told) = (None, RETRY, false);
    let mut buffer = Vec::new();
    loop {
        let mut state = shared.state();
        while !state.closed && (state.held || shared.is_empty()) {
            state = shared.wait(state, Duration::MAX);
        }
        if state.closed {
            return;
        }
        let dropped = shared.spool.lost();
        if let Err(error) = shared.spool.read(&mut buffer) {
            return log::error!("{}: {error}", shared.spool.path().display());
        }
        drop(state);
        match send_all(&mut connection, endpoint, shared, dropped, &buffer) {
            Ok(()) => (retry, told) = (RETRY, false),
            Err(error) => {
                connection = None;
                if !std::mem::replace(&mut told, true) {
                    log::warn!("forward logs to {endpoint}: {error}; tried again until it takes them");
                }
                let until = Instant::now() + retry;
                retry = (retry * 2).min(MAX_RETRY);
                let mut state = shared.state();
                while !state.closed && !state.hurry && Instant::now() < until {
                    state = shared.wait(state, until.saturating_duration_since(Instant::now()));
                }
                state.hurry = false;
            }
        }
    }
}

/// What is sent is gone from the spool at once: of all of it, a death of the supervisor sends one message twice at most.
fn send_all(
    connection: &mut Option<Connection>,
    endpoint: &Endpoint,
    shared: &Shared,
    dropped: u64,
    messages: &[u8],
) -> io::Result<()> {
    let mut send = |message: &[u8]| match &mut *connection {
        Some(open) => open.send(message),
        none => Connection::open(endpoint).and_then(|open| none.insert(open).send(message)),
    };
    let sent = |length, lost: u64| {
        let mut state = shared.state();
        while state.held {
            state = shared.wait(state, Duration::MAX);
        }
        let result = shared.spool.commit(length, 0, -lost.cast_signed());
        shared.changed.notify_all();
        // Who drops us has left the rest to somebody else.
        if state.closed { Err(io::ErrorKind::Interrupted.into()) } else { result }
    };
    // The count first: it is of what came before this.
    if dropped > 0 {
        let text = format!("{dropped} lines were dropped before {endpoint} took them");
        let message = message(clock::wall_us(), &Owner::pseudo(super::SUPERVISOR), Stream::Level(4), text.as_bytes());
        send(&message)?;
        sent(0, dropped)?;
    }
    let mut rest = messages;
    while let Some(length) = first(rest) {
        send(&rest[..length])?;
        rest = &rest[length..];
        sent(length, 0)?;
    }
    Ok(())
}

/// How long the first message is, with the length before it.
fn first(messages: &[u8]) -> Option<usize> {
    let space = messages.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&messages[..space]).ok()?.parse().ok()?;
    Some(space + 1 + length).filter(|end| *end <= messages.len())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read},
        net::TcpListener,
    };

    use super::*;

    fn say(forward: &Forward, text: &str) {
        forward.hold(&[message(0, &Owner::parse("web").unwrap(), Stream::Out, text.as_bytes())]);
        forward.release();
    }

    fn endpoint(tcp: bool, address: std::net::SocketAddr) -> Endpoint {
        Endpoint { tcp, address: address.to_string() }
    }

    fn frame(reader: &mut impl BufRead) -> String {
        let mut length = Vec::new();
        reader.read_until(b' ', &mut length).unwrap();
        let length: usize = std::str::from_utf8(&length).unwrap().trim().parse().unwrap();
        let mut text = vec![0; length];
        reader.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_record_is_a_message_of_rfc_5424() {
        let host = word(&hostname(), MAX_HOST_BYTES);
        let of = |owner: &str, stream| {
            let message =
                message(1_700_000_000_000_001, &Owner::parse(owner).unwrap(), stream, "t\u{e4}xt\0".as_bytes());
            assert_eq!(first(&message), Some(message.len()));
            String::from_utf8(message).unwrap().split_once(' ').unwrap().1.to_owned()
        };
        let time = "2023-11-14T22:13:20.000001Z";
        assert_eq!(of("web", Stream::Err), format!("<27>1 {time} {host} web - stderr - t\u{e4}xt\0"));
        assert_eq!(of("@kernel", Stream::Level(4)), format!("<4>1 {time} {host} @kernel - warning - t\u{e4}xt\0"));
        assert_eq!(word("a b\u{e4}c", 2), "ab");
        assert_eq!(word("\n", 9), "-");
    }

    #[test]
    fn lines_go_over_udp() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let forward = Forward::start(endpoint(false, receiver.local_addr().unwrap()), folder.path(), false).unwrap();
        say(&forward, "one");
        let mut buffer = [0; 200];
        let n = receiver.recv(&mut buffer).unwrap();
        assert!(buffer[..n].starts_with(b"<30>1 ") && buffer[..n].ends_with(b" web - stdout - one"));
    }

    #[test]
    fn what_an_earlier_datagram_came_to_costs_no_later_one() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = receiver.local_addr().unwrap();
        drop(receiver);
        let mut connection = Connection::open(&endpoint(false, address)).unwrap();
        connection.send(b"3 one").unwrap();
        let receiver = UdpSocket::bind(address).unwrap();
        receiver.set_read_timeout(Some(PATIENCE)).unwrap();
        connection.send(b"3 two").unwrap();
        let mut buffer = [0; 10];
        assert_eq!((receiver.recv(&mut buffer).unwrap(), &buffer[..3]), (3, &b"two"[..]));
    }

    #[test]
    fn a_tcp_receiver_comes_late_goes_away_and_is_told_what_was_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let forward = Forward::start(endpoint(true, address), folder.path(), false).unwrap();
        // Nobody is there, and more comes than may wait.
        let line = "x".repeat(10_000);
        for i in 0..200 {
            say(&forward, &format!("{i} {line}"));
        }
        let listener = TcpListener::bind(address).unwrap();
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        // The oldest were kept, in their order; the count is said before what has been read since.
        let (mut kept, mut dropped) = (0, 0);
        while kept + dropped < 200 {
            let message = frame(&mut reader);
            if message.contains("<28>1 ") {
                dropped += message.split(" - ").last().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
            } else {
                assert!(message.contains(&format!(" - {kept} x")), "{message}");
                kept += 1;
            }
        }
        assert!(dropped > 90, "{dropped}");
        // It goes away while nothing is said; what is said then reaches the next one.
        drop(reader);
        say(&forward, "again");
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        assert!(frame(&mut reader).ends_with(" - again"));
        drop(forward);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "", "its end ends the connection");
    }

    #[test]
    fn what_found_no_room_is_counted_once_though_the_next_supervisor_finds_it_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = endpoint(true, listener.local_addr().unwrap());
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let too_much = [vec![b'x'; usize::try_from(MAX_WAITING_BYTES).unwrap() + 1]];
        let forward = Forward::start(to.clone(), folder.path(), false).unwrap();
        forward.hold(&too_much);
        forward.release();
        forward.hold(&too_much);
        drop(forward);
        let forward = Forward::start(to, folder.path(), true).unwrap();
        assert_eq!(forward.shared.spool.lost(), 1, "what was final");
        forward.hold(&too_much);
        assert_eq!(forward.shared.spool.lost(), 2);
    }

    #[test]
    fn what_waits_outlives_the_supervisor_and_is_sent_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = endpoint(true, listener.local_addr().unwrap());
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let start = |interrupted| Forward::start(to.clone(), folder.path(), interrupted).unwrap();
        let forward = start(false);
        for i in 0..100 {
            say(&forward, &i.to_string());
        }
        // Killed with lines that are not final, and that its successor finds in their spool again.
        let taken_twice = [message(0, &Owner::parse("web").unwrap(), Stream::Out, b"100")];
        forward.hold(&taken_twice);
        drop(forward);
        assert_eq!(Forward::left(folder.path()), std::slice::from_ref(&to));
        let forward = start(true);
        forward.hold(&taken_twice);
        // Killed when they are, in all but the word that they are.
        drop(forward);
        let forward = start(false);
        say(&forward, "101");
        let listener = TcpListener::bind(&to.address).unwrap();
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        for i in 0..102 {
            let frame = frame(&mut reader);
            assert!(frame.ends_with(&format!(" - {i}")), "{i}: {frame}");
        }
        forward.drain(PATIENCE);
        assert!(forward.shared.is_empty());
        forward.forget();
        assert!(Forward::left(folder.path()).is_empty());
    }
}
