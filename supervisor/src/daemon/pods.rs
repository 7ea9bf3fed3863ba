//! Pods: the namespaces that several containers share, network, ipc, uts and user as podman has it, and a /dev/shm. No process holds them:
//! each is bound to a file below /run/orlop/pods/<pod>, so that they outlive every supervisor and every container, and go when they are
//! unmounted. A container that takes another's network holds that one's in the same way.
//!
//! Made by a thread that moves into new namespaces, leaves them at their places and ends. What is there half-way, of a supervisor that
//! died, is taken away first.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{NSFS_MAGIC, statfs},
    unistd::sethostname,
};

use super::{
    bundle, clock,
    core::{Daemon, Mail},
    id_ranges,
    machine::{Event, Process},
    networks::Connection,
    process,
    sys::idmap,
};
use crate::{
    net,
    unit::{IdMaps, Joins, Network, PodSpec, Unit, UnitName, spec},
};

/// The one the others belong to comes first, if there is one.
const NAMESPACES: [&str; 4] = ["user", "net", "ipc", "uts"];
const SHM: &str = "shm";
/// Which ids are mapped in the user namespace.
const IDS: &str = "ids.json";

/// The threads that make and take down, each after the one before it of the same pod.
#[derive(Debug, Default)]
pub(crate) struct Pods(BTreeMap<UnitName, JoinHandle<()>>);

impl Pods {
    fn spawn(&mut self, pod: &UnitName, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
        self.0.retain(|_, thread| !thread.is_finished());
        let before = self.0.remove(pod);
        let in_turn = move || {
            if let Some(before) = before {
                let _ = before.join();
            }
            work();
        };
        self.0.insert(pod.clone(), thread::Builder::new().name(format!("pod {pod}")).spawn(in_turn)?);
        Ok(())
    }
}

impl Daemon {
    pub(crate) fn is_pod(&self, unit: &UnitName) -> bool {
        self.engine.get(unit).is_some_and(|entry| entry.plan.policy.pod)
    }

    pub(crate) fn make_pod(&mut self, pod: &UnitName, attempt: u64) {
        let text = match self.files.pod(pod).cloned() {
            None => "its unit file is gone or has mistakes".to_owned(),
            Some(file) => {
                let (own, folder, sender) = (Own::of(&file.spec), self.paths.pod(pod), self.mail.sender());
                let (paths, namespace) = (self.paths.clone(), file.spec.user_namespace.clone());
                let (request, networks) = (self.request_pod_networks(pod, &file.spec), self.wiring.networks.clone());
                let (unit, path) = (pod.clone(), self.paths.connection(pod));
                let made = self.pods.spawn(pod, move || {
                    // Its networks are the machine's, where this thread stays.
                    let apart = |ids: Option<IdMaps>| {
                        let made = thread::scope(|scope| {
                            let work = || make(&folder, &own, ids.as_ref());
                            let thread = thread::Builder::new().spawn_scoped(scope, work)?;
                            thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread that makes it panicked")))
                        });
                        made.map_err(|error| error.to_string())
                    };
                    let ids = id_ranges::of(&paths, &unit, &namespace).map_err(|error| error.to_string());
                    let result = ids.and_then(apart).and_then(|()| {
                        let Some(request) = request else { return Ok(None) };
                        networks.plan(&request, &path)?;
                        let namespace = fs::File::open(folder.join("net"));
                        let namespace = namespace.map_err(|error| format!("its network namespace: {error}"))?;
                        networks.connect(&unit, namespace.as_fd()).map(Some)
                    });
                    sender.send(Mail::PodMade { unit, attempt, result });
                });
                match made {
                    Ok(()) => return,
                    Err(error) => format!("no thread to make it: {error}"),
                }
            }
        };
        self.follow_ups.push_back((pod.clone(), Event::PrepareFailed { attempt, text }));
    }

    pub(crate) fn take_down_pod(&mut self, pod: &UnitName, attempt: u64) {
        let (folder, unit, sender) = (self.paths.pod(pod), pod.clone(), self.mail.sender());
        let (networks, path) = (self.wiring.networks.clone(), self.paths.connection(pod));
        self.wiring.forget(pod);
        let left = path.clone();
        let begun = self.pods.spawn(pod, move || {
            networks.disconnect(&unit, &path);
            if let Err(error) = remove(&folder) {
                log::warn!("{unit}: {error}");
            }
            sender.send(Mail::PodGone { unit, attempt });
        });
        if let Err(error) = begun {
            log::warn!("{pod}: no thread to take it down: {error}; the next start does");
            self.wiring.networks.leave(pod.clone(), left);
            self.follow_ups.push_back((pod.clone(), Event::Cleaned { attempt }));
        }
    }

