//! The web page a fresh Orlop machine serves: what a container sees of itself and of its machine, and what it does not.
//!
//! It is PID 1 of its container, has no file system but its own program, and must be small: std only, a fixed number
//! of threads, one request a connection. A client that is slow, loud or wrong costs one thread for a few seconds.

mod facts;
mod http;
mod page;
#[allow(unsafe_code)]
mod sys;

use http::{Problem, Request};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const THREADS: usize = 8;
/// Enough for a page of some kilobytes; the default is 2 MiB each.
const STACK_BYTES: usize = 128 << 10;
/// For the whole request and for the whole answer.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    // The kernel drops signals that PID 1 of a container has no handler for: without this, stopping takes until the
    // stop timeout.
    sys::exit_on_terminate();
    let started = Instant::now();
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let listener = port.parse().map_err(io::Error::other).and_then(listen);
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("demo: listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Ok(address) = listener.local_addr() {
        println!("listening on {address}");
    }
    match serve(listener, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: start a thread: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Both families where the machine has IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)))
}

/// Answers for ever, on a fixed number of threads.
fn serve(listener: TcpListener, started: Instant) -> io::Result<()> {
    let listener = std::sync::Arc::new(listener);
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let listener = listener.clone();
        let work = move || {
            loop {
                match listener.accept() {
                    // A client that goes away is its own affair.
                    Ok((client, _)) => drop(answer(&client, started)),
                    // No descriptors or memory left: let others finish.
                    Err(_) => std::thread::yield_now(),
                }
            }
        };
        threads.push(std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work)?);
    }
    for thread in threads {
        // A thread that panicked is one less; the page stays up on the others.
        let _ = thread.join();
    }
    Ok(())
}

/// One request, one answer.
fn answer(mut client: &TcpStream, started: Instant) -> io::Result<()> {
    client.set_write_timeout(Some(PATIENCE))?;
    let request = read_head(client).and_then(|head| Request::parse(&head));
    let response = match &request {
        Ok(request) => http::route(request, || page::render(&facts::collect(started))),
        Err(problem) => http::refuse(problem),
    };
    client.write_all(&response)?;
    client.shutdown(Shutdown::Write)?;
    // What the client still sends is read away: closing over unread data would reset the connection and could take
    // the answer with it.
    client.set_read_timeout(Some(Duration::from_millis(500)))?;
    let mut rest = [0; 4096];
    for _ in 0..16 {
        if client.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Reads up to the empty line that ends the head.
fn read_head(mut client: &TcpStream) -> Result<Vec<u8>, Problem> {
    let deadline = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    let mut part = [0; 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || client.set_read_timeout(Some(left)).is_err() {
            return Err(Problem::Slow);
        }
        match client.read(&mut part) {
            Ok(0) => return Err(Problem::Malformed),
            Ok(count) => head.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Problem::Slow),
        }
        if http::is_complete(&head) {
            return Ok(head);
        }
        if head.len() > http::HEAD_LIMIT_BYTES {
            return Err(Problem::TooLarge);
        }
    }
}
