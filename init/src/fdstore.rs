//! The fd store: descriptors that outlive the supervisor, by name.
//!
//! Beside the table in memory a memory file holds the same numbers and names, because that file survives when
//! PID 1 executes itself anew (`sys::crash`): `i32` number, `u16` length, name, one entry a slot, 0 for a free one.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};

use handoff::{MAX_NAME_BYTES, close_aside};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::{pread, pwrite};

use crate::sys;
use crate::text::Text;

/// A few descriptors for each of a thousand containers.
pub(crate) const MAX_FDS: usize = 4096;
pub(crate) const ENTRY_BYTES: usize = 136;

pub(crate) type Name = Text<MAX_NAME_BYTES>;

struct Entry {
    name: Name,
    fd: OwnedFd,
}

pub(crate) struct FdStore {
    slots: Vec<Option<Entry>>,
    table: Option<OwnedFd>,
}

impl FdStore {
    /// An empty store, its table allocated once.
    pub(crate) fn new() -> Self {
        let table = memfd_create(c"fd-store", MFdFlags::MFD_CLOEXEC).ok();
        Self::with_table(table)
    }

    /// The store of a former self, as far as its descriptors are still open.
    pub(crate) fn adopt(table: RawFd) -> Self {
        let mut store = Self::with_table(sys::fds::adopt(table).ok());
        for slot in 0..MAX_FDS {
            let mut raw = [0; ENTRY_BYTES];
            let Some(table) = &store.table else { break };
            let offset = i64::try_from(slot * ENTRY_BYTES).unwrap_or(0);
            if pread(table, &mut raw, offset) != Ok(ENTRY_BYTES) {
                break;
            }
            let entry = parse(&raw).and_then(|(number, name)| Some(Entry { name, fd: sys::fds::adopt(number).ok()? }));
            store.slots.push(entry);
        }
        store
    }

    fn with_table(table: Option<OwnedFd>) -> Self {
        sys::crash::remember_table(table.as_ref().map_or(-1, std::os::fd::AsRawFd::as_raw_fd));
        Self { slots: Vec::with_capacity(MAX_FDS), table }
    }

    /// Keeps `fd` under `name`; one of the same name is closed.
    pub(crate) fn put(&mut self, name: &str, fd: OwnedFd) -> Result<(), Errno> {
        match self.place(name) {
            Ok(slot) => {
                self.set(slot, Some(Entry { name: Name::of(name), fd }));
                Ok(())
            }
            Err(errno) => {
                close_aside(fd);
                Err(errno)
            }
        }
    }

    fn place(&mut self, name: &str) -> Result<usize, Errno> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            return Err(Errno::EINVAL);
        }
        match self.find(name).or_else(|| self.slots.iter().position(Option::is_none)) {
            Some(slot) => Ok(slot),
            None if self.slots.len() < MAX_FDS => {
                self.slots.push(None);
                Ok(self.slots.len() - 1)
            }
            None => Err(Errno::ENOSPC),
        }
    }

    fn set(&mut self, slot: usize, entry: Option<Entry>) {
        let former = std::mem::replace(&mut self.slots[slot], entry);
        self.record(slot);
        if let Some(Entry { fd, .. }) = former {
            close_aside(fd);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.slots[self.find(name)?].as_ref().map(|entry| entry.fd.as_fd())
    }

    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Errno> {
        let slot = self.find(name).ok_or(Errno::ENOENT)?;
        self.set(slot, None);
        Ok(())
    }

    /// Closes all of them.
    pub(crate) fn clear(&mut self) {
        for slot in 0..self.slots.len() {
            self.set(slot, None);
        }
    }

    /// The first name at or after `slot`, with its slot: a listing goes on behind it whatever happens between.
    pub(crate) fn name_from(&self, slot: usize) -> Option<(usize, &str)> {
        let rest = self.slots.iter().enumerate().skip(slot);
        rest.into_iter().find_map(|(i, entry)| Some((i, entry.as_ref()?.name.as_str())))
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.as_ref().is_some_and(|entry| entry.name.as_str() == name))
    }

    fn record(&self, slot: usize) {
        let Some(table) = &self.table else { return };
        let mut raw = [0; ENTRY_BYTES];
        if let Some(entry) = &self.slots[slot] {
            let name = entry.name.as_str().as_bytes();
            raw[..4].copy_from_slice(&entry.fd.as_raw_fd().to_le_bytes());
            raw[4..6].copy_from_slice(&u16::try_from(name.len()).unwrap_or(0).to_le_bytes());
            raw[6..6 + name.len()].copy_from_slice(name);
        }
        // Without room for the record the store works on; only a broken PID 1 would miss it.
        let _ = pwrite(table, &raw, i64::try_from(slot * ENTRY_BYTES).unwrap_or(0));
    }
}

fn parse(raw: &[u8; ENTRY_BYTES]) -> Option<(RawFd, Name)> {
    let number = i32::from_le_bytes(raw[..4].try_into().ok()?);
    let len = usize::from(u16::from_le_bytes(raw[4..6].try_into().ok()?));
    let name = std::str::from_utf8(raw.get(6..6 + len)?).ok()?;
    (number > 2).then(|| (number, Name::of(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd() -> OwnedFd {
        nix::unistd::pipe().unwrap().0
    }

    fn names(store: &FdStore) -> Vec<String> {
        let mut all = Vec::new();
        let mut at = 0;
        while let Some((slot, name)) = store.name_from(at) {
            all.push(name.to_owned());
            at = slot + 1;
        }
        all
    }

    #[test]
    fn a_put_replaces_a_remove_frees_a_listing_skips_holes() {
        let mut store = FdStore::new();
        for name in ["a", "b", "c"] {
            store.put(name, fd()).unwrap();
        }
        let second = fd();
        let number = second.as_raw_fd();
        store.put("a", second).unwrap();
        assert_eq!(store.get("a").unwrap().as_raw_fd(), number);
        store.remove("b").unwrap();
        assert_eq!(names(&store), ["a", "c"]);
        assert_eq!(store.remove("b"), Err(Errno::ENOENT));
        assert!(store.get("b").is_none());
        assert_eq!(store.put("", fd()), Err(Errno::EINVAL));
        assert_eq!(store.len(), 2);
    }

    #[test]
    fn it_is_bounded() {
        let mut store = FdStore::new();
        let shared = fd();
        let put = |store: &mut FdStore, i: usize| {
            // One real descriptor is enough for the bound: the table is filled with copies until the limit of fds.
            match shared.try_clone() {
                Ok(copy) => store.put(&format!("log:{i}"), copy).err(),
                Err(_) => Some(Errno::EMFILE),
            }
        };
        let refused = (0..=MAX_FDS).find_map(|i| put(&mut store, i).map(|errno| (i, errno)));
        assert!(matches!(refused, Some((MAX_FDS, Errno::ENOSPC) | (_, Errno::EMFILE))), "{refused:?}");
    }

    #[test]
    fn the_table_names_what_is_stored() {
        let mut store = FdStore::new();
        store.put("log:web:out", fd()).unwrap();
        let mut raw = [0; ENTRY_BYTES];
        pread(store.table.as_ref().unwrap(), &mut raw, 0).unwrap();
        let (number, name) = parse(&raw).unwrap();
        assert_eq!((Some(number), name.as_str()), (store.get("log:web:out").map(|f| f.as_raw_fd()), "log:web:out"));
        store.remove("log:web:out").unwrap();
        pread(store.table.as_ref().unwrap(), &mut raw, 0).unwrap();
        assert!(parse(&raw).is_none());
    }
}
