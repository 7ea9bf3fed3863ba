//! `.socket` units, systemd.socket(5) with `Accept=no`: they listen from the boot on, the first connection starts the container, and the
//! container gets the listening sockets as sd_listen_fds(3) has it. PID 1 keeps them too: whoever restarts, container or supervisor,
//! nobody's connection is refused, it waits.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use ::handoff::{MAX_NAME_BYTES, ToInit};
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{
    clock,
    core::{Daemon, class},
    machine::State,
    recover::fnv,
};
use crate::unit::{Declared, Listen, SocketSpec, Starts, UnitName};

mod open;
mod status;

pub(crate) const PREFIX: &str = "socket:";
/// systemd's TriggerLimitBurst= and TriggerLimitIntervalSec=, and its start limit for a service that fails at each.
const TRIGGERS: (usize, Duration) = (20, Duration::from_secs(2));
const FAILURES: (usize, Duration) = (5, Duration::from_secs(10));

#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// In the order in which their containers get them: by unit, then as its file lists them.
    open: Vec<Socket>,
    /// What PID 1 kept, until it is known whose it is.
    stored: BTreeMap<String, OwnedFd>,
    /// Why a socket does not listen, by unit.
    problems: BTreeMap<UnitName, String>,
    /// When containers were started for a connection, and those of which that came to nothing too often.
    triggers: BTreeMap<UnitName, VecDeque<Duration>>,
    held: BTreeSet<UnitName>,
    next: u32,
}

#[derive(Debug)]
struct Socket {
    id: u32,
    unit: UnitName,
    service: UnitName,
    fd_name: String,
    stored: String,
    fd: OwnedFd,
    armed: bool,
}

/// Its place in PID 1's store: an address that changes is another one.
fn stored_name(unit: &UnitName, listen: &Listen) -> String {
    let name = format!("{PREFIX}{:016x}:{unit}", fnv(&format!("{unit} {listen:?}")));
    name[..name.floor_char_boundary(MAX_NAME_BYTES)].to_owned()
}

/// Of one address of this unit, whichever.
fn is_place_of(stored: &str, unit: &UnitName) -> bool {
    let unit_in_it = stored.strip_prefix(PREFIX).and_then(|rest| rest.split_once(':')).map(|(_, unit)| unit);
    let cut = stored.len() + 4 > MAX_NAME_BYTES;
    unit_in_it.is_some_and(|its| its == unit.as_str() || cut && unit.as_str().starts_with(its))
}

/// Another start now would be one too many.
fn is_too_often(triggers: &mut VecDeque<Duration>, failed: bool, now: Duration) -> bool {
    triggers.retain(|at| now.saturating_sub(*at) < FAILURES.1);
    let (most, within) = if failed { FAILURES } else { TRIGGERS };
    triggers.iter().filter(|at| now.saturating_sub(**at) < within).count() >= most
}

impl Sockets {
    pub(crate) fn keep_stored(&mut self, name: String, fd: OwnedFd) {
        self.stored.insert(name, fd);
    }

    fn of<'a>(&'a self, service: &'a UnitName) -> impl Iterator<Item = &'a Socket> {
        self.open.iter().filter(move |socket| socket.service == *service)
    }

    /// Under this supervisor, or under the one before it.
    fn listens(&self, unit: &UnitName) -> bool {
        self.open.iter().any(|socket| socket.unit == *unit) || self.stored.keys().any(|name| is_place_of(name, unit))
    }

    pub(crate) fn names_for(&self, service: &UnitName) -> Vec<String> {
        self.of(service).map(|socket| socket.fd_name.clone()).collect()
    }

    /// One that cannot be duplicated is missed by the container, and said.
    pub(crate) fn descriptors_for(&self, service: &UnitName) -> Vec<OwnedFd> {
        let duplicate = |socket: &Socket| {
            let fd = socket.fd.try_clone();
            fd.inspect_err(|error| log::error!("{}: {error}", socket.unit)).ok()
        };
        self.of(service).filter_map(duplicate).collect()
    }

    pub(crate) fn problems(&self) -> impl Iterator<Item = String> {
        self.problems.iter().map(|(unit, text)| format!("{unit}: {text}"))
    }
}

impl Daemon {
    /// The sockets as the unit files have them now: what is new listens, what is gone does not, what stays is not touched. What the
    /// file of the socket or of its container says wrongly closes nothing.
    pub(crate) fn sync_sockets(&mut self) {
        let mistaken: BTreeSet<UnitName> = self.files.mistaken().collect();
        let wanted: Vec<(UnitName, Declared<SocketSpec>)> = self
            .files
            .sockets()
            .filter(|(name, socket)| {
                let Starts::Unit(service) = &socket.spec.starts else { return false };
                match self.engine.get(service) {
                    Some(service) => socket.enabled || service.plan.enabled,
                    None => mistaken.contains(service) && (socket.enabled || self.sockets.listens(name)),
                }
            })
            .map(|(name, socket)| (name.clone(), socket.clone()))
            .collect();
        let mut before = std::mem::take(&mut self.sockets.open);
        let was_wrong = std::mem::take(&mut self.sockets.problems);
        for (unit, socket) in wanted {
            let Starts::Unit(service) = &socket.spec.starts else { continue };
            for listen in &socket.spec.listen {
                let stored = stored_name(&unit, listen);
                if let Some(at) = before.iter().position(|open| open.stored == stored && open.service == *service) {
                    let open = before.remove(at);
                    self.sockets.open.push(Socket { fd_name: socket.spec.fd_name.clone(), ..open });
                    continue;
                }
                let fd = match self.sockets.stored.remove(&stored) {
                    Some(fd) => fd,
                    None => match open::open(listen, &socket.spec) {
                        Ok(fd) => {
                            self.stamp_socket(&unit);
                            self.store_fd(stored.clone(), fd.as_fd());
                            fd
                        }
                        Err(error) => {
                            let text = format!("listen on {}: {error}", open::shown(listen));
                            if was_wrong.get(&unit) != Some(&text) {
                                self.say(format!("{unit:<9} {text}"));
                            }
                            self.sockets.problems.insert(unit.clone(), text);
                            continue;
                        }
                    },
                };
                let id = self.sockets.next;
                self.sockets.next += 1;
                log::info!("{unit}: listens on {} for {service}", open::shown(listen));
                let (unit, service, fd_name) = (unit.clone(), service.clone(), socket.spec.fd_name.clone());
                self.sockets.open.push(Socket { id, unit, service, fd_name, stored, fd, armed: false });
            }
        }
        // Not read once by this supervisor, and in its file are mistakes: whoever connects waits.
        let waits = |name: &str| mistaken.iter().any(|unit| is_place_of(name, unit));
        let unclaimed = self.sockets.stored.extract_if(.., |name, _| !waits(name)).map(|(name, _)| name);
        let gone: Vec<String> = before.into_iter().map(|socket| socket.stored).chain(unclaimed).collect();
        for name in gone {
            self.tell(&ToInit::DropFd { name });
        }
        self.arm_sockets();
    }

