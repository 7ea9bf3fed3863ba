//! One HTTP/1.1 message: request heads in, responses out. Bounded, and nothing here does I/O.

use serde::Serialize;

use super::{frame::PROTOCOL, types::Problem};

/// Longest request head, in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 16 << 10;
/// Longest request body, in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
/// As Podman's.
pub(crate) const MAX_SECRET_BYTES: usize = 512_000;
/// A program with its arguments and variables; it is a word of execve(2) on its way, which takes twice as much.
pub(crate) const MAX_COMMAND_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 64;

/// A request's head, after checking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    pub(crate) keep_alive: bool,
    /// The client knows chunks.
    pub(crate) chunks: bool,
    pub(crate) body_bytes: usize,
    /// Where it is of interest.
    pub(crate) body: Body,
    /// It waits for a word before it sends the body.
    pub(crate) expects_continue: bool,
    /// It wants to go on in the protocol of `frame`.
    pub(crate) upgrade: bool,
}

/// What nobody is shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Body(pub(crate) Vec<u8>);

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Head {
    /// Other endpoints take no body: it is passed over, and no memory is kept for it.
    pub(crate) fn keeps_body(&self) -> bool {
        let path = self.target.split('?').next().unwrap_or_default();
        let most = match () {
            () if path.starts_with("/v1/secrets/") => MAX_SECRET_BYTES,
            () if path.starts_with("/v1/units/") && path.ends_with("/exec") => MAX_COMMAND_BYTES,
            () => return false,
        };
        self.body_bytes <= most
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// Not all of it is there.
    More,
    Head {
        head: Head,
        used: usize,
    },
    /// Nothing that follows on this connection can be trusted.
    Refused(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) detail: &'static str,
}

fn refused(status: u16, detail: &'static str) -> Parsed {
    Parsed::Refused(Refusal { status, detail })
}

/// Reads the head at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let used = match request.parse(&bytes[..bytes.len().min(MAX_HEAD_BYTES)]) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD_BYTES => {
            return refused(431, "the request's head is longer than 16 KiB");
        }
        Ok(httparse::Status::Partial) => return Parsed::More,
        Err(httparse::Error::TooManyHeaders) => return refused(431, "the request has more than 64 header fields"),
        Err(_) => return refused(400, "not an HTTP/1.1 request"),
    };
    let version = request.version.unwrap_or(0);
    let mut head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        keep_alive: version == 1,
        chunks: version == 1,
        body_bytes: 0,
        body: Body::default(),
        expects_continue: false,
        upgrade: false,
    };
    let (mut length, mut upgrade) = (None, false);
    for header in request.headers.iter() {
        let Ok(value) = std::str::from_utf8(header.value) else {
            return refused(400, "a header field is not UTF-8");
        };
        let value = value.trim();
        if header.name.eq_ignore_ascii_case("content-length") {
            let Ok(bytes) = value.parse::<usize>() else { return refused(400, "Content-Length is not a number") };
            if length.is_some_and(|before| before != bytes) {
                return refused(400, "two different Content-Length");
            }
            if bytes > MAX_BODY_BYTES {
                return refused(413, "the request's body is longer than 1 MiB");
            }
            length = Some(bytes);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            // No endpoint takes a body whose length is not known; guessing where it ends is how requests are smuggled.
            return refused(501, "request bodies come with Content-Length here, not in chunks");
        } else if header.name.eq_ignore_ascii_case("connection") {
            for word in value.split(',').map(str::trim) {
                if word.eq_ignore_ascii_case("close") {
                    head.keep_alive = false;
                } else if word.eq_ignore_ascii_case("keep-alive") {
                    head.keep_alive = true;
                } else if word.eq_ignore_ascii_case("upgrade") {
                    upgrade = true;
                }
            }
        } else if header.name.eq_ignore_ascii_case("upgrade") {
            head.upgrade = value.split(',').any(|word| word.trim().eq_ignore_ascii_case(PROTOCOL));
        } else if header.name.eq_ignore_ascii_case("expect") {
            head.expects_continue = value.eq_ignore_ascii_case("100-continue");
        }
    }
    head.upgrade &= upgrade;
    head.body_bytes = length.unwrap_or(0);
    Parsed::Head { head, used }
}

/// A response whose length is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: Serialize>(status: u16, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut body) => {
                body.push(b'\n');
                Self { status, content_type: "application/json", body }
            }
            Err(error) => Self::problem(500, format!("the answer cannot be written as JSON: {error}")),
        }
    }

    pub(crate) fn problem(status: u16, detail: impl Into<String>) -> Self {
        let problem =
            Problem { kind: "about:blank".to_owned(), title: reason(status).to_owned(), status, detail: detail.into() };
        // A struct of strings and a number always is JSON.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        Self { status, content_type: "application/problem+json", body }
    }

    /// Head and body as they go over the wire.
    pub(crate) fn write(&self, keep_alive: bool, out: &mut Vec<u8>) {
        head(self.status, self.content_type, out);
        out.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        end_head(keep_alive, out);
        out.extend_from_slice(&self.body);
    }
}

/// The head of a response whose end is not known yet.
pub(crate) fn write_stream_head(content_type: &str, keep_alive: bool, chunks: bool, out: &mut Vec<u8>) {
    head(200, content_type, out);
    if chunks {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    end_head(keep_alive, out);
}

fn head(status: u16, content_type: &str, out: &mut Vec<u8>) {
    let line = format!("HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\n", reason(status));
    out.extend_from_slice(line.as_bytes());
}

/// What follows on this connection is the other protocol's.
pub(crate) fn switch() -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {PROTOCOL}\r\n\r\n")
}

fn end_head(keep_alive: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(if keep_alive { b"\r\n" } else { b"Connection: close\r\n\r\n" });
}

/// RFC 9110's phrases for what is used here.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(bytes: &[u8]) -> u16 {
        match parse(bytes) {
            Parsed::Refused(refusal) => refusal.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let text = b"POST /v1/units/web/start?no_block=true HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
        let whole = text.len() - 2;
        for cut in 0..whole {
            assert_eq!(parse(&text[..cut]), Parsed::More, "cut at {cut}");
        }
        let Parsed::Head { head, used } = parse(text) else { panic!("not read") };
        assert_eq!((head.method.as_str(), head.body_bytes, used, head.keep_alive), ("POST", 2, whole, true));
    }

    #[test]
    fn connections_close_when_the_client_or_its_version_says_so() {
        let keep = |text: &[u8]| match parse(text) {
            Parsed::Head { head, .. } => head.keep_alive,
            other => panic!("{other:?}"),
        };
        assert!(keep(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(!keep(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
        assert!(!keep(b"GET / HTTP/1.0\r\n\r\n"));
        assert!(keep(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn what_is_too_long_or_ambiguous_is_refused() {
        assert_eq!(status(b"\x16\x03\x01 not http\r\n\r\n"), 400);
        let mut long = b"GET / HTTP/1.1\r\nX: ".to_vec();
        long.resize(MAX_HEAD_BYTES + 10, b'a');
        assert_eq!(status(&long), 431);
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
        assert_eq!(status(many.as_bytes()), 431);
        assert_eq!(status(b"POST / HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\n"), 413);
        assert_eq!(status(b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400);
        assert_eq!(status(b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
        assert_eq!(status(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"), 501);
    }
}
