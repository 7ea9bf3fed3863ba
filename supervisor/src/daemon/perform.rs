//! Actions and effects of the engine become deeds here. None of them blocks; what fails becomes an event.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl, open},
    sys::stat::Mode,
    unistd::{Gid, Uid, fchown, pipe2},
};

use super::{
    bundle::{self, Machine},
    cgroup, clock,
    core::{Daemon, Mail},
    engine::{Effect, KEPT},
    logs::{Remarks, Stream},
    machine::{Action, Event, Outcome, Process, Seconds, State},
    mailbox, process,
    recover::{Kept, stored_name},
    runtime::Operation,
    store::{self, Stored},
};
use crate::{
    api::types::{ActiveState, Health, UnitEvent},
    unit::{IoLimit, IoLimitKind, LogSpec, Root, UnitName, cpus},
};

/// Of this moment.
fn event_of(unit: &UnitName) -> UnitEvent {
    let time = clock::rfc3339(clock::wall_us());
    UnitEvent { time, unit: unit.to_string(), state: None, from: None, reason: None, health: None }
}

impl Daemon {
    pub(crate) fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Act { unit, action } => self.act(&unit, action),
            Effect::JobDone { id, unit, result } => self.on_job_done(id, &unit, &result),
            Effect::Health { unit, health } => {
                self.on_health(&unit, health);
                self.tell_watchers(&unit, &UnitEvent { health: Some(health), ..event_of(&unit) });
            }
            Effect::Changed { unit, from, to, reason } => {
                self.on_changed(&unit, from, to, &reason);
                let reason = Some(reason).filter(|reason| !reason.is_empty());
                self.tell_watchers(&unit, &UnitEvent { state: Some(to), from: Some(from), reason, ..event_of(&unit) });
            }
        }
    }

    fn act(&mut self, unit: &UnitName, action: Action) {
        match action {
            Action::Prepare { attempt } => self.prepare(unit, attempt),
            Action::Create { attempt } => self.build(unit, attempt),
            Action::Start { attempt } => {
                self.limit(unit);
                match self.bind(unit) {
                    Ok(()) => self.runtime.run(unit, attempt, Operation::Start),
                    Err(text) => self.later(unit, Event::StartFailed { attempt, text }),
                }
            }
            Action::Query { attempt } => self.runtime.run(unit, attempt, Operation::Query),
            Action::Signal { process, signal } => {
                self.signal_process(unit, process, signal);
                self.later(unit, Event::Signalled);
            }
            Action::KillOperation => self.runtime.kill(unit),
            Action::Check { attempt } => self.check(unit, attempt),
            Action::KillCheck => self.kill_check(unit),
            Action::KillCgroup => {
                self.kill_cgroup(unit);
                self.watch_cgroup(unit);
            }
            Action::Clean { attempt } => {
                if self.is_pod(unit) {
                    self.take_down_pod(unit, attempt);
                } else if self.runtime.knows(unit) {
                    self.runtime.run(unit, attempt, Operation::Delete);
                } else if !self.building.contains(unit) {
                    self.cleaned(unit, attempt);
                }
                // Else its thread makes what would have to be taken down: `on_bundle` does that behind it.
            }
            Action::EndMachine(action) => self.end_by(unit, action),
            Action::Remark(text) => {
                log::info!("{unit}: {text}");
                self.tell_remarks(unit);
            }
        }
    }

    /// `CPUAffinity=`: the first process of a container waits to be started, and what it becomes has its CPUs.
    fn bind(&self, unit: &UnitName) -> Result<(), String> {
        let cpus = self.files.get(unit).and_then(|file| file.container.resources.scheduling.affinity.as_deref());
        let process = self.engine.get(unit).and_then(|entry| entry.record.state.process());
        let (Some(cpus), Some(process)) = (cpus, process) else { return Ok(()) };
        process::bind(process, cpus::each(cpus)).map_err(|errno| match errno {
            Errno::EINVAL => format!("CPUAffinity={cpus}: the machine lets it run on none of these"),
            errno => format!("CPUAffinity={cpus}: {errno}"),
        })
    }

    fn later(&mut self, unit: &UnitName, event: Event) {
        self.follow_ups.push_back((unit.clone(), event));
    }

    fn prepare(&mut self, unit: &UnitName, attempt: u64) {
        let conditions = self.files.conditions(unit);
        if conditions.is_empty() {
            self.want_image(unit, attempt);
        } else if !self.ask_conditions(unit, attempt, conditions) {
            let text = "the machine has no room for another thread".to_owned();
            self.later(unit, Event::PrepareFailed { attempt, text });
        }
    }

    pub(crate) fn want_image(&mut self, unit: &UnitName, attempt: u64) {
        if self.is_pod(unit) {
            return self.make_pod(unit, attempt);
        }
        let image = self.files.get(unit).map(|unit| match &unit.container.root {
            Root::Image(image) => image.clone(),
            Root::Folder { path, .. } => path.display().to_string().into(),
        });
        let Some(image) = image else {
            let text = "its unit file is gone or has mistakes".to_owned();
            return self.later(unit, Event::PrepareFailed { attempt, text });
        };
        let sender = self.mail.sender();
        let report = move |image, prepared| sender.send(Mail::Image { image, prepared });
        if !self.images.want(&self.paths, unit, attempt, &image, report) {
            let text = "the machine has no room for another thread".to_owned();
            self.later(unit, Event::PrepareFailed { attempt, text });
        }
    }

    fn build(&mut self, unit: &UnitName, attempt: u64) {
        let (Some(image), Some(described)) = (self.prepared.remove(unit), self.files.get(unit).cloned()) else {
            let text = "its unit file is gone".to_owned();
            return self.later(unit, Event::CreateFailed { attempt, text });
        };
        if self.building.contains(unit) {
            let text = "an earlier start still works at its files; start it again when that has ended".to_owned();
            return self.later(unit, Event::CreateFailed { attempt, text });
        }
        let (described, borrowed) = match self.joined(&described) {
            Ok(both) => both,
            Err(text) => return self.later(unit, Event::CreateFailed { attempt, text }),
        };
        let (paths, sender) = (self.paths.clone(), self.mail.sender());
        let (volumes, folders) = (self.files.volumes(), self.folders.clone());
        let machine = Machine { hostname: hostname(), volumes, folders };
        let name = unit.clone();
        let has_target = |limit: &IoLimit| limit.kind == IoLimitKind::Latency;
        if described.container.resources.io_limits.iter().any(has_target) && !paths.io_latency().exists() {
            self.remark(unit, "IODeviceLatencyTargetSec= has no effect: this kernel has no io.latency");
        }
        let mut listen = self.sockets.names_for(unit);
        listen.extend(self.fd_store.names_for(unit));
        let startup = self.is_startup();
        let (request, networks) = (self.request_networks(&described), self.wiring.networks.clone());
        let started = mailbox::spawn(&format!("bundle of {name}"), move || {
            let planned = request.map_or(Ok(()), |request| networks.plan(&request, &paths.connection(&name)));
            let result = planned.and_then(|()| borrowed.take()).and_then(|joins| {
                bundle::build(&paths, &described, &image, &machine, listen, startup, joins)
                    .map_err(|error| error.to_string())
            });
            sender.send(Mail::Bundle { unit: name, attempt, result });
        });
        if started {
            self.building.insert(unit.clone());
        } else {
            let text = "the machine has no room for another thread".to_owned();
            self.later(unit, Event::CreateFailed { attempt, text });
        }
    }

    pub(crate) fn on_bundle(&mut self, unit: &UnitName, attempt: u64, result: Result<Option<(u32, u32)>, String>) {
        self.building.remove(unit);
        let record = self.engine.get(unit).map(|entry| &entry.record).filter(|record| record.attempt == attempt);
        let (current, wanted) = match record.map(|record| &record.state) {
            Some(State::Creating { abort, .. }) => (true, abort.is_none()),
            _ => (false, false),
        };
        let made = result.and_then(|root| {
            if !wanted {
                return Err("no longer wanted".to_owned());
            }
            if self.engine.get(unit).is_some_and(|entry| entry.plan.policy.notify) {
                self.make_notify(unit, attempt).map_err(|error| format!("make its notification socket: {error}"))?;
            }
            self.pipes(unit, attempt, root).map_err(|errno| format!("make the pipes of its log: {errno}"))
        });
        match made {
            Ok((out, err)) => {
                let mut fds = self.sockets.descriptors_for(unit);
                fds.extend(self.fd_store.descriptors_for(unit));
                self.runtime.run(unit, attempt, Operation::Create { out, err, fds });
            }
            Err(text) if current => self.engine.event(unit, Event::CreateFailed { attempt, text }, clock::now()),
            Err(_) => {
                // Given up on while it was built. Nothing of a newer start is there yet, and its end may wait for this.
                let attempt = self.engine.get(unit).map_or(attempt, |entry| entry.record.attempt);
                self.cleaned(unit, attempt);
            }
        }
    }

    /// The container's stdout and stderr: read ends to PID 1 and the logs, write ends for the runtime. They belong to the container's
    /// root, who may open /dev/stdout again and give them to its user.
    fn pipes(&mut self, unit: &UnitName, attempt: u64, root: Option<(u32, u32)>) -> nix::Result<(OwnedFd, OwnedFd)> {
        if self.files.get(unit).is_some_and(|unit| unit.container.log == LogSpec::Nothing) {
            let null = || open("/dev/null", OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty());
            return Ok((null()?, null()?));
        }
        let (out, err) = (pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?);
        for (stream, read) in [(Stream::Out, out.0), (Stream::Err, err.0)] {
            // Ours only: the container's end blocks, as programs expect.
            fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            self.store_fd(stored_name(unit, Kept::Log(stream), attempt), read.as_fd());
            self.follow_log(unit, stream, attempt, read);
        }
        let (uid, gid) = root.map(|(uid, gid)| (Uid::from_raw(uid), Gid::from_raw(gid))).unzip();
        for write in [&out.1, &err.1] {
            fchown(write, uid, gid)?;
        }
        Ok((out.1, err.1))
    }

    /// The main process may be another than the first, and gone before it.
    fn signal_process(&self, unit: &UnitName, process: Process, signal: i32) {
        let first = self.engine.get(unit).and_then(|entry| entry.record.state.process());
        for process in [Some(process), first.filter(|first| *first != process)].into_iter().flatten() {
            match process::signal(process, signal) {
                Ok(()) => return,
                // Gone already: its exit status is on the way.
                Err(error) => log::debug!("{unit}: signal {signal} to pid {}: {error}", process.pid),
            }
        }
    }

    fn kill_cgroup(&self, unit: &UnitName) {
        let cgroup = self.paths.cgroup(unit);
        if let Err(error) = cgroup::kill(&cgroup) {
            log::warn!("{unit}: cgroup.kill: {error}; killing one by one");
            for pid in cgroup::processes(&cgroup) {
                if let Some(found) = process::identify(pid) {
                    let _ = process::signal(found, libc::SIGKILL);
                }
            }
        }
    }

    fn unmount(&self, unit: &UnitName) {
        for path in [self.paths.rootfs(unit), self.paths.joined_network(unit)] {
            if let Err(error) = bundle::unmount(&path) {
                log::warn!("{unit}: unmount {}: {error}", path.display());
            }
        }
    }

    /// The runtime has forgotten the container: take down what we made.
    pub(crate) fn cleaned(&mut self, unit: &UnitName, attempt: u64) {
        self.unmount(unit);
        self.folders.end(unit);
        bundle::release_volumes(&self.paths, unit);
        bundle::forget_secrets(&self.paths, unit);
        if let Err(error) = cgroup::remove(&self.paths.cgroup(unit)) {
            log::warn!("{unit}: remove its cgroup: {error}");
        }
        self.end_notify(unit);
        if !self.disconnect(unit, attempt) {
            self.later(unit, Event::Cleaned { attempt });
        }
    }

    /// Lines on the console, and the boot's table of times.
    fn on_changed(&mut self, unit: &UnitName, from: ActiveState, to: ActiveState, reason: &str) {
        let now = clock::monotonic();
        self.tell_timers(unit, from, to);
        self.some_rest |= matches!(to, ActiveState::Inactive | ActiveState::Failed);
        self.sweep_fds(unit);
        let Some(entry) = self.engine.get(unit) else { return };
        let restarts = entry.record.restarts;
        match to {
            ActiveState::Activating if from == ActiveState::Activating => {
                self.say(format!("{unit:<9} failed: {reason}; it is tried again"));
            }
            ActiveState::Activating if from != ActiveState::Active => {
                self.start_began.entry(unit.clone()).or_insert(now);
            }
            // With RemainAfterExit=: nothing came up.
            ActiveState::Active if from == ActiveState::Deactivating && entry.record.state == State::Exited => {}
            ActiveState::Active => {
                self.stage(format!("unit:{unit}:active"));
                let took = self.start_began.remove(unit).map(|began| now.saturating_sub(began));
                if restarts == 0 {
                    self.say(format!("{unit:<9} up after {}", Seconds(took.unwrap_or_default())));
                } else {
                    self.say(format!("{unit:<9} up again, restart {restarts}"));
                }
            }
            ActiveState::Failed => {
                self.start_began.remove(unit);
                log::warn!("{unit}: failed: {reason}");
                self.say(format!("{unit:<9} failed: {reason}"));
            }
            ActiveState::Inactive => {
                self.start_began.remove(unit);
                if matches!(self.engine.get(unit).and_then(|e| e.record.last.as_ref()), Some(Outcome::Asserted { .. }))
                {
                    self.say(format!("{unit:<9} {reason}"));
                }
            }
            _ => {}
        }
    }

    fn on_health(&mut self, unit: &UnitName, health: Health) {
        self.say(match health {
            Health::Unhealthy => format!("{unit:<9} unhealthy"),
            _ => format!("{unit:<9} healthy"),
        });
    }

    fn remark(&mut self, unit: &UnitName, text: &str) {
        log::warn!("{unit}: {text}");
        self.remarks.entry(unit.clone()).or_default().note(text, || self.logs.last_remark(unit));
        self.engine.mark_changed(unit);
        self.tell_remarks(unit);
    }

    /// What is to be said of units is written with the changes it tells of.
    pub(crate) fn note_remarks(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Act { unit, action: Action::Remark(text) } = effect {
                let remarks = self.remarks.entry(unit.clone()).or_default();
                remarks.note(text, || self.logs.last_remark(unit));
                self.engine.mark_changed(unit);
            }
        }
    }

    pub(crate) fn tell_remarks(&mut self, unit: &UnitName) {
        for remark in self.remarks.get_mut(unit).map(Remarks::take).unwrap_or_default() {
            self.logs.remark(unit, &remark);
        }
    }

    /// Of units that nobody needs any more nothing stays but their logs.
    pub(crate) fn let_go(&mut self) {
        if std::mem::take(&mut self.some_rest)
            && self.engine.units().filter(|(unit, _)| self.files.is_asked(unit)).count() > KEPT
        {
            let named = self.files.timers().values().map(|timer| timer.spec.unit.as_str());
            let named: BTreeSet<&str> =
                named.chain(self.files.sockets().map(|(_, socket)| socket.spec.starts.name())).collect();
            let unwritten = self.logs.unwritten();
            self.engine.let_go(|unit| {
                self.files.is_asked(unit)
                    && !named.contains(unit.as_str())
                    && !unwritten.contains(unit.as_str())
                    && !self.building.contains(unit)
                    && self.fd_store.is_empty(unit)
            });
        }
        for unit in self.engine.take_gone() {
            if self.engine.get(&unit).is_none() {
                self.files.let_go(&unit);
                self.remarks.remove(&unit);
                self.logs.forget(&unit);
                store::forget(&self.paths, &unit);
            }
        }
    }

    /// Writes the records that changed. False: not all of them; they are tried again.
    pub(crate) fn save(&mut self) -> bool {
        let changed = self.engine.take_changed();
        let stored = |unit: &UnitName| {
            let entry = self.engine.get(unit)?;
            let remarks = self.remarks.get(unit).cloned().unwrap_or_default();
            Some(Stored::new(entry.plan.policy.clone(), entry.record.clone(), entry.job.as_ref(), remarks))
        };
        let failed = store::save(&self.paths, &changed, stored);
        for (unit, error) in &failed {
            log::error!("{unit}: write its state: {error}");
            self.engine.mark_changed(unit);
        }
        self.unwritten = !failed.is_empty();
        !self.unwritten
    }
}

pub(crate) fn hostname() -> String {
    nix::unistd::gethostname().map_or_else(|_| "localhost".to_owned(), |name| name.to_string_lossy().into_owned())
}
