//! Calls of the interface, answered at once or when what they wait for has happened.

use std::sync::mpsc::TryRecvError;

use ::handoff::ShutdownKind;
use serde_json::json;

use super::{
    clock,
    core::{Daemon, Mail, Waiter},
    engine::JobId,
    logs, mailbox, process, secrets, shutdown,
    status::{CONTRACT, refused_status},
};
use crate::{
    api::{
        http::{Answer, Head},
        route::{Call, LogQuery, SecretCall, Verb, route},
        server::ConnectionId,
    },
    unit::{Requests, UnitName},
};

/// Log streams at the same time: each has a thread.
const MAX_READINGS: usize = 32;
/// A chunk is taken when there is room for as much; a single long record may exceed it.
const CHUNK_ROOM: usize = 32 << 10;

impl Daemon {
    /// `None`: the answer comes later.
    pub(crate) fn on_request(&mut self, connection: ConnectionId, head: &Head) -> Option<Answer> {
        match route(head) {
            Ok(call) => self.on_call(connection, call),
            Err(answer) => Some(answer),
        }
    }

    fn on_call(&mut self, connection: ConnectionId, call: Call) -> Option<Answer> {
        if matches!(call, Call::Units | Call::Unit(_) | Call::Job { .. } | Call::Reload(_) | Call::System) {
            self.reload_if_stale();
        }
        Some(match call {
            Call::Ping => Answer::json(200, &json!({ "version": env!("CARGO_PKG_VERSION"), "contract": CONTRACT })),
            Call::Units => Answer::json(200, &self.all_units()),
            Call::Unit(unit) => self.answer_unit(200, &self.files.real(&unit)),
            Call::Job { unit, verb, no_block } => {
                return self.on_job(connection, self.files.real(&unit), verb, no_block);
            }
            Call::Kill { unit, signal } => self.on_kill(&self.files.real(&unit), signal),
            Call::Reload(unit) => return self.on_reload(connection, &self.files.real(&unit)),
            Call::Exec { unit, request } => return self.on_exec(connection, &self.files.real(&unit), request),
            Call::Logs(query) => return self.on_logs(connection, query),
            Call::Events(units) => return self.on_events(connection, &units),
            Call::Stats => Answer::json(200, &self.stats()),
            Call::System => Answer::json(200, &self.system_status()),
            Call::Settled => {
                self.settled_waiters.push(connection);
                return None;
            }
            Call::Timing => Answer::json(200, &self.timing),
            Call::Shutdown(ShutdownKind::Kexec) if !shutdown::is_kernel_loaded() => Answer::problem(
                409,
                "no kernel is loaded to execute: a program with CAP_SYS_BOOT loads one by kexec_file_load(2)",
            ),
            Call::Reexec => Self::reexec(),
            Call::Secrets(call) => return self.on_secrets(connection, call),
            Call::Shutdown(kind) => {
                let answer = Answer::json(202, &json!({ "accepted": true }));
                // Kept first: what was accepted is done, whoever dies in between.
                self.begin_shutdown(kind);
                self.server.answer(&self.epoll, connection, &answer, clock::monotonic());
                return None;
            }
        })
    }

    /// The disk may take its time: in a thread of its own.
    fn on_secrets(&self, connection: ConnectionId, call: SecretCall) -> Option<Answer> {
        let (paths, sender) = (self.paths.clone(), self.mail.sender());
        let work = move || sender.send(Mail::Answer { connection, answer: secrets::answer(&paths, call) });
        let started = mailbox::spawn("secrets", work);
        (!started).then(|| Answer::problem(503, "the machine has no room for another thread"))
    }

    pub(crate) fn answer_unit(&self, status: u16, unit: &UnitName) -> Answer {
        match self.engine.get(unit) {
            Some(entry) => Answer::json(status, &self.whole_status(unit, entry)),
            None => match (self.files.timers().get(unit), self.timers.get(unit), self.files.refused().get(unit)) {
                (Some(file), Some(timer), _) => Answer::json(status, &self.timer_status(unit, file, timer)),
                (_, _, Some(problem)) => Answer::json(status, &refused_status(unit, problem)),
                _ => match self.files.sockets().find(|(name, _)| *name == unit) {
                    Some((name, file)) => Answer::json(status, &self.socket_status(name, file)),
                    None => self.no_such_unit(unit),
                },
            },
        }
    }

    pub(crate) fn no_such_unit(&self, unit: &UnitName) -> Answer {
        let problems = self.files.problems_of(unit);
        if problems.is_empty() {
            Answer::problem(404, format!("{unit}: there is no such unit"))
        } else {
            Answer::problem(404, format!("{unit}: its unit file has mistakes\n{}", problems.join("\n")))
        }
    }

    fn on_job(&mut self, connection: ConnectionId, unit: UnitName, verb: Verb, no_block: bool) -> Option<Answer> {
        if self.timers.get(&unit).is_some() {
            if verb != Verb::Start {
                self.stop_timer(&unit);
            }
            if verb != Verb::Stop {
                self.start_timer(&unit);
            }
            return Some(self.answer_unit(200, &unit));
        }
        if let Some((_, socket)) = self.files.sockets().find(|(name, _)| **name == unit) {
            let service = socket.spec.starts.name();
            let text = format!("{unit}: a socket listens as long as its file is there; stop or start {service}");
            return Some(Answer::problem(409, text));
        }
        if self.engine.get(&unit).is_none() && verb != Verb::Stop {
            // Of a template: made when it is wanted, as systemd does.
            self.files.ask(&unit);
            self.reload_if_stale();
        }
        if self.engine.get(&unit).is_none() {
            self.files.forget(&unit);
            return Some(self.no_such_unit(&unit));
        }
        if let Some(key) = self.refuses(&unit, verb) {
            let text = format!("{unit}: {key}=yes in its file: other units start and stop it, and no person");
            return Some(Answer::problem(409, text));
        }
        let now = clock::now();
        if verb != Verb::Stop {
            self.engine.forgive(&unit, now);
        }
        let job = match verb {
            Verb::Start => self.engine.start(&unit, now),
            Verb::Stop => self.engine.stop(&unit, now),
            Verb::Restart => self.engine.restart(&unit, now),
        };
        let Some(job) = job else {
            return Some(Answer::problem(409, format!("{unit}: the machine is going down")));
        };
        if no_block {
            return Some(self.answer_unit(202, &unit));
        }
        let stored = self.keep_client(verb, connection, &unit);
        self.waiters.push(Waiter { connection, job, unit, stored });
        None
    }

