//! Whether what a unit wants can be had of the files that it names: what its start would refuse, said before.

use std::{collections::HashMap, net::IpAddr, rc::Rc};

use super::{
    Problem, Said, Subnet, UnitName, UnitSet,
    build::{Card, Draft, Link, LinkKind, Offer, Target, Wishes, contains, first},
    claims::Rivals,
    kind::Kind,
    set::Drafts,
    text::Text,
};

const MAX_PROBLEMS: usize = 100;

/// What is told of one unit: so much and no more, as each costs a walk along its line.
#[derive(Default)]
struct Told(Vec<Problem>);

impl Told {
    fn push(&mut self, problem: impl FnOnce() -> Problem) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push(problem());
        }
    }
}

pub(super) fn refuse(drafts: &mut Drafts, set: &mut UnitSet) {
    let mut found: Vec<(UnitName, Vec<Problem>)> = Vec::new();
    let rivals = Rivals::of(drafts);
    let mut holders = Holders::new();
    let (broken, good): (Vec<_>, Vec<_>) = drafts.all.iter().partition(|(_, draft)| draft.broken);
    for (name, draft) in good.into_iter().chain(broken) {
        let mut problems = Told::default();
        networks(drafts, draft, &mut problems);
        addresses((name, draft), &mut holders, &rivals, &mut problems);
        ids(drafts, draft, &mut problems);
        contradictions(draft, &mut problems);
        found.push((name.clone(), problems.0));
    }
    found.extend(subnets(drafts).into_iter().map(|(name, problem)| (name, vec![problem])));
    for (name, problems) in found {
        // What is told as a warning costs nothing.
        if problems.iter().any(Problem::is_error) {
            drafts.all.get_mut(&name).into_iter().for_each(|draft| draft.broken = true);
            set.broken.insert(name);
        }
        set.problems.extend(problems);
    }
}

impl Drafts {
    fn by_file(&self, kind: Kind, stem: &str) -> Option<&Draft> {
        self.files.get(&(kind, stem.to_owned())).and_then(|name| self.all.get(name)).filter(|draft| !draft.broken)
    }
}

/// Whether a network has addresses of one family, and leads out of the machine.
struct Net<'a> {
    subnets: &'a [(Subnet, Rc<Text>)],
    kept: &'a [IpAddr],
    ipv4: bool,
    ipv6: bool,
    internal: bool,
}

impl Net<'_> {
    fn has(&self, ipv4: bool) -> bool {
        if ipv4 { self.ipv4 } else { self.ipv6 }
    }
}

/// The links to its networks, as they are written: `x.network`, or a name.
fn its_networks(draft: &Draft) -> HashMap<&str, &Link> {
    let all = draft.links.iter().filter(|link| link.kind == LinkKind::Uses && link.key == "Network");
    all.map(|link| (link.text(), link)).collect()
}

/// None where its file is not known, or has mistakes.
fn net<'a>(drafts: &'a Drafts, links: &HashMap<&str, &Link>, card: &Card) -> Option<Net<'a>> {
    let Some(written) = &card.network else {
        return Some(Net { subnets: &[], kept: &[], ipv4: true, ipv6: false, internal: false });
    };
    let file = links.get(written.as_str())?.to.as_ref()?;
    let file = drafts.all.get(file).filter(|file| !file.broken)?;
    let Offer::Network { subnets, kept, ipv6, internal } = &file.offer else { return None };
    let some = |ipv4| subnets.iter().any(|((address, _), _)| address.is_ipv4() == ipv4);
    // Where nothing is written it gets one of IPv4; who asks for IPv6 has both.
    let ipv4 = *ipv6 || subnets.is_empty() || some(true);
    Some(Net { subnets, kept, ipv4, ipv6: *ipv6 || some(false), internal: *internal })
}

fn family(ipv4: bool) -> &'static str {
    if ipv4 { "IPv4" } else { "IPv6" }
}

