//! Containers on bridges: who is on which network with which addresses and ports. What is asked of the kernel is `net::bridge`'s
//! business; this decides and remembers.
//!
//! - An address is chosen before the container is made, because its /etc/hosts holds it, and written (`book`).
//! - Between create and start its namespace gets its cards, and the firewall is derived anew from all that runs.
//! - Its names are known from then on to who is on the same networks (`net::dns`).
//! - When it has ended, rules, cards and bridges go, in that order: where a rule is left, a link is.
//! - A supervisor that takes over reads who was connected, makes all of it once more, which changes nothing where it holds, and removes
//!   links that nobody owns.
//!
//! All of it waits for the kernel or the disk and is for worker threads, one at a time.

mod book;
mod definition;
mod ports;
#[cfg(test)]
mod tests;
mod wiring;

pub(crate) use definition::Definition;
pub(crate) use wiring::Wiring;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io, mem,
    net::IpAddr,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use self::book::{Book, Page, Wish};
use super::{paths::Paths, store};
use crate::{
    api::types::{NetworkStatus, PortStatus},
    net::{
        bridge::{self, Attachment, Firewall, Mac, Network, Published, Subnet, Zone},
        dns::{self, Keep, Resolver},
    },
    unit::{self, Port, UnitName},
};

/// What one owner of a network namespace, a container or a pod, asks for.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) owner: UnitName,
    pub(crate) wanted: Vec<(Definition, unit::Attachment)>,
    pub(crate) ports: Vec<Port>,
    /// By which it is found on all its networks, its own first.
    pub(crate) names: Vec<String>,
    /// `DNS=`
    pub(crate) servers: Vec<IpAddr>,
    /// Addresses that others ask for, by network.
    pub(crate) reserved: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Subnets that are written in files.
    pub(crate) written: Vec<Subnet>,
    /// All units there are: addresses of others are free.
    pub(crate) known: BTreeSet<UnitName>,
}

/// What it got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Connection {
    pub(crate) cards: Vec<Card>,
    pub(crate) published: Vec<Published>,
    /// Who is asked for it for names of the world, if not its networks' servers.
    #[serde(default)]
    servers: Vec<IpAddr>,
}

/// One network of an owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Card {
    pub(crate) network: Network,
    pub(crate) interface: String,
    pub(crate) mac: Mac,
    /// With the length of the prefix.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    gateways: Vec<IpAddr>,
    #[serde(default)]
    names: Vec<String>,
    /// The network has names, and these servers for others.
    #[serde(default)]
    resolver: Option<Vec<IpAddr>>,
    /// The network is forgotten when nobody is on it.
    forget: bool,
}

impl Card {
    fn host_end(&self, owner: &UnitName) -> String {
        Attachment::host_end(owner.as_str(), &self.network.name)
    }

    fn attachment(&self, owner: &UnitName) -> Attachment {
        Attachment {
            bridge: self.network.interface.clone(),
            host_end: self.host_end(owner),
            owner: owner.to_string(),
            interface: self.interface.clone(),
            mac: self.mac,
            mtu: self.network.mtu,
            addresses: self.addresses.clone(),
            gateways: self.gateways.clone(),
        }
    }
}

/// As it is written below /run; what was written before there were versions has none.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    #[serde(default)]
    version: u32,
    #[serde(default)]
    readable_from: u32,
    #[serde(flatten)]
    connection: T,
}

