//! Taking over: from PID 1 at every start, and from an earlier supervisor of this boot if there was one. Containers run on, exits
//! that came in between are taken into account, log pipes come back from PID 1's store, and what nobody owns is removed.

use std::{
    collections::BTreeMap,
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixListener,
    },
    time::Duration,
};

use ::handoff::{Hello, MAX_NAME_BYTES, ToInit, ToSupervisor};

use super::{
    bundle, cgroup, clock,
    core::Daemon,
    engine::{Entry, Plan},
    exec::relay,
    fd_store,
    logs::Stream,
    machine::{Event, Process, Record, State},
    notify::Gone,
    pods, process, replies, shutdown, sockets, store,
};
use crate::{api::server::Server, net::dns, unit::UnitName};

/// For PID 1's first words: it sends them right after the exec.
const PATIENCE: Duration = Duration::from_secs(5);
const LISTENER_NAME: &str = "listen:control";

/// What PID 1 keeps of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Log(Stream),
    Notify,
}

const KEPT: [Kept; 3] = [Kept::Log(Stream::Out), Kept::Log(Stream::Err), Kept::Notify];

/// A name in PID 1's store: `unit:<unit>:out.<attempt>`. With the attempt, because the pipe of the container that ended may still
/// hold its last lines when the next one starts. A unit's name may be longer than a name there; then its end is replaced by a
/// number made of all of it.
pub(crate) fn stored_name(unit: &UnitName, what: Kept, attempt: u64) -> String {
    /// `unit:`, `:notify.`, and twenty digits.
    const REST: usize = 33;
    let end = match what {
        Kept::Log(Stream::Err) => "err",
        Kept::Log(_) => "out",
        Kept::Notify => "notify",
    };
    let name = unit.as_str();
    if name.len() + REST <= MAX_NAME_BYTES {
        return format!("unit:{name}:{end}.{attempt}");
    }
    format!("unit:{}~{:016x}:{end}.{attempt}", &name[..MAX_NAME_BYTES - REST - 17], fnv(name))
}

/// FNV-1a: any number will do that differs for names that differ.
pub(crate) fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

impl Daemon {
    /// Listens to PID 1 until it has said all it has to say at a start: who we are, what ended, what is stored. Exits are
    /// returned for after the adoption.
    pub(crate) fn greet(&mut self) -> Vec<(Process, i32)> {
        let mut exits = Vec::new();
        self.handoff.send(&ToInit::ListFds, None);
        let deadline = clock::monotonic() + PATIENCE;
        let (mut hello, mut awaited_exits, mut listed) = (None, 0, false);
        let mut awaited_fds: Vec<String> = Vec::new();
        while hello.is_none() || exits.len() < awaited_exits || !listed || !awaited_fds.is_empty() {
            let Some((message, fd)) = self.handoff.receive() else {
                if self.handoff.wait(deadline) {
                    continue;
                }
                log::error!("PID 1 did not say all it has to say; going on without it");
                break;
            };
            match message {
                ToSupervisor::Hello(Hello { generation, queued_exits, dropped_exits, state }) => {
                    hello = Some(generation);
                    awaited_exits = usize::try_from(queued_exits).unwrap_or(0);
                    self.generation = generation;
                    self.state_store = state;
                    if dropped_exits > 0 {
                        log::warn!("PID 1 had to drop {dropped_exits} exits in this boot");
                    }
                }
                ToSupervisor::Predecessor { end } => self.predecessor = end,
                ToSupervisor::Exit(exit) => {
                    self.exit_seq = self.exit_seq.max(exit.seq);
                    exits.push((Process { pid: exit.pid, start_ticks: exit.start_ticks }, exit.wait_status));
                }
                ToSupervisor::FdName { name } => {
                    awaited_fds.push(name.clone());
                    self.tell(&ToInit::TakeFd { name });
                }
                ToSupervisor::FdsEnd => listed = true,
                ToSupervisor::Fd { name } => {
                    awaited_fds.retain(|awaited| *awaited != name);
                    if let Some(fd) = fd {
                        self.stored.insert(name, fd);
                    }
                }
                ToSupervisor::Failed { name, .. } => awaited_fds.retain(|awaited| *awaited != name),
                // No unit is known yet that could be stopped: it is taken up behind the adoption, as one that was interrupted.
                ToSupervisor::ShutdownRequest { kind } => self.keep_shutdown(kind),
                other => self.on_init(other),
            }
        }
        exits
    }

