//! A client for the little HTTP/1.1 the tests speak: one request a connection, the answer whole or line by line.
//!
//! Deliberately not the client of the `orlop` program: the harness looks at the machine from outside, and must not
//! agree with a mistake of its own code.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// No answer's head or chunk line is longer.
const LINE_BYTES: u64 = 64 << 10;

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// An answer whose body is still coming.
pub struct Stream {
    pub status: u16,
    headers: Vec<(String, String)>,
    body: BufReader<Box<dyn Read + Send>>,
}

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("connect to {to}: {source}")]
    Connect { to: String, source: io::Error },
    #[error("{request}: {source}")]
    Exchange { request: String, source: io::Error },
    #[error("{request}: not an HTTP/1.1 answer: `{line}`")]
    Malformed { request: String, line: String },
}

impl HttpError {
    /// Nothing went wrong but the time.
    pub(crate) fn is_late(&self) -> bool {
        matches!(self, Self::Exchange { source, .. } if source.kind() == io::ErrorKind::TimedOut)
    }
}

impl Response {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

/// Asks over TCP; no single read takes longer than `limit`.
pub fn get_tcp(address: SocketAddr, path: &str, limit: Duration) -> Result<Response, HttpError> {
    ask_tcp(address, "GET", path, limit)
}

pub fn ask_tcp(address: SocketAddr, method: &str, path: &str, limit: Duration) -> Result<Response, HttpError> {
    let connect = |source| HttpError::Connect { to: address.to_string(), source };
    let stream = TcpStream::connect_timeout(&address, limit).map_err(connect)?;
    stream.set_read_timeout(Some(limit)).map_err(connect)?;
    let writer = stream.try_clone().map_err(connect)?;
    exchange(writer, stream, method, path, "close")?.read_whole(path)
}

/// Asks over a unix socket; the body can be read as it comes.
///
/// `keep-alive`, as the connection is a serial port of the guest: the end of it is for the host to decide.
pub(crate) fn ask_unix(socket: &Path, method: &str, path: &str, limit: Duration) -> Result<Stream, HttpError> {
    let connect = |source| HttpError::Connect { to: socket.display().to_string(), source };
    let stream = UnixStream::connect(socket).map_err(connect)?;
    stream.set_read_timeout(Some(limit)).map_err(connect)?;
    let writer = stream.try_clone().map_err(connect)?;
    exchange(writer, stream, method, path, "keep-alive")
}

impl Stream {
    /// The rest of the body, whole.
    pub fn read_whole(mut self, request: &str) -> Result<Response, HttpError> {
        let mut body = Vec::new();
        let read = self.body.read_to_end(&mut body);
        read.map_err(|source| HttpError::Exchange { request: request.to_owned(), source })?;
        Ok(Response { status: self.status, headers: self.headers, body })
    }

    /// The next line of the body without its newline; `None` at the end.
    pub fn next_line(&mut self) -> io::Result<Option<String>> {
        let mut line = String::new();
        let count = self.body.by_ref().take(LINE_BYTES).read_line(&mut line)?;
        Ok((count > 0).then(|| line.trim_end_matches('\n').to_owned()))
    }
}

fn exchange(
    mut writer: impl Write,
    reader: impl Read + Send + 'static,
    method: &str,
    path: &str,
    connection: &str,
) -> Result<Stream, HttpError> {
    let request = format!("{method} {path}");
    let fail = |source: io::Error| {
        let is_late = source.kind() == io::ErrorKind::WouldBlock;
        let source =
            if is_late { io::Error::new(io::ErrorKind::TimedOut, "no answer within the deadline") } else { source };
        HttpError::Exchange { request: request.clone(), source }
    };
    let head = format!("{request} HTTP/1.1\r\nHost: orlop\r\nContent-Length: 0\r\nConnection: {connection}\r\n\r\n");
    writer.write_all(head.as_bytes()).map_err(fail)?;
    let mut reader = BufReader::new(reader);

    let status_line = read_line(&mut reader).map_err(fail)?;
    let malformed = |line: &str| HttpError::Malformed { request: request.clone(), line: line.to_owned() };
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| malformed(&status_line))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(&mut reader).map_err(fail)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed(&line))?;
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    let chunked = header(&headers, "Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let bodiless = status == 204 || status == 304;
    let length = if bodiless { Some("0") } else { header(&headers, "Content-Length") };
    let length = length.and_then(|length| length.parse().ok());
    let body: Box<dyn Read + Send> = match (chunked, length) {
        (true, _) => Box::new(Chunked { inner: reader, left: 0, ended: false }),
        (false, Some(length)) => Box::new(Exactly { inner: reader, left: length }),
        (false, None) => Box::new(reader),
    };
    Ok(Stream { status, headers, body: BufReader::new(body) })
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.take(LINE_BYTES).read_line(&mut line)? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the other end closed before the answer was complete",
        ));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A body of known length: an earlier end is an error, not a shorter body.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            // Even an empty read of a buffered reader waits for more to come.
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(cut_off());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// RFC 9112, section 7.1; trailers are not used here.
struct Chunked<R> {
    inner: R,
    left: u64,
    ended: bool,
}

impl<R: BufRead> Read for Chunked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            let line = read_line(&mut self.inner)?;
            let size = line.split(';').next().unwrap_or_default().trim();
            self.left = u64::from_str_radix(size, 16)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("bad chunk size `{line}`")))?;
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.inner.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(cut_off());
        }
        self.left -= count as u64;
        if self.left == 0 {
            read_line(&mut self.inner)?;
        }
        Ok(count)
    }
}

fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the other end closed in the middle of the body")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &'static str) -> Result<Stream, HttpError> {
        exchange(Vec::new(), text.as_bytes(), "GET", "/", "close")
    }

    #[test]
    fn a_body_of_known_length_ends_there_though_the_connection_stays() {
        let response =
            answer("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokrest").unwrap().read_whole("GET /").unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
        assert_eq!(response.header("Content-Length"), Some("2"));
    }

    #[test]
    fn chunks_are_joined_and_lines_cross_them() {
        let mut stream = answer(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\none\n\r\n3\r\ntwo\r\n1\r\n\n\r\n0\r\n\r\n",
        )
        .unwrap();
        assert_eq!(stream.next_line().unwrap().as_deref(), Some("one"));
        assert_eq!(stream.next_line().unwrap().as_deref(), Some("two"));
        assert_eq!(stream.next_line().unwrap(), None);
    }

    #[test]
    fn a_cut_off_body_and_nonsense_are_errors() {
        let cut = answer("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfive").unwrap();
        assert!(cut.read_whole("GET /").unwrap_err().to_string().contains("middle of the body"));
        assert!(answer("SSH-2.0\r\n\r\n").is_err());
        assert!(answer("").is_err());
    }
}
