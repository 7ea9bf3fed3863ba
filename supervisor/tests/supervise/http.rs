//! The least client of the control interface that a test needs.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

const SOCKET: &str = "/run/orlop/control.sock";

/// Status and body. `None` when nobody answers, or the answer breaks off.
pub(crate) fn ask(method: &str, path: &str) -> Option<(u16, Vec<u8>)> {
    ask_within(Duration::from_secs(60), method, path)
}

/// The socket is kept by PID 1: of a supervisor that has died in between nothing but the time tells.
pub(crate) fn ask_within(time: Duration, method: &str, path: &str) -> Option<(u16, Vec<u8>)> {
    let mut stream = begin(method, path)?;
    stream.set_read_timeout(Some(time)).ok()?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text).ok()?;
    let end = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&text[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, text[end + 4..].to_vec()))
}

/// A request whose answer nobody has read yet.
pub(crate) fn begin(method: &str, path: &str) -> Option<UnixStream> {
    let mut stream = UnixStream::connect(SOCKET).ok()?;
    write!(stream, "{method} {path} HTTP/1.0\r\n\r\n").ok()?;
    Some(stream)
}