    pub(crate) fn on_pod_made(&mut self, pod: &UnitName, attempt: u64, result: Result<Option<Connection>, String>) {
        let event = match result {
            Ok(connection) => {
                if let Some(connection) = connection {
                    self.wiring.put(pod, connection);
                }
                Event::Prepared { attempt }
            }
            Err(text) => Event::PrepareFailed { attempt, text },
        };
        self.engine.event(pod, event, clock::now());
    }

    /// The unit with what its pod says for it.
    pub(crate) fn as_member(&self, unit: &Unit) -> Unit {
        let mut unit = unit.clone();
        if let Some(pod) = unit.container.pod.as_ref().and_then(|(pod, _)| self.files.pod(pod)) {
            spec::be_member(&mut unit, &pod.spec);
        }
        unit
    }

    /// The unit with what its pod says for it, and the namespaces it is to join.
    pub(crate) fn joined(&self, unit: &Unit) -> Result<(Unit, Borrowed), String> {
        let (mut unit, mut borrowed) = (self.as_member(unit), Borrowed::default());
        if let Some((pod, _)) = &unit.container.pod {
            if self.files.pod(pod).is_none() {
                return Err(format!("the unit file of {pod} is gone"));
            }
            let folder = self.paths.pod(pod);
            let at = |name: &str| Some(folder.join(name));
            // The pod that is there counts: what its file says since then, counts from its next start on.
            let net = at("net").filter(|net| net.exists());
            match (&net, &unit.container.network) {
                (None, _) => unit.container.network = Network::Host,
                (Some(_), Network::Host) => unit.container.network = Network::None,
                _ => {}
            }
            let user = held_ids(&folder).map_err(|error| format!("the ids of {pod}: {error}"))?;
            borrowed.joins = Joins { net, ipc: at("ipc"), uts: at("uts"), shm: at(SHM), user };
        }
        if let Network::Container(other) = &unit.container.network {
            let process = self.engine.get(other).and_then(|entry| entry.record.state.process());
            // Where it is, and not what its file says: that network may be another's still, or its pod's.
            if process.is_some_and(is_in_own_network) {
                unit.container.network = Network::Host;
                return Ok((unit, borrowed));
            }
            let place = self.paths.joined_network(&unit.name);
            borrowed.network =
                Some((process.ok_or_else(|| format!("{other} does not run, so it has no network"))?, place));
        }
        Ok((unit, borrowed))
    }
}

/// Of whom a container takes namespaces.
#[derive(Debug, Default)]
pub(crate) struct Borrowed {
    joins: Joins,
    /// The other's first process, and where its network is held.
    network: Option<(Process, PathBuf)>,
}

impl Borrowed {
    /// In the thread that makes the bundle.
    pub(crate) fn take(self) -> Result<Joins, String> {
        let Self { mut joins, network } = self;
        if let Some((process, place)) = network {
            hold_network(process, &place).map_err(|error| format!("take the other container's network: {error}"))?;
            joins.net = Some(place);
        }
        Ok(joins)
    }
}

/// The pod's user namespace, if it has one.
fn held_ids(folder: &Path) -> io::Result<Option<(PathBuf, IdMaps)>> {
    let place = folder.join("user");
    if !place.exists() {
        return Ok(None);
    }
    Ok(Some((place, serde_json::from_slice(&fs::read(folder.join(IDS))?)?)))
}

/// In that of the supervisor, which is the machine's.
fn is_in_own_network(process: Process) -> bool {
    let network = |whose: &str| fs::metadata(format!("/proc/{whose}/ns/net")).map(|meta| (meta.dev(), meta.ino())).ok();
    let its = network(&process.pid.to_string());
    its.is_some() && its == network("self") && process::is_alive(process)
}

/// The last of what `make` makes is there.
pub(crate) fn is_whole(folder: &Path) -> bool {
    NAMESPACES.last().is_some_and(|last| statfs(&folder.join(last)).is_ok_and(|fs| fs.filesystem_type() == NSFS_MAGIC))
}

