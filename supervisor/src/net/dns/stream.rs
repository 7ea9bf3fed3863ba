//! Questions over TCP, RFC 7766: what is too long for a packet. A client's connection is a thread's, and has one deadline.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use super::{
    PORT,
    forward::{self, PATIENCE, is_answer},
    zone::{self, MOST_BYTES, Verdict, Zone, judge},
};

/// For all that one connection is for.
const WHOLE: Duration = Duration::from_secs(10);

/// Answers one question after the other until the client has no more, or the time is up.
pub(super) fn serve(mut client: TcpStream, interface: &str, zones: &[Zone], resolv_conf: &Path) -> io::Result<()> {
    let (from, deadline) = (client.peer_addr()?.ip().to_canonical(), Instant::now() + WHOLE);
    loop {
        let Ok(question) = receive(&mut client, MOST_BYTES, deadline) else { return Ok(()) };
        let answer = match judge(zones, interface, from, &question, true) {
            Verdict::Nothing => return Ok(()),
            Verdict::Reply(answer) => answer,
            Verdict::Forward(given) => {
                let servers = forward::servers(given, resolv_conf);
                let found = servers.into_iter().find_map(|server| ask(server, &question, deadline).ok());
                found.or_else(|| zone::failure(&question)).unwrap_or_default()
            }
        };
        send(&mut client, &answer, deadline)?;
    }
}

fn ask(server: IpAddr, question: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let deadline = deadline.min(Instant::now() + PATIENCE);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(server, PORT), left(deadline)?)?;
    send(&mut stream, question, deadline)?;
    let answer = receive(&mut stream, u16::MAX, deadline)?;
    if is_answer(question, &answer) { Ok(answer) } else { Err(io::Error::other("this is another question's")) }
}

fn send(stream: &mut TcpStream, message: &[u8], deadline: Instant) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&[&length.to_be_bytes(), message].concat())
}

fn receive(stream: &mut TcpStream, most_bytes: u16, deadline: Instant) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    fill(stream, &mut length, deadline)?;
    let length = u16::from_be_bytes(length);
    if length > most_bytes {
        return Err(io::Error::other("too long"));
    }
    let mut message = vec![0; length.into()];
    fill(stream, &mut message, deadline)?;
    Ok(message)
}

/// However slowly it comes, the deadline stays.
fn fill(stream: &mut TcpStream, mut room: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !room.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let count = stream.read(room)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        room = &mut room[count..];
    }
    Ok(())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}
