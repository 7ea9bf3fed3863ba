//! Bridges come up with the first container on them, cards with each container; all of it can be said twice.

use std::{collections::BTreeSet, fs, io, net::IpAddr, os::fd::BorrowedFd};

use super::{
    Error, HostRoute, Mac, Network, failed,
    link::{Link, Links, Pair},
    namespace::inside,
};

/// Begins the alias of every link of ours.
const OURS: &str = "orlop ";

/// One card of a network namespace, and the bridge that it is joined to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// The bridge's interface, which is there.
    pub(crate) bridge: String,
    /// The card's other end, on the host: [`host_end`].
    pub(crate) host_end: String,
    /// Shown in the host end's alias.
    pub(crate) owner: String,
    /// The card's own name, `eth0`.
    pub(crate) interface: String,
    pub(crate) mac: Mac,
    pub(crate) mtu: Option<u32>,
    /// With the length of the prefix.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// For everything else; at most one of each family.
    pub(crate) gateways: Vec<IpAddr>,
}

impl Attachment {
    /// The host's end of an owner's card on a network: the same each time, so that what a dead supervisor left is found.
    pub(crate) fn host_end(owner: &str, network: &str) -> String {
        format!("veth{:010x}", super::fnv(&format!("{owner}/{network}")) >> 24)
    }
}

/// Makes the network's bridge, unless it is there, and lets the host route what comes from it.
pub(crate) fn ensure(network: &Network) -> Result<(), Error> {
    let name = &network.interface;
    let at = |what: &str| failed(format!("{what} the bridge {name} of the network {}", network.name));
    let mut links = Links::new().map_err(at("ask for"))?;
    let alias = format!("{OURS}network {}", network.name);
    let index = match links.find(name).map_err(at("ask for"))? {
        // Without a name, and down: somebody died before the last step.
        Some(link) if link.alias == alias || (link.alias.is_empty() && link.is_bridge && !link.is_up) => link.index,
        Some(link) => {
            let whose = if link.alias.is_empty() { String::new() } else { format!(" ({})", link.alias) };
            let text = format!("there is an interface of this name already{whose}; write another InterfaceName=");
            return Err(at("make")(io::Error::other(text)));
        }
        None => {
            links.add_bridge(name, Mac::of(&format!("network {}", network.name)), network.mtu).map_err(at("make"))?;
            links.find(name).map_err(at("ask for"))?.map(|link| link.index).unwrap_or_default()
        }
    };
    let has = |ipv4: bool| network.subnets.iter().any(|(subnet, _)| subnet.is_ipv4() == ipv4);
    if has(true) {
        sysctl("net/ipv4/ip_forward", "1").map_err(at("let the host route for"))?;
        // What comes to a published port of 127.0.0.1 leaves by the bridge; the firewall drops what comes by it to there.
        sysctl(&format!("net/ipv4/conf/{name}/route_localnet"), "1").map_err(at("set up"))?;
    }
    if has(false) {
        sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), "0").map_err(at("set up"))?;
        forward_ipv6().map_err(at("let the host route for"))?;
    } else {
        // Its link's own address would be a way to the host that nobody asked for. A kernel without IPv6 has none.
        ignore_absent(sysctl(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")).map_err(at("set up"))?;
    }
    for (subnet, gateway) in &network.subnets {
        links.add_address(index, *gateway, subnet.prefix()).map_err(at(&format!("give the address {gateway} to")))?;
    }
    links.up(index, &alias, false).map_err(at("bring up"))
}

/// A router takes no advertisements of others (accept_ra, ip-sysctl.rst), so cards that did have to be told that they still do.
fn forward_ipv6() -> io::Result<()> {
    if fs::read_to_string("/proc/sys/net/ipv6/conf/all/forwarding")?.trim() == "1" {
        return Ok(());
    }
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf")?.flatten() {
        let path = entry.path().join("accept_ra");
        if fs::read_to_string(&path).is_ok_and(|value| value.trim() == "1") {
            fs::write(path, "2")?;
        }
    }
    sysctl("net/ipv6/conf/all/forwarding", "1")
}

