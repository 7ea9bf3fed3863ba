//! Which namespaces the container gets: new ones, and existing ones by path.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use super::idmap;
use crate::runtime::config::{ConfigError, IdMapping, Linux, NamespaceKind};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::procfs::Procfs;
use crate::runtime::sys::{Errno, fs, process};

pub(crate) struct Namespaces {
    /// Made by clone3.
    pub(crate) create: u64,
    /// Made by the child itself: a cgroup namespace takes the cgroup its maker is in as its root, and clone3 makes the namespace
    /// before it moves the child; a time namespace must have its offsets before anybody is in it.
    pub(crate) unshare: i32,
    pub(crate) join: Vec<(NamespaceKind, OwnedFd)>,
    /// Joined before the clone: only children enter a pid namespace, and what is created later belongs to the user namespace.
    pub(crate) pid: Option<OwnedFd>,
    pub(crate) user: Option<OwnedFd>,
    /// Content of uid_map and gid_map, written by the runtime.
    pub(crate) maps: Option<(String, String)>,
    /// Whoever wrote them: this container, or who made the namespace it joins.
    pub(crate) uids: Vec<IdMapping>,
    pub(crate) gids: Vec<IdMapping>,
    /// Content of timens_offsets.
    pub(crate) time_offsets: String,
    /// All that are made or joined, and of these the ones that are not the runtime's own or the machine's as well.
    kinds: i32,
    own: i32,
}

impl Namespaces {
    pub(super) fn new(linux: &Linux, proc: &Procfs, entered: bool) -> Result<Namespaces> {
        let mut all = Namespaces {
            create: 0,
            unshare: 0,
            join: Vec::new(),
            pid: None,
            user: None,
            maps: None,
            uids: linux.uid_mappings.clone(),
            gids: linux.gid_mappings.clone(),
            time_offsets: String::new(),
            kinds: 0,
            own: 0,
        };
        for (index, one) in linux.namespaces.iter().enumerate() {
            all.kinds |= one.kind.flag();
            all.own |= one.kind.flag();
            match &one.path {
                Some(path) => all.join(one.kind, path, proc, &format!("linux.namespaces[{index}].path"))?,
                // The runtime is in it already.
                None if one.kind == NamespaceKind::User && entered => {}
                None if matches!(one.kind, NamespaceKind::Cgroup | NamespaceKind::Time) => {
                    all.unshare |= one.kind.flag();
                }
                None => all.create |= u64::from(one.kind.flag().unsigned_abs()),
            }
        }
        let wrong = |error| Error::Config { file: "config.json".to_owned(), error };
        if !all.has(NamespaceKind::Mount) && (entered || all.has(NamespaceKind::User)) {
            let why = "holds no mount namespace; nobody in the user namespace may mount in the host's";
            return Err(wrong(ConfigError::invalid("linux.namespaces", why)));
        }
        if let Some(user) = &all.user {
            let [uids, gids] = idmap::of_namespace(proc, user.as_fd())?;
            same(&linux.uid_mappings, &uids, "linux.uidMappings").map_err(wrong)?;
            same(&linux.gid_mappings, &gids, "linux.gidMappings").map_err(wrong)?;
            (all.uids, all.gids) = (uids, gids);
        } else if !entered {
            all.maps = maps(linux, all.creates(NamespaceKind::User)).map_err(wrong)?;
        }
        if !linux.time_offsets.is_empty() {
            if all.unshare & libc::CLONE_NEWTIME == 0 {
                let why = "needs a new time namespace in linux.namespaces";
                return Err(wrong(ConfigError::invalid("linux.timeOffsets", why)));
            }
            let lines = linux.time_offsets.iter().map(|(clock, s, ns)| format!("{clock} {s} {ns}\n"));
            all.time_offsets = lines.collect();
        }
        Ok(all)
    }

