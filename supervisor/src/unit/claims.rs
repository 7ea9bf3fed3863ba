//! What two units cannot both have: a port of the machine, a socket's name, a name of a container, volume, network or pod.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::IpAddr,
    path::Path,
    rc::Rc,
};

use super::{
    Problem, Protocol, Severity, UnitName, UnitSet,
    build::{ALIAS, Claim, Draft, Hosts, LinkKind},
    kind::Kind,
    set::Drafts,
    source::whole,
};

/// As many as are read of one unit; each costs a walk along its line.
const MAX_PROBLEMS: usize = 100;

/// How many claims are compared one by one, where the first that is found is of a unit that never runs beside this one. What is not found
/// then is told when both are started.
const MAX_LOOKS: usize = 100_000;

/// Who has something, and where that is said.
struct Holder {
    unit: UnitName,
    place: Option<String>,
    claim: Claim,
    /// Of who has lost: to whom.
    told: Option<UnitName>,
}

#[derive(Default)]
struct Taken {
    names: HashMap<(&'static str, String), Rc<Holder>>,
    /// By protocol, and whether it is IPv4.
    ports: BTreeMap<(Protocol, bool), Family>,
    /// All of the ports, one by one.
    holders: Vec<Rc<Holder>>,
}

/// Units that never run side by side, since one names the other in `Conflicts=`: they may publish one port, as two versions of an
/// application do between which somebody switches.
pub(super) struct Rivals {
    pairs: HashSet<(UnitName, UnitName)>,
    looks: usize,
}

/// Ports of one protocol and family: of every address, and all together for who wants them at all addresses.
#[derive(Default)]
struct Family {
    all: Ranges,
    by_address: BTreeMap<Option<IpAddr>, Ranges>,
}

/// Ranges by their first ports, none inside another: so their last ports ascend too, and of all that begin before some port, the
/// one that begins last reaches farthest.
#[derive(Default)]
struct Ranges(BTreeMap<u16, (u16, Rc<Holder>)>);

/// The unit that comes later by its name has the mistake; the earlier one is named. Units with mistakes come after all others, so
/// that they take nothing from anybody; what they want and somebody has is told all the same, so that one run tells all.
pub(super) fn refuse_doubles(drafts: &mut Drafts, set: &mut UnitSet) {
    let mut rivals = Rivals::of(drafts);
    let Drafts { all, twins, names: units, .. } = drafts;
    let (mut taken, mut lost) = (Taken::default(), Taken::default());
    let drafts = all.iter_mut().chain(twins.iter_mut().map(|(name, draft)| (&*name, draft)));
    let (broken, good): (Vec<_>, Vec<_>) = drafts.partition(|(_, draft)| draft.broken);
    let (mut winners, mut losers) = (Vec::new(), broken);
    for (unit, draft) in good {
        let mut own = Taken::default();
        if claim_all((unit, draft), units, &[&taken], &mut own, &mut lost, &mut rivals, &mut set.problems) {
            taken.extend(own);
            winners.push((unit, draft));
        } else {
            draft.broken = true;
            set.broken.insert(unit.clone());
            losers.push((unit, draft));
        }
    }
    // Who would have lost to whom is not known before both are: an overlap is none of two others.
    let mut more = 0;
    for (unit, draft) in winners {
        for claim in draft.claims.iter().filter(|claim| matches!(claim, Claim::Port { .. })) {
            let loser = lost.other(unit, claim, &mut rivals).filter(|loser| loser.told.as_ref() != Some(unit));
            let Some(loser) = loser else { continue };
            more += 1;
            if more <= MAX_PROBLEMS {
                let winner =
                    Holder { unit: unit.clone(), place: place(claim, draft), claim: claim.clone(), told: None };
                set.problems.push(problem(&loser.unit, draft.what.path(), &loser.claim, &winner));
            }
        }
    }
    for (unit, draft) in losers {
        let mut own = Taken::default();
        let others = [&taken, &lost];
        claim_all((unit, draft), units, &others, &mut own, &mut Taken::default(), &mut rivals, &mut set.problems);
        taken.extend(own);
    }
}

/// Whether the unit gets all it claims. What it cannot have is gone from its claims.
fn claim_all(
    (unit, draft): (&UnitName, &mut Draft),
    units: &BTreeSet<UnitName>,
    others: &[&Taken],
    own: &mut Taken,
    lost: &mut Taken,
    rivals: &mut Rivals,
    problems: &mut Vec<Problem>,
) -> bool {
    let mut wrong = 0;
    let mut kept = Vec::new();
    for claim in std::mem::take(&mut draft.claims) {
        let by_its_file = match &claim {
            Claim::Name { what, name, .. } if *what == ALIAS => units.get(name.as_str()),
            _ => None,
        };
        let of_file = by_its_file.map(|unit| {
            let place = Some("by its file".to_owned());
            Rc::new(Holder { unit: unit.clone(), place, claim: claim.clone(), told: None })
        });
        // What it has lost to itself is told.
        let known = |other: &Rc<Holder>| other.told.is_some() && other.unit == *unit;
        let others = others.iter().find_map(|taken| taken.other(unit, &claim, rivals)).filter(|other| !known(other));
        let mut holder = Holder { unit: unit.clone(), place: place(&claim, draft), claim: claim.clone(), told: None };
        match of_file.or(others).or_else(|| own.holder(&claim)) {
            Some(other) => {
                wrong += 1;
                if wrong > MAX_PROBLEMS {
                    break;
                }
                let mut problem = problem(unit, draft.what.path(), &claim, &other);
                if wrong == MAX_PROBLEMS {
                    "more mistakes follow".clone_into(&mut problem.text);
                }
                problems.push(problem);
                holder.told = Some(other.unit.clone());
                lost.add(&Rc::new(holder));
            }
            None => {
                own.add(&Rc::new(holder));
                kept.push(claim);
            }
        }
    }
    draft.claims = kept;
    wrong == 0
}

/// Of a name that nobody wrote. The place of all others is found out when it is told: each costs a walk along its line.
fn place(claim: &Claim, draft: &Draft) -> Option<String> {
    matches!(claim, Claim::Name { at: None, .. }).then(|| draft.what.path().display().to_string())
}

fn problem(unit: &UnitName, path: &Path, claim: &Claim, other: &Holder) -> Problem {
    let owner = &other.unit;
    let place = other.place.clone().unwrap_or_else(|| match &other.claim {
        Claim::Name { at, .. } => at.as_ref().map(|at| at.shown()).unwrap_or_default(),
        Claim::Port { at, .. } => at.shown(),
    });
    match claim {
        Claim::Name { what, name, at } => {
            let text = format!("{owner} has this name of a {what} already, {name} ({place}); choose another");
            match at {
                Some(at) => at.error(&at.whole(), text),
                None => whole(path, Severity::Error, text),
            }
        }
        Claim::Port { key, at, .. } => {
            let owner = if owner == unit { "this unit".to_owned() } else { owner.to_string() };
            let text = format!("{key}={}: {owner} has the port of the host already ({place})", at.text);
            at.error(&at.whole(), text)
        }
    }
}

impl Hosts {
    /// Whether it is IPv4, and the address; nothing stands for all of the family.
    fn families(self) -> impl Iterator<Item = (bool, Option<IpAddr>)> {
        let (first, second) = match self {
            Self::All => ((true, None), Some((false, None))),
            Self::All4 => ((true, None), None),
            Self::All6 => ((false, None), None),
            Self::One(ip) => ((ip.is_ipv4(), Some(ip)), None),
        };
        std::iter::once(first).chain(second)
    }
}

impl Claim {
    /// Of two ports: whether they share one.
    fn overlaps(&self, other: &Self) -> bool {
        #[cfg(test)]
        super::text::steps::add(1);
        let (
            Self::Port { hosts, protocol, first, last, .. },
            Self::Port { hosts: their, protocol: by, first: from, last: to, .. },
        ) = (self, other)
        else {
            return false;
        };
        let meet = |one: (bool, Option<IpAddr>), two: (bool, Option<IpAddr>)| {
            one.0 == two.0 && (one.1.is_none() || two.1.is_none() || one.1 == two.1)
        };
        let hosts = hosts.families().any(|one| their.families().any(|two| meet(one, two)));
        protocol == by && first <= to && from <= last && hosts
    }
}

impl Rivals {
    /// Of a timer or a socket nobody acts on the key.
    pub(super) fn of(drafts: &Drafts) -> Self {
        let acts = |draft: &Draft| matches!(draft.kind, Kind::Container | Kind::Pod);
        let mut pairs = HashSet::new();
        for (unit, draft) in drafts.all.iter().filter(|(_, draft)| acts(draft)) {
            for to in
                draft.links.iter().filter(|link| link.kind == LinkKind::Conflicts).filter_map(|link| link.to.as_ref())
            {
                if drafts.all.get(to).is_some_and(acts) {
                    pairs.insert((unit.clone(), to.clone()));
                }
            }
        }
        Self { pairs, looks: MAX_LOOKS }
    }