fn networks(drafts: &Drafts, draft: &Draft, problems: &mut Told) {
    let Wishes { cards: Some(cards), ports, .. } = &draft.wishes else { return };
    let links = its_networks(draft);
    let nets: Option<Vec<Net<'_>>> = cards.iter().map(|card| net(drafts, &links, card)).collect();
    let Some(nets) = nets else { return };
    for (card, net) in cards.iter().zip(&nets) {
        let what = card.network.as_deref().unwrap_or("the default network");
        for (ip, at) in &card.addresses {
            let its =
                || net.subnets.iter().map(|(subnet, _)| *subnet).filter(|subnet| subnet.0.is_ipv4() == ip.is_ipv4());
            let wrong = |text: String| at.error(&at.whole(), format!("the address {ip}{text}"));
            if !net.has(ip.is_ipv4()) {
                let more = if ip.is_ipv4() { "give it a Subnet= of IPv4" } else { "write IPv6=true there" };
                problems.push(|| wrong(format!(": {what} has no {}; {more}", family(ip.is_ipv4()))));
            } else if its().next().is_some() && !its().any(|subnet| contains(subnet, *ip)) {
                let all =
                    || its().map(|(address, prefix)| format!("{address}/{prefix}")).collect::<Vec<_>>().join(", ");
                problems.push(|| wrong(format!(" is not inside {} of {what}", all())));
            } else if net.kept.contains(ip) {
                problems.push(|| wrong(format!(" is the host's or the subnet's own on {what}; choose another")));
            }
        }
    }
    let is_internal = nets.iter().all(|net| net.internal);
    let [ipv4, ipv6] = [true, false].map(|ipv4| nets.iter().any(|net| !net.internal && net.has(ipv4)));
    for (host, at) in ports {
        if host.map_or(ipv4 || ipv6, |host| if host.is_ipv4() { ipv4 } else { ipv6 }) {
            continue;
        }
        // As podman, which forwards by the families that there are.
        problems.push(|| {
            let text = if is_internal {
                "its networks are internal, nothing outside reaches it; take this line away, or Internal=true"
                    .to_owned()
            } else {
                let family = family(host.is_none_or(|host| host.is_ipv4()));
                format!("it is on no network with {family} that is not internal; this line opens nothing")
            };
            at.warning(&at.whole(), format!("PublishPort={}: {text}", at.text))
        });
    }
}

/// Who has an address, by the file of the network and the address.
type Holders<'a> = HashMap<(Option<&'a UnitName>, IpAddr), (&'a UnitName, &'a Rc<Text>)>;

/// One network twice, and what another unit has.
fn addresses<'a>(
    (unit, draft): (&'a UnitName, &'a Draft),
    holders: &mut Holders<'a>,
    rivals: &Rivals,
    problems: &mut Told,
) {
    let Some(cards) = &draft.wishes.cards else { return };
    let links = its_networks(draft);
    let mut seen: HashMap<&UnitName, &str> = HashMap::new();
    for card in cards {
        let link = card.network.as_ref().map(|written| links.get(written.as_str()));
        let file = match link {
            None => None,
            // Whom it names is not known.
            Some(None) => continue,
            Some(Some(link)) => {
                let Some(file) = &link.to else { continue };
                // The same words twice are told where they stand.
                if let Some(other) = seen.insert(file, link.text()).filter(|other| *other != link.text()) {
                    let text = || format!("Network={}: that is {other}, on which it is already", link.text());
                    problems.push(|| link.error(text()));
                }
                Some(file)
            }
        };
        for (ip, at) in &card.addresses {
            let holder = holders.entry((file, *ip)).or_insert((unit, at));
            if holder.0 != unit && !rivals.has(unit, holder.0) {
                let text =
                    || format!("{} has the address {ip} of this network already ({})", holder.0, holder.1.shown());
                problems.push(|| at.error(&at.whole(), text()));
            }
        }
    }
}

