//! Units that wait for one another in a circle.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    Problem, UnitName,
    build::{Draft, Link, LinkKind, Target},
};

pub(super) struct Cycle {
    /// Every unit that is part of a circle with the others, not only of the one that is shown.
    pub(super) members: BTreeSet<UnitName>,
    pub(super) problem: Problem,
}

/// For each unit the units it starts after, with the words that say so.
type Order<'a> = BTreeMap<&'a UnitName, BTreeMap<&'a UnitName, &'a Link>>;

pub(super) fn find(drafts: &BTreeMap<UnitName, Draft>) -> Vec<Cycle> {
    let order = order(drafts);
    let mut cycles = Vec::new();
    let mut done: BTreeSet<&UnitName> = BTreeSet::new();
    for start in order.keys() {
        if done.contains(*start) {
            continue;
        }
        let Some(path) = shortest(&order, start) else { continue };
        // Everything that waits for the start and that the start waits for.
        let members: BTreeSet<UnitName> = reach(&order, start)
            .into_iter()
            .filter(|other| reach(&order, other).contains(start))
            .map(|other| (*other).clone())
            .collect();
        done.extend(order.keys().copied().filter(|name| members.contains(*name)));
        let edges: Vec<String> = path
            .iter()
            .map(|(from, to, link)| format!("{from} after {to} ({}, {}=)", link.place(), link.kind.key()))
            .collect();
        let text = format!("units wait for each other in a circle: {}; take one of these lines away", edges.join(", "));
        if let Some((_, _, link)) = path.first() {
            cycles.push(Cycle { members, problem: link.error(text) });
        }
    }
    cycles
}

fn order(drafts: &BTreeMap<UnitName, Draft>) -> Order<'_> {
    let mut order = Order::new();
    for (name, draft) in drafts {
        for link in &draft.links {
            let Target::Unit { name: other, .. } = &link.target else { continue };
            if !drafts.contains_key(other) {
                continue;
            }
            match link.kind {
                LinkKind::After => order.entry(name).or_default().entry(other).or_insert(link),
                LinkKind::Before => order.entry(other).or_default().entry(name).or_insert(link),
                _ => continue,
            };
        }
    }
    order
}

/// The shortest way from a unit back to itself.
fn shortest<'a>(order: &Order<'a>, start: &'a UnitName) -> Option<Vec<(&'a UnitName, &'a UnitName, &'a Link)>> {
    let mut came: BTreeMap<&UnitName, (&'a UnitName, &'a Link)> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(unit) = queue.pop_front() {
        for (next, link) in order.get(unit).into_iter().flatten() {
            if came.contains_key(*next) {
                continue;
            }
            came.insert(next, (unit, link));
            if *next == start {
                let mut path = Vec::new();
                let mut at = start;
                while let Some((before, link)) = came.get(at) {
                    path.push((*before, at, *link));
                    at = before;
                    if at == start {
                        break;
                    }
                }
                path.reverse();
                return Some(path);
            }
            queue.push_back(next);
        }
    }
    None
}

/// All units that this one waits for, directly or not.
fn reach<'a>(order: &Order<'a>, start: &'a UnitName) -> BTreeSet<&'a UnitName> {
    let mut found = BTreeSet::new();
    let mut stack = vec![start];
    while let Some(unit) = stack.pop() {
        for next in order.get(unit).into_iter().flat_map(|edges| edges.keys()) {
            if found.insert(*next) {
                stack.push(next);
            }
        }
    }
    found
}
