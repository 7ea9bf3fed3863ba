//! Whether what a unit wants can be had of the files that it names: what its start would refuse, said before.

use super::{
    Problem, Said, Subnet, UnitName, UnitSet,
    build::{Card, Draft, Offer, Target, Wishes, contains},
    kind::Kind,
    set::Drafts,
};

/// As many as are told of one unit; each costs a walk along its line.
const MAX_PROBLEMS: usize = 100;

pub(super) fn refuse(drafts: &mut Drafts, set: &mut UnitSet) {
    let mut found: Vec<(UnitName, Vec<Problem>)> = Vec::new();
    for (name, draft) in &drafts.all {
        let mut problems = Vec::new();
        networks(drafts, draft, &mut problems);
        ids(drafts, draft, &mut problems);
        problems.truncate(MAX_PROBLEMS);
        if !problems.is_empty() {
            found.push((name.clone(), problems));
        }
    }
    for (name, problems) in found {
        set.problems.extend(problems);
        drafts.all.get_mut(&name).into_iter().for_each(|draft| draft.broken = true);
        set.broken.insert(name);
    }
}

impl Drafts {
    fn by_file(&self, kind: Kind, stem: &str) -> Option<&Draft> {
        self.files.get(&(kind, stem.to_owned())).and_then(|name| self.all.get(name)).filter(|draft| !draft.broken)
    }
}

/// Whether a network has addresses of one family, and leads out of the machine.
struct Net<'a> {
    subnets: &'a [Subnet],
    ipv4: bool,
    ipv6: bool,
    internal: bool,
}

impl Net<'_> {
    fn has(&self, ipv4: bool) -> bool {
        if ipv4 { self.ipv4 } else { self.ipv6 }
    }
}

/// None where its file is not known, or has mistakes.
fn net<'a>(drafts: &'a Drafts, card: &Card) -> Option<Net<'a>> {
    let Some(stem) = &card.network else {
        return Some(Net { subnets: &[], ipv4: true, ipv6: false, internal: false });
    };
    let Offer::Network { subnets, ipv6, internal } = &drafts.by_file(Kind::Network, stem)?.offer else { return None };
    let some = |ipv4| subnets.iter().any(|(address, _)| address.is_ipv4() == ipv4);
    // Where nothing is written it gets one of IPv4, and one of IPv6 that it asks for.
    Some(Net { subnets, ipv4: subnets.is_empty() || some(true), ipv6: *ipv6 || some(false), internal: *internal })
}

fn family(ipv4: bool) -> &'static str {
    if ipv4 { "IPv4" } else { "IPv6" }
}

fn networks(drafts: &Drafts, draft: &Draft, problems: &mut Vec<Problem>) {
    let Wishes { cards: Some(cards), ports, .. } = &draft.wishes else { return };
    let nets: Option<Vec<Net<'_>>> = cards.iter().map(|card| net(drafts, card)).collect();
    let Some(nets) = nets else { return };
    for (card, net) in cards.iter().zip(&nets) {
        let what = card.network.as_ref().map_or("the default network".to_owned(), |stem| format!("{stem}.network"));
        for (ip, at) in &card.addresses {
            let its = || net.subnets.iter().filter(|(address, _)| address.is_ipv4() == ip.is_ipv4());
            let text = if !net.has(ip.is_ipv4()) {
                let more = if ip.is_ipv4() { "give it a Subnet= of IPv4" } else { "write IPv6=true there" };
                format!("the address {ip}: {what} has no {}; {more}", family(ip.is_ipv4()))
            } else if its().next().is_some() && !its().any(|subnet| contains(*subnet, *ip)) {
                let all: Vec<String> = its().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
                format!("the address {ip} is not inside {} of {what}", all.join(", "))
            } else {
                continue;
            };
            problems.push(at.error(&at.whole(), text));
        }
    }
    for (host, at) in ports {
        let reaches = |ipv4| nets.iter().any(|net| !net.internal && net.has(ipv4));
        let found = host.map_or_else(|| reaches(true) || reaches(false), |host| reaches(host.is_ipv4()));
        if !found {
            let text = if nets.iter().all(|net| net.internal) {
                let text = format!("PublishPort={}: its networks are internal, nothing outside reaches it", at.text);
                Said::from(format!("{text}; take this line away, or Internal=true"))
            } else {
                let family = family(host.is_none_or(|host| host.is_ipv4()));
                Said::from(format!("PublishPort={}: it is on no network with {family} that is not internal", at.text))
            };
            problems.push(at.error(&at.whole(), text));
        }
    }
}

fn ids(drafts: &Drafts, draft: &Draft, problems: &mut Vec<Problem>) {
    let pod = draft.wishes.pod.as_ref().and_then(|pod| drafts.by_file(Kind::Pod, pod));
    let pod_is_mapped = pod.is_some_and(|pod| pod.wishes.is_mapped);
    if let (true, Some(at)) = (pod_is_mapped, &draft.wishes.rootfs) {
        let text = "Rootfs= in a pod with a user namespace is not available in this version; write Image=, or UserNS=host in the pod";
        problems.push(at.error(&at.whole(), text));
    }
    if !draft.wishes.is_mapped && !pod_is_mapped {
        return;
    }
    for link in &draft.links {
        let Target::File(Kind::Volume, stem) = &link.target else { continue };
        if drafts.by_file(Kind::Volume, stem).is_some_and(|volume| matches!(volume.offer, Offer::Image)) {
            let text = format!(
                "{}={}: it is an image (Driver=image), and such a one has no ids of a user namespace; write UserNS=host",
                link.key,
                link.text()
            );
            problems.push(link.error(Said::from(text).offering("UserNS=host")));
        }
    }
}
