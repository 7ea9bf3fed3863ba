//! What two units cannot both have: a port of the machine, a name of a container, volume, network or pod.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use super::{
    Port, Protocol, Severity, UnitName, UnitSet,
    build::{ALIAS, Claim},
    set::Drafts,
    source::whole,
};

/// Host ports from `first` to `last`, and who has them.
struct Taken {
    last: u16,
    owner: UnitName,
    place: String,
}

/// By protocol and address; nothing stands for all addresses. Inside, ranges by their first port, none over another.
type Ports = BTreeMap<(Protocol, Option<IpAddr>), BTreeMap<u16, Taken>>;

/// The unit that comes later by its name has the mistake; the earlier one is named.
pub(super) fn refuse_doubles(drafts: &mut Drafts, set: &mut UnitSet) {
    let all = &drafts.names;
    let mut names: HashMap<(&'static str, String), (UnitName, String)> = HashMap::new();
    let mut ports = Ports::new();
    drafts.good.retain(|unit, draft| {
        let mut good = true;
        for claim in &draft.claims {
            let problem = match claim {
                Claim::Name { what, name, at } => {
                    let place = at.as_ref().map_or_else(|| draft.what.path().display().to_string(), |at| at.shown());
                    let key = (*what, name.clone());
                    let own = if *what == ALIAS { all.get(name.as_str()) } else { None };
                    let (owner, other) = match (own, names.get(&key)) {
                        (Some(own), _) => (own.clone(), "by its file".to_owned()),
                        (None, Some(taken)) => taken.clone(),
                        (None, None) => {
                            names.insert(key, (unit.clone(), place));
                            continue;
                        }
                    };
                    let text = format!("{owner} has this name of a {what} already, {name} ({other}); choose another");
                    match at {
                        Some(at) => at.error(&at.whole(), text),
                        None => whole(draft.what.path(), Severity::Error, text),
                    }
                }
                Claim::Port { port, at } => match claim_port(&mut ports, port, unit, &at.shown()) {
                    None => continue,
                    Some((owner, place)) => {
                        let owner = if owner == *unit { "this unit".to_owned() } else { owner.to_string() };
                        let text =
                            format!("PublishPort={}: {owner} has the port of the host already ({place})", at.text);
                        at.error(&at.whole(), text)
                    }
                },
            };
            set.problems.push(problem);
            good = false;
        }
        if !good {
            set.broken.insert(unit.clone());
        }
        good
    });
}

/// Who has it already, and where that is said.
fn claim_port(ports: &mut Ports, port: &Port, unit: &UnitName, place: &str) -> Option<(UnitName, String)> {
    let first = port.host?;
    let last = first.saturating_add(port.count - 1);
    let ip = port.host_ip.filter(|ip| !ip.is_unspecified());
    // 0.0.0.0 and [::] are all addresses of their family only.
    let family = port.host_ip.map(|ip| ip.is_ipv4());
    let overlaps = |(protocol, other): &(Protocol, Option<IpAddr>)| {
        *protocol == port.protocol
            && match (ip, other) {
                (Some(ip), Some(other)) => ip == *other,
                (None, Some(other)) => {
                    family.is_none_or(|v4| v4 == other.is_ipv4() || other.is_unspecified() && v4 == other.is_ipv4())
                }
                (_, None) => true,
            }
    };
    for (key, taken) in ports.iter() {
        // A wildcard of one family is kept under its own address, and means all of that family.
        let wild = key.1.is_some_and(|other| other.is_unspecified() && family.is_none_or(|v4| v4 == other.is_ipv4()));
        if !(overlaps(key) || wild && key.0 == port.protocol) {
            continue;
        }
        if let Some((_, other)) = taken.range(..=last).next_back().filter(|(_, other)| other.last >= first) {
            return Some((other.owner.clone(), other.place.clone()));
        }
    }
    let taken = Taken { last, owner: unit.clone(), place: place.to_owned() };
    ports.entry((port.protocol, port.host_ip)).or_default().insert(first, taken);
    None
}
