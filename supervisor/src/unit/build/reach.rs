//! What a unit and the files that it names have to agree upon: the addresses and ports it wants of its networks, the ids of its root and
//! volumes. `suits` judges it when all are known.

use std::{net::IpAddr, rc::Rc};

use super::network::{attachment, port};
use crate::unit::{
    Backing, NetworkSpec, Root, Subnet, Unit, UserNamespace, VolumeSpec, kind::of_instance, sheet::Sheet, text::Text,
};

/// One network of a unit, by its file's stem; none is the default one. And what addresses are wanted there.
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
    /// The pod it is in.
    pub(in crate::unit) pod: Option<String>,
}

/// What others may have of it.
#[derive(Default)]
pub(in crate::unit) enum Offer {
    #[default]
    Nothing,
    Network {
        subnets: Vec<Subnet>,
        ipv6: bool,
        internal: bool,
    },
    /// A volume that is an image.
    Image,
}

impl Offer {
    pub(super) fn of_network(spec: &NetworkSpec) -> Self {
        let subnets = spec.subnets.iter().map(|(subnet, ..)| *subnet).collect();
        Self::Network { subnets, ipv6: spec.ipv6, internal: spec.internal }
    }

    pub(super) fn of_volume(spec: &VolumeSpec) -> Self {
        if matches!(spec.backing, Backing::Image(_)) { Self::Image } else { Self::Nothing }
    }
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
    Wishes { cards, ports: ports("Container", sheet), is_mapped, rootfs, pod }
}

pub(super) fn of_pod(mapping: &UserNamespace, sheet: &mut Sheet<'_>) -> Wishes {
    let is_mapped = *mapping != UserNamespace::Host;
    Wishes { cards: cards("Pod", sheet), ports: ports("Pod", sheet), is_mapped, ..Wishes::default() }
}

fn cards(section: &'static str, sheet: &mut Sheet<'_>) -> Option<Vec<Card>> {
    let mut cards = Vec::new();
    for value in sheet.all(section, "Network") {
        let (mode, options) = value.text.split_once(':').unwrap_or((&value.text, ""));
        let network = match mode.strip_suffix(".network") {
            Some(stem) => Some(of_instance(stem, sheet.scope.instance())),
            None if matches!(mode, "bridge" | "private" | "") => None,
            None => return None,
        };
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
