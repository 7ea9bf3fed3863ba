//! The unit files as they were read last, and whether they have changed since. Files are read again when somebody asks for a
//! unit, not when they change: a person who edits three files wants none of them half-way.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

use ::handoff::StateStore;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{engine::Plan, machine::Policy, paths::Paths};
use crate::unit::{
    Condition, Declared, Links, NetworkSpec, Options, PodSpec, Problem, Requests, SocketSpec, TimerSpec, Unit,
    UnitName, VolumeSource, VolumeSpec, load, tree,
};

pub(crate) struct UnitFiles {
    units: BTreeMap<UnitName, Arc<Unit>>,
    /// Instances of templates that somebody wanted started and that no file names.
    asked: BTreeSet<UnitName>,
    pods: BTreeMap<UnitName, Arc<Declared<PodSpec>>>,
    networks: BTreeMap<UnitName, Declared<NetworkSpec>>,
    /// By their own names.
    volumes: Arc<BTreeMap<String, VolumeSpec>>,
    sockets: BTreeMap<UnitName, Declared<SocketSpec>>,
    timers: BTreeMap<UnitName, Arc<Declared<TimerSpec>>>,
    problems: Vec<Problem>,
    circles: Vec<(BTreeSet<UnitName>, Problem)>,
    pub(crate) options: Options,
    inotify: Inotify,
    stale: bool,
}

