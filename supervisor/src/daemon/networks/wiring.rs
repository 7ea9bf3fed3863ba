//! Where the loop meets the networks: each step of a container's start and end that has to wait for them is a thread's, and its word
//! comes back by mail.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::IpAddr,
    os::{fd::AsFd, linux::fs::MetadataExt},
};

use super::{Connection, Definition, Networks, Request};
use crate::{
    daemon::{
        clock,
        core::{Daemon, Mail},
        machine::{Event, State},
        mailbox::{self, Sender},
        paths::Paths,
    },
    unit::{self, ContainerSpec, DEFAULT_NETWORK, Dns, Network, PodSpec, Port, Unit, UnitName},
};

/// The loop's side: who is or will be connected, and how, as soon as that is known.
pub(crate) struct Wiring {
    pub(crate) networks: Networks,
    connections: BTreeMap<UnitName, Option<Connection>>,
}

impl Wiring {
    pub(crate) fn new(paths: &Paths, mail: Sender<Mail>) -> Self {
        let networks = Networks::new(paths, move |keep| mail.send(Mail::Keep(keep)));
        Self { networks, connections: BTreeMap::new() }
    }

    /// How a unit's container is connected now.
    pub(crate) fn of(&self, unit: &UnitName) -> Option<&Connection> {
        self.connections.get(unit)?.as_ref()
    }

    /// It is connected like that, unless it has been given up meanwhile.
    pub(crate) fn put(&mut self, unit: &UnitName, connection: Connection) {
        if let Some(place) = self.connections.get_mut(unit) {
            *place = Some(connection);
        }
    }

    pub(crate) fn forget(&mut self, unit: &UnitName) {
        self.connections.remove(unit);
    }
}

impl Daemon {
    /// What a container asks of the networks; nothing, unless it is on bridges. From here on it has something to be taken down.
    pub(crate) fn request_networks(&mut self, unit: &Unit) -> Option<Request> {
        self.request(&Wishes::of(unit)?)
    }

    pub(crate) fn request_pod_networks(&mut self, name: &UnitName, pod: &PodSpec) -> Option<Request> {
        self.request(&Wishes::of_pod(name, pod))
    }

    fn request(&mut self, wishes: &Wishes<'_>) -> Option<Request> {
        let wanted = wishes.wanted()?;
        let containers = self.files.all().filter_map(|unit| Wishes::of(unit));
        let pods = self.files.pods().map(|(name, pod)| Wishes::of_pod(name, &pod.spec));
        let mut reserved: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for other in containers.chain(pods).filter(|other| other.owner != wishes.owner) {
            for attachment in other.wanted().unwrap_or_default() {
                let name = attachment.network.unwrap_or_else(|| DEFAULT_NETWORK.to_owned());
                let fixed = attachment.ip.map(IpAddr::from).into_iter().chain(attachment.ip6.map(IpAddr::from));
                reserved.entry(name).or_default().extend(fixed);
            }
        }
        let definitions: Vec<Definition> = self.files.networks().map(Definition::of).collect();
        let find = |attachment: unit::Attachment| {
            let name = attachment.network.as_deref();
            let named = definitions.iter().find(|definition| Some(definition.name.as_str()) == name);
            (named.cloned().unwrap_or_else(Definition::usual), attachment)
        };
        let (units, pods) = (self.files.all().map(|unit| &unit.name), self.files.pods().map(|(name, _)| name));
        let known = units.chain(pods).cloned().chain(self.files.refused().into_keys()).collect();
        self.wiring.connections.insert(wishes.owner.clone(), None);
        Some(Request {
            owner: wishes.owner.clone(),
            wanted: wanted.into_iter().map(find).collect(),
            ports: wishes.ports.to_vec(),
            names: wishes.names(),
            servers: match wishes.dns {
                Dns::OfImage => Vec::new(),
                Dns::Generated { servers, .. } => servers.clone(),
            },
            reserved,
            written: definitions.iter().flat_map(Definition::written).collect(),
            known,
        })
    }

