//! The descriptors that containers give away to be kept, `FDSTORE=1` of sd_notify(3): PID 1 holds them, so that they outlive the
//! supervisor too, and the unit's next container gets them behind its sockets, as sd_listen_fds(3) has it. They are kept as long as
//! the unit runs or is about to, unless `FileDescriptorStorePreserve=` says otherwise.
//!
//! What a descriptor is called lies in a file beside the unit's record, written before PID 1 gets it: one that is listed and not
//! there was never given away, one that is there and not listed belongs to nobody.

use std::{
    collections::BTreeMap,
    fs, io, mem,
    os::fd::{AsFd, OwnedFd},
};

use ::handoff::{ToInit, close_all_aside};
use nix::sys::epoll::{EpollEvent, EpollFlags};
use serde::{Deserialize, Serialize};

use super::{
    core::{Daemon, class},
    machine::State,
    recover::fnv,
    store, sys,
};
use crate::{
    api::types::ActiveState,
    unit::{Preserve, UnitName, is_fd_name},
};

pub(crate) const PREFIX: &str = "fds:";
/// Of all units: the rest of PID 1's places is for log pipes, without which a container dies with the supervisor.
const MOST: usize = 1024;
/// sd_pid_notify_with_fds(3): what has no name, or a bad one.
const UNNAMED: &str = "stored";

#[derive(Debug, Default)]
pub(crate) struct FdStore {
    units: BTreeMap<UnitName, Vec<Kept>>,
    next: u32,
}

#[derive(Debug)]
struct Kept {
    listed: Listed,
    id: u32,
    fd: OwnedFd,
    /// Its other end is closed; it goes when the container that is being made has it.
    ended: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Listed {
    /// In PID 1's store.
    key: String,
    name: String,
    /// It goes when its other end does (`FDPOLL=0`: it stays).
    poll: bool,
}

/// As it is written below /run; what was written before there were versions has none. Each has its own, and an earlier supervisor
/// passes over them.
#[derive(Debug, Serialize, Deserialize)]
struct Written<T> {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    readable_from: u32,
    #[serde(flatten)]
    listed: T,
}

fn write(all: &[Kept]) -> serde_json::Result<Vec<u8>> {
    let (version, readable_from) = store::versions();
    let written = |kept: &Kept| Written { version, readable_from, listed: kept.listed.clone() };
    serde_json::to_vec(&all.iter().map(written).collect::<Vec<_>>())
}

fn read(text: &[u8]) -> io::Result<Vec<Listed>> {
    let (own, _) = store::versions();
    let written: Vec<Written<serde_json::Value>> = serde_json::from_slice(text)?;
    if written.iter().any(|each| each.readable_from > own) {
        return Err(io::Error::other(format!("written by a newer supervisor, version {own} cannot read it")));
    }
    written.into_iter().map(|each| Ok(serde_json::from_value(each.listed)?)).collect()
}

impl FdStore {
    pub(crate) fn is_empty(&self, unit: &UnitName) -> bool {
        self.of(unit).is_empty()
    }

    fn of(&self, unit: &UnitName) -> &[Kept] {
        self.units.get(unit).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn names_for<'a>(&'a self, unit: &UnitName) -> impl Iterator<Item = String> + use<'a> {
        self.of(unit).iter().map(|kept| kept.listed.name.clone())
    }

    /// One that cannot be duplicated is missed by the container, and said.
    pub(crate) fn descriptors_for(&self, unit: &UnitName) -> Vec<OwnedFd> {
        let duplicate = |kept: &Kept| {
            let fd = kept.fd.try_clone();
            fd.inspect_err(|error| log::error!("{unit}: {}: {error}", kept.listed.name)).ok()
        };
        self.of(unit).iter().filter_map(duplicate).collect()
    }
}

/// `FDNAME=`, or systemd's name for those without.
pub(crate) fn checked_name(name: Option<&str>) -> &str {
    name.filter(|name| is_fd_name(name)).unwrap_or(UNNAMED)
}

fn begin_of_keys(unit: &UnitName) -> String {
    format!("{PREFIX}{:016x}:", fnv(unit.as_str()))
}

/// What PID 1 keeps of this unit, with as much as its keys tell.
fn nameless<'a>(unit: &UnitName, keys: impl Iterator<Item = &'a String>) -> Vec<Listed> {
    let begin = begin_of_keys(unit);
    let listed = |key: &String| Listed { key: key.clone(), name: UNNAMED.to_owned(), poll: true };
    keys.filter(|key| key.starts_with(&begin)).map(listed).collect()
}

