//! What unit files say of networks, and where a network lies on this host: the subnets that are written, or free ones.

use std::net::IpAddr;

use crate::{
    net::bridge::{Isolation, Subnet, interface_of, ula_of},
    unit::{DEFAULT_NETWORK, IpRange, NetworkSpec},
};

/// A network as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(super) interface: String,
    pub(super) subnets: Vec<Range>,
    ipv6: bool,
    pub(super) mtu: Option<u32>,
    pub(super) internal: bool,
    pub(super) isolation: Isolation,
    /// `NetworkDeleteOnStop=`: its addresses are given anew once nobody is on it.
    pub(super) forget: bool,
    /// Who is on it is found by name, and other names are asked of these, or of the machine's servers.
    pub(super) resolver: Option<Vec<IpAddr>>,
}

/// A subnet, the host's address in it, and the first and last that containers get by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) subnet: Subnet,
    gateway: Option<IpAddr>,
    pub(super) pool: Option<(IpAddr, IpAddr)>,
}

impl Definition {
    pub(crate) fn usual() -> Self {
        Self {
            name: DEFAULT_NETWORK.to_owned(),
            interface: DEFAULT_NETWORK.to_owned(),
            subnets: Vec::new(),
            ipv6: false,
            mtu: None,
            internal: false,
            isolation: Isolation::Open,
            forget: false,
            // As podman's default one.
            resolver: None,
        }
    }

    pub(crate) fn of(spec: &NetworkSpec) -> Self {
        let range = |(subnet, gateway, range): &((IpAddr, u8), Option<IpAddr>, Option<IpRange>)| Range {
            subnet: Subnet::around(subnet.0, subnet.1),
            gateway: *gateway,
            pool: range.map(|range| match range {
                IpRange::Between(first, last) => (first, last),
                IpRange::Subnet((address, prefix)) => {
                    let all = Subnet::around(address, prefix);
                    (all.first(), all.last())
                }
            }),
        };
        Self {
            name: spec.name.clone(),
            interface: spec.interface.clone().unwrap_or_else(|| interface_of(&spec.name)),
            subnets: spec.subnets.iter().map(range).collect(),
            ipv6: spec.ipv6,
            // Both were checked when the file was read.
            mtu: spec.options.get("mtu").and_then(|mtu| mtu.parse().ok()),
            internal: spec.internal,
            isolation: match spec.options.get("isolate").map(String::as_str) {
                Some("strict") => Isolation::Strict,
                Some("true" | "1") => Isolation::Isolated,
                _ => Isolation::Open,
            },
            forget: spec.delete_on_stop,
            resolver: (!spec.disable_dns).then(|| spec.dns.clone()),
        }
    }

    /// The subnets that are written.
    pub(crate) fn written(&self) -> impl Iterator<Item = Subnet> {
        self.subnets.iter().map(|range| range.subnet)
    }

    /// Where it lies, each with the host's own address. `before`: where it lay last. `host`: what the host reaches, and by which interface.
    /// `others`: of networks that nobody is on now.
    pub(super) fn place(
        &self,
        before: &[Subnet],
        host: &[(Subnet, String)],
        others: &[Subnet],
    ) -> Result<Vec<(Subnet, IpAddr)>, String> {
        let collision = |subnet: Subnet| host.iter().find(|(other, _)| other.overlaps(subnet));
        let mut found = Vec::new();
        for range in &self.subnets {
            if let Some((other, interface)) = collision(range.subnet) {
                let Self { name, .. } = self;
                let subnet = range.subnet;
                return Err(format!(
                    "Subnet={subnet} of the network {name} overlaps {other}, which this host reaches by {interface}; choose another"
                ));
            }
            let gateway = range.gateway.or_else(|| range.subnet.nth(1));
            found.push((range.subnet, gateway.unwrap_or(range.subnet.first())));
        }
        let free =
            |subnet: &Subnet| collision(*subnet).is_none() && !others.iter().any(|other| other.overlaps(*subnet));
        let mut add = |ipv4: bool, candidates: &mut dyn Iterator<Item = Subnet>| {
            let last = before.iter().copied().filter(|subnet| subnet.is_ipv4() == ipv4);
            let subnet = last.chain(candidates).find(free);
            let none = || format!("there is no free subnet for the network {}; write Subnet=", self.name);
            let subnet = subnet.ok_or_else(none)?;
            found.push((subnet, subnet.nth(1).unwrap_or(subnet.first())));
            Ok::<(), String>(())
        };
        let has = |ipv4: bool| self.subnets.iter().any(|range| range.subnet.is_ipv4() == ipv4);
        // "IPv6=": "Enable IPv6 (Dual Stack) networking" (podman-systemd.unit(5)).
        if self.subnets.is_empty() || (self.ipv6 && !has(true)) {
            let small = pool();
            match self.name.as_str() {
                DEFAULT_NETWORK => add(true, &mut wide().chain(small))?,
                _ => add(true, &mut { small })?,
            }
        }
        if self.ipv6 && !has(false) {
            add(false, &mut (0..16).map(|try_| ula_of(&self.name, try_)))?;
        }
        Ok(found)
    }
}