impl UnitFiles {
    pub(crate) fn new() -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let (units, asked, pods) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let (sockets, timers, options) = (BTreeMap::new(), BTreeMap::new(), Options::default());
        let (problems, circles) = (Vec::new(), Vec::new());
        let (networks, volumes) = (BTreeMap::new(), Arc::default());
        Ok(Self {
            units,
            asked,
            pods,
            networks,
            volumes,
            sockets,
            timers,
            problems,
            circles,
            options,
            inotify,
            stale: true,
        })
    }

    pub(crate) fn watch(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Something in the folders changed, or somebody says so.
    pub(crate) fn changed(&mut self) {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        self.stale = true;
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.stale
    }

    pub(crate) fn get(&self, name: &UnitName) -> Option<&Arc<Unit>> {
        self.units.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Unit>> {
        self.units.values()
    }

    pub(crate) fn networks(&self) -> impl Iterator<Item = &NetworkSpec> {
        self.networks.values().map(|network| &network.spec)
    }

    pub(crate) fn pod(&self, name: &UnitName) -> Option<&Arc<Declared<PodSpec>>> {
        self.pods.get(name)
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = (&UnitName, &Arc<Declared<PodSpec>>)> {
        self.pods.iter()
    }

    /// Containers and pods alike.
    fn is_there(&self, name: &UnitName) -> bool {
        self.units.contains_key(name) || self.pods.contains_key(name)
    }

    pub(crate) fn conditions(&self, name: &UnitName) -> Vec<Condition> {
        let of_pod = || self.pod(name).map(|pod| &pod.spec.conditions);
        self.get(name).map(|unit| &unit.conditions).or_else(of_pod).cloned().unwrap_or_default()
    }

    /// What its file says of who may ask for it.
    pub(crate) fn requests(&self, name: &UnitName) -> Requests {
        let of_pod = || self.pod(name).map(|pod| pod.spec.requests);
        self.get(name).map(|unit| unit.requests).or_else(of_pod).unwrap_or_default()
    }

    /// Description and file.
    pub(crate) fn about(&self, name: &UnitName) -> Option<(&str, &Path)> {
        let of_pod = || self.pod(name).map(|pod| (pod.description.as_str(), pod.path.as_path()));
        self.get(name).map(|unit| (unit.description.as_str(), unit.path.as_path())).or_else(of_pod)
    }

    /// Who is meant: the unit of this name, or the one that has it by `Alias=`; a pod by its file's name, too.
    pub(crate) fn real(&self, name: &UnitName) -> UnitName {
        if self.is_there(name) {
            return name.clone();
        }
        let file = |path: &Path| path.file_name().is_some_and(|file| file == name.as_str());
        let pods = self.pods.iter().filter(|(_, pod)| pod.spec.aliases.contains(name) || file(&pod.path));
        let units = self.units.iter().filter(|(_, unit)| unit.aliases.contains(name));
        units.map(|(name, _)| name).chain(pods.map(|(name, _)| name)).next().unwrap_or(name).clone()
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = (&UnitName, &Declared<SocketSpec>)> {
        self.sockets.iter()
    }

    pub(crate) fn timers(&self) -> &BTreeMap<UnitName, Arc<Declared<TimerSpec>>> {
        &self.timers
    }

    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Makes the instance of its template at the next reading.
    pub(crate) fn ask(&mut self, name: &UnitName) {
        if name.instance().is_some() && self.asked.insert(name.clone()) {
            self.stale = true;
        }
    }

    /// What was asked for and is not there is not asked for again.
    pub(crate) fn forget(&mut self, name: &UnitName) {
        self.asked.remove(name);
    }

    /// An instance that is there because somebody asked for it. Others may name it, too.
    pub(crate) fn is_asked(&self, name: &UnitName) -> bool {
        self.asked.contains(name)
    }

    /// An instance that nobody needs any more.
    pub(crate) fn let_go(&mut self, name: &UnitName) {
        if self.asked.remove(name) {
            self.units.remove(name);
            self.pods.remove(name);
        }
    }

    /// Mistakes in the file of this unit, which therefore is not there.
    pub(crate) fn problems_of(&self, name: &UnitName) -> Vec<String> {
        let its = self.problems.iter().filter(|problem| unit_of(&problem.path).as_ref() == Some(name));
        let its: Vec<String> = its.map(ToString::to_string).collect();
        if !its.is_empty() {
            return its;
        }
        self.circles.iter().filter(|(members, _)| members.contains(name)).map(|(_, p)| p.to_string()).collect()
    }

    /// Whose files, or drop-ins, have mistakes.
    pub(crate) fn mistaken(&self) -> impl Iterator<Item = UnitName> {
        self.problems.iter().filter(|problem| problem.is_error()).filter_map(|problem| unit_of(&problem.path))
    }

    /// What is not there because of a mistake, each with the first one.
    pub(crate) fn refused(&self) -> BTreeMap<UnitName, &Problem> {
        let mut refused = BTreeMap::new();
        let is_there =
            |name: &UnitName| self.is_there(name) || self.sockets.contains_key(name) || self.timers.contains_key(name);
        for problem in self.problems.iter().filter(|problem| problem.is_error()) {
            if let Some(name) = unit_of(&problem.path).filter(|name| !is_there(name)) {
                refused.entry(name).or_insert(problem);
            }
        }
        for (members, problem) in &self.circles {
            for name in members {
                refused.entry(name.clone()).or_insert(problem);
            }
        }
        refused
    }

    pub(crate) fn volumes(&self) -> Arc<BTreeMap<String, VolumeSpec>> {
        Arc::clone(&self.volumes)
    }

    /// Reads the folders; returns the problems that were not there before.
    pub(crate) fn read(&mut self, paths: &Paths) -> Vec<String> {
        // Watched before they are read: a change in between is seen.
        let folders = [paths.shipped_units(), paths.machine_units()];
        for folder in &folders {
            tree(folder).iter().for_each(|folder| self.add_watch(folder));
        }
        let set = load(&[&folders[0], &folders[1]], &self.asked);
        let fresh = set.problems.iter().filter(|problem| !self.problems.contains(problem)).map(ToString::to_string);
        let fresh = fresh.collect();
        self.units = set.units.into_iter().map(|(name, unit)| (name, Arc::new(unit))).collect();
        self.pods = set.pods.into_iter().map(|(name, pod)| (name, Arc::new(pod))).collect();
        self.timers = set.timers.into_iter().map(|(name, timer)| (name, Arc::new(timer))).collect();
        self.problems = set.problems;
        self.networks = set.networks;
        let named = |volume: Declared<VolumeSpec>| (volume.spec.name.clone(), volume.spec);
        self.volumes = Arc::new(set.volumes.into_values().map(named).collect());
        // For a mistake in its file no connection is refused: as it was read last, a socket stays until the file is mended or gone.
        let before = std::mem::replace(&mut self.sockets, set.sockets);
        let mistaken: BTreeSet<UnitName> = self.mistaken().collect();
        for (name, socket) in before.into_iter().filter(|(name, _)| mistaken.contains(name)) {
            self.sockets.entry(name).or_insert(socket);
        }
        self.circles = set.circles;
        self.options = set.options;
        self.stale = false;
        fresh
    }

    fn add_watch(&self, folder: &Path) {
        let what = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE;
        if folder.is_dir()
            && let Err(errno) = self.inotify.add_watch(folder, what | AddWatchFlags::IN_ONLYDIR)
        {
            log::warn!("watch {}: {errno}", folder.display());
        }
    }

    /// For the engine.
    pub(crate) fn plans(&self, state: StateStore) -> BTreeMap<UnitName, Plan> {
        let units = self.units.iter().map(|(name, unit)| (name.clone(), self.plan(unit, state)));
        units.chain(self.pods.iter().map(|(name, pod)| (name.clone(), self.plan_of_pod(pod)))).collect()
    }

    fn plan(&self, unit: &Unit, state: StateStore) -> Plan {
        let pod = unit.container.pod.as_ref().and_then(|(name, _)| Some((name, self.pod(name)?)));
        let volumes = pod.iter().flat_map(|(_, pod)| &pod.spec.volumes).chain(&unit.container.volumes);
        let mut stored = volumes.filter_map(|volume| match &volume.source {
            VolumeSource::Named(name) => Some(name),
            _ => None,
        });
        // What it would write to memory now would be gone, and what it stored is still on the disk that could not be mounted.
        let forbidden = stored.next().filter(|_| state == StateStore::Degraded).map(|volume| {
            format!("keeps data in the volume {volume}, and the machine's state partition could not be mounted")
        });
        Plan {
            policy: Policy::of(unit),
            links: unit.links.clone(),
            enabled: unit.enabled,
            after_network: unit.after_network_online,
            forbidden: forbidden.or_else(|| self.incomplete(&unit.links)),
            ends_pod: pod.filter(|(_, pod)| pod.spec.stop_when_empty).map(|(name, _)| name.clone()),
            stop_when_unneeded: unit.requests.stop_when_unneeded,
            job_timeout: unit.requests.job_timeout,
        }
    }

    fn plan_of_pod(&self, pod: &Declared<PodSpec>) -> Plan {
        Plan {
            policy: Policy::of_pod(&pod.spec),
            links: pod.spec.links.clone(),
            enabled: pod.enabled,
            after_network: pod.spec.after_network_online,
            forbidden: self.incomplete(&pod.spec.links),
            ends_pod: None,
            stop_when_unneeded: pod.spec.requests.stop_when_unneeded,
            job_timeout: pod.spec.requests.job_timeout,
        }
    }

    /// A name nobody has is the unit's own mistake and never gets here: what is missing has mistakes itself, or is masked.
    fn incomplete(&self, links: &Links) -> Option<String> {
        let mut needed = links.requires.iter().chain(&links.binds_to).chain(&links.requisite);
        let missing = needed.find(|other| !self.is_there(other))?;
        Some(format!("requires {missing}, whose unit file has mistakes or is masked"))
    }
}

/// Whose file `…/web.container` or drop-in `…/web.container.d/10.conf` is; of `…/app.pod` the service's usual name. Timers and
/// sockets are called as their files are.
fn unit_of(path: &Path) -> Option<UnitName> {
    let name = |path: &Path| {
        let file = path.file_name()?.to_str()?;
        let of_pod = || {
            let (prefix, instance) =
                file.strip_suffix(".pod").map(|stem| stem.split_at(stem.find('@').unwrap_or(stem.len())))?;
            Some(format!("{prefix}-pod{instance}"))
        };
        let whole = || [".socket", ".timer"].iter().any(|suffix| file.ends_with(suffix)).then(|| file.to_owned());
        UnitName::parse(&file.strip_suffix(".container").map(str::to_owned).or_else(of_pod).or_else(whole)?).ok()
    };
    name(path).or_else(|| name(&path.parent()?.with_extension("")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_requires_a_unit_with_mistakes_does_not_start_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let good = "[Container]\nImage=localhost/x\nNetwork=none\n";
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("web.container", &format!("{good}[Unit]\nRequires=db.container\nWants=cache.container\n"));
        write("db.container", &format!("{good}Memroy=1G\n"));
        write("cache.container", "[Container]\n");
        let set = load(&[folder.path()], &BTreeSet::new());
        let mut files = UnitFiles::new().unwrap();
        files.units = set.units.into_iter().map(|(n, u)| (n, Arc::new(u))).collect();
        assert_eq!(files.units.len(), 1);
        let plan = files.plan(&files.units["web"], StateStore::Persistent);
        assert_eq!(plan.forbidden.as_deref(), Some("requires db, whose unit file has mistakes or is masked"));
    }

    #[test]
    fn every_unit_of_a_circle_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path());
        std::fs::create_dir_all(paths.machine_units()).unwrap();
        for (name, other) in [("a", "b"), ("b", "a")] {
            let text = format!("[Unit]\nAfter={other}.container\n[Container]\nImage=localhost/x\nNetwork=none\n");
            std::fs::write(paths.machine_units().join(format!("{name}.container")), text).unwrap();
        }
        let mut files = UnitFiles::new().unwrap();
        assert_eq!(files.read(&paths).len(), 1, "the circle is one mistake");
        let names: Vec<String> = files.refused().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["a", "b"]);
        for name in ["a", "b"] {
            let problems = files.problems_of(&UnitName::parse(name).unwrap());
            assert!(problems.len() == 1 && problems[0].contains("in a circle"), "{problems:?}");
        }
    }
}