impl Connection {
    /// The addresses of its cards.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.cards.iter().flat_map(|card| card.addresses.iter().map(|(address, _)| *address))
    }

    pub(crate) fn networks(&self) -> Vec<NetworkStatus> {
        let status = |card: &Card| NetworkStatus {
            name: card.network.name.clone(),
            interface: card.interface.clone(),
            mac: card.mac.to_string(),
            addresses: card.addresses.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect(),
        };
        self.cards.iter().map(status).collect()
    }

    pub(crate) fn ports(&self) -> Vec<PortStatus> {
        let status = |published: &Published| {
            let any = if published.address.is_ipv4() { "0.0.0.0" } else { "::" };
            PortStatus {
                host_ip: published.host_ip.map_or_else(|| any.to_owned(), |ip| ip.to_string()),
                host_port: published.host,
                container_port: published.container,
                range: published.count,
                protocol: ports::name(published.protocol).to_owned(),
            }
        };
        self.published.iter().map(status).collect()
    }

    /// The host as it sees it.
    pub(crate) fn host(&self) -> Option<IpAddr> {
        let of = |ipv4| self.cards.iter().find_map(|card| card.network.gateway(ipv4));
        of(true).or_else(|| of(false))
    }

    /// Whom it asks for names, where that is its networks' resolver.
    pub(crate) fn resolvers(&self) -> Vec<IpAddr> {
        let cards = self.cards.iter().filter(|card| card.resolver.is_some());
        cards.filter_map(|card| card.network.gateway(true).or_else(|| card.network.gateway(false))).collect()
    }

    /// As it was written; nothing, where the container has none.
    pub(crate) fn read(path: &Path) -> io::Result<Option<Self>> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let kept: Kept<serde_json::Value> = serde_json::from_slice(&text)?;
        let (own, _) = store::versions();
        if kept.readable_from > own {
            return Err(io::Error::other(format!("written by a newer supervisor, version {own} cannot read it")));
        }
        Ok(Some(serde_json::from_value(kept.connection)?))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let (version, readable_from) = store::versions();
        store::replace(path, &serde_json::to_vec(&Kept { version, readable_from, connection: self })?)
    }

    /// Where what is published arrives. podman-systemd.unit(5) has IPv4 where no address is written; a container without IPv4 gets it by
    /// IPv6, as podman forwards by all families that the container has. Of a family that it does not have nothing is forwarded.
    fn published_address(&self, port: &Port) -> Option<IpAddr> {
        let written = port.host_ip.map(|ip| ip.to_canonical().is_ipv4());
        let outward = || self.cards.iter().filter(|card| !card.network.internal).flat_map(|card| &card.addresses);
        let of = |ipv4| outward().find(|(address, _)| address.is_ipv4() == ipv4).map(|(address, _)| *address);
        of(written.unwrap_or(true)).or_else(|| of(false).filter(|_| written.is_none()))
    }
}

/// All of them. Clones are of the same.
#[derive(Clone)]
pub(crate) struct Networks {
    state: Arc<Mutex<State>>,
    /// What has ended when the machine had no room for a thread: whoever comes next takes it down.
    left: Arc<Mutex<Vec<(UnitName, PathBuf)>>>,
}

struct State {
    resolver: Resolver,
    book: Book,
    running: BTreeMap<UnitName, Connection>,
    /// They run since before this supervisor, and how they are connected could not be read: what is theirs stays.
    unread: BTreeSet<UnitName>,
    /// Bridges whose names cannot be asked for, and why.
    deaf: BTreeMap<String, String>,
}

