//! A running machine: its console, its control interface, its power.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::artefacts::Artefacts;
use crate::builder::Builder;
use crate::command::Forward;
use crate::console::{Console, ConsoleError};
use crate::folder::Folder;
use crate::http::{self, HttpError, Response, Stream};
use crate::qmp::{Event, Qmp, QmpError};
use crate::slot::Slot;

/// For one answer of the machine and for one thing it does; a boot under emulation on two busy cores lies in it.
pub const LIMIT: Duration = Duration::from_secs(180);

/// A running QEMU; dropped, it is gone.
pub struct Machine {
    child: Mutex<Child>,
    pid: i32,
    console: Console,
    qmp: Qmp,
    forwards: Vec<Forward>,
    orlop: PathBuf,
    folder: Folder,
    /// When QEMU was started.
    pub(crate) started: Instant,
    slot: Option<Slot>,
}

/// `Debug` shows the sentence, too: that is what a test's `unwrap` prints.
#[derive(thiserror::Error)]
pub enum MachineError {
    #[error("{what}: {source}")]
    Setup { what: &'static str, source: io::Error },
    #[error("QEMU ended with {status}: {said}")]
    Refused { status: ExitStatus, said: String },
    #[error(transparent)]
    Image(#[from] initramfs::Error),
    #[error(transparent)]
    Qmp(#[from] QmpError),
    #[error(transparent)]
    Console(#[from] ConsoleError),
    #[error("{source}; the console ends:\n{tail}")]
    Http { source: HttpError, tail: String },
    #[error("{request} was answered with {status}: {body}")]
    Answer { request: String, status: u16, body: String },
    #[error("waited {:.1} s for {what}; last seen: {seen}; the console ends:\n{tail}", after.as_secs_f32())]
    Deadline { what: String, after: Duration, seen: String, tail: String },
    #[error("guest port {0} is not forwarded")]
    NotForwarded(u16),
}

impl fmt::Debug for MachineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// How a machine ended, in QEMU's words: `guest-shutdown`, `guest-reset`, `host-qmp-quit` …; without any, how QEMU itself did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub reason: String,
}

impl Machine {
    pub fn builder<'a>(artefacts: &'a Artefacts, name: &str) -> Builder<'a> {
        Builder::new(artefacts, name)
    }

    pub(crate) fn new(child: Child, console: Console, qmp: Qmp, folder: Folder, slot: Slot, orlop: PathBuf) -> Self {
        let pid = child.id().cast_signed();
        let (child, started) = (Mutex::new(child), Instant::now());
        Self { child, pid, console, qmp, forwards: Vec::new(), orlop, folder, started, slot: Some(slot) }
    }

    /// Lets others boot in its place: it only waits for questions from here on.
    pub fn is_idle(&mut self) {
        self.slot = None;
    }

    pub fn console(&self) -> &Console {
        &self.console
    }

    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// QEMU's process, for a signal; meaningful until the machine is dropped.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// The socket for `orlop -H unix://…`.
    pub fn control_socket(&self) -> PathBuf {
        self.folder.sockets().join("control.sock")
    }

    /// The `orlop` program that was built with this machine.
    pub fn orlop_program(&self) -> &Path {
        &self.orlop
    }

    /// Waits for a text on the console that was not waited for before; gives its line.
    pub fn wait_for_console(&self, pattern: &str) -> Result<String, MachineError> {
        Ok(self.console.wait(pattern, LIMIT)?)
    }

    /// Asks the control interface; a status other than 2xx is an error.
    pub fn get(&self, path: &str) -> Result<Value, MachineError> {
        self.ask("GET", path)
    }

    pub fn post(&self, path: &str) -> Result<Value, MachineError> {
        self.ask("POST", path)
    }

    fn ask(&self, method: &str, path: &str) -> Result<Value, MachineError> {
        let response = self.response(method, path)?;
        self.value(&format!("{method} {path}"), &response)
    }

    fn value(&self, request: &str, response: &Response) -> Result<Value, MachineError> {
        let (body, request) = (response.text(), request.to_owned());
        if !(200..300).contains(&response.status) {
            return Err(MachineError::Answer { request, status: response.status, body });
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&body).map_err(|_| MachineError::Answer { request, status: response.status, body })
    }

    /// Asks the control interface; any status is an answer.
    pub fn response(&self, method: &str, path: &str) -> Result<Response, MachineError> {
        self.stream(method, path)?.read_whole(path).map_err(|source| self.http_error(source))
    }

    /// An answer read line by line, such as followed logs.
    pub fn stream(&self, method: &str, path: &str) -> Result<Stream, MachineError> {
        http::ask_unix(&self.control_socket(), method, path, LIMIT).map_err(|source| self.http_error(source))
    }

    /// Asks the supervisor to power off, but does not wait long for it: a person does.
    pub fn ask_to_power_off(&self) -> Result<(), MachineError> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let path = "/v1/system/poweroff";
        let answer = http::ask_unix(&self.control_socket(), "POST", path, PATIENCE);
        answer.map(drop).map_err(|source| self.http_error(source))
    }

