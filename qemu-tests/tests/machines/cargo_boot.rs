//! `cargo boot` as a person calls it.

use crate::support::{enabled, probe_image, probe_unit};
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use qemu_tests::{Artefacts, LIMIT, get_tcp};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

/// A running `cargo boot`, killed when dropped: it then takes its QEMU with it.
struct Boot {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Boot {
    fn start(args: &[&str]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_boot")).args(args).stdin(Stdio::null()))
    }

    /// In front of a terminal, whose other end comes with it.
    fn start_in_terminal(args: &[&str]) -> (Self, PtyMaster) {
        let person = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC).unwrap();
        grantpt(&person).unwrap();
        unlockpt(&person).unwrap();
        let terminal = File::options().read(true).write(true).open(ptsname_r(&person).unwrap()).unwrap();
        // setsid(1) makes it the terminal of the session, so that Ctrl-C on it is a signal.
        let mut command = Command::new("setsid");
        (Self::run(command.args(["--ctty", env!("CARGO_BIN_EXE_boot")]).args(args).stdin(terminal)), person)
    }

    fn run(command: &mut Command) -> Self {
        // What it boots is built by now, so that no wait below is for a compiler.
        Artefacts::shared();
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines, seen: Vec::new() }
    }

    fn wait_for(&mut self, pattern: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.unwrap_or_else(|error| panic!("{error} before `{pattern}` in {:#?}", self.seen));
            self.seen.push(line.clone());
            if line.contains(pattern) {
                return line;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Its output ends with it; a machine that does not stop would be noticed here.
    fn wait(&mut self) -> ExitStatus {
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(error) => panic!("{error}: it goes on: {:#?}", self.seen),
            }
        }
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_shows_the_demos_address_and_ctrl_c_powers_off() {
    // Taken, so that it has to find another port and say so.
    let taken = TcpListener::bind("127.0.0.1:8080");
    let (mut boot, mut person) = Boot::start_in_terminal(&["--", "--timing"]);
    let line = boot.wait_for("the demo answers");
    let address: SocketAddr = line.rsplit("http://").next().unwrap().trim().parse().unwrap();
    assert_ne!(address.port(), 8080);
    assert_eq!(get_tcp(address, "/", LIMIT).unwrap().status, 200);
    boot.wait_for("8080 of this host is taken");
    assert!(boot.seen.iter().any(|line| line.contains("supervisor-exec")), "no timing in {:#?}", boot.seen);
    let hint = boot.wait_for(" -H unix://");
    let words: Vec<&str> = hint.split_whitespace().collect();
    let ps = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(String::from_utf8_lossy(&ps.stdout).contains("demo"), "{ps:?}");

    // What is typed is shown by the machine, and by nobody else.
    assert!(!echoes(&person));
    person.write_all(b"typed\n").unwrap();
    boot.wait_for("typed");
    person.write_all(b"\x03").unwrap();
    boot.wait_for("the machine is off");
    assert_eq!(boot.wait().code(), Some(0));
    assert!(echoes(&person), "the terminal is left as the machine needed it");
    drop(taken);
}

fn echoes(terminal: &PtyMaster) -> bool {
    tcgetattr(terminal).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
}

#[test]
fn who_waits_for_a_machine_that_does_not_answer_is_told() {
    let mut boot = Boot::start(&["--headless", "--append", "rdinit=/none", "--run", "ps"]);
    let line = boot.wait_for("waiting for the machine to answer");
    assert!(line.contains("; its console ends: "), "{line}");
}

#[test]
fn a_second_ctrl_c_cuts_the_power() {
    let units = tempfile::tempdir().unwrap();
    let stubborn = enabled(&probe_unit("ignore-term", "StopTimeout=600"));
    std::fs::write(units.path().join("stubborn.container"), stubborn).unwrap();
    let image = probe_image().to_str().unwrap();
    let mut boot = Boot::start(&["--units", units.path().to_str().unwrap(), "--image", image, "--headless"]);
    boot.wait_for("Ctrl-C powers");
    boot.signal(Signal::SIGINT);
    boot.wait_for("Ctrl-C again");
    boot.signal(Signal::SIGINT);
    boot.wait_for("cutting the power");
    assert_eq!(boot.wait().code(), Some(130));
}

#[test]
fn run_prints_and_exits_as_the_command_did() {
    Artefacts::shared();
    let units = tempfile::tempdir().unwrap();
    let for_ever = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always";
    let text = format!("{for_ever}\n{}", enabled(&probe_unit("exit 1", "")).replace("probe:latest", "nothing"));
    std::fs::write(units.path().join("loop.container"), text).unwrap();
    let image = probe_image().to_str().unwrap();
    let more = ["--units", units.path().to_str().unwrap(), "--image", image];
    let run =
        |words: &str| Command::new(env!("CARGO_BIN_EXE_boot")).args(more).args(["--run", words]).output().unwrap();
    // A unit that restarts for ever is not waited for.
    let ps = run("ps --json");
    assert_eq!(ps.status.code(), Some(0), "{}", String::from_utf8_lossy(&ps.stderr));
    let units: Vec<serde_json::Value> = serde_json::from_slice(&ps.stdout).unwrap();
    assert!(units.iter().any(|unit| unit["name"] == "demo" && unit["state"] == "active"), "{units:#?}");
    assert!(units.iter().any(|unit| unit["name"] == "loop" && unit["restarts"].as_u64() > Some(1)), "{units:#?}");
    let unknown = run("status 'no such'");
    assert_eq!(unknown.status.code(), Some(4), "{}", String::from_utf8_lossy(&unknown.stderr));
}

#[test]
fn a_port_that_is_taken_is_named() {
    Artefacts::shared();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused =
        Command::new(env!("CARGO_BIN_EXE_boot")).args(["-p", &format!("{port}:80"), "--run", "ps"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(125), "{said}");
    assert!(said.contains("QEMU ended with") && said.contains(&port), "{said}");
}

#[test]
fn wrong_options_are_explained() {
    let wrong = Command::new(env!("CARGO_BIN_EXE_boot")).args(["-p", "web:80"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("`web` is not a port"), "{wrong:?}");
    let help = Command::new(env!("CARGO_BIN_EXE_boot")).args(["--", "--help"]).output().unwrap();
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    let options = "--units --image -p --disk --memory --cpus --kernel --append --headless --timing --run Examples:";
    for option in options.split(' ') {
        assert!(text.contains(option), "{option} is not in {text}");
    }
}
