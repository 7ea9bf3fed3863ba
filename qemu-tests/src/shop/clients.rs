//! Clients of the two databases, no larger than this needs: one statement or command at a time, and its answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For one answer: a disk that is busy, an emulated processor.
const PATIENCE: Duration = Duration::from_secs(30);

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// PostgreSQL's protocol 3.0 (its manual, chapter "Frontend/Backend Protocol"), simple queries without a password.
pub(crate) struct Postgres {
    stream: BufReader<TcpStream>,
}

impl Postgres {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = connect(address)?;
        let words = b"user\0shop\0database\0postgres\0\0";
        let length = u32::try_from(words.len() + 8).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &196_608_u32.to_be_bytes(), words].concat())?;
        let mut new = Self { stream: BufReader::new(stream) };
        new.answer()?;
        Ok(new)
    }

    /// The first column of each row.
    pub(crate) fn query(&mut self, text: &str) -> io::Result<Vec<String>> {
        let length = u32::try_from(text.len() + 5).map_err(io::Error::other)?;
        let message = [b"Q", &length.to_be_bytes()[..], text.as_bytes(), b"\0"].concat();
        self.stream.get_mut().write_all(&message)?;
        self.answer()
    }

    /// Until the server is ready for the next query; only then is this one done.
    fn answer(&mut self) -> io::Result<Vec<String>> {
        let (mut rows, mut error) = (Vec::new(), None);
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head)?;
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?.saturating_sub(4)];
            self.stream.read_exact(&mut body)?;
            match head[0] {
                b'Z' => return error.map_or(Ok(rows), |error| Err(wrong(error))),
                // Column count, then length and bytes of the first.
                b'D' => rows.push(String::from_utf8_lossy(body.get(6..).unwrap_or_default()).into_owned()),
                b'E' => {
                    let text = String::from_utf8_lossy(&body).replace('\0', " ");
                    // One that ends the connection is followed by nothing.
                    if text.starts_with("SFATAL") {
                        return Err(wrong(text));
                    }
                    error = Some(text);
                }
                _ => {}
            }
        }
    }
}

/// Redis's protocol RESP; answers that are a number or a word.
pub(crate) struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: BufReader::new(connect(address)?) })
    }

    pub(crate) fn command(&mut self, text: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{text}\r\n").as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        // A server that dies may leave a part of a number.
        let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        match line.split_at_checked(1) {
            Some((":" | "+", answer)) => Ok(answer.to_owned()),
            _ => Err(wrong(line)),
        }
    }
}
