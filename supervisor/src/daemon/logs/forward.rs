//! Sends every line of every log to another machine as it is written: RFC 5424, over UDP (RFC 5426) or over TCP with octet counting
//! (RFC 6587). A thread per endpoint; what waits for it is bounded, what finds no room is dropped and counted, and the count is
//! sent when lines are again.

use std::{
    collections::VecDeque,
    io::{self, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, recv},
};

use super::{Owner, Stream, source::KERNEL};
use crate::{
    daemon::{clock, mailbox, perform::hostname},
    unit::Endpoint,
};

/// What waits for one endpoint at most, in bytes.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// A receiver that does not connect, or takes nothing, within this time is tried anew.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries, twice as long each time.
const RETRY: Duration = if cfg!(test) { Duration::from_millis(5) } else { Duration::from_secs(1) };
const MAX_RETRY: Duration = Duration::from_secs(30);
/// RFC 5424's limit for HOSTNAME and APP-NAME.
const MAX_HOST_BYTES: usize = 255;
const MAX_APP_BYTES: usize = 48;

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arc<[u8]>>,
    bytes: usize,
    dropped: u64,
    /// Nobody sends any more.
    closed: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Messages and their count are changed together; nothing panics in between.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writer's end. Dropping it ends the thread.
pub(super) struct Forward {
    shared: Arc<Shared>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.shared.waiting().closed = true;
        self.shared.more.notify_all();
    }
}

impl Forward {
    pub(super) fn start(endpoint: Endpoint) -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        mailbox::spawn("log forward", move || run(&endpoint, &of_thread));
        Self { shared }
    }

    /// Never waits.
    pub(super) fn send(&self, message: &Arc<[u8]>) {
        let mut waiting = self.shared.waiting();
        if waiting.bytes + message.len() > MAX_WAITING_BYTES {
            waiting.dropped += 1;
            return;
        }
        waiting.bytes += message.len();
        waiting.messages.push_back(Arc::clone(message));
        self.shared.more.notify_one();
    }
}

/// One record as a message.
pub(super) fn message(time_us: i64, owner: &Owner, stream: Stream, text: &[u8]) -> Arc<[u8]> {
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
    [head.as_bytes(), text].concat().into()
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
            Self::Udp(socket) => match socket.send(message) {
                // What an earlier one came to (ICMP), or longer than a datagram can be: it is UDP, this one is lost.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ECONNREFUSED | libc::EMSGSIZE)) => Ok(()),
                result => result.map(drop),
            },
            Self::Tcp(stream) => {
                // A receiver that has gone is noticed before a message is lost to it.
                use std::os::fd::AsRawFd;
                match recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
                    Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
                    Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
                stream.write_all(&[message.len().to_string().as_bytes(), b" ", message].concat())
            }
        }
    }
}

fn run(endpoint: &Endpoint, shared: &Shared) {
    let (mut connection, mut retry, mut told) = (None, RETRY, false);
    loop {
        let mut waiting = shared.waiting();
        while waiting.messages.is_empty() && waiting.dropped == 0 && !waiting.closed {
            waiting = shared.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.closed {
            return;
        }
        let (dropped, first) = (waiting.dropped, waiting.messages.front().cloned());
        drop(waiting);
        // The count first: it is of what came before this.
        let own = (dropped > 0).then(|| {
            let text = format!("{dropped} lines were dropped before {endpoint} took them");
            message(clock::wall_us(), &Owner::pseudo(super::SUPERVISOR), Stream::Level(4), text.as_bytes())
        });
        let Some(next) = own.clone().or(first) else { continue };
        let result = match &mut connection {
            Some(open) => Connection::send(open, &next),
            none => Connection::open(endpoint).and_then(|open| none.insert(open).send(&next)),
        };
        match result {
            Ok(()) => {
                (retry, told) = (RETRY, false);
                let mut waiting = shared.waiting();
                if own.is_some() {
                    waiting.dropped -= dropped;
                } else if let Some(sent) = waiting.messages.pop_front() {
                    waiting.bytes -= sent.len();
                }
            }
            Err(error) => {
                connection = None;
                if !std::mem::replace(&mut told, true) {
                    log::warn!("forward logs to {endpoint}: {error}; tried again until it takes them");
                }
                let until = Instant::now() + retry;
                retry = (retry * 2).min(MAX_RETRY);
                let mut waiting = shared.waiting();
                while !waiting.closed && Instant::now() < until {
                    let left = until.saturating_duration_since(Instant::now());
                    waiting = shared.more.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read},
        net::TcpListener,
    };

    use super::*;

    fn say(forward: &Forward, text: &str) {
        forward.send(&message(0, &Owner::parse("web").unwrap(), Stream::Out, text.as_bytes()));
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
            String::from_utf8(message.to_vec()).unwrap()
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
        let forward = Forward::start(endpoint(false, receiver.local_addr().unwrap()));
        say(&forward, "one");
        let mut buffer = [0; 200];
        let n = receiver.recv(&mut buffer).unwrap();
        assert!(buffer[..n].ends_with(b" web - stdout - one"));
    }

    #[test]
    fn a_tcp_receiver_comes_late_goes_away_and_is_told_what_was_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let forward = Forward::start(endpoint(true, address));
        // Nobody is there, and more comes than may wait.
        let line = "x".repeat(10_000);
        for i in 0..200 {
            say(&forward, &format!("{i} {line}"));
        }
        let listener = TcpListener::bind(address).unwrap();
        let mut reader = BufReader::new(listener.accept().unwrap().0);
        let first = frame(&mut reader);
        let dropped: usize = first.split(" - ").last().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(first.contains("<28>1 ") && dropped > 90, "{first}");
        for i in 0..200 - dropped {
            assert!(frame(&mut reader).contains(&format!(" - {i} x")), "the oldest were kept, in their order");
        }
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
}
