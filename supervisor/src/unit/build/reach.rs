//! What a unit and the files that it names have to agree upon: the addresses and ports it wants of its networks, the ids of its root and
//! volumes. `suits` judges it when all are known.

use std::{net::IpAddr, rc::Rc};

use super::{
    declared::subnet,
    network::{attachment, is_default, port},
};
use crate::unit::{
    Backing, NetworkSpec, Root, Subnet, Unit, UserNamespace, VolumeSpec, kind::of_instance, sheet::Sheet, text::Text,
};

/// One network of a unit, as its file is written or its name; none is the default one. And what addresses are wanted there.
pub(in crate::unit) struct Card {
    pub(in crate::unit) network: Option<String>,
    pub(in crate::unit) addresses: Vec<(IpAddr, Rc<Text>)>,
}

/// Of a container or a pod.
#[derive(Default)]
pub(in crate::unit) struct Wishes {
    /// None where it is on no networks of its own.
    pub(in crate::unit) cards: Option<Vec<Card>>,
    /// The host's addresses at which its ports are, as written.
    pub(in crate::unit) ports: Vec<(Option<IpAddr>, Rc<Text>)>,
    /// It has, or gives, a user namespace.
    pub(in crate::unit) is_mapped: bool,
    /// A folder as its root.
    pub(in crate::unit) rootfs: Option<Rc<Text>>,
    /// In a pod: volumes that take the ids of its user namespace.
    pub(in crate::unit) idmaps: Vec<Rc<Text>>,
    /// The pod it is in.
    pub(in crate::unit) pod: Option<String>,
}

/// What others may have of it.
#[derive(Default)]
pub(in crate::unit) enum Offer {
    #[default]
    Nothing,
    Network {
        subnets: Vec<(Subnet, Rc<Text>)>,
        /// The host's own, and what a subnet keeps for itself.
        kept: Vec<IpAddr>,
        ipv6: bool,
        internal: bool,
    },
    /// A volume that is an image.
    Image,
}

impl Offer {
    pub(super) fn of_network(spec: &NetworkSpec, sheet: &mut Sheet<'_>) -> Self {
        let written = sheet.every("Network", "Subnet").into_iter().filter(|value| subnet(&value.text).is_ok());
        let subnets = spec.subnets.iter().map(|(subnet, ..)| *subnet).zip(written).collect();
        let kept = spec.subnets.iter().flat_map(|(subnet, gateway, _)| kept(*subnet, *gateway)).collect();
        Self::Network { subnets, kept, ipv6: spec.ipv6, internal: spec.internal }
    }

    pub(super) fn of_volume(spec: &VolumeSpec) -> Self {
        if matches!(spec.backing, Backing::Image(_)) { Self::Image } else { Self::Nothing }
    }
}

/// Whom nobody on the network is: its gateway, and by RFC 3021 and RFC 4291 2.6.1 the subnet's first address and IPv4's last.
fn kept((address, prefix): Subnet, gateway: Option<IpAddr>) -> Vec<IpAddr> {
    let (bits, length) = match address {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let host = 1u128.checked_shl(length - u32::from(prefix)).map_or(u128::MAX, |size| size - 1);
    let nth = |number: u128| match address {
        IpAddr::V4(_) => u32::try_from((bits & !host) | number).ok().map(|bits| IpAddr::from(bits.to_be_bytes())),
        IpAddr::V6(_) => Some(IpAddr::from(((bits & !host) | number).to_be_bytes())),
    };
    let mut kept = vec![gateway.or_else(|| nth(u128::from(host > 0)))];
    if host > 1 {
        kept.push(nth(0));
        kept.extend(address.is_ipv4().then(|| nth(host)));
    }
    kept.into_iter().flatten().collect()
}

pub(super) fn of_container(unit: &Unit, sheet: &mut Sheet<'_>) -> Wishes {
    let container = &unit.container;
    let pod = sheet.last("Container", "Pod").filter(|_| container.pod.is_some());
    let of_pod = |pod: Rc<Text>| of_instance(pod.text.trim_end_matches(".pod"), sheet.scope.instance());
    let pod = pod.map(of_pod);
    let rootfs = sheet.last("Container", "Rootfs").filter(|_| matches!(container.root, Root::Folder { .. }));
    let is_mapped = container.user_namespace != UserNamespace::Host;
    // A pod's networks are the pod's.
    let cards = if pod.is_some() { None } else { cards("Container", sheet) };
    let idmaps =
        if pod.is_some() { super::container::idmaps("Container", &["Volume", "Mount"], sheet) } else { Vec::new() };
    Wishes { cards, ports: ports("Container", sheet), is_mapped, rootfs, idmaps, pod }
}

pub(super) fn of_pod(mapping: &UserNamespace, sheet: &mut Sheet<'_>) -> Wishes {
    let is_mapped = *mapping != UserNamespace::Host;
    Wishes { cards: cards("Pod", sheet), ports: ports("Pod", sheet), is_mapped, ..Wishes::default() }
}

fn cards(section: &'static str, sheet: &mut Sheet<'_>) -> Option<Vec<Card>> {
    let mut cards = Vec::new();
    for value in sheet.all(section, "Network") {
        let (mode, options) = value.text.split_once(':').unwrap_or((&value.text, ""));
        if matches!(mode, "host" | "none" | "container") || mode.ends_with(".container") {
            return None;
        }
        let network = (!is_default(mode)).then(|| mode.to_owned());
        let asked = attachment(None, options).ok()?;
        let both = [asked.ip.map(IpAddr::from), asked.ip6.map(IpAddr::from)];
        let addresses = both.into_iter().flatten().map(|ip| (ip, Rc::clone(&value))).collect();
        cards.push(Card { network, addresses });
    }
    if cards.is_empty() {
        cards.push(Card { network: None, addresses: Vec::new() });
    }
    for key in ["IP", "IP6"] {
        let value = sheet.last(section, key).and_then(|value| Some((value.text.parse().ok()?, value)));
        cards.iter_mut().take(1).for_each(|first| first.addresses.extend(value.clone()));
    }
    Some(cards)
}

fn ports(section: &'static str, sheet: &mut Sheet<'_>) -> Vec<(Option<IpAddr>, Rc<Text>)> {
    let all = sheet.every(section, "PublishPort").into_iter();
    all.filter_map(|value| Some((port(&value.text).ok()?.host_ip.map(|ip| ip.to_canonical()), value))).collect()
}