    /// Takes over what an earlier supervisor of this boot left. Unit files are read already. True if there was one.
    pub(crate) fn adopt(&mut self, exits: Vec<(Process, i32)>) -> bool {
        let plans: BTreeMap<UnitName, Plan> = self.files.plans(self.state_store);
        self.engine.load(plans, clock::now());
        let taken_over = self.paths.booted().exists() || self.generation > 1;
        if taken_over {
            self.kill_old_operations();
            for (unit, kept) in store::load(&self.paths) {
                match kept {
                    store::Kept::Whole(mut stored) => {
                        let survived = stored.record.state.process().is_some_and(process::is_alive);
                        stored.record.count_death(survived, self.predecessor, clock::now());
                        let job = stored.job();
                        self.remarks.insert(unit.clone(), std::mem::take(&mut stored.remarks));
                        self.tell_remarks(&unit);
                        self.engine.restore(unit, stored.policy, stored.record, job);
                    }
                    store::Kept::Attempt(attempt) => self.adopt_unread(unit, attempt),
                }
            }
        }
        // Before a container's words are heard, which may bring more of them.
        let is_given = |name: &String, _: &mut OwnedFd| name.starts_with(fd_store::PREFIX);
        let given: BTreeMap<String, OwnedFd> = self.stored.extract_if(.., is_given).collect();
        self.adopt_fds(given);
        for (name, fd) in std::mem::take(&mut self.stored) {
            self.take_stored(&name, fd);
        }
        self.logs.all_followed();
        for (process, wait_status) in exits {
            self.on_exit(process, wait_status);
        }
        let lives = self.engine.units().filter(|(_, entry)| !entry.record.state.at_rest());
        self.folders.take_over(lives.map(|(unit, _)| unit.clone()).collect());
        if taken_over {
            self.adopt_networks();
            let has = |unit: &str| {
                let found = UnitName::parse(unit).ok().and_then(|unit| self.engine.get(&unit));
                found.is_some_and(|entry| !entry.record.state.at_rest())
            };
            bundle::sweep_volumes(&self.paths, has);
            self.adopt_units();
            self.remove_leftovers();
        }
        match shutdown::interrupted(&self.paths) {
            Some(kind) => self.begin_shutdown(kind),
            None if taken_over => self.limit_all(),
            None => {}
        }
        taken_over
    }

    /// A container whose state cannot be read runs on: the runtime knows its first process and whether it was started. What it was
    /// before is forgotten.
    fn adopt_unread(&mut self, unit: UnitName, attempt: Option<u64>) {
        let Some(policy) = self.engine.get(&unit).map(|entry| entry.plan.policy.clone()) else { return };
        let mut record = Record::new(clock::now());
        // Greater than any that was, so that nothing late is taken for this one's.
        record.attempt = attempt.unwrap_or(u32::MAX.into());
        // Containers run in it.
        if policy.pod && pods::is_whole(&self.paths.pod(&unit)) {
            log::warn!("{unit}: its state is not readable; the pod stays, its history is lost");
            record.state = State::Held;
            return self.engine.restore(unit, policy, record, None);
        }
        let its = cgroup::processes(&self.paths.cgroup(&unit));
        let pid = self.runtime.asked_pid(&unit).filter(|pid| its.contains(pid));
        let Some(process) = pid.and_then(process::identify) else { return };
        log::warn!("{unit}: its state is not readable; the container runs on, its history is lost");
        record.state = State::Starting { process, deadline: None, stop: false, ready: true };
        self.engine.restore(unit, policy, record, None);
    }

    fn adopt_units(&mut self) {
        for (unit, entry) in self.engine.units().filter(|(_, entry)| !entry.record.state.at_rest()) {
            log::info!("{unit}: taken over, {}", entry.record.state.sub_state());
        }
        // What is gone was reaped, and its exit was not among those PID 1 kept; or it has ended since, and that is being told.
        if self.gone().next().is_some() {
            self.hear_exits();
        }
        for (unit, process) in self.gone().collect::<Vec<_>>() {
            self.engine.event(&unit, Event::Lost { process }, clock::now());
        }
        let units: Vec<UnitName> = self.engine.units().map(|(name, _)| name.clone()).collect();
        for unit in units {
            self.engine.event(&unit, Event::Interrupted, clock::now());
        }
        self.engine.resume(clock::now());
    }

    /// First processes that are there no more, and whose ends nobody told.
    fn gone(&self) -> impl Iterator<Item = (UnitName, Process)> {
        let is_here = |found: &Process| {
            process::is_alive(*found) || process::identify(found.pid).is_some_and(|now| now.is(found))
        };
        let first = |entry: &Entry| entry.record.state.process();
        self.engine
            .units()
            .filter_map(move |(unit, entry)| Some((unit.clone(), first(entry).filter(|found| !is_here(found))?)))
    }

    /// Until PID 1 has told every exit there was before this question.
    fn hear_exits(&mut self) {
        self.handoff.send(&ToInit::ListFds, None);
        let deadline = clock::monotonic() + PATIENCE;
        loop {
            match self.handoff.receive() {
                Some((ToSupervisor::FdsEnd, _)) => return,
                // Only the end of the list is of interest.
                Some((ToSupervisor::FdName { .. } | ToSupervisor::Fd { .. }, _)) => {}
                Some((other, _)) => self.on_init(other),
                None if !self.handoff.wait(deadline) => {
                    return log::error!("PID 1 did not answer; going on without it");
                }
                None => {}
            }
        }
    }

