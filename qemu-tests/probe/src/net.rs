//! Servers small enough to trust.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two lines of a stream: fast enough to notice a gap, slow enough for a terminal and a log.
const BEAT: Duration = Duration::from_millis(50);

/// Answers every request with one line of text.
pub(crate) fn serve(port: u16) -> io::Result<()> {
    crate::sys::exit_on(libc::SIGTERM);
    let listener = match crate::sys::handed_listener() {
        Some(listener) => listener,
        None => listen(port)?,
    };
    let (started, hits) = (Instant::now(), AtomicU64::new(0));
    println!("listening on {port}");
    thread::scope(|scope| {
        for client in listener.incoming().flatten() {
            let hits = &hits;
            scope.spawn(move || answer(&client, started, hits));
        }
    });
    Ok(())
}

fn answer(mut client: &TcpStream, started: Instant, hits: &AtomicU64) -> io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut lines = BufReader::new(client).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    // The head is read to its end: closing with unread input would reset the connection.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let hit = hits.fetch_add(1, Ordering::Relaxed) + 1;
    let body = match first.split(' ').nth(1) {
        Some("/") => "ok".to_owned(),
        Some("/pid") => std::process::id().to_string(),
        Some("/uptime") => started.elapsed().as_millis().to_string(),
        Some("/hostname") => std::fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_owned(),
        Some("/hits") => hit.to_string(),
        _ => return client.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close");
    client.write_all(format!("{head}\r\n\r\n{body}").as_bytes())
}

/// Line N says `line N`, for ever; each client's lines begin at 1.
pub(crate) fn stream(port: u16) -> io::Result<()> {
    crate::sys::exit_on(libc::SIGTERM);
    let listener = listen(port)?;
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || beat(&client));
        }
    });
    beat(io::stdout().lock())
}

fn beat(mut to: impl Write) -> io::Result<()> {
    for number in 1_u64.. {
        to.write_all(format!("line {number}\n").as_bytes())?;
        to.flush()?;
        thread::sleep(BEAT);
    }
    Ok(())
}

/// A connection that is accepted may break off, when whoever accepted it dies; that nobody accepts is another matter.
pub(crate) fn knock(address: &str) -> io::Result<()> {
    const SAY_EVERY: u64 = 10;
    const BEAT: Duration = Duration::from_millis(200);
    crate::sys::exit_on(libc::SIGTERM);
    println!("knocking");
    let mut answered = 0;
    loop {
        let answer = match address.parse::<u16>() {
            Ok(port) => TcpStream::connect(("127.0.0.1", port)).map(ask),
            Err(_) if !address.starts_with('/') => TcpStream::connect(address).map(ask),
            Err(_) => UnixStream::connect(address).map(ask),
        };
        match answer {
            Ok(true) => {
                answered += 1;
                if answered % SAY_EVERY == 1 {
                    println!("answered {answered}");
                }
            }
            Ok(false) => {}
            Err(error) => println!("refused: {error}"),
        }
        thread::sleep(BEAT);
    }
}

/// Whether anything was answered.
fn ask(mut stream: impl Read + Write) -> bool {
    let mut answer = String::new();
    let asked = stream.write_all(b"GET / HTTP/1.0\r\n\r\n");
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1")
}

/// One end's close is passed on to the other, each way for itself.
pub(crate) fn relay(port: u16, socket: &str) -> io::Result<()> {
    crate::sys::exit_on(libc::SIGTERM);
    let listener = listen(port)?;
    println!("waiting on {port}");
    for client in listener.incoming().flatten() {
        let server = match UnixStream::connect(socket) {
            Ok(server) => server,
            Err(error) => {
                println!("refused: {error}");
                continue;
            }
        };
        thread::spawn(move || {
            thread::scope(|scope| {
                scope.spawn(|| {
                    let _ = io::copy(&mut &client, &mut &server);
                    let _ = server.shutdown(Shutdown::Write);
                });
                let _ = io::copy(&mut &server, &mut &client);
                let _ = client.shutdown(Shutdown::Both);
            });
        });
    }
    Ok(())
}

/// A client may speak first or last or not at all: that it came is what counts.
pub(crate) fn wait_for_request(port: u16) -> io::Result<()> {
    let listener = listen(port)?;
    println!("waiting on {port}");
    listener.accept().map(drop)
}

pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", port))
}
