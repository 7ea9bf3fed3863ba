//! One connection of the control interface, on a socket or a serial port: a state machine that never blocks and holds a bounded
//! number of bytes. Driven by edges: `readable` and `writable` stay set until the kernel says EAGAIN.
//!
//! ```text
//! Head ──whole──▶ Body ──read──▶ Answering ──answer──▶ Head (keep-alive), or closed once all is written
//!                                    ├──stream──▶ Streaming ──end──┘
//!                                    └──upgrade─▶ Given, until it is closed
//! ```

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::errno::Errno;

use super::http::{Answer, Body, Head, MAX_HEAD_BYTES, Parsed, parse, write_stream_head};

/// A stream waits while so much is unwritten.
const OUTPUT_BYTES: usize = 64 << 10;
/// To send a whole request, to take an answer, or to ask the next one on an idle connection.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
enum Phase {
    Head,
    Body {
        head: Head,
        left: usize,
    },
    Answering(Head),
    Streaming(Head),
    /// It speaks another protocol now, with somebody else.
    Given,
    /// Closed once all is written.
    Closing,
}

#[derive(Debug)]
pub(crate) struct Connection {
    fd: OwnedFd,
    readable: bool,
    writable: bool,
    /// The peer sends no more.
    ended: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    phase: Phase,
    /// Something was read.
    used: bool,
    /// For progress by the peer; none while it is us who let it wait.
    deadline: Duration,
}

/// What became of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Waits for the peer, or for our answer.
    Waiting,
    /// A whole request; nothing further is read before it is answered.
    Request(Head),
    Closed,
}

impl Connection {
    /// `fd` is non-blocking.
    pub(crate) fn new(fd: OwnedFd, now: Duration) -> Self {
        Self {
            fd,
            readable: true,
            writable: true,
            ended: false,
            input: Vec::new(),
            output: Vec::new(),
            phase: Phase::Head,
            used: false,
            deadline: now + PATIENCE,
        }
    }

    /// One whose request an earlier supervisor took and did not answer.
    pub(crate) fn adopt(fd: OwnedFd, now: Duration) -> Self {
        let head = Head {
            method: String::new(),
            target: String::new(),
            keep_alive: false,
            chunks: true,
            body_bytes: 0,
            body: Body::default(),
            expects_continue: false,
            upgrade: false,
        };
        Self { phase: Phase::Answering(head), used: true, ..Self::new(fd, now) }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn edge(&mut self, readable: bool, writable: bool) {
        self.readable |= readable;
        self.writable |= writable;
    }

    /// When the peer's patience with us (or ours with it) ends.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        (!(self.is_ours() && self.output.is_empty())).then_some(self.deadline)
    }

    /// Nothing was ever said on it.
    pub(crate) fn is_unused(&self) -> bool {
        !self.used
    }

