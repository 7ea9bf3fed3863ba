//! `cargo boot` as a person calls it.

use crate::support::{enabled, probe_image, probe_unit};
use nix::fcntl::OFlag;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use qemu_tests::{Artefacts, LIMIT, get_tcp};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

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
        prepare();
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

    /// A unit's log, as soon as it has this line.
    fn log(&mut self, unit: &str, last: &str) -> String {
        const PAUSE: Duration = Duration::from_millis(200);
        let started = Instant::now();
        loop {
            let log = String::from_utf8(self.orlop(&["logs", unit]).stdout).unwrap();
            if log.contains(last) {
                return log;
            }
            assert!(started.elapsed() < LIMIT, "no `{last}` in {log}");
            thread::park_timeout(PAUSE);
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Its output ends with it; a machine that does not stop would be noticed here. It leaves nothing behind.
    fn wait(&mut self) -> ExitStatus {
        loop {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => self.seen.push(line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("{error}: it goes on: {:#?}", self.seen),
            }
        }
        let status = self.child.wait().unwrap();
        let machine = format!("machines/boot.{}.0", self.child.id());
        assert!(!Artefacts::shared().out.join(&machine).exists(), "{machine} is left: {:#?}", self.seen);
        status
    }

    /// What it has said in all.
    fn said(&self, text: &str) -> bool {
        self.seen.iter().any(|line| line.contains(text))
    }

    /// Runs the command of the introduction with these words instead of its own.
    fn orlop(&mut self, words: &[&str]) -> Output {
        const HINT: &str = " -H unix://";
        let seen = self.seen.iter().find(|line| line.contains(HINT)).cloned();
        let hint = seen.unwrap_or_else(|| self.wait_for(HINT));
        let hint: Vec<&str> = hint.split_whitespace().collect();
        Command::new(hint[0]).args(&hint[1..3]).args(words).output().unwrap()
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a `cargo boot` boots is built by now, so that no wait is for a compiler; and the demo's port is taken, so that each has
/// to find another one and say so, and none takes it from another.
fn prepare() {
    static TAKEN: OnceLock<Option<TcpListener>> = OnceLock::new();
    TAKEN.get_or_init(|| TcpListener::bind("127.0.0.1:8080").ok());
    Artefacts::shared();
}

/// A folder of units that run the probe.
fn units(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(format!("{name}.container")), text).unwrap();
    }
    folder
}

/// The arguments for such a folder.
fn with(folder: &TempDir) -> Vec<String> {
    ["--units", folder.path().to_str().unwrap(), "--image", probe_image().to_str().unwrap()].map(str::to_owned).into()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn address(line: &str) -> SocketAddr {
    line.rsplit("http://").next().unwrap().trim().parse().unwrap()
}

#[test]
fn it_shows_where_the_machine_answers_and_ctrl_c_powers_off() {
    // Started is not yet listening: this one listens when the introduction has asked both ports once.
    let folder = units(&[("late", &enabled(&probe_unit("on-request 8082 serve 8081", "")))]);
    let more = with(&folder);
    let [late, request] = [8081, 8082].map(|guest| format!("{}:{guest}", free_port()));
    let mut args = vec!["--", "--timing", "-p", &late, "-p", &request];
    args.extend(more.iter().map(String::as_str));
    let (mut boot, mut person) = Boot::start_in_terminal(&args);
    let web = address(&boot.wait_for("the machine answers at"));
    assert_eq!(late, format!("{}:8081", web.port()));
    assert_eq!(get_tcp(web, "/", LIMIT).unwrap().text(), "ok");
    boot.wait_for("nothing answers yet at");
    let demo = address(&boot.wait_for("the demo answers"));
    assert_ne!(demo.port(), 8080);
    assert_eq!(get_tcp(demo, "/", LIMIT).unwrap().status, 200);
    boot.wait_for("8080 of this host is taken");
    assert!(boot.said("supervisor-exec"), "no timing in {:#?}", boot.seen);
    assert!(boot.said("build the seed disk"), "no steps in {:#?}", boot.seen);
    let ps = boot.orlop(&["ps"]);
    assert!(String::from_utf8_lossy(&ps.stdout).contains("demo"), "{ps:?}");

    // What is typed is shown by the machine, and by nobody else.
    assert!(!echoes(&person));
    person.write_all(b"typed\n").unwrap();
    boot.wait_for("typed");
    person.write_all(b"\x03").unwrap();
    boot.wait_for("the machine is off");
    assert_eq!(boot.wait().code(), Some(0));
    assert!(echoes(&person), "the terminal is left as the machine needed it");
}

fn echoes(terminal: &PtyMaster) -> bool {
    tcgetattr(terminal).unwrap().local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
}

/// `--disk`, `--memory`, `--cpus`, `--kernel`, `--append`, `--headless`; a machine that its own command switches off, or halts.
#[test]
fn options_reach_the_machine_and_its_disk_is_kept() {
    let artefacts = Artefacts::shared();
    let folder = tempfile::tempdir_in(&artefacts.out).unwrap();
    let disk = folder.path().join("state.img");
    let mut args = vec!["--disk", disk.to_str().unwrap(), "--memory", "300M", "--cpus", "1", "--append"];
    args.push("orlop.hostname=deck");
    let show = units(&[("show", &enabled(&probe_unit("show /proc/meminfo /proc/cpuinfo", "")))]);
    let more = with(&show);
    args.extend(more.iter().map(String::as_str));
    let info = |boot: &mut Boot| -> serde_json::Value {
        let output = boot.orlop(&["info", "--json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    };

    let mut boot = Boot::start(&[&args[..], &["--headless"]].concat());
    boot.wait_for("300 MiB, 1 CPU)");
    let first = info(&mut boot);
    assert_eq!(first["hostname"], "deck", "{first:#}");
    let shown = boot.log("show", "shown");
    let memory = shown.split("MemTotal:").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    assert!(memory.is_some_and(|kib| (220..300).contains(&(kib >> 10))), "{shown}");
    assert_eq!(shown.matches("processor\t:").count(), 1, "{shown}");
    assert!(!boot.said("supervise started"), "a console that nobody asked for: {:#?}", boot.seen);
    boot.orlop(&["poweroff"]);
    boot.wait_for("the machine is off");
    assert_eq!(boot.wait().code(), Some(0));

    let kernel = artefacts.kernel.image.to_str().unwrap();
    let mut boot = Boot::start(&[&args[..], &["--kernel", kernel]].concat());
    let second = info(&mut boot);
    assert_eq!(second["machine_id"], first["machine_id"], "another machine on the same disk: {second:#}");
    boot.orlop(&["halt"]);
    boot.wait_for("System halted");
    boot.signal(Signal::SIGINT);
    boot.wait_for("the machine is off");
    assert_eq!(boot.wait().code(), Some(0));
}

#[test]
fn ctrl_c_ends_a_machine_that_only_boots() {
    let mut boot = Boot::start(&[]);
    boot.wait_for("supervise started");
    boot.signal(Signal::SIGINT);
    boot.wait_for("the machine is off");
    assert_eq!(boot.wait().code(), Some(0));
}

#[test]
fn a_run_that_is_interrupted_in_the_boot_runs_nothing() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_boot"));
    let mut boot = Boot::run(command.args(["--run", "ps"]).stdin(Stdio::null()).stdout(Stdio::piped()));
    boot.wait_for("init ");
    boot.signal(Signal::SIGINT);
    assert_eq!(boot.wait().code(), Some(130));
    let mut printed = String::new();
    boot.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    assert!(printed.is_empty() && !boot.said("orlop: "), "{printed}{:#?}", boot.seen);
}

/// The rescue screen of stage 2, with a container that runs on.
#[test]
fn ctrl_c_on_the_rescue_screen_powers_off() {
    let folder = units(&[("kill", &probe_unit("keep-killing /cg/orlop", "Volume=/sys/fs/cgroup:/cg"))]);
    let more = with(&folder);
    let mut boot = Boot::start(&more.iter().map(String::as_str).collect::<Vec<_>>());
    boot.orlop(&["start", "--no-block", "kill"]);
    boot.wait_for("Type a choice");
    boot.signal(Signal::SIGINT);
    boot.wait_for("done: power off");
    boot.wait_for("the machine is off");
    assert_eq!(boot.wait().code(), Some(0));
}

/// The rescue screen of stage 1.
#[test]
fn who_waits_for_a_machine_that_does_not_answer_is_told() {
    let mut boot = Boot::start(&["--headless", "--append", "orlop.root=c", "--run", "ps"]);
    let line = boot.wait_for("waiting for the machine to answer");
    assert!(line.contains("; its console ends: "), "{line}");
    boot.signal(Signal::SIGINT);
    assert_eq!(boot.wait().code(), Some(130));
    assert!(!boot.said("cutting"), "{:#?}", boot.seen);
}

#[test]
fn a_kernel_that_does_not_come_up_is_not_tried_for_ever() {
    let mut boot = Boot::start(&["--memory", "64"]);
    boot.wait_for("the kernel does not come up");
    boot.wait_for("64 MiB of memory may be too little for it: 96 are enough");
    assert_eq!(boot.wait().code(), Some(1));
    let panics = boot.seen.iter().filter(|line| line.contains("end Kernel panic")).count();
    assert!(panics <= 2, "{:#?}", boot.seen);
}

#[test]
fn a_second_ctrl_c_cuts_the_power() {
    let folder = units(&[("stubborn", &enabled(&probe_unit("ignore-term", "StopTimeout=600")))]);
    let more = with(&folder);
    let mut args: Vec<&str> = more.iter().map(String::as_str).collect();
    args.push("--headless");
    let mut boot = Boot::start(&args);
    boot.wait_for("Ctrl-C powers");
    boot.signal(Signal::SIGINT);
    boot.wait_for("Ctrl-C again");
    boot.signal(Signal::SIGINT);
    boot.wait_for("cutting the power");
    assert_eq!(boot.wait().code(), Some(130));
}

#[test]
fn run_prints_and_exits_as_the_command_did() {
    prepare();
    let for_ever = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always";
    let text = format!("{for_ever}\n{}", enabled(&probe_unit("exit 1", "")).replace("probe:latest", "nothing"));
    let folder = units(&[("loop", &text)]);
    let run = |words: &str| {
        Command::new(env!("CARGO_BIN_EXE_boot")).args(with(&folder)).args(["--run", words]).output().unwrap()
    };
    // A unit that restarts for ever is not waited for.
    let ps = run("ps --json");
    assert_eq!(ps.status.code(), Some(0), "{}", String::from_utf8_lossy(&ps.stderr));
    let said = String::from_utf8_lossy(&ps.stderr);
    assert!(said.contains("done: power off") && !said.contains("cutting"), "{said}");
    let units: Vec<serde_json::Value> = serde_json::from_slice(&ps.stdout).unwrap();
    assert!(units.iter().any(|unit| unit["name"] == "demo" && unit["state"] == "active"), "{units:#?}");
    assert!(units.iter().any(|unit| unit["name"] == "loop" && unit["restarts"].as_u64() > Some(1)), "{units:#?}");
    let unknown = run("status 'no such'");
    assert_eq!(unknown.status.code(), Some(4), "{}", String::from_utf8_lossy(&unknown.stderr));
}

#[test]
fn a_port_that_is_taken_is_named() {
    prepare();
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
    for (wrong, said) in
        [(["-p", "81:80", "-p", "81:81"], "port 81 of this host"), (["--run", "", "--cpus", "1"], "which command?")]
    {
        let output = Command::new(env!("CARGO_BIN_EXE_boot")).args(wrong).output().unwrap();
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(said), "{output:?}");
    }
    let help = Command::new(env!("CARGO_BIN_EXE_boot")).args(["--", "--help"]).output().unwrap();
    let text = String::from_utf8_lossy(&help.stdout).into_owned();
    let options = "--units --image -p --disk --memory --cpus --kernel --append --headless --timing --run Examples:";
    for option in options.split(' ') {
        assert!(text.contains(option), "{option} is not in {text}");
    }
}
