//! A PID 1 for tests: reaps, keeps descriptors, tells exits, and kills its supervisor when told to.

use std::{
    collections::BTreeMap,
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use handoff::{Exit, Hello, LastEnd, ShutdownKind, StateStore, ToInit, ToSupervisor};
use nix::{
    cmsg_space,
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        signal::{SigHandler, Signal, kill, signal},
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
            socketpair,
        },
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::Pid,
};
use serde_json::Value;

use crate::{http, place::Place};

/// SIGTERM came: another supervisor, please.
static RENEWAL_ASKED: AtomicBool = AtomicBool::new(false);
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_orlop");
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Shared {
    socket: Option<Arc<OwnedFd>>,
    fds: BTreeMap<String, OwnedFd>,
    exits: Vec<Exit>,
    next_seq: u64,
    said: Vec<String>,
    shutdown: Option<ShutdownKind>,
    /// What each supervisor is asked for when it comes.
    asked: Option<ShutdownKind>,
    /// Reaped by us and by nobody else: its exit is not told.
    supervisor: Option<Pid>,
    last_end: Option<LastEnd>,
    /// With the so many-th list that is asked for exits are told: who ended seems to have ended just then.
    lists_before_exits: usize,
}

pub(crate) struct Pid1 {
    shared: Arc<Mutex<Shared>>,
    generation: u32,
    supervisor: Option<Pid>,
    runtime: PathBuf,
}

impl Pid1 {
    pub(crate) fn boot(place: &Place) -> Self {
        assert_eq!(std::process::id(), 1, "this is the PID 1 of its namespace");
        catch_sigterm();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let reaper = Arc::clone(&shared);
        thread::spawn(move || reap(&reaper));
        let mut pid1 = Self { shared, generation: 0, supervisor: None, runtime: place.runtime() };
        pid1.start_supervisor();
        pid1
    }

    pub(crate) fn start_supervisor(&mut self) {
        self.start_by(supervisor_command());
    }

    fn start_by(&mut self, command: Command) {
        self.start_as(command);
        self.wait("the supervisor's first answer", |_| http::ask("GET", "/v1/ping").is_some_and(|(s, _)| s == 200));
    }