    fn http_error(&self, source: HttpError) -> MachineError {
        MachineError::Http { source, tail: self.console.tail() }
    }

    /// Waits until every enabled unit is active, finished or failed; gives the units.
    pub fn settled(&self) -> Result<Vec<Value>, MachineError> {
        self.settled_within(LIMIT)?
            .ok_or_else(|| self.deadline("all units to settle", Instant::now(), "not yet".into()))
    }

    /// The same for somebody who does something else in between: `None` when that took longer than `limit`.
    pub fn settled_within(&self, limit: Duration) -> Result<Option<Vec<Value>>, MachineError> {
        let answer = self.get_within("/v1/system/settled", limit)?;
        Ok(answer.map(|mut answer| answer["units"].as_array_mut().map(std::mem::take).unwrap_or_default()))
    }

    /// Asks the control interface; `None` when the answer took longer than `limit`.
    pub fn get_within(&self, path: &str, limit: Duration) -> Result<Option<Value>, MachineError> {
        let answer =
            http::ask_unix(&self.control_socket(), "GET", path, limit).and_then(|stream| stream.read_whole(path));
        match answer {
            Ok(answer) => self.value(path, &answer).map(Some),
            Err(error) if error.is_late() => Ok(None),
            Err(source) => Err(self.http_error(source)),
        }
    }

    /// What a machine that counts instructions has executed until a stage of its boot, from PID 1's first one, in millions.
    ///
    /// A nanosecond of its clock is one instruction, except where its CPU waits: then the clock jumps to the next timer, and how
    /// many of those pass until the host's disk has answered is the host's affair. So what was idle is not counted.
    pub fn million_instructions(&self, stage: &str) -> Result<f64, MachineError> {
        let request = "/v1/system/timing";
        let stages = self.get(request)?;
        let of = |name: &str, key: &str| {
            let stage = stages.as_array().into_iter().flatten().find(|stage| stage["name"] == name);
            stage.and_then(|stage| stage[key].as_f64()).ok_or_else(|| MachineError::Answer {
                request: request.to_owned(),
                status: 200,
                body: format!("no {key} of {name} in {stages}"),
            })
        };
        // Nothing waits between the first instruction and the first word on idle time.
        let (passed, idle) =
            (of(stage, "at_ns")? - of("init", "at_ns")?, of(stage, "idle_ns")? - of("proc", "idle_ns")?);
        Ok((passed - idle) / 1e6)
    }

    pub fn unit(&self, name: &str) -> Result<Value, MachineError> {
        self.get(&format!("/v1/units/{name}"))
    }

    /// The messages of a unit's log so far.
    pub fn log(&self, unit: &str) -> Result<Vec<String>, MachineError> {
        let body = self.response("GET", &format!("/v1/units/{unit}/logs"))?;
        if body.status != 200 {
            let request = format!("GET /v1/units/{unit}/logs");
            return Err(MachineError::Answer { request, status: body.status, body: body.text() });
        }
        Ok(body.text().lines().filter_map(message).collect())
    }