    /// A restart is both (bus_unit_queue_job() in systemd's src/core/dbus-unit.c).
    fn refuses(&self, unit: &UnitName, verb: Verb) -> Option<&'static str> {
        let Requests { refuse_start, refuse_stop, .. } = self.files.requests(unit);
        match verb {
            Verb::Start | Verb::Restart if refuse_start => Some("RefuseManualStart"),
            Verb::Stop | Verb::Restart if refuse_stop => Some("RefuseManualStop"),
            _ => None,
        }
    }

    pub(crate) fn on_job_done(&mut self, id: JobId, unit: &UnitName, result: &Result<(), String>) {
        if let Err(text) = result {
            log::warn!("{text}");
        }
        let done: Vec<Waiter> = self.waiters.extract_if(.., |waiter| waiter.job == id).collect();
        for Waiter { connection, unit: asked, stored, .. } in done {
            debug_assert_eq!(asked, *unit);
            let answer = match result {
                Ok(()) => self.answer_unit(200, &asked),
                Err(text) => Answer::problem(409, text.clone()),
            };
            self.reply(connection, &answer, stored);
        }
    }

    fn on_kill(&mut self, unit: &UnitName, signal: i32) -> Answer {
        let Some(entry) = self.engine.get(unit) else { return self.no_such_unit(unit) };
        let Some(process) = entry.record.main_process() else {
            return Answer::problem(409, format!("{unit}: not running"));
        };
        match process::signal(process, signal) {
            Ok(()) => self.answer_unit(200, unit),
            Err(error) => Answer::problem(409, format!("{unit}: signal {signal}: {error}")),
        }
    }

    /// Units at rest and gone ones have logs as well; only a name that never had one is not found.
    fn on_logs(&mut self, connection: ConnectionId, mut query: LogQuery) -> Option<Answer> {
        for owner in &mut query.owners {
            let Ok(unit) = UnitName::parse(owner.as_str()).map(|unit| self.files.real(&unit)) else { continue };
            *owner = (&unit).into();
            if self.engine.get(&unit).is_none() && !self.logs.exists(owner) {
                return Some(self.no_such_unit(&unit));
            }
        }
        if self.readings.len() >= MAX_READINGS {
            return Some(Answer::problem(503, format!("{MAX_READINGS} clients read logs already")));
        }
        let sender = self.mail.sender();
        let reading = match logs::read(&self.logs, query, move || sender.send(Mail::LogChunk)) {
            Ok(Some(reading)) => reading,
            Ok(None) => return Some(Answer::problem(503, "the machine has no room for another thread")),
            Err(text) => return Some(Answer::problem(400, text)),
        };
        self.server.begin_stream(connection, "application/x-ndjson");
        // The head goes out at once: a follower of a silent unit knows that it is connected.
        self.server.stream(&self.epoll, connection, b"", clock::monotonic());
        self.readings.push((connection, reading));
        None
    }

    /// Moves what log readers have to those who read it.
    pub(crate) fn pump_logs(&mut self) {
        let now = clock::monotonic();
        let mut kept = Vec::new();
        for (connection, reading) in std::mem::take(&mut self.readings) {
            let keep = loop {
                match self.server.room(connection) {
                    None => break false,
                    Some(room) if room < CHUNK_ROOM => break true,
                    Some(_) => {}
                }
                match reading.chunks.try_recv() {
                    Ok(chunk) => self.server.stream(&self.epoll, connection, &chunk, now),
                    Err(TryRecvError::Empty) => break true,
                    Err(TryRecvError::Disconnected) => {
                        self.server.end_stream(&self.epoll, connection, now);
                        break false;
                    }
                }
            };
            if keep {
                kept.push((connection, reading));
            }
        }
        self.readings = kept;
    }

    pub(crate) fn answer_settled(&mut self) {
        if self.timing.iter().any(|stage| stage.name == "settled") && self.settled_waiters.is_empty() {
            return;
        }
        if !self.booted || !self.engine.settled() {
            return;
        }
        self.stage("settled".to_owned());
        self.has_started();
        if self.settled_waiters.is_empty() {
            return;
        }
        let answer = Answer::json(200, &json!({ "settled": true, "units": self.all_units() }));
        for connection in std::mem::take(&mut self.settled_waiters) {
            self.server.answer(&self.epoll, connection, &answer, clock::monotonic());
        }
    }

    pub(crate) fn read_files(&mut self) {
        for problem in self.files.read(&self.paths) {
            self.say_problem(&problem);
        }
        // Also where nothing was changed that this supervisor knows of: an earlier one may have been told otherwise.
        self.logs.set_options(&self.files.options);
    }

    pub(crate) fn reload_if_stale(&mut self) {
        if !self.files.is_stale() {
            return;
        }
        self.read_files();
        let plans = self.files.plans(self.state_store);
        self.engine.load(plans, clock::now());
        self.sync_sockets();
        self.sweep_all_fds();
        self.load_timers();
    }
}