    /// Starts a supervisor by this command, and waits for nothing.
    pub(crate) fn start_as(&mut self, mut command: Command) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let ours = Arc::new(ours);
        self.generation += 1;
        let mut shared = self.shared.lock().unwrap();
        let child = command
            .env("ORLOP_OCI", &self.runtime)
            .env("ORLOP_HANDOFF", theirs.as_raw_fd().to_string())
            .spawn()
            .unwrap()
            .id();
        // Reaped by our thread, like every child of a PID 1.
        let pid = Pid::from_raw(i32::try_from(child).unwrap());
        shared.supervisor = Some(pid);
        drop(theirs);
        let told = if shared.lists_before_exits > 0 { 0 } else { shared.exits.len() };
        let queued_exits = u32::try_from(told).unwrap();
        let hello =
            Hello { generation: self.generation, queued_exits, dropped_exits: 0, state: StateStore::Persistent };
        send(&ours, &ToSupervisor::Hello(hello), None);
        if let Some(end) = shared.last_end {
            send(&ours, &ToSupervisor::Predecessor { end }, None);
        }
        for exit in &shared.exits[..told] {
            send(&ours, &ToSupervisor::Exit(*exit), None);
        }
        if let Some(kind) = shared.asked {
            send(&ours, &ToSupervisor::ShutdownRequest { kind }, None);
        }
        shared.socket = Some(Arc::clone(&ours));
        drop(shared);
        self.supervisor = Some(pid);
        let state = Arc::clone(&self.shared);
        thread::spawn(move || serve(&state, &ours));
    }

    /// It answers, or it has died.
    pub(crate) fn answers_or_is_gone(&self) -> bool {
        self.wait("an answer or an end", |machine| {
            let soon = Duration::from_millis(500);
            machine.shared.lock().unwrap().supervisor.is_none()
                || http::ask_within(soon, "GET", "/v1/ping").is_some_and(|(status, _)| status == 200)
        });
        self.shared.lock().unwrap().supervisor.is_some()
    }

    /// SIGTERM to PID 1 asks for another supervisor: this one is told to end, and the program starts anew.
    pub(crate) fn renew_supervisor(&mut self) {
        self.renew(supervisor_command());
    }

    /// The same, but what starts anew is this program.
    pub(crate) fn renew_by(&mut self, program: &str) {
        self.renew(command(program));
    }

    fn renew(&mut self, command: Command) {
        self.wait("SIGTERM", |_| RENEWAL_ASKED.swap(false, Ordering::SeqCst));
        let pid = self.supervisor.take().expect("a supervisor");
        kill(pid, Signal::SIGTERM).unwrap();
        self.wait("the supervisor's end", |machine| machine.shared.lock().unwrap().supervisor != Some(pid));
        self.start_by(command);
    }

    /// What is kept for the next supervisor.
    pub(crate) fn stored(&self) -> Vec<String> {
        self.shared.lock().unwrap().fds.keys().cloned().collect()
    }

    /// As if these had never been given to it.
    pub(crate) fn forget_stored(&self, prefix: &str) {
        self.shared.lock().unwrap().fds.retain(|name, _| !name.starts_with(prefix));
    }

    /// The next supervisor is told of what has ended so far when it asks for the second time.
    pub(crate) fn tell_exits_late(&self) {
        self.shared.lock().unwrap().lists_before_exits = 2;
    }

    pub(crate) fn kill_supervisor(&mut self) {
        self.end_supervisor(Signal::SIGKILL);
    }

    pub(crate) fn end_supervisor(&mut self, signal: Signal) {
        let pid = self.supervisor.take().expect("a supervisor");
        // Dead already, and not reaped yet or not by anybody else.
        let _ = kill(pid, signal);
        self.wait("the supervisor's end", |machine| machine.shared.lock().unwrap().supervisor != Some(pid));
    }

    /// It stands still, or goes on.
    pub(crate) fn signal_supervisor(&self, signal: Signal) {
        kill(self.supervisor.expect("a supervisor"), signal).unwrap();
    }

    /// How often the supervisor has gone to sleep so far.
    pub(crate) fn supervisor_sleeps(&self) -> u64 {
        let pid = self.supervisor.expect("a supervisor");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        count.unwrap().trim().parse().unwrap()
    }

    /// How long the supervisor has worked so far, in hundredths of a second.
    pub(crate) fn supervisor_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.supervisor.expect("a supervisor"))).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        rest.split_ascii_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    /// The supervisor gets no descriptor besides those it has; or as many as ever.
    pub(crate) fn limit_descriptors(&self, limited: bool) {
        let pid = self.supervisor.expect("a supervisor").to_string();
        let free = |number: &u32| !std::path::Path::new(&format!("/proc/{pid}/fd/{number}")).exists();
        let limit = if limited { (0..4096).find(free).unwrap() } else { 4096 };
        // Whoever is PID 1 here reaps every child: what came of it is seen, not told.
        let set = Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).spawn();
        drop(set.expect("this test needs the program prlimit of util-linux"));
        self.wait("the limit", |_| {
            let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
            let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap().trim();
            files.starts_with(&format!("{limit} "))
        });
    }

    /// Signals a process that a status names.
    pub(crate) fn kill(&self, pid: &Value, signal: i32) {
        let pid = Pid::from_raw(i32::try_from(pid.as_i64().expect("a pid")).unwrap());
        kill(pid, Signal::try_from(signal).unwrap()).unwrap();
    }

    pub(crate) fn queued_exits(&self) -> usize {
        self.shared.lock().unwrap().exits.len()
    }

    pub(crate) fn request_shutdown(&self, kind: ShutdownKind) {
        let mut shared = self.shared.lock().unwrap();
        shared.asked = Some(kind);
        // Without a supervisor the next one is asked.
        if let Some(socket) = &shared.socket {
            send(socket, &ToSupervisor::ShutdownRequest { kind }, None);
        }
    }

    pub(crate) fn shutdown_asked(&self) -> Option<ShutdownKind> {
        self.shared.lock().unwrap().shutdown
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.shared.lock().unwrap().said.clone()
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let (_, body) = http::ask("GET", path).unwrap_or_else(|| panic!("GET {path}: no answer; {}", self.story()));
        serde_json::from_slice(&body).unwrap()
    }

    pub(crate) fn unit(&self, name: &str) -> Value {
        self.get(&format!("/v1/units/{name}"))
    }

    pub(crate) fn post(&self, path: &str) -> Value {
        let (status, body) = http::ask("POST", path).unwrap_or_else(|| panic!("POST {path}: no answer"));
        assert!(status < 300, "POST {path}: {status} {}; {}", String::from_utf8_lossy(&body), self.story());
        serde_json::from_slice(&body).unwrap()
    }

    /// Whatever comes of it.
    pub(crate) fn try_post(&self, path: &str) -> Option<Value> {
        serde_json::from_slice(&http::ask("POST", path)?.1).ok()
    }

    pub(crate) fn logs(&self, path: &str) -> Vec<Value> {
        let (_, body) = http::ask("GET", path).unwrap_or_else(|| panic!("GET {path}: no answer; {}", self.story()));
        body.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
    }

    pub(crate) fn until_active(&self, unit: &str) -> Value {
        self.wait(&format!("{unit} to be active"), |machine| machine.unit(unit)["state"] == "active");
        self.unit(unit)
    }

    pub(crate) fn wait(&self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "waited in vain for {what}; {}", self.story());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets the supervisor come to some other point of its work.
    pub(crate) fn let_run(&self, time: Duration) {
        let end = Instant::now() + time;
        self.wait("some time", |_| Instant::now() >= end);
    }

    fn story(&self) -> String {
        let boots = std::fs::read_dir("/var/log/orlop/@boots").into_iter().flatten().flatten();
        let log: String =
            boots.filter_map(|boot| std::fs::read_to_string(boot.path().join("@supervisor/current")).ok()).collect();
        let tail: Vec<&str> = log.lines().rev().take(60).collect();
        format!("the supervisor's log:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }
}

/// In its own cgroup before it runs, as on a machine: that is how its runtime processes are found after its death.
/// With `ORLOP_OTHER` every second one is that program: another version, which has to go on with what this one left, and back.
pub(crate) fn supervisor_command() -> Command {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let other = std::env::var("ORLOP_OTHER").ok().filter(|_| COUNT.fetch_add(1, Ordering::Relaxed) % 2 == 1);
    command(other.as_deref().unwrap_or(PROGRAM))
}

fn command(program: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > /sys/fs/cgroup/orlop/cgroup.procs && exec \"$0\" supervise"]);
    command.arg(program);
    command
}

