//! Every log of a machine, sent to another as it is written: RFC 5424 over UDP and over TCP, though the supervisor is killed again
//! and again.

use crate::support::{enabled, machine, probe_unit};
use qemu_tests::{LIMIT, Machine};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const STRIKE: u16 = 9001;
/// One more, and PID 1 would ask a person.
const KILLS: u32 = 4;
/// Between two looks of a receiver at whether it is over.
const BEAT: Duration = Duration::from_millis(100);

/// By APP-NAME, what was received.
#[derive(Default)]
struct Received(Mutex<BTreeMap<String, Vec<String>>>);

impl Received {
    /// RFC 5424: `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG`.
    fn take(&self, message: &str) {
        let fields: Vec<&str> = message.splitn(8, ' ').collect();
        let [priority, time, host, app, "-", stream, "-", text] = fields[..] else { panic!("{message}") };
        let number =
            priority.strip_prefix('<').and_then(|rest| rest.strip_suffix(">1")).and_then(|n| n.parse::<u8>().ok());
        assert!(number.is_some_and(|number| number < 192), "{message}");
        assert!(time.len() == "2026-01-31T12:00:00.000000Z".len() && time.ends_with('Z'), "{message}");
        assert!(
            !host.is_empty() && ["stdout", "stderr", "orlop"].contains(&stream) || app.starts_with('@'),
            "{message}"
        );
        self.0.lock().unwrap().entry(app.to_owned()).or_default().push(text.trim_end().to_owned());
    }

    /// The numbers of `line N`, each once.
    fn numbers(&self) -> BTreeSet<u64> {
        let all = self.0.lock().unwrap();
        let lines = all.get("stream").into_iter().flatten();
        lines.filter_map(|line| line.strip_prefix("line ")?.parse().ok()).collect()
    }

    fn who(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().keys().cloned().collect()
    }
}

/// Each supervisor has a connection of its own; one that is killed may leave half a message, which the next sends whole.
fn receive_tcp(listener: &TcpListener, received: &Received, done: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    thread::scope(|scope| {
        while !done.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, _)) => drop(scope.spawn(move || read_tcp(&stream, received, done))),
                Err(_) => thread::sleep(BEAT),
            }
        }
    });
}

/// Octet counting, RFC 6587.
fn read_tcp(stream: &TcpStream, received: &Received, done: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(BEAT)).unwrap();
    let mut stream = BufReader::new(Patient { stream, done });
    loop {
        let (mut length, mut message) = (Vec::new(), Vec::new());
        stream.read_until(b' ', &mut length).unwrap();
        let Some(length) = length.strip_suffix(b" ") else { return };
        let length: u64 = str::from_utf8(length).unwrap().parse().unwrap();
        (&mut stream).take(length).read_to_end(&mut message).unwrap();
        if (message.len() as u64) < length {
            return;
        }
        received.take(&String::from_utf8_lossy(&message));
    }
}

/// Its end is the other's, or the test's.
struct Patient<'a> {
    stream: &'a TcpStream,
    done: &'a AtomicBool,
}

impl Read for Patient<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !self.done.load(Ordering::Relaxed) {
            match self.stream.read(buffer) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // Reset, by one that was killed.
                result => return Ok(result.unwrap_or(0)),
            }
        }
        Ok(0)
    }
}

fn receive_udp(socket: &UdpSocket, received: &Received, done: &AtomicBool) {
    socket.set_read_timeout(Some(BEAT)).unwrap();
    let mut buffer = vec![0; 1 << 16];
    while !done.load(Ordering::Relaxed) {
        if let Ok(length) = socket.recv(&mut buffer) {
            received.take(&String::from_utf8_lossy(&buffer[..length]));
        }
    }
}

fn last_line(machine: &Machine) -> u64 {
    let lines = machine.log("stream").unwrap();
    lines.iter().rev().find_map(|line| line.strip_prefix("line ")?.parse().ok()).unwrap_or(0)
}

#[test]
fn every_log_is_sent_away_and_over_tcp_none_is_lost_with_a_supervisor() {
    let (tcp, udp) = (TcpListener::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let ports = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let machine = machine("forwarding")
        .unit(
            "orlop.conf",
            &format!("[Logs]\nForward=tcp://10.0.2.2:{}\nForward=udp://10.0.2.2:{}\n", ports.0, ports.1),
        )
        .unit("stream.container", &enabled(&probe_unit("stream 9000", "")))
        .unit(
            "strike.container",
            &enabled(&probe_unit(&format!("strike {STRIKE} /cg/orlop"), "Volume=/sys/fs/cgroup:/cg")),
        )
        .forward(STRIKE)
        .start()
        .unwrap();
    let (by_tcp, by_udp, done) = (Received::default(), Received::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| receive_tcp(&tcp, &by_tcp, &done));
        scope.spawn(|| receive_udp(&udp, &by_udp, &done));
        let end = Done(&done);
        machine.wait_for_log("strike", "waiting on").unwrap();
        let killer = TcpStream::connect(machine.forwarded(STRIKE).unwrap()).unwrap();
        killer.set_read_timeout(Some(LIMIT)).unwrap();
        let mut answers = BufReader::new(&killer).lines();
        for kill in 0..KILLS {
            // Somewhere between two lines, or in one; the next only when this one has sent something.
            (&killer).write_all(format!("{}\n", 7_000 * kill).as_bytes()).unwrap();
            assert!(answers.next().unwrap().unwrap().starts_with("killed "));
            machine.wait_until("the next supervisor", || machine.get("/v1/ping").map(Some)).unwrap();
            let said = last_line(&machine) + 5;
            let sent = |received: &Received| received.numbers().last().is_some_and(|last| *last > said);
            machine.wait_until("new lines by TCP", || Ok(sent(&by_tcp).then_some(()))).unwrap();
            machine.wait_until("new lines by UDP", || Ok(sent(&by_udp).then_some(()))).unwrap();
            println!("kill {kill}: {} lines by TCP, {} by UDP", by_tcp.numbers().len(), by_udp.numbers().len());
        }
        drop(end);
    });
    let numbers = by_tcp.numbers();
    let gap = numbers.iter().zip(1..).find(|(found, expected)| **found != *expected);
    assert!(gap.is_none(), "{gap:?} (found, expected)");
    println!("{} lines by TCP, {} by UDP", numbers.len(), by_udp.numbers().len());
    for (by, received) in [("TCP", &by_tcp), ("UDP", &by_udp)] {
        let who = received.who();
        assert!(["@init", "@kernel", "@supervisor", "stream"].iter().all(|app| who.contains(*app)), "{by}: {who:?}");
    }
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