impl Networks {
    /// `keep`: for what outlives the supervisor.
    pub(crate) fn new(paths: &Paths, keep: impl Fn(Keep) + Send + Sync + 'static) -> Self {
        let (resolver, book) = (Resolver::new(paths.resolv_conf(), keep), Book::open(paths.networks()));
        let (running, unread, deaf) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        let state = State { resolver, book, running, unread, deaf };
        Self { state: Arc::new(Mutex::new(state)), left: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What a thread had done when it panicked is as whole as after a supervisor's death.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For a thread that may wait.
    fn turn(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        let left = mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        left.into_iter().for_each(|(owner, path)| state.disconnect(&owner, &path));
        state
    }

    /// Chooses addresses and ports, which are the owner's from now on, and writes them to `path`.
    pub(crate) fn plan(&self, request: &Request, path: &Path) -> Result<(), String> {
        let State { book, running, unread, .. } = &mut *self.turn();
        running.remove(&request.owner);
        unread.remove(&request.owner);
        let others = running.keys().cloned().collect::<BTreeSet<_>>();
        let is_there = |owner: &str| request.known.iter().chain(&others).any(|unit| unit.as_str() == owner);
        book.free(is_there);
        let mut connection = Connection { servers: request.servers.clone(), ..Connection::default() };
        for (definition, attachment) in &request.wanted {
            let card = card(book, running, request, definition, attachment, &connection)?;
            connection.cards.push(card);
        }
        for port in &request.ports {
            let Some(address) = connection.published_address(port) else {
                let (owner, port) = (&request.owner, port.container);
                log::warn!("{owner}: its port {port} is published at no address: none of its networks leads there");
                continue;
            };
            let own = [(request.owner.clone(), connection.clone())];
            let others = running.iter().chain(own.iter().map(|(owner, own)| (owner, own)));
            connection.published.push(ports::publish(port, address, others)?);
        }
        book.save().map_err(|error| format!("write the networks' addresses: {error}"))?;
        connection.write(path).map_err(|error| format!("write {}: {error}", path.display()))?;
        running.insert(request.owner.clone(), connection);
        Ok(())
    }

    /// Joins the owner's namespace to its networks, and opens its ports.
    pub(crate) fn connect(&self, owner: &UnitName, namespace: BorrowedFd<'_>) -> Result<Connection, String> {
        let state = &mut *self.turn();
        let connection = state.running.get(owner).ok_or("its networks were taken down meanwhile")?.clone();
        for card in &connection.cards {
            bridge::ensure(&card.network).map_err(|error| error.to_string())?;
            bridge::attach(namespace, &card.attachment(owner)).map_err(|error| error.to_string())?;
        }
        state.put()?;
        match connection.cards.iter().find_map(|card| state.deaf.get(&card.network.interface)) {
            Some(text) => Err(text.clone()),
            None => Ok(connection),
        }
    }

    /// Takes down what the owner had, which was written to `path`.
    pub(crate) fn disconnect(&self, owner: &UnitName, path: &Path) {
        self.turn().disconnect(owner, path);
    }

    /// The same, without a thread to do it.
    pub(crate) fn leave(&self, owner: UnitName, path: PathBuf) {
        self.left.lock().unwrap_or_else(PoisonError::into_inner).push((owner, path));
    }

    /// A socket that was kept for this supervisor.
    pub(crate) fn take_socket(&self, name: String, socket: OwnedFd) {
        self.lock().resolver.take(name, socket);
    }

    /// These were connected when the last supervisor died; `unread`: these too, and it is not known how.
    pub(crate) fn remember(&self, connections: BTreeMap<UnitName, Connection>, unread: BTreeSet<UnitName>) {
        let state = &mut *self.lock();
        (state.running, state.unread) = (connections, unread);
    }

    /// Makes once more what is remembered, and removes what nobody has.
    pub(crate) fn restore(&self) -> Result<(), String> {
        let state = &mut *self.lock();
        let mut keep = BTreeSet::new();
        for (owner, connection) in &state.running {
            keep.extend(
                connection.cards.iter().flat_map(|card| [card.network.interface.clone(), card.host_end(owner)]),
            );
        }
        let leftovers = bridge::leftovers(&keep, |owner| state.unread.iter().any(|unit| unit.as_str() == owner));
        let leftovers = leftovers.map_err(|error| error.to_string())?;
        if state.running.is_empty() && leftovers.is_empty() {
            state.resolver.set(Vec::new());
            return Ok(());
        }
        // One that fails keeps no other from its names and its ports.
        let mut result = Ok(());
        for card in state.running.values().flat_map(|connection| &connection.cards) {
            result = result.and(bridge::ensure(&card.network).map_err(|error| error.to_string()));
        }
        result = state.put().and(result);
        for link in leftovers {
            log::warn!("{link}: a network interface that nobody has any more, removed");
            result = result.and(bridge::detach(&link).map_err(|error| error.to_string()));
        }
        result
    }
}

impl State {
    /// Goes on where something fails.
    fn disconnect(&mut self, owner: &UnitName, path: &Path) {
        let Some(connection) = self.running.remove(owner) else { return };
        if let Err(text) = self.put() {
            log::error!("{owner}: {text}");
        }
        for card in &connection.cards {
            let mut done = bridge::detach(&card.host_end(owner));
            let others = || self.running.values().flat_map(|other| &other.cards);
            if self.unread.is_empty() && others().all(|other| other.network.name != card.network.name) {
                done = done.and(bridge::remove(&card.network.interface));
                if card.forget {
                    self.book.networks.remove(&card.network.name);
                }
            }
            if let Err(error) = done {
                log::error!("{owner}: {error}");
            }
        }
        if let Err(error) = self.book.save() {
            log::error!("write the networks' addresses: {error}");
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => log::warn!("{}: {error}", path.display()),
            _ => {}
        }
    }

    /// The firewall and the names that follow from all that runs. A network whose names nobody can ask for is no error of others.
    fn put(&mut self) -> Result<(), String> {
        let mut zones: BTreeMap<&str, Zone> = BTreeMap::new();
        for card in self.running.values().flat_map(|connection| &connection.cards) {
            zones.entry(&card.network.name).or_insert_with(|| Zone::of(&card.network));
        }
        let published = self.running.values().flat_map(|connection| connection.published.clone()).collect();
        let firewall = Firewall { zones: zones.into_values().collect(), published };
        let deaf = self.resolver.set(self.names());
        for (interface, text) in deaf.iter().filter(|(interface, text)| self.deaf.get(*interface) != Some(text)) {
            log::warn!("{interface}: {text}");
        }
        self.deaf = deaf;
        firewall.put().map_err(|error| format!("write the firewall's rules: {error}"))
    }

    fn names(&self) -> Vec<dns::Zone> {
        let mut zones: BTreeMap<&str, dns::Zone> = BTreeMap::new();
        for (owner, connection) in &self.running {
            for card in &connection.cards {
                let (Some(servers), network) = (&card.resolver, &card.network) else { continue };
                let zone = || dns::Zone {
                    interface: network.interface.clone(),
                    listen: network.subnets.iter().map(|(_, gateway)| *gateway).collect(),
                    internal: network.internal,
                    servers: servers.clone(),
                    hosts: Vec::new(),
                };
                zones.entry(&network.name).or_insert_with(zone).hosts.push(dns::Host {
                    owner: owner.to_string(),
                    names: card.names.clone(),
                    addresses: card.addresses.iter().map(|(address, _)| *address).collect(),
                    servers: connection.servers.clone(),
                });
            }
        }
        zones.into_values().collect()
    }
}

/// Its card on one network; `before`: those it has already.
fn card(
    book: &mut Book,
    running: &BTreeMap<UnitName, Connection>,
    request: &Request,
    definition: &Definition,
    attachment: &unit::Attachment,
    before: &Connection,
) -> Result<Card, String> {
    let Request { owner, reserved, .. } = request;
    let name = &definition.name;
    let cards = || running.values().flat_map(|connection| &connection.cards);
    // While somebody is on it, it stays as it is, whatever became of its file.
    let network = match cards().find(|card| card.network.name == *name) {
        Some(card) => card.network.clone(),
        None => place(book, request, definition)?,
    };
    let in_use = running.iter().flat_map(|(owner, all)| all.addresses().map(move |address| (address, owner.clone())));
    let in_use: BTreeMap<IpAddr, UnitName> = in_use.collect();
    let nobody = BTreeSet::new();
    let mut addresses = Vec::new();
    for (subnet, gateway) in &network.subnets {
        let fixed = match subnet.is_ipv4() {
            true => attachment.ip.map(IpAddr::from),
            false => attachment.ip6.map(IpAddr::from),
        };
        // Of several subnets of a family it is in one.
        let written = network.subnets.iter().any(|(subnet, _)| fixed.is_some_and(|fixed| subnet.contains(fixed)));
        let wish = Wish {
            owner,
            network: name,
            subnet: *subnet,
            gateway: *gateway,
            pool: definition.subnets.iter().find(|range| range.subnet == *subnet).and_then(|range| range.pool),
            fixed: fixed.filter(|fixed| subnet.contains(*fixed) || !written),
            reserved: reserved.get(name).unwrap_or(&nobody),
            in_use: &in_use,
        };
        addresses.push((book.address(&wish)?, subnet.prefix()));
    }
    for (fixed, family) in [(attachment.ip.map(IpAddr::from), "IPv4"), (attachment.ip6.map(IpAddr::from), "IPv6")] {
        if let Some(fixed) = fixed.filter(|fixed| !addresses.iter().any(|(address, _)| address == fixed)) {
            return Err(format!("the address {fixed} on the network {name}: it has no {family}"));
        }
    }
    let has_gateway = |ipv4| before.cards.iter().flat_map(|card| &card.gateways).any(|other| other.is_ipv4() == ipv4);
    let gateways = [true, false].into_iter().filter(|ipv4| !network.internal && !has_gateway(*ipv4));
    let had = |name: &String| before.cards.iter().any(|card| card.interface == *name);
    // As podman, which gives the others what is left.
    let written = |name: &String| request.wanted.iter().any(|(_, other)| other.interface.as_ref() == Some(name));
    let free = |name: &String| !had(name) && !written(name);
    let interface = attachment.interface.clone();
    let interface = interface.or_else(|| (0..).map(|number| format!("eth{number}")).find(free)).unwrap_or_default();
    if had(&interface) {
        return Err(format!("two of its networks have the interface_name={interface}"));
    }
    Ok(Card {
        interface,
        mac: attachment.mac.as_deref().and_then(Mac::parse).unwrap_or_else(|| Mac::of(&format!("{owner}/{name}"))),
        gateways: gateways.filter_map(|ipv4| network.gateway(ipv4)).collect(),
        addresses,
        names: request.names.iter().chain(&attachment.aliases).map(|name| name.to_ascii_lowercase()).collect(),
        resolver: definition.resolver.clone(),
        forget: definition.forget,
        network,
    })
}

/// A network that nobody is on.
fn place(book: &mut Book, request: &Request, definition: &Definition) -> Result<Network, String> {
    let mut network = Network {
        name: definition.name.clone(),
        interface: definition.interface.clone(),
        subnets: Vec::new(),
        mtu: definition.mtu,
        internal: definition.internal,
        isolation: definition.isolation,
    };
    let host = bridge::host_routes(&network).map_err(|error| error.to_string())?;
    let host: Vec<(Subnet, String)> = host.into_iter().map(|(route, by)| (route.to, by)).collect();
    let before = book.networks.get(&network.name).map(|page| page.subnets.clone()).unwrap_or_default();
    let pages = book.networks.iter().filter(|(name, _)| **name != network.name);
    let mut others: Vec<Subnet> = pages.flat_map(|(_, page)| page.subnets.clone()).collect();
    others.extend(request.written.iter().filter(|written| !definition.written().any(|own| own == **written)));
    network.subnets = definition.place(&before, &host, &others)?;
    let page: &mut Page = book.networks.entry(network.name.clone()).or_default();
    page.subnets = network.subnets.iter().map(|(subnet, _)| *subnet).collect();
    Ok(network)
}