    pub(super) fn has(&self, one: &UnitName, other: &UnitName) -> bool {
        // Most sets have none, and copy no names for it.
        let has = |one: &UnitName, other: &UnitName| self.pairs.contains(&(one.clone(), other.clone()));
        !self.pairs.is_empty() && one != other && (has(one, other) || has(other, one))
    }
}

impl Taken {
    /// Who has some of it already.
    fn holder(&self, claim: &Claim) -> Option<Rc<Holder>> {
        match claim {
            Claim::Name { what, name, .. } => self.names.get(&(*what, name.clone())).cloned(),
            Claim::Port { hosts, protocol, first, last, .. } => hosts.families().find_map(|(v4, ip)| {
                let family = self.ports.get(&(*protocol, v4))?;
                let of = |ip| family.by_address.get(&ip).and_then(|ranges| ranges.holder(*first, *last));
                if ip.is_none() { family.all.holder(*first, *last) } else { of(None).or_else(|| of(ip)) }
            }),
        }
    }

    /// Who of them ever runs beside the unit.
    fn other(&self, unit: &UnitName, claim: &Claim, rivals: &mut Rivals) -> Option<Rc<Holder>> {
        let found = self.holder(claim)?;
        if matches!(claim, Claim::Name { .. }) || !rivals.has(unit, &found.unit) {
            return Some(found);
        }
        let all = self.holders.iter().take(rivals.looks);
        rivals.looks -= all.len();
        all.filter(|other| claim.overlaps(&other.claim)).find(|other| !rivals.has(unit, &other.unit)).cloned()
    }