impl Daemon {
    /// Returns those that are not kept.
    pub(crate) fn keep_fds(&mut self, unit: &UnitName, name: &str, poll: bool, fds: Vec<OwnedFd>) -> Vec<OwnedFd> {
        let mut refused = Vec::new();
        let most = self.files.get(unit).map_or(0, |unit| unit.service.fd_store_max as usize);
        for fd in fds {
            let all = self.fd_store.of(unit);
            // A word that a supervisor died over is read again by the next one.
            if all.iter().any(|kept| sys::is_same_file(kept.fd.as_fd(), fd.as_fd())) {
                refused.push(fd);
                continue;
            }
            if all.len() >= most {
                let text = format!("no room for a descriptor {name}, FileDescriptorStoreMax= is {most}");
                self.complain(unit, "FDSTORE=1", &text);
                refused.push(fd);
                continue;
            }
            if self.fd_store.units.values().map(Vec::len).sum::<usize>() >= MOST {
                let text = format!("no room for a descriptor {name}: {MOST} of all units are kept");
                self.complain(unit, "FDSTORE=1", &text);
                refused.push(fd);
                continue;
            }
            let number = |kept: &Kept| kept.listed.key.rsplit_once(':').and_then(|(_, number)| number.parse().ok());
            let next = all.iter().filter_map(number).max().map_or(0, |last: u64| last + 1);
            let key = format!("{}{next}", begin_of_keys(unit));
            self.add_fd(unit, Listed { key: key.clone(), name: name.to_owned(), poll }, fd);
            self.list_fds(unit);
            if let Some(kept) = self.fd_store.of(unit).last().and_then(|kept| kept.fd.try_clone().ok()) {
                self.store_fd(key, kept.as_fd());
            }
        }
        refused
    }

    fn add_fd(&mut self, unit: &UnitName, listed: Listed, fd: OwnedFd) {
        let id = self.fd_store.next;
        self.fd_store.next += 1;
        if listed.poll {
            // Nothing is asked for: that the other end is closed is always told. What cannot be watched, as a file, has no such end.
            let event = EpollEvent::new(EpollFlags::EPOLLET, (u64::from(class::FDS) << 32) | u64::from(id));
            let _ = self.epoll.add(&fd, event);
        }
        self.fd_store.units.entry(unit.clone()).or_default().push(Kept { listed, id, fd, ended: false });
    }

    /// `FDSTOREREMOVE=1`.
    pub(crate) fn forget_fds(&mut self, unit: &UnitName, name: &str) {
        self.drop_fds(unit, |kept| kept.listed.name == name);
    }

    fn drop_fds(&mut self, unit: &UnitName, goes: impl Fn(&Kept) -> bool) {
        let Some(all) = self.fd_store.units.get_mut(unit) else { return };
        let (gone, kept): (Vec<Kept>, Vec<Kept>) = mem::take(all).into_iter().partition(goes);
        *all = kept;
        if gone.is_empty() {
            return;
        }
        for Kept { listed, fd, .. } in &gone {
            // Others hold the same file, so that closing ours would not end the watch.
            let _ = self.epoll.delete(fd);
            self.tell(&ToInit::DropFd { name: listed.key.clone() });
        }
        close_all_aside(gone.into_iter().map(|kept| kept.fd).collect());
        self.list_fds(unit);
    }

    fn list_fds(&self, unit: &UnitName) {
        let written = write(self.fd_store.of(unit)).map_err(Into::into);
        if let Err(error) = written.and_then(|text| store::replace(&self.paths.stored_fds(unit), &text)) {
            log::error!("{unit}: write what its stored descriptors are called: {error}");
        }
    }

    /// The other end of one is closed. Not while a container is made that was told how many it gets.
    pub(crate) fn on_fd_ended(&mut self, id: u32) {
        let found = self.fd_store.units.iter_mut().find_map(|(unit, all)| {
            let kept = all.iter_mut().find(|kept| kept.id == id)?;
            kept.ended = true;
            Some(unit.clone())
        });
        if let Some(unit) = found {
            self.sweep_fds(&unit);
        }
    }

    /// At every change of a unit: what has ended goes, and all of a unit that is at rest and not about to start.
    pub(crate) fn sweep_fds(&mut self, unit: &UnitName) {
        let entry = self.engine.get(unit);
        let active = entry.map(|entry| entry.record.state.active(&entry.plan.policy));
        let rests = matches!(active, None | Some(ActiveState::Inactive | ActiveState::Failed));
        let made = entry.is_some_and(|entry| matches!(entry.record.state, State::Creating { .. }));
        let lives = made || entry.is_some_and(|entry| entry.record.state.process().is_some());
        let over = match self.files.get(unit).map(|unit| unit.service.fd_store_preserve) {
            Some(Preserve::Yes) => false,
            Some(Preserve::No) => !lives,
            Some(Preserve::Restart) | None => rests && entry.is_none_or(|entry| entry.job.is_none()),
        };
        self.drop_fds(unit, |kept| over || (kept.ended && !made));
    }