    /// Runtime processes of the supervisor before us: they work for nobody and would come in the way of ours. Sessions of `exec` go on.
    fn kill_old_operations(&self) {
        for pid in cgroup::processes(&self.paths.cgroups().join("orlop")) {
            if pid != std::process::id()
                && !process::is_of(pid, relay::NAME)
                && let Some(found) = process::identify(pid)
            {
                log::warn!("pid {pid} is left of an earlier supervisor, killed");
                let _ = process::signal(found, libc::SIGKILL);
            }
        }
    }

    /// Cgroups and mounts of units that nobody knows, or that are at rest.
    fn remove_leftovers(&mut self) {
        let rests = |daemon: &Self, name: &str| {
            daemon.engine.units().find(|(unit, _)| unit.as_str() == name).is_none_or(|(_, e)| e.record.state.at_rest())
        };
        for entry in fs::read_dir(self.paths.cgroups().join("containers")).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && rests(self, &name) {
                log::warn!("{name}: its cgroup is left over, removed");
                let _ = cgroup::kill(&entry.path());
                let _ = cgroup::remove(&entry.path());
            }
        }
        for entry in fs::read_dir(self.paths.units()).into_iter().flatten().flatten() {
            if !rests(self, &entry.file_name().to_string_lossy()) {
                continue;
            }
            for mounted in ["rootfs", "net"] {
                if let Err(error) = bundle::unmount(&entry.path().join(mounted)) {
                    log::warn!("{}: unmount what is left over: {error}", entry.path().display());
                }
            }
            let unit = entry.file_name().to_str().and_then(|name| UnitName::parse(name).ok());
            if let Some(unit) = unit.filter(|unit| self.engine.get(unit).is_none()) {
                store::forget(&self.paths, &unit);
            }
        }
        for entry in fs::read_dir(self.paths.pods()).into_iter().flatten().flatten() {
            if rests(self, &entry.file_name().to_string_lossy())
                && let Err(error) = pods::remove(&entry.path())
            {
                log::warn!("{}: {error}", entry.path().display());
            }
        }
    }

    /// A descriptor from PID 1's store finds its place again.
    pub(crate) fn take_stored(&mut self, name: &str, fd: OwnedFd) {
        if name == LISTENER_NAME {
            if let Err(error) = self.server.listen(&self.epoll, UnixListener::from(fd)) {
                log::error!("control socket from the store: {error}");
            }
            return;
        }
        if name.starts_with(sockets::PREFIX) {
            return self.sockets.keep_stored(name.to_owned(), fd);
        }
        if name.starts_with(dns::PREFIX) {
            return self.wiring.networks.take_socket(name.to_owned(), fd);
        }
        if name.starts_with(replies::PREFIX) {
            return self.adopt_client(name, fd);
        }
        let found = name.rsplit_once('.').and_then(|(_, attempt)| {
            let attempt = attempt.parse().ok()?;
            let of = |unit: &UnitName| KEPT.into_iter().find(|what| stored_name(unit, *what, attempt) == name);
            let known = self.engine.units().find_map(|(unit, _)| Some((unit.clone(), of(unit)?)));
            // Of a unit that is gone: its last lines still belong into its log.
            let gone = || {
                let unit = UnitName::parse(name.strip_prefix("unit:")?.rsplit_once(':')?.0).ok()?;
                of(&unit).map(|what| (unit, what))
            };
            known.or_else(gone).map(|(unit, what)| (unit, what, attempt))
        });
        match found {
            Some((unit, Kept::Log(stream), attempt)) => self.follow_log(&unit, stream, attempt, fd),
            Some((unit, Kept::Notify, attempt)) => {
                let id = self.follow_notify(&unit, attempt, fd);
                self.on_notify(id, Gone::Heard);
            }
            None => {
                log::warn!("nobody knows the stored descriptor {name}, dropped");
                self.tell(&ToInit::DropFd { name: name.to_owned() });
            }
        }
    }

    /// The control socket: the one PID 1 kept, so that nobody's connection is refused, or a new one.
    pub(crate) fn listen(&mut self) {
        if self.server.is_listening() {
            return;
        }
        let path = self.paths.control_socket();
        let result = Server::bind(&path).and_then(|listener| {
            self.store_fd(LISTENER_NAME.to_owned(), listener.as_fd());
            self.server.listen(&self.epoll, listener)
        });
        if let Err(error) = result {
            log::error!("{}: {error}", path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_has_its_own_names_in_the_store() {
        let short = UnitName::parse("web").unwrap();
        assert_eq!(stored_name(&short, Kept::Log(Stream::Out), 3), "unit:web:out.3");
        let long = |last: char| UnitName::parse(&format!("{}{last}", "a".repeat(199))).unwrap();
        let name = |last| stored_name(&long(last), Kept::Notify, u64::MAX);
        assert_ne!(name('a'), name('b'));
        assert!(name('a').len() <= MAX_NAME_BYTES && name('a').ends_with(":notify.18446744073709551615"));
    }
}
