//! The table `inet orlop`: what the networks and the published ports of all that runs make of it. Pure up to the one call that puts it
//! in the place of the last one; connections that are known to the kernel go on, whatever the rules say of new ones.

use std::{io, net::IpAddr};

use serde::{Deserialize, Serialize};

use super::{
    Isolation, Network, Subnet,
    nft::{self, Chain, Hook, Rule, Side, Way},
};
use crate::unit::Protocol;

const TABLE: &str = "orlop";

/// Its number in IP.
fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// A network somebody is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) interface: String,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) internal: bool,
    pub(crate) isolation: Isolation,
}

impl Zone {
    pub(crate) fn of(network: &Network) -> Self {
        Self {
            interface: network.interface.clone(),
            subnets: network.subnets.iter().map(|(subnet, _)| *subnet).collect(),
            internal: network.internal,
            isolation: network.isolation,
        }
    }
}

/// `count` ports of the host from `host` on are those of `address` from `container` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    /// `None`: every address of the host, of the family that `address` has.
    pub(crate) host_ip: Option<IpAddr>,
    pub(crate) host: u16,
    pub(crate) container: u16,
    pub(crate) count: u16,
    pub(crate) protocol: Protocol,
    pub(crate) address: IpAddr,
}

/// All that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Firewall {
    pub(crate) zones: Vec<Zone>,
    pub(crate) published: Vec<Published>,
}

impl Firewall {
    /// Makes it the kernel's.
    pub(crate) fn put(&self) -> io::Result<()> {
        nft::replace(TABLE, &self.chains())
    }

    fn chains(&self) -> Vec<Chain> {
        if self.zones.is_empty() {
            return Vec::new();
        }
        let translated: Vec<Rule> = self.published.iter().flat_map(translate).collect();
        let on = |name, hook, rules| Chain { name, hook: Some(hook), rules };
        let to = |name, rules| Chain { name, hook: None, rules };
        vec![
            to("into", self.to_network()),
            to("any", self.drop_to(|_| true)),
            to("isolated", self.drop_to(|zone| zone.isolation != Isolation::Open)),
            to("strict", self.drop_to(|zone| zone.isolation == Isolation::Strict)),
            on("raw", Hook::RAW, self.raw()),
            on("prerouting", Hook::DNAT, translated.clone()),
            on("output", Hook::DNAT_LOCAL, translated),
            on("postrouting", Hook::SNAT, self.zones.iter().flat_map(leave).collect()),
            on("forward", Hook::FILTER, self.forward()),
        ]
    }

    /// The host's loopback is nobody's who merely sends a packet there; answers to what came from there pass, because their addresses
    /// are turned back later (CVE-2020-8558 was without this).
    fn raw(&self) -> Vec<Rule> {
        let loopback = Subnet::around([127, 0, 0, 0].into(), 8);
        let drop = |zone: &Zone| {
            let rule = Rule::default().interface(Way::In, &zone.interface, true);
            rule.family(true).within(Side::Destination, loopback, true).drop()
        };
        self.zones.iter().map(drop).collect()
    }

    fn forward(&self) -> Vec<Rule> {
        let by = |way, zone: &Zone| Rule::default().interface(way, &zone.interface, true);
        let mut rules: Vec<Rule> = self
            .zones
            .iter()
            .map(|zone| by(Way::In, zone).interface(Way::Out, &zone.interface, true).accept())
            .collect();
        for zone in self.zones.iter().filter(|zone| zone.internal) {
            rules.extend([by(Way::In, zone).drop(), by(Way::Out, zone).drop()]);
        }
        for zone in &self.zones {
            let forbidden = match zone.isolation {
                Isolation::Open => "strict",
                Isolation::Isolated => "isolated",
                Isolation::Strict => "any",
            };
            rules.push(by(Way::In, zone).jump(forbidden));
        }
        rules.extend(self.zones.iter().map(|zone| by(Way::Out, zone).jump("into")));
        rules
    }

    fn drop_to(&self, forbidden: impl Fn(&Zone) -> bool) -> Vec<Rule> {
        let zones = self.zones.iter().filter(|zone| forbidden(zone));
        zones.map(|zone| Rule::default().interface(Way::Out, &zone.interface, true).drop()).collect()
    }

    /// From outside comes what is an answer, and what was sent to a published port: being a router for its containers makes the host
    /// none for who knows their addresses.
    fn to_network(&self) -> Vec<Rule> {
        let mut rules = vec![Rule::default().established().accept(), Rule::default().translated().accept()];
        let from = |zone: &Zone| Rule::default().interface(Way::In, &zone.interface, true).accept();
        rules.extend(self.zones.iter().map(from));
        rules.push(Rule::default().drop());
        rules
    }
}

/// What is sent to a published port goes to the container.
fn translate(published: &Published) -> Vec<Rule> {
    let Published { host_ip, host, container, count, protocol, address } = *published;
    let reached = || {
        let rule = Rule::default().family(address.is_ipv4());
        let rule = match host_ip {
            Some(ip) => rule.within(Side::Destination, Subnet::around(ip, u8::MAX), true),
            None => rule.local(),
        };
        rule.protocol(number(protocol))
    };
    if count == 1 {
        return vec![reached().ports(host, host).dnat(address, Some(container))];
    }
    let last = host.saturating_add(count - 1);
    if host == container {
        return vec![reached().ports(host, last).dnat(address, None)];
    }
    let one = |number| reached().ports(host + number, host + number).dnat(address, Some(container + number));
    (0..=last - host).map(one).collect()
}

/// What leaves a network by another interface is the host's from then on; so is what the host's loopback sends into it, and what a
/// container sends to itself by a published port: the answers to both would find no way back.
fn leave(zone: &Zone) -> Vec<Rule> {
    let mut rules = Vec::new();
    for subnet in &zone.subnets {
        let from = || Rule::default().family(subnet.is_ipv4()).within(Side::Source, *subnet, true);
        if !zone.internal {
            rules.push(from().interface(Way::Out, &zone.interface, false).masquerade());
        }
        rules.push(from().interface(Way::Out, &zone.interface, true).translated().masquerade());
        if subnet.is_ipv4() {
            let loopback = Subnet::around([127, 0, 0, 0].into(), 8);
            let rule = Rule::default().interface(Way::Out, &zone.interface, true).family(true);
            rules.push(rule.within(Side::Source, loopback, true).masquerade());
        }
    }
    rules
}