    /// Since when it listens, whoever supervises.
    fn stamp_socket(&self, unit: &UnitName) {
        let path = self.paths.socket_stamp(unit);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = made.and_then(|()| fs::write(&path, "")) {
            log::error!("{}: {error}", path.display());
        }
    }

    /// Looks for connections where nobody else does: as long as the container does not run and nothing else starts it.
    pub(crate) fn arm_sockets(&mut self) {
        let (stopping, now) = (self.engine.is_shutting_down(), clock::monotonic());
        let Sockets { open, triggers, held, .. } = &mut self.sockets;
        let mut given_up = Vec::new();
        for socket in open {
            let entry = self.engine.get(&socket.service);
            let state = entry.map(|entry| &entry.record.state);
            if matches!(state, Some(State::Running { .. })) && held.remove(&socket.service) {
                // By other means than a connection: it is tried anew.
                triggers.remove(&socket.service);
            }
            let rests =
                matches!(state, Some(State::Inactive | State::Failed)) && entry.is_some_and(|e| e.job.is_none());
            let mut wanted = rests && !stopping && !held.contains(&socket.service);
            if wanted
                && !socket.armed
                && let Some(triggers) = triggers.get_mut(&socket.service)
                && is_too_often(triggers, state == Some(&State::Failed), now)
            {
                held.insert(socket.service.clone());
                given_up.push((socket.unit.clone(), socket.service.clone()));
                wanted = false;
            }
            if wanted != socket.armed {
                let token = (u64::from(class::SOCKETS) << 32) | u64::from(socket.id);
                let result = if wanted {
                    self.epoll.add(&socket.fd, EpollEvent::new(EpollFlags::EPOLLIN, token))
                } else {
                    self.epoll.delete(&socket.fd)
                };
                if let Err(errno) = result {
                    log::error!("{}: epoll: {errno}", socket.unit);
                }
                socket.armed = wanted;
            }
        }
        for (unit, service) in given_up {
            self.say(format!("{unit:<9} starts {service} too often in vain, waits for `orlop start {service}`"));
        }
    }

    /// Somebody connects, or sends.
    pub(crate) fn on_socket(&mut self, id: u32) {
        let Some(socket) = self.sockets.open.iter_mut().find(|socket| socket.id == id) else { return };
        // Not looked at again before it has come to something.
        let _ = self.epoll.delete(&socket.fd);
        socket.armed = false;
        let (unit, service, now) = (socket.unit.clone(), socket.service.clone(), clock::now());
        self.sockets.triggers.entry(service.clone()).or_default().push_back(now.mono);
        log::info!("{unit}: a connection, {service} is started");
        self.engine.start(&service, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::{ListenAddress, ListenKind};

    #[test]
    fn a_changed_address_has_another_place_in_the_store() {
        let unit = |text: &str| UnitName::parse(text).unwrap();
        let listen = |port| Listen { kind: ListenKind::Stream, address: ListenAddress::Ip(None, port) };
        assert_eq!(stored_name(&unit("web.socket"), &listen(80)), stored_name(&unit("web.socket"), &listen(80)));
        assert_ne!(stored_name(&unit("web.socket"), &listen(80)), stored_name(&unit("web.socket"), &listen(81)));
        let long = |last: char| stored_name(&unit(&format!("{}{last}", "a".repeat(199))), &listen(80));
        assert!(long('a') != long('b') && long('a').len() <= MAX_NAME_BYTES);
        assert!(is_place_of(&long('a'), &unit(&format!("{}a", "a".repeat(199)))));
        let of_web = stored_name(&unit("web.socket"), &listen(80));
        assert!(is_place_of(&of_web, &unit("web.socket")) && !is_place_of(&of_web, &unit("web.socket2")));
    }

    #[test]
    fn starts_in_vain_come_to_an_end() {
        let second = Duration::from_secs;
        let mut triggers: VecDeque<Duration> = (0..5).map(second).collect();
        assert!(is_too_often(&mut triggers, true, second(5)));
        assert!(!is_too_often(&mut triggers, false, second(5)), "it did its work");
        let mut triggers: VecDeque<Duration> = std::iter::repeat_n(second(20), 20).collect();
        assert!(is_too_often(&mut triggers, false, second(21)));
    }
}