/// Opened first, then it is made sure that it was this process's.
fn hold_network(process: Process, place: &Path) -> io::Result<()> {
    let namespace = fs::File::open(format!("/proc/{}/ns/net", process.pid))?;
    if !process::is_alive(process) {
        return Err(io::Error::other("it has ended"));
    }
    bundle::unmount(place)?;
    place.parent().map_or(Ok(()), fs::create_dir_all)?;
    fs::File::create(place)?;
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    Ok(mount(Some(source.as_str()), place, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// What is made for a pod.
struct Own {
    hostname: String,
    network: bool,
    shm_bytes: u64,
}

impl Own {
    fn of(pod: &PodSpec) -> Self {
        Self { hostname: spec::pod_hostname(pod), network: pod.network != Network::Host, shm_bytes: pod.shm_size_bytes }
    }
}

/// On a thread that ends after it: it stays in the namespaces.
fn make(folder: &Path, own: &Own, ids: Option<&IdMaps>) -> io::Result<()> {
    let doing = |what: &'static str| move |error: io::Error| io::Error::other(format!("{what}: {error}"));
    remove(folder)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(doing("make the pod's folder"))?;
    let shm = folder.join(SHM);
    fs::create_dir(&shm).map_err(doing("make the pod's /dev/shm"))?;
    let (uid, gid) = ids.and_then(IdMaps::root).unwrap_or((0, 0));
    let options = format!("mode=1777,size={},uid={uid},gid={gid}", own.shm_bytes);
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("shm"), &shm, Some("tmpfs"), flags, Some(options.as_str()))
        .map_err(|errno| doing("mount the pod's /dev/shm")(errno.into()))?;
    let namespaces = enter(own.network, ids).map_err(doing("make the pod's namespaces"))?;
    sethostname(&own.hostname).map_err(|errno| doing("set the pod's host name")(errno.into()))?;
    if own.network {
        net::loopback_up().map_err(doing("bring up the pod's loopback"))?;
    }
    if let Some(ids) = ids {
        let text = serde_json::to_vec(ids).map_err(io::Error::from);
        text.and_then(|text| fs::write(folder.join(IDS), text)).map_err(doing("write the pod's ids"))?;
    }
    for (name, namespace) in namespaces {
        let place = folder.join(name);
        fs::File::create(&place).map_err(doing("make a place for a namespace"))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o600)).map_err(doing("seal a namespace's place"))?;
        let source = format!("/proc/thread-self/fd/{}", namespace.as_raw_fd());
        mount(Some(source.as_str()), &place, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| doing("keep a namespace of the pod")(errno.into()))?;
    }
    Ok(())
}

/// Moves this thread into new namespaces, and returns them. With ids they belong to a user namespace, which no thread can enter: they
/// are made by a process that lives in it meanwhile.
fn enter(network: bool, ids: Option<&IdMaps>) -> io::Result<Vec<(&'static str, fs::File)>> {
    let mut kinds = CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    kinds.set(CloneFlags::CLONE_NEWNET, network);
    let has = |name: &&str| match *name {
        "user" => ids.is_some(),
        "net" => network,
        _ => true,
    };
    let open = |process: &str| {
        let file = |name| Ok((name, fs::File::open(format!("/proc/{process}/ns/{name}"))?));
        NAMESPACES.into_iter().filter(has).map(file).collect::<io::Result<Vec<_>>>()
    };
    let Some(ids) = ids else {
        unshare(kinds)?;
        return open("thread-self");
    };
    let (uids, gids) = (bundle::id_lines(&ids.uids), bundle::id_lines(&ids.gids));
    let made = idmap::in_user_namespace(kinds, &uids, &gids, |pid| open(&pid.to_string()))?;
    for (_, namespace) in made.iter().filter(|(name, _)| *name != "user") {
        setns(namespace, CloneFlags::empty())?;
    }
    Ok(made)
}

/// Nothing there is a success.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let named = |error: io::Error| io::Error::other(format!("take down {}: {error}", folder.display()));
    for name in NAMESPACES {
        let place = folder.join(name);
        bundle::unmount(&place).and_then(|()| gone(fs::remove_file(&place))).map_err(named)?;
    }
    let shm = folder.join(SHM);
    bundle::unmount(&shm).and_then(|()| gone(fs::remove_dir(&shm))).map_err(named)?;
    gone(fs::remove_file(folder.join(IDS))).map_err(named)?;
    gone(fs::remove_dir(folder)).map_err(named)
}