/// The default network is that of all who name none: it has the size of Podman's, and where nothing is in the way its place.
fn wide() -> impl Iterator<Item = Subnet> {
    (88..=255).map(|second| Subnet::around([10, second, 0, 0].into(), 16))
}

/// Where Podman looks for the subnets of its networks, too.
fn pool() -> impl Iterator<Item = Subnet> {
    (89..=255).flat_map(|second| (0..=255).map(move |third| Subnet::around([10, second, third, 0].into(), 24)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    fn host(all: &[&str]) -> Vec<(Subnet, String)> {
        all.iter().map(|text| (subnet(text), "eth0".to_owned())).collect()
    }

    #[test]
    fn the_default_network_moves_out_of_the_hosts_way_and_stays_where_it_was() {
        let at = |before: &[Subnet], taken: &[&str], others: &[Subnet]| {
            Definition::usual().place(before, &host(taken), others).unwrap()
        };
        assert_eq!(at(&[], &[], &[]), [(subnet("10.88.0.0/16"), [10, 88, 0, 1].into())]);
        assert_eq!(at(&[], &["10.88.3.0/24"], &[])[0].0, subnet("10.89.0.0/16"));
        assert_eq!(at(&[], &["10.88.3.0/24"], &[subnet("10.89.0.0/24")])[0].0, subnet("10.90.0.0/16"));
        let everywhere: Vec<String> = (88..=255).map(|second| format!("10.{second}.0.0/24")).collect();
        let everywhere: Vec<&str> = everywhere.iter().map(String::as_str).collect();
        assert_eq!(at(&[], &everywhere, &[])[0].0, subnet("10.89.1.0/24"));
        let app = Definition { name: "app".to_owned(), ..Definition::usual() };
        assert_eq!(app.place(&[], &[], &[]).unwrap()[0].0, subnet("10.89.0.0/24"));
        // A machine that had a smaller one keeps it.
        assert_eq!(at(&[subnet("10.89.7.0/24")], &["192.168.0.0/16"], &[])[0].0, subnet("10.89.7.0/24"));
        assert_eq!(at(&[subnet("10.89.7.0/24")], &["10.89.7.5/32"], &[])[0].0, subnet("10.88.0.0/16"));
        assert!(Definition::usual().place(&[], &host(&["10.0.0.0/8"]), &[]).is_err());
    }

    #[test]
    fn a_subnet_that_is_written_is_refused_with_both_named() {
        let range = Range { subnet: subnet("10.0.2.128/25"), gateway: None, pool: None };
        let app = Definition { name: "app".to_owned(), subnets: vec![range], ipv6: true, ..Definition::usual() };
        let error = app.place(&[], &host(&["10.0.2.0/24"]), &[]).unwrap_err();
        assert_eq!(
            error,
            "Subnet=10.0.2.128/25 of the network app overlaps 10.0.2.0/24, which this host reaches by eth0; choose another"
        );
        let found = app.place(&[], &[], &[]).unwrap();
        assert_eq!(found[0], (subnet("10.0.2.128/25"), [10, 0, 2, 129].into()));
        assert!(found.len() == 2 && found[1].0.prefix() == 64 && subnet("fd00::/8").overlaps(found[1].0));
        let moved = app.place(&[], &[(found[1].0, "eth0".to_owned())], &[]).unwrap();
        assert_ne!(moved[1].0, found[1].0);
        // Dual stack, whichever of the two is written.
        let range = Range { subnet: subnet("fd00:1::/64"), gateway: None, pool: None };
        let six = Definition { subnets: vec![range], ipv6: true, ..app };
        let found = six.place(&[], &[], &[]).unwrap();
        assert_eq!([found[0].0, found[1].0], [subnet("fd00:1::/64"), subnet("10.89.0.0/24")]);
        assert_eq!(Definition { ipv6: false, ..six }.place(&[], &[], &[]).unwrap().len(), 1);
    }
}