    fn add(&mut self, holder: &Rc<Holder>) {
        match &holder.claim {
            Claim::Name { what, name, .. } => drop(self.names.insert((*what, name.clone()), Rc::clone(holder))),
            Claim::Port { hosts, protocol, first, last, .. } => {
                self.holders.push(Rc::clone(holder));
                for (v4, ip) in hosts.families() {
                    let family = self.ports.entry((*protocol, v4)).or_default();
                    family.all.add(*first, *last, holder);
                    family.by_address.entry(ip).or_default().add(*first, *last, holder);
                }
            }
        }
    }

    fn extend(&mut self, other: Self) {
        self.names.extend(other.names);
        self.holders.extend(other.holders);
        for (of, family) in other.ports {
            let mine = self.ports.entry(of).or_default();
            for (ip, ranges) in family.by_address {
                for (first, (last, holder)) in ranges.0 {
                    mine.all.add(first, last, &holder);
                    mine.by_address.entry(ip).or_default().add(first, last, &holder);
                }
            }
        }
    }
}

impl Ranges {
    fn holder(&self, first: u16, last: u16) -> Option<Rc<Holder>> {
        #[cfg(test)]
        super::text::steps::add(1);
        let (_, (reaches, holder)) = self.0.range(..=last).next_back()?;
        (*reaches >= first).then(|| Rc::clone(holder))
    }

    fn add(&mut self, first: u16, last: u16, holder: &Rc<Holder>) {
        #[cfg(test)]
        super::text::steps::add(1);
        if self.0.range(..=first).next_back().is_some_and(|(_, (reaches, _))| *reaches >= last) {
            return;
        }
        while let Some((&inside, _)) = self.0.range(first..).next().filter(|(_, (reaches, _))| *reaches <= last) {
            #[cfg(test)]
            super::text::steps::add(1);
            self.0.remove(&inside);
        }
        self.0.insert(first, (last, Rc::clone(holder)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against one flag for each port, over ranges of a small world.
    #[test]
    fn ranges_find_every_overlap() {
        let holder = Rc::new(Holder {
            unit: UnitName::nobody(),
            place: None,
            claim: Claim::Name { what: ALIAS, name: String::new(), at: None },
            told: None,
        });
        let mut seed: u16 = 7;
        let mut roll = |sides: u16| {
            seed = seed.wrapping_mul(25_173).wrapping_add(13_849);
            (seed >> 4) % sides
        };
        for _ in 0..200 {
            let (mut ranges, mut flags) = (Ranges::default(), [false; 40]);
            for _ in 0..12 {
                let first = roll(36);
                let last = first + roll(4);
                let overlaps = flags[usize::from(first)..=usize::from(last)].contains(&true);
                assert_eq!(ranges.holder(first, last).is_some(), overlaps, "{first}-{last}");
                ranges.add(first, last, &holder);
                flags[usize::from(first)..=usize::from(last)].fill(true);
            }
        }
    }
}