    /// Joins a container that is made and not started to its networks. False: it has none, or is gone.
    pub(crate) fn connect(&mut self, unit: &UnitName, attempt: u64, pid: u32) -> bool {
        if !self.wiring.connections.contains_key(unit) {
            return false;
        }
        let namespace = match namespace(pid) {
            Ok(namespace) => namespace,
            // Its end is told by its exit status.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(error) => {
                let result = Err(format!("its network namespace: {error}"));
                self.mail.sender().send(Mail::Connected { unit: unit.clone(), attempt, result });
                return true;
            }
        };
        let (networks, sender, name) = (self.wiring.networks.clone(), self.mail.sender(), unit.clone());
        let started = mailbox::spawn(&format!("network of {name}"), move || {
            let result = networks.connect(&name, namespace.as_fd());
            sender.send(Mail::Connected { unit: name, attempt, result });
        });
        if !started {
            let result = Err("the machine has no room for another thread".to_owned());
            self.mail.sender().send(Mail::Connected { unit: unit.clone(), attempt, result });
        }
        true
    }

    pub(crate) fn on_connected(&mut self, unit: &UnitName, attempt: u64, result: Result<Connection, String>) {
        let record = self.engine.get(unit).map(|entry| &entry.record).filter(|record| record.attempt == attempt);
        let is_current = record.is_some_and(|record| matches!(record.state, State::Creating { .. }));
        match result {
            Ok(connection) => {
                if is_current {
                    self.wiring.put(unit, connection);
                }
                self.created(unit, attempt);
            }
            Err(text) => self.engine.event(unit, Event::CreateFailed { attempt, text }, clock::now()),
        }
    }

    /// Takes its networks down. False: it has none.
    pub(crate) fn disconnect(&mut self, unit: &UnitName, attempt: u64) -> bool {
        if self.wiring.connections.remove(unit).is_none() {
            return false;
        }
        let (networks, sender, name) = (self.wiring.networks.clone(), self.mail.sender(), unit.clone());
        let path = self.paths.connection(unit);
        let left = path.clone();
        let started = mailbox::spawn(&format!("network of {name}"), move || {
            networks.disconnect(&name, &path);
            sender.send(Mail::Disconnected { unit: name, attempt });
        });
        if !started {
            self.wiring.networks.leave(unit.clone(), left);
        }
        started
    }

    /// Takes over who is connected, before anything is asked of the networks.
    pub(crate) fn adopt_networks(&mut self) {
        let (mut connections, mut unread) = (BTreeMap::new(), BTreeSet::new());
        for (unit, _) in self.engine.units().filter(|(_, entry)| !entry.record.state.at_rest()) {
            let path = self.paths.connection(unit);
            match Connection::read(&path) {
                Ok(Some(connection)) => drop(connections.insert(unit.clone(), connection)),
                Ok(None) => {}
                Err(error) => {
                    log::error!("{}: {error}; it keeps its addresses and loses its ports", path.display());
                    unread.insert(unit.clone());
                }
            }
        }
        let all = connections.iter().map(|(unit, connection)| (unit.clone(), Some(connection.clone())));
        self.wiring.connections = all.collect();
        self.wiring.networks.remember(connections, unread);
        let networks = self.wiring.networks.clone();
        let restore = move || {
            if let Err(text) = networks.restore() {
                log::error!("restore the containers' networks: {text}");
            }
        };
        if !mailbox::spawn("networks", restore) {
            log::error!("restore the containers' networks: the machine has no room for another thread");
        }
    }
}

/// What the file of a container or a pod says of its network.
struct Wishes<'a> {
    owner: &'a UnitName,
    /// By which podman knows it.
    name: String,
    network: &'a Network,
    aliases: &'a [String],
    ports: &'a [Port],
    dns: &'a Dns,
}

impl<'a> Wishes<'a> {
    /// Nothing, where it has a pod's network.
    fn of(unit: &'a Unit) -> Option<Self> {
        let ContainerSpec { container_name, network, network_aliases: aliases, ports, dns, pod, .. } = &unit.container;
        let name = container_name.clone();
        pod.is_none().then_some(Self { owner: &unit.name, name, network, aliases, ports, dns })
    }

    fn of_pod(owner: &'a UnitName, pod: &'a PodSpec) -> Self {
        let PodSpec { name, network, network_aliases: aliases, ports, dns, .. } = pod;
        Self { owner, name: name.clone(), network, aliases, ports, dns }
    }

    /// Its networks, if those are bridges: the default one where it names none.
    fn wanted(&self) -> Option<Vec<unit::Attachment>> {
        let Network::Bridge(list) = self.network else { return None };
        Some(if list.is_empty() { vec![unit::Attachment::default()] } else { list.clone() })
    }

    /// By which it is found: its own name, its unit's, and those it has besides.
    fn names(&self) -> Vec<String> {
        [self.name.clone(), self.owner.to_string()].into_iter().chain(self.aliases.iter().cloned()).collect()
    }
}

/// The network namespace of a container; the host's own would be one that the runtime did not make.
fn namespace(pid: u32) -> io::Result<File> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    let own = fs::metadata("/proc/self/ns/net")?;
    let its = namespace.metadata()?;
    if (its.st_dev(), its.st_ino()) == (own.st_dev(), own.st_ino()) {
        return Err(io::Error::other("it is the host's"));
    }
    Ok(namespace)
}
