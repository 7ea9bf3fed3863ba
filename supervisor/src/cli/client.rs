//! HTTP/1.1 to a machine, one connection a request. The transport is in `connect` alone, so that another one is a matter of this file.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
};

use serde::de::DeserializeOwned;

use super::error::CliError;
use crate::api::types::Problem;

pub(super) struct Client {
    socket: PathBuf,
}

/// The head of an answer, and its body to be read as it comes.
pub(super) struct Response {
    pub(super) status: u16,
    problem: bool,
    pub(super) body: BufReader<Body>,
}

/// A head longer than this is not one of ours.
const MAX_HEAD_BYTES: usize = 64 << 10;
/// No answer that is read as a whole is as long.
const MAX_BODY_BYTES: u64 = 256 << 20;

impl Client {
    /// Takes `unix:///path`, `unix:/path` or a plain path.
    pub(super) fn new(address: &str) -> Result<Self, CliError> {
        let path = match address.split_once(':') {
            Some(("unix", path)) => path.strip_prefix("//").unwrap_or(path),
            Some(_) => return Err(CliError::Address(address.to_owned())),
            None => address,
        };
        if path.is_empty() {
            return Err(CliError::Address(address.to_owned()));
        }
        Ok(Self { socket: PathBuf::from(path) })
    }

    fn connect(&self) -> Result<UnixStream, CliError> {
        UnixStream::connect(&self.socket).map_err(|source| CliError::Connect { path: self.socket.clone(), source })
    }

    pub(super) fn call(&self, method: &str, target: &str) -> Result<Response, CliError> {
        self.send(method, target, &[])
    }

    pub(super) fn send(&self, method: &str, target: &str, body: &[u8]) -> Result<Response, CliError> {
        self.ask(method, target, "Connection: close", body)
    }

    /// The connection, to go on with in another protocol, and what came of that already.
    pub(super) fn upgrade(&self, target: &str, to: &str, body: &[u8]) -> Result<(UnixStream, Vec<u8>), CliError> {
        let response = self.ask("POST", target, &format!("Connection: Upgrade\r\nUpgrade: {to}"), body)?;
        let status = response.status;
        // Nothing was read of the body yet.
        let reader = response.body.into_inner().reader;
        let first = reader.buffer().to_vec();
        match status {
            101 => Ok((reader.into_inner(), first)),
            _ => {
                let source = io::Error::new(io::ErrorKind::InvalidData, format!("it answers {status}, not 101"));
                Err(CliError::Exchange { what: "have the machine change the protocol", source })
            }
        }
    }

    /// An answer of 400 and above is the error it describes.
    fn ask(&self, method: &str, target: &str, connection: &str, body: &[u8]) -> Result<Response, CliError> {
        let mut stream = self.connect()?;
        let length = body.len();
        let request =
            format!("{method} {target} HTTP/1.1\r\nHost: orlop\r\n{connection}\r\nContent-Length: {length}\r\n\r\n");
        let exchange = |what| move |source| CliError::Exchange { what, source };
        stream.write_all(request.as_bytes()).map_err(exchange("send the request"))?;
        stream.write_all(body).map_err(exchange("send the request"))?;
        let response = Response::read(stream).map_err(exchange("read the answer"))?;
        if response.status >= 400 {
            return Err(CliError::Refused(response.into_problem()));
        }
        Ok(response)
    }

    pub(super) fn get<T: DeserializeOwned>(&self, target: &str) -> Result<T, CliError> {
        self.call("GET", target)?.json(target)
    }

    pub(super) fn post<T: DeserializeOwned>(&self, target: &str) -> Result<T, CliError> {
        self.call("POST", target)?.json(target)
    }
}

impl Response {
    fn read(stream: UnixStream) -> io::Result<Self> {
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let room = u64::try_from(MAX_HEAD_BYTES - head.len()).unwrap_or(0);
            if (&mut reader).take(room).read_until(b'\n', &mut head)? == 0 {
                let text =
                    if head.is_empty() { "the machine closed the connection" } else { "the answer's head has no end" };
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
        }
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut parsed = httparse::Response::new(&mut headers);
        let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        match parsed.parse(&head) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => return Err(invalid("the answer's head has no end".to_owned())),
            Err(error) => return Err(invalid(format!("what answers does not speak HTTP ({error})"))),
        }
        let header = |name: &str| {
            let found = parsed.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
            found.and_then(|h| std::str::from_utf8(h.value).ok()).map(str::trim)
        };
        let framing = if header("Transfer-Encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
            Framing::BetweenChunks
        } else if let Some(length) = header("Content-Length") {
            Framing::Length(length.parse().map_err(|_| invalid(format!("Content-Length: {length} is not a number")))?)
        } else {
            Framing::UntilClose
        };
        let problem = header("Content-Type").is_some_and(|v| v.starts_with("application/problem+json"));
        let status = parsed.code.unwrap_or(0);
        Ok(Self { status, problem, body: BufReader::new(Body { reader, framing }) })
    }

    pub(super) fn json<T: DeserializeOwned>(mut self, target: &str) -> Result<T, CliError> {
        let text = self.text().map_err(|source| CliError::Exchange { what: "read the answer", source })?;
        serde_json::from_slice(&text).map_err(|source| CliError::Answer { target: target.to_owned(), source })
    }

    fn text(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        (&mut self.body).take(MAX_BODY_BYTES).read_to_end(&mut text)?;
        Ok(text)
    }

    fn into_problem(mut self) -> Problem {
        let text = self.text().unwrap_or_default();
        let described = if self.problem { serde_json::from_slice(&text).ok() } else { None };
        described.unwrap_or_else(|| Problem {
            kind: "about:blank".to_owned(),
            title: "error".to_owned(),
            status: self.status,
            detail: format!("the machine answered with status {} and no reason", self.status),
        })
    }
}

/// An answer's body without its framing.
pub(super) struct Body {
    reader: BufReader<UnixStream>,
    framing: Framing,
}

enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// The same, of a chunk.
    InChunk(u64),
    BetweenChunks,
    UntilClose,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if matches!(self.framing, Framing::BetweenChunks) {
            let size = self.chunk_size()?;
            self.framing = if size == 0 { Framing::Length(0) } else { Framing::InChunk(size) };
        }
        let left = match self.framing {
            // A connection that stays open has nothing more to say.
            Framing::Length(0) => return Ok(0),
            Framing::Length(left) | Framing::InChunk(left) => left,
            Framing::BetweenChunks | Framing::UntilClose => return self.reader.read(buffer),
        };
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.reader.read(&mut buffer[..room])?;
        if count == 0 && room > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside the answer"));
        }
        let left = left - count as u64;
        self.framing = match self.framing {
            Framing::InChunk(_) if left == 0 => {
                let mut end = [0; 2];
                self.reader.read_exact(&mut end)?;
                Framing::BetweenChunks
            }
            Framing::InChunk(_) => Framing::InChunk(left),
            _ => Framing::Length(left),
        };
        Ok(count)
    }
}

impl Body {
    fn chunk_size(&mut self) -> io::Result<u64> {
        let mut line = Vec::new();
        (&mut self.reader).take(256).read_until(b'\n', &mut line)?;
        match httparse::parse_chunk_size(&line) {
            Ok(httparse::Status::Complete((_, size))) => Ok(size),
            _ if line.is_empty() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended inside the answer"))
            }
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer's chunks are broken")),
        }
    }
}
