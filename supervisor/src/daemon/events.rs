//! What comes in from outside: signals, ended processes, PID 1's messages, the workers' mail, cgroups that became empty.

use std::os::fd::{AsFd, OwnedFd};

use ::handoff::{Exit, ToInit, ToSupervisor};
use nix::sys::inotify::AddWatchFlags;

use super::{
    bundle, cgroup, clock,
    core::{Daemon, Mail},
    images::Prepared,
    logs::{Caps, Stream},
    machine::{Event, Found, Process, State},
    network::{Weight, is_online, weight},
    process,
    recover::{Kept, stored_name},
    runtime::{Ended, Kind},
    sys,
};
use crate::{
    api::types::BootStage,
    net::dns::Keep,
    unit::{ImageName, Notify, UnitName, spec},
};

impl Daemon {
    pub(crate) fn on_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match i32::try_from(info.ssi_signo).unwrap_or(0) {
                libc::SIGCHLD => {}
                libc::SIGHUP => self.files.changed(),
                // Containers run on: whoever starts the next supervisor adopts them.
                libc::SIGTERM => {
                    log::info!("ends on SIGTERM; containers run on");
                    self.ended = true;
                }
                other => log::warn!("signal {other} is not expected"),
            }
        }
        // SIGCHLD coalesces: drain, whatever woke us.
        self.reap();
    }

    fn reap(&mut self) {
        loop {
            let pid = match sys::ended_child() {
                Ok(Some(pid)) => pid,
                Ok(None) => break,
                Err(error) => {
                    log::error!("wait for children: {error}");
                    break;
                }
            };
            // Before the reaping, while the pid still is this process.
            let start_ticks = process::start_ticks(pid).unwrap_or(0);
            match sys::reap(pid) {
                Ok(wait_status) if self.on_check_ended(pid, wait_status) || self.on_exec_ended(pid) => {}
                Ok(wait_status) => match self.runtime.ended(pid, wait_status) {
                    Some(ended) => self.on_runtime(ended),
                    None => self.on_exit(Process { pid, start_ticks }, wait_status),
                },
                Err(error) => {
                    log::error!("reap pid {pid}: {error}");
                    break;
                }
            }
        }
    }

    /// A process ended that did not work for us: a container's, as a rule.
    pub(crate) fn on_exit(&mut self, process: Process, wait_status: i32) {
        match self.engine.unit_of(process) {
            Some(unit) => {
                self.last_words(&unit, process);
                let out_of_memory = cgroup::oom_kills(&self.paths.cgroup(&unit)) > 0;
                self.engine.event(&unit, Event::Exited { process, wait_status, out_of_memory }, clock::now());
            }
            None => self.keep_unclaimed(process, wait_status),
        }
    }

    /// True when there were any.
    pub(crate) fn runtime_failures(&mut self) -> bool {
        let failed = self.runtime.take_failed();
        let any = !failed.is_empty();
        failed.into_iter().for_each(|ended| self.on_runtime(ended));
        any
    }

    fn on_runtime(&mut self, Ended { unit, attempt, kind, result }: Ended) {
        let event = match (kind, result) {
            (Kind::Create, Err(text)) => Event::CreateFailed { attempt, text },
            (Kind::Create, Ok(())) => return self.on_created(&unit, attempt),
            (Kind::Start, Err(text)) => Event::StartFailed { attempt, text },
            (Kind::Start, Ok(())) => {
                self.stage(format!("unit:{unit}:started"));
                self.runtime.forget_start(&unit);
                Event::Started { attempt }
            }
            (Kind::Query, result) => {
                let status = match self.runtime.answer(&unit).as_deref() {
                    _ if result.is_err() => Found::Nothing,
                    Some("running") => {
                        // The supervisor that started it was killed before it could.
                        self.runtime.forget_start(&unit);
                        Found::Running
                    }
                    Some("created") => Found::Created,
                    _ => Found::Nothing,
                };
                Event::Found { attempt, status }
            }
            (Kind::Delete, result) => {
                if let Err(text) = result {
                    log::warn!("{unit}: delete the container: {text}");
                }
                return self.cleaned(&unit, attempt);
            }
        };
        self.engine.event(&unit, event, clock::now());
    }

    fn on_created(&mut self, unit: &UnitName, attempt: u64) {
        if let Some(pid) = self.created_pid(unit, attempt)
            && !self.connect(unit, attempt, pid)
        {
            self.created(unit, attempt);
        }
    }

    fn created_pid(&mut self, unit: &UnitName, attempt: u64) -> Option<u32> {
        let pid = self.runtime.container_pid(unit);
        if pid.is_none() {
            let text = "the pid that the runtime wrote cannot be read".to_owned();
            self.engine.event(unit, Event::CreateFailed { attempt, text }, clock::now());
        }
        pid
    }

    /// It is made, and has its networks.
    pub(crate) fn created(&mut self, unit: &UnitName, attempt: u64) {
        let Some(pid) = self.created_pid(unit, attempt) else { return };
        let ended = self.unclaimed.iter().rposition(|(process, _)| process.pid == pid);
        // A process that is there is the newer one, should the pid have been used twice.
        let process = process::identify(pid)
            .or_else(|| ended.map(|at| self.unclaimed[at].0))
            .unwrap_or(Process { pid, start_ticks: 0 });
        self.engine.event(unit, Event::Created { attempt, process }, clock::now());
        if let Some(at) = ended
            && let Some((of, wait_status)) = self.unclaimed.remove(at)
        {
            self.on_exit(of, wait_status);
        }
    }

    /// False: PID 1 has only asked whether anybody is there.
    pub(crate) fn on_handoff(&mut self) -> bool {
        // Whether it is to be written to again is seen later.
        let mut matters = self.handoff.is_full();
        loop {
            self.handoff.flush();
            let Some((message, fd)) = self.handoff.receive() else {
                return matters || self.handoff.is_full() || self.handoff.is_closed();
            };
            matters |= !matches!(message, ToSupervisor::Ping { .. });
            match message {
                ToSupervisor::Fd { name } => match fd {
                    Some(fd) => self.take_stored(&name, fd),
                    None => log::error!("handoff: {name} came without its descriptor"),
                },
                other => self.on_init(other),
            }
        }
    }

    pub(crate) fn on_init(&mut self, message: ToSupervisor) {
        match message {
            ToSupervisor::Ping { nonce } => self.tell(&ToInit::Pong { nonce }),
            ToSupervisor::Exit(Exit { seq, pid, start_ticks, wait_status, .. }) => {
                self.exit_seq = self.exit_seq.max(seq);
                self.on_exit(Process { pid, start_ticks }, wait_status);
            }
            ToSupervisor::Stage { name, at_ns, idle_ns } => {
                if !self.timing.iter().any(|stage| stage.name == name) {
                    self.timing.push(BootStage { name, at_ns, idle_ns });
                    self.timing.sort_by_key(|stage| stage.at_ns);
                }
            }
            ToSupervisor::ShutdownRequest { kind } => self.begin_shutdown(kind),
            ToSupervisor::FdName { name } => self.tell(&ToInit::TakeFd { name }),
            ToSupervisor::Failed { request, errno, name } => {
                let error = nix::errno::Errno::from_raw(errno);
                log::error!("PID 1 could not do request {request} for {name}: {error}");
            }
            ToSupervisor::FdsEnd | ToSupervisor::Fd { .. } | ToSupervisor::Predecessor { .. } => {}
            ToSupervisor::Hello(hello) => log::warn!("a second hello: {hello:?}"),
        }
    }

    pub(crate) fn on_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Image { image, prepared } => self.on_image(&image, &prepared),
            Mail::Judged { unit, attempt, unmet } => self.on_judged(&unit, attempt, unmet),
            Mail::Bundle { unit, attempt, result } => self.on_bundle(&unit, attempt, result),
            Mail::PodMade { unit, attempt, result } => self.on_pod_made(&unit, attempt, result),
            Mail::PodGone { unit, attempt } => self.engine.event(&unit, Event::Cleaned { attempt }, clock::now()),
            Mail::Connected { unit, attempt, result } => self.on_connected(&unit, attempt, result),
            Mail::Disconnected { unit, attempt } => self.follow_ups.push_back((unit, Event::Cleaned { attempt })),
            Mail::LogEnded { stored } => self.tell(&ToInit::DropFd { name: stored }),
            Mail::LogChunk => {}
            Mail::Answer { connection, answer } => {
                self.server.answer(&self.epoll, connection, &answer, clock::monotonic());
            }
            Mail::DiskTakesNoLogs { full, text } => {
                let most = if full { self.who_wrote_most() } else { None };
                self.say(most.map_or_else(|| text.clone(), |most| format!("{text}; {most}")));
            }
            Mail::Keep(Keep::Put(name, fd)) => self.store_fd(name, fd.as_fd()),
            Mail::Keep(Keep::Drop(name)) => self.tell(&ToInit::DropFd { name }),
            Mail::Network(event) => {
                match weight(&event) {
                    Weight::Detail => log::info!("network: {event}"),
                    Weight::News => self.say(format!("{:<9} {event}", "network")),
                    Weight::Problem => {
                        log::warn!("network: {event}");
                        self.say(format!("{:<9} {event}", "network"));
                    }
                }
                let described = self.engine.units().filter_map(|(unit, _)| self.files.get(unit));
                let units = described.map(|unit| self.as_member(unit)).collect();
                bundle::refresh_resolv_conf(&self.paths, units);
                if is_online(&event) {
                    self.network_is_online();
                }
            }
        }
    }

    /// Of the units that run: whose doing a full disk may be. What was written is in the kernel's count when it is on its way there.
    fn who_wrote_most(&self) -> Option<String> {
        let running = self.engine.units().filter(|(_, entry)| entry.record.state.process().is_some());
        let written = running.filter_map(|(unit, _)| Some((cgroup::disk_bytes(&self.paths.cgroup(unit))?.1, unit)));
        let (bytes, unit) = written.max()?;
        Some(format!("of the units that run {unit} has written most, {} MiB", bytes >> 20))
    }

    fn on_image(&mut self, image: &ImageName, prepared: &Prepared) {
        for (unit, attempt) in self.images.done(image) {
            match prepared {
                Ok(prepared) => {
                    if let Some(file) = self.files.get(&unit) {
                        let health = spec::health(file, prepared.health_check.as_ref());
                        if file.container.notify == Notify::Healthy
                            && health.as_ref().is_none_or(|health| health.interval.is_none())
                        {
                            let text = "Notify=healthy needs a health check that runs by itself; write HealthCmd=";
                            let event = Event::PrepareFailed { attempt, text: text.to_owned() };
                            self.engine.event(&unit, event, clock::now());
                            continue;
                        }
                        self.engine.learn(&unit, spec::stop_signal(file, &prepared.config), health);
                    }
                    self.prepared.insert(unit.clone(), prepared.clone());
                    self.engine.event(&unit, Event::Prepared { attempt }, clock::now());
                }
                Err(text) => {
                    let event = Event::PrepareFailed { attempt, text: text.clone() };
                    self.engine.event(&unit, event, clock::now());
                }
            }
        }
    }

    /// Watches for `populated 0`, and looks at once: it may be so already.
    pub(crate) fn watch_cgroup(&mut self, unit: &UnitName) {
        let events = self.paths.cgroup(unit).join("cgroup.events");
        if events.exists()
            && let Err(errno) = self.cgroup_watch.add_watch(&events, AddWatchFlags::IN_MODIFY)
        {
            // The machine looks again when its deadline comes.
            log::warn!("{unit}: watch {}: {errno}", events.display());
        }
        self.look_at_cgroup(unit);
    }

    fn look_at_cgroup(&mut self, unit: &UnitName) {
        if !cgroup::is_populated(&self.paths.cgroup(unit)) {
            self.follow_ups.push_back((unit.clone(), Event::CgroupEmpty));
        }
    }

    pub(crate) fn on_cgroup_events(&mut self) {
        while self.cgroup_watch.read_events().is_ok_and(|events| !events.is_empty()) {}
        // Which one it was matters less than that none is missed: few are being killed at any time.
        let killing = |state: &State| matches!(state, State::Killing { .. });
        let units: Vec<UnitName> =
            self.engine.units().filter(|(_, entry)| killing(&entry.record.state)).map(|(n, _)| n.clone()).collect();
        for unit in units {
            self.look_at_cgroup(&unit);
        }
    }

    /// Logs a container's pipe from now on; PID 1 keeps the other descriptor of it until it is at its end.
    pub(crate) fn follow_log(&mut self, unit: &UnitName, stream: Stream, attempt: u64, pipe: OwnedFd) {
        let sender = self.mail.sender();
        let stored = stored_name(unit, Kept::Log(stream), attempt);
        let caps = self.files.get(unit).map_or_else(Caps::default, |unit| Caps::of(unit));
        self.logs.follow(unit, (stream, attempt), caps, pipe, move || sender.send(Mail::LogEnded { stored }));
    }
}