    /// Units may be gone.
    pub(crate) fn sweep_all_fds(&mut self) {
        for unit in self.fd_store.units.keys().cloned().collect::<Vec<_>>() {
            self.sweep_fds(&unit);
        }
    }

    /// A list that cannot be read costs them their names, and nothing else.
    fn listed_fds(&self, unit: &UnitName, stored: &BTreeMap<String, OwnedFd>) -> Vec<Listed> {
        let path = self.paths.stored_fds(unit);
        match fs::read(&path).and_then(|text| read(&text)) {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let nameless = nameless(unit, stored.keys());
                log::error!("{}: {error}; {} descriptors are called {UNNAMED} now", path.display(), nameless.len());
                nameless
            }
        }
    }

    /// After an earlier supervisor: each that PID 1 kept finds its unit again.
    pub(crate) fn adopt_fds(&mut self, mut stored: BTreeMap<String, OwnedFd>) {
        let units: Vec<UnitName> = self.engine.units().map(|(name, _)| name.clone()).collect();
        for unit in units {
            for listed in self.listed_fds(&unit, &stored) {
                if let Some(fd) = stored.remove(&listed.key) {
                    self.add_fd(&unit, listed, fd);
                }
            }
            self.sweep_fds(&unit);
        }
        for name in stored.into_keys() {
            self.tell(&ToInit::DropFd { name });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_manual_allows() {
        assert_eq!(checked_name(Some("db socket")), "db socket");
        let long = "x".repeat(256);
        for bad in [None, Some(""), Some("a:b"), Some("a\tb"), Some("\u{e4}"), Some(long.as_str())] {
            assert_eq!(checked_name(bad), "stored");
        }
        assert_eq!(checked_name(Some(&long[1..])), &long[1..]);
    }

    /// Byte for byte what a supervisor wrote before there were versions.
    const OLD: &str = r#"[{"key":"fds:00000000000000aa:0","name":"state","poll":false}]"#;

    #[test]
    fn a_list_tells_which_supervisors_can_read_it() {
        let old = read(OLD.as_bytes()).unwrap();
        assert!(old[0].key == "fds:00000000000000aa:0" && old[0].name == "state" && !old[0].poll);
        let fd = fs::File::open("/dev/null").unwrap().into();
        let text = write(&[Kept { listed: old[0].clone(), id: 0, fd, ended: false }]).unwrap();
        let (version, readable_from) = store::versions();
        let mut newer: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&newer[0]["version"], &newer[0]["readable_from"]), (&version.into(), &readable_from.into()));
        // An earlier supervisor passes over what it does not know, as this one does.
        assert_eq!(serde_json::from_slice::<Vec<Listed>>(&text).unwrap()[0].name, "state");
        newer[0]["version"] = 9.into();
        newer[0]["of_the_future"] = 1.into();
        assert_eq!(read(newer.to_string().as_bytes()).unwrap()[0].name, "state");
        newer[0]["readable_from"] = 9.into();
        newer[0]["name"] = 7.into();
        assert!(read(newer.to_string().as_bytes()).unwrap_err().to_string().contains("newer supervisor"));
        assert!(read(b"[").is_err());
        // Only their names are lost.
        let unit = UnitName::parse("web").unwrap();
        let keys = [format!("{}3", begin_of_keys(&unit)), "fds:00000000000000aa:0".to_owned()];
        let found = nameless(&unit, keys.iter());
        assert_eq!(
            found.iter().map(|each| (&each.key, each.name.as_str())).collect::<Vec<_>>(),
            [(&keys[0], "stored")]
        );
    }

    #[test]
    fn one_file_by_two_numbers_is_one_file() {
        let (read, write) = io::pipe().unwrap();
        let again = read.try_clone().unwrap();
        assert!(sys::is_same_file(read.as_fd(), again.as_fd()));
        assert!(!sys::is_same_file(read.as_fd(), write.as_fd()));
        let other = fs::File::open("/dev/null").unwrap();
        assert!(!sys::is_same_file(other.as_fd(), fs::File::open("/dev/null").unwrap().as_fd()), "opened twice");
    }
}