    /// Follows a unit's log until a message contains `pattern`; gives that message. A stream that ends, as every one
    /// does when the machine reboots, is asked for again.
    pub fn wait_for_log(&self, unit: &str, pattern: &str) -> Result<String, MachineError> {
        self.wait_until(&format!("`{pattern}` in the log of {unit}"), || {
            let mut stream = self.stream("GET", &format!("/v1/units/{unit}/logs?follow=true"))?;
            while let Ok(Some(line)) = stream.next_line() {
                let seen = message(&line).unwrap_or(line);
                if seen.contains(pattern) {
                    return Ok(Some(seen));
                }
            }
            Ok(None)
        })
    }

    /// Looks again and again until `look` finds something.
    pub fn wait_until<T>(
        &self,
        what: &str,
        mut look: impl FnMut() -> Result<Option<T>, MachineError>,
    ) -> Result<T, MachineError> {
        const PAUSE: Duration = Duration::from_millis(200);
        let started = Instant::now();
        loop {
            let looked = look();
            if let Ok(Some(found)) = looked {
                return Ok(found);
            }
            if started.elapsed() > LIMIT || self.has_ended() {
                let seen = looked.err().map_or_else(|| "not yet".to_owned(), |error| error.to_string());
                return Err(self.deadline(what, started, seen));
            }
            thread::park_timeout(PAUSE);
        }
    }

    fn deadline(&self, what: &str, started: Instant, seen: String) -> MachineError {
        MachineError::Deadline { what: what.to_owned(), after: started.elapsed(), seen, tail: self.console.tail() }
    }

