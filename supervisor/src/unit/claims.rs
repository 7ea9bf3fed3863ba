//! What two units cannot both have: a port of the machine, a name of a container, volume, network or pod.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    path::Path,
};

use super::{
    Port, Problem, Protocol, Severity, UnitName, UnitSet,
    build::{ALIAS, Claim},
    set::Drafts,
    source::whole,
};

/// Host ports from `first` to `last`, and who has them.
struct Range {
    last: u16,
    owner: UnitName,
    place: String,
}

/// An address of the host; nothing stands for all of the family.
type Address = (Protocol, bool, Option<IpAddr>);

struct Taken<'a> {
    units: &'a BTreeSet<UnitName>,
    names: HashMap<(&'static str, String), (UnitName, String)>,
    /// By their first ports, none over another.
    ports: BTreeMap<Address, BTreeMap<u16, Range>>,
}

/// What one unit has been given.
enum Held {
    Name((&'static str, String)),
    Port(Address, u16),
}

/// The unit that comes later by its name has the mistake; the earlier one is named. Units with mistakes come after all others, so
/// that they take nothing from anybody.
pub(super) fn refuse_doubles(drafts: &mut Drafts, set: &mut UnitSet) {
    let Drafts { all, twins, names: units, .. } = drafts;
    let mut taken = Taken { units, names: HashMap::new(), ports: BTreeMap::new() };
    let drafts = all.iter_mut().chain(twins.iter_mut().map(|(name, draft)| (&*name, draft)));
    let (mut broken, good): (Vec<_>, Vec<_>) = drafts.partition(|(_, draft)| draft.broken);
    for (unit, draft) in good {
        let (mut held, mut kept) = (Vec::new(), Vec::new());
        let before = set.problems.len();
        for claim in std::mem::take(&mut draft.claims) {
            match taken.take(unit, draft.what.path(), &claim) {
                Ok(got) => {
                    held.extend(got);
                    kept.push(claim);
                }
                Err(problem) => set.problems.push(problem),
            }
        }
        draft.claims = kept;
        if set.problems.len() > before {
            taken.give_back(held);
            draft.broken = true;
            set.broken.insert(unit.clone());
            broken.push((unit, draft));
        }
    }
    for (unit, draft) in broken {
        for claim in &draft.claims {
            set.problems.extend(taken.take(unit, draft.what.path(), claim).err());
        }
    }
}

impl Taken<'_> {
    fn take(&mut self, unit: &UnitName, path: &Path, claim: &Claim) -> Result<Option<Held>, Problem> {
        match claim {
            Claim::Name { what, name, at } => {
                let key = (*what, name.clone());
                let own = if *what == ALIAS { self.units.get(name.as_str()) } else { None };
                let (owner, other) = match (own, self.names.get(&key)) {
                    (Some(own), _) => (own.clone(), "by its file".to_owned()),
                    (None, Some(taken)) => taken.clone(),
                    (None, None) => {
                        let place = at.as_ref().map_or_else(|| path.display().to_string(), |at| at.shown());
                        self.names.insert(key.clone(), (unit.clone(), place));
                        return Ok(Some(Held::Name(key)));
                    }
                };
                let text = format!("{owner} has this name of a {what} already, {name} ({other}); choose another");
                Err(match at {
                    Some(at) => at.error(&at.whole(), text),
                    None => whole(path, Severity::Error, text),
                })
            }
            Claim::Port { port, at } => self.take_port(port, unit, &at.shown()).map_err(|(owner, place)| {
                let owner = if owner == *unit { "this unit".to_owned() } else { owner.to_string() };
                let text = format!("PublishPort={}: {owner} has the port of the host already ({place})", at.text);
                at.error(&at.whole(), text)
            }),
        }
    }

    /// Who has it already, and where that is said.
    fn take_port(&mut self, port: &Port, unit: &UnitName, place: &str) -> Result<Option<Held>, (UnitName, String)> {
        let Some(first) = port.host else { return Ok(None) };
        let last = first.saturating_add(port.count - 1);
        // podman-systemd.unit(5): without an address it is IPv4's 0.0.0.0.
        let v4 = port.host_ip.is_none_or(|ip| ip.is_ipv4());
        let ip = port.host_ip.filter(|ip| !ip.is_unspecified());
        let overlaps = |(protocol, family, other): &Address| {
            *protocol == port.protocol && *family == v4 && (ip.is_none() || other.is_none() || ip == *other)
        };
        for (_, ranges) in self.ports.iter().filter(|(address, _)| overlaps(address)) {
            #[cfg(test)]
            super::text::steps::add(1);
            if let Some((_, other)) = ranges.range(..=last).next_back().filter(|(_, other)| other.last >= first) {
                return Err((other.owner.clone(), other.place.clone()));
            }
        }
        let address = (port.protocol, v4, ip);
        let range = Range { last, owner: unit.clone(), place: place.to_owned() };
        self.ports.entry(address).or_default().insert(first, range);
        Ok(Some(Held::Port(address, first)))
    }

    fn give_back(&mut self, held: Vec<Held>) {
        for held in held {
            match held {
                Held::Name(key) => drop(self.names.remove(&key)),
                Held::Port(address, first) => {
                    self.ports.get_mut(&address).and_then(|ranges| ranges.remove(&first));
                }
            }
        }
    }
}