fn send(socket: &OwnedFd, message: &ToSupervisor, fd: Option<RawFd>) {
    let packet = message.encode();
    let fds = fd.map(|fd| [fd]);
    let rights = fds.as_ref().map(|fds| [ControlMessage::ScmRights(fds)]);
    let rights = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
    // A supervisor that is gone gets the exits from the next hello.
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&packet)], rights, MsgFlags::MSG_NOSIGNAL, None);
}

/// Every child of PID 1: the supervisor, and whatever was left to us.
fn reap(shared: &Mutex<Shared>) {
    loop {
        let Ok(status) = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let Some(pid) = status.pid() else { continue };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let start_ticks = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().nth(19)?.parse().ok());
        let mut shared = shared.lock().unwrap();
        let wait_status = match waitpid(pid, None) {
            Ok(WaitStatus::Exited(_, code)) => code << 8,
            Ok(WaitStatus::Signaled(_, signal, core)) => signal as i32 | if core { 0x80 } else { 0 },
            other => panic!("{other:?}"),
        };
        if shared.supervisor == Some(pid) {
            shared.supervisor = None;
            shared.socket = None;
            let from_outside = [libc::SIGKILL, libc::SIGTERM, 0].contains(&wait_status);
            shared.last_end = Some(if from_outside { LastEnd::FromOutside } else { LastEnd::ByItself });
            continue;
        }
        shared.next_seq += 1;
        let exit = Exit {
            seq: shared.next_seq,
            pid: u32::try_from(pid.as_raw()).unwrap(),
            start_ticks: start_ticks.unwrap_or(0),
            wait_status,
            user_us: 0,
            system_us: 0,
            max_rss_kib: 0,
        };
        shared.exits.push(exit);
        if let Some(socket) = &shared.socket {
            send(socket, &ToSupervisor::Exit(exit), None);
        }
    }
}

/// One supervisor's messages, until it is gone.
fn serve(shared: &Mutex<Shared>, socket: &OwnedFd) {
    loop {
        let mut bytes = [0; 512];
        let mut control = cmsg_space!([RawFd; 1]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC);
        let Ok(message) = received else { return };
        let mut fd = None;
        for control in message.cmsgs().unwrap() {
            if let ControlMessageOwned::ScmRights(fds) = control {
                fd = fds.first().map(|fd| adopt(*fd));
            }
        }
        let length = message.bytes;
        if length == 0 {
            return;
        }
        let mut shared = shared.lock().unwrap();
        match ToInit::decode(&bytes[..length]).unwrap() {
            ToInit::ExitsHandled { seq } => shared.exits.retain(|exit| exit.seq > seq),
            ToInit::PutFd { name } => drop(shared.fds.insert(name, fd.expect("a descriptor"))),
            ToInit::TakeFd { name } => {
                let fd = shared.fds.get(&name).map(AsRawFd::as_raw_fd);
                send(socket, &ToSupervisor::Fd { name }, fd);
            }
            ToInit::DropFd { name } => drop(shared.fds.remove(&name)),
            ToInit::ListFds => {
                if shared.lists_before_exits == 1 {
                    shared.exits.iter().for_each(|exit| send(socket, &ToSupervisor::Exit(*exit), None));
                }
                shared.lists_before_exits = shared.lists_before_exits.saturating_sub(1);
                for name in shared.fds.keys() {
                    send(socket, &ToSupervisor::FdName { name: name.clone() }, None);
                }
                send(socket, &ToSupervisor::FdsEnd, None);
            }
            ToInit::Say { text } => shared.said.push(text),
            ToInit::Shutdown { kind } => shared.shutdown = Some(kind),
            ToInit::Pong { .. } | ToInit::Stopping { .. } => {}
        }
    }
}

/// The kernel drops what the first process of a namespace does not catch.
#[allow(unsafe_code)]
fn catch_sigterm() {
    extern "C" fn on_sigterm(_: i32) {
        RENEWAL_ASKED.store(true, Ordering::SeqCst);
    }
    // SAFETY: the handler only stores into an atomic.
    unsafe { signal(Signal::SIGTERM, SigHandler::Handler(on_sigterm)) }.unwrap();
}

#[allow(unsafe_code)]
fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