    /// Runs `orlop` on the host against this machine.
    pub fn orlop(&self, args: &[&str]) -> Result<Output, MachineError> {
        let setup = |source| MachineError::Setup { what: "run orlop", source };
        let mut command = self.orlop_command();
        let command = command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(setup)?;
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        let (done, output) = channel();
        let started = Instant::now();
        thread::spawn(move || done.send(child.wait_with_output()));
        match output.recv_timeout(LIMIT) {
            Ok(output) => output.map_err(setup),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                // Not waited for yet, so the pid is still its own.
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                Err(self.deadline(&format!("orlop {}", args.join(" ")), started, "no end of it".to_owned()))
            }
        }
    }

    /// `orlop -H …` of this machine, to be completed.
    pub fn orlop_command(&self) -> Command {
        let mut command = Command::new(&self.orlop);
        command.arg("-H").arg(format!("unix://{}", self.control_socket().display()));
        command
    }

    pub fn forwards(&self) -> &[Forward] {
        &self.forwards
    }

    /// Whether something speaks HTTP behind a forwarded port by now.
    pub fn answers_http(&self, guest_port: u16) -> bool {
        // Longer would be lost with the guest's network still coming up: QEMU's own stack tries a while for each connection.
        const ONE_ANSWER: Duration = Duration::from_secs(2);
        self.forwarded(guest_port).is_ok_and(|address| http::get_tcp(address, "/", ONE_ANSWER).is_ok())
    }

    /// Where a guest port is reached on the host.
    pub fn forwarded(&self, guest: u16) -> Result<SocketAddr, MachineError> {
        let forward = self.forwards.iter().find(|forward| forward.guest == guest);
        forward.map(|forward| (Ipv4Addr::LOCALHOST, forward.host).into()).ok_or(MachineError::NotForwarded(guest))
    }

    /// Asks a web server in the guest until it answers; QEMU accepts connections before the guest does.
    pub fn http(&self, guest_port: u16, path: &str) -> Result<Response, MachineError> {
        let address = self.forwarded(guest_port)?;
        self.wait_until(&format!("an answer on guest port {guest_port}"), || {
            let answer = http::get_tcp(address, path, Duration::from_secs(20));
            answer.map(Some).map_err(|source| self.http_error(source))
        })
    }

    /// QEMU knows which host ports it took for those left to it.
    pub(crate) fn find_forwards(&mut self, wanted: &[Forward]) -> Result<(), MachineError> {
        let table = if wanted.iter().any(|forward| forward.host == 0) {
            self.qmp.human("info usernet")?
        } else {
            String::new()
        };
        self.forwards = wanted.iter().map(|forward| resolve(*forward, &table)).collect();
        Ok(())
    }

    /// Waits for an event of QEMU.
    pub fn wait_event(&self, name: &str) -> Result<Event, MachineError> {
        Ok(self.qmp.wait_event(name, LIMIT, |_| true)?)
    }

    /// Waits until QEMU has ended, as it does when the guest powers off.
    pub fn wait_end(&self) -> Result<End, MachineError> {
        self.wait_end_for(LIMIT)
    }

    /// The same with another deadline.
    pub fn wait_end_for(&self, limit: Duration) -> Result<End, MachineError> {
        let started = Instant::now();
        let next = |events: &Receiver<Event>| events.recv_timeout(limit.saturating_sub(started.elapsed()));
        self.end(next).ok_or_else(|| self.deadline("the machine to end", started, "it runs".to_owned()))
    }

    /// The same without one, for a machine that serves somebody.
    pub fn wait_for_the_end(&self) -> End {
        let forever = |events: &Receiver<Event>| events.recv().map_err(RecvTimeoutError::from);
        self.end(forever).unwrap_or_else(|| End { reason: String::new() })
    }

    /// QEMU says why, then closes its connection, then ends.
    fn end(&self, next: impl Fn(&Receiver<Event>) -> Result<Event, RecvTimeoutError>) -> Option<End> {
        let events = self.qmp.events();
        let mut reason = None;
        loop {
            match next(&events) {
                Ok(event) if event.name == "SHUTDOWN" => {
                    reason = event.data["reason"].as_str().map(str::to_owned);
                }
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => return None,
            }
        }
        // Its sockets are closed, so this takes no time.
        if let (None, Ok(status)) = (&reason, self.child().wait()) {
            reason = Some(status.to_string());
        }
        self.console.wait_end(LIMIT);
        Some(End { reason: reason.unwrap_or_default() })
    }

    /// Whether QEMU is gone by now.
    pub fn has_ended(&self) -> bool {
        self.child().try_wait().is_ok_and(|status| status.is_some())
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power: QEMU is killed, the guest gets no chance to write anything more.
    pub fn power_cut(self) {
        self.kill();
    }

    /// Ends QEMU under a guest that has nothing left to do.
    pub fn quit(&self) {
        if self.qmp.execute("quit", &json!({})).is_err() {
            self.kill();
        }
    }

    /// Ends QEMU at once.
    pub fn kill(&self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            self.folder.keep = true;
        }
    }
}

fn message(line: &str) -> Option<String> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["message"].as_str().map(str::to_owned)
}

/// Reads `TCP[HOST_FORWARD]  12  127.0.0.1 34567  10.0.2.15  8080  0  0` of `info usernet`.
fn resolve(forward: Forward, table: &str) -> Forward {
    if forward.host != 0 {
        return forward;
    }
    let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|words| {
        words.first().is_some_and(|word| word.starts_with("TCP[HOST_FORWARD"))
            && words.get(5).and_then(|port| port.parse().ok()) == Some(forward.guest)
    });
    let host = row.and_then(|words| words.get(3)?.parse().ok()).unwrap_or(0);
    Forward { host, ..forward }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_port_left_to_qemu_is_read_from_its_table() {
        let table = "Hub -1 (net):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
                     TCP[HOST_FORWARD]  12       127.0.0.1 40123       10.0.2.15  8080     0     0\n";
        assert_eq!(resolve(Forward { host: 0, guest: 8080 }, table).host, 40123);
        assert_eq!(resolve(Forward { host: 0, guest: 80 }, table).host, 0);
        assert_eq!(resolve(Forward { host: 9000, guest: 8080 }, table).host, 9000);
    }
}
