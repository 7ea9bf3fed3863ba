//! Idmapped mounts: the kernel takes a mapping as a user namespace that has it, so one is made to be pointed at.

use std::cell::RefCell;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::namespaces::lines;
use super::options::{Bind, Options};
use crate::runtime::config::{IdMapping, Linux, Mount};
use crate::runtime::error::{Result, Step, c_string};
use crate::runtime::procfs::Procfs;
use crate::runtime::sys::process::{self, Side};
use crate::runtime::sys::{Errno, fs, socket};

/// Content of uid_map and gid_map.
type Maps = (String, String);

pub(super) struct Idmaps<'a> {
    pub(super) proc: &'a Procfs,
    pub(super) linux: &'a Linux,
    /// The container's user namespace, where it joins one that exists.
    pub(super) joined: Option<BorrowedFd<'a>>,
    /// The last one made: mounts of one container mostly share their mapping.
    pub(super) last: RefCell<Option<(Maps, Rc<OwnedFd>)>>,
}

impl Idmaps<'_> {
    /// The user namespace whose mapping a mount is to have, and whether everything below it is to have it too.
    pub(super) fn wanted(
        &self,
        given: &Mount,
        options: &Options,
    ) -> std::result::Result<Option<(bool, Rc<OwnedFd>)>, String> {
        let own = !given.uid_mappings.is_empty() || !given.gid_mappings.is_empty();
        let (kind, text) = match &options.idmap {
            None if !own => return Ok(None),
            None => (Bind::One, ""),
            Some((kind, text)) => (*kind, text.as_str()),
        };
        let maps = if own {
            if given.uid_mappings.is_empty() || given.gid_mappings.is_empty() {
                return Err("uidMappings and gidMappings need each other".to_owned());
            }
            (lines(&given.uid_mappings), lines(&given.gid_mappings))
        } else if !text.is_empty() {
            written(text)
                .ok_or_else(|| format!("{text:?} is not of the form uids=FROM-TO-COUNT#…;gids=FROM-TO-COUNT#…"))?
        } else if let Some(joined) = self.joined {
            let copy = joined.try_clone_to_owned().map_err(|error| error.to_string())?;
            return Ok(Some((kind == Bind::Recursive, Rc::new(copy))));
        } else if self.linux.uid_mappings.is_empty() {
            return Err("idmap without mappings needs a user namespace whose mapping it could take".to_owned());
        } else {
            (lines(&self.linux.uid_mappings), lines(&self.linux.gid_mappings))
        };
        let namespace = self.namespace(maps).map_err(|error| error.to_string())?;
        Ok(Some((kind == Bind::Recursive, namespace)))
    }

    fn namespace(&self, maps: Maps) -> Result<Rc<OwnedFd>> {
        if let Some((have, namespace)) = &*self.last.borrow()
            && *have == maps
        {
            return Ok(Rc::clone(namespace));
        }
        let namespace = Rc::new(make(self.proc, &maps)?);
        *self.last.borrow_mut() = Some((maps, Rc::clone(&namespace)));
        Ok(namespace)
    }
}

/// A user namespace that lives as long as the descriptor: its one process ends at once.
fn make(proc: &Procfs, (uids, gids): &Maps) -> Result<OwnedFd> {
    inhabitant(None, |pid| {
        proc.write(&format!("{pid}/uid_map"), uids.as_bytes()).step("set", "the uid mapping of a mount")?;
        proc.write(&format!("{pid}/gid_map"), gids.as_bytes()).step("set", "the gid mapping of a mount")?;
        let path = c_string(format!("{pid}/ns/user"));
        fs::open_at(proc.fd(), &path, libc::O_RDONLY, 0).step("open", "the user namespace of a mount")
    })
}

/// The uid and gid mapping of a user namespace. The kernel tells them of a process only, and a namespace held by a file may have none.
pub(super) fn of_namespace(proc: &Procfs, user: BorrowedFd<'_>) -> Result<[Vec<IdMapping>; 2]> {
    inhabitant(Some(user), |pid| {
        let read = |name: &str| proc.read(&format!("{pid}/{name}")).step("read", name);
        Ok([told(&read("uid_map")?), told(&read("gid_map")?)])
    })
}

/// In the words of uid_map: where it begins inside, where outside, how far it goes.
fn told(text: &str) -> Vec<IdMapping> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|one| one.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(IdMapping { container: next()?, host: next()?, size: next()? })
    };
    text.lines().filter_map(line).collect()
}

/// A process that is in this user namespace, or in a new one, for as long as something is asked about it.
fn inhabitant<T>(user: Option<BorrowedFd<'_>>, ask: impl FnOnce(i32) -> Result<T>) -> Result<T> {
    let (ours, theirs) = socket::pair().step("create", "channel")?;
    let flags = if user.is_none() { u64::from(libc::CLONE_NEWUSER.unsigned_abs()) } else { 0 };
    let (pid, pidfd) = match process::clone(flags, None).step("clone", "a process for a user namespace")? {
        Side::Child => {
            drop(ours);
            let joined = user.map_or(Ok(()), |user| process::join_namespace(user, libc::CLONE_NEWUSER));
            let errno = joined.err().map_or(0, |errno| errno.0);
            let _ = socket::send(theirs.as_fd(), &[&errno.to_le_bytes()]);
            // Until the other side has what it wants, or is gone.
            let _ = socket::receive(theirs.as_fd(), &mut [0]);
            process::exit_now(0);
        }
        Side::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let mut errno = libc::ESRCH.to_le_bytes();
    let answered = socket::receive(ours.as_fd(), &mut errno).and_then(|_| match i32::from_le_bytes(errno) {
        0 => Ok(()),
        errno => Err(Errno(errno)),
    });
    let asked = answered.step("enter", "a user namespace").and_then(|()| ask(pid));
    drop(ours);
    let _ = process::wait(pidfd.as_fd());
    asked
}

/// The mapping some engines write into the option itself: `uids=0-1000-10#10-2000-5;gids=0-1000-10`.
fn written(text: &str) -> Option<Maps> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';') {
        let (kind, ranges) = part.split_once('=')?;
        let list = match kind {
            "uids" => &mut uids,
            "gids" => &mut gids,
            _ => return None,
        };
        for range in ranges.split('#') {
            let mut numbers = range.split('-').map(|one| one.parse::<u32>().ok());
            let mut next = || numbers.next().flatten();
            list.push(IdMapping { container: next()?, host: next()?, size: next()? });
            if numbers.next().is_some() {
                return None;
            }
        }
    }
    if uids.is_empty() || gids.is_empty() { None } else { Some((lines(&uids), lines(&gids))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_written_into_the_option() {
        let both = |u: &str, g: &str| Some((u.to_owned(), g.to_owned()));
        assert_eq!(written("uids=0-1-2#5-6-7;gids=0-3-4"), both("0 1 2\n5 6 7\n", "0 3 4\n"));
        for bad in ["", "uids=0-1-2", "uids=0-1;gids=0-1-2", "uids=@0-1-2;gids=0-1-2", "uids=0-1-2-3;gids=0-1-2", "x=1"]
        {
            assert!(written(bad).is_none(), "{bad}");
        }
    }
}