    /// A request is with us.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.phase, Phase::Answering(_) | Phase::Streaming(_) | Phase::Given)
    }

    /// Between two requests.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Head) && self.input.is_empty() && self.output.is_empty()
    }

    /// Reads and writes as far as it goes.
    pub(crate) fn drive(&mut self, now: Duration) -> Progress {
        loop {
            if self.flush(now).is_err() {
                return Progress::Closed;
            }
            match &mut self.phase {
                Phase::Closing if self.output.is_empty() => return Progress::Closed,
                Phase::Closing | Phase::Answering(_) | Phase::Streaming(_) | Phase::Given => {
                    // A peer that is gone shows when we write; one that only ended its side still wants the answer.
                    return Progress::Waiting;
                }
                Phase::Body { left, head } => {
                    let used = (*left).min(self.input.len());
                    let piece = self.input.drain(..used);
                    if head.keeps_body() {
                        head.body.0.extend(piece);
                    }
                    *left -= used;
                    if *left == 0 {
                        let request = head.clone();
                        head.body = Body::default();
                        self.phase = Phase::Answering(head.clone());
                        return Progress::Request(request);
                    }
                }
                Phase::Head => match parse(&self.input) {
                    Parsed::More => {}
                    Parsed::Refused(refusal) => {
                        self.refuse(&Answer::problem(refusal.status, refusal.detail));
                        continue;
                    }
                    Parsed::Head { head, used } => {
                        self.input.drain(..used);
                        if head.expects_continue && head.body_bytes > 0 {
                            self.output.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                        }
                        self.phase = Phase::Body { left: head.body_bytes, head };
                        continue;
                    }
                },
            }
            // More input is needed.
            if self.ended {
                return Progress::Closed;
            }
            let first = self.input.is_empty() && matches!(self.phase, Phase::Head);
            match self.fill() {
                Ok(0) => return Progress::Waiting,
                // From its first byte on a request has this long, however slowly it trickles.
                Ok(_) if first => self.deadline = now + PATIENCE,
                Ok(_) => {}
                Err(_) => return Progress::Closed,
            }
        }
    }

    /// Bytes read; 0 when none are there now. The end of the input is noted.
    fn fill(&mut self) -> Result<usize, Errno> {
        let mut buffer = [0u8; 4096];
        while self.readable {
            match nix::unistd::read(&self.fd, &mut buffer) {
                Ok(0) => {
                    self.ended = true;
                    // What is there is looked at once more, then it is over.
                    return if self.input.is_empty() { Err(Errno::ECONNRESET) } else { Ok(1) };
                }
                Ok(n) => {
                    self.used = true;
                    self.input.extend_from_slice(&buffer[..n]);
                    debug_assert!(self.input.len() <= MAX_HEAD_BYTES + buffer.len());
                    return Ok(n);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.readable = false,
                Err(errno) => return Err(errno),
            }
        }
        Ok(0)
    }

    fn flush(&mut self, now: Duration) -> Result<(), Errno> {
        while self.writable && !self.output.is_empty() {
            match nix::unistd::write(&self.fd, &self.output) {
                Ok(n) => {
                    self.output.drain(..n);
                    self.deadline = now + PATIENCE;
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => self.writable = false,
                Err(errno) => return Err(errno),
            }
        }
        if self.output.is_empty() && self.output.capacity() > OUTPUT_BYTES {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Answers and closes.
    pub(crate) fn refuse(&mut self, answer: &Answer) {
        answer.write(false, &mut self.output);
        self.phase = Phase::Closing;
    }

    /// Answers the request under way.
    pub(crate) fn answer(&mut self, answer: &Answer) {
        if let Phase::Answering(head) = &self.phase {
            let keep_alive = head.keep_alive;
            answer.write(keep_alive, &mut self.output);
            self.next(keep_alive);
        }
    }

    /// For whom it goes on with, who answers the request. `None`: something came behind that, or what was said before is not read yet.
    pub(crate) fn give(&mut self) -> Option<OwnedFd> {
        if !matches!(self.phase, Phase::Answering(_)) || !self.input.is_empty() || !self.output.is_empty() {
            return None;
        }
        let fd = self.fd.try_clone().ok()?;
        self.phase = Phase::Given;
        Some(fd)
    }

    /// Nobody took it.
    pub(crate) fn take_back(&mut self, answer: &Answer) {
        if matches!(self.phase, Phase::Given) {
            self.refuse(answer);
        }
    }

    pub(crate) fn begin_stream(&mut self, content_type: &str) {
        if let Phase::Answering(head) = &self.phase {
            let head = head.clone();
            write_stream_head(content_type, head.keep_alive && head.chunks, head.chunks, &mut self.output);
            self.phase = Phase::Streaming(head);
        }
    }

    /// How many bytes a stream may send now.
    pub(crate) fn room(&self) -> usize {
        match self.phase {
            Phase::Streaming(_) => OUTPUT_BYTES.saturating_sub(self.output.len()),
            _ => 0,
        }
    }

    pub(crate) fn stream(&mut self, bytes: &[u8]) {
        if let Phase::Streaming(head) = &self.phase
            && !bytes.is_empty()
        {
            if head.chunks {
                self.output.extend_from_slice(format!("{:x}\r\n", bytes.len()).as_bytes());
            }
            self.output.extend_from_slice(bytes);
            if head.chunks {
                self.output.extend_from_slice(b"\r\n");
            }
        }
    }

    pub(crate) fn end_stream(&mut self) {
        if let Phase::Streaming(head) = &self.phase {
            let keep_alive = head.keep_alive && head.chunks;
            if head.chunks {
                self.output.extend_from_slice(b"0\r\n\r\n");
            }
            self.next(keep_alive);
        }
    }

    fn next(&mut self, keep_alive: bool) {
        self.phase = if keep_alive && !self.ended { Phase::Head } else { Phase::Closing };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    use super::*;

    fn pair() -> (UnixStream, Connection) {
        let (client, server) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        (client, Connection::new(server.into(), Duration::ZERO))
    }

    fn drive(connection: &mut Connection) -> Progress {
        connection.edge(true, true);
        connection.drive(Duration::ZERO)
    }

    fn read(client: &mut UnixStream) -> String {
        let mut text = Vec::new();
        let _ = client.read_to_end(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn requests_on_one_connection_are_answered_in_turn() {
        let (mut client, mut server) = pair();
        client.write_all(b"GET /a HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /c").unwrap();
        for target in ["/a", "/b"] {
            let Progress::Request(head) = drive(&mut server) else { panic!("no request") };
            assert_eq!(head.target, target);
            assert_eq!(drive(&mut server), Progress::Waiting, "nothing is read before the answer");
            server.answer(&Answer::json(200, &target));
        }
        assert_eq!(drive(&mut server), Progress::Waiting);
        assert_eq!(read(&mut client).matches("HTTP/1.1 200 OK").count(), 2);
        client.write_all(b" HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        let Progress::Request(head) = drive(&mut server) else { panic!("no request") };
        assert_eq!(head.target, "/c");
        server.answer(&Answer::problem(404, "no"));
        assert_eq!(drive(&mut server), Progress::Closed);
        assert!(read(&mut client).contains("Connection: close\r\n\r\n{\"type\":\"about:blank\""));
    }

    #[test]
    fn a_slow_reader_holds_its_stream_and_nothing_more() {
        let (mut client, mut server) = pair();
        client.write_all(b"GET /logs HTTP/1.1\r\n\r\n").unwrap();
        drive(&mut server);
        server.begin_stream("application/x-ndjson");
        let mut sent = 0;
        let chunk = [b'x'; 4096];
        while server.room() >= chunk.len() {
            server.stream(&chunk);
            sent += chunk.len();
            drive(&mut server);
            assert!(sent < 64 << 20, "the socket takes everything");
        }
        assert!(server.output.len() <= OUTPUT_BYTES + 64);
        let mut received = 0;
        let mut buffer = [0; 8192];
        while server.room() < OUTPUT_BYTES {
            received += client.read(&mut buffer).unwrap();
            drive(&mut server);
        }
        server.end_stream();
        assert_eq!(drive(&mut server), Progress::Waiting, "kept for the next request");
        received += read(&mut client).len();
        assert!(received > sent);
    }

    #[test]
    fn half_closed_clients_get_their_answer_and_closed_ones_are_noticed() {
        let (mut client, mut server) = pair();
        client.write_all(b"GET /a HTTP/1.1\r\n\r\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(matches!(drive(&mut server), Progress::Request(_)));
        server.answer(&Answer::json(200, &1));
        assert_eq!(drive(&mut server), Progress::Closed);
        assert!(read(&mut client).starts_with("HTTP/1.1 200"));

        let (client, mut server) = pair();
        drop(client);
        assert_eq!(drive(&mut server), Progress::Closed);
    }

    #[test]
    fn garbage_is_answered_and_closed() {
        let (mut client, mut server) = pair();
        client.write_all(&[0xff; 100]).unwrap();
        assert_eq!(drive(&mut server), Progress::Closed);
        assert!(read(&mut client).starts_with("HTTP/1.1 400 Bad Request"));
        let (mut client, mut server) = pair();
        client.write_all(&[b'A'; 20 << 10]).unwrap();
        assert_eq!(drive(&mut server), Progress::Closed);
        assert!(read(&mut client).starts_with("HTTP/1.1 4"));
    }
}
