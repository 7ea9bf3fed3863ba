//! The program as a user and a hostile client meet it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(30);

/// A running demo; ends with the test.
struct Demo {
    child: Child,
    port: u16,
}

impl Demo {
    fn start(mut command: Command) -> Self {
        let mut child = command.env("PORT", "0").stdout(Stdio::piped()).spawn().expect("start the demo");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("its first line");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port in its first line");
        Self { child, port }
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
        client
    }

    /// Sends bytes and returns all that comes back.
    fn ask(&self, request: &[u8]) -> String {
        let mut client = self.connect();
        client.write_all(request).expect("send");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("an answer and the end of the connection");
        String::from_utf8(answer).expect("text")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn demo() -> Demo {
    Demo::start(Command::new(env!("CARGO_BIN_EXE_demo")))
}

#[test]
fn the_page_health_and_errors() {
    let demo = demo();
    let page = demo.ask(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains("Hello from ") && page.contains("Mounts") && page.ends_with("</html>\n"), "{page}");
    assert!(demo.ask(b"GET /health HTTP/1.1\r\n\r\n").ends_with("\r\n\r\nok\n"));
    let head = demo.ask(b"HEAD / HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(demo.ask(b"GET /missing HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(demo.ask(b"DELETE / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    assert!(demo.ask(b"nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

#[test]
fn a_head_without_end_is_refused() {
    let demo = demo();
    let mut request = b"GET / HTTP/1.1\r\n".to_vec();
    request.resize(64 << 10, b'x');
    assert!(demo.ask(&request).starts_with("HTTP/1.1 431 "));
}

#[test]
fn clients_that_say_nothing_do_not_keep_others_out() {
    let demo = demo();
    // More than there are threads; each is let go when its time is over.
    let silent: Vec<TcpStream> = (0..12).map(|_| demo.connect()).collect();
    assert!(demo.ask(b"GET /health HTTP/1.1\r\n\r\n").ends_with("ok\n"));
    let mut answer = String::new();
    (&silent[0]).read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn a_port_that_is_none_is_an_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).env("PORT", "eighty").output().expect("run the demo");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("listen on port eighty: "));
}

/// As PID 1 of a pid namespace, where a signal without a handler is not delivered.
#[test]
fn it_ends_at_once_as_pid_1() {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--pid", "--fork", env!("CARGO_BIN_EXE_demo")]);
    let mut demo = Demo::start(unshare);
    let parent = demo.child.id();
    let children = format!("/proc/{parent}/task/{parent}/children");
    let inner = std::fs::read_to_string(&children).expect("the kernel lists children");
    let killed = Command::new("sh").args(["-c", &format!("kill -TERM {inner}")]).status().expect("run kill");
    assert!(killed.success());
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = demo.child.try_wait().expect("wait") {
            assert!(status.success(), "{status}");
            break;
        }
        assert!(Instant::now() < deadline, "the demo ignores SIGTERM");
        std::thread::yield_now();
    }
}