/// Joins a network namespace to a bridge, and brings its loopback up. What is left of an earlier card of the same owner goes.
pub(crate) fn attach(namespace: BorrowedFd<'_>, attachment: &Attachment) -> Result<(), Error> {
    let Attachment { bridge, host_end, interface, owner, .. } = attachment;
    let at = |what: &str| failed(format!("{what} {interface} of {owner} on the bridge {bridge}"));
    let mut links = Links::new().map_err(at("make"))?;
    let none = || io::Error::other("the bridge is gone");
    let bridge = links.find(bridge).map_err(at("make"))?.ok_or_else(none).map_err(at("make"))?.index;
    links.remove(host_end).map_err(at("make"))?;
    let Attachment { mac, mtu, .. } = *attachment;
    let pair = Pair { name: host_end, bridge, inside: interface, namespace, mac, mtu };
    links.add_pair(&pair).map_err(at("make"))?;
    inside(namespace, || configure(attachment)).map_err(at("configure"))?;
    let index = links.find(host_end).map_err(at("bring up"))?.ok_or_else(none).map_err(at("bring up"))?.index;
    links.up(index, &format!("{OURS}card {owner}"), true).map_err(at("bring up"))
}

fn configure(attachment: &Attachment) -> io::Result<()> {
    let name = &attachment.interface;
    // Whoever shares the bridge could make itself everybody's router by an advertisement (CVE-2020-10749).
    ignore_absent(sysctl(&format!("net/ipv6/conf/{name}/accept_ra"), "0"))?;
    let mut links = Links::new()?;
    let gone = || io::Error::other("the card is gone");
    if let Some(loopback) = links.find("lo")? {
        links.up(loopback.index, "", false)?;
    }
    let index = links.find(name)?.ok_or_else(gone)?.index;
    for (address, prefix) in &attachment.addresses {
        links.add_address(index, *address, *prefix)?;
    }
    links.up(index, "", false)?;
    attachment.gateways.iter().try_for_each(|gateway| links.add_default_route(index, *gateway))
}

/// Takes a card away. That it is gone already, with its namespace, is no error.
pub(crate) fn detach(host_end: &str) -> Result<(), Error> {
    let remove = || Links::new()?.remove(host_end);
    remove().map_err(failed(format!("remove {host_end}")))
}

/// Takes a bridge away.
pub(crate) fn remove(interface: &str) -> Result<(), Error> {
    let remove = || Links::new()?.remove(interface);
    remove().map_err(failed(format!("remove the bridge {interface}")))
}

/// Links of ours but these, the cards of who lives on, and the bridges that those are joined to.
pub(crate) fn leftovers(keep: &BTreeSet<String>, lives_on: impl Fn(&str) -> bool) -> Result<Vec<String>, Error> {
    let all = || Links::new()?.all();
    let all = all().map_err(failed("list the links"))?;
    let card = |link: &Link| {
        link.alias.strip_prefix(OURS).and_then(|alias| alias.strip_prefix("card ")).is_some_and(&lives_on)
    };
    let bridges: BTreeSet<u32> = all.iter().filter(|link| card(link)).filter_map(|link| link.bridge).collect();
    let in_use = |link: &Link| keep.contains(&link.name) || card(link) || bridges.contains(&link.index);
    let ours = all.iter().filter(|link| link.alias.starts_with(OURS) && !in_use(link));
    Ok(ours.map(|link| link.name.clone()).collect())
}

/// Where the host itself sends packets, except by a bridge that the network has already.
pub(crate) fn host_routes(but: &Network) -> Result<Vec<(HostRoute, String)>, Error> {
    let routes = || {
        let mut links = Links::new()?;
        let names = links.all()?;
        let name = |index| names.iter().find(|link| link.index == index).map_or("", |link| &link.name).to_owned();
        let routes = links.routes()?.into_iter().map(|route| (route, name(route.link)));
        Ok(routes.filter(|(_, name)| *name != but.interface).collect())
    };
    routes().map_err(failed("list the host's routes"))
}

fn sysctl(key: &str, value: &str) -> io::Result<()> {
    let path = format!("/proc/sys/{key}");
    // Writing costs the kernel a walk over all links, and reading nothing.
    if fs::read_to_string(&path)?.trim() == value {
        return Ok(());
    }
    fs::write(path, value)
}

fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