    fn join(&mut self, kind: NamespaceKind, path: &str, proc: &Procfs, field: &str) -> Result<()> {
        let fd = fs::open_host(&c_string(path), libc::O_RDONLY, 0).step("open namespace", path)?;
        // Here, where the path is known; the kernel would tell who joins it no more than that it is invalid.
        let found = match process::namespace_kind(fd.as_fd()) {
            Err(Errno(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP)) => 0,
            other => other.step("check namespace", path)?,
        };
        if found != kind.flag() {
            let error = ConfigError::invalid(field, format!("{path} is not a {} namespace", kind.name()));
            return Err(Error::Config { file: "config.json".to_owned(), error });
        }
        if is_of_the_machine(fd.as_fd(), kind, proc) {
            self.own &= !kind.flag();
            if kind == NamespaceKind::Mount {
                // The container's root becomes the root of the namespace, for everybody in it.
                let error = ConfigError::invalid(field, "is the runtime's own mount namespace, or that of the machine");
                return Err(Error::Config { file: "config.json".to_owned(), error });
            }
        }
        match kind {
            NamespaceKind::Pid => self.pid = Some(fd),
            NamespaceKind::User => self.user = Some(fd),
            _ => self.join.push((kind, fd)),
        }
        Ok(())
    }

    /// Whether the container's process cannot be cloned by the runtime itself: somebody in between has to join first. A namespace
    /// that exists cannot belong to a user namespace that is made just now, so it is joined with the rights of the one before.
    pub(crate) fn go_between(&self) -> bool {
        self.user.is_some() || self.pid.is_some() || (self.maps.is_some() && !self.join.is_empty())
    }

    /// Whether the container is put into one, new or joined.
    pub(crate) fn has(&self, kind: NamespaceKind) -> bool {
        self.kinds & kind.flag() != 0
    }

    /// Whether that one is another than the host's, so that what is set in it is set for the container. Docker's `--network host` is the
    /// host's joined by path.
    pub(crate) fn owns(&self, kind: NamespaceKind) -> bool {
        self.own & kind.flag() != 0
    }

    pub(crate) fn creates(&self, kind: NamespaceKind) -> bool {
        self.create & u64::from(kind.flag().unsigned_abs()) != 0
    }

    pub(crate) fn kinds(&self) -> i32 {
        self.kinds
    }
}

fn is_of_the_machine(namespace: BorrowedFd<'_>, kind: NamespaceKind, proc: &Procfs) -> bool {
    let inode = |fd: BorrowedFd<'_>| fs::stat(fd).map(|stat| stat.st_ino).ok();
    let file = match kind {
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Network => "net",
        other => other.name(),
    };
    ["self", "1"].into_iter().any(|process| {
        let path = c_string(format!("{process}/ns/{file}"));
        fs::open_at(proc.fd(), &path, libc::O_RDONLY, 0).is_ok_and(|fd| inode(fd.as_fd()) == inode(namespace))
    })
}

fn maps(linux: &Linux, creates_user: bool) -> std::result::Result<Option<(String, String)>, ConfigError> {
    let given = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if !creates_user {
        if given {
            return Err(ConfigError::invalid("linux.uidMappings", "needs a new user namespace in linux.namespaces"));
        }
        return Ok(None);
    }
    for (mappings, field) in [(&linux.uid_mappings, "linux.uidMappings"), (&linux.gid_mappings, "linux.gidMappings")] {
        if mappings.is_empty() {
            return Err(ConfigError::invalid(field, "a new user namespace needs a mapping"));
        }
    }
    Ok(Some((lines(&linux.uid_mappings), lines(&linux.gid_mappings))))
}

/// Engines (CRI) write a pod's mapping beside the pod's namespace that each of its containers joins; whoever meant another one would
/// get it from nobody.
fn same(given: &[IdMapping], have: &[IdMapping], field: &str) -> std::result::Result<(), ConfigError> {
    let sorted = |all: &[IdMapping]| {
        let mut all = all.to_vec();
        all.sort_unstable_by_key(|one| one.container);
        all
    };
    if given.is_empty() || sorted(given) == sorted(have) {
        return Ok(());
    }
    let have = lines(have);
    let have = have.trim_end().replace('\n', ", ");
    Err(ConfigError::invalid(
        field,
        format!("is not that of the user namespace that is joined by path, which has {have}"),
    ))
}

pub(super) fn lines(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|one| format!("{} {} {}\n", one.container, one.host, one.size)).collect()
}