/// Subnets of two networks, or of one, that have addresses in common: each is inside the other, or they have none.
fn subnets(drafts: &Drafts) -> Vec<(UnitName, Problem)> {
    let mut all = Vec::new();
    for (unit, draft) in drafts.all.iter().filter(|(_, draft)| !draft.broken) {
        let Offer::Network { subnets, .. } = &draft.offer else { continue };
        all.extend(subnets.iter().map(|(subnet, at)| (*subnet, unit, at)));
    }
    // The wider one comes first, and it is the nearest that may hold the next.
    all.sort_by_key(|((address, prefix), ..)| (address.is_ipv4(), first((*address, *prefix)), *prefix));
    let mut wide: Option<&(Subnet, &UnitName, &Rc<Text>)> = None;
    let mut found = Vec::new();
    for one in &all {
        match wide.filter(|wide| contains(wide.0, one.0.0)) {
            None => wide = Some(one),
            Some(wide) => {
                let is_later = (one.1, one.2.shown()) > (wide.1, wide.2.shown());
                let (loser, winner) = if is_later { (one, wide) } else { (wide, one) };
                let text = format!("it overlaps {} of {} ({})", winner.2.text, winner.1, winner.2.shown());
                let text = format!("Subnet={}: {text}; choose another", loser.2.text);
                found.push((loser.1.clone(), loser.2.error(&loser.2.whole(), text)));
            }
        }
    }
    found
}

fn ids(drafts: &Drafts, draft: &Draft, problems: &mut Told) {
    let pod = draft.wishes.pod.as_ref().and_then(|pod| drafts.by_file(Kind::Pod, pod));
    let pod_is_mapped = pod.is_some_and(|pod| pod.wishes.is_mapped);
    if let (true, Some(at)) = (pod_is_mapped, &draft.wishes.rootfs) {
        let text = "Rootfs= in a pod with a user namespace is not available in this version; write Image=, or UserNS=host in the pod";
        problems.push(|| at.error(&at.whole(), text));
    }
    if let Some(pod) = draft.wishes.pod.as_ref().filter(|_| pod.is_some() && !pod_is_mapped) {
        for at in &draft.wishes.idmaps {
            let text = "idmap takes the ids of a user namespace";
            let text = format!("{text}: write UserNS=auto in {pod}.pod, or idmap=uids=0-1000-1;gids=0-1000-1 here");
            problems.push(|| at.error(&at.whole(), text));
        }
    }
    if !draft.wishes.is_mapped && !pod_is_mapped {
        return;
    }
    for link in draft.links.iter().filter(|link| link.kind == LinkKind::Uses) {
        let Target::File(Kind::Volume, stem) = &link.target else { continue };
        if drafts.by_file(Kind::Volume, stem).is_some_and(|volume| matches!(volume.offer, Offer::Image)) {
            let text = format!(
                "{}={}: it is an image (Driver=image), and such a one has no ids of a user namespace; write UserNS=host",
                link.key,
                link.text()
            );
            problems.push(|| link.error(Said::from(text).offering("UserNS=host")));
        }
    }
}

/// What cannot start with what it needs: systemd refuses such a start (transaction.c, "contains conflicting jobs").
fn contradictions(draft: &Draft, problems: &mut Told) {
    let needs = |link: &&Link| link.kind.is_hard() && !link.kind.is_install() && link.kind != LinkKind::Triggers;
    let needed: HashMap<&UnitName, &Link> =
        draft.links.iter().filter(needs).filter_map(|link| Some((link.to.as_ref()?, link))).collect();
    for link in draft.links.iter().filter(|link| link.kind == LinkKind::Conflicts) {
        if let Some(other) = link.to.as_ref().and_then(|to| needed.get(to)) {
            let text = || format!("Conflicts={}: {}= names it as well ({})", link.text(), other.key, other.place());
            problems.push(|| link.error(format!("{}; a unit cannot start beside what it conflicts with", text())));
        }
    }
}
